//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use host::net::Forward;
use session::{Checks, Flip, When};

use crate::disks::DiskOption;
use crate::network::NetOption;
use crate::size;

/// A virtual machine that is its own flight recorder: it boots an unmodified
/// Linux, records it, and replays any recording exactly.
#[derive(Debug, Parser)]
#[command(
    name = "revirt",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 yes, done; 1 no (diverged, altered, crashed); 2 could not tell (usage, files, host)."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Report as one JSON object: on standard output, or on standard error
    /// where standard output is the guest's console
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Build the disk image of a Debian server, as an ordinary user
    Image(Image),
    /// Run a virtual machine without recording it
    Run(Run),
    /// Run a virtual machine and record it
    Record(Record),
    /// Replay a recording and check it all the way
    Replay(Replay),
    /// Is a recording whole and unaltered? Runs no machine
    Verify(Dir),
    /// What is in a recording?
    Info(Dir),
    /// The events of a recording
    Log(Log),
}

impl Command {
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Command::Image(_) => "image",
            Command::Run(_) => "run",
            Command::Record(_) => "record",
            Command::Replay(_) => "replay",
            Command::Verify(_) => "verify",
            Command::Info(_) => "info",
            Command::Log(_) => "log",
        }
    }

    /// Whether standard output is ours, and not the guest's console.
    pub(crate) fn owns_stdout(&self) -> bool {
        matches!(
            self,
            Command::Image(_) | Command::Verify(_) | Command::Info(_) | Command::Log(_)
        )
    }
}

#[derive(Debug, Args)]
pub(crate) struct Image {
    /// The image; it must not exist. The key that opens it is made beside it
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Debian packages that are to be in it besides the usual; may be given
    /// more than once
    #[arg(long, value_name = "PACKAGE,...", value_delimiter = ',')]
    pub(crate) include: Vec<String>,
    /// The size of the disk; what is not used takes no room
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = size::parse)]
    pub(crate) size: u64,
    /// Which of Debian's kernels
    #[arg(long, value_enum, default_value_t)]
    pub(crate) kernel: DebianKernel,
    /// The SSH public key of whoever may log in as root, instead of a new one
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum DebianKernel {
    /// linux-image-cloud-amd64, for virtual machines
    #[default]
    Cloud,
    /// linux-image-amd64, for every PC
    Generic,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) machine: Machine,
}

#[derive(Debug, Args)]
pub(crate) struct Record {
    /// The directory of the new recording; it must not exist
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// What to log at each event: a digest of all registers, or the registers
    /// themselves (full)
    #[arg(long, value_name = "normal|full", default_value_t)]
    pub(crate) checks: Checks,
    /// Copy the contents of all disks into the recording, so that it needs no
    /// image any more
    #[arg(long, requires = "disk")]
    pub(crate) embed: bool,
    /// Read all disk images as a whole before the guest starts, even those that
    /// were read before and not changed since
    #[arg(long, requires = "disk")]
    pub(crate) read_disks: bool,
}

