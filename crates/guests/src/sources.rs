//! The sources in `guests/`, held in the program itself, so that an installed `revirt` can build its default guest.

/// A source: its name and its text.
pub(crate) type Source = (&'static str, &'static str);

macro_rules! sources {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../guests/", $folder, "/", $name)))),*]
    };
}

/// Goes into the initramfs as it is: path from the root, text.
pub(crate) const INITRAMFS: &[Source] = sources!("initramfs":
    "init", "etc/profile", "etc/acpi/PWRF/00000080", "etc/udhcpc/default.script", "bin/benchmark", "bin/checks", "bin/toggles");

/// The 64-bit programs, linked into one.
pub(crate) const PROGRAMS: &[Source] = sources!("programs":
    "programs.h",
    "main.c",
    "code.c",
    "faults.c",
    "floats.c",
    "processor.c",
    "race.c",
    "signal.c",
    "sleepy.c",
    "vectors.c",
    "wide.c",
);

/// The workloads, linked into the same.
pub(crate) const WORKLOADS: &[Source] = sources!("workloads":
    "branches.c",
    "busy.c",
    "copy.c",
    "crc.c",
    "exec.c",
    "fault.c",
    "fork.c",
    "hash.c",
    "indirect.c",
    "libm.c",
    "list.c",
    "matrix.c",
    "pipe.c",
    "recursion.c",
    "signals.c",
    "sort.c",
    "string.c",
    "syscall.c",
    "x87.c",
);

/// The second guest's pieces of work for Debian's programs.
pub(crate) const TOOLS: &[Source] =
    sources!("tools": "tool", "make_c.py", "pure.py", "work.lua", "work.sql");

/// Goes over the server's packages: path from the root, text.
pub(crate) const SERVER: &[Source] = sources!("server":
    "finish",
    "etc/apache2/conf-enabled/server-name.conf",
    "etc/fstab",
    "etc/hostname",
    "etc/hosts",
    "etc/initramfs-tools/conf.d/revirt",
    "etc/initramfs-tools/modules",
    "etc/ssh/sshd_config.d/revirt.conf",
    "etc/systemd/network/80-revirt.network",
    "etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf",
    "etc/systemd/system/ssh-host-keys.service",
    "var/www/html/index.html",
);

/// Makes the server's file system.
pub(crate) const SERVER_PACK: &str = include_str!("../../../guests/server/pack");

/// The 32-bit program.
pub(crate) const IA32: &[Source] = sources!("ia32": "ia32.c");

/// What the script `bin/checks` prints on every machine.
pub(crate) const CHECKS_EXPECTED: &str = include_str!("../../../guests/expected/checks.txt");

/// What the program `wide` prints on every x86-64-v3 processor.
pub(crate) const WIDE_EXPECTED: &str = include_str!("../../../guests/expected/wide.txt");

/// What all bare-metal kernels share.
pub(crate) const KERNEL_PARTS: &[Source] = sources!("kernels":
    "kernel.ld",
    "board.h",
    "board.c",
    "traps.h",
    "traps.c",
    "start.S",
    "traps32.S",
    "start64.S",
    "traps64.S",
);

/// A bare-metal kernel: its source, the mode it runs in, and what it prints on every machine.
pub(crate) struct Kernel {
    /// The file's name in `guests/kernels`.
    pub(crate) name: &'static str,
    /// The C code.
    pub(crate) text: &'static str,
    /// Whether it switches to 64-bit mode.
    pub(crate) long_mode: bool,
    /// What QEMU's console showed.
    pub(crate) expected: &'static str,
}

macro_rules! kernels {
    ($($name:literal long_mode $long_mode:literal),* $(,)?) => {
        &[$(Kernel {
            name: concat!($name, ".c"),
            text: include_str!(concat!("../../../guests/kernels/", $name, ".c")),
            long_mode: $long_mode,
            expected: include_str!(concat!("../../../guests/expected/", $name, ".txt")),
        }),*]
    };
}

/// The bare-metal kernels, one a source.
pub(crate) const KERNELS: &[Kernel] = kernels!(
    "console" long_mode false,
    "disk" long_mode false,
    "exceptions" long_mode false,
    "hello" long_mode false,
    "long_mode" long_mode true,
    "paging32" long_mode false,
    "paging_pae" long_mode false,
    "self_modifying" long_mode false,
    "strings" long_mode false,
    "timer" long_mode false,
);

/// Every source, for the digest that tells whether a built guest is still the one described here.
pub(crate) fn all() -> impl Iterator<Item = Source> {
    let lists = [INITRAMFS, PROGRAMS, WORKLOADS, IA32, KERNEL_PARTS]
        .into_iter()
        .flatten()
        .copied();
    lists.chain(KERNELS.iter().map(|kernel| (kernel.name, kernel.text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    fn files_below(folder: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(folder).expect("the folder is in the tree") {
            let path = entry.expect("it can be listed").path();
            if path.is_dir() {
                files_below(&path, found);
            } else {
                found.insert(path);
            }
        }
    }

    #[test]
    fn every_file_in_the_tree_is_listed() {
        let guests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../guests");
        let mut on_disk = BTreeSet::new();
        files_below(&guests, &mut on_disk);
        let folders = [
            ("initramfs", INITRAMFS),
            ("programs", PROGRAMS),
            ("workloads", WORKLOADS),
            ("ia32", IA32),
            ("tools", TOOLS),
            ("kernels", KERNEL_PARTS),
            ("server", SERVER),
            ("server", &[("pack", SERVER_PACK)]),
        ];
        let mut listed: BTreeSet<PathBuf> = folders
            .into_iter()
            .flat_map(|(folder, list)| list.iter().map(move |(name, _)| (folder, name)))
            .map(|(folder, name)| guests.join(folder).join(name))
            .collect();
        for name in ["checks", "wide"] {
            listed.insert(guests.join(format!("expected/{name}.txt")));
        }
        for kernel in KERNELS {
            listed.insert(guests.join("kernels").join(kernel.name));
            listed.insert(
                guests
                    .join("expected")
                    .join(kernel.name.replace(".c", ".txt")),
            );
        }
        assert_eq!(on_disk, listed);
    }
}
