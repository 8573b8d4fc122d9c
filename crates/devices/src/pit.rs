//! The programmable interval timer (Intel 8254), with the PC's port 0x61
//! beside it.
//!
//! Nothing counts here: what a counter shows and when its output rises follow
//! from when it was loaded. Channel 0 is the interrupt line 0; channel 2 is
//! the speaker's, gated and read back by port 0x61.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device, check};
use crate::ticks::{ns_of_ticks, ticks_at};

/// A third of the NTSC colour carrier's 3.579545 MHz.
const PIT_HZ: u64 = 1_193_182;
/// Port 0x61 bit 4 toggles with each memory refresh.
const REFRESH_NS: u64 = 15_085;

/// Which half of a 16-bit count an access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Access {
    Low,
    High,
    /// Low, then high.
    Both,
}

/// One of the three channels.
#[derive(Clone, Debug)]
struct Channel {
    mode: u8,
    bcd: bool,
    access: Access,
    /// The count in force, 1 to 65536; 0: none has been written since the
    /// control word.
    count: u32,
    load_ns: u64,
    gate: bool,
    /// The low byte of a count whose high byte is yet to come.
    low_written: Option<u8>,
    /// The next read gives the high byte.
    reads_high: bool,
    latched_count: Option<u16>,
    latched_status: Option<u8>,
    /// Rises of the output that have been told of since the load.
    rises: u64,
}

/// A channel of the 8254, saved.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct PitChannelState {
    #[n(0)]
    pub mode: u8,
    #[n(1)]
    pub bcd: bool,
    #[n(2)]
    pub access: u8,
    #[n(3)]
    pub count: u32,
    #[n(4)]
    pub load_ns: u64,
    #[n(5)]
    pub gate: bool,
    #[n(6)]
    pub low_written: Option<u8>,
    #[n(7)]
    pub reads_high: bool,
    #[n(8)]
    pub latched_count: Option<u16>,
    #[n(9)]
    pub latched_status: Option<u8>,
    #[n(10)]
    pub rises: u64,
}

impl Channel {
    fn new(gate: bool) -> Channel {
        Channel {
            mode: 0,
            bcd: false,
            access: Access::Both,
            count: 0,
            load_ns: 0,
            gate,
            low_written: None,
            reads_high: false,
            latched_count: None,
            latched_status: None,
            rises: 0,
        }
    }

    fn control(&mut self, access: Access, mode: u8, bcd: bool) {
        // Modes 6 and 7 are 2 and 3.
        let mode = if mode > 5 { mode & 3 } else { mode };
        *self = Channel {
            mode,
            bcd,
            access,
            ..Channel::new(self.gate)
        };
    }

    /// Modes that start over and over.
    fn repeats(&self) -> bool {
        self.mode == 2 || self.mode == 3
    }

    /// Modes that a rise of the gate starts.
    fn is_triggered(&self) -> bool {
        self.mode == 1 || self.mode == 5
    }

    /// A low gate stops the counter (it is as if never loaded: the real one
    /// freezes; no kernel looks).
    fn runs(&self) -> bool {
        self.count != 0 && (self.gate || self.is_triggered())
    }

    fn elapsed(&self, now_ns: u64) -> u64 {
        ticks_at(now_ns.saturating_sub(self.load_ns), PIT_HZ)
    }

    /// What the counter shows.
    fn value(&self, now_ns: u64) -> u16 {
        if !self.runs() {
            return self.encode(self.count);
        }
        let count = u64::from(self.count);
        let elapsed = self.elapsed(now_ns);
        let value = match self.mode {
            2 => count - elapsed % count,
            // Down by two, twice a period; even counts.
            3 => (count - elapsed.wrapping_mul(2) % count) & !1,
            _ => {
                let modulus: u64 = if self.bcd { 10_000 } else { 0x1_0000 };
                (count % modulus + modulus - elapsed % modulus) % modulus
            }
        };
        self.encode(u32::try_from(value).expect("no more than the count or its modulus"))
    }

    /// The level of the output.
    fn output(&self, now_ns: u64) -> bool {
        if !self.runs() {
            return self.mode != 0;
        }
        let count = u64::from(self.count);
        let elapsed = self.elapsed(now_ns);
        match self.mode {
            0 | 1 => elapsed >= count,
            2 => elapsed % count != count - 1 || count == 1,
            3 => elapsed % count < count.div_ceil(2),
            _ => elapsed != count,
        }
    }

