//! What real work is done with: a Debian server with compilers, a ray tracer and test suites in it, the same system
//! unpacked for the host, and a second disk with the work itself.

use crate::process::{root, succeed, target_folder};
use anyhow::Context as _;
use guests::{ServerOptions, build_server};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the server has besides what every server has.
const PACKAGES: &[&str] = &[
    "bc",
    "bison",
    "fio",
    "flex",
    "gcc",
    "gcc-multilib",
    "iperf3",
    "libc6-dev",
    "libelf-dev",
    "libpython3.11-testsuite",
    "linux-source-6.1",
    "make",
    "openssl",
    "perl",
    "povray",
    "povray-includes",
    "python3",
    "stress-ng",
    "systemd-container",
    "xz-utils",
];

/// Of the kernel's sources, what no piece of work needs: three quarters of them. The configuration reads every Kconfig.
const NOT_COMPILED: &[&str] = &[
    "*/Documentation/*.rst",
    "*/Documentation/*.yaml",
    "*/Documentation/*.txt",
    "*/Documentation/*.svg",
    "*/drivers/*.[chS]",
    "*/sound/*.[chS]",
    "*/arch/[a-wyz]*/*.[chS]",
    "*.dts",
    "*.dtsi",
];

const SERVER_BYTES: u64 = 4 << 30;
const WORK_BYTES: &str = "6G";

/// Where the second disk is mounted, in the guest and in the tree on the host.
pub(super) const MOUNT_POINT: &str = "mnt";

/// Everything, built.
#[derive(Debug)]
pub(super) struct Workshop {
    folder: PathBuf,
}

impl Workshop {
    /// Builds what is not there yet, or was built of something else; the names of the work are `names`.
    pub(super) fn prepare(names: &[&str]) -> anyhow::Result<Self> {
        let folder = target_folder().join("workshop");
        let workshop = Self { folder };
        workshop.server()?;
        workshop.work(names)?;
        Ok(workshop)
    }

    /// The server's disk, raw.
    pub(super) fn server_disk(&self) -> PathBuf {
        self.folder.join("server.img")
    }

    /// The disk with the work.
    pub(super) fn work_disk(&self) -> PathBuf {
        self.folder.join("work.img")
    }

    /// The server's system, for the host.
    pub(super) fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// The server's own kernel and initial RAM disk.
    pub(super) fn boot(&self) -> (PathBuf, PathBuf) {
        // Links that Debian's kernel packages keep.
        let boot = |name| self.tree().join(name);
        (boot("vmlinuz"), boot("initrd.img"))
    }

    fn server(&self) -> anyhow::Result<()> {
        let made_from = read_all(&files_below(&root().join("guests/server"))?)?;
        self.part("server", &format!("{PACKAGES:?} {made_from:?}"), || {
            for stale in [self.server_disk(), self.tree()] {
                remove(&stale)?;
            }
            let options = ServerOptions {
                include: PACKAGES.iter().map(|&name| name.to_owned()).collect(),
                bytes: SERVER_BYTES,
                ..ServerOptions::default()
            };
            build_server(&self.server_disk(), &options, |line| eprintln!("{line}"))?;
            fs::create_dir(self.tree())?;
            let mut debugfs = as_root("debugfs");
            debugfs
                .arg("-R")
                .arg(format!("rdump / {}", self.tree().display()));
            succeed(debugfs.arg(self.server_disk()).stderr(Stdio::null()))?;
            self.unpack_kernel()
        })
    }

    /// Lays the kernel's sources into the tree, where the second disk is mounted in the guest.
    fn unpack_kernel(&self) -> anyhow::Result<()> {
        let place = self.tree().join(MOUNT_POINT).join("linux");
        fs::create_dir_all(&place)?;
        let mut tar = Command::new("tar");
        tar.args([
            "-x",
            "--strip-components=1",
            "--wildcards-match-slash",
            "--no-same-owner",
        ]);
        tar.args(
            NOT_COMPILED
                .iter()
                .map(|pattern| format!("--exclude={pattern}")),
        );
        tar.arg("-f")
            .arg(self.tree().join("usr/src/linux-source-6.1.tar.xz"));
        succeed(tar.arg("-C").arg(place))
    }

    fn work(&self, names: &[&str]) -> anyhow::Result<()> {
        let place = self.tree().join(MOUNT_POINT);
        let mut paths = files_below(&root().join("benches/work"))?;
        paths.push(root().join("guests/initramfs/bin/benchmark"));
        let files = read_all(&paths)?;
        let server = fs::read_to_string(self.note("server"))?;
        self.part("work", &format!("{names:?} {files:?} {server}"), || {
            for (path, text) in &files {
                let copy = place.join(path.file_name().context("it is a file")?);
                fs::write(&copy, text)?;
                fs::set_permissions(&copy, fs::Permissions::from_mode(0o755))?;
            }
            let bin = place.join("bin");
            remove(&bin)?;
            fs::create_dir(&bin)?;
            for name in names {
                symlink("../job", bin.join(name))?;
            }
            self.openssl(&place)?;
            remove(&self.work_disk())?;
            let mut mke2fs = as_root("mke2fs");
            mke2fs
                .args(["-q", "-t", "ext4", "-L", "work", "-d"])
                .arg(&place);
            succeed(
                mke2fs
                    .arg(self.work_disk())
                    .arg(WORK_BYTES)
                    .stdout(Stdio::null()),
            )
        })
    }

