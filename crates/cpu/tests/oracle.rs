//! The interpreter against the silicon: readable cases, and a bounded number by chance.
//!
//! A difference is repeated by running the test again: the seed is fixed. For other seeds and
//! longer runs there is `cargo run --release -p cpu --example soak`.

mod subject;

use cpu::Interpreter;
use oracle::case::{Case, Mode, Subject};
use oracle::compare::{differences, report};
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::ins::load_all;
use oracle::silicon::Silicon;
use oracle::undefined::Open;
use subject::{Processor, Verdict, Way};

/// Any number will do; that it is always the same makes a failure easy to repeat.
const SEED: u64 = 20_261_123;

fn interpreter(way: Way) -> Processor<Interpreter> {
    let name = match way {
        Way::Steps => "interpreter, by steps",
        Way::Free => "interpreter, freely",
    };
    Processor::new(name, Interpreter::new(), way)
}

fn judge(mode: Mode, family: Family, rounds: usize) {
    let generator = Generator::new(SEED, mode, &[family]);
    if generator.form_count() == 0 {
        // Of a level that this host hasn't: it can't judge them.
        return;
    }
    let count = generator.form_count() * rounds;
    let cases: Vec<Case> = generator.take(count).collect();
    let mut silicon = Silicon::start().expect("the host can run the cell");
    let mut steps = interpreter(Way::Steps);
    let mut free = interpreter(Way::Free);
    let mut verdict = Verdict::default();
    verdict.add(&cases, &mut silicon, &mut [&mut steps, &mut free]);
    if let Some(text) = verdict.text() {
        panic!("{text}");
    }
}

#[test]
fn integer_instructions_in_64_bit_code() {
    judge(Mode::Long, Family::Integer, 40);
}

#[test]
fn integer_instructions_in_32_bit_code() {
    judge(Mode::Compat, Family::Integer, 30);
}

#[test]
fn sse_instructions_in_64_bit_code() {
    judge(Mode::Long, Family::Sse, 40);
}

#[test]
fn sse_instructions_in_32_bit_code() {
    judge(Mode::Compat, Family::Sse, 20);
}

#[test]
fn avx_instructions_in_64_bit_code() {
    judge(Mode::Long, Family::Avx, 40);
}

#[test]
fn avx_instructions_in_32_bit_code() {
    judge(Mode::Compat, Family::Avx, 20);
}

#[test]
fn mmx_instructions_in_64_bit_code() {
    judge(Mode::Long, Family::Mmx, 40);
}

#[test]
fn mmx_instructions_in_32_bit_code() {
    judge(Mode::Compat, Family::Mmx, 20);
}

#[test]
fn x87_instructions_in_64_bit_code() {
    judge(Mode::Long, Family::X87, 80);
}

#[test]
fn x87_instructions_in_32_bit_code() {
    judge(Mode::Compat, Family::X87, 40);
}

#[test]
fn readable_cases_have_the_outcome_that_they_say() {
    let all = load_all().unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = String::new();
    for way in [Way::Steps, Way::Free] {
        let mut interpreter = interpreter(way);
        for readable in &all {
            let got = interpreter.run(&readable.case);
            // What the manual leaves open is settled for engines, and compared too.
            let found = differences(&readable.case, &readable.expected, &got, &Open::default());
            if !found.is_empty() {
                let name = interpreter.name();
                wrong.push_str(&format!(
                    "{} ({name}): {}",
                    readable.place,
                    report(&readable.case, &found)
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
