//! The pair of interrupt controllers of a PC (Intel 8259A): the second is
//! cascaded to line 2 of the first.

use minicbor::{Decode, Encode};

use crate::device::{Damaged, Device};

/// Which of the four initialisation words comes next.
const READY: u8 = 0;

/// One controller.
#[derive(Clone, Debug)]
struct Pic {
    /// Levels of the inputs.
    lines: u8,
    request: u8,
    in_service: u8,
    mask: u8,
    /// Inputs that are level-triggered (the edge/level control register).
    level: u8,
    /// The upper five bits of its vectors (ICW2).
    vectors: u8,
    /// ICW4.
    automatic_end: bool,
    /// ICW4: special fully nested mode.
    special_nested: bool,
    /// OCW3.
    special_mask: bool,
    /// OCW3: reads give ISR instead of IRR.
    reads_in_service: bool,
    /// OCW3: the next read acknowledges.
    polls: bool,
    rotates_on_automatic_end: bool,
    /// The input of highest priority.
    first: u8,
    /// 0, or the number of the initialisation word that comes next.
    awaits: u8,
    /// ICW1 announced an ICW4.
    has_icw4: bool,
}

/// One 8259A, saved.
#[derive(Clone, Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "the names are the registers'")]
pub struct PicState {
    #[n(0)]
    pub lines: u8,
    #[n(1)]
    pub request: u8,
    #[n(2)]
    pub in_service: u8,
    #[n(3)]
    pub mask: u8,
    #[n(4)]
    pub level: u8,
    #[n(5)]
    pub vectors: u8,
    #[n(6)]
    pub automatic_end: bool,
    #[n(7)]
    pub special_nested: bool,
    #[n(8)]
    pub special_mask: bool,
    #[n(9)]
    pub reads_in_service: bool,
    #[n(10)]
    pub polls: bool,
    #[n(11)]
    pub rotates_on_automatic_end: bool,
    #[n(12)]
    pub first: u8,
    #[n(13)]
    pub awaits: u8,
    #[n(14)]
    pub has_icw4: bool,
}

impl Pic {
    /// Before initialisation everything is masked, as firmware leaves it.
    fn new() -> Pic {
        Pic {
            lines: 0,
            request: 0,
            in_service: 0,
            mask: 0xff,
            level: 0,
            vectors: 0,
            automatic_end: false,
            special_nested: false,
            special_mask: false,
            reads_in_service: false,
            polls: false,
            rotates_on_automatic_end: false,
            first: 0,
            awaits: READY,
            has_icw4: false,
        }
    }

    fn set_line(&mut self, input: u8, up: bool) {
        let bit = 1u8 << (input & 7);
        let rises = up && self.lines & bit == 0;
        self.lines = if up {
            self.lines | bit
        } else {
            self.lines & !bit
        };
        if self.level & bit != 0 {
            self.request = self.request & !bit | self.lines & bit;
        } else if rises {
            self.request |= bit;
        }
        // An edge stays latched when the line falls again: the 8259A would
        // make a spurious interrupt of it, which no kernel wants.
    }

    /// The place of the first of `inputs` in the order of priority, 0 to 7.
    fn place(&self, inputs: u8) -> Option<u8> {
        let ordered = inputs.rotate_right(self.first.into());
        (ordered != 0).then(|| ordered.trailing_zeros() as u8)
    }

    /// The input whose interrupt it signals. `is_first`: of the pair.
    fn waiting(&self, is_first: bool) -> Option<u8> {
        let requested = self.place(self.request & !self.mask)?;
        let mut serviced = self.in_service;
        if self.special_mask {
            serviced &= !self.mask;
        }
        // The second one may interrupt its own service.
        if self.special_nested && is_first {
            serviced &= !(1 << 2);
        }
        let is_higher = self
            .place(serviced)
            .is_none_or(|serviced| requested < serviced);
        is_higher.then_some((requested + self.first) & 7)
    }

    fn acknowledge(&mut self, input: u8) {
        let bit = 1u8 << input;
        if self.automatic_end {
            if self.rotates_on_automatic_end {
                self.first = (input + 1) & 7;
            }
        } else {
            self.in_service |= bit;
        }
        if self.level & bit == 0 {
            self.request &= !bit;
        }
    }

    fn read(&mut self, is_data: bool, is_first: bool) -> u8 {
        if self.polls {
            self.polls = false;
            return match self.waiting(is_first) {
                Some(input) => {
                    self.acknowledge(input);
                    0x80 | input
                }
                None => 0,
            };
        }
        match (is_data, self.reads_in_service) {
            (true, _) => self.mask,
            (false, true) => self.in_service,
            (false, false) => self.request,
        }
    }

