//! Measures our machine against the host and QEMU: the same binaries, the same kernel, in turn within each round, so that
//! what else the host does hits all alike.
//!
//! Workloads are compared by processor time, boots and replays by the clock on the wall. Every run is kept, with the
//! machine's description, in `benches/runs/`.

mod host;
mod observe;
pub(crate) mod real;
mod statistics;
mod subject;

use crate::process::{revirt, root, step, target_folder};
use anyhow::{Context as _, bail};
use observe::{Mark, Observation, Ready, observe};
use serde_json::{Value, json};
use statistics::{geometric_mean, median};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use subject::{Bench, Subject, Suite};

/// Each workload's name and size: some 50 ms on the host, so that the slowest subject needs seconds.
const WORKLOADS: &[(&str, u64)] = &[
    ("busy", 50_000_000),
    ("branches", 3_000_000),
    ("indirect", 3_000_000),
    ("recursion", 34),
    ("sorting", 150_000),
    ("hashing", 3_000_000),
    ("list", 4_000_000),
    ("crc", 12_000_000),
    ("matrix", 14),
    ("libm", 600_000),
    ("x87", 1_200_000),
    ("copy", 80_000),
    ("string", 80_000),
    ("syscalls", 80_000),
    ("pipes", 3_000),
    ("forks", 120),
    ("execs", 40),
    ("touches", 6_000),
    ("signals", 8_000),
];

/// Debian's own programs, in the guest that holds them: each piece of work, and how often it is done. See
/// `guests/tools/tool`.
const REAL: &[(&str, u64)] = &[
    ("openssl-hash", 2),
    ("gzip-text", 6),
    ("xz-text", 6),
    ("python-pure", 2),
    ("gcc-file", 1),
    ("sqlite-work", 2),
    ("luajit-work", 3),
];

/// The host is so quick that one pass is too short to measure.
const NATIVE_PASSES: usize = 10;

/// How the growth of the log is measured: the same guest for a short and a long time; the difference is the growth.
/// Each list is what `benchmark` is told; only the second number differs.
const GROWTH: &[(&str, &str, &str)] = &[
    ("busy", "busy 200000000", "busy 1000000000"),
    ("idle", "sleepy 5000", "sleepy 65000"),
];

/// A guest that sleeps a minute.
const SLEEP: &str = "sleepy 60000";

const SECONDS_A_DAY: f64 = 86400.0;

/// When the default guest is ready.
const READY: Ready = Ready::Goes(guests::READY);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often everything is measured; the medians count.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Only these workloads, separated by commas.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Leave out Debian's own programs, and their guest.
    #[arg(long)]
    no_real: bool,
    /// Leave out QEMU's own record and replay.
    #[arg(long)]
    no_qemu_rr: bool,
    /// Leave out the growth of the log and the replay of sleep, which take minutes.
    #[arg(long)]
    no_growth: bool,
}

/// One subject's run of one suite in one round.
struct Run {
    subject: Subject,
    /// Its name.
    suite: &'static str,
    seen: Observation,
}

impl Run {
    /// When the default guest's shell was about to start; the other guest is larger, and boots for its own sake.
    fn ready(&self) -> Option<Mark> {
        self.seen
            .ready
            .filter(|_| self.suite == Suite::Small.name())
    }

    /// The end of the run of `suite`.
    fn end(&self, suite: Suite) -> Option<Mark> {
        (self.suite == suite.name()).then_some(self.seen.end)
    }
}

/// What of `list` is asked for.
fn chosen(list: &'static [(&'static str, u64)], only: &[String]) -> Vec<(&'static str, u64)> {
    let is_asked = |name: &str| only.is_empty() || only.iter().any(|only| only == name);
    list.iter()
        .copied()
        .filter(|(name, _)| is_asked(name))
        .collect()
}

