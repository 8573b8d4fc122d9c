//! The machine's disks, as the user names them.

use std::path::PathBuf;
use std::str::FromStr;

use anyhow::{Result, bail};
use host::disk::{Disk, Format, Image, Known, Overlay, Stamps};
use log::Layout;
use machine::{Backing, DiskConfig, Failed, MachineConfig, SECTOR_BYTES};
use seal::Digest;
use session::Recording;

use crate::progress::Bar;
use crate::report::Report;

/// `FILE[,ro][,serial=NAME][,format=raw|qcow2]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DiskOption {
    path: PathBuf,
    is_read_only: bool,
    serial: Option<String>,
    format: Option<Format>,
}

impl FromStr for DiskOption {
    type Err = String;

    /// Options are taken from the end, as long as there are any: so a path may
    /// have commas in it.
    fn from_str(text: &str) -> Result<DiskOption, String> {
        let (mut is_read_only, mut serial, mut format) = (false, None, None);
        let mut path = text;
        while let Some((before, option)) = path.rsplit_once(',') {
            match option.split_once('=') {
                None if option == "ro" => is_read_only = true,
                Some(("serial", name)) => serial = Some(name.to_owned()),
                Some(("format", name)) => format = Some(name.parse()?),
                _ => break,
            }
            path = before;
        }
        if path.is_empty() {
            return Err("a disk needs a file: write FILE[,ro][,serial=NAME]".to_owned());
        }
        Ok(DiskOption {
            path: path.into(),
            is_read_only,
            serial,
            format,
        })
    }
}

/// A disk that a machine is to have.
#[derive(Debug)]
pub(crate) struct Drive {
    image: Image,
    config: DiskConfig,
}

impl Drive {
    pub(crate) fn image(&self) -> &Image {
        &self.image
    }
}

/// How the contents of images come to be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Not at all.
    Unknown,
    /// By reading them, unless that was done before and they are as they were.
    Known,
    /// By reading them.
    Read,
}

/// Opens the images of `options`, and looks at what is in them as `contents`
/// says.
pub(crate) fn open(
    options: &[DiskOption],
    contents: Contents,
    report: &Report,
) -> Result<Vec<Drive>> {
    let drives = options.iter().enumerate().map(|(number, option)| {
        let image = Image::open(&option.path, option.format)?;
        let digest = digest(&image, contents, report)?;
        let serial = option.serial.clone();
        let config = DiskConfig {
            sectors: image.sectors(),
            is_read_only: option.is_read_only,
            serial: serial.unwrap_or_else(|| format!("disk{number}")),
            contents: digest,
        };
        Ok(Drive { image, config })
    });
    drives.collect()
}

/// The digest of what is in `image`, if it is wanted.
fn digest(
    image: &Image,
    contents: Contents,
    report: &Report,
) -> Result<Option<Digest>, host::disk::Error> {
    let known = Known::of_the_user();
    let path = image.path().display();
    let found = match contents {
        Contents::Unknown => return Ok(None),
        Contents::Known => known.digest_of(image),
        Contents::Read => None,
    };
    if found.is_some() {
        report.note(&format!("{path} was read before and has not changed since"));
        return Ok(found);
    }
    let bar = Bar::new(&format!("reading {path}"), report);
    known
        .learn(image, &mut |done, of| bar.set(done, of))
        .map(Some)
}

/// What the machine's configuration says of `drives`.
pub(crate) fn configure(config: &mut MachineConfig, drives: &[Drive]) {
    config.disks = drives.iter().map(|drive| drive.config.clone()).collect();
}

/// What a recording's manifest says of `drives`.
pub(crate) fn describe(drives: &[Drive], embedded: bool) -> Vec<session::Disk> {
    let disks = drives.iter().map(|Drive { image, config }| session::Disk {
        path: image.path().display().to_string(),
        format: image.format().name().to_owned(),
        bytes: config.sectors * SECTOR_BYTES,
        digest: config.contents.unwrap_or_default().to_string(),
        read_only: config.is_read_only,
        serial: config.serial.clone(),
        embedded,
    });
    disks.collect()
}

/// The files that the images of `drives` consist of, as they were.
pub(crate) fn stamps(drives: &[Drive]) -> Vec<Stamps> {
    let stamps = drives.iter().map(|drive| drive.image.stamps().clone());
    stamps.collect()
}

/// What the disks of a machine hold that is not recorded.
pub(crate) fn forgotten(drives: Vec<Drive>) -> Result<Vec<Box<dyn Backing>>> {
    drives
        .into_iter()
        .map(|drive| scratch(drive.image))
        .collect()
}

