//! Builds the image of a Debian server: a disk without partitions, with one ext4 file system.
//!
//! The laws here:
//! - No root: `mmdebstrap` and `unshare` work in user namespaces of their own. As root they need none.
//! - The same packages, key and size give the same bytes: nothing in the image is random or of the day when it was built.
//! - Packages come from where the host's own apt gets Debian 12 from.

use crate::{Error, Kernel, sources, tool, write};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Debian 12.
const RELEASE: &str = "bookworm";

/// What is in every image besides the kernel.
const PACKAGES: &[&str] = &[
    "apache2",
    "ca-certificates",
    "curl",
    "dbus",
    "e2fsprogs",
    "iproute2",
    "iputils-ping",
    "kmod",
    "less",
    "nano",
    "openssh-server",
    "procps",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
];

/// What of the packages is left out: nobody reads it there, and it is a third of the image.
const LEFT_OUT: &[&str] = &[
    "path-exclude=/usr/share/doc/*",
    "path-include=/usr/share/doc/*/copyright",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
];

/// The UUID of the file system, and what its directories' hashes begin with; `guests/server/etc/fstab` names it.
const FILE_SYSTEM_UUID: &str = "72657669-7274-4000-8000-736572766572";

/// The date of everything in an image, in seconds since 1970: that of Debian 12.
const DATE_UNIX_S: &str = "1686355200";

/// The least size of an image: what the packages need, with room for the journal.
const BYTES_MIN: u64 = 1 << 30;

/// What an image is to be.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Debian packages besides those that every image has.
    pub include: Vec<String>,
    /// Which of Debian's kernels.
    pub kernel: Kernel,
    /// The size of the disk; what is not used takes no room on the host.
    pub bytes: u64,
    /// The SSH public key that lets its owner in as root. Without one a pair is made beside the image, or taken from there.
    pub ssh_key: Option<PathBuf>,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            kernel: Kernel::Cloud,
            bytes: 4 << 30,
            ssh_key: None,
        }
    }
}

/// An image, and how to get into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// The disk, raw.
    pub image: PathBuf,
    /// The private key that lets its owner in as root, if it lies beside the image.
    pub key: Option<PathBuf>,
}

/// Builds the image `path`, which must not exist yet. Everything is made beside it and moved into place when it is whole.
///
/// # Errors
/// See [`Error`]; each says what to install or to check.
pub fn build_server(path: &Path, options: &ServerOptions, say: fn(&str)) -> Result<Server, Error> {
    if options.bytes < BYTES_MIN {
        return Err(Error::ImageSmall {
            bytes: options.bytes,
            bytes_min: BYTES_MIN,
        });
    }
    if path.symlink_metadata().is_ok() {
        return Err(Error::Exists { path: path.into() });
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        check_uidmap()?;
    }
    let scratch = tempfile::Builder::new()
        .prefix(".building-")
        .tempdir_in(folder_of(path))
        .map_err(Error::file("create a directory beside", path))?;
    let scratch = scratch.path();
    let (public, key) = match &options.ssh_key {
        Some(public) => (public.clone(), None),
        None => key_beside(path).map(|(public, key)| (public, Some(key)))?,
    };
    let archive = scratch.join("root.tar");
    say("Fetching Debian's packages and installing them (a minute or two) ...");
    install(&archive, scratch, &public, options)?;
    say("Making the file system ...");
    let image = scratch.join("image");
    pack(&archive, &image, scratch, options.bytes, is_root)?;
    fs::rename(&image, path).map_err(Error::file("move the image to", path))?;
    Ok(Server {
        image: path.to_owned(),
        key,
    })
}

/// The folder that `path` is in.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|folder| *folder != Path::new(""));
    folder.unwrap_or(Path::new("."))
}

/// Whether an ordinary user can have a user namespace with several users in it: without, mmdebstrap would only say that
/// none of its modes will do.
fn check_uidmap() -> Result<(), Error> {
    let missing = |_| Error::ToolMissing {
        program: "newuidmap",
        package: "uidmap",
    };
    tool::run(
        &mut system("sh", &["-c", "command -v newuidmap"]),
        "sh",
        "dash",
    )
    .map(drop)
    .map_err(missing)
}

