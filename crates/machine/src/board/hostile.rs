//! Any guest at all, made from bytes: it reads and writes every port, register
//! and MSR at every width, sets virtio queues up and fills them with nonsense,
//! while frames, keys and alarms come in.
//!
//! Two boards get the same. One is never saved; the other is saved and restored
//! into a fresh one at any moment. So each law is checked of all devices at
//! once: nothing panics; the world goes on; save, load, save gives the same
//! bytes; and nobody, neither the guest nor whoever takes its output, can tell
//! whether the machine was saved meanwhile.

use std::cell::RefCell;
use std::rc::Rc;

use cpu::Bus as _;
use devices::{Backing, Failed, InMemory, IoApic, LocalApic};
use memory::Ram;
use seal::Digest;
use x86::{Physical, msr};

use super::Board;
use crate::{DiskConfig, MachineConfig, NicConfig, Output, saved, slot};

const RAM_BYTES: u64 = 1 << 20;
/// The slots of [`config`], and one more, where nothing is.
const SLOTS: u64 = 6;
/// Where queue 0 of slot 0 is; see [`Twins::set_up`].
const QUEUES: u64 = 0x1_0000;
const SLOT_BYTES: u64 = 0x1_0000;
const QUEUE_BYTES: u64 = 0x4000;
const QUEUE_SIZE: u64 = 8;

/// Two disks, two network cards, and one of everything else.
fn config() -> MachineConfig {
    let disk = |sectors, is_read_only| DiskConfig {
        sectors,
        is_read_only,
        ..DiskConfig::default()
    };
    MachineConfig {
        disks: vec![disk(8, false), disk(16, true)],
        nics: vec![NicConfig::default(); 2],
        has_rng: true,
        has_serial2: true,
        debug_exit: true,
        ..MachineConfig::new(RAM_BYTES, Digest::default(), 1_795_472_800)
    }
}

/// A board with disks in its drives, and its memory.
#[cfg(test)]
pub(crate) fn rig() -> (Board, Ram) {
    let Half { board, ram, .. } = Half::new(&config());
    (board, ram)
}

/// Contents that outlive the board that they were put into.
#[derive(Clone, Debug)]
struct Shared(Rc<RefCell<InMemory>>);

impl Backing for Shared {
    fn sectors(&self) -> u64 {
        self.0.borrow().sectors()
    }

    fn read(&mut self, at: u64, into: &mut [u8]) -> Result<(), Failed> {
        self.0.borrow_mut().read(at, into)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failed> {
        self.0.borrow_mut().write(at, bytes)
    }

    fn zero(&mut self, at: u64, bytes: u64) -> Result<(), Failed> {
        self.0.borrow_mut().zero(at, bytes)
    }
}

/// One of the two boards, with what is not saved with it.
#[derive(Debug)]
struct Half {
    board: Board,
    ram: Ram,
    disks: Vec<Shared>,
}

impl Half {
    fn new(config: &MachineConfig) -> Half {
        let ram = Ram::new(RAM_BYTES).expect("a small mapping");
        let contents = |disk: &DiskConfig| InMemory(vec![7; 512 * disk.sectors as usize]);
        let mut half = Half {
            board: Board::new(config, &ram),
            ram,
            disks: config
                .disks
                .iter()
                .map(|disk| Shared(Rc::new(RefCell::new(contents(disk)))))
                .collect(),
        };
        half.insert_disks(config);
        half
    }

    fn insert_disks(&mut self, config: &MachineConfig) {
        let disks = self.disks.iter().cloned();
        let disks = disks
            .map(|disk| Box::new(disk) as Box<dyn Backing>)
            .collect();
        self.board
            .insert_disks(config, disks)
            .expect("they are as configured");
    }

    /// Goes on as a fresh board that takes on this one's state.
    fn come_back(&mut self, config: &MachineConfig) {
        let bytes = saved::save(&self.board);
        self.board = Board::new(config, &self.ram);
        saved::restore(&mut self.board, &bytes).expect("its own state");
        self.insert_disks(config);
        assert_eq!(bytes, saved::save(&self.board), "save, load, save");
    }

