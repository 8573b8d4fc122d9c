//! `docs/server.md`, by itself: a Debian server is built, recorded while it is visited, replayed and verified.

use crate::cloud;
use crate::process::{revirt, target_folder};
use anyhow::{Context as _, bail, ensure};
use serde_json::Value;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// What the page holds, `guests/server/var/www/html/index.html`.
const PAGE: &str = "It works, and it is on record.";
/// No boot takes longer, on a loaded host.
const BOOT_MAX: Duration = Duration::from_secs(300);
/// Nor does an answer.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How often the page is fetched.
    #[arg(long, default_value_t = 500)]
    visits: u32,
    /// A command that root runs over SSH.
    #[arg(long, default_value = "systemctl is-system-running; uname -r")]
    command: String,
    /// On a disk as clouds hand it out: GPT, an EFI system partition, the generic kernel, qcow2 on qcow2. Needs qemu-utils,
    /// fdisk and dosfstools.
    #[arg(long)]
    cloud: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let revirt = revirt()?;
    let began = Instant::now();
    let folder = target_folder().join("server");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let server = if options.cloud {
        cloud::server(&folder)?
    } else {
        guests::Guests::of_the_tree(|line| eprintln!("{line}")).server()?
    };
    say("the image is there", began);
    let (web, ssh) = (free_port()?, free_port()?);
    let recording = folder.join("visit");
    let console = folder.join("console");
    let mut command = Command::new(&revirt);
    command.args(["record", "--boot-from-disk", "--memory", "1G", "--disk"]);
    command.arg(&server.image).arg("-o").arg(&recording);
    command.args([
        "--forward",
        &format!("{web}:80"),
        "--forward",
        &format!("{ssh}:22"),
    ]);
    let began = Instant::now();
    let mut running = Running::start(&mut command, &console)?;
    visit(web, &mut running, BOOT_MAX)?;
    say("the server answers", began);

    let began = Instant::now();
    for _ in 0..options.visits {
        let page = fetch(web).context("a visit")?;
        ensure!(page.contains(PAGE), "another page came: {page}");
    }
    say(&format!("{} visits", options.visits), began);

    let key = server.key.context("the image has a key beside it")?;
    let began = Instant::now();
    let answer = log_in(ssh, &key, &options.command, &mut running)?;
    println!("over SSH: {}", answer.trim().replace('\n', ", "));
    log_in(ssh, &key, "systemctl poweroff --no-block", &mut running)?;
    running.end()?;
    say("logged in and switched off", began);

    let began = Instant::now();
    let replayed = Command::new(&revirt)
        .arg("replay")
        .arg(&recording)
        .output()?;
    said(&replayed)?;
    say("replayed", began);
    ensure!(
        replayed.stdout == fs::read(&console)?,
        "the replay's console is not the recording's"
    );
    said(
        &Command::new(&revirt)
            .arg("verify")
            .arg(&recording)
            .output()?,
    )?;
    let info = Command::new(&revirt)
        .args(["info", "--json"])
        .arg(&recording)
        .output()?;
    let info: Value = serde_json::from_slice(&info.stdout).context("info's answer")?;
    println!("the log: {} bytes", info["log_bytes"]);
    Ok(())
}

/// A server that is being recorded.
struct Running(Child);

impl Running {
    fn start(command: &mut Command, console: &Path) -> anyhow::Result<Running> {
        // Its input stays open as long as it runs.
        let child = command.stdin(Stdio::piped()).stdout(File::create(console)?);
        Ok(Running(child.spawn().context("revirt can't be started")?))
    }

    /// An error if it has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        match self.0.try_wait()? {
            Some(status) => bail!("the recording ended too early: {status}"),
            None => Ok(()),
        }
    }

    fn end(mut self) -> anyhow::Result<()> {
        let status = self.0.wait()?;
        ensure!(status.success(), "the recording ended with {status}");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whatever went wrong: no guest is left behind. One that has ended is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Fetches the page as soon as there is one.
fn visit(port: u16, running: &mut Running, limit: Duration) -> anyhow::Result<()> {
    let began = Instant::now();
    loop {
        running.check()?;
        if fetch(port).is_ok_and(|page| page.contains(PAGE)) {
            return Ok(());
        }
        ensure!(began.elapsed() < limit, "no answer within {limit:?}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn fetch(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(b"GET / HTTP/1.0\r\nHost: server\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page)?;
    Ok(page)
}

/// Runs `command` as root of the server, which may not listen yet.
fn log_in(port: u16, key: &Path, command: &str, running: &mut Running) -> anyhow::Result<String> {
    let began = Instant::now();
    loop {
        running.check()?;
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-q",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
        ]);
        ssh.arg("-i")
            .arg(key)
            .args(["-p", &port.to_string(), "root@127.0.0.1", command]);
        let output = ssh.output().context("ssh can't be started")?;
        // 255 is ssh's own failure.
        if output.status.code() != Some(255) {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(began.elapsed() < BOOT_MAX, "nobody lets us in: {text}");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// A port that nobody listens on.
fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
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

fn say(what: &str, began: Instant) {
    println!("{what} ({:.1} s)", began.elapsed().as_secs_f64());
}