/// The key pair that belongs to the image `path`: public, private.
fn key_beside(path: &Path) -> Result<(PathBuf, PathBuf), Error> {
    let with = |ending| {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (public, key) = (with(".key.pub"), with(".key"));
    if !(public.exists() && key.exists()) {
        let mut command = system(
            "ssh-keygen",
            &["-q", "-t", "ed25519", "-N", "", "-C", "revirt"],
        );
        tool::run(command.arg("-f").arg(&key), "ssh-keygen", "openssh-client")?;
    }
    Ok((public, key))
}

/// Makes `archive`, the whole system as a tar file.
fn install(
    archive: &Path,
    scratch: &Path,
    public: &Path,
    options: &ServerOptions,
) -> Result<(), Error> {
    let list = scratch.join("sources.list");
    write(&list, debian_sources()?.as_bytes())?;
    let overlay = overlay(scratch, public)?;
    let packages: Vec<&str> = PACKAGES
        .iter()
        .copied()
        .chain([options.kernel.package()])
        .chain(options.include.iter().map(String::as_str))
        .collect();
    let mut command = system(
        "mmdebstrap",
        &["--quiet", "--variant=minbase", "--architectures=amd64"],
    );
    command.arg(format!("--include={}", packages.join(",")));
    for rule in LEFT_OUT {
        command.arg(format!("--dpkgopt={rule}"));
    }
    // Before the kernel is installed, which makes an initial RAM disk as these files say.
    command.arg(format!("--essential-hook=tar-in {} /", quoted(&overlay)));
    command.arg("--customize-hook=chroot \"$1\" sh /finish");
    command.env("SOURCE_DATE_EPOCH", DATE_UNIX_S);
    command.arg(RELEASE).arg(archive).arg(&list);
    tool::run(&mut command, "mmdebstrap", "mmdebstrap").map(drop)
}

/// The lines of a `sources.list` with what the host's apt knows of Debian 12.
fn debian_sources() -> Result<String, Error> {
    let mut command = system("apt-get", &["indextargets", "Created-By: Packages"]);
    command.args(["--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)"]);
    let text = tool::run(&mut command, "apt-get", "apt")?;
    let lines = of_the_release(&String::from_utf8_lossy(&text));
    if lines.is_empty() {
        return Err(Error::NoSource { release: RELEASE });
    }
    Ok(lines)
}

/// Those of `lines` (`deb URI SUITE COMPONENT`) that are of Debian 12: the release, its updates and its security archive.
fn of_the_release(lines: &str) -> String {
    let is_debian = |line: &&str| {
        let suite = line.split(' ').nth(2).unwrap_or_default();
        suite.split(['-', '/']).next() == Some(RELEASE)
    };
    let lines = lines.lines().filter(is_debian);
    lines.map(|line| format!("{line}\n")).collect()
}

/// A tar file with what is put over the packages: root's files, of a fixed date.
fn overlay(scratch: &Path, public: &Path) -> Result<PathBuf, Error> {
    let tree = scratch.join("overlay");
    let key = fs::read_to_string(public).map_err(Error::file("read the public key", public))?;
    let mut names = vec!["root/.ssh/authorized_keys"];
    let files = [("root/.ssh/authorized_keys", key.as_str())];
    for (name, text) in sources::SERVER.iter().copied().chain(files) {
        let path = tree.join(name);
        let folder = path.parent().unwrap_or(&tree);
        fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
        write(&path, text.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644))
            .map_err(Error::file("set the mode of", &path))?;
    }
    names.extend(sources::SERVER.iter().map(|(name, _)| *name));
    let archive = scratch.join("overlay.tar");
    let mut command = system("tar", &["--owner=0", "--group=0", "--sort=name"]);
    command
        .arg(format!("--mtime=@{DATE_UNIX_S}"))
        .arg("-C")
        .arg(&tree);
    command.arg("-cf").arg(&archive).args(names);
    tool::run(&mut command, "tar", "tar")?;
    Ok(archive)
}

/// Makes the disk `image` of `archive`.
fn pack(
    archive: &Path,
    image: &Path,
    scratch: &Path,
    bytes: u64,
    is_root: bool,
) -> Result<(), Error> {
    let script = scratch.join("pack");
    write(&script, sources::SERVER_PACK.as_bytes())?;
    let mut command = if is_root {
        system("sh", &[])
    } else {
        // So that each file has its owner: as many users as the host lets us have.
        system("unshare", &["--map-root-user", "--map-auto", "--", "sh"])
    };
    command
        .arg(&script)
        .arg(archive)
        .arg(scratch.join("tree"))
        .arg(image);
    command.args([&bytes.to_string(), FILE_SYSTEM_UUID, DATE_UNIX_S]);
    let program = if is_root { "sh" } else { "unshare" };
    tool::run(&mut command, program, "util-linux")?;
    Ok(())
}

/// `program` with `arguments`, and with the system's programs within reach: they are not on every user's path.
fn system(program: &str, arguments: &[&str]) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env("PATH", format!("{path}:/usr/local/sbin:/usr/sbin:/sbin"));
    command
}

/// `path` as a word of mmdebstrap's, which splits them as a shell does.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_s_own_sources_are_taken() {
        let taken = "deb http://one bookworm main\n\
            deb http://one bookworm-updates main\n\
            deb http://two bookworm-security main\n";
        let others =
            "deb http://three tools-bookworm main\ndeb http://four trixie main\nnonsense\n";
        assert_eq!(of_the_release(&format!("{taken}{others}")), taken);
        assert_eq!(of_the_release(others), "");
    }

    #[test]
    fn an_image_is_never_overwritten_and_one_that_is_too_small_is_refused() {
        let there = tempfile::NamedTempFile::new().expect("there is room");
        let build = |bytes| {
            let options = ServerOptions {
                bytes,
                ..ServerOptions::default()
            };
            build_server(there.path(), &options, |_| ())
        };
        assert!(matches!(build(4 << 30), Err(Error::Exists { .. })));
        assert!(matches!(build(1 << 20), Err(Error::ImageSmall { .. })));
    }

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
