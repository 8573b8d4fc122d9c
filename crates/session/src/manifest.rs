//! `recording.json`: what a recording is of.
//!
//! Written once, before the guest runs, for people to read and for the
//! program to check. The machine's configuration stands in it as the program
//! keeps it; what is written out beside it is for people, and checked to say
//! the same. The digest of the whole file begins the log's hash chain: so a
//! manifest that was altered is told apart, too.

use std::fmt::Write as _;
use std::path::Path;

use machine::{BootKind, CpuModel, DiskConfig, MachineConfig, NicConfig, SECTOR_BYTES};
use seal::Digest;
use serde::{Deserialize, Serialize};

use crate::Error;

/// The newest format of a recording that we know, and the one we write.
pub(crate) const FORMAT: u64 = 1;

/// What must be readable in a manifest of any format.
#[derive(Deserialize)]
struct Header {
    format: u64,
    #[serde(default)]
    program: String,
}

/// The manifest, format 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The format of the recording: 1.
    pub format: u64,
    /// The program that made it, with its version.
    pub program: String,
    /// The machine, for people.
    pub machine: MachineSummary,
    /// The machine's configuration, as the program keeps it: hexadecimal.
    pub config: String,
    /// What the machine was given.
    pub images: Vec<Image>,
    /// The images that its disks lie on, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disks: Vec<Disk>,
    /// Its network cards, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nics: Vec<Nic>,
    /// The engine that ran the guest. Any engine replays it.
    pub engine: String,
    /// How much is checked at each event: `normal` or `full`.
    pub checks: String,
    /// The registers whose values stand in the log, in order.
    pub registers: Vec<String>,
    /// The host that recorded it, for information.
    pub host: Host,
}

/// One of the files in `images/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// Its name there.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3 digest.
    pub digest: String,
}

/// The image that a disk lies on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disk {
    /// Where the image was: an absolute path.
    pub path: String,
    /// How it is written down: `raw` or `qcow2`.
    pub format: String,
    /// The length of the disk.
    pub bytes: u64,
    /// The BLAKE3 digest of the disk's contents at the start.
    pub digest: String,
    /// The guest can't write to it.
    pub read_only: bool,
    /// Its serial number.
    pub serial: String,
    /// Its contents lie in `images/`, too.
    pub embedded: bool,
}

impl Disk {
    /// Whether it says what the machine's configuration says.
    fn is_of(&self, config: &DiskConfig) -> bool {
        let DiskConfig {
            sectors,
            is_read_only,
            serial,
            contents,
        } = config;
        self.bytes == sectors * SECTOR_BYTES
            && self.read_only == *is_read_only
            && self.serial == *serial
            && contents.is_some_and(|digest| digest.to_string() == self.digest)
    }
}

/// A network card.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nic {
    /// Its address, as in `52:56:54:00:00:00`.
    pub mac: String,
    /// The longest packet that its wire carries, in bytes.
    pub mtu: u16,
    /// What it was connected to, in words. A replay needs none of it.
    pub connected_to: String,
}

impl Nic {
    /// Whether it says what the machine's configuration says.
    fn is_of(&self, config: &NicConfig) -> bool {
        let NicConfig { mac, mtu } = config;
        self.mac == print_mac(*mac) && self.mtu == *mtu
    }
}

/// An Ethernet address as people write it.
pub fn print_mac(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// The machine in plain words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineSummary {
    /// Guest memory in bytes.
    pub memory_bytes: u64,
    /// How the kernel is entered: `linux`, `linux-entry` or `multiboot`.
    pub boot: String,
    /// The kernel's command line.
    pub append: String,
    /// How many processors.
    pub vcpus: u32,
    /// Which: `v2` or `v3`, as x86-64 levels are called. The first recordings
    /// don't say; all of theirs were `v2`.
    #[serde(default = "lowest_cpu")]
    pub cpu: String,
    /// The guest's date at its start, in seconds since 1970 (UTC).
    pub start_unix_s: u64,
}

