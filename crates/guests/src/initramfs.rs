//! Lays out the default guest's first (and only) root file system: busybox, our programs, and an `/init` that runs a shell.

use crate::cpio::Archive;
use crate::sources;
use flate2::{Compression, GzBuilder};
use std::io::{self, Write as _};

/// The programs that go into the archive.
pub(crate) struct Parts<'a> {
    /// Debian's static busybox.
    pub(crate) busybox: &'a [u8],
    /// Our programs, one binary.
    pub(crate) programs: &'a [u8],
    /// The 32-bit program.
    pub(crate) ia32: &'a [u8],
    /// The names that `programs` answers to.
    pub(crate) names: &'a [String],
    /// The names that busybox answers to.
    pub(crate) applets: &'a [String],
    /// The kernel's modules and their list, by path.
    pub(crate) modules: &'a [(String, Vec<u8>)],
}

/// The archive, uncompressed: the kernel takes it as it is, and copying is quicker than inflating.
pub(crate) fn archive(parts: &Parts<'_>) -> Vec<u8> {
    let mut archive = Archive::new();
    for name in [
        "bin",
        "dev",
        "etc",
        "etc/acpi",
        "etc/acpi/PWRF",
        "etc/udhcpc",
        "lib",
        "lib/modules",
        "mnt",
        "proc",
        "root",
        "sys",
        "tmp",
    ] {
        archive.directory(name);
    }
    archive.directory("lib/modules");
    // The kernel opens /dev/console for /init before anything is mounted.
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/null", 1, 3);
    archive.link("sbin", "bin");
    archive.file("bin/busybox", true, parts.busybox);
    for applet in parts.applets {
        // busybox lists itself too; linked to itself it could not be run.
        if applet != "busybox" && !parts.names.contains(applet) {
            archive.link(&format!("bin/{applet}"), "busybox");
        }
    }
    archive.file("bin/programs", true, parts.programs);
    for name in parts.names {
        archive.link(&format!("bin/{name}"), "programs");
    }
    archive.file("bin/ia32", true, parts.ia32);
    let mut folder = None;
    for (path, bytes) in parts.modules {
        let parent = path.rsplit_once('/').map(|(parent, _)| parent);
        if parent != folder {
            parent
                .into_iter()
                .for_each(|parent| archive.directory(parent));
            folder = parent;
        }
        archive.file(path, false, bytes);
    }
    for (path, text) in sources::INITRAMFS {
        archive.file(path, text.starts_with("#!"), text.as_bytes());
    }
    archive.finish()
}

/// `archive`, compressed with gzip; without a name or a time, so that the same archive gives the same bytes.
pub(crate) fn gzip(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new()
        .mtime(0)
        .write(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}
