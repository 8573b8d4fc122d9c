//! The translator against the interpreter for as long as one likes:
//! `cargo run --release -p jit --example soak -- [--minutes N] [--seed N] [--program SEED]`
//!
//! By turns random programs and single instructions amid others. Prints how
//! many agreed and how fast, or the first difference, and ends with 1.
//! `--program` runs one program, as a failure has named it.

#[path = "../tests/pair/mod.rs"]
mod pair;
#[path = "../tests/program/mod.rs"]
mod program;
#[path = "../../cpu/tests/subject/mod.rs"]
#[expect(dead_code, reason = "it serves the interpreter's tests too")]
mod subject;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use oracle::case::Mode;
use oracle::forms::Family;
use oracle::generate::Generator;
use oracle::random::mix;

/// Programs, and cases, between two looks at the clock.
const PROGRAMS: u64 = 200;
const CASES: usize = 20_000;
/// How often progress is printed.
const PRINT_EVERY: Duration = Duration::from_secs(30);

struct Wish {
    minutes: f64,
    seed: u64,
    program: Option<u64>,
}

fn wish() -> Result<Wish, String> {
    let clock = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut wish = Wish {
        minutes: 1.0,
        seed: clock.map_or(1, |now| now.as_secs()),
        program: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or(format!("{word} wants a value"))?;
        let number = |value: &str| {
            let parsed = match value.strip_prefix("0x") {
                Some(digits) => u64::from_str_radix(digits, 16),
                None => value.parse(),
            };
            parsed.map_err(|error| format!("{word}: {error}"))
        };
        match word.as_str() {
            "--minutes" => wish.minutes = value.parse().map_err(|e| format!("--minutes: {e}"))?,
            "--seed" => wish.seed = number(&value)?,
            "--program" => wish.program = Some(number(&value)?),
            _ => return Err(format!("{word} is none of --minutes, --seed, --program")),
        }
    }
    Ok(wish)
}

/// What came of single instructions.
struct Instructions {
    pair: pair::Pair,
    /// By mode; they take turns.
    generators: [Generator; 2],
    count: u64,
}

impl Instructions {
    fn run(&mut self, seed: u64) -> Result<(), String> {
        for n in 0..CASES {
            let Some(case) = self.generators[n % 2].next() else {
                break;
            };
            let seed = seed.wrapping_add(n as u64);
            let Some(case) = pair::surround(&case, seed) else {
                continue;
            };
            self.pair.run(&case, seed)?;
            self.pair.run(&case, seed)?;
            self.count += 1;
        }
        Ok(())
    }
}

fn soak(wish: &Wish) -> Result<(), String> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(60.0 * wish.minutes);
    let mut duel = program::Duel::new(1);
    if let Some(seed) = wish.program {
        return duel
            .run(seed)
            .map_err(|why| format!("{why}\n{}", program::locate(&mut duel, seed)));
    }
    let mut instructions = Instructions {
        pair: pair::Pair::new(),
        generators: [Mode::Long, Mode::Compat]
            .map(|mode| Generator::new(wish.seed, mode, &Family::ALL)),
        count: 0,
    };
    let mut printed = start;
    for round in 0.. {
        let seed = mix(wish.seed ^ mix(round));
        for n in 0..PROGRAMS {
            let seed = seed.wrapping_add(n);
            duel.run(seed)
                .map_err(|why| format!("{why}\n{}", program::locate(&mut duel, seed)))?;
        }
        instructions.run(seed)?;
        let now = Instant::now();
        if now >= end || now - printed >= PRINT_EVERY {
            printed = now;
            let tally = duel.tally;
            println!(
                "{:5} s: {} programs, {} stops, {} branches, {} shutdowns; {} instructions; {:.0} programs a second",
                start.elapsed().as_secs(),
                tally.programs,
                tally.stops,
                tally.branches,
                tally.shutdowns,
                instructions.count,
                tally.programs as f64 / start.elapsed().as_secs_f64(),
            );
        }
        if now >= end {
            break;
        }
    }
    Ok(())
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
    match soak(&wish) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            println!("they differ: {why}");
            ExitCode::from(1)
        }
    }
}
