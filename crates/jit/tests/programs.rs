//! Random programs on the interpreter and on the translator: loops, calls,
//! strings, code that changes itself, faults, interrupts, page tables that
//! change, privilege levels and modes. A failure prints the program's seed;
//! `cargo run --release -p jit --example soak -- --program SEED` runs it again.

mod program;

use jit::Jit;
use program::{Duel, by_hand, locate};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// Programs in a debug build; a release build has time for more.
const PROGRAMS: u32 = if cfg!(debug_assertions) { 60 } else { 1000 };

#[test]
fn random_programs_run_alike_on_both_engines() {
    let duel = run_alike(Duel::new(1), PROGRAMS);
    assert_eq!(duel.has_had_windows(), silicon::has_bmi2());
}

#[test]
fn random_programs_run_alike_where_the_host_has_no_bmi2() {
    let jit = Jit::eager_without_bmi2().expect("memory for code");
    let duel = run_alike(Duel::of(jit, 2), PROGRAMS / 4);
    assert!(!duel.has_had_windows());
}

/// Runs so many random programs on both engines.
fn run_alike(duel: Duel, programs: u32) -> Duel {
    let config = Config {
        cases: programs,
        failure_persistence: None,
        max_shrink_iters: 0,
        ..Config::default()
    };
    let duel = std::cell::RefCell::new(duel);
    TestRunner::new(config)
        .run(&any::<u64>(), |seed| {
            let duel = &mut *duel.borrow_mut();
            let ran = duel.run(seed);
            ran.map_err(|why| TestCaseError::fail(format!("{why}\n{}", locate(duel, seed))))
        })
        .unwrap_or_else(|error| panic!("{error}"));
    let duel = duel.into_inner();
    println!("{:?}", duel.tally);
    duel
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

/// A kernel by hand begins: at privilege level 3 it traps, at 0 it goes on.
#[rustfmt::skip]
const BEGIN: [u8; 7] = [
    0x8c, 0xc8, // mov    %cs,%eax
    0xa8, 0x03, // test   $0x3,%al
    0x74, 0x01, // je     0x7
    0xcc, // int3
];
/// And ends: goes on at 0x11000 at privilege level 3, with 0x36000 in `rsp`; or halts,
/// where a jump goes to its last byte.
#[rustfmt::skip]
const END: [u8; 19] = [
    0x6a, 0x23, // push   $0x23
    0x68, 0x00, 0x60, 0x03, 0x00, // push   $0x36000
    0x6a, 0x02, // push   $0x2
    0x6a, 0x2b, // push   $0x2b
    0x68, 0x00, 0x10, 0x01, 0x00, // push   $0x11000
    0x48, 0xcf, // iretq
    0xf4, // hlt
];

#[test]
#[rustfmt::skip]
fn code_that_was_left_for_windows_has_none_in_a_young_address_space() {
    // Three times at privilege level 0: twice it goes on at level 3, the second time
    // with other tables; then it halts.
    let kernel = [
        0x48, 0xc7, 0x04, 0x25, 0x08, 0x00, 0x02, 0x00, 0x05, 0x00, 0x00, 0x00, // movq   $0x5,0x20008
        0x48, 0xc7, 0x04, 0x25, 0x08, 0x10, 0x02, 0x00, 0xbc, 0x02, 0x00, 0x00, // movq   $0x2bc,0x21008
        0x48, 0xff, 0x04, 0x25, 0x20, 0xa0, 0x00, 0x00, // incq   0xa020
        0x83, 0x3c, 0x25, 0x20, 0xa0, 0x00, 0x00, 0x02, // cmpl   $0x2,0xa020
        0x77, 0x26, // ja     0x57
        0xb9, 0x90, 0x01, 0x00, 0x00, // mov    $0x190,%ecx
        0x75, 0x0d, // jne    0x45
        0xb8, 0x00, 0x50, 0x00, 0x00, // mov    $0x5000,%eax
        0x0f, 0x22, 0xd8, // mov    %rax,%cr3
        0xb9, 0x3c, 0x00, 0x00, 0x00, // mov    $0x3c,%ecx
    ];
    // The first loop is translated without windows, and is left when they are open.
    let program = [
        0x48, 0x03, 0x1c, 0x25, 0x00, 0x00, 0x02, 0x00, // add    0x20000,%rbx
        0x83, 0xf9, 0x32, // cmp    $0x32,%ecx
        0x72, 0x04, // jb     0x11
        0xff, 0xc9, // dec    %ecx
        0xeb, 0xef, // jmp    0x0
        0x48, 0x03, 0x1c, 0x25, 0x08, 0x00, 0x02, 0x00, // add    0x20008,%rbx
        0xff, 0xc9, // dec    %ecx
        0x75, 0xe3, // jne    0x0
        0xcc, // int3
    ];
    let found = by_hand(&[(0x1_0000, &[&BEGIN[..], &kernel, &END].concat()), (0x1_1000, &program)]);
    assert_eq!(found.get("rbx"), Some(49 * (5 + 700)));
}

#[test]
#[rustfmt::skip]
fn code_that_another_address_space_has_windows_to_is_seen_to_change() {
    // Six times at privilege level 0, each time with the other tables, and on at level 3.
    let kernel = [
        0x48, 0xff, 0x04, 0x25, 0x20, 0xa0, 0x00, 0x00, // incq   0xa020
        0x8b, 0x14, 0x25, 0x20, 0xa0, 0x00, 0x00, // mov    0xa020,%edx
        0x83, 0xfa, 0x06, // cmp    $0x6,%edx
        0x77, 0x29, // ja     0x44
        0xb8, 0x00, 0x10, 0x00, 0x00, // mov    $0x1000,%eax
        0xf6, 0xc2, 0x01, // test   $0x1,%dl
        0x75, 0x05, // jne    0x2a
        0xb8, 0x00, 0x50, 0x00, 0x00, // mov    $0x5000,%eax
        0x0f, 0x22, 0xd8, // mov    %rax,%cr3
        0xb9, 0x90, 0x01, 0x00, 0x00, // mov    $0x190,%ecx
    ];
    // By tables A it writes to the code that it calls by tables B, where its page has
    // changed places with the next.
    let program = [
        0xf6, 0xc2, 0x01, // test   $0x1,%dl
        0x74, 0x09, // je     0xe
        0x88, 0x14, 0x25, 0x02, 0x21, 0x01, 0x00, // mov    %dl,0x12102
        0xeb, 0x05, // jmp    0x13
        0xe8, 0xed, 0x20, 0x00, 0x00, // call   0x13100
        0xff, 0xc9, // dec    %ecx
        0x75, 0xe9, // jne    0x0
        0xcc, // int3
    ];
    let code = [
        0x83, 0xc3, 0x00, // add    $0x0,%ebx
        0xc3, // ret
    ];
    let kernel = [&BEGIN[..], &kernel, &END].concat();
    let found = by_hand(&[(0x1_0000, &kernel), (0x1_1000, &program), (0x1_2100, &code)]);
    assert_eq!(found.get("rbx"), Some(400 * (1 + 3 + 5)));
}

/// Runs `program` at privilege level 3, with 7 in `rbx`, 400 in `ecx` and 0x36000 in
/// `rsp`, until it faults: then it halts. Above 0x36000 lies the kernel's memory.
#[rustfmt::skip]
fn below_the_kernels_memory(program: &[u8]) {
    // At privilege level 0 it goes on at level 3, the second time it halts.
    let kernel = [
        0x48, 0xff, 0x04, 0x25, 0x20, 0xa0, 0x00, 0x00, // incq   0xa020
        0x83, 0x3c, 0x25, 0x20, 0xa0, 0x00, 0x00, 0x01, // cmpl   $0x1,0xa020
        0x77, 0x28, // ja     0x41
        // What the handler draws from: it goes on here, at level 0.
        0x48, 0xc7, 0x04, 0x25, 0x00, 0xa0, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, // movq   $0x20,0xa000
        0xbb, 0x07, 0x00, 0x00, 0x00, // mov    $0x7,%ebx
        0xb9, 0x90, 0x01, 0x00, 0x00, // mov    $0x190,%ecx
    ];
    let found = by_hand(&[(0x1_0000, &[&BEGIN[..], &kernel, &END].concat()), (0x1_1000, program)]);
    assert_eq!(found.get("rbx"), Some(7));
}

#[test]
#[rustfmt::skip]
fn of_pushes_across_pages_none_is_made_before_one_that_faults() {
    // The first loop goes on until there are windows, which the second one has; at
    // last the first push faults.
    below_the_kernels_memory(&[
        0x53, // push   %rbx
        0x51, // push   %rcx
        0x48, 0x83, 0xc4, 0x10, // add    $0x10,%rsp
        0xff, 0xc9, // dec    %ecx
        0x75, 0xf6, // jne    0x0
        0xb9, 0x32, 0x00, 0x00, 0x00, // mov    $0x32,%ecx
        0x53, // push   %rbx
        0x51, // push   %rcx
        0x48, 0x83, 0xc4, 0x10, // add    $0x10,%rsp
        0xff, 0xc9, // dec    %ecx
        0x75, 0xf6, // jne    0xf
        0x48, 0x83, 0xc4, 0x08, // add    $0x8,%rsp
        0xeb, 0xf0, // jmp    0xf
    ]);
}

#[test]
#[rustfmt::skip]
fn of_ten_bytes_across_pages_none_is_stored_where_some_fault() {
    below_the_kernels_memory(&[
        0xdb, 0xe3, // fninit
        0x53, // push   %rbx
        0xff, 0xc9, // dec    %ecx
        0x58, // pop    %rax
        0x75, 0xfa, // jne    0x2
        0xb9, 0x32, 0x00, 0x00, 0x00, // mov    $0x32,%ecx
        0xd9, 0xe8, // fld1
        0xdb, 0x7c, 0x24, 0xf0, // fstpt  -0x10(%rsp)
        0xff, 0xc9, // dec    %ecx
        0x75, 0xf6, // jne    0xd
        0x48, 0x83, 0xc4, 0x08, // add    $0x8,%rsp
        0xeb, 0xf0, // jmp    0xd
    ]);
}
