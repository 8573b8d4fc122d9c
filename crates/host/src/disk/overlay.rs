//! An overlay: what a guest has written to a disk, apart from the image that
//! the disk began with.
//!
//! The disk is cut into clusters of 4096 bytes, the size of a file system's
//! blocks: so a write is seldom a part of one, and nothing is read before it.
//! Clusters that were written lie in slots of a data file; a map in memory says
//! where each is, and each change of the map is appended to a map file. A
//! [mark](Overlay::mark) freezes all slots that there are: a cluster that is
//! written again gets a new one. So a mark takes no time, and the disk as it
//! was then can be had again from the two lengths that it gives.
//!
//! Neither file is ever synced: what they hold follows from the recording, and
//! after a power cut a replay makes it again.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use devices::Failed;

use super::{Base, Error};

/// Bytes of a cluster.
const CLUSTER: u64 = 4096;
/// Clusters of a leaf of the map.
const LEAF: usize = 1024;
/// The slot's number in the map file for a cluster of zeros.
const ZERO_SLOT: u32 = u32::MAX;
/// The most slots there can be.
const SLOTS_MAX: u32 = u32::MAX - 2;
/// What a map file begins with: name, version, size of a cluster.
const HEADER: [u8; 16] = *b"RVmap\0\0\0\x01\0\0\0\x00\x10\0\0";
const RECORD_BYTES: usize = 16;
/// Records are written in batches of this size.
const BATCH_BYTES: usize = 64 << 10;

/// Where a cluster's contents are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Base,
    Zero,
    Slot(u32),
}

/// A leaf of the map: 0 for the base, 1 for zeros, n + 2 for slot n.
type Leaf = Box<[u32; LEAF]>;

/// What went wrong, and where.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The base could not be read at this byte.
    Base(u64, io::Error),
    /// The overlay could not be read or written.
    Overlay(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Trouble {
        Trouble::Overlay(error)
    }
}

/// A place in an overlay's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// The length of the map file.
    pub map_bytes: u64,
    /// How many slots were in use.
    pub slots: u32,
}

/// What a guest has written.
#[derive(Debug)]
pub struct Overlay {
    data: File,
    map: File,
    /// For messages; empty for one that has no name.
    path: PathBuf,
    leaves: Vec<Option<Leaf>>,
    slots: u32,
    /// Slots below this one are never written again.
    frozen: u32,
    /// Slots that are no longer used and not frozen.
    free: Vec<u32>,
    map_bytes: u64,
    /// Records that are not in the file yet.
    batch: Vec<u8>,
}

impl Overlay {
    /// A new one, in the new files `path` with `.data` and `.map` after it.
    pub fn create(path: &Path) -> Result<Overlay, Error> {
        let named = |ending| {
            let path = path.with_extension(ending);
            let file = File::options()
                .read(true)
                .write(true)
                .create_new(true)
                .open(&path);
            file.map_err(|source| Error::Write { path, source })
        };
        Overlay::new(named("data")?, named("map")?, path)
    }

    /// A new one in files that are gone when it is; for a machine that is not
    /// recorded, and for a replay.
    pub fn scratch() -> Result<Overlay, Error> {
        let unnamed = || {
            tempfile::tempfile().map_err(|source| Error::Scratch {
                path: std::env::temp_dir(),
                source,
            })
        };
        Overlay::new(unnamed()?, unnamed()?, Path::new(""))
    }

    fn new(data: File, map: File, path: &Path) -> Result<Overlay, Error> {
        let mut overlay = Overlay::empty(data, map, path);
        overlay.batch.extend(HEADER);
        overlay.flush().map_err(|source| Error::Write {
            path: overlay.place(),
            source,
        })?;
        Ok(overlay)
    }

    fn empty(data: File, map: File, path: &Path) -> Overlay {
        Overlay {
            data,
            map,
            path: path.to_owned(),
            leaves: Vec::new(),
            slots: 0,
            frozen: 0,
            free: Vec::new(),
            map_bytes: 0,
            batch: Vec::new(),
        }
    }