    fn memory(&self) -> Vec<u8> {
        let mut bytes = vec![0; RAM_BYTES as usize];
        self.ram.read(Physical(0), &mut bytes).expect("it is RAM");
        bytes
    }
}

/// What can be seen of a board from outside after something was done to it.
#[derive(Debug, PartialEq)]
struct Seen {
    answer: Option<u64>,
    next_timer: u64,
    interrupt_waits: bool,
    task_priority: u8,
    output: Vec<Output>,
}

/// Something that is done to a board at a branch count.
type Deed<'a> = &'a dyn Fn(&mut Board, &Ram, u64) -> Option<u64>;

struct Twins {
    config: MachineConfig,
    whole: Half,
    saved: Half,
    now: u64,
}

impl Twins {
    fn new() -> Twins {
        let config = config();
        Twins {
            whole: Half::new(&config),
            saved: Half::new(&config),
            config,
            now: 0,
        }
    }

    /// Does the same to both, and compares what can be seen.
    fn both(&mut self, deed: Deed<'_>) -> Option<u64> {
        let now = self.now;
        let [whole, saved] = [&mut self.whole, &mut self.saved].map(|half| {
            let answer = deed(&mut half.board, &half.ram, now);
            let next_timer = half.board.fire(now);
            assert!(next_timer > now || now == u64::MAX, "time stands still");
            // What ended the machine is not what is looked at here.
            half.board.ended = None;
            Seen {
                answer,
                next_timer,
                interrupt_waits: half.board.interrupt_waits(),
                task_priority: half.board.task_priority(),
                output: half.board.outputs.take(),
            }
        });
        assert_eq!(
            whole, saved,
            "at branch {now}: on the right, it was saved and restored"
        );
        whole.answer
    }

    fn write(&mut self, at: u64, size_bytes: u8, value: u64) {
        self.both(&|board, ram, now| {
            board.write(ram, now, Physical(at), size_bytes, value);
            None
        });
    }

    fn read(&mut self, at: u64, size_bytes: u8) -> u64 {
        let answer =
            self.both(&|board, ram, now| Some(board.read(ram, now, Physical(at), size_bytes)));
        answer.expect("it was just given")
    }

    fn poke(&mut self, at: u64, bytes: &[u8]) {
        for half in [&self.whole, &self.saved] {
            half.ram.write(Physical(at), bytes).expect("it is RAM");
        }
    }

    /// Sets the device in slot `number` up as Linux does (virtio 1.1, 3.1.1).
    fn set_up(&mut self, number: u64, features: u64) {
        let registers = slot::address(number as usize);
        self.write(registers + 0x70, 4, 0);
        let offered = self.read(registers + 0x10, 4);
        for (offset, value) in [
            (0x70, 3),
            (0x24, 0),
            (0x20, features & offered),
            (0x24, 1),
            (0x20, 1),
            (0x70, 0xb),
        ] {
            self.write(registers + offset, 4, value);
        }
        for queue in 0..2 {
            let at = QUEUES + SLOT_BYTES * number + QUEUE_BYTES * queue;
            for (offset, value) in [
                (0x30, queue),
                (0x38, QUEUE_SIZE),
                (0x80, at),
                (0x90, at + 0x1000),
                (0xa0, at + 0x2000),
                (0x44, 1),
            ] {
                self.write(registers + offset, 4, value);
            }
        }
        self.write(registers + 0x70, 4, 0xf);
    }

    /// Asks the device in slot `number` for something that a disk knows, in
    /// three buffers: a head, `data_bytes` of data, and a status.
    fn request(&mut self, number: u64, kind: u32, sector: u64, data_bytes: u32) {
        const HEAD: u64 = 0x100;
        const DATA: u64 = 0x1000;
        const WRITE: u64 = 2;
        let is_given = if kind == 1 { 0 } else { WRITE };
        self.poke(HEAD, &kind.to_le_bytes());
        self.poke(HEAD + 8, &sector.to_le_bytes());
        let at = QUEUES + SLOT_BYTES * number;
        let buffers = [
            (HEAD, 16, 1),
            (DATA, data_bytes, 1 | is_given),
            (HEAD + 16, 1, WRITE),
        ];
        for (index, (place, length, flags)) in (0u64..).zip(buffers) {
            self.put_descriptor(at, index, place, length, flags | (index + 1) << 16);
        }
        self.announce(number, 0);
    }

    /// Writes descriptor `index` of the table at `table`; the upper half of
    /// `flags` is the number of the next.
    fn put_descriptor(&mut self, table: u64, index: u64, place: u64, length: u32, flags: u64) {
        let words = u128::from(flags) << 96 | u128::from(length) << 64 | u128::from(place);
        self.poke(table + 16 * index, &words.to_le_bytes());
    }

