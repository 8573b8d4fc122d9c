//! Shows a newcomer what ReVirt does: a Debian kernel is recorded, replayed and verified, with plain words in between.

use crate::process::{revirt, root, target_folder};
use anyhow::{Context as _, bail, ensure};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What is typed into the guest's shell.
const TYPED: &str = "uname -srv\nrace 4\nexit\n";

/// The line after which the shell reads what is typed.
const SHELL_IS_UP: &str = "list of built-in commands";

/// A command that has ended.
struct Ran {
    stdout: Vec<u8>,
    code: Option<i32>,
    took: Duration,
}

pub(crate) fn run() -> anyhow::Result<()> {
    let revirt = revirt()?;
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    let guest = guests.default_guest()?;
    let folder = target_folder().join("demo");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder)
        .with_context(|| format!("could not create {}", folder.display()))?;
    let recording = folder.join("recording");
    let command = |arguments: &[&OsStr]| {
        let mut command = Command::new(&revirt);
        command
            .args(arguments)
            .env("REVIRT_GUESTS", guests.folder())
            .current_dir(root());
        command
    };
    let at = recording.as_os_str();
    let verb = OsStr::new;

    println!(
        "\nThe guest: {}, as Debian ships it, and a shell.",
        tree_path(&guest.kernel)
    );
    say(&format!(
        "1. RECORD. A virtual machine whose processor is software boots it, and {} is typed.\n\
         `race` runs two processes that increment one variable without a lock: what it prints depends on the\n\
         instruction at which the kernel switches between them, and is different each time you try.\n\
         Everything that comes to the machine from outside is written down. (Booting takes a while.)",
        TYPED
            .trim_end()
            .split('\n')
            .map(|line| format!("`{line}`"))
            .collect::<Vec<_>>()
            .join(", ")
    ));
    let append = OsStr::new("console=ttyS0 quiet");
    let recorded = show(
        &mut command(&[verb("record"), verb("--append"), append, verb("-o"), at]),
        TYPED,
    )?;
    expect(&recorded, 0, "the recording")?;

    say(
        "2. REPLAY. The same again, from the recording alone: no key is typed, no clock is read, and every\n\
         instruction and every interrupt happens where it did. Registers, memory and output are checked all the way.",
    );
    let replayed = show(&mut command(&[verb("replay"), at]), "")?;
    expect(&replayed, 0, "the replay")?;
    ensure!(
        recorded.stdout == replayed.stdout,
        "the replay printed something else than the recording: this is a bug"
    );

    say("3. VERIFY. The log is a chain: each part holds the digest of the one before.");
    expect(
        &show(&mut command(&[verb("verify"), at]), "")?,
        0,
        "the verification",
    )?;

    say("4. TAMPER. One bit of a copy of the log is flipped.");
    let copy = folder.join("altered");
    let place = copy_and_flip(&recording, &copy)?;
    println!("   flipped: {place}");
    expect(
        &show(&mut command(&[verb("verify"), copy.as_os_str()]), "")?,
        1,
        "the verification of the altered copy",
    )?;

    let log_len = folder_len(&recording.join("log"))?;
    say(&format!(
        "DONE. Recorded in {:.1} s, replayed in {:.1} s; {} bytes on the console, the same in both.\n\
         The log takes {log_len} bytes. With the kernel and the root file system, which lie beside it, the recording is\n\
         complete: it can be replayed next year, or on another machine.\n\n\
         To look into it:   {} log {}\n\
         To try it by hand: {3} record -o NAME     and then: {3} replay NAME",
        recorded.took.as_secs_f64(),
        replayed.took.as_secs_f64(),
        recorded.stdout.len(),
        tree_path(&revirt),
        tree_path(&recording),
    ));
    Ok(())
}

/// `path` as one types it in the tree.
fn tree_path(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn say(text: &str) {
    println!("\n{text}\n");
}

/// Runs `command`, shows each line of its output as it comes, and types `input` when the guest's shell is up.
fn show(command: &mut Command, input: &str) -> anyhow::Result<Ran> {
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("could not start revirt")?;
    let mut stdin = child.stdin.take();
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut stdout = Vec::new();
    let mut line = Vec::new();
    while reader
        .read_until(b'\n', &mut line)
        .context("the output of revirt")?
        > 0
    {
        let text = String::from_utf8_lossy(&line).into_owned();
        println!("   | {}", text.trim_end());
        if let Some(mut keyboard) = stdin.take_if(|_| text.contains(SHELL_IS_UP)) {
            // A replay has closed its end long ago; what it would read is in the recording.
            let _ = keyboard.write_all(input.as_bytes());
        }
        stdout.append(&mut line);
    }
    drop(stdin);
    let code = child.wait().context("waiting for revirt")?.code();
    Ok(Ran {
        stdout,
        code,
        took: start.elapsed(),
    })
}

fn expect(ran: &Ran, code: i32, what: &str) -> anyhow::Result<()> {
    if ran.code != Some(code) {
        bail!(
            "{what} ended with {:?} and not with {code}: this is a bug, please report what stands above",
            ran.code
        );
    }
    Ok(())
}

/// Copies the recording, flips a bit in the middle of its log, and says where.
fn copy_and_flip(from: &Path, to: &Path) -> anyhow::Result<String> {
    let status = Command::new("cp")
        .arg("-r")
        .args([from, to])
        .status()
        .context("cp")?;
    ensure!(status.success(), "cp ended with {status}");
    let mut segments: Vec<_> = fs::read_dir(to.join("log"))?
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    segments.sort();
    let segment = segments.first().context("the recording has no log")?;
    let mut bytes = fs::read(segment)?;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(segment, &bytes)?;
    Ok(format!("bit 4 of byte {middle} of {}", segment.display()))
}

/// The bytes of the files in `folder`.
fn folder_len(folder: &Path) -> anyhow::Result<u64> {
    let mut len = 0;
    for entry in
        fs::read_dir(folder).with_context(|| format!("could not read {}", folder.display()))?
    {
        len += entry?.metadata()?.len();
    }
    Ok(len)
}
