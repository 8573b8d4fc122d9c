//! A recording: the directory that a user holds.
//!
//! It holds everything that a replay needs: the manifest, the images by
//! content, the log. It is made once and never overwritten.

use std::fs;
use std::path::{Path, PathBuf};

use log::Layout;
use machine::{Images, MachineConfig};
use seal::Digest;

use crate::manifest::{Disk, FORMAT, Image, MachineSummary, Nic, to_hex};
use crate::{Checks, Error, Host, Manifest};
use crate::{registers, storing};

/// The names of images.
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

/// A recording, opened.
#[derive(Clone, Debug)]
pub struct Recording {
    layout: Layout,
    manifest: Manifest,
    config: MachineConfig,
    digest: Digest,
}

/// What a new recording's manifest says besides the machine.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// The program and its version.
    pub program: String,
    /// The engine's name.
    pub engine: String,
    /// How much is checked.
    pub checks: Checks,
    /// The host.
    pub host: Host,
    /// The images that the machine's disks lie on.
    pub disks: Vec<Disk>,
    /// The machine's network cards.
    pub nics: Vec<Nic>,
}

impl Recording {
    /// Makes the directory `dir` and puts in it what is known before the guest
    /// runs, but for the images: [`Storing`](storing::Storing) brings them.
    pub(crate) fn create(
        dir: &Path,
        config: &MachineConfig,
        images: &Images,
        registers: &registers::Layout,
        about: About,
    ) -> Result<Recording, Error> {
        let layout = Layout::new(dir);
        fs::create_dir(dir).map_err(|source| match source.kind() {
            std::io::ErrorKind::AlreadyExists => Error::Exists(dir.to_owned()),
            _ => Error::Write {
                path: dir.to_owned(),
                source,
            },
        })?;
        let recording = Recording::fill(layout, config, images, registers, about);
        if recording.is_err() {
            // We made it a moment ago, and without its parts it is of no use.
            let _ = fs::remove_dir_all(dir);
        }
        recording
    }

    fn fill(
        layout: Layout,
        config: &MachineConfig,
        images: &Images,
        registers: &registers::Layout,
        about: About,
    ) -> Result<Recording, Error> {
        let folder = layout.images();
        fs::create_dir(&folder).map_err(|source| Error::Write {
            path: folder,
            source,
        })?;
        let list = named(images).map(|(name, image)| Image {
            name: name.to_owned(),
            bytes: image.bytes().len() as u64,
            digest: image.digest().to_string(),
        });
        let manifest = Manifest {
            format: FORMAT,
            program: about.program,
            machine: MachineSummary::of(config),
            config: to_hex(&config.to_bytes()),
            images: list.collect(),
            disks: about.disks,
            nics: about.nics,
            engine: about.engine,
            checks: about.checks.to_string(),
            registers: registers.names().to_vec(),
            host: about.host,
        };
        let text = manifest.text();
        storing::write(&layout.manifest(), &text)?;
        Ok(Recording {
            layout,
            manifest,
            config: config.clone(),
            digest: Digest::of(&text),
        })
    }

    /// Opens the recording in `dir`. Neither images nor log are looked at.
    pub fn open(dir: &Path) -> Result<Recording, Error> {
        let layout = Layout::new(dir);
        if let Err(source) = fs::metadata(dir) {
            return Err(Error::Read {
                path: dir.to_owned(),
                source,
            });
        }
        if !layout.manifest().exists() {
            return Err(Error::NoRecording(dir.to_owned()));
        }
        let (manifest, config, digest) = Manifest::read(&layout.manifest())?;
        Ok(Recording {
            layout,
            manifest,
            config,
            digest,
        })
    }

    /// Where its parts lie.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The machine's configuration.
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// The digest of the manifest, which begins the log's hash chain.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The registers whose values stand in the log.
    pub(crate) fn registers(&self) -> registers::Layout {
        registers::Layout::named(self.manifest.registers.clone())
    }

    /// Checks that `found`, which the log's header tells, is the digest of
    /// this manifest.
    pub(crate) fn check_manifest(&self, found: Digest) -> Result<(), Error> {
        let expected = self.digest;
        if found == expected {
            Ok(())
        } else {
            Err(Error::OtherManifest {
                path: self.layout.manifest(),
                expected: found,
                found: expected,
            })
        }
    }

    /// Whether log and images are whole and unaltered; runs no machine.
    pub fn verify(&self) -> Result<log::Verified, Error> {
        Ok(log::verify(
            self.layout.dir(),
            Some(self.digest),
            &self.image_digests(),
        )?)
    }

    /// The files in `images/` and the digests that the machine's configuration
    /// names.
    pub fn image_digests(&self) -> Vec<(PathBuf, Digest)> {
        let disks = (0..)
            .zip(self.manifest.disks.iter().zip(&self.config.disks))
            .filter(|(_, (disk, _))| disk.embedded)
            .filter_map(|(number, (_, config))| {
                Some((self.layout.embedded_disk(number), config.contents?))
            });
        self.boot_digests().into_iter().chain(disks).collect()
    }

    /// The same, of what is loaded before the machine starts.
    fn boot_digests(&self) -> Vec<(PathBuf, Digest)> {
        let kernel = (self.layout.image(KERNEL), self.config.kernel);
        let initrd = self
            .config
            .initrd
            .map(|digest| (self.layout.image(INITRD), digest));
        std::iter::once(kernel).chain(initrd).collect()
    }

    /// Reads the kernel and the initial RAM disk, and checks that they are those of the machine.
    pub fn images(&self) -> Result<Images, Error> {
        let mut contents = self.boot_digests().into_iter().map(|(path, expected)| {
            let bytes = fs::read(&path).map_err(|source| Error::Read {
                path: path.clone(),
                source,
            })?;
            let image = machine::Image::new(bytes);
            if image.digest() == expected {
                Ok(image)
            } else {
                Err(Error::Image {
                    path,
                    expected,
                    found: image.digest(),
                })
            }
        });
        let kernel = contents.next().expect("there is always a kernel")?;
        let initrd = contents.next().transpose()?;
        Ok(Images { kernel, initrd })
    }
}

/// The images and their names in `images/`.
pub(crate) fn named(images: &Images) -> impl Iterator<Item = (&'static str, &machine::Image)> {
    let initrd = images.initrd.as_ref().map(|image| (INITRD, image));
    std::iter::once((KERNEL, &images.kernel)).chain(initrd)
}