    fn write(&mut self, is_data: bool, value: u8) {
        match (is_data, self.awaits) {
            (false, _) if value & 1 << 4 != 0 => {
                let (lines, level) = (self.lines, self.level);
                let request = lines & level;
                let has_icw4 = value & 1 != 0;
                *self = Pic {
                    lines,
                    level,
                    request,
                    mask: 0,
                    awaits: 2,
                    has_icw4,
                    ..Pic::new()
                };
            }
            (false, _) if value & 1 << 3 != 0 => self.write_ocw3(value),
            (false, _) => self.write_ocw2(value),
            (true, 2) => {
                self.vectors = value & 0xf8;
                self.awaits = 3;
            }
            (true, 3) => self.awaits = if self.has_icw4 { 4 } else { READY },
            (true, 4) => {
                self.automatic_end = value & 1 << 1 != 0;
                self.special_nested = value & 1 << 4 != 0;
                self.awaits = READY;
            }
            (true, _) => self.mask = value,
        }
    }

    fn write_ocw2(&mut self, value: u8) {
        let named = value & 7;
        let (rotate, specific, end) = (
            value & 1 << 7 != 0,
            value & 1 << 6 != 0,
            value & 1 << 5 != 0,
        );
        if !end {
            match (rotate, specific) {
                (true, true) => self.first = (named + 1) & 7,
                (_, false) => self.rotates_on_automatic_end = rotate,
                (false, true) => {}
            }
            return;
        }
        let input = if specific {
            Some(named)
        } else {
            self.place(self.in_service)
                .map(|place| (place + self.first) & 7)
        };
        if let Some(input) = input {
            self.in_service &= !(1 << input);
            if rotate {
                self.first = (input + 1) & 7;
            }
        }
    }

    fn write_ocw3(&mut self, value: u8) {
        if value & 1 << 6 != 0 {
            self.special_mask = value & 1 << 5 != 0;
        }
        if value & 1 << 2 != 0 {
            self.polls = true;
        } else if value & 1 << 1 != 0 {
            self.reads_in_service = value & 1 != 0;
        }
    }

    fn save(&self) -> PicState {
        let Pic {
            lines,
            request,
            in_service,
            mask,
            level,
            vectors,
            automatic_end,
            special_nested,
            special_mask,
            reads_in_service,
            polls,
            rotates_on_automatic_end,
            first,
            awaits,
            has_icw4,
        } = *self;
        PicState {
            lines,
            request,
            in_service,
            mask,
            level,
            vectors,
            automatic_end,
            special_nested,
            special_mask,
            reads_in_service,
            polls,
            rotates_on_automatic_end,
            first,
            awaits,
            has_icw4,
        }
    }

    fn of(state: PicState) -> Pic {
        Pic {
            lines: state.lines,
            request: state.request,
            in_service: state.in_service,
            mask: state.mask,
            level: state.level,
            vectors: state.vectors & 0xf8,
            automatic_end: state.automatic_end,
            special_nested: state.special_nested,
            special_mask: state.special_mask,
            reads_in_service: state.reads_in_service,
            polls: state.polls,
            rotates_on_automatic_end: state.rotates_on_automatic_end,
            first: state.first & 7,
            awaits: state.awaits.min(4),
            has_icw4: state.has_icw4,
        }
    }
}

/// Both controllers.
#[derive(Clone, Debug)]
pub struct Pics {
    first: Pic,
    second: Pic,
}

/// [`Pics`], saved.
#[derive(Encode, Decode)]
#[cbor(map)]
#[expect(missing_docs, reason = "first and second of the pair")]
pub struct PicsState {
    #[n(0)]
    pub first: PicState,
    #[n(1)]
    pub second: PicState,
}

/// Lines that cannot be level-triggered: timer, keyboard, cascade; and on the
/// second, RTC and coprocessor.
const ALWAYS_EDGE: [u8; 2] = [0b0000_0111, 0b0010_0001];

impl Default for Pics {
    fn default() -> Self {
        Pics::new()
    }
}

impl Pics {
    /// Not initialised, all lines masked.
    pub fn new() -> Pics {
        Pics {
            first: Pic::new(),
            second: Pic::new(),
        }
    }

    /// Sets interrupt line `irq`, 0 to 15.
    pub fn set_line(&mut self, irq: u8, up: bool) {
        match irq {
            0..8 => self.first.set_line(irq, up),
            8..16 => self.second.set_line(irq - 8, up),
            _ => {}
        }
        self.cascade();
    }

