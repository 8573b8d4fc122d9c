//! The second guest's programs: Debian's own, taken out of its packages with the libraries that they need and no more.
//!
//! The law here: host and guest run the same files. The tree that is packed into the guest's initramfs also lies unpacked
//! beside it, and `guests/tools/tool` starts a program of it by the tree's own dynamic loader on either.

use crate::cpio::Archive;
use crate::debian::Apt;
use crate::{Error, read, sources, tool, write};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// The pieces of work that `tool` knows, each of one program.
pub(crate) const NAMES: &[&str] = &[
    "openssl-hash",
    "gzip-text",
    "xz-text",
    "python-pure",
    "gcc-file",
    "sqlite-work",
    "luajit-work",
];

/// Where shared libraries lie in Debian's packages, and where the dynamic loader looks for what it is told.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
const USER_LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// A package: its name, the folder in it, and the files from there.
type Taken = (&'static str, &'static str, &'static [&'static str]);

/// What goes into `usr/bin`.
const PROGRAMS: &[Taken] = &[
    ("openssl", "usr/bin", &["openssl"]),
    ("gzip", "bin", &["gzip"]),
    ("xz-utils", "usr/bin", &["xz"]),
    ("python3.11-minimal", "usr/bin", &["python3.11"]),
    ("cpp-12", "usr/lib/gcc/x86_64-linux-gnu/12", &["cc1"]),
    (
        "binutils-x86-64-linux-gnu",
        "usr/bin",
        &["x86_64-linux-gnu-as"],
    ),
    ("sqlite3", "usr/bin", &["sqlite3"]),
    ("luajit", "usr/bin", &["luajit"]),
];

/// What goes into `lib`: what `ld.so --list` of the programs names.
const LIBRARY_FILES: &[Taken] = &[
    ("libc6", LIBRARIES, &["libc.so.6", "libm.so.6"]),
    ("libgcc-s1", LIBRARIES, &["libgcc_s.so.1"]),
    ("zlib1g", LIBRARIES, &["libz.so.1"]),
    ("liblzma5", LIBRARIES, &["liblzma.so.5"]),
    ("libexpat1", LIBRARIES, &["libexpat.so.1"]),
    ("libreadline8", LIBRARIES, &["libreadline.so.8"]),
    ("libtinfo6", LIBRARIES, &["libtinfo.so.6"]),
    (
        "libssl3",
        USER_LIBRARIES,
        &["libssl.so.3", "libcrypto.so.3"],
    ),
    ("libzstd1", USER_LIBRARIES, &["libzstd.so.1"]),
    ("libgmp10", USER_LIBRARIES, &["libgmp.so.10"]),
    ("libmpfr6", USER_LIBRARIES, &["libmpfr.so.6"]),
    ("libmpc3", USER_LIBRARIES, &["libmpc.so.3"]),
    ("libisl23", USER_LIBRARIES, &["libisl.so.23"]),
    (
        "libbinutils",
        USER_LIBRARIES,
        &["libbfd-2.40-system.so", "libsframe.so.0"],
    ),
    ("libsqlite3-0", USER_LIBRARIES, &["libsqlite3.so.0"]),
];

/// The dynamic loader.
const LOADER: &[Taken] = &[("libc6", LIBRARIES, &["ld-linux-x86-64.so.2"])];

/// The package with the part of Python's library that the interpreter needs, and the folder in it.
const PYTHON_LIBRARY: (&str, &str) = ("libpython3.11-minimal", "usr/lib/python3.11");

/// Translates Python's library beforehand, the same on every host: no times, no paths of the host.
const TRANSLATE: &str = "
import os, py_compile, sys
root = sys.argv[1]
for folder, _, names in os.walk(root + '/usr/lib/python3.11'):
    for name in names:
        path = os.path.join(folder, name)
        if name.endswith('.py'):
            py_compile.compile(path, dfile=path[len(root):], doraise=True,
                               invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)
";

