//! Builds the guests, as an ordinary user, from Debian's packages and the sources in `guests/`.
//!
//! The laws here:
//! - Debian's kernels are taken as they are: `vmlinuz` is the file that the package holds.
//! - A guest is built once and kept; it is built again when its sources change. Whoever asks for a file gets its path, and
//!   the file is there. Two processes may ask at once: one builds, the other waits.
//! - A half-built guest is never seen: everything is made in a scratch directory and renamed into place.
//!
//! A directory of guests holds:
//!
//! | path | what |
//! |---|---|
//! | `cloud/vmlinuz` | the kernel of `linux-image-cloud-amd64` |
//! | `generic/vmlinuz` | the kernel of `linux-image-amd64` |
//! | `*/modules/VERSION` | those of a kernel's modules that a first root file system needs, and lists that name them |
//! | `default/initrd` | the default guest's initramfs, uncompressed: quickest to boot |
//! | `default/initrd.gz` | the same, compressed with gzip |
//! | `default/programs`, `default/ia32` | the programs in it, for running them on the host |
//! | `tools/root` | Debian's own programs with their libraries, for running them on the host |
//! | `tools-initrd/initrd` | the second guest's initramfs: the default guest's, and these |
//! | `server/server.img` | a Debian server, as a disk; `server.img.key` opens it |
//! | `passt/usr` | the program that makes a guest's network |
//! | `busybox/busybox` | the default guest's programs, for use on the host |
//! | `kernels/NAME.elf` | bare-metal Multiboot 1 kernels |
//! | `*/made-from` | what a part was made from: package or sources, by name and digest |

mod compile;
pub mod cpio;
mod debian;
mod error;
mod initramfs;
mod modules;
mod server;
mod sources;
mod tool;
mod tools;

pub use error::Error;
pub use server::{Server, ServerOptions, build_server};

use debian::Apt;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name of the image in the folder of the server.
const SERVER_IMAGE: &str = "server.img";

/// The kernel command line of the default guest.
pub const DEFAULT_APPEND: &str = "console=ttyS0";

/// The line that the default guest prints when its shell is about to start.
pub const READY: &str = "ReVirt guest ready.";

/// The command in the default guest that runs every program whose output is the same on every machine.
pub const CHECKS: &str = "checks";

/// What [`CHECKS`] prints; taken from silicon.
pub const CHECKS_EXPECTED: &str = sources::CHECKS_EXPECTED;
/// What the program [`WIDE`] prints on every x86-64-v3 processor.
pub const WIDE_EXPECTED: &str = sources::WIDE_EXPECTED;
/// The program that uses what x86-64-v3 adds; on a lesser processor it says so.
pub const WIDE: &str = "wide";

/// One of Debian's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kernel {
    /// `linux-image-cloud-amd64`: for virtual machines; small, compressed with LZ4.
    Cloud,
    /// `linux-image-amd64`: for every PC; compressed with XZ.
    Generic,
}

impl Kernel {
    fn package(self) -> &'static str {
        match self {
            Self::Cloud => "linux-image-cloud-amd64",
            Self::Generic => "linux-image-amd64",
        }
    }

    fn part(self) -> &'static str {
        match self {
            Self::Cloud => "cloud",
            Self::Generic => "generic",
        }
    }
}

/// What a machine needs to run the default guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultGuest {
    /// The kernel, a bzImage.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub append: &'static str,
}

/// The second guest, with Debian's own programs, and the same for the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tools {
    /// The guest. All of the default guest is in it too.
    pub guest: DefaultGuest,
    /// Where the same files lie on the host: `TOOLS_ROOT` of [`Tools::script`].
    pub root: PathBuf,
    /// The script that does a piece of work, called by its name.
    pub script: PathBuf,
    /// The names.
    pub names: &'static [&'static str],
}

/// A bare-metal Multiboot 1 kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BareKernel {
    /// The ELF file.
    pub path: PathBuf,
    /// What it prints on the serial port; that it ends with `passed` means that its own checks held.
    pub expected: &'static str,
}

/// What a bare-metal kernel writes to the exit port (isa-debug-exit at 0xf4) when its checks held.
pub const BARE_SUCCESS: u8 = 0x10;

