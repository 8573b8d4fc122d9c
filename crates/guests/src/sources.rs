//! The sources in `guests/`, held in the program itself, so that an installed `revirt` can build its default guest.

/// A source: its name and its text.
pub(crate) type Source = (&'static str, &'static str);

macro_rules! sources {
    ($folder:literal: $($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../guests/", $folder, "/", $name)))),*]
    };
}

/// Goes into the initramfs as it is: path from the root, text.
pub(crate) const INITRAMFS: &[Source] =
    sources!("initramfs": "init", "etc/profile", "bin/benchmark");

/// The 64-bit programs, linked into one.
pub(crate) const PROGRAMS: &[Source] = sources!("programs":
    "programs.h",
    "main.c",
    "race.c",
    "signal.c",
);

/// The 32-bit program.
pub(crate) const IA32: &[Source] = sources!("ia32": "ia32.c");

/// What all bare-metal kernels share.
pub(crate) const KERNEL_PARTS: &[Source] =
    sources!("kernels": "kernel.ld", "start.S", "board.h", "board.c");

/// The bare-metal kernels, one a source.
pub(crate) const KERNELS: &[Source] = sources!("kernels": "hello.c");

/// Every source, for the digest that tells whether a built guest is still the one described here.
pub(crate) fn all() -> impl Iterator<Item = &'static Source> {
    [INITRAMFS, PROGRAMS, IA32, KERNEL_PARTS, KERNELS]
        .into_iter()
        .flatten()
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
            ("ia32", IA32),
            ("kernels", KERNEL_PARTS),
            ("kernels", KERNELS),
        ];
        let listed: BTreeSet<PathBuf> = folders
            .into_iter()
            .flat_map(|(folder, list)| list.iter().map(move |(name, _)| (folder, name)))
            .map(|(folder, name)| guests.join(folder).join(name))
            .collect();
        assert_eq!(on_disk, listed);
    }
}
