//! Debian's kernel, recorded and replayed.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::revirt::{Ran, Running, command, guests, on, scratch};

/// A boot and a little work, on a machine that has other things to do.
const LIMIT: Duration = Duration::from_secs(400);

fn linux(arguments: &[&str], input: &[u8]) -> Ran {
    let mut running = Running::start(&mut command(arguments)).within(LIMIT);
    running.type_all(input.to_vec());
    running.end()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}

/// Records `program`, run by the default guest without input.
fn record_program(dir: &Path, program: &str, options: &[&str]) -> Ran {
    let append = format!("console=ttyS0 revirt.run=\"{program}\"");
    let arguments = ["record", "--json", "--append", &append, "-o", text(dir)];
    linux(&[&arguments[..], options].concat(), b"").expect(0)
}

fn replay_linux(dir: &Path, options: &[&str]) -> Ran {
    linux(&[&["replay", "--json", text(dir)], options].concat(), b"")
}

/// The recording replays on either engine: the replay's own checks agree, and
/// so does what was printed, to the byte.
fn replays(dir: &Path, recorded: &Ran) {
    for engine in ["jit", "interp"] {
        let replayed = replay_linux(dir, &["--engine", engine]).expect(0);
        assert_eq!(replayed.text(), recorded.text(), "{engine}");
        let json = replayed.json();
        assert_eq!(json["outcome"], "complete", "{engine}");
        assert_eq!(json["reason"], recorded.json()["reason"], "{engine}");
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_session_at_the_shell_replays_to_the_byte() {
    let (_folder, dir) = scratch();
    let recorded = linux(
        &["record", "--json", "-o", text(&dir)],
        b"uname -sr\necho two plus three is $((2+3))\nexit\n",
    );
    let recorded = recorded.expect(0);
    assert_eq!(recorded.json()["reason"], "powered-off");
    assert!(
        recorded.text().contains("two plus three is 5"),
        "{}",
        recorded.text()
    );
    replays(&dir, &recorded);
    on("verify", &dir, &[]).expect(0);
}

/// Both engines side by side through a whole boot and a 32-bit program, compared
/// at each branch.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_whole_boot_is_the_same_on_both_engines_branch_by_branch() {
    let (_folder, dir) = scratch();
    let recorded = record_program(&dir, "ia32", &[]);
    let replayed = replay_linux(&dir, &["--engine", "lockstep"]).expect(0);
    assert_eq!(replayed.text(), recorded.text());
}

/// What a program of the default guest printed: the lines between `from` and
/// `to`.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let (_, after) = text.split_once(from).expect("the program began");
    let (lines, _) = after.split_once(to).expect("the program ended");
    lines
}

/// ReVirt's own experiments: two processes that race for a variable, and one
/// that a timer's signal interrupts.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn five_recordings_of_races_and_signals_differ_and_each_replays() {
    let mut races = HashSet::new();
    let mut signals = HashSet::new();
    // One goes from the interpreter to the translator, one the other way.
    for (recorder, replayer) in [
        ("jit", "jit"),
        ("jit", "interp"),
        ("jit", "jit"),
        ("interp", "jit"),
        ("jit", "jit"),
    ] {
        let (_folder, dir) = scratch();
        let program = "race 5; echo then signals; signal 5";
        let recorded = record_program(&dir, program, &["--engine", recorder]);
        let replayed = replay_linux(&dir, &["--engine", replayer]).expect(0);
        assert_eq!(replayed.text(), recorded.text());
        let text = recorded.text();
        races.insert(between(&text, "ReVirt guest ready.", "then signals").to_owned());
        signals
            .insert(between(&text, "then signals", "ReVirt guest: the command ended").to_owned());
    }
    assert_eq!(races.len(), 5, "{races:?}");
    assert_eq!(signals.len(), 5, "{signals:?}");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn debians_generic_kernel_with_four_gib_replays() {
    let (_folder, dir) = scratch();
    let kernel = guests()
        .kernel(guests::Kernel::Generic)
        .expect("apt fetches it");
    let initrd = guests().initrd_gz().expect("gcc builds it");
    let options: [OsString; 6] = [
        "--memory".into(),
        "4G".into(),
        "--kernel".into(),
        kernel.into(),
        "--initrd".into(),
        initrd.into(),
    ];
    let options: Vec<&str> = options
        .iter()
        .map(|option| option.to_str().expect("a plain path"))
        .collect();
    let recorded = record_program(&dir, "uname -a; free", &options);
    replays(&dir, &recorded);
}