    /// Makes descriptor 0 of a queue available, and notifies.
    fn announce(&mut self, number: u64, queue: u64) {
        let available = QUEUES + SLOT_BYTES * number + QUEUE_BYTES * queue + 0x1000;
        let mut index = [0; 2];
        let ram = &self.whole.ram;
        ram.read(Physical(available + 2), &mut index)
            .expect("it is RAM");
        let index = u16::from_le_bytes(index);
        self.poke(available + 4 + 2 * (u64::from(index) % QUEUE_SIZE), &[0, 0]);
        self.poke(available + 2, &index.wrapping_add(1).to_le_bytes());
        self.write(slot::address(number as usize) + 0x50, 4, queue);
    }

    /// Puts one to seven descriptors into a queue of slot `number`, and
    /// notifies: some right, some not.
    fn offer(&mut self, number: u64, bytes: &mut Bytes<'_>) {
        let queue = bytes.number(1) & 1;
        let at = QUEUES + SLOT_BYTES * number + QUEUE_BYTES * queue;
        let count = 1 + bytes.number(1) % (QUEUE_SIZE - 1);
        for index in 0..count {
            let strange = bytes.number(1);
            let place = match strange & 0xf0 {
                0 => bytes.number(8),
                _ => bytes.number(2),
            };
            let length = match bytes.number(1) as usize % 8 {
                7 => bytes.number(4) as u32,
                known => [16, 1, 512, 4096, 0, 17, 64][known],
            };
            let flags = match strange {
                251.. => strange,
                _ => strange & 2 | u64::from(index + 1 < count),
            };
            let next = if strange > 240 { strange } else { index + 1 };
            self.put_descriptor(at, index, place, length, flags | next << 16);
        }
        self.announce(number, queue);
    }

    /// Ends the machine and starts it again.
    fn reset(&mut self) {
        let now = self.now;
        for half in [&mut self.whole, &mut self.saved] {
            half.board.reset(&self.config, &half.ram, now);
        }
    }

