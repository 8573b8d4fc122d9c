//! The memory-mapped transport, version 2 (virtio 1.1, 4.2).
//!
//! MMIO and not PCI: Linux finds it by ACPI on both of Debian's kernels, it
//! takes a page of registers and an interrupt line, and there is no bus to be
//! enumerated, no BAR that moves and no MSI-X table to be saved.
//!
//! The registers are 32 bits wide and taken whole; the configuration space is
//! read and written in bytes, half words and words.

use memory::Ram;
use minicbor::{Decode, Encode};

use super::queue::QueueState;
use super::registers::{Place, Register};
use super::{Broken, Function, Queue, Queues, feature};
use crate::device::{Damaged, Device, check};

const MAGIC: u32 = u32::from_le_bytes(*b"virt");
const VERSION: u32 = 2;
const VENDOR: u32 = u32::from_le_bytes(*b"RVRT");
/// Where the configuration space begins.
const CONFIG: u64 = 0x100;

/// Bits of the status register (virtio 1.1, 2.1).
mod status {
    pub(super) const FEATURES_OK: u8 = 8;
    pub(super) const DRIVER_OK: u8 = 4;
    pub(super) const NEEDS_RESET: u8 = 0x40;
    /// ACKNOWLEDGE, DRIVER, DRIVER_OK, FEATURES_OK, FAILED.
    pub(super) const WRITABLE: u8 = 0x8f;
}

/// Bits of the interrupt status.
mod interrupt {
    pub(super) const USED_BUFFER: u8 = 1;
    pub(super) const CONFIGURATION: u8 = 2;
}

/// A virtio device: a transport with `function` behind it.
#[derive(Clone, Debug)]
pub struct Transport<F> {
    /// What stands behind it.
    pub function: F,
    queues: Queues,
    device_features_select: u32,
    driver_features_select: u32,
    /// What the driver has written; it counts from FEATURES_OK on.
    driver_features: u64,
    queue_select: u32,
    status: u8,
    interrupt: u8,
}

/// A [`Transport`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct TransportState<S> {
    #[n(0)]
    pub function: S,
    #[n(1)]
    pub queues: Vec<QueueState>,
    #[n(2)]
    pub device_features_select: u32,
    #[n(3)]
    pub driver_features_select: u32,
    #[n(4)]
    pub driver_features: u64,
    #[n(5)]
    pub queue_select: u32,
    #[n(6)]
    pub status: u8,
    #[n(7)]
    pub interrupt: u8,
    #[n(8)]
    pub features: u64,
}

impl<F: Function> Transport<F> {
    /// Bytes of registers.
    pub const BYTES: u64 = 0x1000;

    /// After reset, with `function` behind it.
    pub fn new(function: F) -> Transport<F> {
        Transport {
            function,
            queues: Queues::new(F::QUEUE_SIZES),
            device_features_select: 0,
            driver_features_select: 0,
            driver_features: 0,
            queue_select: 0,
            status: 0,
            interrupt: 0,
        }
    }

    /// Whether its interrupt line is up. Level.
    pub fn irq(&self) -> bool {
        self.interrupt != 0
    }

    /// Whether the driver has set the device up and it is in order.
    pub fn is_live(&self) -> bool {
        self.status & (status::DRIVER_OK | status::NEEDS_RESET) == status::DRIVER_OK
    }

    /// Reads `size_bytes` (1, 2, 4 or 8) at `offset` of the registers. Ones
    /// where the width is none of the register's.
    pub fn read(&self, offset: u64, size_bytes: u8) -> u64 {
        if offset >= CONFIG {
            let config = self.function.config();
            return (0..u64::from(size_bytes.min(8))).rev().fold(0, |all, n| {
                let at = usize::try_from(offset - CONFIG + n).unwrap_or(usize::MAX);
                all << 8 | u64::from(config.get(at).copied().unwrap_or(0))
            });
        }
        if size_bytes != 4 {
            return u64::MAX;
        }
        u64::from(self.read_register(Register::at(offset)))
    }

    /// Writes the low `size_bytes` (1, 2, 4 or 8) of `value` at `offset` of the
    /// registers. Ignored where the width is none of the register's.
    pub fn write(&mut self, ram: &Ram, offset: u64, size_bytes: u8, value: u64) {
        if offset >= CONFIG {
            for (n, byte) in (0..u64::from(size_bytes)).zip(value.to_le_bytes()) {
                self.function.write_config(offset - CONFIG + n, byte);
            }
        } else if size_bytes == 4 {
            self.write_register(ram, Register::at(offset), value as u32);
        }
    }

