//! The web server and the network, from the visitor's side: `ab` and `iperf3` on the host ask a server that runs on the
//! host itself, in our machine, recorded, or in QEMU.

use super::{APPEND, Real};
use crate::bench::subject::Subject;
use crate::process::succeed;
use crate::recorded::free_port;
use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many requests one visitor makes before any are counted, until whoever translates has done so; how many then; and
/// how many ten make at once.
const FIRST: u32 = 2000;
const ALONE: u32 = 1000;
const CROWD: u32 = 5000;
const CROWD_SIZE: u32 = 10;

/// How long data is sent each way, in seconds.
const STREAM_S: u32 = 5;

/// How often that is tried, a second apart.
const STREAM_TRIES: u32 = 10;

/// No server takes longer to start, on a loaded host.
const START_MAX: Duration = Duration::from_secs(300);
/// Nor to end.
const END_MAX: Duration = Duration::from_secs(120);

/// What the visitors saw of one subject.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    pub(super) subject: Subject,
    /// From the start to the first answer.
    pub(super) ready_s: f64,
    /// One visitor's mean time for a request.
    pub(super) alone_ms: f64,
    /// Requests a second of ten visitors at once.
    pub(super) requests_a_s: f64,
    /// What 99 in 100 of their requests took at most.
    pub(super) slow_ms: f64,
    /// Data into the server and out of it, in millions of bits a second.
    pub(super) in_mbit_s: f64,
    pub(super) out_mbit_s: f64,
}

impl Visit {
    pub(super) fn json(&self) -> Value {
        json!({
            "subject": self.subject.name(),
            "ready_s": self.ready_s,
            "alone_ms": self.alone_ms,
            "requests_a_s": self.requests_a_s,
            "slow_ms": self.slow_ms,
            "in_mbit_s": self.in_mbit_s,
            "out_mbit_s": self.out_mbit_s,
        })
    }
}