/// Lays out the tree in `root`, and gives what it was made from.
pub(crate) fn unpack(apt: &mut Apt, root: &Path) -> Result<String, Error> {
    let mut identities = Vec::new();
    for (list, place) in [
        (LOADER, "lib64"),
        (LIBRARY_FILES, "lib"),
        (PROGRAMS, "usr/bin"),
    ] {
        let place = root.join(place);
        create(&place)?;
        for (package, folder, files) in list {
            let unpacked = apt.unpack(package)?;
            for file in *files {
                let from = unpacked.root.join(folder).join(file);
                // Debian calls the assembler by its target.
                let name = file.strip_prefix("x86_64-linux-gnu-").unwrap_or(file);
                fs::copy(&from, place.join(name)).map_err(Error::file("copy", &from))?;
            }
            identities.push(unpacked.identity);
        }
    }
    let (package, folder) = PYTHON_LIBRARY;
    let unpacked = apt.unpack(package)?;
    copy_folder(&unpacked.root.join(folder), &root.join(folder))?;
    identities.push(unpacked.identity);
    let share = root.join("usr/share/tools");
    create(&share)?;
    for (name, text) in sources::TOOLS {
        let path = share.join(name);
        write(&path, text.as_bytes())?;
        if text.starts_with("#!") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
                .map_err(Error::file("make executable", &path))?;
        }
    }
    let large = python(root, &share.join("make_c.py"), &[])?;
    write(&share.join("large.c"), &large)?;
    python(root, Path::new("-c"), &[TRANSLATE.as_ref(), root])?;
    Ok(identities.join(" "))
}

/// Runs the tree's own Python on the host, so that what it makes is the same whatever the host has.
fn python(root: &Path, script: &Path, arguments: &[&Path]) -> Result<Vec<u8>, Error> {
    let mut command = Command::new(root.join("lib64/ld-linux-x86-64.so.2"));
    command
        .arg("--library-path")
        .arg(root.join("lib"))
        .arg(root.join("usr/bin/python3.11"))
        .args(["-S", "-B"])
        .arg(script)
        .args(arguments)
        .env("PYTHONHOME", root.join("usr"))
        .env_remove("PYTHONPATH");
    tool::run(&mut command, "ld-linux-x86-64.so.2", "libc6")
}

/// The tree as an archive, to follow that of the default guest.
pub(crate) fn archive(root: &Path) -> Result<Vec<u8>, Error> {
    let mut archive = Archive::new();
    add_folder(&mut archive, root, "")?;
    for (name, text) in sources::TOOLS.iter().filter(|(name, _)| *name == "tool") {
        archive.file(&format!("bin/{name}"), true, text.as_bytes());
    }
    for name in NAMES {
        archive.link(&format!("bin/{name}"), "tool");
    }
    Ok(archive.finish())
}

/// Adds what lies in `folder`, called `prefix` in the archive, in the order of names.
fn add_folder(archive: &mut Archive, folder: &Path, prefix: &str) -> Result<(), Error> {
    for (name, is_folder) in entries(folder)? {
        let path = folder.join(&name);
        let inner = format!("{prefix}{name}");
        if is_folder {
            archive.directory(&inner);
            add_folder(archive, &path, &format!("{inner}/"))?;
        } else {
            let metadata = fs::metadata(&path).map_err(Error::file("read", &path))?;
            let is_executable = metadata.permissions().mode() & 0o111 != 0;
            archive.file(&inner, is_executable, &read(&path)?);
        }
    }
    Ok(())
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), Error> {
    create(to)?;
    for (name, is_folder) in entries(from)? {
        let (from, to) = (from.join(&name), to.join(&name));
        if is_folder {
            copy_folder(&from, &to)?;
        } else if from.exists() {
            // What is a link to nowhere leads into a package that we don't take.
            fs::copy(&from, &to).map_err(Error::file("copy", &from))?;
        }
    }
    Ok(())
}

/// What lies in `folder`, by name, and whether it is a folder itself.
fn entries(folder: &Path) -> Result<Vec<(String, bool)>, Error> {
    let mut list = Vec::new();
    for entry in fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let entry = entry.map_err(Error::file("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        list.push((name, entry.path().is_dir()));
    }
    list.sort();
    Ok(list)
}

fn create(folder: &Path) -> Result<(), Error> {
    fs::create_dir_all(folder).map_err(Error::file("create", folder))
}
