//! Random programs on the interpreter and on the translator: loops, calls,
//! strings, code that changes itself, faults, interrupts, page tables that
//! change, privilege levels and modes. A failure prints the program's seed;
//! `cargo run --release -p jit --example soak -- --program SEED` runs it again.

mod program;

use program::{Duel, by_hand, locate};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Programs in a debug build; a release build has time for more.
const PROGRAMS: u32 = if cfg!(debug_assertions) { 60 } else { 1000 };

#[test]
fn random_programs_run_alike_on_both_engines() {
    let config = Config {
        cases: PROGRAMS,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let duel = std::cell::RefCell::new(Duel::new(1));
    TestRunner::new(config)
        .run(&any::<u64>(), |seed| {
            let duel = &mut *duel.borrow_mut();
            let ran = duel.run(seed);
            ran.map_err(|why| TestCaseError::fail(format!("{why}\n{}", locate(duel, seed))))
        })
        .unwrap_or_else(|error| panic!("{error}"));
    println!("{:?}", duel.borrow().tally);
}

#[test]
fn code_that_patches_itself_right_after_its_translation_sees_it() {
    // movb $1, 0x11800: from now on the page may be stored to; jmp 0x11000
    let first = [0xc6, 0x04, 0x25, 0, 0x18, 1, 0, 1, 0xe9, 0xf3, 0x0f, 0, 0];
    // movb $7, 0x11009; mov $0, %eax; hlt
    let second = [
        0xc6, 0x04, 0x25, 0x09, 0x10, 1, 0, 7, 0xb8, 0, 0, 0, 0, 0xf4,
    ];
    let found = by_hand(&[(0x1_0000, &first), (0x1_1000, &second)]);
    assert_eq!(found.get("rax"), Some(7));
}

#[test]
fn a_jump_as_far_as_jumps_reach_is_taken() {
    // Nothing is mapped there: the handler goes on at an entry, which is here.
    // A word counts the turns; the third halts.
    let jump = [0xe9, 0xff, 0xff, 0xff, 0x7f];
    let count = [
        0x48, 0xff, 0x04, 0x25, 0, 0, 2, 0, // incq 0x20000
        0x83, 0x3c, 0x25, 0, 0, 2, 0, 3, // cmpl $3, 0x20000
        0x75, 1, 0xf4, // jne over hlt
    ];
    by_hand(&[(0x1_0000, &[&count[..], &jump].concat())]);
}

#[test]
fn an_instruction_in_two_pages_is_what_both_hold() {
    // xor %eax, %eax; jmp 0x10ffd
    let first = [0x31, 0xc0, 0xe9, 0xf6, 0x0f, 0, 0];
    let rest = [
        0x48, 0xff, 0x04, 0x25, 0, 0, 2, 0, // incq 0x20000
        0x83, 0x3c, 0x25, 0, 0, 2, 0, 4, // cmpl $4, 0x20000
        0x74, 10, // je to the hlt
        0xc6, 0x04, 0x25, 0, 0x10, 1, 0, 1, // movb $1, 0x11000
        0xeb, 0xdf, 0xf4, // jmp 0x10ffd; hlt
    ];
    // add $1, %eax, whose last two bytes lie in the next page
    let add = [0x05, 1, 0, 0, 0];
    let second = [&add[..], &rest].concat();
    let found = by_hand(&[(0x1_0000, &first), (0x1_0ffd, &second)]);
    assert_eq!(found.get("rax"), Some(1 + 3 * 0x1_0001));
}
