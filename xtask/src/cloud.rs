//! A disk as clouds hand it out, made of a server's: GPT, with an EFI system partition and the root file system found by
//! PARTUUID, Debian's generic kernel, GRUB's configuration; compressed qcow2 under a larger one.
//!
//! No such image can be had where only packages can; what is special about them can be made.

use crate::process::succeed;
use anyhow::Context as _;
use guests::{Kernel, Server, ServerOptions, build_server};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The root's partition, as GRUB and the kernel call it.
const ROOT: &str = "5e7f1a10-0001-4000-8000-000000000001";
/// Where its partitions begin, in MiB; and how long the EFI system partition is.
const EFI_MIB: u64 = 4;
const ROOT_MIB: u64 = 128;
const EFI_BYTES: u64 = 124 << 20;
const SERVER_BYTES: u64 = 2 << 30;

/// A server whose disk looks like that, in the new folder `folder`.
pub(crate) fn server(folder: &Path) -> anyhow::Result<Server> {
    let options = ServerOptions {
        kernel: Kernel::Generic,
        bytes: SERVER_BYTES,
        ..ServerOptions::default()
    };
    let server = build_server(&folder.join("root.img"), &options, |line| {
        eprintln!("{line}")
    })?;
    configure(&server.image, folder)?;
    let disk = partition(&server.image, folder)?;
    let base = folder.join("base.qcow2");
    succeed(
        tool("qemu-img")
            .args(["convert", "-c", "-O", "qcow2"])
            .arg(&disk)
            .arg(&base),
    )?;
    let image = folder.join("cloud.qcow2");
    let mut create = tool("qemu-img");
    create.args([
        "create",
        "-q",
        "-f",
        "qcow2",
        "-F",
        "qcow2",
        "-b",
        "base.qcow2",
    ]);
    succeed(create.arg(&image).arg("8G"))?;
    for needless in [disk, server.image] {
        fs::remove_file(needless)?;
    }
    Ok(Server { image, ..server })
}

/// A tool of Debian's, some of which lie where only root looks.
fn tool(name: &str) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin");
    command
}

/// Puts GRUB's configuration into the file system `root`, as `update-grub` writes it.
fn configure(root: &Path, folder: &Path) -> anyhow::Result<()> {
    let listed = tool("debugfs")
        .args(["-R", "ls -p /boot"])
        .arg(root)
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let version = listed
        .split('/')
        .find_map(|name| name.strip_prefix("vmlinuz-"));
    let version = version.context("the server has no kernel in /boot")?;
    let text = format!(
        "set default=\"0\"\n\
         menuentry 'Debian GNU/Linux' --class debian {{\n\
         \tinsmod part_gpt\n\
         \tlinux\t/boot/vmlinuz-{version} root=PARTUUID={ROOT} ro console=tty0 console=ttyS0,115200 consoleblank=0\n\
         \tinitrd\t/boot/initrd.img-{version}\n\
         }}\n"
    );
    let config = folder.join("grub.cfg");
    fs::write(&config, text)?;
    for request in [
        "mkdir /boot/grub".to_owned(),
        format!("write {} /boot/grub/grub.cfg", config.display()),
    ] {
        succeed(
            tool("debugfs")
                .args(["-w", "-R", &request])
                .arg(root)
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )?;
    }
    Ok(())
}

/// What `sfdisk` makes: numbers, order and types as in Debian's own images, where the root is the first and lies last.
fn table() -> String {
    format!(
        "label: gpt\n\
         1 : start=262144, uuid={ROOT}, type=4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709\n\
         14 : start=2048, size=6144, type=21686148-6449-6E6F-744E-656564454649\n\
         15 : start=8192, size=253952, type=U\n"
    )
}

/// The raw disk with `root` in its first partition.
fn partition(root: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let (disk, efi) = (folder.join("disk.raw"), folder.join("efi"));
    File::create_new(&efi)?.set_len(EFI_BYTES)?;
    succeed(
        tool("mkfs.vfat")
            .args(["-n", "EFI"])
            .arg(&efi)
            .stdout(Stdio::null()),
    )
    .context("apt-get install dosfstools")?;
    // The table's copy lies behind the last partition.
    File::create_new(&disk)?.set_len((ROOT_MIB << 20) + SERVER_BYTES + (1 << 20))?;
    let mut sfdisk = tool("sfdisk")
        .arg("-q")
        .arg(&disk)
        .stdin(Stdio::piped())
        .spawn()
        .context("apt-get install fdisk")?;
    sfdisk
        .stdin
        .take()
        .context("it is piped")?
        .write_all(table().as_bytes())?;
    anyhow::ensure!(sfdisk.wait()?.success(), "sfdisk failed");
    for (part, mib) in [(efi.as_path(), EFI_MIB), (root, ROOT_MIB)] {
        let mut copy = tool("dd");
        copy.args([
            "bs=1M",
            "conv=notrunc,sparse",
            "status=none",
            &format!("seek={mib}"),
        ]);
        copy.arg(format!("if={}", part.display()))
            .arg(format!("of={}", disk.display()));
        succeed(&mut copy)?;
    }
    Ok(disk)
}
