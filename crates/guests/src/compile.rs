//! Compiles the sources in `guests/` with the host's gcc.
//!
//! No multilib is needed: what is 32-bit is freestanding, so that a plain `gcc` and `libc6-dev` (which Rust's linker asks
//! for anyway) are enough.

use crate::sources::{self, Kernel, Source};
use crate::{Error, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The one instruction set of all programs: what our processor announces, whatever the host's is.
const MACHINE: &str = "-march=x86-64-v2";

/// Options for code without a C library, which may run on a bare machine.
const FREESTANDING: [&str; 10] = [
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

/// Options for 32-bit code.
const BITS_32: [&str; 2] = ["-m32", "-march=i686"];

/// Options for a bare-metal kernel. Its lowest page is memory like any other, which gcc has to be told.
const KERNEL: [&str; 6] = [
    "-mgeneral-regs-only",
    "-mno-red-zone",
    "--param=min-pagesize=0",
    "-Wl,--build-id=none",
    // Local symbols name the compiler's temporary files, which differ each time.
    "-Wl,--discard-all",
    "-Wl,-z,noexecstack,--no-warn-rwx-segments",
];

/// Builds the program that holds all test programs and workloads, chosen by the name it is called by.
pub(crate) fn programs(scratch: &Path, output: &Path) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::PROGRAMS)?;
    write_sources(scratch, sources::WORKLOADS)?;
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
        .args(c_files(&folder, sources::PROGRAMS))
        .args(c_files(&folder, sources::WORKLOADS));
    command.arg("-o").arg(output).arg("-lm");
    run(&mut command)
}

/// Builds the 32-bit program that runs in compatibility mode.
pub(crate) fn ia32(scratch: &Path, output: &Path) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::IA32)?;
    let mut command = gcc();
    command
        .args(BITS_32)
        .args(FREESTANDING)
        .arg("-s")
        .args(c_files(&folder, sources::IA32))
        .arg("-o")
        .arg(output);
    run(&mut command)
}

/// Builds `kernel` as `NAME.elf` in `output`.
pub(crate) fn kernel(scratch: &Path, output: &Path, kernel: &Kernel) -> Result<(), Error> {
    let folder = write_sources(scratch, sources::KERNEL_PARTS)?;
    write_sources(scratch, &[(kernel.name, kernel.text)])?;
    let elf = output.join(elf_name(kernel.name));
    if !kernel.long_mode {
        let mut command = gcc();
        command
            .args(BITS_32)
            .args(["start.S", "traps32.S"].map(|part| folder.join(part)));
        return link(&mut command, &folder, kernel.name, &elf);
    }
    let mut command = gcc();
    command.args(["start64.S", "traps64.S"].map(|part| folder.join(part)));
    let linked = scratch.join("linked64");
    link(&mut command, &folder, kernel.name, &linked)?;
    // Multiboot 1 knows 32-bit ELF files only; the code in it does not mind.
    let mut command = Command::new("objcopy");
    command.args(["-O", "elf32-i386"]).arg(&linked).arg(elf);
    tool::run(&mut command, "objcopy", "binutils").map(|_| ())
}

/// Compiles what all kernels share and `name` with the parts that `command` names already, and links them to `output`.
fn link(command: &mut Command, folder: &Path, name: &str, output: &Path) -> Result<(), Error> {
    command
        .args(FREESTANDING)
        .args(KERNEL)
        .arg("-T")
        .arg(folder.join("kernel.ld"));
    command
        .args(c_files(folder, sources::KERNEL_PARTS))
        .arg(folder.join(name))
        .arg("-o")
        .arg(output);
    run(command)
}

/// `hello.elf` for `hello.c`.
pub(crate) fn elf_name(source: &str) -> String {
    format!("{}.elf", source.trim_end_matches(".c"))
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
