//! A network namespace with a TAP interface in it, which needs no root on most hosts.

use anyhow::{Context as _, ensure};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The interface.
pub(crate) const TAP: &str = "revirt0";
/// The host's address there, and one for a guest.
const HOST: &str = "10.1.0.1";
pub(crate) const GUEST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);

/// A namespace, for as long as this lives.
pub(crate) struct Namespace {
    /// A shell in it, which waits for the end of its input.
    holder: Child,
}

impl Namespace {
    /// Makes one with `busybox`, Debian's static one.
    pub(crate) fn new(busybox: &Path) -> anyhow::Result<Namespace> {
        let script = format!(
            "set -e; $0 tunctl -t {TAP} >/dev/null; $0 ifconfig {TAP} {HOST} netmask 255.255.255.0 up; \
             $0 ifconfig lo up; echo ready; read end"
        );
        let mut holder = Command::new("unshare")
            .args(["--user", "--map-root-user", "--net", "--"])
            .args(["sh", "-c", &script])
            .arg(busybox)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("unshare can't be started: apt-get install util-linux")?;
        let mut said = String::new();
        let stdout = holder.stdout.as_mut().context("it is piped")?;
        BufReader::new(stdout).read_line(&mut said)?;
        ensure!(
            said == "ready\n",
            "this host gives us no namespace with a TAP interface"
        );
        Ok(Namespace { holder })
    }

    /// `program`, in here.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut enter = Command::new("nsenter");
        enter.args(["--user", "--net", "--preserve-credentials"]);
        enter.args(["--target", &self.holder.id().to_string(), "--"]);
        enter.arg(program);
        enter
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Its input ends.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
    }
}
