//! What a machine is made from: all of its initial state that is no image.

use cpu::Model as CpuModel;
use devices::virtio::SERIAL_BYTES;
use minicbor::{Decode, Encode};
use seal::Digest;

use crate::{Error, slot};

/// The revision of what a guest can see of its machine and that stands in no
/// configuration: CPUID, the devices, the tables, how time passes, what counts
/// as a branch. The first change of these after a release raises it, so that a
/// recording of another release is refused, and does not diverge.
///
/// | revision | what changed |
/// |---|---|
/// | 0 | recordings from before there were revisions |
/// | 1 | release 0.1.0 |
pub const MODEL_REVISION: u32 = 1;

/// How the kernel image is entered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BootKind {
    /// Linux: the payload of a bzImage is decompressed before the machine
    /// starts, and `vmlinux` entered at its 64-bit entry. Quick; the kernel
    /// stands where it was linked (no KASLR).
    #[default]
    Linux,
    /// Linux: a bzImage is entered at its own 64-bit entry, and decompresses
    /// and places itself (KASLR).
    LinuxEntry,
    /// A Multiboot 1 kernel, entered in 32-bit protected mode.
    Multiboot,
}

/// The machine's configuration. Two machines made from equal ones, and from
/// the images whose digests stand in it, are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineConfig {
    /// Guest RAM in bytes: a multiple of 4096, from 1 MiB to 1 TiB.
    pub memory_bytes: u64,
    /// How the kernel is entered.
    pub boot: BootKind,
    /// The kernel image.
    pub kernel: Digest,
    /// The initial RAM disk, or the first Multiboot module.
    pub initrd: Option<Digest>,
    /// The kernel's command line.
    pub append: String,
    /// How many virtual processors: 1 for now.
    pub vcpus: u32,
    /// Which processor.
    pub cpu: CpuModel,
    /// Ticks of the time-stamp counter in a second of guest time.
    pub tsc_hz: u64,
    /// The date when the machine starts, in seconds since 1970 (UTC).
    pub start_unix_s: u64,
    /// Entropy for the guest's random number generator.
    pub rng_seed: [u8; 32],
    /// Whether a write to port 0xf4 ends the machine (isa-debug-exit).
    pub debug_exit: bool,
    /// Its disks, in the order in which the guest finds them.
    pub disks: Vec<DiskConfig>,
    /// Its network cards, likewise. The guest finds them after the disks.
    pub nics: Vec<NicConfig>,
    /// Whether it has a source of entropy, which the guest finds last.
    pub has_rng: bool,
    /// Whether it has a second serial port, COM2.
    pub has_serial2: bool,
    /// The machine's revision: [`MODEL_REVISION`] of the program that made it.
    pub revision: u32,
}

/// A disk of the machine's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskConfig {
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// The guest can't write to it.
    pub is_read_only: bool,
    /// Its serial number: at most 20 bytes of ASCII.
    pub serial: String,
    /// What it holds at the start; `None` if nobody has looked, as for a
    /// machine that is not recorded.
    pub contents: Option<Digest>,
}

/// A network card of the machine's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NicConfig {
    /// Its address.
    pub mac: [u8; 6],
    /// The longest packet that its wire carries, in bytes: 68 to 65,535.
    pub mtu: u16,
}

/// 1 GHz: guest time has a resolution of 1 ns, so a tick is one.
const TSC_HZ: u64 = 1_000_000_000;
/// Frequencies that kernels can reckon with.
const TSC_HZ_RANGE: std::ops::RangeInclusive<u64> = 1_000_000..=100_000_000_000;

/// What every IPv4 network carries (RFC 791).
const MTU_MIN: u16 = 68;

/// 16 TiB: no more can be kept track of.
const SECTORS_MAX: u64 = 1 << 35;

impl MachineConfig {
    /// A machine of `memory_bytes` with the defaults of everything else, that
    /// starts `kernel` at the date `start_unix_s`.
    pub fn new(memory_bytes: u64, kernel: Digest, start_unix_s: u64) -> MachineConfig {
        MachineConfig {
            memory_bytes,
            boot: BootKind::default(),
            kernel,
            initrd: None,
            append: String::new(),
            vcpus: 1,
            cpu: CpuModel::default(),
            tsc_hz: TSC_HZ,
            start_unix_s,
            rng_seed: [0; 32],
            debug_exit: false,
            disks: Vec::new(),
            nics: Vec::new(),
            has_rng: false,
            has_serial2: false,
            revision: MODEL_REVISION,
        }
    }