/// As `benchmark` is told.
fn told(workloads: &[(&str, u64)]) -> String {
    let words: Vec<_> = workloads
        .iter()
        .map(|(name, size)| format!("{name} {size}"))
        .collect();
    words.join(" ")
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let mut suites = vec![(Suite::Small, chosen(WORKLOADS, &options.only))];
    if !options.no_real {
        suites.push((Suite::Real, chosen(REAL, &options.only)));
    }
    suites.retain(|(_, workloads)| !workloads.is_empty());
    if suites.is_empty() {
        bail!("there is no such workload; there are: {}", all_names());
    }
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    let bench = Bench::prepare(revirt()?, &guests, target_folder().join("bench"))?;
    let subjects = subjects(options);
    let description = host::description();
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for (suite, workloads) in &suites {
            for subject in &subjects {
                let name = format!(
                    "round {round} of {}: {}, {}",
                    options.rounds,
                    suite.name(),
                    subject.name()
                );
                step(&name, || {
                    let list = match subject {
                        Subject::Native => vec![told(workloads); NATIVE_PASSES].join(" "),
                        _ => told(workloads),
                    };
                    let seen = observe(&mut bench.command(*subject, *suite, &list), READY)?;
                    runs.push(Run {
                        subject: *subject,
                        suite: suite.name(),
                        seen,
                    });
                    Ok(())
                })?;
            }
        }
    }
    let workloads: Vec<_> = suites.iter().flat_map(|(_, list)| list.iter()).collect();
    let log = if options.no_growth {
        Value::Null
    } else {
        growth(&bench)?
    };
    check_results(&runs)?;
    let report = json!({
        "machine": description,
        "workloads": workloads.iter().map(|(name, size)| json!({"name": name, "size": size})).collect::<Vec<_>>(),
        "runs": runs.iter().map(run_json).collect::<Vec<_>>(),
        "log": log,
    });
    let path = keep_runs("", &report)?;
    print_table(
        &runs,
        &subjects,
        &workloads.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
    );
    print_log(&report["log"]);
    println!("\nAll runs: {}", path.display());
    Ok(())
}

/// `NAME.json` in `folder`, or the first free of `NAME-2.json`, `NAME-3.json` and so on: raw runs are never overwritten.
fn free_path(folder: &Path, name: &str) -> PathBuf {
    let mut path = folder.join(format!("{name}.json"));
    let mut number = 2;
    while path.exists() {
        path = folder.join(format!("{name}-{number}.json"));
        number += 1;
    }
    path
}

/// The names of all workloads, for people.
fn all_names() -> String {
    let names: Vec<_> = WORKLOADS
        .iter()
        .chain(REAL)
        .map(|(name, _)| *name)
        .collect();
    names.join(", ")
}

fn subjects(options: &Options) -> Vec<Subject> {
    let has_qemu = Command::new("qemu-system-x86_64")
        .arg("--version")
        .output()
        .is_ok();
    if !has_qemu {
        eprintln!("QEMU is left out: it is not installed (sudo apt-get install qemu-system-x86)");
    }
    let wanted = |subject: &Subject| match subject {
        Subject::QemuRecord | Subject::QemuReplay => has_qemu && !options.no_qemu_rr,
        _ => has_qemu || !subject.is_qemu(),
    };
    Subject::ALL.into_iter().filter(wanted).collect()
}

/// Keeps the raw runs, in a file that was not there yet. Where this tree lies on the
/// host that made them is nobody's business.
fn keep_runs(kind: &str, report: &Value) -> anyhow::Result<PathBuf> {
    let folder = root().join("benches/runs");
    fs::create_dir_all(&folder)?;
    let path = free_path(&folder, &format!("{}-{}{kind}", host::date(), host::name()));
    let text = format!("{report:#}\n").replace(&format!("{}/", root().display()), "");
    fs::write(&path, text).with_context(|| format!("could not write {}", path.display()))?;
    Ok(path)
}