    /// Ticks from the load to the first rise of the output. A strobe (modes 4
    /// and 5) is low for the tick in which the count ends.
    fn first_rise(&self) -> u64 {
        u64::from(self.count) + u64::from(self.mode >= 4)
    }

    /// How often the output has risen since the load.
    fn rises_at(&self, now_ns: u64) -> u64 {
        if !self.runs() {
            return 0;
        }
        let rises = self.elapsed(now_ns) / self.first_rise();
        if self.repeats() { rises } else { rises.min(1) }
    }

    fn next_rise_ns(&self) -> Option<u64> {
        if !self.runs() || self.rises > 0 && !self.repeats() {
            return None;
        }
        let ticks = self
            .rises
            .saturating_add(1)
            .saturating_mul(self.first_rise());
        Some(self.load_ns.saturating_add(ns_of_ticks(ticks, PIT_HZ)))
    }

    fn set_gate(&mut self, now_ns: u64, gate: bool) {
        let rises = gate && !self.gate;
        self.gate = gate;
        if rises && self.count != 0 {
            self.load(now_ns, self.count);
        }
    }

    fn load(&mut self, now_ns: u64, count: u32) {
        self.count = count;
        self.load_ns = now_ns;
        self.rises = 0;
    }

    fn write(&mut self, now_ns: u64, value: u8) {
        let (low, high) = match (self.access, self.low_written) {
            (Access::Low, _) => (value, 0),
            (Access::High, _) => (0, value),
            (Access::Both, None) => {
                self.low_written = Some(value);
                return;
            }
            (Access::Both, Some(low)) => {
                self.low_written = None;
                (low, value)
            }
        };
        let count = self.decode(u16::from_le_bytes([low, high]));
        self.load(now_ns, count);
    }

    fn read(&mut self, now_ns: u64) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let [low, high] = self
            .latched_count
            .unwrap_or_else(|| self.value(now_ns))
            .to_le_bytes();
        let is_high = match self.access {
            Access::Low => false,
            Access::High => true,
            Access::Both => {
                self.reads_high = !self.reads_high;
                !self.reads_high
            }
        };
        // A latched count stays until it has been read whole.
        if is_high || self.access != Access::Both {
            self.latched_count = None;
        }
        if is_high { high } else { low }
    }

    fn latch_count(&mut self, now_ns: u64) {
        self.latched_count.get_or_insert(self.value(now_ns));
    }

    fn latch_status(&mut self, now_ns: u64) {
        let access = match self.access {
            Access::Low => 1,
            Access::High => 2,
            Access::Both => 3,
        };
        let output = u8::from(self.output(now_ns)) << 7;
        let null_count = u8::from(self.count == 0) << 6;
        let status = output | null_count | access << 4 | self.mode << 1 | u8::from(self.bcd);
        self.latched_status.get_or_insert(status);
    }

    /// A written count: 0 stands for the largest.
    fn decode(&self, count: u16) -> u32 {
        let (count, largest) = if self.bcd {
            let digits = [12, 8, 4, 0].map(|shift| u32::from(count >> shift & 0xf));
            (
                digits
                    .into_iter()
                    .fold(0, |all, digit| all * 10 + digit.min(9)),
                10_000,
            )
        } else {
            (count.into(), 0x1_0000)
        };
        if count == 0 { largest } else { count }
    }

    fn encode(&self, count: u32) -> u16 {
        if !self.bcd {
            return count as u16;
        }
        let digits = [1000, 100, 10, 1].map(|place| count / place % 10);
        digits
            .into_iter()
            .fold(0, |all, digit| all << 4 | digit as u16)
    }

    fn save(&self) -> PitChannelState {
        let Channel {
            mode,
            bcd,
            access,
            count,
            load_ns,
            gate,
            low_written,
            reads_high,
            latched_count,
            latched_status,
            rises,
        } = *self;
        PitChannelState {
            mode,
            bcd,
            access: access as u8,
            count,
            load_ns,
            gate,
            low_written,
            reads_high,
            latched_count,
            latched_status,
            rises,
        }
    }

    fn of(state: PitChannelState) -> Result<Channel, Damaged> {
        check(state.mode <= 5, "interval timer", "it has no such mode")?;
        check(
            state.count <= 0x1_0000,
            "interval timer",
            "a count is too large",
        )?;
        let access = match state.access {
            0 => Access::Low,
            1 => Access::High,
            _ => Access::Both,
        };
        Ok(Channel {
            mode: state.mode,
            bcd: state.bcd,
            access,
            count: state.count,
            load_ns: state.load_ns,
            gate: state.gate,
            low_written: state.low_written,
            reads_high: state.reads_high,
            latched_count: state.latched_count,
            latched_status: state.latched_status,
            rises: state.rises,
        })
    }
}

