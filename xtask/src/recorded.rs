//! A Debian server that is being recorded: how one gets at it, and what its recording must stand at the end.

use crate::namespace::Namespace;
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// No boot takes longer, on a loaded host.
pub(crate) const BOOT_MAX: Duration = Duration::from_secs(300);

/// A server that is being recorded.
pub(crate) struct Running {
    child: Child,
    console: PathBuf,
}

impl Running {
    /// Starts `command`, whose guest's console goes to the file `console`.
    pub(crate) fn start(command: &mut Command, console: &Path) -> anyhow::Result<Running> {
        // Its input stays open as long as it runs.
        let command = command.stdin(Stdio::piped()).stdout(File::create(console)?);
        Ok(Running {
            child: command.spawn().context("revirt can't be started")?,
            console: console.to_owned(),
        })
    }

    /// An error if it has ended.
    pub(crate) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("the recording ended too early: {status}"),
            None => Ok(()),
        }
    }

    /// Types `line` at its console as soon as `prompt` stands there.
    pub(crate) fn type_at(&mut self, prompt: &str, line: &str) -> anyhow::Result<()> {
        let began = Instant::now();
        while !String::from_utf8_lossy(&fs::read(&self.console)?).contains(prompt) {
            self.check()?;
            ensure!(
                began.elapsed() < BOOT_MAX,
                "no `{prompt}` within {BOOT_MAX:?}"
            );
            std::thread::sleep(Duration::from_millis(500));
        }
        let stdin = self.child.stdin.as_mut().context("it is piped")?;
        writeln!(stdin, "{line}")?;
        Ok(())
    }

    /// Waits until it ends, which must be well.
    pub(crate) fn end(mut self) -> anyhow::Result<()> {
        let status = self.child.wait()?;
        ensure!(status.success(), "the recording ended with {status}");
        Ok(())
    }
}

/// A recorder that is asked to end gives its guest some seconds to.
const END_PATIENCE: Duration = Duration::from_secs(60);

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever went wrong: no guest is left behind, and what it was is recorded to its end.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = Command::new("kill")
                .arg(self.child.id().to_string())
                .status();
        }
        let began = Instant::now();
        while began.elapsed() < END_PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(100));
        }
        // One that has ended is no error.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server is to be had.
pub(crate) struct Place {
    pub(crate) address: Ipv4Addr,
    pub(crate) web: u16,
    pub(crate) ssh: u16,
    /// What opens it.
    pub(crate) key: PathBuf,
    /// Who wants to get there must be in here.
    pub(crate) namespace: Option<Namespace>,
}

impl Place {
    /// Ports of this host's that lead to ports 80 and 22 of the guest.
    pub(crate) fn forwarded(key: PathBuf) -> anyhow::Result<Place> {
        Ok(Place {
            address: Ipv4Addr::LOCALHOST,
            web: free_port()?,
            ssh: free_port()?,
            key,
            namespace: None,
        })
    }

    /// `program`, where it gets there.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        match &self.namespace {
            Some(namespace) => namespace.command(program),
            None => Command::new(program),
        }
    }

    /// Runs `command` as root of the server.
    pub(crate) fn ssh(&self, command: &str) -> anyhow::Result<Output> {
        let mut ssh = self.command("ssh");
        ssh.args([
            "-q",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.arg("-i").arg(&self.key);
        ssh.args(["-p", &self.ssh.to_string()]);
        ssh.args([&format!("root@{}", self.address), command]);
        ssh.stdin(Stdio::null())
            .output()
            .context("ssh can't be started")
    }

    /// The same; the server may not listen yet.
    pub(crate) fn log_in(&self, command: &str, running: &mut Running) -> anyhow::Result<String> {
        let began = Instant::now();
        loop {
            running.check()?;
            let output = self.ssh(command)?;
            // 255 is ssh's own failure.
            if output.status.code() != Some(255) {
                return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
            }
            let text = String::from_utf8_lossy(&output.stderr);
            ensure!(began.elapsed() < BOOT_MAX, "nobody lets us in: {text}");
            std::thread::sleep(Duration::from_secs(1));
        }
    }
}

/// A port that nobody listens on.
pub(crate) fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Replays `recording`, whose console must be what is in the file `console`, and verifies it. Returns what `revirt info`
/// says of it.
pub(crate) fn replay(revirt: &Path, recording: &Path, console: &Path) -> anyhow::Result<Value> {
    let on = |verb: &str| Command::new(revirt).arg(verb).arg(recording).output();
    let began = Instant::now();
    let replayed = on("replay")?;
    said(&replayed)?;
    say("replayed", began);
    ensure!(
        replayed.stdout == fs::read(console)?,
        "the replay's console is not the recording's"
    );
    said(&on("verify")?)?;
    let info = Command::new(revirt)
        .args(["info", "--json"])
        .arg(recording)
        .output()?;
    serde_json::from_slice(&info.stdout).context("info's answer")
}

/// What a command of revirt's said, which must be good.
fn said(output: &Output) -> anyhow::Result<()> {
    let text = [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy);
    // Of a replay, standard output is the guest's console.
    let words = text[1].lines().next().or_else(|| text[0].lines().next());
    println!("{}", words.unwrap_or_default());
    ensure!(output.status.success(), "{}", text[1]);
    Ok(())
}

pub(crate) fn say(what: &str, began: Instant) {
    println!("{what} ({:.1} s)", began.elapsed().as_secs_f64());
}
