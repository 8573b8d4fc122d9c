//! The virtio devices on the board: their slots, their interrupt lines, and
//! what becomes of a host that fails them.

use devices::virtio::{Block, Net, Reception, Rng, Transport};
use devices::{Backing, Failed};
use memory::Ram;

use super::{Board, deliver};
use crate::slot::{self, Slot};
use crate::{Error, MachineConfig, Stop};

impl Board {
    /// Puts a disk into each drive. What is in a drive before that can be
    /// neither read nor written.
    pub(crate) fn insert_disks(
        &mut self,
        config: &MachineConfig,
        backings: Vec<Box<dyn Backing>>,
    ) -> Result<(), Error> {
        let sectors: Vec<u64> = config.disks.iter().map(|disk| disk.sectors).collect();
        let found: Vec<u64> = backings.iter().map(|backing| backing.sectors()).collect();
        if sectors != found {
            return Err(Error::WrongDisks { sectors, found });
        }
        for (drive, backing) in self.disks.iter_mut().zip(backings) {
            drive.function.insert(backing);
        }
        Ok(())
    }

    /// What would become of a frame that came to network card `nic` now.
    pub(crate) fn reception(&self, nic: usize) -> Reception {
        self.nics
            .get(nic)
            .map_or(Reception::Deaf, Transport::reception)
    }

    /// A frame comes to network card `nic`. Returns whether it was taken.
    pub(crate) fn receive(&mut self, ram: &Ram, nic: usize, frame: &[u8]) -> bool {
        let card = self.nics.get_mut(nic);
        let is_taken = card.is_some_and(|card| card.receive(ram, frame));
        self.settle(Slot::Nic(nic));
        is_taken
    }

    /// The wire of network card `nic` is put in, or pulled out. Returns whether
    /// there is such a card.
    pub(crate) fn set_link(&mut self, nic: usize, is_up: bool) -> bool {
        let card = self.nics.get_mut(nic).map(|card| card.set_link(is_up));
        self.settle(Slot::Nic(nic));
        card.is_some()
    }

    /// Random bytes come in. Returns whether anyone wanted them.
    pub(crate) fn bring_entropy(&mut self, ram: &Ram, bytes: &[u8]) -> bool {
        let rng = self.rng.as_mut();
        let is_taken = rng.is_some_and(|rng| rng.bring_entropy(ram, bytes));
        self.settle(Slot::Rng);
        is_taken
    }

    /// Sees to the device in `slot`, if there is one.
    fn settle(&mut self, slot: Slot) {
        if let Some(number) = self.slots.iter().position(|other| *other == slot) {
            self.settle_slot(number);
        }
    }

    /// Sees to what a virtio device did: to its interrupt line, to what goes
    /// out, and to a host that failed it.
    pub(super) fn settle_slot(&mut self, number: usize) {
        match self.slots[number] {
            Slot::Disk(disk) => {
                if self.disks[disk].function.failure().is_some() {
                    self.end(Stop::DiskFailed { disk });
                }
            }
            Slot::Nic(nic) => {
                for frame in self.nics[nic].function.take_sent() {
                    self.outputs.send(nic, frame);
                }
            }
            Slot::Rng => {}
        }
        let pin = slot::pin(number);
        let up = (0..self.slots.len())
            .filter(|&other| slot::pin(other) == pin)
            .any(|other| self.slot_irq(other));
        let local = &mut self.local;
        self.ioapic
            .set_line(pin, up, &mut |message| deliver(local, message));
    }

    pub(super) fn slot_irq(&self, number: usize) -> bool {
        match self.slots[number] {
            Slot::Disk(disk) => self.disks[disk].irq(),
            Slot::Nic(nic) => self.nics[nic].irq(),
            Slot::Rng => self.rng.as_ref().is_some_and(Transport::irq),
        }
    }

    pub(super) fn slot_in(&self, number: usize, offset: u64, size_bytes: u8) -> u64 {
        match self.slots[number] {
            Slot::Disk(disk) => self.disks[disk].read(offset, size_bytes),
            Slot::Nic(nic) => self.nics[nic].read(offset, size_bytes),
            Slot::Rng => self
                .rng
                .as_ref()
                .map_or(0, |rng| rng.read(offset, size_bytes)),
        }
    }

    pub(super) fn slot_out(
        &mut self,
        ram: &Ram,
        number: usize,
        offset: u64,
        size_bytes: u8,
        value: u64,
    ) {
        match self.slots[number] {
            Slot::Disk(disk) => self.disks[disk].write(ram, offset, size_bytes, value),
            Slot::Nic(nic) => self.nics[nic].write(ram, offset, size_bytes, value),
            Slot::Rng => {
                if let Some(rng) = &mut self.rng {
                    rng.write(ram, offset, size_bytes, value);
                }
            }
        }
        self.settle_slot(number);
    }
}

/// The source of entropy of `config`, if it has one.
pub(super) fn rng(config: &MachineConfig) -> Option<Transport<Rng>> {
    config.has_rng.then(|| Transport::new(Rng::default()))
}

/// The network cards of `config`.
pub(super) fn nics(config: &MachineConfig) -> Vec<Transport<Net>> {
    let nics = config.nics.iter();
    nics.map(|nic| Transport::new(Net::new(nic.mac, nic.mtu)))
        .collect()
}

/// A drive for each disk of `config`, with nothing in it.
pub(super) fn empty_drives(config: &MachineConfig) -> Vec<Transport<Block>> {
    let drives = config.disks.iter().map(|disk| {
        let nothing = Box::new(NoDisk {
            sectors: disk.sectors,
        });
        Transport::new(Block::new(nothing, disk.is_read_only, &disk.serial))
    });
    drives.collect()
}

/// What is in a drive that nothing was put into.
#[derive(Debug)]
struct NoDisk {
    sectors: u64,
}

impl NoDisk {
    fn absent() -> Failed {
        Failed("there is no disk in the drive: this is a mistake in the program".to_owned())
    }
}

impl Backing for NoDisk {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, _: u64, _: &mut [u8]) -> Result<(), Failed> {
        Err(NoDisk::absent())
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), Failed> {
        Err(NoDisk::absent())
    }

    fn zero(&mut self, _: u64, _: u64) -> Result<(), Failed> {
        Err(NoDisk::absent())
    }
}