/// Records the default guest and waits for its shell.
fn start_shell(dir: &Path) -> Running {
    let arguments = ["record", "--json", "--grace", "300", "-o", text(dir)];
    let mut running = Running::start(&mut command(&arguments)).within(LIMIT);
    running.wait_for("guest# ");
    running
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn the_power_button_switches_linux_off() {
    let (_folder, dir) = scratch();
    let running = start_shell(&dir);
    running.signal("TERM");
    let recorded = running.end().expect(0);
    assert_eq!(recorded.json()["reason"], "powered-off");
    assert!(
        recorded.text().contains("the power button was pressed"),
        "{}",
        recorded.text()
    );
    replays(&dir, &recorded);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn linux_reboots_within_its_recording() {
    let (_folder, dir) = scratch();
    let mut running = start_shell(&dir);
    running.type_in(b"sleep 3; date +%s.before; cat /proc/sys/kernel/random/uuid; reboot -f\n");
    running.wait_for("reboot: Restarting system");
    running.wait_for_another("guest# ");
    running.type_in(b"date +%s.after; cat /proc/sys/kernel/random/uuid; exit\n");
    let recorded = running.end().expect(0);
    let json = recorded.json();
    assert_eq!(
        (&json["reason"], &json["resets"]),
        (&"powered-off".into(), &1.into())
    );
    let console = recorded.text();
    let [before, after] = [".before", ".after"].map(|mark| date_before(&console, mark));
    // The machine boots within a second or two: one whose clock began again
    // would be back before the sleep.
    assert!(before <= after, "time goes on: {before} {after}");
    replays(&dir, &recorded);
    on("verify", &dir, &[]).expect(0);
}

/// The seconds that `date` printed at the start of a line, with `mark` behind.
fn date_before(console: &str, mark: &str) -> u64 {
    let mut numbers = console
        .lines()
        .filter_map(|line| line.trim_end().strip_suffix(mark)?.parse().ok());
    numbers.next().expect("`date` printed it")
}

/// A kernel that patches its own code (static keys, function tracing), an
/// interpreter, and a guest that translates at run time. The judge of what the
/// two programs print is the host, which runs the same files.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_guest_that_patches_itself_python_and_luajit_replay() {
    const WORK: [&str; 2] = ["python-pure", "luajit-work"];
    let tools = guests().tools().expect("apt fetches Debian's programs");
    let expected = WORK.map(|name| on_the_host(&tools, name));
    let (_folder, dir) = scratch();
    let program = format!("toggles 2; {}", WORK.join("; "));
    let options = [
        "--kernel",
        text(&tools.guest.kernel),
        "--initrd",
        text(&tools.guest.initrd),
    ];
    let recorded = record_program(&dir, &program, &options);
    let console = recorded.text();
    assert!(
        console.contains("toggled, and functions were traced"),
        "{console}"
    );
    for line in expected {
        assert!(
            console.replace('\r', "").contains(&line),
            "no `{line}` in: {console}"
        );
    }
    replays(&dir, &recorded);
}

/// What the piece of work `name` prints on the host.
fn on_the_host(tools: &guests::Tools, name: &str) -> String {
    assert!(tools.names.contains(&name), "{name}");
    let folder = tempfile::tempdir().expect("there is room");
    let called = folder.path().join(name);
    std::os::unix::fs::symlink(&tools.script, &called).expect("a link");
    let output = std::process::Command::new(called)
        .env("TOOLS_ROOT", &tools.root)
        .env("TOOLS_WORK", folder.path())
        .output()
        .expect("the script runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The kernel switches AVX on, user code uses it across context switches and
/// signals, and silicon is the judge again.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn an_x86_64_v3_processor_does_what_silicon_does_and_replays() {
    if !is_x86_feature_detected!("avx2") || !is_x86_feature_detected!("fma") {
        // Such a machine is refused here: `silicon` has a test of that.
        return;
    }
    let (_folder, dir) = scratch();
    let program = format!("dmesg | grep x86/fpu; echo then; {}", guests::WIDE);
    let recorded = record_program(&dir, &program, &["--cpu", "v3"]);
    let console = recorded.text().replace('\r', "");
    assert!(console.contains("AVX registers"), "{console}");
    let printed = between(&console, "then\n", "ReVirt guest: the command ended");
    assert_eq!(printed.trim_start_matches("then\n"), guests::WIDE_EXPECTED);
    replays(&dir, &recorded);
    let info = on("info", &dir, &[]).expect(0).json();
    assert_eq!(info["manifest"]["machine"]["cpu"], "v3");
}

#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn a_program_for_x86_64_v3_finds_an_x86_64_v2_processor() {
    let (_folder, dir) = scratch();
    let recorded = record_program(&dir, guests::WIDE, &[]);
    let text = recorded.text();
    assert!(text.contains("this is no x86-64-v3 processor"), "{text}");
}

/// The judge is silicon: `guests::CHECKS_EXPECTED` is what these programs print
/// on a processor that is not ours.
#[test]
#[cfg_attr(debug_assertions, ignore = "boots Linux: needs a release build")]
fn the_checks_print_what_silicon_prints_and_replay() {
    let (_folder, dir) = scratch();
    let recorded = record_program(&dir, guests::CHECKS, &[]);
    let console = recorded.text().replace('\r', "");
    let printed = console.find("== code").map(|at| &console[at..]);
    let printed = printed.and_then(|text| text.split_inclusive("== end\n").next());
    assert_eq!(printed, Some(guests::CHECKS_EXPECTED));
    replays(&dir, &recorded);
}