/// The timer.
#[derive(Clone, Debug)]
pub struct Pit {
    channels: [Channel; 3],
    /// Port 0x61 bit 1: the speaker is connected.
    speaker: bool,
}

/// A [`Pit`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct PitState {
    #[n(0)]
    pub channels: [PitChannelState; 3],
    #[n(1)]
    pub speaker: bool,
}

impl Default for Pit {
    fn default() -> Self {
        Pit::new()
    }
}

impl Pit {
    /// No channel is programmed; channel 2's gate is low.
    pub fn new() -> Pit {
        Pit {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            speaker: false,
        }
    }

    /// Reads a port: 0x40 to 0x43, or 0x61.
    pub fn read(&mut self, now_ns: u64, port: u16) -> u8 {
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].read(now_ns),
            0x61 => {
                let refresh = ((now_ns / REFRESH_NS) & 1) as u8;
                let sound = &self.channels[2];
                u8::from(sound.gate)
                    | u8::from(self.speaker) << 1
                    | refresh << 4
                    | u8::from(sound.output(now_ns)) << 5
            }
            _ => 0xff,
        }
    }

    /// Writes a port: 0x40 to 0x43, or 0x61.
    pub fn write(&mut self, now_ns: u64, port: u16, value: u8) {
        match port {
            0x40..=0x42 => self.channels[usize::from(port - 0x40)].write(now_ns, value),
            0x43 => self.control(now_ns, value),
            0x61 => {
                self.channels[2].set_gate(now_ns, value & 1 != 0);
                self.speaker = value & 2 != 0;
            }
            _ => {}
        }
    }

    /// Channel 0's output: interrupt line 0.
    pub fn irq(&self, now_ns: u64) -> bool {
        self.channels[0].output(now_ns)
    }

    /// Whether channel 0's output has risen since the last call. The line may
    /// be up before and after: it was down in between.
    pub fn take_rise(&mut self, now_ns: u64) -> bool {
        let channel = &mut self.channels[0];
        let rises = channel.rises_at(now_ns);
        let has_risen = rises > channel.rises;
        channel.rises = rises;
        has_risen
    }

    fn control(&mut self, now_ns: u64, value: u8) {
        let which = value >> 6;
        if which == 3 {
            // Read-back: bits 5 and 4 low ask for count and status.
            for (number, channel) in self.channels.iter_mut().enumerate() {
                if value >> (number + 1) & 1 != 0 {
                    if value & 1 << 5 == 0 {
                        channel.latch_count(now_ns);
                    }
                    if value & 1 << 4 == 0 {
                        channel.latch_status(now_ns);
                    }
                }
            }
            return;
        }
        let channel = &mut self.channels[usize::from(which)];
        let access = match value >> 4 & 3 {
            0 => return channel.latch_count(now_ns),
            1 => Access::Low,
            2 => Access::High,
            _ => Access::Both,
        };
        channel.control(access, value >> 1 & 7, value & 1 != 0);
    }
}

impl Device for Pit {
    type State = PitState;

    fn save(&self) -> PitState {
        let Pit { channels, speaker } = self;
        PitState {
            channels: channels.each_ref().map(Channel::save),
            speaker: *speaker,
        }
    }

