//! What is compared: the host itself, our machine, and QEMU's software engine.

use crate::process::root;
use guests::{DefaultGuest, Guests, Tools};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The same kernel command line on every machine; without mitigations, since our processor needs none and QEMU's does.
const APPEND: &str = "console=ttyS0 quiet mitigations=off";

/// What QEMU announces: x86-64-v2, as our processor does, so that the same code runs in the guest.
const QEMU_CPU: &str = "Nehalem";

const MEMORY_MIB: u32 = 512;

/// Something that runs workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject {
    Native,
    Run,
    Record,
    /// Records the registers themselves at each event.
    RecordFull,
    /// Of what [`Subject::Record`] recorded before it.
    Replay,
    Qemu,
    QemuRecord,
    QemuReplay,
}

impl Subject {
    /// In the order in which they run within a round.
    pub(super) const ALL: [Self; 8] = [
        Self::Native,
        Self::Run,
        Self::Record,
        Self::Replay,
        Self::RecordFull,
        Self::Qemu,
        Self::QemuRecord,
        Self::QemuReplay,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Run => "revirt run",
            Self::Record => "revirt record",
            Self::RecordFull => "revirt record --checks full",
            Self::Replay => "revirt replay",
            Self::Qemu => "qemu",
            Self::QemuRecord => "qemu rr=record",
            Self::QemuReplay => "qemu rr=replay",
        }
    }

    pub(super) fn is_qemu(self) -> bool {
        matches!(self, Self::Qemu | Self::QemuRecord | Self::QemuReplay)
    }
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suite {
    /// Our own static programs, in the default guest.
    Small,
    /// Debian's programs, in the guest that holds them.
    Real,
}

impl Suite {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Small => "our programs",
            Self::Real => "Debian's programs",
        }
    }
}

/// Where everything is.
#[derive(Debug)]
pub(super) struct Bench {
    revirt: PathBuf,
    guest: DefaultGuest,
    tools: Tools,
    /// Where Debian's programs work on the host.
    work: PathBuf,
    /// Links to the programs by name, for the host.
    bin: PathBuf,
    /// The recordings.
    folder: PathBuf,
}

impl Bench {
    pub(super) fn prepare(
        revirt: PathBuf,
        guests: &Guests,
        folder: PathBuf,
    ) -> anyhow::Result<Self> {
        let bin = folder.join("bin");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&bin)?;
        let programs = guests.programs()?;
        let names = Command::new(&programs).arg("--list").output()?.stdout;
        for name in String::from_utf8_lossy(&names).lines() {
            std::os::unix::fs::symlink(&programs, bin.join(name))?;
        }
        let tools = guests.tools()?;
        for name in tools.names {
            std::os::unix::fs::symlink(&tools.script, bin.join(name))?;
        }
        let work = folder.join("work");
        fs::create_dir_all(&work)?;
        Ok(Self {
            revirt,
            guest: guests.default_guest()?,
            tools,
            work,
            bin,
            folder,
        })
    }

    /// The command that makes `subject` run the workloads in `list`: `NAME SIZE NAME SIZE ...`.
    pub(super) fn command(&self, subject: Subject, suite: Suite, list: &str) -> Command {
        let recording = self.recording(subject);
        let guest = match suite {
            Suite::Small => &self.guest,
            Suite::Real => &self.tools.guest,
        };
        match subject {
            Subject::Native => {
                let mut command = Command::new("/bin/sh");
                command
                    .arg(root().join("guests/initramfs/bin/benchmark"))
                    .args(list.split(' '));
                command
                    .env("PATH", &self.bin)
                    .env("TOOLS_ROOT", &self.tools.root)
                    .env("TOOLS_WORK", &self.work);
                command
            }
            Subject::Replay => {
                let mut command = Command::new(&self.revirt);
                command.arg("replay").arg(recording);
                command
            }
            Subject::Run => self.revirt(guest, &["run"], list),
            Subject::Record | Subject::RecordFull => {
                let _ = fs::remove_dir_all(&recording);
                let mut command = self.revirt(guest, &["record"], list);
                if subject == Subject::RecordFull {
                    command.args(["--checks", "full"]);
                }
                command.arg("-o").arg(recording);
                command
            }
            Subject::Qemu => self.qemu(guest, list),
            Subject::QemuRecord => self.qemu_rr(guest, list, "record", &recording),
            Subject::QemuReplay => self.qemu_rr(guest, list, "replay", &recording),
        }
    }

    /// The recording that `subject` writes or reads.
    pub(super) fn recording(&self, subject: Subject) -> PathBuf {
        self.folder.join(match subject {
            Subject::RecordFull => "recording-full",
            Subject::QemuRecord | Subject::QemuReplay => "qemu.rr",
            _ => "recording",
        })
    }

    /// What `revirt info --json` says of the last recording.
    pub(super) fn info(&self) -> anyhow::Result<serde_json::Value> {
        let recording = self.recording(Subject::Record);
        let output = Command::new(&self.revirt)
            .args(["info", "--json"])
            .arg(recording)
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    fn revirt(&self, guest: &DefaultGuest, verb: &[&str], list: &str) -> Command {
        let mut command = Command::new(&self.revirt);
        command
            .args(verb)
            .arg("--memory")
            .arg(format!("{MEMORY_MIB}M"));
        command
            .arg("--kernel")
            .arg(&guest.kernel)
            .arg("--initrd")
            .arg(&guest.initrd);
        command.arg("--append").arg(append(list));
        command
    }

    fn qemu(&self, guest: &DefaultGuest, list: &str) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-accel",
            "tcg",
            "-cpu",
            QEMU_CPU,
            "-m",
            &MEMORY_MIB.to_string(),
        ]);
        command.args([
            "-nodefaults",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        command
            .arg("-kernel")
            .arg(&guest.kernel)
            .arg("-initrd")
            .arg(&guest.initrd);
        command.arg("-append").arg(append(list));
        command
    }

    fn qemu_rr(&self, guest: &DefaultGuest, list: &str, mode: &str, file: &Path) -> Command {
        let mut command = self.qemu(guest, list);
        command
            .arg("-icount")
            .arg(format!("shift=auto,rr={mode},rrfile={}", file.display()));
        command
    }
}

fn append(list: &str) -> String {
    format!("{APPEND} revirt.run=\"benchmark {list}\"")
}
