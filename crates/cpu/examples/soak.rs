//! The interpreter against the silicon for as long as one likes:
//! `cargo run --release -p cpu --example soak -- [--minutes N] [--seed N] [--only PART] [FAMILY]...`
//!
//! Families are integer, sse, x87, mmx and avx; PART is a part of forms' names, `Shld` say. Prints how
//! many cases agreed, or which forms differ, a case of each, and ends with 1.

#[path = "../tests/subject/mod.rs"]
mod subject;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use oracle::case::{Case, Mode};
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::silicon::Silicon;
use subject::{Processor, Verdict, Way};

/// So many forms that differ are enough for one report.
const FORMS_MAX: usize = 20;
/// Cases between two looks at the clock.
const BATCH: usize = 4096;

struct Wish {
    minutes: f64,
    seed: u64,
    only: String,
    families: Vec<Family>,
}

fn wish() -> Result<Wish, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let seed = clock.map_or(1, |now| now.as_secs());
    let mut wish = Wish {
        minutes: 1.0,
        seed,
        only: String::new(),
        families: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} wants a value"));
        match word.as_str() {
            "--minutes" => {
                wish.minutes = value()?.parse().map_err(|e| format!("--minutes: {e}"))?
            }
            "--seed" => wish.seed = value()?.parse().map_err(|e| format!("--seed: {e}"))?,
            "--only" => wish.only = value()?,
            name => match Family::ALL.into_iter().find(|family| family.name() == name) {
                Some(family) => wish.families.push(family),
                None => return Err(format!("{name} is none of integer, sse, x87, mmx, avx")),
            },
        }
    }
    if wish.families.is_empty() {
        wish.families.extend(Family::ALL);
    }
    Ok(wish)
}

fn main() -> ExitCode {
    let wish = match wish() {
        Ok(wish) => wish,
        Err(why) => {
            eprintln!("{why}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", wish.seed);
    let mut silicon = match Silicon::start() {
        Ok(silicon) => silicon,
        Err(error) => {
            eprintln!("the silicon can't be asked: {error}");
            return ExitCode::from(2);
        }
    };
    let new = |name, way| Processor::new(name, cpu::Interpreter::new(), way);
    let mut steps = new("interpreter, by steps", Way::Steps);
    let mut free = new("interpreter, freely", Way::Free);
    let end = Instant::now() + Duration::from_secs_f64(60.0 * wish.minutes);
    let mut generators = [Mode::Long, Mode::Compat]
        .map(|mode| Generator::new(wish.seed, mode, &wish.families).only(&wish.only));
    let mut verdict = Verdict::default();
    while Instant::now() < end && verdict.wrong.len() < FORMS_MAX {
        for generator in &mut generators {
            let cases: Vec<Case> = generator.by_ref().take(BATCH).collect();
            verdict.add(&cases, &mut silicon, &mut [&mut steps, &mut free]);
        }
    }
    match verdict.text() {
        None => println!("{} cases agree", verdict.judged),
        Some(text) => println!("{text}"),
    }
    ExitCode::from(u8::from(!verdict.wrong.is_empty()))
}
