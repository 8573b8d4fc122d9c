//! `docs/server.md`, by itself: a Debian server is built, recorded while it is visited, replayed and verified.

use crate::cloud;
use crate::process::{revirt, target_folder};
use crate::recorded::{self, BOOT_MAX, Place, Running, say};
use anyhow::{Context as _, ensure};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

/// What the page holds, `guests/server/var/www/html/index.html`.
const PAGE: &str = "It works, and it is on record.";
/// No answer takes longer.
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
    let place = Place::forwarded(server.key.context("the image has a key beside it")?)?;
    let recording = folder.join("visit");
    let console = folder.join("console");
    let mut command = Command::new(&revirt);
    command.args(["record", "--boot-from-disk", "--memory", "1G", "--disk"]);
    command.arg(&server.image).arg("-o").arg(&recording);
    command.args([
        "--forward",
        &format!("{}:80", place.web),
        "--forward",
        &format!("{}:22", place.ssh),
    ]);
    let began = Instant::now();
    let mut running = Running::start(&mut command, &console)?;
    visit(place.web, &mut running, BOOT_MAX)?;
    say("the server answers", began);

    let began = Instant::now();
    for _ in 0..options.visits {
        let page = fetch(place.web).context("a visit")?;
        ensure!(page.contains(PAGE), "another page came: {page}");
    }
    say(&format!("{} visits", options.visits), began);

    let began = Instant::now();
    let answer = place.log_in(&options.command, &mut running)?;
    println!("over SSH: {}", answer.trim().replace('\n', ", "));
    place.log_in("systemctl poweroff --no-block", &mut running)?;
    running.end()?;
    say("logged in and switched off", began);

    let info = recorded::replay(&revirt, &recording, &console)?;
    println!("the log: {} bytes", info["log_bytes"]);
    Ok(())
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