/// Starts `subject`'s server, visits it and ends it.
pub(super) fn visit(real: &Real, subject: Subject) -> anyhow::Result<Visit> {
    let ports = Ports {
        web: free_port()?,
        stream: free_port()?,
    };
    let began = Instant::now();
    let mut server = Server(Vec::new());
    for mut command in commands(real, subject, &ports)? {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        server.0.push(
            command
                .spawn()
                .with_context(|| format!("could not start {command:?}"))?,
        );
    }
    while !answers(ports.web) {
        server.check()?;
        ensure!(
            began.elapsed() < START_MAX,
            "no answer within {START_MAX:?}"
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    let ready_s = began.elapsed().as_secs_f64();
    ab(ports.web, FIRST, 1)?;
    let alone = ab(ports.web, ALONE, 1)?;
    let crowd = ab(ports.web, CROWD, CROWD_SIZE)?;
    let visit = Visit {
        subject,
        ready_s,
        alone_ms: number_behind(&alone, "Time per request:")?,
        requests_a_s: number_behind(&crowd, "Requests per second:")?,
        slow_ms: number_behind(&crowd, "99%")?,
        in_mbit_s: stream(ports.stream, false)?,
        out_mbit_s: stream(ports.stream, true)?,
    };
    server.end()?;
    Ok(visit)
}

/// Where the server is to be had on the host.
struct Ports {
    web: u16,
    stream: u16,
}

fn commands(real: &Real, subject: Subject, ports: &Ports) -> anyhow::Result<Vec<Command>> {
    let append = format!("{APPEND} {}", super::commands(&["serve"]));
    let forwards = [(ports.web, 80), (ports.stream, 5201)];
    Ok(match subject {
        Subject::Native => native(real, ports)?,
        Subject::Run | Subject::Record => {
            let mut command = real.machine(subject, &append)?;
            for (host, guest) in forwards {
                command.arg("--forward").arg(format!("{host}:{guest}"));
            }
            vec![command]
        }
        Subject::Qemu => {
            let mut command = real.qemu(&append);
            let forwards: Vec<_> = forwards
                .iter()
                .map(|(host, guest)| format!(",hostfwd=tcp:127.0.0.1:{host}-:{guest}"))
                .collect();
            command
                .arg("-netdev")
                .arg(format!("user,id=net{}", forwards.concat()));
            command.args(["-device", "virtio-net-pci,netdev=net"]);
            vec![command]
        }
        _ => bail!("{} has no visitors", subject.name()),
    })
}

/// The same Apache and iperf3 on the host, on ports of their own.
fn native(real: &Real, ports: &Ports) -> anyhow::Result<Vec<Command>> {
    let etc = real.workshop.tree().join("etc/apache2");
    let listen = format!("Listen 127.0.0.1:{}\nDocumentRoot /var/www/html", ports.web);
    let config =
        fs::read_to_string(etc.join("apache2.conf"))?.replace("Include ports.conf", &listen);
    fs::write(etc.join("native.conf"), config)?;
    let apache = ". /etc/apache2/envvars; mkdir -p $APACHE_RUN_DIR; exec apache2 -f native.conf -D FOREGROUND";
    let stream = ports.stream.to_string();
    Ok(vec![
        real.workshop.native(&["sh", "-c", apache]),
        real.workshop.native(&[
            "iperf3",
            "--server",
            "--bind",
            "127.0.0.1",
            "--port",
            &stream,
        ]),
    ])
}

/// The processes that serve.
struct Server(Vec<Child>);

impl Server {
    /// An error if one of them has ended.
    fn check(&mut self) -> anyhow::Result<()> {
        for child in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended too early: {status}");
            }
        }
        Ok(())
    }

    /// Presses their power buttons, and waits.
    fn end(mut self) -> anyhow::Result<()> {
        for child in &self.0 {
            succeed(Command::new("kill").arg(child.id().to_string()))?;
        }
        let began = Instant::now();
        for child in &mut self.0 {
            while child.try_wait()?.is_none() {
                ensure!(began.elapsed() < END_MAX, "the server does not end");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Whatever went wrong: nothing is left behind. One that has ended is no error.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn answers(port: u16) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("200 OK"))
}

/// What `ab` says of `requests` requests by `visitors` at once, none of which may fail.
fn ab(port: u16, requests: u32, visitors: u32) -> anyhow::Result<String> {
    let output = Command::new("ab")
        .args([
            "-q",
            "-n",
            &requests.to_string(),
            "-c",
            &visitors.to_string(),
        ])
        .arg(format!("http://127.0.0.1:{port}/"))
        .output()
        .context("apt-get install apache2-utils")?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let failed = number_behind(&said, "Failed requests:").context("ab failed")?;
    ensure!(failed == 0.0, "requests failed:\n{said}");
    Ok(said)
}

/// Megabits a second of one connection into the server, or out of it.
fn stream(port: u16, out: bool) -> anyhow::Result<f64> {
    let mut command = Command::new("iperf3");
    command.args([
        "--json",
        "-c",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-t",
        &STREAM_S.to_string(),
    ]);
    command.args(out.then_some("--reverse"));
    // QEMU takes connections to a server that doesn't listen yet, and resets them.
    let mut error = Value::Null;
    for _ in 0..STREAM_TRIES {
        let output = command.output().context("apt-get install iperf3")?;
        let said: Value = serde_json::from_slice(&output.stdout).context("iperf3's answer")?;
        if let Some(bits) = said["end"]["sum_received"]["bits_per_second"].as_f64() {
            return Ok(bits / 1e6);
        }
        error = said["error"].clone();
        std::thread::sleep(Duration::from_secs(1));
    }
    bail!("iperf3: {error}")
}

/// The first number behind `words`.
fn number_behind(text: &str, words: &str) -> anyhow::Result<f64> {
    let behind = text.split_once(words).map(|(_, behind)| behind);
    let number = behind.and_then(|behind| behind.split_whitespace().next());
    let number = number.and_then(|number| number.parse().ok());
    number.with_context(|| format!("no number behind `{words}` in:\n{text}"))
}