/// How the log grows on a busy and on an idle guest, and how long a minute's sleep takes to replay.
fn growth(bench: &Bench) -> anyhow::Result<Value> {
    let mut values = serde_json::Map::new();
    for (name, short, long) in GROWTH {
        step(&format!("growth of the log, {name}"), || {
            let mut points = Vec::new();
            for list in [short, long] {
                observe(
                    &mut bench.command(Subject::Record, Suite::Small, list),
                    READY,
                )?;
                let info = bench.info()?;
                let number = |key: &str| {
                    info[key]
                        .as_f64()
                        .with_context(|| format!("`info` gives no {key}"))
                };
                points.push((number("log_bytes")?, number("duration_ns")? / 1e9));
            }
            let per_s = (points[1].0 - points[0].0) / (points[1].1 - points[0].1);
            let points: Vec<_> = points
                .iter()
                .map(|(bytes, s)| json!({"log_bytes": bytes, "duration_s": s}))
                .collect();
            values.insert(
                (*name).to_owned(),
                json!({"gb_a_day": per_s * SECONDS_A_DAY / 1e9, "points": points}),
            );
            Ok(())
        })?;
    }
    step("a minute's sleep", || {
        let observed = |subject| observe(&mut bench.command(subject, Suite::Small, SLEEP), READY);
        let recorded = observed(Subject::Record)?;
        let replayed = observed(Subject::Replay)?;
        let slept = |seen: &Observation| seen.spans.first().map(|span| span.wall_s);
        values.insert(
            "sleep".to_owned(),
            json!({"recorded_s": slept(&recorded), "replayed_s": slept(&replayed)}),
        );
        Ok(())
    })?;
    Ok(Value::Object(values))
}

/// A subject that computes something else is not slower or faster but wrong.
fn check_results(runs: &[Run]) -> anyhow::Result<()> {
    let Some(judge) = runs.iter().find(|run| run.subject == Subject::Native) else {
        return Ok(());
    };
    for run in runs {
        for span in &run.seen.spans {
            let expected = judge
                .seen
                .spans
                .iter()
                .find(|other| other.name == span.name);
            if expected.is_some_and(|expected| expected.printed != span.printed) {
                bail!(
                    "{} gives `{}` and the host `{}`",
                    run.subject.name(),
                    span.printed,
                    expected.map_or("", |expected| &expected.printed)
                );
            }
        }
    }
    Ok(())
}

fn run_json(run: &Run) -> Value {
    let seen = &run.seen;
    json!({
        "subject": run.subject.name(),
        "suite": run.suite,
        "ready": seen.ready.map(|mark| json!({"wall_s": mark.wall_s, "cpu_s": mark.cpu_s})),
        "end": {"wall_s": seen.end.wall_s, "cpu_s": seen.end.cpu_s},
        "spans": seen.spans.iter().map(|span| json!({"name": span.name, "wall_s": span.wall_s, "cpu_s": span.cpu_s})).collect::<Vec<_>>(),
    })
}

/// The median of what `figure` takes from each run of `subject`.
fn of(runs: &[Run], subject: Subject, figure: impl Fn(&Run) -> Vec<f64>) -> Option<f64> {
    median(
        runs.iter()
            .filter(|run| run.subject == subject)
            .flat_map(figure)
            .collect(),
    )
}

/// One figure of a mark, if it is there.
fn figure(mark: Option<Mark>, of: impl Fn(Mark) -> f64) -> Vec<f64> {
    mark.map(of).into_iter().collect()
}

/// The processor time of the workload `name`.
fn workload_cpu_s(name: &str) -> impl Fn(&Run) -> Vec<f64> {
    move |run| {
        let spans: Vec<_> = run
            .seen
            .spans
            .iter()
            .filter(|span| span.name == name)
            .collect();
        // One figure a run: the host's passes are short, and their sum is what the clock can measure.
        let sum: f64 = spans.iter().map(|span| span.cpu_s).sum();
        if spans.is_empty() {
            Vec::new()
        } else {
            vec![sum / spans.len() as f64]
        }
    }
}

