//! Real work in a Debian server: the same programs in the same system on the host (by chroot), in our machine, recorded
//! and replayed, and in QEMU (TCG).
//!
//! What a piece of work prints is its result, and must be the same everywhere. Each has a run of its own, so that the
//! growth of the log is that of this work.

mod table;
mod web;
mod workshop;

use super::observe::{Ready, observe};
use super::subject::Subject;
use super::{Run, check_results, host, keep_runs, run_json};
use crate::process::{revirt, step, succeed, target_folder};
use anyhow::{bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use web::Visit;
use workshop::{MOUNT_POINT, Workshop};

/// A piece of work: see `benches/work/job`.
#[derive(Debug)]
struct Job {
    name: &'static str,
    size: u32,
    /// Whether the host does it too. What moves the host's pages or makes networks is for guests only.
    native: bool,
}

const fn job(name: &'static str, size: u32, native: bool) -> Job {
    Job { name, size, native }
}

/// The work; the sizes are such that the host needs some seconds.
const JOBS: &[Job] = &[
    job("povray", 400, true),
    job("kernel", 1, true),
    job("python", 2, true),
    job("openssl", 1, true),
    job("bits32", 100, true),
    job("disk-write", 1024, true),
    job("disk-random", 64, true),
    job(WAKEUPS, 5000, true),
    job("containers", 3, false),
    job("stress", 1, false),
];

/// Sleeps of a millisecond.
const WAKEUPS: &str = "wakeups";

/// Who does it, by their names on the command line.
const SUBJECTS: [(&str, Subject); 5] = [
    ("native", Subject::Native),
    ("run", Subject::Run),
    ("record", Subject::Record),
    ("replay", Subject::Replay),
    ("qemu", Subject::Qemu),
];

/// What prints that somebody is logged in on the console.
const LOGGED_IN: &str = "(automatic login)";

/// The row of the start to the login, and that of the server's visitors.
const BOOT: &str = "boot";
const WEB: &str = "web";

const MEMORY: &str = "2G";

/// The kernel command line on every machine; without mitigations, since our processor needs none and QEMU's does.
const APPEND: &str = "root=LABEL=server ro console=ttyS0 quiet mitigations=off";

/// What makes the server mount the second disk and run a script of it in place of its services: see
/// systemd-run-generator(8).
fn commands(work: &[&str]) -> String {
    format!(
        "systemd.show_status=0 systemd.run=\"/bin/mount /dev/disk/by-id/virtio-work /{MOUNT_POINT}\" \
         systemd.run=\"/bin/sh /{MOUNT_POINT}/{}\"",
        work.join(" ")
    )
}

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often everything is measured; the medians count.
    #[arg(long, default_value_t = 1)]
    rounds: usize,
    /// Only these, separated by commas: boot, web, povray, kernel, python, openssl, bits32, disk-write, disk-random,
    /// wakeups, containers, stress.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only on these, separated by commas. A replay is of the last recording.
    #[arg(long, value_delimiter = ',', value_parser = SUBJECTS.map(|(name, _)| name))]
    on: Vec<String>,
}

impl Options {
    fn asks_for(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == name)
    }
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let names: Vec<_> = JOBS.iter().map(|job| job.name).collect();
    let unknown =
        |name: &&String| ![BOOT, WEB].contains(&name.as_str()) && !names.contains(&name.as_str());
    if let Some(name) = options.only.iter().find(unknown) {
        bail!(
            "there is no work `{name}`; there are {BOOT}, {WEB}, {}",
            names.join(", ")
        );
    }
    let bench = Real {
        revirt: revirt()?,
        workshop: Workshop::prepare(&names)?,
        recording: target_folder().join("workshop/recording"),
    };
    let description = host::description();
    let mut seen = Seen::default();
    for round in 1..=options.rounds {
        let rows = [BOOT].into_iter().chain(names.iter().copied()).chain([WEB]);
        for row in rows.filter(|row| options.asks_for(row)) {
            for subject in subjects(row, options) {
                let name = format!("round {round}: {row}, {}", subject.name());
                let measured = step(&name, || bench.measure(&mut seen, row, subject));
                // The others are measured all the same.
                if let Err(error) = measured {
                    eprintln!("{error:#}");
                    seen.failed.push(name);
                }
            }
        }
    }
    let report = json!({
        "machine": description,
        "work": JOBS.iter().map(|job| json!({"name": job.name, "size": job.size})).collect::<Vec<_>>(),
        "runs": seen.runs.iter().map(run_json).collect::<Vec<_>>(),
        "visits": seen.visits.iter().map(Visit::json).collect::<Vec<_>>(),
        "logs": seen.logs.iter().map(|(row, info)| json!({"work": row, "info": info})).collect::<Vec<_>>(),
    });
    let path = keep_runs("-real", &report)?;
    table::print(&seen);
    println!("\nAll runs: {}", path.display());
    ensure!(seen.failed.is_empty(), "failed: {}", seen.failed.join("; "));
    check_results(&seen.runs)
}

/// Everything that was measured.
#[derive(Default)]
struct Seen {
    runs: Vec<Run>,
    visits: Vec<Visit>,
    /// What `revirt info` says of each recording, by the work.
    logs: Vec<(&'static str, Value)>,
    /// What could not be measured.
    failed: Vec<String>,
}

/// The work that `row` is of, if it is not the boot or the visits.
fn job_of(row: &str) -> Option<&'static Job> {
    JOBS.iter().find(|job| job.name == row)
}

