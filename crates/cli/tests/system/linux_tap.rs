//! A TAP interface, in a network namespace: Debian's kernel behind it, and what stands in the way of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use crate::linux_disks::md5sum;
use crate::linux_net::{LIMIT, assert_replays, links, numbers, record_of, refused_of, sums};
use crate::namespace::{GUEST, Namespace, TAP};
use crate::revirt::{Running, command, console_machine, scratch, started_by, with};

/// Gives the guest its address; nobody else does.
const SET_UP: &str = "ip addr add 10.1.0.2/24 dev eth0; ";

fn record(namespace: &Namespace, dir: &Path, program: &str) -> Running {
    let net = format!("tap={TAP}");
    record_of(
        dir,
        &[SET_UP, program].concat(),
        &["--net", &net],
        |command| namespace.enter(&command),
    )
}

/// Runs busybox in the namespace until it is content.
fn insist(namespace: &Namespace, arguments: &[&str], input: Option<&Path>) -> Output {
    let began = Instant::now();
    loop {
        let output = namespace.busybox(arguments, input);
        if output.status.success() {
            return output;
        }
        assert!(began.elapsed() < LIMIT, "{arguments:?}: {output:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_guest_on_a_tap_interface_is_pinged_serves_and_is_served_and_replays_without() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (folder, dir) = scratch();
    let file = folder.path().join("numbers");
    let numbers = numbers(100_000);
    fs::write(&file, &numbers).expect("there is room");
    let program = "mkdir /tmp/www; seq 1 100000 >/tmp/www/numbers; httpd -p 80 -h /tmp/www; \
                   nc -l -p 81 | md5sum; cat /sys/class/net/eth0/mtu; ping -c 2 10.1.0.1; echo all is done";
    let running = record(&namespace, &dir, program);
    insist(&namespace, &["ping", "-c", "3", GUEST], None);
    let url = format!("http://{GUEST}/numbers");
    let page = insist(&namespace, &["wget", "-q", "-O", "-", &url], None);
    assert_eq!(page.stdout, numbers.as_bytes());
    insist(&namespace, &["nc", GUEST, "81"], Some(&file));
    let recorded = running.end().expect(0);
    assert_eq!(recorded.json()["reason"], "powered-off");
    assert_eq!(sums(&recorded), [md5sum(&file)]);
    let text = recorded.text().replace('\r', "");
    assert!(text.contains("\n1500\n"), "the interface's: {text}");
    assert!(text.contains("2 packets received"), "{text}");
    assert!(text.contains("all is done"), "{text}");
    assert_replays(&dir, &recorded, &["jit", "interp"]);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_tap_interface_that_goes_down_loses_frames_and_one_that_is_deleted_takes_the_link_along() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let (_folder, dir) = scratch();
    let program = "while [ $(cat /sys/class/net/eth0/carrier) = 1 ]; do ping -c 1 -W 1 10.1.0.1 >/tmp/said; done; \
                   echo the link is down";
    let running = record(&namespace, &dir, program);
    insist(&namespace, &["ping", "-c", "1", GUEST], None);
    insist(&namespace, &["ifconfig", TAP, "down"], None);
    std::thread::sleep(Duration::from_secs(2));
    insist(&namespace, &["ifconfig", TAP, "up"], None);
    insist(&namespace, &["ping", "-c", "1", GUEST], None);
    insist(&namespace, &["ip", "link", "del", TAP], None);
    let recorded = running.end().expect(0);
    assert!(recorded.text().contains("the link is down"));
    assert_replays(&dir, &recorded, &["jit"]);
    assert_eq!(links(&dir), [true, false], "put in, pulled out");
}

#[test]
fn a_tap_interface_that_can_t_be_used_is_told_before_anything_is_recorded() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let said = |name: &str| {
        let net = format!("tap={name}");
        refused_of(&["--net", &net], |command| namespace.enter(&command))
    };
    let missing = said("no-such-tap");
    assert!(missing.contains("No such device"), "{missing}");
    assert!(
        missing.contains("ip tuntap add no-such-tap mode tap user $USER"),
        "{missing}"
    );
    let long = said("a-name-that-is-too-long");
    assert!(long.contains("No such device"), "{long}");
    let other = said("lo");
    assert!(other.contains("lo can't be used"), "{other}");
    // Somebody has it already.
    let (_folder, dir) = scratch();
    let verb = ["record".into(), "-o".into(), dir.into_os_string()];
    let mut arguments = with(&verb, console_machine());
    arguments.extend(["--net".into(), format!("tap={TAP}").into()]);
    let mut first = Running::start(&mut namespace.enter(&command(&arguments)));
    first.wait_for("ready");
    // It sleeps for long enough.
    first.type_in(&[b's'; 30]);
    let taken = said(TAP);
    assert!(taken.contains("busy"), "{taken}");
    first.signal("INT");
    first.end().expect(0);
}

#[test]
fn a_host_that_gives_its_user_no_tap_interfaces_is_told_before_anything_is_recorded() {
    let Some(namespace) = Namespace::new() else {
        return;
    };
    let folder = tempfile::tempdir().expect("there is room");
    let closed = folder.path().join("tun");
    fs::write(&closed, "").expect("there is room");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).expect("it is ours");
    // Root in a namespace may open everything that is its own, unless it gives that up.
    let script = "mount --bind \"$0\" /dev/net/tun && exec setpriv --bounding-set=-all --inh-caps=-all \"$@\"";
    let net = format!("tap={TAP}");
    let said = refused_of(&["--net", &net], |command| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh", "-c", script]).arg(&closed);
        namespace.enter(&started_by(unshare, &command))
    });
    assert!(said.contains("Permission denied"), "{said}");
    assert!(said.contains("as root with `ip tuntap add"), "{said}");
}