/// The host that made a recording. Nothing depends on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// The release of its kernel.
    pub kernel: String,
    /// The name of its processor.
    pub cpu: String,
}

impl MachineSummary {
    pub(crate) fn of(config: &MachineConfig) -> MachineSummary {
        MachineSummary {
            memory_bytes: config.memory_bytes,
            boot: boot_name(config.boot).to_owned(),
            append: config.append.clone(),
            vcpus: config.vcpus,
            cpu: cpu_name(config.cpu).to_owned(),
            start_unix_s: config.start_unix_s,
        }
    }
}

fn cpu_name(cpu: CpuModel) -> &'static str {
    match cpu {
        CpuModel::V2 => "v2",
        CpuModel::V3 => "v3",
    }
}

fn lowest_cpu() -> String {
    cpu_name(CpuModel::V2).to_owned()
}

fn boot_name(boot: BootKind) -> &'static str {
    match boot {
        BootKind::Linux => "linux",
        BootKind::LinuxEntry => "linux-entry",
        BootKind::Multiboot => "multiboot",
    }
}

impl Manifest {
    /// Reads the manifest at `path`, the configuration in it, and the digest of
    /// the file.
    pub(crate) fn read(path: &Path) -> Result<(Manifest, MachineConfig, Digest), Error> {
        let text = std::fs::read(path).map_err(|source| Error::Read {
            path: path.to_owned(),
            source,
        })?;
        let damaged = |reason: String| Error::Manifest {
            path: path.to_owned(),
            reason,
        };
        let json = |error: serde_json::Error| damaged(error.to_string());
        let header: Header = serde_json::from_slice(&text).map_err(json)?;
        if header.format > FORMAT {
            return Err(Error::Future {
                path: path.to_owned(),
                found: header.format,
                known: FORMAT,
                program: header.program,
            });
        }
        let manifest: Manifest = serde_json::from_slice(&text).map_err(json)?;
        let bytes = from_hex(&manifest.config)
            .ok_or_else(|| damaged("its `config` is not hexadecimal".to_owned()))?;
        let config =
            MachineConfig::from_bytes(&bytes).map_err(|error| damaged(error.to_string()))?;
        let differs = |what| {
            damaged(format!(
                "its `{what}` and its `config` say different things"
            ))
        };
        if manifest.machine != MachineSummary::of(&config) {
            return Err(differs("machine"));
        }
        let mut disks = manifest.disks.iter().zip(&config.disks);
        let is_same_number = manifest.disks.len() == config.disks.len();
        if !is_same_number || !disks.all(|(disk, config)| disk.is_of(config)) {
            return Err(differs("disks"));
        }
        let mut nics = manifest.nics.iter().zip(&config.nics);
        let is_same_number = manifest.nics.len() == config.nics.len();
        if !is_same_number || !nics.all(|(nic, config)| nic.is_of(config)) {
            return Err(differs("nics"));
        }
        Ok((manifest, config, Digest::of(&text)))
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).expect("a manifest has only string keys");
        text.push(b'\n');
        text
    }
}

/// `bytes` in hexadecimal.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes everything");
            text
        })
}