    /// Lets `act` do something with the function and its queues, because
    /// something came from outside; sees to interrupts afterwards. `None` if
    /// the driver has not set the device up, or has broken the rules.
    pub fn stir<T>(
        &mut self,
        ram: &Ram,
        act: impl FnOnce(&mut F, &mut Queues) -> Result<T, Broken>,
    ) -> Option<T> {
        if !self.is_live() {
            return None;
        }
        let outcome = act(&mut self.function, &mut self.queues)
            .and_then(|value| self.signal(ram).map(|()| value));
        outcome.map_err(|_| self.needs_reset()).ok()
    }

    /// The function's configuration space has changed: the driver is told.
    pub fn config_changed(&mut self) {
        if self.is_live() {
            self.interrupt |= interrupt::CONFIGURATION;
        }
    }

    fn signal(&mut self, ram: &Ram) -> Result<(), Broken> {
        for queue in &mut self.queues.list {
            if queue.take_signal(ram)? {
                self.interrupt |= interrupt::USED_BUFFER;
            }
        }
        Ok(())
    }

    /// The driver has broken the rules (2.1.2).
    fn needs_reset(&mut self) {
        self.status |= status::NEEDS_RESET;
        if self.status & status::DRIVER_OK != 0 {
            self.interrupt |= interrupt::CONFIGURATION;
        }
    }

    fn offered(&self) -> u64 {
        self.function.features() | feature::TRANSPORT
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.list.get(self.queue_select as usize)
    }

    /// The selected queue, to be set up; `None` once it is ready.
    fn selected_mut(&mut self) -> Option<&mut Queue> {
        let queue = self.queues.list.get_mut(self.queue_select as usize);
        queue.filter(|queue| !queue.is_ready())
    }

    fn read_register(&self, register: Register) -> u32 {
        match register {
            Register::Magic => MAGIC,
            Register::Version => VERSION,
            Register::DeviceId => F::DEVICE_ID,
            Register::VendorId => VENDOR,
            Register::DeviceFeatures => half(self.offered(), self.device_features_select),
            Register::QueueSizeMax => self.selected().map_or(0, |queue| queue.size_max().into()),
            Register::QueueReady => self.selected().is_some_and(Queue::is_ready).into(),
            Register::InterruptStatus => self.interrupt.into(),
            Register::Status => self.status.into(),
            Register::SharedMemory => u32::MAX,
            // What changes in a configuration space is never wider than one access.
            Register::ConfigGeneration => 0,
            // Write-only.
            Register::DeviceFeaturesSelect
            | Register::DriverFeatures
            | Register::DriverFeaturesSelect
            | Register::QueueSelect
            | Register::QueueSize
            | Register::QueueNotify
            | Register::InterruptAcknowledge
            | Register::QueuePlace(..)
            | Register::Nothing => 0,
        }
    }

    fn write_register(&mut self, ram: &Ram, register: Register, value: u32) {
        match register {
            Register::DeviceFeaturesSelect => self.device_features_select = value,
            Register::DriverFeaturesSelect => self.driver_features_select = value,
            Register::DriverFeatures => {
                set_half(
                    &mut self.driver_features,
                    self.driver_features_select,
                    value,
                );
            }
            Register::QueueSelect => self.queue_select = value,
            Register::QueueSize => {
                if let Some(queue) = self.selected_mut() {
                    // What is too much for the register is no size either.
                    queue.size = u16::try_from(value).unwrap_or(0);
                }
            }
            Register::QueueReady => self.set_ready(ram, value & 1 != 0),
            Register::QueueNotify => self.notify(ram, value),
            Register::InterruptAcknowledge => self.interrupt &= !(value as u8),
            Register::Status => self.set_status(value as u8),
            Register::QueuePlace(place, is_high) => self.set_place(place, is_high, value),
            // Read-only.
            Register::Magic
            | Register::Version
            | Register::DeviceId
            | Register::VendorId
            | Register::DeviceFeatures
            | Register::QueueSizeMax
            | Register::InterruptStatus
            | Register::SharedMemory
            | Register::ConfigGeneration
            | Register::Nothing => {}
        }
    }

    fn set_place(&mut self, place: Place, is_high: bool, value: u32) {
        if let Some(queue) = self.selected_mut() {
            let address = match place {
                Place::Descriptors => &mut queue.descriptors,
                Place::Available => &mut queue.available,
                Place::Used => &mut queue.used,
            };
            set_half(address, is_high.into(), value);
        }
    }

    fn set_ready(&mut self, ram: &Ram, is_ready: bool) {
        let features = self.queues.features;
        let Some(queue) = self.queues.list.get_mut(self.queue_select as usize) else {
            return;
        };
        if !is_ready {
            queue.disable();
        } else if !queue.is_ready() && queue.enable(ram, features).is_err() {
            self.needs_reset();
        }
    }

    fn notify(&mut self, ram: &Ram, number: u32) {
        let number = number as usize;
        let is_ready = self.queues.list.get(number).is_some_and(Queue::is_ready);
        if is_ready {
            self.stir(ram, |function, queues| {
                function.notified(number, queues, ram)
            });
        }
    }