    /// All that a later run depends on is equal.
    fn compare(&mut self) {
        let [whole, saved] = [&self.whole, &self.saved].map(|half| saved::save(&half.board));
        assert_eq!(whole, saved, "the states differ");
        assert!(
            self.whole.memory() == self.saved.memory(),
            "memories differ"
        );
        for (whole, saved) in self.whole.disks.iter().zip(&self.saved.disks) {
            assert!(whole.0 == saved.0, "disks differ");
        }
    }
}

/// Lets `data` be the guest and the world around it.
pub fn drive(data: &[u8]) {
    let mut twins = Twins::new();
    let mut bytes = Bytes(data);
    while !bytes.0.is_empty() {
        act(&mut twins, &mut bytes);
    }
    twins.compare();
}

fn act(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    let number = bytes.number(1) % SLOTS;
    match bytes.number(1) % 16 {
        0..=3 => access_port(twins, bytes),
        4..=7 => access_memory(twins, number, bytes),
        8 => access_msr(twins, bytes),
        9 => twins.set_up(number, bytes.number(4)),
        10 => twins.offer(number, bytes),
        11 => {
            let [kind, sector, sectors] = [2, 1, 1].map(|count| bytes.number(count));
            let data_bytes = 512 * (sectors as u32 % 8);
            twins.request(number, kind as u32 % 16, sector % 10, data_bytes);
        }
        12 => pass_time(twins, bytes),
        13 => interrupt(twins, bytes),
        14 => come_in(twins, bytes),
        _ if bytes.number(1) == 0 => twins.reset(),
        _ => {
            twins.saved.come_back(&twins.config);
            twins.compare();
        }
    }
}

fn access_port(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    const KNOWN: [u16; 13] = [
        0x20, 0x40, 0x60, 0x70, 0x92, 0xa0, 0xe9, 0xf4, 0x2f8, 0x3f8, 0x4d0, 0x600, 0xcf8,
    ];
    let known = KNOWN.get(bytes.number(1) as usize % 16);
    let port = match known {
        Some(port) => port + bytes.number(1) as u16 % 12,
        None => bytes.number(2) as u16,
    };
    let size_bytes = 1 << (bytes.number(1) % 3);
    let value = bytes.number(4) as u32;
    twins.both(&|board, ram, now| match value & 1 {
        0 => Some(board.port_in(ram, now, port, size_bytes).into()),
        _ => {
            board.port_out(ram, now, port, size_bytes, value >> 1);
            None
        }
    });
}

fn access_memory(twins: &mut Twins, number: u64, bytes: &mut Bytes<'_>) {
    let at = match bytes.number(1) % 8 {
        0 | 1 => LocalApic::ADDRESS + 16 * bytes.number(1),
        2 => IoApic::ADDRESS + bytes.number(1) % 0x20,
        3 => LocalApic::ADDRESS + bytes.number(2) % 0x1000,
        4..=6 => slot::address(number as usize) + bytes.number(2) % 0x180,
        _ => bytes.number(8),
    };
    let size_bytes = 1 << (bytes.number(1) % 4);
    match bytes.number(1) & 1 {
        0 => drop(twins.read(at, size_bytes)),
        _ => twins.write(at, size_bytes, bytes.number(8)),
    }
}

fn access_msr(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    let number = match bytes.number(1) as u32 % 0x48 {
        0x40..0x44 => msr::APIC_BASE,
        0x44.. => msr::TSC_DEADLINE,
        register => msr::X2APIC_FIRST + register,
    };
    let is_write = bytes.number(1) & 1 != 0;
    let value = bytes.number(8);
    twins.both(&|board, _, now| {
        if is_write {
            board.msr_write(now, number, value).ok().map(|()| 1)
        } else {
            board.msr_read(now, number).ok()
        }
    });
}

/// Time passes as in the run loop: no further than the next timer.
fn pass_time(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    let kind = bytes.number(1);
    let value = bytes.number(5);
    match kind % 4 {
        0 => {
            let is_idle = kind & 4 != 0;
            twins.both(&|board, _, now| {
                board.clock.sample(now, value, is_idle);
                None
            });
        }
        1 => {
            let now = twins.now;
            let deadline_ns = twins.whole.board.deadline_ns();
            for half in [&mut twins.whole, &mut twins.saved] {
                let ns = deadline_ns.unwrap_or(value);
                half.board.clock.skip(now, ns);
            }
            twins.now = now.saturating_add(1);
            twins.both(&|_, _, _| None);
        }
        _ => {
            let next_timer = twins.whole.board.fire(twins.now);
            twins.now = twins.now.saturating_add(value).min(next_timer);
            twins.both(&|board, _, now| Some(board.tsc(now)));
        }
    }
}

fn interrupt(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    let kind = bytes.number(1);
    twins.both(&|board, _, now| match kind % 4 {
        0 => Some(board.take_nmi().into()),
        1 => {
            board.set_task_priority((kind >> 4) as u8);
            None
        }
        _ => board.acknowledge(now).map(u64::from),
    });
}

fn come_in(twins: &mut Twins, bytes: &mut Bytes<'_>) {
    let kind = bytes.number(1);
    let value = bytes.number(2) as usize;
    let nic = value & 3;
    twins.both(&|board, ram, _| {
        Some(u64::from(match kind % 8 {
            0 | 1 => board.type_bytes(&vec![kind as u8; value % 32]),
            2 => {
                board.press_power_button();
                true
            }
            3 => board.set_link(nic, value & 4 != 0),
            4 => board.bring_entropy(ram, &vec![kind as u8; value % 100]),
            _ => board.receive(ram, nic, &vec![kind as u8; value]),
        }))
    });
}

/// Numbers made from bytes; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    /// The next `count` bytes as a number.
    fn number(&mut self, count: usize) -> u64 {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
            .iter()
            .rev()
            .fold(0, |all, byte| all << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn any_guest(data in prop::collection::vec(any::<u8>(), 0..2000)) {
            drive(&data);
        }
    }

    #[test]
    fn every_register_takes_every_width_in_any_state() {
        let mut twins = Twins::new();
        for value in [0, 1, 0xf, 0x55, 0x8000_0001, u64::MAX] {
            for size_bytes in [1, 2, 4, 8] {
                let pages = (0..SLOTS).map(|number| slot::address(number as usize));
                for page in pages.chain([LocalApic::ADDRESS, IoApic::ADDRESS]) {
                    for at in page..page + 0x200 {
                        twins.write(at, size_bytes, value);
                        twins.read(at, size_bytes);
                    }
                }
                twins.saved.come_back(&twins.config);
            }
            twins.compare();
        }
    }

    /// If requests that keep the rules were not served, the traffic above
    /// would try little.
    #[test]
    fn a_disk_that_was_written_comes_back() {
        let mut twins = Twins::new();
        twins.set_up(0, u64::MAX);
        twins.poke(0x1000, &[0x55; 512]);
        twins.request(0, 1, 3, 512);
        assert_eq!(
            twins.whole.disks[0].0.borrow().0[3 * 512..4 * 512],
            [0x55; 512]
        );
        twins.saved.come_back(&twins.config);
        twins.compare();
    }
}