    /// Whether this program makes machines of this revision.
    pub fn check_revision(&self) -> Result<(), Error> {
        if self.revision == MODEL_REVISION {
            return Ok(());
        }
        Err(Error::Revision {
            found: self.revision,
            known: MODEL_REVISION,
        })
    }

    /// Whether a machine can be made from this, and from `images`.
    pub(crate) fn check(&self, images: &Images) -> Result<(), Error> {
        self.check_revision()?;
        if self.vcpus != 1 {
            return Err(Error::NotYet {
                what: "a machine with more than one virtual processor",
            });
        }
        if !TSC_HZ_RANGE.contains(&self.tsc_hz) {
            let reason = format!("a TSC of {} Hz: use 1 MHz to 100 GHz", self.tsc_hz);
            return Err(Error::Config { reason });
        }
        let slots = slot::slots(self).len();
        if slots > slot::COUNT_MAX {
            let reason = format!(
                "{slots} disks, network cards and sources of entropy: at most {} fit",
                slot::COUNT_MAX
            );
            return Err(Error::Config { reason });
        }
        self.disks.iter().try_for_each(DiskConfig::check)?;
        self.nics.iter().try_for_each(NicConfig::check)?;
        let is_ours = |what, expected: Option<Digest>, found: Option<Digest>| {
            if found == expected {
                return Ok(());
            }
            Err(Error::WrongImage {
                what,
                expected: expected.unwrap_or_default(),
                found: found.unwrap_or_default(),
            })
        };
        let initrd = images.initrd.as_ref().map(Image::digest);
        is_ours("kernel", Some(self.kernel), Some(images.kernel.digest()))?;
        is_ours("initrd", self.initrd, initrd)
    }

    /// The form in which a recording keeps it (CBOR, numbered fields).
    pub fn to_bytes(&self) -> Vec<u8> {
        minicbor::to_vec(Stored::of(self)).expect("a vector takes every byte")
    }

    /// Reads what [`MachineConfig::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<MachineConfig, Error> {
        minicbor::decode::<Stored>(bytes)
            .map_err(|source| Error::Config {
                reason: source.to_string(),
            })?
            .into_config()
    }
}

impl DiskConfig {
    fn check(&self) -> Result<(), Error> {
        let serial = &self.serial;
        let is_good = serial.len() <= SERIAL_BYTES && serial.bytes().all(|b| b.is_ascii_graphic());
        if !is_good {
            let reason = format!(
                "a disk's serial number `{serial}`: use at most {SERIAL_BYTES} letters and digits"
            );
            return Err(Error::Config { reason });
        }
        if self.sectors == 0 || self.sectors > SECTORS_MAX {
            let reason = format!("a disk of {} sectors: use 1 to {SECTORS_MAX}", self.sectors);
            return Err(Error::Config { reason });
        }
        Ok(())
    }
}

impl NicConfig {
    fn check(&self) -> Result<(), Error> {
        let (mac, mtu) = (self.mac, self.mtu);
        let reason = if mac[0] & 1 != 0 || mac == [0; 6] {
            format!(
                "a network card's address {mac:02x?}: use one of a single card, as 52:56:54:00:00:01"
            )
        } else if mtu < MTU_MIN {
            format!(
                "a network that carries {mtu} bytes: use {MTU_MIN} to {}",
                u16::MAX
            )
        } else {
            return Ok(());
        };
        Err(Error::Config { reason })
    }
}

/// The images a machine starts from. Their digests stand in its configuration.
#[derive(Clone, Debug)]
pub struct Images {
    /// The kernel.
    pub kernel: Image,
    /// The initial RAM disk, or the first Multiboot module.
    pub initrd: Option<Image>,
}

/// An image, and its digest: of tens of megabytes one is made but once.
#[derive(Clone)]
pub struct Image {
    bytes: Vec<u8>,
    digest: Digest,
}