/// What it writes there when one did not; the console then says which.
pub const BARE_FAILURE: u8 = 0x11;

/// A directory of guests.
#[derive(Debug)]
pub struct Guests {
    folder: PathBuf,
    say: fn(&str),
}

impl Guests {
    /// The guests in `folder`, which need not exist yet. `say` is told, in a line each, of what takes long.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>, say: fn(&str)) -> Self {
        Self {
            folder: folder.into(),
            say,
        }
    }

    /// The guests of the person who runs the command: in `$REVIRT_GUESTS`, or else in the user's cache directory.
    ///
    /// # Errors
    /// [`Error::NoPlace`] if the environment names neither, nor a home.
    pub fn of_the_user(say: fn(&str)) -> Result<Self, Error> {
        let set = |name| {
            std::env::var_os(name)
                .filter(|value| !value.is_empty())
                .map(PathBuf::from)
        };
        let folder = set("REVIRT_GUESTS")
            .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("revirt/guests")))
            .or_else(|| set("HOME").map(|home| home.join(".cache/revirt/guests")))
            .ok_or(Error::NoPlace)?;
        Ok(Self::at(folder, say))
    }

    /// The guests of this source tree, for its tests and tools: in `$REVIRT_GUESTS`, or else in `target/guests`.
    #[must_use]
    pub fn of_the_tree(say: fn(&str)) -> Self {
        let folder = std::env::var_os("REVIRT_GUESTS")
            .map_or_else(|| tree().join("target/guests"), PathBuf::from);
        Self::at(folder, say)
    }

    /// Where the guests are kept.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The default guest, built on first use.
    ///
    /// # Errors
    /// See [`Error`]; each says what to install or to check.
    pub fn default_guest(&self) -> Result<DefaultGuest, Error> {
        Ok(DefaultGuest {
            kernel: self.kernel(Kernel::Cloud)?,
            initrd: self.initrd()?,
            append: DEFAULT_APPEND,
        })
    }

    /// The path of a kernel from Debian, fetched on first use.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn kernel(&self, kernel: Kernel) -> Result<PathBuf, Error> {
        Ok(self.kernel_part(kernel)?.join("vmlinuz"))
    }

    fn kernel_part(&self, kernel: Kernel) -> Result<PathBuf, Error> {
        // No digest of the package: a kernel that is there stays, so that a run does not change from day to day.
        self.part(kernel.part(), &modules::described(), |scratch, output| {
            (self.say)(&format!(
                "Fetching the kernel of Debian's {} ...",
                kernel.package()
            ));
            let mut apt = Apt::new(scratch);
            let package = apt.kernel_behind(kernel.package())?;
            let unpacked = apt.unpack(&package)?;
            let boot = unpacked.root.join("boot");
            let image = fs::read_dir(&boot)
                .map_err(Error::file("read", &boot))?
                .filter_map(Result::ok)
                .find(|entry| entry.file_name().to_string_lossy().starts_with("vmlinuz-"))
                .ok_or_else(|| Error::PackageUnexpected {
                    package: package.clone(),
                    what: "boot/vmlinuz-*",
                })?
                .path();
            move_file(&image, &output.join("vmlinuz"))?;
            modules::collect(&unpacked.root, &package, &output.join("modules"))?;
            Ok(unpacked.identity)
        })
    }

    /// The path of the default guest's initramfs, uncompressed.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn initrd(&self) -> Result<PathBuf, Error> {
        Ok(self.default_part()?.join("initrd"))
    }

    /// The path of the default guest's initramfs, compressed with gzip as most are.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn initrd_gz(&self) -> Result<PathBuf, Error> {
        Ok(self.default_part()?.join("initrd.gz"))
    }

    /// The path of the binary that holds the 64-bit programs; called as `programs NAME ARGUMENTS`, it runs on the host too.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn programs(&self) -> Result<PathBuf, Error> {
        Ok(self.default_part()?.join("programs"))
    }

    /// The bare-metal kernels, in the order of their names.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn bare_kernels(&self) -> Result<Vec<BareKernel>, Error> {
        let part = self.part("kernels", &sources_digest(), |scratch, output| {
            (self.say)("Building the bare-metal test kernels ...");
            for kernel in sources::KERNELS {
                compile::kernel(scratch, output, kernel)?;
            }
            Ok("sources".to_owned())
        })?;
        let kernels = sources::KERNELS.iter().map(|kernel| BareKernel {
            path: part.join(compile::elf_name(kernel.name)),
            expected: kernel.expected,
        });
        Ok(kernels.collect())
    }

    /// The second guest, built on first use.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn tools(&self) -> Result<Tools, Error> {
        let tools = self.part("tools", &tools_digest(), |scratch, output| {
            (self.say)("Fetching Debian's programs for the second guest ...");
            let root = output.join("root");
            let identity = tools::unpack(&mut Apt::new(scratch), &root)?;
            write(&output.join("archive"), &tools::archive(&root)?)?;
            Ok(identity)
        })?;
        let default = self.default_part()?;
        let digest = format!("{} {}", digest_line(&default)?, tools_digest());
        let joined = self.part("tools-initrd", &digest, |_, output| {
            // The kernel unpacks archives that follow one another.
            let mut initrd = read(&default.join("initrd"))?;
            initrd.extend(read(&tools.join("archive"))?);
            write(&output.join("initrd"), &initrd)?;
            Ok("default/initrd and tools/archive".to_owned())
        })?;
        Ok(Tools {
            guest: DefaultGuest {
                kernel: self.kernel(Kernel::Cloud)?,
                initrd: joined.join("initrd"),
                append: DEFAULT_APPEND,
            },
            root: tools.join("root"),
            script: tools.join("root/usr/share/tools/tool"),
            names: tools::NAMES,
        })
    }

    /// A Debian server, built on first use.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn server(&self) -> Result<Server, Error> {
        let part = self.part("server", &server_digest(), |_, output| {
            let image = output.join(SERVER_IMAGE);
            build_server(&image, &ServerOptions::default(), self.say)?;
            Ok("Debian 12".to_owned())
        })?;
        Ok(Server {
            image: part.join(SERVER_IMAGE),
            key: Some(part.join(format!("{SERVER_IMAGE}.key"))),
        })
    }

    /// The folder with Debian's `passt`, for tests of the network: to be put into `PATH`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn passt(&self) -> Result<PathBuf, Error> {
        let part = self.part("passt", "passt, as Debian has it", |scratch, output| {
            (self.say)("Fetching Debian's passt ...");
            let unpacked = Apt::new(scratch).unpack("passt")?;
            move_file(&unpacked.root.join("usr"), &output.join("usr"))?;
            Ok(unpacked.identity)
        })?;
        Ok(part.join("usr/bin"))
    }

    /// Debian's static busybox, for tests that want its programs on the host: not every host has `ip`, or a `ping`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn busybox(&self) -> Result<PathBuf, Error> {
        let part = self.part(
            "busybox",
            "busybox-static, as Debian has it",
            |scratch, output| {
                (self.say)("Fetching Debian's busybox ...");
                let unpacked = Apt::new(scratch).unpack("busybox-static")?;
                move_file(&unpacked.root.join("bin/busybox"), &output.join("busybox"))?;
                Ok(unpacked.identity)
            },
        )?;
        Ok(part.join("busybox"))
    }

    fn default_part(&self) -> Result<PathBuf, Error> {
        let kernel = self.kernel_part(Kernel::Cloud)?;
        let modules = modules::files(&kernel.join("modules"))?;
        let digest = digest_with(&modules);
        self.part("default", &digest, |scratch, output| {
            (self.say)("Building the default guest's initramfs ...");
            compile::programs(scratch, &output.join("programs"))?;
            compile::ia32(scratch, &output.join("ia32"))?;
            let unpacked = Apt::new(scratch).unpack("busybox-static")?;
            let busybox = unpacked.root.join("bin/busybox");
            let list = |command: &mut Command| {
                tool::run(command, "busybox", "busybox-static").map(|out| {
                    String::from_utf8_lossy(&out)
                        .lines()
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                })
            };
            let applets = list(Command::new(&busybox).arg("--list"))?;
            let names = list(Command::new(output.join("programs")).arg("--list"))?;
            let archive = initramfs::archive(&initramfs::Parts {
                busybox: &read(&busybox)?,
                programs: &read(&output.join("programs"))?,
                ia32: &read(&output.join("ia32"))?,
                names: &names,
                applets: &applets,
                modules: &modules,
            });
            write(&output.join("initrd"), &archive)?;
            let gz = output.join("initrd.gz");
            write(
                &gz,
                &initramfs::gzip(&archive).map_err(Error::file("compress", &gz))?,
            )?;
            Ok(unpacked.identity)
        })
    }

    /// Gives the folder of the part `name`, after `build` has filled it if it is not there or was made from other sources.
    fn part(
        &self,
        name: &str,
        digest: &str,
        build: impl FnOnce(&Path, &Path) -> Result<String, Error>,
    ) -> Result<PathBuf, Error> {
        let place = self.folder.join(name);
        let up_to_date = || {
            fs::read_to_string(place.join("made-from"))
                .is_ok_and(|text| text.lines().any(|line| line == digest))
        };
        if up_to_date() {
            return Ok(place);
        }
        fs::create_dir_all(&self.folder).map_err(Error::file("create", &self.folder))?;
        let lock_path = self.folder.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(Error::file("create", &lock_path))?;
        lock.lock().map_err(Error::file("lock", &lock_path))?;
        if up_to_date() {
            return Ok(place);
        }
        let scratch = tempfile::Builder::new()
            .prefix(".building-")
            .tempdir_in(&self.folder)
            .map_err(Error::file("create a directory in", &self.folder))?;
        let output = scratch.path().join("output");
        fs::create_dir(&output).map_err(Error::file("create", &output))?;
        let origin = build(scratch.path(), &output)?;
        write(
            &output.join("made-from"),
            format!("{origin}\n{digest}\n").as_bytes(),
        )?;
        if place.exists() {
            fs::remove_dir_all(&place).map_err(Error::file("remove", &place))?;
        }
        fs::rename(&output, &place).map_err(Error::file("move the guest to", &place))?;
        Ok(place)
    }
}

