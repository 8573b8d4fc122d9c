//! The kernel's drivers that Debian builds as modules and a guest's first root file system needs.

use crate::{Error, read, write};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The lists, by name: modules in the order in which they can be loaded. What a kernel has built in has no file, and is left
/// out.
const LISTS: &[(&str, &[&str])] = &[
    // The power button, and what tells of it.
    ("always", &["button", "evdev"]),
    // `virtio` takes a symbol from `virtio_ring`, and ext4 looks for its checksum when it is loaded.
    (
        "virtio",
        &[
            "virtio_ring",
            "virtio",
            "virtio_mmio",
            "virtio_blk",
            "failover",
            "net_failover",
            "virtio_net",
            "virtio-rng",
            "virtio_console",
            "crc16",
            "mbcache",
            "crc32c_generic",
            "jbd2",
            "ext4",
        ],
    ),
];

/// What is kept, in a line: it changes when something else is.
pub(crate) fn described() -> String {
    let lists = LISTS
        .iter()
        .map(|(list, names)| format!("{list}: {}", names.join(" ")));
    lists.collect::<Vec<_>>().join("; ")
}

/// Copies the modules of the kernel that is unpacked at `root` into `output/VERSION`, and the lists.
pub(crate) fn collect(root: &Path, package: &str, output: &Path) -> Result<(), Error> {
    let missing = || Error::PackageUnexpected {
        package: package.to_owned(),
        what: "lib/modules/VERSION",
    };
    let all = root.join("lib/modules");
    let kernel = entries(&all)?.into_iter().next().ok_or_else(missing)?;
    let version = kernel.file_name().ok_or_else(missing)?;
    let folder = output.join(version);
    fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    let mut found = BTreeMap::new();
    search(&kernel.join("kernel"), &mut found)?;
    for (list, names) in LISTS {
        let mut text = String::new();
        for name in *names {
            if let Some(path) = found.get(*name) {
                write(&folder.join(format!("{name}.ko")), &read(path)?)?;
                text.push_str(name);
                text.push('\n');
            }
        }
        write(&folder.join(list), text.as_bytes())?;
    }
    Ok(())
}

/// The files that [`collect`] made below `output`, by their paths in a guest: `lib/modules/VERSION/NAME`.
pub(crate) fn files(output: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut files = Vec::new();
    for folder in entries(output)? {
        for path in entries(&folder)? {
            let place = path.strip_prefix(output).unwrap_or(&path);
            files.push((format!("lib/modules/{}", place.display()), read(&path)?));
        }
    }
    Ok(files)
}

/// Files named `NAME.ko` below `folder`, by name.
fn search(folder: &Path, found: &mut BTreeMap<String, PathBuf>) -> Result<(), Error> {
    for path in entries(folder)? {
        if path.is_dir() {
            search(&path, found)?;
        } else if path.extension().is_some_and(|ending| ending == "ko")
            && let Some(name) = path.file_stem()
        {
            found.insert(name.to_string_lossy().into_owned(), path);
        }
    }
    Ok(())
}

/// What is in `folder`, in the order of the names.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(Error::file("read", folder))?;
    let mut paths: Vec<PathBuf> = entries
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    Ok(paths)
}