impl Image {
    /// The image whose contents are `bytes`.
    pub fn new(bytes: Vec<u8>) -> Image {
        Image {
            digest: Digest::of(&bytes),
            bytes,
        }
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of its contents.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image of {} bytes, {}", self.bytes.len(), self.digest)
    }
}

/// [`MachineConfig`] on disk. Numbers are never given a second meaning.
#[derive(Encode, Decode)]
#[cbor(map)]
struct Stored {
    #[n(0)]
    memory_bytes: u64,
    #[n(1)]
    boot: u32,
    #[cbor(n(2), with = "minicbor::bytes")]
    kernel: [u8; 32],
    #[cbor(n(3), with = "minicbor::bytes")]
    initrd: Option<[u8; 32]>,
    #[n(4)]
    append: String,
    #[n(5)]
    vcpus: u32,
    #[n(6)]
    cpu: u32,
    #[n(7)]
    tsc_hz: u64,
    #[n(8)]
    start_unix_s: u64,
    #[cbor(n(9), with = "minicbor::bytes")]
    rng_seed: [u8; 32],
    #[n(10)]
    debug_exit: bool,
    /// Absent in what was written before there were disks.
    #[n(11)]
    disks: Option<Vec<StoredDisk>>,
    /// Missing in recordings from before there were revisions.
    #[n(12)]
    revision: Option<u32>,
    /// Absent in what was written before there were network cards.
    #[n(13)]
    nics: Option<Vec<StoredNic>>,
    /// Absent in what was written before there were sources of entropy.
    #[n(14)]
    has_rng: Option<bool>,
    /// Absent in what was written before there were second serial ports.
    #[n(15)]
    has_serial2: Option<bool>,
}

/// [`DiskConfig`] on disk.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredDisk {
    #[n(0)]
    sectors: u64,
    #[n(1)]
    is_read_only: bool,
    #[n(2)]
    serial: String,
    #[cbor(n(3), with = "minicbor::bytes")]
    contents: Option<[u8; 32]>,
}

/// [`NicConfig`] on disk.
#[derive(Encode, Decode)]
#[cbor(map)]
struct StoredNic {
    #[cbor(n(0), with = "minicbor::bytes")]
    mac: [u8; 6],
    #[n(1)]
    mtu: u16,
}

/// The numbers of [`BootKind`] on disk.
const BOOT_KINDS: [(u32, BootKind); 3] = [
    (0, BootKind::Linux),
    (1, BootKind::LinuxEntry),
    (2, BootKind::Multiboot),
];
/// The numbers of [`CpuModel`] on disk.
const CPU_MODELS: [(u32, CpuModel); 2] = [(0, CpuModel::V2), (1, CpuModel::V3)];

fn number_of<T: Copy + PartialEq>(table: &[(u32, T)], value: T) -> u32 {
    let entry = table.iter().find(|entry| entry.1 == value);
    entry.expect("every variant stands in its table").0
}

fn value_of<T: Copy>(table: &[(u32, T)], number: u32, what: &str) -> Result<T, Error> {
    let entry = table.iter().find(|entry| entry.0 == number);
    entry.map(|entry| entry.1).ok_or_else(|| Error::Config {
        reason: format!("{what} {number} is not known to this version"),
    })
}

impl Stored {
    fn of(config: &MachineConfig) -> Stored {
        Stored {
            memory_bytes: config.memory_bytes,
            boot: number_of(&BOOT_KINDS, config.boot),
            kernel: config.kernel.0,
            initrd: config.initrd.map(|digest| digest.0),
            append: config.append.clone(),
            vcpus: config.vcpus,
            cpu: number_of(&CPU_MODELS, config.cpu),
            tsc_hz: config.tsc_hz,
            start_unix_s: config.start_unix_s,
            rng_seed: config.rng_seed,
            debug_exit: config.debug_exit,
            disks: (!config.disks.is_empty())
                .then(|| config.disks.iter().map(StoredDisk::of).collect()),
            revision: Some(config.revision),
            nics: (!config.nics.is_empty())
                .then(|| config.nics.iter().map(StoredNic::of).collect()),
            has_rng: config.has_rng.then_some(true),
            has_serial2: config.has_serial2.then_some(true),
        }
    }