/// The root of this source tree.
fn tree() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("this crate lies in crates/guests")
}

fn tools_digest() -> String {
    let mut hasher = digester_of(sources::TOOLS.iter().copied());
    hasher.update(include_bytes!("tools.rs"));
    format!("tools {}", hasher.finalize().to_hex())
}

fn server_digest() -> String {
    let mut hasher = digester_of(sources::SERVER.iter().copied());
    hasher
        .update(sources::SERVER_PACK.as_bytes())
        .update(include_bytes!("server.rs"));
    format!("server {}", hasher.finalize().to_hex())
}

fn digester_of(list: impl Iterator<Item = sources::Source>) -> blake3::Hasher {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in list {
        // Lengths first, so that no two lists of sources run together into the same bytes.
        for part in [name, text] {
            hasher
                .update(&(part.len() as u64).to_le_bytes())
                .update(part.as_bytes());
        }
    }
    hasher
}

fn sources_digest() -> String {
    let mut hasher = digester_of(sources::all());
    // What the builder makes of the sources is part of what they make.
    hasher
        .update(include_bytes!("compile.rs"))
        .update(include_bytes!("initramfs.rs"));
    format!("sources {}", hasher.finalize().to_hex())
}

/// [`sources_digest`], with `files` besides.
fn digest_with(files: &[(String, Vec<u8>)]) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, bytes) in files {
        hasher
            .update(name.as_bytes())
            .update(&(bytes.len() as u64).to_le_bytes())
            .update(bytes);
    }
    format!(
        "{} and modules {}",
        sources_digest(),
        hasher.finalize().to_hex()
    )
}

/// What the part in `folder` was made from: sources.
fn digest_line(folder: &Path) -> Result<String, Error> {
    let path = folder.join("made-from");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    Ok(text.lines().last().unwrap_or_default().to_owned())
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(Error::file("read", path))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(path, bytes).map_err(Error::file("write", path))
}

fn move_file(from: &Path, to: &Path) -> Result<(), Error> {
    fs::rename(from, to).map_err(Error::file("move a file to", to))
}
