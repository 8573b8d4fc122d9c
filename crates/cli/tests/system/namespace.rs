//! A network namespace with a TAP interface: a network that is ours alone, to be had without root on most hosts.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use crate::revirt::{guests, started_by};

/// The interface.
pub(crate) const TAP: &str = "revirt0";
/// The host's address there, and one for a guest.
const HOST: &str = "10.1.0.1";
pub(crate) const GUEST: &str = "10.1.0.2";

/// A namespace, for as long as this lives.
pub(crate) struct Namespace {
    /// A shell in it, which waits for the end of its input.
    holder: Child,
}

impl Namespace {
    /// `None`, with the reason printed, where the host lets us have no namespace or no TAP interface.
    pub(crate) fn new() -> Option<Namespace> {
        let unshare = || {
            let mut unshare = Command::new("unshare");
            unshare.args(["--user", "--map-root-user", "--net", "--"]);
            unshare
        };
        let tries = [
            ("namespaces", "true"),
            ("TAP interfaces", "exec 3<>/dev/net/tun"),
        ];
        for (what, script) in tries {
            let tried = unshare().args(["sh", "-c", script]).output();
            let tried = tried.expect("unshare is there: apt-get install util-linux");
            if !tried.status.success() {
                let said = String::from_utf8_lossy(&tried.stderr);
                eprintln!("SKIPPED: this host gives this user no {what}: {said}");
                return None;
            }
        }
        let script = format!(
            "set -e; $0 tunctl -t {TAP} >&2; $0 ifconfig {TAP} {HOST} netmask 255.255.255.0 up; \
             $0 ifconfig lo up; echo ready; read end"
        );
        let mut holder = unshare()
            .args(["sh", "-c", &script])
            .arg(busybox())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it was run before");
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().expect("it is piped");
        BufReader::new(stdout)
            .read_line(&mut said)
            .expect("it is text");
        if said != "ready\n" {
            let stderr = holder.stderr.as_mut().expect("it is piped");
            stderr.read_to_string(&mut said).expect("it is text");
            panic!("no TAP interface: {said}");
        }
        Some(Namespace { holder })
    }

    /// `command`, in here.
    pub(crate) fn enter(&self, command: &Command) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["--user", "--net", "--preserve-credentials"]);
        enter.args(["--target", &self.holder.id().to_string(), "--"]);
        started_by(enter, command)
    }

    /// Runs busybox in here, with `input` as its own.
    pub(crate) fn busybox(&self, arguments: &[&str], input: Option<&Path>) -> Output {
        let mut command = Command::new(busybox());
        command.args(arguments);
        let mut command = self.enter(&command);
        command.stdin(match input {
            Some(path) => Stdio::from(std::fs::File::open(path).expect("it is there")),
            None => Stdio::null(),
        });
        command.output().expect("nsenter is there")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its input ends.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}

fn busybox() -> impl AsRef<OsStr> {
    guests().busybox().expect("Debian's package can be fetched")
}
