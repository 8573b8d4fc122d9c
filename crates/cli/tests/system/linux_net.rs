//! Debian's kernel on a network: through passt, and beside another machine.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::linux_disks::md5sum;
use crate::revirt::{Ran, Running, command, console_machine, guests, on, scratch, with};

pub(crate) const LIMIT: Duration = Duration::from_secs(400);

/// `PATH`, with `folder` in front.
fn path_with(folder: &Path) -> OsString {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path);
    std::env::join_paths([folder.to_owned()].into_iter().chain(folders)).expect("plain paths")
}

fn passt() -> PathBuf {
    guests().passt().expect("Debian's package can be fetched")
}

/// Starts to record `program`, run by the default guest, with passt in reach.
fn record(dir: &Path, program: &str, options: &[&str]) -> Running {
    record_with(&passt(), dir, program, options)
}

fn record_with(tools: &Path, dir: &Path, program: &str, options: &[&str]) -> Running {
    record_of(dir, program, options, |mut command| {
        command.env("PATH", path_with(tools));
        command
    })
}

/// The same, by the command that `dress` makes of ours.
pub(crate) fn record_of(
    dir: &Path,
    program: &str,
    options: &[&str],
    dress: impl FnOnce(Command) -> Command,
) -> Running {
    let append = format!("console=ttyS0 quiet revirt.run=\"{program}\"");
    let place = dir.to_str().expect("a plain path");
    let arguments = ["record", "--json", "--append", &append, "-o", place];
    let command = command(&[&arguments[..], options].concat());
    let mut running = Running::start(&mut dress(command)).within(LIMIT);
    running.type_all(Vec::new());
    running
}

/// Replays `dir` on `engines`, without any program in reach, and compares.
pub(crate) fn assert_replays(dir: &Path, recorded: &Ran, engines: &[&str]) {
    for engine in engines {
        let place = dir.to_str().expect("a plain path");
        let mut command = command(&["replay", "--json", "--engine", engine, place]);
        let mut running = Running::start(command.env("PATH", "/nowhere")).within(LIMIT);
        running.type_all(Vec::new());
        let replayed = running.end().expect(0);
        assert_eq!(replayed.text(), recorded.text());
        assert_eq!(replayed.json()["outcome"], "complete");
    }
    on("verify", dir, &[]).expect(0);
}

/// The sums that `md5sum` printed.
pub(crate) fn sums(ran: &Ran) -> Vec<String> {
    let text = ran.text().replace('\r', "");
    let sums = text.lines().filter_map(|line| line.strip_suffix("  -"));
    sums.map(str::to_owned).collect()
}

/// The numbers to `last`, a line each: what `seq 1 LAST` prints.
pub(crate) fn numbers(last: u32) -> String {
    (1..=last).map(|n| format!("{n}\n")).collect()
}

/// Whether the link of the only card was up, each time that this is in the log.
pub(crate) fn links(dir: &Path) -> Vec<bool> {
    let log = on("log", dir, &["--kind", "input"]).expect(0).json();
    let events = log["events"].as_array().expect("there are events");
    let links = events.iter().filter(|event| event["door"] == "link");
    let is_up = |text: &str| match text {
        "\\x00\\x00" => false,
        "\\x00\\x01" => true,
        other => panic!("what is {other}?"),
    };
    links
        .map(|event| is_up(event["text"].as_str().expect("a text")))
        .collect()
}

/// A port that nobody has now.
fn free_port() -> u16 {
    free_port_of(Ipv4Addr::LOCALHOST.into())
}

fn free_port_of(address: IpAddr) -> u16 {
    let listener = TcpListener::bind((address, 0)).expect("there are ports");
    listener.local_addr().expect("it is bound").port()
}

/// Fetches `path` from port `port`, again and again until the guest serves.
fn fetch(port: u16, path: &str) -> Vec<u8> {
    fetch_from((Ipv4Addr::LOCALHOST, port).into(), path)
}

