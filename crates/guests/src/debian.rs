//! Fetches Debian packages as an ordinary user: `apt-get download` and `dpkg-deb -x` need no root.
//!
//! apt checks the archive's signatures and each package's digest, so nothing here has to.
//! A fresh container has no package lists, or old ones whose packages are gone from the mirror. Then lists of our own are
//! fetched into a private directory, which needs no root either.

use crate::{Error, tool};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A fetched and unpacked package.
pub(crate) struct Unpacked {
    /// `name_version_architecture`, as the mirror calls it.
    pub(crate) identity: String,
    /// Where its files lie.
    pub(crate) root: PathBuf,
}

/// apt, with either the host's package lists or our own.
pub(crate) struct Apt {
    scratch: PathBuf,
    private_lists: bool,
}

impl Apt {
    /// Works in `scratch`, which the caller removes.
    pub(crate) fn new(scratch: &Path) -> Self {
        Self {
            scratch: scratch.to_owned(),
            private_lists: false,
        }
    }

    /// The package that the meta package `meta` stands for today: `linux-image-6.1.0-…` for `linux-image-amd64`.
    pub(crate) fn kernel_behind(&mut self, meta: &str) -> Result<String, Error> {
        for _ in 0..2 {
            let found = self
                .apt("apt-cache", &["depends", meta])
                .ok()
                .and_then(|out| {
                    let text = String::from_utf8_lossy(&out).into_owned();
                    text.lines()
                        .filter_map(|line| line.trim().strip_prefix("Depends: "))
                        .find(|name| name.starts_with("linux-image-"))
                        .map(str::to_owned)
                });
            if let Some(name) = found {
                return Ok(name);
            }
            self.fetch_private_lists()?;
        }
        Err(Error::PackageUnknown {
            package: meta.to_owned(),
        })
    }

    /// Downloads and unpacks `package`.
    pub(crate) fn unpack(&mut self, package: &str) -> Result<Unpacked, Error> {
        let folder = self.scratch.join(package);
        fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        if let Err(first) = self.download(package, &folder) {
            if self.private_lists {
                return Err(first);
            }
            self.fetch_private_lists()?;
            self.download(package, &folder)?;
        }
        let archive = fs::read_dir(&folder)
            .map_err(Error::file("read", &folder))?
            .filter_map(Result::ok)
            .map(|entry| entry.path())
            .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
            .ok_or_else(|| Error::PackageUnknown {
                package: package.to_owned(),
            })?;
        let identity = archive
            .file_stem()
            .map(|stem| stem.to_string_lossy().replace("%3a", ":"))
            .unwrap_or_default();
        let root = folder.join("root");
        tool::run(
            Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&root),
            "dpkg-deb",
            "dpkg",
        )?;
        fs::remove_file(&archive).map_err(Error::file("remove", &archive))?;
        Ok(Unpacked { identity, root })
    }

    fn download(&self, package: &str, folder: &Path) -> Result<(), Error> {
        tool::run(
            self.command("apt-get")
                .args(["download", package])
                .current_dir(folder),
            "apt-get",
            "apt",
        )
        .map(|_| ())
    }

    fn apt(&self, program: &'static str, arguments: &[&str]) -> Result<Vec<u8>, Error> {
        tool::run(self.command(program).args(arguments), program, "apt")
    }

    fn fetch_private_lists(&mut self) -> Result<(), Error> {
        self.private_lists = true;
        for folder in ["apt/lists/partial", "apt/cache/archives/partial"] {
            let path = self.scratch.join(folder);
            fs::create_dir_all(&path).map_err(Error::file("create", &path))?;
        }
        self.apt("apt-get", &["update"]).map(|_| ())
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // Root's apt would hand the download to the user `_apt`, who cannot write into our scratch directory.
        command.args(["-q", "-o", "APT::Sandbox::User=root"]);
        if self.private_lists {
            command.arg("-o").arg(format!(
                "Dir::State::lists={}",
                self.scratch.join("apt/lists").display()
            ));
            command.arg("-o").arg(format!(
                "Dir::Cache={}",
                self.scratch.join("apt/cache").display()
            ));
        }
        command
    }
}