/// Who is measured in `row`.
fn subjects(row: &str, options: &Options) -> Vec<Subject> {
    let wanted = |(name, subject): &(&str, Subject)| {
        let exists =
            *subject != Subject::Native || row != BOOT && job_of(row).is_none_or(|job| job.native);
        exists && (options.on.is_empty() || options.on.iter().any(|on| on == name))
    };
    let wanted = SUBJECTS.iter().filter(|subject| wanted(subject));
    wanted.map(|&(_, subject)| subject).collect()
}

/// Where everything is.
#[derive(Debug)]
struct Real {
    revirt: PathBuf,
    workshop: Workshop,
    recording: PathBuf,
}

impl Real {
    fn measure(&self, seen: &mut Seen, row: &'static str, subject: Subject) -> anyhow::Result<()> {
        match (row, subject) {
            // What was recorded before it.
            (WEB, Subject::Replay) => succeed(self.replay().stdout(Stdio::null()))?,
            (WEB, _) => seen.visits.push(web::visit(self, subject)?),
            _ => seen.runs.push(self.work(row, subject)?),
        }
        if subject == Subject::Record {
            seen.logs.push((row, self.info()?));
        }
        Ok(())
    }

    /// `subject` does a piece of work, or boots.
    fn work(&self, row: &'static str, subject: Subject) -> anyhow::Result<Run> {
        let job = job_of(row);
        let when = match (job, subject) {
            (Some(_), _) => Ready::Goes("@begin"),
            // It ends where the recording does.
            (None, Subject::Replay) => Ready::Goes(LOGGED_IN),
            (None, _) => Ready::Ends(LOGGED_IN),
        };
        let observed = observe(&mut self.command(subject, job)?, when)?;
        ensure!(observed.ready.is_some(), "the server was never ready");
        if job.is_some() {
            let printed = observed.spans.first().map(|span| span.printed.as_str());
            ensure!(
                printed.is_some_and(|text| !text.is_empty()),
                "there is no result"
            );
            eprintln!("    {}", printed.unwrap_or_default());
        }
        Ok(Run {
            subject,
            suite: row,
            seen: observed,
        })
    }

    fn command(&self, subject: Subject, job: Option<&Job>) -> anyhow::Result<Command> {
        let append = job.map_or(APPEND.to_owned(), |job| {
            let size = job.size.to_string();
            format!("{APPEND} {}", commands(&["guest", job.name, &size]))
        });
        Ok(match (subject, job) {
            (Subject::Native, Some(job)) => {
                let path = format!("PATH=/{MOUNT_POINT}/bin:/usr/sbin:/usr/bin:/sbin:/bin");
                let benchmark = format!("/{MOUNT_POINT}/benchmark");
                let size = job.size.to_string();
                self.workshop
                    .native(&["env", &path, "sh", &benchmark, job.name, &size])
            }
            (Subject::Replay, _) => self.replay(),
            (Subject::Qemu, _) => self.qemu(&append),
            _ => {
                let mut command = self.machine(subject, &append)?;
                command.args(["--net", "none"]);
                command
            }
        })
    }

    /// Our machine, recorded if `subject` says so.
    fn machine(&self, subject: Subject, append: &str) -> anyhow::Result<Command> {
        let mut command = Command::new(&self.revirt);
        match subject {
            Subject::Run => command.arg("run"),
            Subject::Record => {
                if self.recording.exists() {
                    fs::remove_dir_all(&self.recording)?;
                }
                command.arg("record").arg("-o").arg(&self.recording)
            }
            _ => bail!("{} is not our machine", subject.name()),
        };
        let (kernel, initrd) = self.workshop.boot();
        command.args(["--memory", MEMORY, "--append", append]);
        command
            .arg("--kernel")
            .arg(kernel)
            .arg("--initrd")
            .arg(initrd);
        command.arg("--disk").arg(self.workshop.server_disk());
        let work = format!("{},serial=work", self.workshop.work_disk().display());
        command.arg("--disk").arg(work);
        Ok(command)
    }

    fn replay(&self) -> Command {
        let mut command = Command::new(&self.revirt);
        command.arg("replay").arg(&self.recording);
        command
    }

    fn qemu(&self, append: &str) -> Command {
        let (kernel, initrd) = self.workshop.boot();
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-machine", "q35", "-accel", "tcg", "-cpu", "Nehalem", "-m", MEMORY,
        ]);
        command.args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
            "-snapshot",
        ]);
        command
            .arg("-kernel")
            .arg(kernel)
            .arg("-initrd")
            .arg(initrd);
        command.args(["-append", append]);
        for (disk, serial) in [
            (self.workshop.server_disk(), "server"),
            (self.workshop.work_disk(), "work"),
        ] {
            command.arg("-drive");
            command.arg(format!(
                "file={},format=raw,if=none,id={serial}",
                disk.display()
            ));
            command.arg("-device");
            command.arg(format!("virtio-blk-pci,drive={serial},serial={serial}"));
        }
        command
    }

    /// What `revirt info --json` says of the last recording.
    fn info(&self) -> anyhow::Result<Value> {
        let output = Command::new(&self.revirt)
            .args(["info", "--json"])
            .arg(&self.recording)
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }
}
