//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Whatever a developer or a CI machine does more than once stands here, so that both do the same.

use clap::{Parser, Subcommand};

/// The project's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Build the guests into target/guests: Debian's kernels, the default initramfs, bare-metal kernels.
    Guests,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Task::Guests => build_guests(),
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
    ];
    paths.extend(guests.bare_kernels()?.into_iter().map(|kernel| kernel.path));
    for path in paths {
        println!("{}", path.display());
    }
    Ok(())
}