fn fetch_from(address: SocketAddr, path: &str) -> Vec<u8> {
    let began = Instant::now();
    while began.elapsed() < LIMIT {
        let answer = TcpStream::connect(address).and_then(|mut stream| {
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes())?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).map(|_| answer)
        });
        match answer {
            Ok(answer) if !answer.is_empty() => return answer,
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
    panic!("the guest serves nothing");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_page_is_fetched_from_the_guest_and_a_replay_is_equal_without_a_network() {
    let (folder, dir) = scratch();
    let ports = [free_port(), free_port()];
    let program = "mkdir /tmp/www; seq 1 100000 >/tmp/www/numbers; httpd -p 80 -h /tmp/www; \
                   ip addr show eth0; nc -l -p 81 | md5sum; echo all is done";
    let forwards = [format!("{}:80", ports[0]), format!("tcp:{}:81", ports[1])];
    let options = ["--forward", &forwards[0], "--forward", &forwards[1]];
    let running = record(&dir, program, &options);
    let answer = fetch(ports[0], "/numbers");
    let numbers = numbers(100_000);
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    assert!(answer.ends_with(numbers.as_bytes()));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, ports[1])).expect("passt listens");
    stream.write_all(numbers.as_bytes()).expect("it is read");
    drop(stream);
    let recorded = running.end().expect(0);
    assert_eq!(recorded.json()["reason"], "powered-off");
    let text = recorded.text();
    assert!(text.contains("inet 10.0.2.15/24"), "{text}");
    assert!(text.contains("all is done"), "{text}");
    let file = folder.path().join("numbers");
    fs::write(&file, &numbers).expect("there is room");
    assert_eq!(sums(&recorded), [md5sum(&file)]);
    assert_replays(&dir, &recorded, &["jit", "interp"]);
    let info = on("info", &dir, &[]).expect(0).json();
    assert_eq!(info["manifest"]["nics"][0]["mac"], "52:56:54:00:00:00");
    let received = info["doors"]["network"]["bytes"].as_u64();
    assert!(
        received.is_some_and(|bytes| bytes > numbers.len() as u64),
        "{info}"
    );
}