/// The machine. Without --kernel it is the default guest: Debian's kernel with
/// a small root file system, fetched and built on first use.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub(crate) struct Machine {
    /// The kernel: a bzImage as distributions ship it, or a Multiboot 1 ELF
    #[arg(long, value_name = "FILE")]
    pub(crate) kernel: Option<PathBuf>,
    /// The initial RAM disk
    #[arg(long, value_name = "FILE", requires = "kernel")]
    pub(crate) initrd: Option<PathBuf>,
    /// Take the kernel, the initial RAM disk and the command line out of the
    /// first disk's /boot; it may be any disk with ext4, partitioned or not
    #[arg(long, requires = "disk", conflicts_with = "kernel")]
    pub(crate) boot_from_disk: bool,
    /// The kernel's command line; `console=ttyS0`, or the disk's own, if not
    /// given
    #[arg(long, value_name = "STRING")]
    pub(crate) append: Option<String>,
    /// Guest memory, as in 512M or 4G
    #[arg(long, value_name = "SIZE", default_value = "512M", value_parser = size::parse)]
    pub(crate) memory: u64,
    /// A disk, raw or qcow2; may be given more than once. The image is never
    /// written: what the guest writes goes to the recording, or is forgotten
    #[arg(long, value_name = "FILE[,ro][,serial=NAME][,format=raw|qcow2]")]
    pub(crate) disk: Vec<DiskOption>,
    /// A network card and what it is connected to: the host's network through
    /// passt, a TAP interface, another machine by a Unix socket; may be given
    /// more than once. Without it there is passt's if --boot-from-disk or
    /// --forward is given, otherwise none
    #[arg(
        long,
        value_name = "none|passt|tap=NAME|socket=PATH[,mac=ADDRESS][,mtu=BYTES]"
    )]
    pub(crate) net: Vec<NetOption>,
    /// Forward a port of the host's to the guest, by passt; may be given more
    /// than once. Without an address only the host itself can connect; one of
    /// IPv6 stands in brackets
    #[arg(long, value_name = "[tcp:|udp:][ADDRESS:]HOSTPORT:GUESTPORT")]
    pub(crate) forward: Vec<Forward>,
    /// A second serial port (ttyS1), whose output goes to this new file
    #[arg(long, value_name = "FILE")]
    pub(crate) serial2: Option<PathBuf>,
    /// The processor: a level of x86-64
    #[arg(long, value_enum, default_value_t)]
    pub(crate) cpu: Processor,
    /// How the kernel is entered
    #[arg(long, value_enum, default_value_t)]
    pub(crate) boot: Boot,
    /// End when the guest resets its machine; otherwise it starts again, in
    /// the same run and recording
    #[arg(long)]
    pub(crate) no_reboot: bool,
    /// After SIGTERM, which presses the power button, end the run when so many
    /// seconds have passed
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) grace: u32,
    /// Let a write to port 0xf4 end the machine, as test kernels do
    #[arg(long)]
    pub(crate) debug_exit: bool,
    /// What runs the guest
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: Engine,
    /// Tell at the end where guest time went: translated, interpreted, left why
    #[arg(long)]
    pub(crate) stats: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Processor {
    /// x86-64-v2: up to SSE4.2
    #[default]
    V2,
    /// x86-64-v3: AVX2, BMI and FMA besides; the host must have them too
    V3,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Boot {
    /// As the file says: Multiboot or Linux
    #[default]
    Auto,
    /// Linux, decompressed by us: quick, no KASLR
    Linux,
    /// Linux, which decompresses and places itself (KASLR)
    LinuxEntry,
    /// Multiboot 1
    Multiboot,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    /// The translator
    #[default]
    Jit,
    /// The interpreter: the judge of the translator, many times slower
    Interp,
    /// The translator, judged by the interpreter at every branch: to find bugs
    Lockstep,
}

#[derive(Debug, Args)]
pub(crate) struct Replay {
    /// The recording
    pub(crate) dir: PathBuf,
    /// Where to stop: a branch count (1000000), a moment
    /// (1000000@0xffffffff81000000), a time (12.5s), `event 12`, or `end`
    #[arg(long, value_name = "WHEN", default_value_t)]
    pub(crate) until: When,
    /// What runs the guest; any engine replays any recording
    #[arg(long, value_enum, default_value_t)]
    pub(crate) engine: Engine,
    /// Tell at the end where guest time went: translated, interpreted, left why
    #[arg(long)]
    pub(crate) stats: bool,
    /// What to check at each epoch besides registers, devices and output:
    /// memory written since the last, or all of memory (full)
    #[arg(long, value_name = "normal|full", default_value_t)]
    pub(crate) checks: Checks,
    /// Where the image of a disk is now, if it was moved; may be given more
    /// than once. Its contents must be those that the recording began with
    #[arg(long, value_name = "FILE[,format=raw|qcow2]")]
    pub(crate) base: Vec<DiskOption>,
    /// Write the output of the second serial port to this new file
    #[arg(long, value_name = "FILE")]
    pub(crate) serial2: Option<PathBuf>,
    /// Test the checks: flip a bit of guest memory after so many branches
    #[arg(long, value_name = "ADDRESS:BIT@BRANCHES")]
    pub(crate) inject_flip: Option<Flip>,
}

#[derive(Debug, Args)]
pub(crate) struct Dir {
    /// The recording
    pub(crate) dir: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Log {
    /// The recording
    pub(crate) dir: PathBuf,
    /// Only events of this kind: clock, input, epoch, registers or end; may be
    /// given more than once
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) kind: Vec<log::Kind>,
    /// Only events from this branch count on
    #[arg(long, value_name = "BRANCHES", default_value_t = 0)]
    pub(crate) from: u64,
    /// Only events before this branch count
    #[arg(long, value_name = "BRANCHES", default_value_t = u64::MAX, hide_default_value = true)]
    pub(crate) to: u64,
}

fn kind(text: &str) -> Result<log::Kind, String> {
    let named = log::Kind::ALL
        .iter()
        .copied()
        .find(|kind| kind.name() == text);
    named.ok_or_else(|| {
        let names: Vec<&str> = log::Kind::ALL.iter().map(|kind| kind.name()).collect();
        format!("there are events of these kinds: {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn an_initrd_without_a_kernel_is_refused() {
        assert!(Arguments::try_parse_from(["revirt", "run", "--initrd", "x"]).is_err());
    }
}
