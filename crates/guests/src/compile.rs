//! Compiles the sources in `guests/` with the host's gcc.
//!
//! No multilib is needed: what is 32-bit is freestanding, so that a plain `gcc` and `libc6-dev` (which Rust's linker asks
//! for anyway) are enough.

use crate::sources::{self, Source};
use crate::{Error, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one instruction set of all programs: what our processor announces, whatever the host's is.
const MACHINE: &str = "-march=x86-64-v2";

/// Options for code without a C library, 32-bit, that may run on a bare machine.
const FREESTANDING: [&str; 12] = [
    "-m32",
    "-march=i686",
    "-O2",
    "-Wall",
    "-Werror",
    "-ffreestanding",
    "-nostdlib",
    "-static",
    "-fno-pic",
    "-no-pie",
    "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables",
];

/// Builds the program that holds all test programs and workloads, chosen by the name it is called by.
pub(crate) fn programs(scratch: &Path, output: &Path) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::PROGRAMS)?;
    let mut command = gcc();
    command.args([
        "-std=gnu11",
        "-O2",
        MACHINE,
        "-Wall",
        "-Werror",
        "-static",
        "-s",
        "-pthread",
    ]);
    command
        .arg("-I")
        .arg(&folder)
        .args(c_files(&folder, sources::PROGRAMS));
    command.arg("-o").arg(output).arg("-lm");
    run(&mut command)
}

/// Builds the 32-bit program that runs in compatibility mode.
pub(crate) fn ia32(scratch: &Path, output: &Path) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::IA32)?;
    let mut command = gcc();
    command
        .args(FREESTANDING)
        .arg("-s")
        .args(c_files(&folder, sources::IA32))
        .arg("-o")
        .arg(output);
    run(&mut command)
}

/// Builds the bare-metal kernels, one for each of [`sources::KERNELS`], as `NAME.elf` in `output`.
pub(crate) fn kernels(scratch: &Path, output: &Path) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::KERNEL_PARTS)?;
    write_sources(scratch, sources::KERNELS)?;
    for (name, _) in sources::KERNELS {
        let stem = Path::new(name)
            .file_stem()
            .expect("a source has a name")
            .to_string_lossy()
            .into_owned();
        let mut command = gcc();
        command.args(FREESTANDING).args([
            "-mgeneral-regs-only",
            "-Wl,--build-id=none",
            "-Wl,-z,noexecstack",
        ]);
        command.arg("-T").arg(folder.join("kernel.ld"));
        command
            .arg(folder.join("start.S"))
            .args(c_files(&folder, sources::KERNEL_PARTS));
        command
            .arg(folder.join(name))
            .arg("-o")
            .arg(output.join(format!("{stem}.elf")));
        run(&mut command)?;
    }
    Ok(())
}

fn gcc() -> Command {
    Command::new("gcc")
}

fn run(command: &mut Command) -> Result<(), Error> {
    tool::run(command, "gcc", "gcc libc6-dev").map(|_| ())
}

/// Writes `list` into a folder of `scratch`; headers and sources lie side by side, so that `#include "x.h"` finds them.
fn write_sources(scratch: &Path, list: &[Source]) -> Result<PathBuf, Error> {
    let folder = scratch.join("sources");
    for (name, text) in list {
        let path = folder.join(name);
        let parent = path.parent().expect("a source lies in the folder");
        fs::create_dir_all(parent).map_err(Error::file("create", parent))?;
        fs::write(&path, text).map_err(Error::file("write", &path))?;
    }
    Ok(folder)
}

fn c_files(folder: &Path, list: &[Source]) -> Vec<PathBuf> {
    list.iter()
        .filter(|(name, _)| name.ends_with(".c"))
        .map(|(name, _)| folder.join(name))
        .collect()
}