    /// Reads a port: 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub fn read(&mut self, port: u16) -> u8 {
        let value = match port {
            0x20 | 0x21 => self.first.read(port & 1 != 0, true),
            0xa0 | 0xa1 => self.second.read(port & 1 != 0, false),
            0x4d0 => self.first.level,
            0x4d1 => self.second.level,
            _ => 0xff,
        };
        self.cascade();
        value
    }

    /// Writes a port: 0x20, 0x21, 0xa0, 0xa1, 0x4d0 or 0x4d1.
    pub fn write(&mut self, port: u16, value: u8) {
        match port {
            0x20 | 0x21 => self.first.write(port & 1 != 0, value),
            0xa0 | 0xa1 => self.second.write(port & 1 != 0, value),
            0x4d0 => self.first.level = value & !ALWAYS_EDGE[0],
            0x4d1 => self.second.level = value & !ALWAYS_EDGE[1],
            _ => {}
        }
        self.cascade();
    }

    /// Whether the pair's INT output is up.
    pub fn interrupts(&self) -> bool {
        self.first.waiting(true).is_some()
    }

    /// The processor takes the interrupt. One that went away is line 7's, as
    /// on the real thing.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.first.waiting(true) {
            Some(2) => {
                self.first.acknowledge(2);
                let input = self.second.waiting(false);
                if let Some(input) = input {
                    self.second.acknowledge(input);
                }
                self.second.vectors | input.unwrap_or(7)
            }
            Some(input) => {
                self.first.acknowledge(input);
                self.first.vectors | input
            }
            None => self.first.vectors | 7,
        };
        self.cascade();
        vector
    }

    /// The second's output is the first's line 2.
    fn cascade(&mut self) {
        let up = self.second.waiting(false).is_some();
        self.first.set_line(2, up);
        if !up {
            self.first.request &= !(1 << 2);
        }
    }
}

impl Device for Pics {
    type State = PicsState;

    fn save(&self) -> PicsState {
        let Pics { first, second } = self;
        PicsState {
            first: first.save(),
            second: second.save(),
        }
    }

    fn restore(&mut self, state: PicsState) -> Result<(), Damaged> {
        *self = Pics {
            first: Pic::of(state.first),
            second: Pic::of(state.second),
        };
        Ok(())
    }

    fn deadline_ns(&self) -> Option<u64> {
        None
    }

    fn alarm(&mut self, _now_ns: u64) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::tests::assert_comes_back;

    /// As Linux does it: vectors 0x30 and 0x38, nothing masked.
    fn initialised() -> Pics {
        let mut pics = Pics::new();
        let words = [
            (0x20, 0x11),
            (0x21, 0x30),
            (0x21, 0x04),
            (0x21, 0x01),
            (0xa0, 0x11),
            (0xa1, 0x38),
            (0xa1, 0x02),
            (0xa1, 0x01),
            (0x21, 0x00),
            (0xa1, 0x00),
        ];
        words
            .into_iter()
            .for_each(|(port, value)| pics.write(port, value));
        pics
    }

    #[test]
    fn an_interrupt_is_taken_and_ended() {
        let mut pics = initialised();
        pics.set_line(0, true);
        assert!(pics.interrupts());
        assert_eq!(pics.acknowledge(), 0x30);
        assert!(!pics.interrupts());
        pics.set_line(4, true);
        assert!(!pics.interrupts(), "line 0 is in service");
        pics.write(0x20, 0x60);
        assert_eq!(pics.acknowledge(), 0x34);
    }

    #[test]
    fn the_second_interrupts_through_the_first() {
        let mut pics = initialised();
        pics.set_line(8, true);
        assert_eq!(pics.acknowledge(), 0x38);
        pics.set_line(12, true);
        assert!(!pics.interrupts());
        pics.write(0xa0, 0x20);
        pics.write(0x20, 0x20);
        assert_eq!(pics.acknowledge(), 0x3c);
    }

    #[test]
    fn masks_hold_off_and_are_read_back() {
        let mut pics = initialised();
        pics.write(0x21, 0xfb);
        assert_eq!(pics.read(0x21), 0xfb);
        pics.set_line(4, true);
        assert!(!pics.interrupts());
        pics.write(0x21, 0xeb);
        assert!(pics.interrupts());
    }

    #[test]
    fn an_interrupt_that_went_away_is_spurious() {
        let mut pics = initialised();
        assert_eq!(pics.acknowledge(), 0x37);
    }

    #[test]
    fn a_saved_pair_comes_back() {
        let mut pics = initialised();
        pics.write(0x4d1, 0xff);
        pics.set_line(9, true);
        pics.acknowledge();
        assert_comes_back(&pics, Pics::new());
    }
}
