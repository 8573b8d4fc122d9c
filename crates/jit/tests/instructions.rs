//! Each form of instruction in the middle of translated code, judged by the
//! interpreter: registers, flags, memory, faults and branch counts.
//!
//! A difference is repeated by running the test again: the seed is fixed. For
//! longer runs there is `cargo run --release -p jit --example soak`.

mod pair;
#[path = "../../cpu/tests/subject/mod.rs"]
#[expect(dead_code, reason = "it serves the interpreter's tests too")]
mod subject;

use oracle::case::{Case, Mode};
use oracle::forms::Family;
use oracle::generate::Generator;
use pair::{Pair, surround};

/// Any number will do; that it is always the same makes a failure easy to repeat.
const SEED: u64 = 20_261_124;

fn judge(mode: Mode, family: Family, rounds: usize) {
    let generator = Generator::new(SEED, mode, &[family]);
    let count = generator.form_count() * rounds;
    let mut pair = Pair::new();
    let mut wrong = Vec::new();
    let cases: Vec<Case> = generator.take(count).collect();
    for (seed, case) in (0..).zip(&cases) {
        if let Some(case) = surround(case, seed)
            // Once with the fast TLB as the last case left it, once warm.
            && let Err(why) = pair.run(&case, seed).and_then(|()| pair.run(&case, seed))
        {
            wrong.push(why);
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {count} differ:\n{}",
        wrong.len(),
        wrong[..wrong.len().min(10)].join("\n")
    );
}

#[test]
fn integer_instructions_amid_others() {
    judge(Mode::Long, Family::Integer, 30);
    judge(Mode::Compat, Family::Integer, 16);
}

#[test]
fn sse_instructions_amid_others() {
    judge(Mode::Long, Family::Sse, 30);
    judge(Mode::Compat, Family::Sse, 16);
}

#[test]
fn avx_instructions_amid_others() {
    judge(Mode::Long, Family::Avx, 15);
    judge(Mode::Compat, Family::Avx, 8);
}

#[test]
fn mmx_and_x87_instructions_amid_others() {
    judge(Mode::Long, Family::Mmx, 5);
    judge(Mode::Compat, Family::Mmx, 3);
    judge(Mode::Long, Family::X87, 10);
    judge(Mode::Compat, Family::X87, 6);
}