    /// What [`Overlay::create`] made at `path`, as it was at `position`. What
    /// is written to it gets slots after all others.
    pub fn open_at(path: &Path, position: Position) -> Result<Overlay, Error> {
        let read = |source| Error::Read {
            path: path.to_owned(),
            source,
        };
        let open = |ending| File::open(path.with_extension(ending)).map_err(read);
        let mut overlay = Overlay::empty(open("data")?, open("map")?, path);
        let length = usize::try_from(position.map_bytes).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length];
        overlay.map.read_exact_at(&mut bytes, 0).map_err(read)?;
        let damaged = || read(io::ErrorKind::InvalidData.into());
        let records = bytes.strip_prefix(&HEADER).ok_or_else(damaged)?;
        for record in records.chunks_exact(RECORD_BYTES) {
            let [first, count, slot] = [0, 4, 8].map(|at| {
                u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
            });
            for n in 0..count {
                let place = if slot == ZERO_SLOT {
                    Place::Zero
                } else {
                    Place::Slot(slot + n)
                };
                overlay.set(u64::from(first) + u64::from(n), place);
            }
        }
        overlay.map_bytes = position.map_bytes;
        overlay.slots = position.slots;
        overlay.frozen = position.slots;
        Ok(overlay)
    }

    /// Freezes what was written, and tells where in its history the overlay is.
    pub(super) fn mark(&mut self) -> io::Result<Position> {
        self.flush()?;
        self.frozen = self.slots;
        self.free.clear();
        Ok(Position {
            map_bytes: self.map_bytes,
            slots: self.slots,
        })
    }

    /// What to say when the overlay could not be read or written.
    pub(super) fn failed(&self, source: &io::Error) -> Failed {
        Failed(format!(
            "what the guest wrote can't be kept in {} ({source}): make room there. What was recorded up to here replays",
            self.place().display()
        ))
    }

    fn place(&self) -> PathBuf {
        if self.path.as_os_str().is_empty() {
            std::env::temp_dir()
        } else {
            self.path.with_extension("data")
        }
    }

    fn get(&self, cluster: u64) -> Place {
        let leaf = self.leaves.get(cluster as usize / LEAF);
        match leaf
            .and_then(Option::as_ref)
            .map(|leaf| leaf[cluster as usize % LEAF])
        {
            None | Some(0) => Place::Base,
            Some(1) => Place::Zero,
            Some(number) => Place::Slot(number - 2),
        }
    }

    fn set(&mut self, cluster: u64, place: Place) {
        let number = cluster as usize / LEAF;
        if self.leaves.len() <= number {
            self.leaves.resize_with(number + 1, || None);
        }
        let leaf = self.leaves[number].get_or_insert_with(|| Box::new([0; LEAF]));
        leaf[cluster as usize % LEAF] = match place {
            Place::Base => 0,
            Place::Zero => 1,
            Place::Slot(slot) => slot + 2,
        };
    }

    /// Reads from `at` into the whole of `into`; zeros behind the base's end.
    pub(super) fn read(&self, base: &dyn Base, at: u64, into: &mut [u8]) -> Result<(), Trouble> {
        let mut done = 0;
        while done < into.len() {
            let from = at + done as u64;
            let (place, bytes) = self.run(from, (into.len() - done) as u64);
            let part = &mut into[done..done + bytes as usize];
            match place {
                Place::Base => base.read(from, part).map_err(|e| Trouble::Base(from, e))?,
                Place::Zero => part.fill(0),
                Place::Slot(slot) => {
                    self.data
                        .read_exact_at(part, offset(slot) + from % CLUSTER)?;
                }
            }
            done += bytes as usize;
        }
        Ok(())
    }

    /// How many of the `bytes` bytes from `at` on lie together, and where the
    /// first of them is.
    fn run(&self, at: u64, bytes: u64) -> (Place, u64) {
        let first = self.get(at / CLUSTER);
        let mut length = CLUSTER - at % CLUSTER;
        let mut next = first;
        while length < bytes {
            if let Place::Slot(slot) = &mut next {
                *slot += 1;
            }
            if self.get((at + length) / CLUSTER) != next {
                break;
            }
            length += CLUSTER;
        }
        (first, length.min(bytes))
    }

    /// Writes `bytes` at `at`.
    pub(super) fn write(&mut self, base: &dyn Base, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let head = ((CLUSTER - at % CLUSTER) % CLUSTER).min(bytes.len() as u64) as usize;
        let (head, rest) = bytes.split_at(head);
        self.write_part(base, at, head)?;
        let at = at + head.len() as u64;
        let whole = rest.len() - rest.len() % CLUSTER as usize;
        let (whole, tail) = rest.split_at(whole);
        self.write_clusters(at / CLUSTER, whole)?;
        self.write_part(base, at + whole.len() as u64, tail)
    }

    /// Writes a part of one cluster.
    fn write_part(&mut self, base: &dyn Base, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        if bytes.is_empty() {
            return Ok(());
        }
        let cluster = at / CLUSTER;
        let start = (at % CLUSTER) as usize;
        if let Place::Slot(slot) = self.get(cluster)
            && slot >= self.frozen
        {
            return Ok(self.data.write_all_at(bytes, offset(slot) + start as u64)?);
        }
        let mut whole = [0; CLUSTER as usize];
        self.read(base, cluster * CLUSTER, &mut whole)?;
        whole[start..start + bytes.len()].copy_from_slice(bytes);
        self.write_clusters(cluster, &whole)
    }

    /// Writes whole clusters, those with slots in a row at once.
    fn write_clusters(&mut self, first: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let mut rest = bytes;
        let mut cluster = first;
        while !rest.is_empty() {
            let slot = self.slot_for(cluster)?;
            let mut count = 1;
            while (count as usize) < rest.len() / CLUSTER as usize
                && self.slot_after(cluster + u64::from(count), slot + count)
            {
                count += 1;
            }
            let (now, later) = rest.split_at(count as usize * CLUSTER as usize);
            self.data.write_all_at(now, offset(slot))?;
            self.place_run(cluster, count, slot)?;
            cluster += u64::from(count);
            rest = later;
        }
        Ok(())
    }

    /// The slot that `cluster` is to be written to.
    fn slot_for(&mut self, cluster: u64) -> Result<u32, Trouble> {
        if let Place::Slot(slot) = self.get(cluster)
            && slot >= self.frozen
        {
            return Ok(slot);
        }
        if let Some(slot) = self.free.pop() {
            return Ok(slot);
        }
        if self.slots >= SLOTS_MAX {
            return Err(Trouble::Overlay(io::ErrorKind::FileTooLarge.into()));
        }
        self.slots += 1;
        Ok(self.slots - 1)
    }

    /// Whether `cluster` can be written to `slot`, which follows the last one:
    /// it is its own, or the next that nobody has.
    fn slot_after(&mut self, cluster: u64, slot: u32) -> bool {
        match self.get(cluster) {
            Place::Slot(own) if own >= self.frozen => own == slot,
            _ => {
                let is_next = slot == self.slots && slot < SLOTS_MAX;
                self.slots += u32::from(is_next);
                is_next
            }
        }
    }

    /// Clusters from `first` on are in slots from `slot` on, from now on.
    fn place_run(&mut self, first: u64, count: u32, slot: u32) -> io::Result<()> {
        let is_new =
            |overlay: &Overlay, n: u32| overlay.get(first + u64::from(n)) != Place::Slot(slot + n);
        if (0..count).any(|n| is_new(self, n)) {
            (0..count).for_each(|n| self.set(first + u64::from(n), Place::Slot(slot + n)));
            self.note(first, count, slot)?;
        }
        Ok(())
    }

    /// From here on the `bytes` bytes at `at` are zeros.
    pub(super) fn zero(&mut self, base: &dyn Base, at: u64, bytes: u64) -> Result<(), Trouble> {
        const ZEROS: [u8; CLUSTER as usize] = [0; CLUSTER as usize];
        let end = at + bytes;
        let first = at.next_multiple_of(CLUSTER).min(end);
        self.write_part(base, at, &ZEROS[..(first - at) as usize])?;
        let count = (end - first) / CLUSTER;
        let cluster = first / CLUSTER;
        for cluster in cluster..cluster + count {
            if let Place::Slot(slot) = self.get(cluster)
                && slot >= self.frozen
            {
                self.free.push(slot);
            }
            self.set(cluster, Place::Zero);
        }
        if count > 0 {
            self.note(cluster, count as u32, ZERO_SLOT)?;
        }
        let tail = first + count * CLUSTER;
        self.write_part(base, tail, &ZEROS[..(end - tail) as usize])
    }

    /// Writes down a change of the map.
    fn note(&mut self, first: u64, count: u32, slot: u32) -> io::Result<()> {
        for word in [first as u32, count, slot, 0] {
            self.batch.extend(word.to_le_bytes());
        }
        if self.batch.len() >= BATCH_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Puts another data file in place of its own.
    #[cfg(test)]
    pub(super) fn replace_data(&mut self, data: File) {
        self.data = data;
    }

    fn flush(&mut self) -> io::Result<()> {
        self.map.write_all_at(&self.batch, self.map_bytes)?;
        self.map_bytes += self.batch.len() as u64;
        self.batch.clear();
        Ok(())
    }
}

/// Where `slot` is in the data file.
fn offset(slot: u32) -> u64 {
    u64::from(slot) * CLUSTER
}
