//! Watches a machine from outside: when each line comes on its console, and how much processor time it has used by then.
//!
//! A guest's own clock is no judge of its speed, so every subject, native too, is measured by the same marks on standard
//! output (`guests/initramfs/bin/benchmark` prints them).

use anyhow::{Context as _, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Ticks a second in `/proc/PID/stat`: fixed in Linux' interface on x86, whatever the kernel's own HZ. See `proc(5)`.
const TICKS_A_SECOND: f64 = 100.0;

/// How long a subject may be silent before it counts as hung.
const SILENCE_MAX: Duration = Duration::from_secs(1800);

/// A point in a subject's life.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Since it was started.
    pub(super) wall_s: f64,
    /// Processor time of all its threads and of the children it has waited for.
    pub(super) cpu_s: f64,
}

/// What lay between two marks.
#[derive(Clone, Debug)]
pub(super) struct Span {
    /// The workload.
    pub(super) name: String,
    pub(super) wall_s: f64,
    pub(super) cpu_s: f64,
    /// What it printed: the workload's result.
    pub(super) printed: String,
}

/// A whole run of a subject.
#[derive(Debug)]
pub(super) struct Observation {
    /// When the guest's shell was about to start; `None` for a subject that doesn't boot.
    pub(super) ready: Option<Mark>,
    /// The workloads, in order.
    pub(super) spans: Vec<Span>,
    /// The end.
    pub(super) end: Mark,
}

/// How a subject tells that it is ready, and what it does then: a line with these words.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ready {
    /// It goes on.
    Goes(&'static str),
    /// It is told to end, by SIGTERM.
    Ends(&'static str),
}

impl Ready {
    fn words(self) -> &'static str {
        match self {
            Self::Goes(words) | Self::Ends(words) => words,
        }
    }
}

/// Runs `command` to its end and observes it.
pub(super) fn observe(command: &mut Command, when: Ready) -> anyhow::Result<Observation> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("could not start {command:?}"))?;
    let pid = child.id();
    let mark = || Mark {
        wall_s: start.elapsed().as_secs_f64(),
        cpu_s: cpu_s(pid).unwrap_or_default(),
    };
    let watchdog = Watchdog::over(pid);
    let (mut ready, mut spans) = (None, Vec::new());
    let mut open: Option<(String, Mark, String)> = None;
    for line in BufReader::new(child.stdout.take().expect("it is piped")).split(b'\n') {
        let line = String::from_utf8_lossy(&line.context("the console")?)
            .trim_end()
            .to_owned();
        watchdog.heard();
        if ready.is_none() && line.contains(when.words()) {
            ready = Some(mark());
            if matches!(when, Ready::Ends(_)) {
                terminate(pid);
            }
        }
        if let Some(name) = line.strip_prefix("@begin ") {
            open = Some((name.to_owned(), mark(), String::new()));
        } else if line.starts_with("@end ") {
            let (name, begin, printed) = open
                .take()
                .with_context(|| format!("`{line}` without a beginning"))?;
            let end = mark();
            spans.push(Span {
                name,
                wall_s: end.wall_s - begin.wall_s,
                cpu_s: end.cpu_s - begin.cpu_s,
                printed,
            });
        } else if let Some((_, _, printed)) = &mut open {
            // The kernel may say something in between; its lines begin with a time in brackets.
            if !line.starts_with('[') {
                printed.push_str(&line);
            }
        }
    }
    // The last processor time can be read as long as nobody has waited for the process.
    wait_until_ended(pid);
    let end = mark();
    let status = child.wait().context("waiting for a subject")?;
    ensure!(
        !watchdog.has_bitten(),
        "{command:?} printed nothing for {} s and was ended",
        SILENCE_MAX.as_secs()
    );
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(Observation { ready, spans, end })
}

/// Ends a subject that has been silent too long, so that a hung one fails the bench and doesn't stop it.
struct Watchdog {
    heard: Sender<()>,
    bit: Arc<AtomicBool>,
}

impl Watchdog {
    fn over(pid: u32) -> Self {
        let (heard, listening) = channel();
        let bit = Arc::new(AtomicBool::new(false));
        let has_bitten = Arc::clone(&bit);
        std::thread::spawn(move || {
            loop {
                match listening.recv_timeout(SILENCE_MAX) {
                    Ok(()) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) => {
                        has_bitten.store(true, Ordering::SeqCst);
                        terminate(pid);
                        return;
                    }
                }
            }
        });
        Self { heard, bit }
    }

    /// The subject has printed something.
    fn heard(&self) {
        // The other end is gone only after it has ended the subject.
        let _ = self.heard.send(());
    }

    /// Whether the subject had to be ended.
    fn has_bitten(&self) -> bool {
        self.bit.load(Ordering::SeqCst)
    }
}

/// Asks the process to end.
fn terminate(pid: u32) {
    // If this can't be started, whoever waits for the bench will end it by hand.
    let _ = Command::new("kill").arg(pid.to_string()).status();
}

/// Processor time of process `pid` and its waited-for children, in seconds.
fn cpu_s(pid: u32) -> Option<f64> {
    let ticks: f64 = stat(pid)?
        .get(11..15)?
        .iter()
        .filter_map(|field| field.parse::<f64>().ok())
        .sum();
    Some(ticks / TICKS_A_SECOND)
}

/// The fields of `/proc/PID/stat` behind the command's name, which may hold anything: state first.
fn stat(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// Waits, for ten seconds at most, until the process has closed down and only its entry is left.
fn wait_until_ended(pid: u32) {
    for _ in 0..2000 {
        match stat(pid) {
            Some(fields) if fields.first().is_some_and(|state| state != "Z") => {
                std::thread::sleep(Duration::from_millis(5));
            }
            _ => return,
        }
    }
}