    /// Fetches OpenSSL's source and builds its programs and tests in the tree, with the tree's compiler.
    fn openssl(&self, place: &Path) -> anyhow::Result<()> {
        let place = place.join("openssl");
        if place.join("test/buildinfo").exists() {
            return Ok(());
        }
        eprintln!("Building OpenSSL's own tests (some minutes) ...");
        remove(&place)?;
        fs::create_dir(&place)?;
        let archive = self.fetch_openssl()?;
        let mut tar = Command::new("tar");
        tar.args(["-x", "--strip-components=1", "--no-same-owner", "-f"]);
        succeed(tar.arg(archive).arg("-C").arg(&place))?;
        let build = format!(
            "cd /{MOUNT_POINT}/openssl && ./config >log && make -j2 build_programs >>log 2>&1 && touch test/buildinfo"
        );
        succeed(&mut self.native(&["sh", "-c", &build]))
            .with_context(|| format!("see the end of {}", place.join("log").display()))
    }

    /// The upstream part of Debian's source package: what it patches are defaults and documentation.
    fn fetch_openssl(&self) -> anyhow::Result<PathBuf> {
        let scratch = self.folder.join("openssl");
        remove(&scratch)?;
        for folder in ["lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(scratch.join(folder))?;
        }
        let lines = Command::new("apt-get")
            .args(["indextargets", "Created-By: Packages", "--format"])
            .arg("deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)")
            .output()
            .context("could not start apt-get")?;
        fs::write(scratch.join("sources.list"), lines.stdout)?;
        let apt = |arguments: &[&str]| {
            let mut command = Command::new("apt-get");
            command.args([
                "-q",
                "-o",
                "APT::Sandbox::User=root",
                "-o",
                "Dir::Etc::SourceParts=/dev/null",
            ]);
            for (key, name) in [
                ("Dir::Etc::SourceList", "sources.list"),
                ("Dir::State::lists", "lists"),
                ("Dir::Cache", "cache"),
            ] {
                command
                    .arg("-o")
                    .arg(format!("{key}={}", scratch.join(name).display()));
            }
            command
                .args(arguments)
                .current_dir(&scratch)
                .stdout(Stdio::null());
            succeed(&mut command)
        };
        apt(&["update"])?;
        apt(&["source", "--tar-only", "--download-only", "openssl"])?;
        let is_archive = |path: &PathBuf| path.to_string_lossy().ends_with(".orig.tar.gz");
        let entries = fs::read_dir(&scratch)?.filter_map(Result::ok);
        entries
            .map(|entry| entry.path())
            .find(is_archive)
            .context("apt-get source brought no archive")
    }

    /// `command` on the host, in the server's system.
    pub(super) fn native(&self, command: &[&str]) -> Command {
        let mut unshare = as_root("unshare");
        unshare.arg("--mount");
        if !is_root() {
            unshare.args(["--map-root-user", "--map-auto"]);
        }
        // Not in a process namespace: what is waited for is the work itself, whose processor time can be read.
        let script = "tree=$1; shift; for d in dev proc sys; do mount --rbind /$d $tree/$d; done
            mount -t tmpfs tmpfs $tree/tmp; mount -t tmpfs tmpfs $tree/run; mkdir $tree/run/lock
            exec chroot $tree \"$@\"";
        unshare.args(["sh", "-ec", script, "sh"]).arg(self.tree());
        unshare.args(command);
        unshare
    }

    /// The file that says what the part `name` was made from.
    fn note(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.made-from"))
    }

    /// Makes the part `name` unless it was made from the same before.
    fn part(
        &self,
        name: &str,
        made_from: &str,
        make: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let note = self.note(name);
        if fs::read_to_string(&note).is_ok_and(|text| text == made_from) {
            return Ok(());
        }
        remove(&note)?;
        make()?;
        Ok(fs::write(&note, made_from)?)
    }
}

/// Texts by their paths.
type Texts = Vec<(PathBuf, String)>;

fn read_all(paths: &[PathBuf]) -> std::io::Result<Texts> {
    let read = |path: &PathBuf| Ok((path.clone(), fs::read_to_string(path)?));
    paths.iter().map(read).collect()
}

/// The files in `folder` and below, in the order of their names.
fn files_below(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(files_below(&path)?);
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Whether root runs this.
fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// A program that may lie where only root looks.
fn as_root(name: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(name);
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// Removes a file or a folder, which need not be there.
fn remove(path: &Path) -> std::io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    removed.or_else(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    })
}