    fn into_config(self) -> Result<MachineConfig, Error> {
        Ok(MachineConfig {
            memory_bytes: self.memory_bytes,
            boot: value_of(&BOOT_KINDS, self.boot, "boot kind")?,
            kernel: Digest(self.kernel),
            initrd: self.initrd.map(Digest),
            append: self.append,
            vcpus: self.vcpus,
            cpu: value_of(&CPU_MODELS, self.cpu, "CPU model")?,
            tsc_hz: self.tsc_hz,
            start_unix_s: self.start_unix_s,
            rng_seed: self.rng_seed,
            debug_exit: self.debug_exit,
            disks: self
                .disks
                .unwrap_or_default()
                .into_iter()
                .map(StoredDisk::into_config)
                .collect(),
            nics: self
                .nics
                .unwrap_or_default()
                .into_iter()
                .map(StoredNic::into_config)
                .collect(),
            has_rng: self.has_rng.unwrap_or(false),
            has_serial2: self.has_serial2.unwrap_or(false),
            revision: self.revision.unwrap_or(0),
        })
    }
}

impl StoredDisk {
    fn of(disk: &DiskConfig) -> StoredDisk {
        StoredDisk {
            sectors: disk.sectors,
            is_read_only: disk.is_read_only,
            serial: disk.serial.clone(),
            contents: disk.contents.map(|digest| digest.0),
        }
    }

    fn into_config(self) -> DiskConfig {
        DiskConfig {
            sectors: self.sectors,
            is_read_only: self.is_read_only,
            serial: self.serial,
            contents: self.contents.map(Digest),
        }
    }
}

impl StoredNic {
    fn of(nic: &NicConfig) -> StoredNic {
        StoredNic {
            mac: nic.mac,
            mtu: nic.mtu,
        }
    }

    fn into_config(self) -> NicConfig {
        NicConfig {
            mac: self.mac,
            mtu: self.mtu,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_comes_back_as_it_was_written() {
        let config = MachineConfig {
            boot: BootKind::Multiboot,
            initrd: Some(Digest([7; 32])),
            append: "console=ttyS0".into(),
            cpu: CpuModel::V3,
            debug_exit: true,
            disks: vec![DiskConfig {
                sectors: 7,
                is_read_only: true,
                serial: "root".into(),
                contents: Some(Digest([3; 32])),
            }],
            nics: vec![NicConfig {
                mac: [2, 0, 0, 0, 0, 1],
                mtu: 1500,
            }],
            has_rng: true,
            has_serial2: true,
            ..MachineConfig::new(512 << 20, Digest([9; 32]), 1_700_000_000)
        };
        assert_eq!(
            MachineConfig::from_bytes(&config.to_bytes()).expect("it was just written"),
            config
        );
    }

    #[test]
    fn a_machine_of_another_revision_is_read_but_not_made() {
        let images = Images {
            kernel: Image::new(Vec::new()),
            initrd: None,
        };
        let mut config = MachineConfig::new(1 << 20, images.kernel.digest(), 0);
        config.revision = MODEL_REVISION + 1;
        let read = MachineConfig::from_bytes(&config.to_bytes()).expect("it can be looked at");
        assert_eq!(read, config);
        assert!(matches!(
            read.check(&images),
            Err(Error::Revision { found, .. }) if found == MODEL_REVISION + 1
        ));
    }

    #[test]
    fn a_configuration_without_a_revision_is_of_revision_0() {
        let mut stored = Stored::of(&MachineConfig::new(1 << 20, Digest::default(), 0));
        stored.revision = None;
        let config = stored.into_config().expect("all else is known");
        assert_eq!(config.revision, 0);
    }

    #[test]
    fn a_boot_kind_or_processor_from_the_future_is_refused() {
        let changes: [fn(&mut Stored); 2] = [|stored| stored.boot = 99, |stored| stored.cpu = 99];
        for change in changes {
            let mut stored = Stored::of(&MachineConfig::new(1 << 20, Digest::default(), 0));
            change(&mut stored);
            let bytes = minicbor::to_vec(stored).expect("a vector takes every byte");
            assert!(matches!(
                MachineConfig::from_bytes(&bytes),
                Err(Error::Config { .. })
            ));
        }
    }
}
