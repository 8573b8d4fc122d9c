//! Replays one recording many times, idle and with the host loaded, and compares each replay with the recording to the
//! byte. Determinism is a claim about every run, so it is tried more often than tests can afford.

use crate::host_load::{Busy, cores};
use crate::process::{revirt, root, target_folder};
use anyhow::{Context as _, bail, ensure};
use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the guest does: races and timer signals, whose outcome depends on where interrupts come; a pipeline; a forced
/// switch of code; sleep.
const PROGRAM: &str =
    "race 5; signal 5; ls -lR / | sort | md5sum; toggles 1; forks 20; sleep 2; checks | md5sum";

/// No replay takes longer, on a loaded host and with the interpreter.
const REPLAY_MAX: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the recording is replayed on an otherwise idle host, and as often again with the host loaded.
    #[arg(long, default_value_t = 50)]
    replays: usize,
    /// Replay this recording instead of making one; its console is taken from the first replay.
    #[arg(long)]
    recording: Option<PathBuf>,
    /// What runs the guest in the replays; the default of `revirt replay` if not given.
    #[arg(long)]
    engine: Option<String>,
    /// Leave out the half with the host loaded.
    #[arg(long)]
    idle_only: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let revirt = revirt()?;
    let folder = target_folder().join("soak");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let (recording, expected) = match &options.recording {
        Some(recording) => {
            let (console, _) = replay(&revirt, recording, options, &folder)?;
            (recording.clone(), console)
        }
        None => record(&revirt, &folder)?,
    };
    println!(
        "{} bytes of console in {}",
        expected.len(),
        recording.display()
    );
    let mut different = 0;
    for is_loaded in [false, true] {
        if is_loaded && options.idle_only {
            break;
        }
        let load = is_loaded
            .then(|| Busy::processes(2 * cores()))
            .transpose()?;
        let name = if is_loaded { "loaded" } else { "idle" };
        let mut took_s = Vec::new();
        for number in 1..=options.replays {
            match replay(&revirt, &recording, options, &folder) {
                Ok((console, took)) if console == expected => {
                    took_s.push(took.as_secs_f64());
                    eprintln!(
                        "replay {number}, {name}: equal, {:.1} s",
                        took.as_secs_f64()
                    );
                }
                Ok((console, _)) => {
                    let kept = folder.join(format!("different-{name}-{number}"));
                    fs::write(&kept, console)?;
                    eprintln!(
                        "replay {number}, {name}: its console differs, see {}",
                        kept.display()
                    );
                    different += 1;
                }
                Err(error) => {
                    eprintln!("replay {number}, {name}: {error:#}");
                    different += 1;
                }
            }
        }
        drop(load);
        let longest = took_s.iter().copied().fold(0.0, f64::max);
        let mean = took_s.iter().sum::<f64>() / took_s.len() as f64;
        println!(
            "host {name}: {} of {} replays equal to the byte; {mean:.1} s each, {longest:.1} s at most",
            took_s.len(),
            options.replays
        );
    }
    ensure!(
        different == 0,
        "{different} replays were not what was recorded"
    );
    Ok(())
}

/// Records the default guest, and gives the recording and what was on the console.
fn record(revirt: &Path, folder: &Path) -> anyhow::Result<(PathBuf, Vec<u8>)> {
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    guests.default_guest()?;
    let recording = folder.join("recording");
    let append = format!("{} revirt.run=\"{PROGRAM}\"", guests::DEFAULT_APPEND);
    let mut command = Command::new(revirt);
    command
        .args(["record", "--append", &append, "-o"])
        .arg(&recording)
        .env("REVIRT_GUESTS", guests.folder());
    let (console, took) = console_of(&mut command, folder)?;
    println!("recorded in {:.1} s", took.as_secs_f64());
    Ok((recording, console))
}

fn replay(
    revirt: &Path,
    recording: &Path,
    options: &Options,
    folder: &Path,
) -> anyhow::Result<(Vec<u8>, Duration)> {
    let mut command = Command::new(revirt);
    command.arg("replay").arg(recording);
    if let Some(engine) = &options.engine {
        command.args(["--engine", engine]);
    }
    console_of(&mut command, folder)
}

/// Runs `command`, which must end with 0 within a time, and gives what it printed on standard output and how long it took.
fn console_of(command: &mut Command, folder: &Path) -> anyhow::Result<(Vec<u8>, Duration)> {
    let [console, said] = ["console", "said"].map(|name| folder.join(name));
    let begin = Instant::now();
    let mut child = command
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(File::create(&console)?)
        .stderr(File::create(&said)?)
        .spawn()
        .context("could not start revirt")?;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begin.elapsed() > REPLAY_MAX {
            child.kill()?;
            child.wait()?;
            bail!("{command:?} did not end within {} s", REPLAY_MAX.as_secs());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let took = begin.elapsed();
    let mut text = String::new();
    File::open(&said)?.read_to_string(&mut text)?;
    ensure!(status.success(), "{command:?} ended with {status}: {text}");
    Ok((fs::read(&console)?, took))
}
