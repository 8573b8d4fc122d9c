//! A Debian server, recorded while its Apache is loaded as far as it goes: through passt, or through a TAP interface in a
//! network namespace. Nothing may fail, and the replay must be what was recorded.

mod ab;
mod work;

use crate::host_load::AtRandom;
use crate::namespace::{GUEST, Namespace, TAP};
use crate::process::{revirt, target_folder};
use crate::recorded::{self, Place, Running, say};
use ab::Figures;
use anyhow::{Context as _, bail, ensure};
use guests::{Guests, Server, ServerOptions, build_server};
use serde_json::Value;
use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};
use work::Work;

/// What the server's console shows when root is logged in there.
const PROMPT: &str = "root@server:~#";
/// How often it is looked whether the load still runs.
const LOOK: Duration = Duration::from_millis(200);

/// What is asked for.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// How long the server is loaded.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How many requests are under way at once.
    #[arg(long, default_value_t = 8)]
    clients: u32,
    /// Through a TAP interface in a network namespace, and not through passt.
    #[arg(long)]
    tap: bool,
    /// Keep the host busy at random meanwhile.
    #[arg(long)]
    host_load: bool,
    /// Let the guest compile and write files meanwhile, and log in over SSH again and again.
    #[arg(long)]
    mixed: bool,
}

pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let revirt = revirt()?;
    let guests = Guests::of_the_tree(|line| eprintln!("{line}"));
    let server = server(options, &guests)?;
    let key = server.key.context("the image has a key beside it")?;
    let place = if options.tap {
        Place {
            address: GUEST,
            web: 80,
            ssh: 22,
            key,
            namespace: Some(Namespace::new(&guests.busybox()?)?),
        }
    } else {
        Place::forwarded(key)?
    };
    let folder = target_folder().join(if options.tap { "load-tap" } else { "load" });
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let (recording, console) = (folder.join("recording"), folder.join("console"));

    let began = Instant::now();
    let mut record = place.command(&revirt);
    record.args(["record", "--boot-from-disk", "--memory", "1G", "--disk"]);
    record.arg(&server.image).arg("-o").arg(&recording);
    record.args(network(&place));
    let mut running = Running::start(&mut record, &console)?;
    if options.tap {
        let up = format!("ip addr add {GUEST}/24 dev $(ls /sys/class/net | grep ^e)");
        running.type_at(PROMPT, &up)?;
    }
    place.log_in(
        "until curl -s localhost >/dev/null; do :; done",
        &mut running,
    )?;
    say("the server is up", began);

    let began = Instant::now();
    let busy = options.host_load.then(AtRandom::start);
    let mut work = options.mixed.then(|| Work::start(&place)).transpose()?;
    let figures = load(options, &place, &mut running, work.as_mut())?;
    let (work, logins) = work.map(|work| work.end(&place)).transpose()?.unzip();
    drop(busy);
    say("loaded", began);
    println!("{figures}");
    if let (Some(rounds), Some(logins)) = (work, logins) {
        println!("the guest's own work: {rounds} rounds; {logins} logins over SSH");
    }

    place.log_in("systemctl poweroff --no-block", &mut running)?;
    running.end()?;
    let info = recorded::replay(&revirt, &recording, &console)?;
    print_growth(&info);
    ensure!(figures.errors == 0, "{} requests failed", figures.errors);
    Ok(())
}

/// The image: that of `cargo xtask server`, or one with a compiler besides, which is kept.
fn server(options: &Options, guests: &Guests) -> anyhow::Result<Server> {
    if !options.mixed {
        return Ok(guests.server()?);
    }
    let folder = target_folder().join("load-image");
    let image = folder.join("server.img");
    if image.exists() {
        let key = Some(folder.join("server.img.key"));
        return Ok(Server { image, key });
    }
    fs::create_dir_all(&folder)?;
    let with_compiler = ServerOptions {
        include: ["gcc", "libc6-dev"].map(str::to_owned).into(),
        ..ServerOptions::default()
    };
    Ok(build_server(&image, &with_compiler, |line| {
        eprintln!("{line}")
    })?)
}

/// The machine's options for it.
fn network(place: &Place) -> Vec<String> {
    if place.namespace.is_some() {
        return vec!["--net".to_owned(), format!("tap={TAP}")];
    }
    [(place.web, 80), (place.ssh, 22)]
        .iter()
        .flat_map(|(host, guest)| ["--forward".to_owned(), format!("{host}:{guest}")])
        .collect()
}

/// Lets ApacheBench run for the time that is asked for.
fn load(
    options: &Options,
    place: &Place,
    running: &mut Running,
    mut work: Option<&mut Work>,
) -> anyhow::Result<Figures> {
    let url = format!("http://{}:{}/", place.address, place.web);
    let mut command = place.command("ab");
    command.args(ab::arguments(60 * options.minutes, options.clients));
    let mut ab = Ended(
        command
            .arg(&url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ab can't be started: apt-get install apache2-utils")?,
    );
    while ab.0.try_wait()?.is_none() {
        running.check()?;
        if let Some(work) = &mut work {
            work.look(place)?;
        }
        std::thread::sleep(LOOK);
    }
    let output = ab.output()?;
    let text =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    if !output.status.success() {
        bail!("ab ended with {}: {}", output.status, text[1].trim());
    }
    Figures::of(&text[0]).with_context(|| format!("what ab said makes no sense: {}", text[0]))
}

/// A process that is ended when nobody waits for it any more.
struct Ended(Child);

impl Ended {
    /// What it said, when it has ended. It says so little that no pipe fills up.
    fn output(&mut self) -> anyhow::Result<Output> {
        use std::io::Read as _;
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        if let Some(pipe) = &mut self.0.stdout {
            pipe.read_to_end(&mut stdout)?;
        }
        if let Some(pipe) = &mut self.0.stderr {
            pipe.read_to_end(&mut stderr)?;
        }
        let status = self.0.wait()?;
        Ok(Output {
            status,
            stdout,
            stderr,
        })
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        // One that has ended is no error.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the log took, and what it would take in a day of the same, by kind of event and door.
fn print_growth(info: &Value) {
    let number = |value: &Value| value.as_f64().unwrap_or_default();
    let days = number(&info["duration_ns"]) / 86_400e9;
    let line = |what: &str, bytes: f64| {
        println!(
            "{what:<24} {bytes:>14.0} bytes {:>9.3} GB a day",
            bytes / days / 1e9
        );
    };
    println!("{:.0} s of guest time:", days * 86_400.0);
    line("log", number(&info["log_bytes"]));
    line("before compression", number(&info["event_bytes"]));
    for (group, name) in [("kinds", "events"), ("doors", "inputs")] {
        for (kind, count) in info[group].as_object().into_iter().flatten() {
            if number(&count["bytes"]) > 0.0 {
                line(&format!("  {name}, {kind}"), number(&count["bytes"]));
            }
        }
    }
}
