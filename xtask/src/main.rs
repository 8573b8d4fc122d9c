//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Whatever a developer or a CI machine does more than once stands here, so that both do the same.

mod bench;
mod ci;
mod cloud;
mod demo;
mod host_load;
mod lint;
mod load;
mod namespace;
mod process;
mod recorded;
mod server;
mod soak;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measure against the host and QEMU; keeps the runs in benches/runs.
    Bench(bench::Options),
    /// Everything a change must pass: form, lints, all tests.
    Ci,
    /// Record, replay and verify a Debian kernel, with an explanation.
    Demo,
    /// Check licences and advisories of the dependencies with cargo-deny, which is installed if it is missing.
    Deny,
    /// Build the guests into target/guests: Debian's kernels, the initramfs of the default guest and of that with Debian's programs, bare-metal kernels.
    Guests,
    /// Check what the architecture promises: layers, determinism, where unsafe code is, and each file's form.
    Lint,
    /// Load a recorded Debian server as far as it goes, count what fails (nothing may), replay it and tell what it cost.
    Load(load::Options),
    /// Measure real work in a Debian server against the host and QEMU: a ray tracer, a kernel build, test suites, a web server.
    Real(bench::real::Options),
    /// Do what docs/server.md says: a Debian server, recorded while it is visited, and replayed.
    Server(server::Options),
    /// Replay one recording many times, idle and with the host loaded, and compare each to the byte.
    Soak(soak::Options),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> anyhow::Result<()> {
    match task {
        Task::Bench(options) => bench::run(&options),
        Task::Ci => ci::run(),
        Task::Demo => demo::run(),
        Task::Deny => ci::deny(),
        Task::Guests => build_guests(),
        Task::Lint => lint::run(process::root()),
        Task::Load(options) => load::run(&options),
        Task::Real(options) => bench::real::run(&options),
        Task::Server(options) => server::run(&options),
        Task::Soak(options) => soak::run(&options),
    }
}

fn build_guests() -> anyhow::Result<()> {
    let guests = guests::Guests::of_the_tree(|line| eprintln!("{line}"));
    let mut paths = vec![
        guests.kernel(guests::Kernel::Cloud)?,
        guests.kernel(guests::Kernel::Generic)?,
        guests.initrd()?,
        guests.initrd_gz()?,
        guests.programs()?,
        guests.tools()?.guest.initrd,
    ];
    paths.extend(guests.bare_kernels()?.into_iter().map(|kernel| kernel.path));
    for path in paths {
        println!("{}", path.display());
    }
    Ok(())
}
