//! What was measured, for people.

use super::Seen;
use super::web::Visit;
use crate::bench::observe::Mark;
use crate::bench::statistics::{geometric_mean, median};
use crate::bench::subject::Subject;
use crate::bench::{Run, SECONDS_A_DAY, of};

/// What ReVirt's authors measured, by the name of our row: time against native, recording over running, replay over
/// recording, GB a day of log. Dunlap et al., OSDI 2002, tables 1 to 3.
const REVIRT_2002: &[(&str, [f64; 4])] = &[
    ("povray", [1.01, 1.00, 1.01, 0.04]),
    ("kernel", [1.58, 1.08, 1.02, 0.08]),
];

/// Prints a row for each piece of work that was done, and what the visitors saw.
pub(super) fn print(seen: &Seen) {
    println!("\nProcessor time in multiples of the host's (of the boot: in seconds); medians.\n");
    println!(
        "{:<12}{:>9}{:>8}{:>8}{:>8}{:>8}{:>10}{:>10}{:>10}{:>12}  ReVirt, 2002",
        "",
        "native",
        "run",
        "record",
        "replay",
        "QEMU",
        "QEMU/run",
        "rec/run",
        "rep/rec",
        "log GB/day"
    );
    let mut rows: Vec<&str> = Vec::new();
    for run in &seen.runs {
        if !rows.contains(&run.suite) {
            rows.push(run.suite);
        }
    }
    let against_qemu: Vec<f64> = rows.iter().map(|row| print_row(seen, row)).collect();
    println!(
        "QEMU over run, geometric mean: {:.2}x",
        geometric_mean(&against_qemu)
    );
    if rows.contains(&super::WAKEUPS) {
        print_wakeups(seen);
    }
    if !seen.visits.is_empty() {
        print_visits(seen);
    }
}

/// Prints one row, and gives QEMU's time in multiples of ours.
fn print_row(seen: &Seen, row: &str) -> f64 {
    let cpu = |subject| measured(seen, row, subject, |mark| mark.cpu_s);
    let wall = |subject| measured(seen, row, subject, |mark| mark.wall_s);
    let ratio = |one: Option<f64>, other: Option<f64>| {
        one.zip(other).map_or(f64::NAN, |(one, other)| one / other)
    };
    let native = cpu(Subject::Native);
    print!("{row:<12}{:>8.1}s", native.unwrap_or(f64::NAN));
    for subject in [
        Subject::Run,
        Subject::Record,
        Subject::Replay,
        Subject::Qemu,
    ] {
        print!(
            "{:>8.2}",
            cpu(subject).unwrap_or(f64::NAN) / native.unwrap_or(1.0)
        );
    }
    let qemu = ratio(cpu(Subject::Qemu), cpu(Subject::Run));
    print!(
        "{qemu:>9.2}x{:>10.3}{:>10.3}{:>12.3}",
        ratio(cpu(Subject::Record), cpu(Subject::Run)),
        ratio(wall(Subject::Replay), wall(Subject::Record)),
        gb_a_day(row, seen)
    );
    if let Some((_, [native, recording, replay, log])) =
        REVIRT_2002.iter().find(|(name, _)| *name == row)
    {
        print!("  {native} {recording} {replay} {log}");
    }
    println!();
    qemu
}

/// The median of one figure of the work `row`, done by `subject`.
fn measured(seen: &Seen, row: &str, subject: Subject, of_mark: fn(Mark) -> f64) -> Option<f64> {
    of(&seen.runs, subject, |run| figure(run, row, of_mark))
}

/// Prints how late who slept for a millisecond was woken. (A replay doesn't wait.)
fn print_wakeups(seen: &Seen) {
    let sleeps = super::job_of(super::WAKEUPS).map_or(f64::NAN, |job| job.size.into());
    print!("\nSleeps of 1 ms end so many microseconds late:");
    for subject in [
        Subject::Native,
        Subject::Run,
        Subject::Record,
        Subject::Qemu,
    ] {
        if let Some(wall_s) = measured(seen, super::WAKEUPS, subject, |mark| mark.wall_s) {
            let late = 1e6 * wall_s / sleeps - 1e3;
            print!(" {} {late:.0}", subject.name());
        }
    }
    println!();
}

fn print_visits(seen: &Seen) {
    println!(
        "\n{:<16}{:>12}{:>14}{:>14}{:>12}{:>12}{:>12}",
        "visits", "ready s", "alone ms", "requests/s", "99 % ms", "in Mbit/s", "out Mbit/s"
    );
    for subject in Subject::ALL {
        let of = |figure: fn(&Visit) -> f64| {
            let visits = seen.visits.iter().filter(|visit| visit.subject == subject);
            median(visits.map(figure).collect())
        };
        let Some(ready) = of(|visit| visit.ready_s) else {
            continue;
        };
        print!("{:<16}{ready:>12.1}", subject.name());
        let figure = |value: Option<f64>| value.unwrap_or(f64::NAN);
        println!(
            "{:>14.2}{:>14.0}{:>12.1}{:>12.0}{:>12.0}",
            figure(of(|visit| visit.alone_ms)),
            figure(of(|visit| visit.requests_a_s)),
            figure(of(|visit| visit.slow_ms)),
            figure(of(|visit| visit.in_mbit_s)),
            figure(of(|visit| visit.out_mbit_s)),
        );
    }
    let last = seen.logs.iter().rev().find(|(name, _)| *name == super::WEB);
    if let Some((_, info)) = last {
        println!(
            "The log: {} bytes for {} bytes of packets.",
            info["log_bytes"], info["doors"]["network"]["bytes"]
        );
    }
}

/// One figure of the work `row`, or of the time until the login.
fn figure(run: &Run, row: &str, of: impl Fn(Mark) -> f64) -> Vec<f64> {
    if run.suite != row {
        return Vec::new();
    }
    let span = run.seen.spans.first().map(|span| Mark {
        wall_s: span.wall_s,
        cpu_s: span.cpu_s,
    });
    span.or(run.seen.ready).map(of).into_iter().collect()
}

/// The growth of the log of the last recording of `row`.
fn gb_a_day(row: &str, seen: &Seen) -> f64 {
    let info = seen.logs.iter().rev().find(|(name, _)| *name == row);
    let number = |key: &str| info.and_then(|(_, info)| info[key].as_f64());
    number("log_bytes")
        .zip(number("duration_ns"))
        .map_or(f64::NAN, |(bytes, ns)| bytes / ns * SECONDS_A_DAY)
}