fn scratch(image: Image) -> Result<Box<dyn Backing>> {
    Ok(Box::new(Disk::new(image, Overlay::scratch()?)))
}

/// What the disks of a machine hold that is recorded in `layout`: what the
/// guest writes goes there, and with `embedded` the images, too.
pub(crate) fn kept(
    drives: Vec<Drive>,
    embedded: bool,
    layout: &Layout,
    report: &Report,
) -> Result<Vec<Box<dyn Backing>>, Failed> {
    let failed = |error: host::disk::Error| Failed(error.to_string());
    if !drives.is_empty() {
        let path = layout.disks();
        std::fs::create_dir(&path)
            .map_err(|source| failed(host::disk::Error::Write { path, source }))?;
    }
    let disks = drives.into_iter().enumerate().map(|(number, drive)| {
        let image = if embedded {
            embed(drive.image, number, layout, report).map_err(failed)?
        } else {
            drive.image
        };
        let overlay = Overlay::create(&layout.disk(number)).map_err(failed)?;
        Ok(Box::new(Disk::new(image, overlay)) as Box<dyn Backing>)
    });
    disks.collect()
}

/// Copies `image` into the recording; the machine's disk then lies on the copy.
fn embed(
    image: Image,
    number: usize,
    layout: &Layout,
    report: &Report,
) -> Result<Image, host::disk::Error> {
    let path = layout.embedded_disk(number);
    let bar = Bar::new(&format!("copying {}", image.path().display()), report);
    image.embed(&path, &mut |done, of| bar.set(done, of))?;
    image.stamps().check()?;
    Image::open(&path, Some(Format::Raw))
}

/// The contents that the disks of `recording` had at the start: from the
/// recording itself, from one of `bases`, or from where they were then.
pub(crate) fn recorded(
    recording: &Recording,
    bases: &[DiskOption],
    report: &Report,
) -> Result<Vec<Box<dyn Backing>>> {
    let mut bases = open(bases, Contents::Read, report)?;
    let disks = &recording.manifest().disks;
    let configs = &recording.config().disks;
    let images = disks
        .iter()
        .zip(configs)
        .enumerate()
        .map(|(number, (disk, config))| {
            let Some(expected) = config.contents else {
                bail!("disk {number} has no digest in the recording: it can't be replayed");
            };
            let given = bases
                .iter()
                .position(|base| base.config.contents == Some(expected));
            if let Some(given) = given.filter(|_| !disk.embedded) {
                return scratch(bases.remove(given).image);
            }
            let (path, format) = if disk.embedded {
                (recording.layout().embedded_disk(number), Format::Raw)
            } else {
                let format = disk.format.parse().map_err(anyhow::Error::msg)?;
                (PathBuf::from(&disk.path), format)
            };
            let image = Image::open(&path, Some(format)).map_err(|error| moved(number, error))?;
            let bar = Bar::new(&format!("checking {}", path.display()), report);
            image.check(expected, &mut |done, of| bar.set(done, of))?;
            scratch(image)
        });
    let images = images.collect::<Result<_>>()?;
    if let Some(base) = bases.first() {
        bail!(
            "{} is the image of no disk of this recording: its contents have digest {}, and `revirt info` tells those of the disks",
            base.image.path().display(),
            base.config.contents.unwrap_or_default()
        );
    }
    Ok(images)
}

/// What to say of an image that is not where it was.
fn moved(number: usize, error: host::disk::Error) -> anyhow::Error {
    match error {
        host::disk::Error::Read { path, source } => anyhow::anyhow!(
            "the image of disk {number} can't be read at {} ({source}): find it, and name it with --base FILE",
            path.display()
        ),
        error => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> DiskOption {
        text.parse().expect("a good option")
    }

    #[test]
    fn options_follow_the_path_in_any_order() {
        let option = parse("/images/a,b.raw,serial=root,ro,format=raw");
        assert_eq!(option.path, PathBuf::from("/images/a,b.raw"));
        assert!(option.is_read_only);
        assert_eq!(option.serial.as_deref(), Some("root"));
        assert_eq!(option.format, Some(Format::Raw));
        assert_eq!(parse("disk").format, None);
    }

    #[test]
    fn what_is_no_option_is_a_part_of_the_path() {
        assert_eq!(parse("a,rw").path, PathBuf::from("a,rw"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ",ro", "a,format=vmdk"] {
            assert!(text.parse::<DiskOption>().is_err(), "{text}");
        }
    }
}