    fn restore(&mut self, state: PitState) -> Result<(), Damaged> {
        let [first, second, third] = state.channels;
        let channels = [
            Channel::of(first)?,
            Channel::of(second)?,
            Channel::of(third)?,
        ];
        *self = Pit {
            channels,
            speaker: state.speaker,
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        self.channels[0].next_rise_ns()
    }

    /// The board asks [`Pit::take_rise`] instead, since it wants to know.
    fn alarm(&mut self, now_ns: u64) {
        self.take_rise(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    /// Channel 0 as Linux sets it for 250 Hz: mode 2, count 4773.
    fn periodic() -> Pit {
        let mut pit = Pit::new();
        pit.write(0, 0x43, 0x34);
        pit.write(0, 0x40, 0xa5);
        pit.write(0, 0x40, 0x12);
        pit
    }

    #[test]
    fn mode_2_rises_every_period() {
        let mut pit = periodic();
        let first_ns = pit.deadline_ns().expect("it runs");
        assert_eq!(first_ns, ns_of_ticks(4773, PIT_HZ));
        assert!(!pit.take_rise(first_ns - 1));
        assert!(pit.take_rise(first_ns));
        assert!(!pit.take_rise(first_ns));
        assert_eq!(pit.deadline_ns(), Some(ns_of_ticks(2 * 4773, PIT_HZ)));
    }

    #[test]
    fn mode_0_rises_once_and_stays() {
        let mut pit = Pit::new();
        pit.write(0, 0x43, 0x30);
        pit.write(0, 0x40, 100);
        pit.write(0, 0x40, 0);
        assert!(!pit.irq(0));
        let due_ns = pit.deadline_ns().expect("it runs");
        assert!(pit.take_rise(due_ns));
        assert!(pit.irq(due_ns));
        assert_eq!(pit.deadline_ns(), None);
    }

    #[test]
    fn a_strobe_ends_with_the_output_up_as_linux_s_one_shot_needs() {
        let mut pit = Pit::new();
        pit.write(0, 0x43, 0x38);
        pit.write(0, 0x40, 100);
        pit.write(0, 0x40, 0);
        assert!(!pit.irq(ns_of_ticks(100, PIT_HZ)));
        let due_ns = pit.deadline_ns().expect("it runs");
        assert!(pit.take_rise(due_ns));
        assert!(pit.irq(due_ns));
        assert_eq!(pit.deadline_ns(), None);
    }

    #[test]
    fn a_latched_count_holds_still() {
        let mut pit = periodic();
        pit.write(ns_of_ticks(10, PIT_HZ), 0x43, 0x00);
        let later_ns = ns_of_ticks(1000, PIT_HZ);
        let bytes = [pit.read(later_ns, 0x40), pit.read(later_ns, 0x40)];
        assert_eq!(u16::from_le_bytes(bytes), 4763);
        let bytes = [pit.read(later_ns, 0x40), pit.read(later_ns, 0x40)];
        assert_eq!(u16::from_le_bytes(bytes), 3773);
    }

    #[test]
    fn linux_calibrates_by_channel_2_and_port_0x61() {
        // quick_pit_calibrate and pit_calibrate_tsc: gate up, speaker off,
        // mode 0, then wait for bit 5.
        let mut pit = Pit::new();
        pit.write(0, 0x61, 0x01);
        pit.write(0, 0x43, 0xb0);
        pit.write(0, 0x42, 0x9c);
        pit.write(0, 0x42, 0x2e);
        let due_ns = ns_of_ticks(0x2e9c, PIT_HZ);
        assert_eq!(pit.read(due_ns - 1, 0x61) & 0x20, 0);
        assert_eq!(pit.read(due_ns, 0x61) & 0x20, 0x20);
    }

    #[test]
    fn read_back_tells_status_and_count() {
        let mut pit = periodic();
        pit.write(0, 0x43, 0xc2);
        assert_eq!(pit.read(0, 0x40), 0xb4);
        assert_eq!(pit.read(0, 0x40), 0xa5);
    }

    #[test]
    fn decimal_counts_are_decimal() {
        let mut pit = Pit::new();
        pit.write(0, 0x43, 0x35);
        pit.write(0, 0x40, 0x00);
        pit.write(0, 0x40, 0x10);
        assert_eq!(pit.deadline_ns(), Some(ns_of_ticks(1000, PIT_HZ)));
        let at_ns = ns_of_ticks(1, PIT_HZ);
        assert_eq!([pit.read(at_ns, 0x40), pit.read(at_ns, 0x40)], [0x99, 0x09]);
    }

    #[test]
    fn a_saved_timer_comes_back() {
        let mut pit = periodic();
        pit.take_rise(10_000_000);
        pit.write(10_000_000, 0x43, 0x00);
        pit.read(10_000_000, 0x40);
        assert_comes_back(&pit, Pit::new());
    }
}
