//! The translator against the silicon: the cases that judge the interpreter
//! (`crates/cpu/tests/oracle.rs`), each run with the fast TLB cold and warm.

#[path = "../../cpu/tests/subject/mod.rs"]
#[expect(dead_code, reason = "it serves the interpreter's tests too")]
mod subject;

use jit::Jit;
use oracle::case::{Case, Mode, Subject};
use oracle::compare::{differences, report};
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::ins::load_all;
use oracle::silicon::Silicon;
use oracle::undefined::Open;
use subject::{Processor, Verdict, Way};

/// Any number will do; that it is always the same makes a failure easy to repeat.
const SEED: u64 = 20_261_124;

fn translator() -> Processor<Jit> {
    let engine = Jit::eager().expect("memory for code");
    Processor::new("translator", engine, Way::Free)
}

fn judge(mode: Mode, family: Family, rounds: usize) {
    let generator = Generator::new(SEED, mode, &[family]);
    let count = generator.form_count() * rounds;
    let cases: Vec<Case> = generator
        .take(count)
        .flat_map(|case| [case.clone(), case])
        .collect();
    let mut silicon = Silicon::start().expect("the host can run the cell");
    let mut verdict = Verdict::default();
    verdict.add(&cases, &mut silicon, &mut [&mut translator()]);
    if let Some(text) = verdict.text() {
        panic!("{text}");
    }
}

#[test]
fn integer_instructions() {
    judge(Mode::Long, Family::Integer, 15);
    judge(Mode::Compat, Family::Integer, 8);
}

#[test]
fn sse_instructions() {
    judge(Mode::Long, Family::Sse, 15);
    judge(Mode::Compat, Family::Sse, 8);
}

#[test]
fn avx_instructions() {
    judge(Mode::Long, Family::Avx, 15);
    judge(Mode::Compat, Family::Avx, 8);
}

#[test]
fn mmx_instructions() {
    judge(Mode::Long, Family::Mmx, 5);
    judge(Mode::Compat, Family::Mmx, 3);
}

#[test]
fn x87_instructions() {
    judge(Mode::Long, Family::X87, 10);
    judge(Mode::Compat, Family::X87, 6);
}

#[test]
fn readable_cases_have_the_outcome_that_they_say() {
    let all = load_all().unwrap_or_else(|error| panic!("{error}"));
    let mut wrong = String::new();
    let mut translator = translator();
    for readable in all.iter().flat_map(|readable| [readable; 2]) {
        let got = translator.run(&readable.case);
        // What the manual leaves open is settled for engines, and compared too.
        let found = differences(&readable.case, &readable.expected, &got, &Open::default());
        if !found.is_empty() {
            let text = report(&readable.case, &found);
            wrong.push_str(&format!("{}: {text}", readable.place));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