/// The inverse of [`to_hex`].
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair[0] << 4 | pair[1])
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest() -> Manifest {
        let config = MachineConfig::new(1 << 20, Digest::default(), 7);
        Manifest {
            format: FORMAT,
            program: "revirt 0".to_owned(),
            machine: MachineSummary::of(&config),
            config: to_hex(&config.to_bytes()),
            images: Vec::new(),
            disks: Vec::new(),
            nics: Vec::new(),
            engine: "interp".to_owned(),
            checks: "normal".to_owned(),
            registers: vec!["rip".to_owned()],
            host: Host::default(),
        }
    }

    fn read(text: &[u8]) -> Result<(Manifest, MachineConfig, Digest), Error> {
        let file = tempfile::NamedTempFile::new().expect("there is room");
        std::fs::write(file.path(), text).expect("there is room");
        Manifest::read(file.path())
    }

    proptest! {
        #[test]
        fn an_altered_manifest_is_refused_or_has_another_digest(at in 0usize..1000, bit in 0u8..8) {
            let mut text = manifest().text();
            let before = Digest::of(&text);
            let at = at % text.len();
            text[at] ^= 1 << bit;
            if let Ok((_, _, digest)) = read(&text) {
                prop_assert_ne!(digest, before);
            }
        }
    }

    #[test]
    fn a_manifest_is_read_back() {
        let (found, _, digest) = read(&manifest().text()).expect("it was just written");
        assert_eq!(found, manifest());
        assert_eq!(digest, Digest::of(&manifest().text()));
    }

    #[test]
    fn a_manifest_that_names_no_processor_means_the_lowest() {
        let text = String::from_utf8(manifest().text()).expect("it is JSON");
        let older = text.replace("    \"cpu\": \"v2\",\n    \"start", "    \"start");
        assert_ne!(older, text);
        let (found, _, _) = read(older.as_bytes()).expect("it is as older versions wrote it");
        assert_eq!(found, manifest());
    }

    #[test]
    fn what_is_for_people_must_say_what_counts() {
        let mut manifest = manifest();
        manifest.machine.memory_bytes += 4096;
        assert!(matches!(
            read(&manifest.text()),
            Err(Error::Manifest { .. })
        ));
    }

    #[test]
    fn a_disk_must_be_the_configuration_s() {
        let mut config = MachineConfig::new(1 << 20, Digest::default(), 7);
        config.disks = vec![DiskConfig {
            sectors: 8,
            is_read_only: true,
            serial: "root".to_owned(),
            contents: Some(Digest([5; 32])),
        }];
        let disk = Disk {
            path: "/images/root".to_owned(),
            format: "raw".to_owned(),
            bytes: 4096,
            digest: Digest([5; 32]).to_string(),
            read_only: true,
            serial: "root".to_owned(),
            embedded: false,
        };
        let mut manifest = Manifest {
            config: to_hex(&config.to_bytes()),
            disks: vec![disk],
            ..manifest()
        };
        assert!(read(&manifest.text()).is_ok());
        manifest.disks[0].bytes = 8192;
        assert!(matches!(
            read(&manifest.text()),
            Err(Error::Manifest { .. })
        ));
    }

    #[test]
    fn a_network_card_must_be_the_configuration_s() {
        let mut config = MachineConfig::new(1 << 20, Digest::default(), 7);
        config.nics = vec![NicConfig {
            mac: [2, 0, 0, 0, 0, 0xab],
            mtu: 1500,
        }];
        let nic = Nic {
            mac: "02:00:00:00:00:ab".to_owned(),
            mtu: 1500,
            connected_to: "passt".to_owned(),
        };
        let mut manifest = Manifest {
            config: to_hex(&config.to_bytes()),
            nics: vec![nic],
            ..manifest()
        };
        assert!(read(&manifest.text()).is_ok());
        manifest.nics[0].mtu = 1501;
        assert!(matches!(
            read(&manifest.text()),
            Err(Error::Manifest { .. })
        ));
    }

    #[test]
    fn a_format_from_the_future_is_told_apart_whatever_else_it_holds() {
        let refused = read(br#"{ "format": 2, "program": "revirt 9", "machine": 5 }"#);
        assert!(matches!(refused, Err(Error::Future { found: 2, .. })));
    }

    #[test]
    fn hexadecimal_is_read_back() {
        assert_eq!(
            from_hex(&to_hex(&[0, 0x1f, 0xff])),
            Some(vec![0, 0x1f, 0xff])
        );
        assert_eq!(from_hex("0"), None);
        assert_eq!(from_hex("0g"), None);
        assert_eq!(from_hex("é0"), None);
    }
}