fn print_table(runs: &[Run], subjects: &[Subject], workloads: &[&str]) {
    let guests: Vec<Subject> = subjects
        .iter()
        .copied()
        .filter(|subject| *subject != Subject::Native)
        .collect();
    println!("\nProcessor time of the workloads, in multiples of the host's; medians.\n");
    print!("{:<12}{:>10}", "", "native");
    for subject in &guests {
        print!(
            "{:>16}",
            subject
                .name()
                .replace("revirt ", "")
                .replace("--checks ", "")
        );
    }
    println!();
    let mut ratios = vec![Vec::new(); guests.len()];
    for name in workloads {
        let Some(native) = of(runs, Subject::Native, workload_cpu_s(name)) else {
            continue;
        };
        print!("{name:<12}{:>8.0}ms", native * 1e3);
        for (subject, ratios) in guests.iter().zip(&mut ratios) {
            let ratio =
                of(runs, *subject, workload_cpu_s(name)).map_or(f64::NAN, |time| time / native);
            ratios.push(ratio);
            print!("{ratio:>15.1}x");
        }
        println!();
    }
    print!("{:<22}", "geometric mean");
    for ratios in &ratios {
        print!("{:>15.1}x", geometric_mean(ratios));
    }
    println!("\n\nSeconds on the wall, and of processor time (in brackets); medians.\n");
    for subject in guests {
        let ready = of(runs, subject, |run| figure(run.ready(), |mark| mark.wall_s));
        let ready_cpu = of(runs, subject, |run| figure(run.ready(), |mark| mark.cpu_s));
        let end = of(runs, subject, |run| {
            figure(run.end(Suite::Small), |mark| mark.wall_s)
        });
        let end_cpu = of(runs, subject, |run| {
            figure(run.end(Suite::Small), |mark| mark.cpu_s)
        });
        println!(
            "{:<30} start to shell {:>6.1} ({:.1})   whole run {:>7.1} ({:.1})",
            subject.name(),
            ready.unwrap_or(f64::NAN),
            ready_cpu.unwrap_or(f64::NAN),
            end.unwrap_or(f64::NAN),
            end_cpu.unwrap_or(f64::NAN)
        );
    }
    print_goals(runs, workloads);
}

/// The promises, and what was measured.
fn print_goals(runs: &[Run], workloads: &[&str]) {
    let whole_of = |subject, suite| {
        of(runs, subject, |run| {
            figure(run.end(suite), |mark| mark.cpu_s)
        })
    };
    let whole = |subject| whole_of(subject, Suite::Small);
    let boot = |subject| of(runs, subject, |run| figure(run.ready(), |mark| mark.cpu_s));
    let against = |one: Option<f64>, other: Option<f64>| {
        one.zip(other).map_or(f64::NAN, |(one, other)| one / other)
    };
    let loops: Vec<f64> = workloads
        .iter()
        .map(|name| {
            against(
                of(runs, Subject::Run, workload_cpu_s(name)),
                of(runs, Subject::Qemu, workload_cpu_s(name)),
            )
        })
        .collect();
    let percent = |ratio: f64| (ratio - 1.0) * 100.0;
    println!("\n{:<58}{:>12}{:>12}", "", "measured", "goal");
    let row =
        |what: &str, measured: String, goal: &str| println!("{what:<58}{measured:>12}{goal:>12}");
    row(
        "start to shell, against QEMU",
        format!("{:.2}x", against(boot(Subject::Run), boot(Subject::Qemu))),
        "4x",
    );
    row(
        "workloads, against QEMU, geometric mean",
        format!("{:.2}x", geometric_mean(&loops)),
        "4x",
    );
    row(
        "recording, over running, processor time",
        format!(
            "{:+.1}%",
            percent(against(whole(Subject::Record), whole(Subject::Run)))
        ),
        "+2%",
    );
    row(
        "the same, Debian's own programs",
        format!(
            "{:+.1}%",
            percent(against(
                whole_of(Subject::Record, Suite::Real),
                whole_of(Subject::Run, Suite::Real)
            ))
        ),
        "+2%",
    );
    row(
        "recording with full checks, over running",
        format!(
            "{:+.1}%",
            percent(against(whole(Subject::RecordFull), whole(Subject::Run)))
        ),
        "+5%",
    );
    let wall = |subject| {
        of(runs, subject, |run| {
            figure(run.end(Suite::Small), |mark| mark.wall_s)
        })
    };
    row(
        "replay, over recording, on the wall",
        format!(
            "{:+.1}%",
            percent(against(wall(Subject::Replay), wall(Subject::Record)))
        ),
        "+0%",
    );
}

fn print_log(log: &Value) {
    let number = |name: &str, key: &str| log[name][key].as_f64();
    if let Some(growth) = number("busy", "gb_a_day") {
        println!(
            "{:<58}{:>9.4} GB{:>12}",
            "growth of the log a day, busy loop", growth, "0.04 GB"
        );
    }
    if let Some(growth) = number("idle", "gb_a_day") {
        println!(
            "{:<58}{:>9.4} GB{:>12}",
            "growth of the log a day, idle", growth, "0.004 GB"
        );
    }
    if let Some(slept) = number("sleep", "replayed_s") {
        println!(
            "{:<58}{:>10.2} s{:>12}",
            "replay of a minute's sleep", slept, "1 s"
        );
    }
}