    fn set_status(&mut self, value: u8) {
        if value == 0 {
            return self.reset();
        }
        let had = self.status;
        self.status = value & status::WRITABLE | had & status::NEEDS_RESET;
        if self.status & !had & status::FEATURES_OK != 0 {
            let asks_for_more = self.driver_features & !self.offered() != 0;
            let is_legacy = self.driver_features & feature::VERSION_1 == 0;
            if asks_for_more || is_legacy {
                self.status &= !status::FEATURES_OK;
            } else {
                self.queues.features = self.driver_features;
            }
        }
        // A driver that did not agree on features drives nothing.
        if self.status & status::FEATURES_OK == 0 {
            self.status &= !status::DRIVER_OK;
        }
    }

    /// The machine or its driver resets the device.
    pub fn reset(&mut self) {
        self.queues = Queues::new(F::QUEUE_SIZES);
        self.device_features_select = 0;
        self.driver_features_select = 0;
        self.driver_features = 0;
        self.queue_select = 0;
        self.status = 0;
        self.interrupt = 0;
        self.function.reset();
    }
}

/// The low (0) or high (1) half of `bits`; nothing is behind these.
fn half(bits: u64, select: u32) -> u32 {
    match select {
        0 => bits as u32,
        1 => (bits >> 32) as u32,
        _ => 0,
    }
}

fn set_half(bits: &mut u64, select: u32, value: u32) {
    match select {
        0 => *bits = *bits & !0xffff_ffff | u64::from(value),
        1 => *bits = *bits & 0xffff_ffff | u64::from(value) << 32,
        _ => {}
    }
}

impl<F: Function> Device for Transport<F> {
    type State = TransportState<F::State>;

    fn save(&self) -> TransportState<F::State> {
        let Transport {
            function,
            queues,
            device_features_select,
            driver_features_select,
            driver_features,
            queue_select,
            status,
            interrupt,
        } = self;
        let Queues { list, features } = queues;
        TransportState {
            function: function.save(),
            queues: list.iter().map(Queue::save).collect(),
            device_features_select: *device_features_select,
            driver_features_select: *driver_features_select,
            driver_features: *driver_features,
            queue_select: *queue_select,
            status: *status,
            interrupt: *interrupt,
            features: *features,
        }
    }

    fn restore(&mut self, state: TransportState<F::State>) -> Result<(), Damaged> {
        let TransportState {
            function,
            queues,
            device_features_select,
            driver_features_select,
            driver_features,
            queue_select,
            status,
            interrupt,
            features,
        } = state;
        const NAME: &str = "virtio device";
        let sizes = F::QUEUE_SIZES;
        check(queues.len() == sizes.len(), NAME, "its number of queues")?;
        let list: Option<Vec<Queue>> = sizes
            .iter()
            .zip(&queues)
            .map(|(size_max, queue)| Queue::restored(*size_max, queue))
            .collect();
        check(list.is_some(), NAME, "the size of a queue")?;
        self.function.restore(function)?;
        self.queues = Queues {
            list: list.unwrap_or_default(),
            features,
        };
        self.device_features_select = device_features_select;
        self.driver_features_select = driver_features_select;
        self.driver_features = driver_features;
        self.queue_select = queue_select;
        self.status = status;
        self.interrupt = interrupt;
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    fn alarm(&mut self, _now_ns: u64) {}
}

#[cfg(test)]
mod tests {
    use super::super::rig::{Link, Rig};
    use super::*;
    use crate::device::tests::assert_comes_back;

    /// Writes 7 into each buffer it is given.
    #[derive(Clone, Debug, Default)]
    struct Seven(u8);

    impl Function for Seven {
        type State = u8;
        const DEVICE_ID: u32 = 77;
        const QUEUE_SIZES: &'static [u16] = &[Rig::SIZE, 8];

        fn features(&self) -> u64 {
            1 << 5
        }

        fn config(&self) -> Vec<u8> {
            vec![self.0, 2, 3, 4, 5]
        }

        fn write_config(&mut self, offset: u64, value: u8) {
            if offset == 0 {
                self.0 = value;
            }
        }

        fn notified(
            &mut self,
            number: usize,
            queues: &mut Queues,
            ram: &Ram,
        ) -> Result<(), Broken> {
            let queue = queues.queue(number);
            for _ in 0..queue.waiting(ram)? {
                let Some(chain) = queue.pop(ram)? else { break };
                let written = chain.write_at(ram, 0, &[7])?;
                queue.push(ram, &chain, written as u32)?;
            }
            Ok(())
        }

        fn reset(&mut self) {
            self.0 = 0;
        }

        fn save(&self) -> u8 {
            self.0
        }

        fn restore(&mut self, state: u8) -> Result<(), Damaged> {
            self.0 = state;
            Ok(())
        }
    }