/// This host's own address, if it is one that has a way out by IPv6.
fn address6() -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).ok()?;
    // Nothing is sent. The address is one of those that are kept for examples.
    socket.connect("[2001:db8::1]:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn by_ipv6_a_guest_reaches_the_host_and_serves() {
    let Some(here) = address6() else {
        eprintln!("SKIPPED: this host has no IPv6 route, so passt gives the guest no IPv6");
        return;
    };
    let (_folder, dir) = scratch();
    let listener = TcpListener::bind((here, 0)).expect("there are ports");
    let port = listener.local_addr().expect("it is bound").port();
    // It leaves its end open for a while: Debian 12's passt, once the guest has
    // closed its own, never tells it that the host has, too.
    let program = format!(
        "until ip -6 route | grep -q default; do sleep 1; done; sleep 3; ip addr show eth0; \
         (echo from the guest; sleep 5) | nc {here} {port}; \
         echo it works >/tmp/page; httpd -p [::]:80 -h /tmp; \
         until [ -e /tmp/end ]; do nc -l -p 81 >/tmp/end; done"
    );
    let localhost = IpAddr::from(Ipv6Addr::LOCALHOST);
    let forward = SocketAddr::from((Ipv6Addr::LOCALHOST, free_port_of(localhost)));
    let end = free_port();
    let forwards = [format!("{forward}:80"), format!("{end}:81")];
    let options = ["--forward", &forwards[0], "--forward", &forwards[1]];
    let running = record(&dir, &program, &options);
    let (mut guest, _) = listener.accept().expect("the guest connects");
    guest.write_all(b"from the host\n").expect("it is read");
    let mut text = [0; 15];
    guest.read_exact(&mut text).expect("the guest speaks");
    drop(guest);
    assert_eq!(&text, b"from the guest\n");
    let page = fetch_from(forward, "/page");
    assert!(page.ends_with(b"it works\n"));
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, end)).expect("passt listens");
    stream.write_all(b"end\n").expect("it is read");
    drop(stream);
    let recorded = running.end().expect(0);
    let text = recorded.text();
    assert!(
        text.contains("inet6 fd72:7669:7274:0:5056:54ff:fe00:0/64"),
        "{text}"
    );
    assert!(text.contains("from the host"), "{text}");
    assert_replays(&dir, &recorded, &["jit"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn two_machines_on_a_socket_talk_and_each_replays_alone() {
    let (folder, one) = scratch();
    let two = folder.path().join("other");
    let net = format!("socket={}", folder.path().join("wire").display());
    // Both ways at a time. This nc ends, whatever it has still to send, when the other end has sent all: who receives
    // sends nothing, from a pipe that stays open.
    let server = "ip addr add 10.1.0.1/24 dev eth0; mkfifo /tmp/nothing; nc -l -p 8 </bin/busybox & \
                  nc -l -p 7 <>/tmp/nothing | md5sum; wait";
    let client = "ip addr add 10.1.0.2/24 dev eth0; mkfifo /tmp/nothing; seq 1 200000 >/tmp/numbers; \
                  until nc 10.1.0.1 7 </tmp/numbers; do sleep 1; done & \
                  until nc 10.1.0.1 8 <>/tmp/nothing >/tmp/got; do sleep 1; done; wait; \
                  md5sum </tmp/numbers; md5sum </tmp/got; md5sum </bin/busybox";
    let serving = record(&one, server, &["--net", &net]);
    let fetching = record(&two, client, &["--net", &net]);
    let served = serving.end().expect(0);
    let fetched = fetching.end().expect(0);
    let [numbers, got, busybox] = sums(&fetched).try_into().expect("three of them");
    assert_eq!(sums(&served), [numbers]);
    assert_eq!(got, busybox);
    assert_replays(&one, &served, &["jit"]);
    assert_replays(&two, &fetched, &["jit"]);
}

/// A folder with a `passt` that is Debian's, and writes its number to `pid`.
fn passt_with_pid(folder: &Path) -> (PathBuf, PathBuf) {
    let tools = folder.join("tools");
    let pid = folder.join("pid");
    fs::create_dir(&tools).expect("there is room");
    // As root it becomes another user, who must be able to write there.
    fs::write(&pid, "").expect("there is room");
    for (path, mode) in [(folder, 0o755), (pid.as_path(), 0o666)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }
    let script = format!(
        "#!/bin/sh\nexec {}/passt \"$@\" --pid {}\n",
        passt().display(),
        pid.display()
    );
    let path = tools.join("passt");
    fs::write(&path, script).expect("there is room");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    (tools, pid)
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_guest_whose_passt_dies_goes_on_and_gets_another() {
    let (folder, dir) = scratch();
    let (tools, pid) = passt_with_pid(folder.path());
    let program = "echo carrier $(cat /sys/class/net/eth0/carrier); \
                   while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done; echo the link is down; \
                   until [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 0.1; done; echo the link is up";
    let mut running = record_with(&tools, &dir, program, &["--net", "passt"]);
    running.wait_for("carrier 1");
    let pid = fs::read_to_string(pid).expect("it was written");
    let killed = Command::new("kill").args(["-KILL", pid.trim()]).status();
    assert!(killed.expect("kill can be run").success());
    let recorded = running.end().expect(0);
    for said in ["the link is down", "the link is up"] {
        assert!(recorded.text().contains(said), "{}", recorded.text());
    }
    assert_eq!(recorded.json()["reason"], "powered-off");
    assert_replays(&dir, &recorded, &["jit"]);
    assert_eq!(links(&dir), [true, false, true], "pulled out, put in");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_hostile_peer_sends_frames_of_all_lengths_and_then_nonsense() {
    let (folder, dir) = scratch();
    let path = folder.path().join("wire");
    let listener = UnixListener::bind(&path).expect("there is room");
    let net = format!("socket={}", path.display());
    let program =
        "while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do sleep 1; done; ifconfig eth0";
    let mut running = record(&dir, program, &["--net", &net]);
    let (mut stream, _) = listener.accept().expect("it connects");
    drop(listener);
    running.wait_for("ReVirt guest ready");
    for length in [
        0, 1, 13, 14, 15, 60, 1514, 40_000, 65_534, 65_538, 65_539, 65_553,
    ] {
        let frame = vec![0xff; length as usize];
        let head = u32::to_be_bytes(length);
        let written = stream.write_all(&[&head[..], &frame].concat());
        written.expect("the other end reads");
    }
    // Longer than any frame: nothing that follows can be believed.
    stream.write_all(&[0xff; 100]).expect("the other end reads");
    let recorded = running.end().expect(0);
    assert!(
        recorded.text().contains("RX packets:"),
        "{}",
        recorded.text()
    );
    assert_replays(&dir, &recorded, &["jit"]);
}

/// A broadcast of nothing much, behind its length.
fn broadcast() -> Vec<u8> {
    let frame = [&[0xff; 6][..], &[0x52, 0x56, 0, 0, 0, 9], &[0; 48]].concat();
    [&60u32.to_be_bytes()[..], &frame].concat()
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_peer_that_dies_within_a_frame_leaves_its_place_to_one_that_sends_in_pieces() {
    let (folder, dir) = scratch();
    let path = folder.path().join("wire");
    let listener = UnixListener::bind(&path).expect("there is room");
    let net = format!("socket={}", path.display());
    let program = "cd /sys/class/net/eth0; until [ $(cat statistics/rx_packets) = 1 ]; do sleep 1; done; \
                   echo one came; while [ $(cat carrier) = 1 ]; do sleep 1; done; echo now down; \
                   until [ $(cat carrier) = 1 ]; do sleep 1; done; echo up again; \
                   until [ $(cat statistics/rx_packets) = 3 ]; do sleep 1; done; echo three came";
    let mut running = record(&dir, program, &["--net", &net]);
    let (mut first, _) = listener.accept().expect("it connects");
    drop(listener);
    running.wait_for("ReVirt guest ready");
    let frame = broadcast();
    first.write_all(&frame).expect("the other end reads");
    running.wait_for("one came");
    first.write_all(&frame[..40]).expect("the other end reads");
    drop(first);
    // It looks once a second.
    running.wait_for("now down");
    let mut second = connect(&path);
    running.wait_for("up again");
    for piece in [&frame, &frame]
        .into_iter()
        .flat_map(|frame| frame.chunks(7))
    {
        second.write_all(piece).expect("the other end reads");
        std::thread::sleep(Duration::from_millis(5));
    }
    let recorded = running.end().expect(0);
    assert!(recorded.text().contains("three came"));
    assert_replays(&dir, &recorded, &["jit"]);
    assert_eq!(links(&dir)[..3], [true, false, true]);
}

/// Connects to a machine that may not listen yet.
fn connect(path: &Path) -> UnixStream {
    let began = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(stream) => return stream,
            Err(error) => assert!(began.elapsed() < LIMIT, "nobody listens: {error}"),
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A folder with a `passt` that does what `script` says.
fn passt_that(script: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("there is room");
    let path = folder.path().join("passt");
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("there is room");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it is ours");
    folder
}

#[test]
fn a_passt_that_does_not_start_is_told_with_its_own_words() {
    let said_with = |tools: &Path| refused(tools.to_str().expect("plain"), &["--net", "passt"]);
    let tools = passt_that("echo No external routable interface for any IP protocol >&2; exit 1");
    let said = said_with(tools.path());
    assert!(said.contains("passt did not start (No external"), "{said}");
    let tools = passt_that("exit 3");
    let said = said_with(tools.path());
    assert!(said.contains("passt did not start (it said"), "{said}");
    let path = tools.path().join("passt");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("it is ours");
    let said = said_with(tools.path());
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("--net none"), "{said}");
}

#[test]
fn a_guest_whose_passt_has_gone_before_it_began_runs_without_a_link() {
    let (_folder, dir) = scratch();
    let tools = passt_that("exit 0");
    let verb = [OsString::from("record"), "--json".into(), "-o".into()];
    let mut arguments = with(&verb, vec![dir.clone().into()]);
    arguments.extend(console_machine());
    arguments.extend(["--net".into(), "passt".into()]);
    let path = path_with(tools.path());
    let mut running = Running::start(command(&arguments).env("PATH", path));
    running.type_all(b"scq".to_vec());
    let recorded = running.end().expect(0);
    assert!(recorded.text().contains("counted"), "{}", recorded.text());
    assert_replays(&dir, &recorded, &["jit", "interp"]);
    // Others are started, and go as well; a quick run doesn't see them.
    let links = links(&dir);
    assert_eq!(links[..2], [true, false], "put in, pulled out");
    assert!(links.len() <= 6, "three were enough: {links:?}");
}

/// Records a bare kernel with `options`; it must not come to that.
fn refused(path: &str, options: &[&str]) -> String {
    refused_of(options, |mut command| {
        command.env("PATH", path);
        command
    })
}

/// The same, by the command that `dress` makes of ours.
pub(crate) fn refused_of(options: &[&str], dress: impl FnOnce(Command) -> Command) -> String {
    let (_folder, dir) = scratch();
    let verb = [OsString::from("record"), "-o".into(), dir.clone().into()];
    let mut arguments = with(&verb, console_machine());
    arguments.extend(options.iter().map(OsString::from));
    let mut running = Running::start(&mut dress(command(&arguments)));
    running.type_all(Vec::new());
    let ran = running.end().expect(2);
    assert!(!dir.exists(), "nothing is left behind");
    ran.stderr
}

#[test]
fn what_stands_in_the_way_of_a_network_is_told_before_anything_is_recorded() {
    let tools = path_with(&passt());
    let tools = tools.to_str().expect("plain paths");
    let said = refused("/nowhere", &["--net", "passt"]);
    assert!(said.contains("sudo apt-get install passt"), "{said}");
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("there are ports");
    let port = taken.local_addr().expect("it is bound").port();
    let said = refused(tools, &["--forward", &format!("{port}:80")]);
    let told = format!("port 127.0.0.1:{port}:80 can't be forwarded");
    assert!(said.contains(&told), "{said}");
    let said = refused(tools, &["--net", "tap=no-such-tap"]);
    assert!(said.contains("ip tuntap add no-such-tap"), "{said}");
    let said = refused(tools, &["--net", "socket=/nowhere/wire"]);
    assert!(said.contains("name a path where you may write"), "{said}");
    let said = refused(tools, &["--net", "none", "--forward", "8080:80"]);
    assert!(said.contains("say --net passt"), "{said}");
    let said = refused(tools, &["--net", "passt,mtu=20"]);
    assert!(said.contains("from 68 to 65535"), "{said}");
}