    fn fresh() -> Transport<Seven> {
        Transport::new(Seven::default())
    }

    /// Set up as Linux does it (virtio 1.1, 3.1.1 and 4.2.3).
    fn live(rig: &Rig) -> Transport<Seven> {
        let mut transport = fresh();
        rig.set_up(&mut transport, 1 << 5);
        assert_eq!(transport.read(0x70, 4), 0xf);
        transport
    }

    #[test]
    fn a_driver_finds_what_is_there() {
        let transport = fresh();
        let found = [0, 4, 8].map(|offset| transport.read(offset, 4));
        assert_eq!(found, [0x7472_6976, 2, 77]);
        assert_eq!(transport.read(0x100, 4), 0x0403_0200);
        assert_eq!(transport.read(0x103, 8), 0x0504);
        assert_eq!(transport.read(0x1ff, 1), 0);
    }

    #[test]
    fn a_buffer_is_served_when_the_driver_notifies() {
        let mut rig = Rig::new();
        let mut transport = live(&rig);
        rig.offer(&[Link::writable(0x8000, 1)]);
        assert!(!transport.irq());
        transport.write(&rig.ram, 0x50, 4, 0);
        assert_eq!(rig.take_used(), Some(1));
        assert_eq!(rig.get(0x8000, 1), [7]);
        assert_eq!(transport.read(0x60, 4), 1);
        transport.write(&rig.ram, 0x64, 4, 1);
        assert!(!transport.irq());
    }

    #[test]
    fn a_driver_that_breaks_the_rules_finds_a_device_in_need_of_a_reset() {
        let mut rig = Rig::new();
        let mut transport = live(&rig);
        rig.offer(&[Link::writable(u64::MAX, 1)]);
        transport.write(&rig.ram, 0x50, 4, 0);
        assert_eq!(transport.read(0x70, 4), 0x4f);
        assert_eq!(transport.read(0x60, 4), 2);
        rig.offer(&[Link::writable(0x8000, 1)]);
        transport.write(&rig.ram, 0x50, 4, 0);
        assert_eq!(rig.take_used(), None);
        transport.write(&rig.ram, 0x70, 4, 0);
        assert_eq!(transport.read(0x70, 4), 0);
        assert_eq!(transport.read(0x44, 4), 0);
    }

    #[test]
    fn a_feature_that_was_not_offered_is_refused() {
        let rig = Rig::new();
        for (low, high) in [(1 << 6, 1), (1 << 5, 0), (0, 3)] {
            let mut transport = fresh();
            transport.write(&rig.ram, 0x70, 4, 3);
            for (select, value) in [(0, low), (1, high)] {
                transport.write(&rig.ram, 0x24, 4, select);
                transport.write(&rig.ram, 0x20, 4, value);
            }
            transport.write(&rig.ram, 0x70, 4, 0xb);
            assert_eq!(transport.read(0x70, 4), 3);
            transport.write(&rig.ram, 0x70, 4, 0xf);
            assert!(!transport.is_live());
        }
    }

    #[test]
    fn registers_of_another_width_do_nothing() {
        let rig = Rig::new();
        let mut transport = fresh();
        for size_bytes in [1, 2, 8] {
            transport.write(&rig.ram, 0x70, size_bytes, 1);
            assert_eq!(transport.read(0x70, size_bytes), u64::MAX);
        }
        assert_eq!(transport.read(0x70, 4), 0);
    }

    #[test]
    fn what_comes_from_outside_waits_for_a_driver() {
        let mut rig = Rig::new();
        assert_eq!(fresh().stir(&rig.ram, |_, _| Ok(())), None);
        let mut transport = live(&rig);
        rig.offer(&[Link::writable(0x8000, 1)]);
        let stirred = transport.stir(&rig.ram, |seven, queues| {
            seven.notified(0, queues, &rig.ram)
        });
        assert_eq!(stirred, Some(()));
        assert!(transport.irq());
    }

    #[test]
    fn a_saved_device_comes_back_and_goes_on() {
        let mut rig = Rig::new();
        let mut transport = live(&rig);
        rig.offer(&[Link::writable(0x8000, 1)]);
        transport.write(&rig.ram, 0x50, 4, 0);
        assert_comes_back(&transport, fresh());
        let mut other = fresh();
        other.restore(transport.save()).expect("its own state");
        rig.offer(&[Link::writable(0x8000, 1)]);
        other.write(&rig.ram, 0x50, 4, 0);
        assert_eq!(rig.take_used(), Some(1));
        assert_eq!(rig.take_used(), Some(1));
    }

    #[test]
    fn a_state_with_an_impossible_queue_is_damaged() {
        let rig = Rig::new();
        let mut state = live(&rig).save();
        state.queues[0].size = 0;
        assert!(fresh().restore(state).is_err());
    }
}
