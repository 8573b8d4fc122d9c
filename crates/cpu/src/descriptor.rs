//! Segment and gate descriptors (SDM volume 3A, 3.4.5, 3.5, 5.8) and the
//! loading of segment registers from them.

use x86::{Linear, seg, vector};

use crate::segment::{Segment, rights};
use crate::{Bus, Cpu, Flow, Trap};

/// Types of system descriptors and gates (SDM volume 3A, table 3-2); 32-bit
/// and 64-bit ones share their numbers.
pub(crate) mod kind {
    pub(crate) const TSS_16: u16 = 1;
    pub(crate) const LDT: u16 = 2;
    pub(crate) const TSS_16_BUSY: u16 = 3;
    pub(crate) const CALL_GATE_16: u16 = 4;
    pub(crate) const TASK_GATE: u16 = 5;
    pub(crate) const INTERRUPT_GATE_16: u16 = 6;
    pub(crate) const TRAP_GATE_16: u16 = 7;
    pub(crate) const TSS: u16 = 9;
    pub(crate) const TSS_BUSY: u16 = 11;
    pub(crate) const CALL_GATE: u16 = 12;
    pub(crate) const INTERRUPT_GATE: u16 = 14;
    pub(crate) const TRAP_GATE: u16 = 15;
}

/// A selector without its requested privilege level is 0: it selects nothing.
pub(crate) const fn is_null(selector: u16) -> bool {
    selector & !3 == 0
}

/// The requested privilege level of a selector.
pub(crate) const fn rpl(selector: u16) -> u8 {
    (selector & 3) as u8
}

/// An exception whose error code names a selector. `external`: it came up
/// while an event from outside of the program was being delivered (EXT).
pub(crate) fn selector_fault(vector: u8, selector: u16, external: bool) -> Trap {
    Trap::with_code(vector, u32::from(selector & !3) | u32::from(external))
}

/// A descriptor, and where it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptor {
    /// The eight bytes that all have.
    pub(crate) low: u64,
    /// The further eight of system descriptors and gates in long mode.
    pub(crate) high: u64,
    at: Linear,
}

impl Descriptor {
    /// Of a gate that was read from the IDT.
    pub(crate) fn gate(low: u64, high: u64) -> Descriptor {
        let at = Linear(0);
        Descriptor { low, high, at }
    }

    /// Access rights in the layout of [`Segment::rights`].
    pub(crate) fn rights(&self) -> u16 {
        (self.low >> 40) as u16 & 0xf0ff
    }

    pub(crate) fn has(&self, bits: u16) -> bool {
        self.rights() & bits == bits
    }

    pub(crate) fn dpl(&self) -> u8 {
        (self.low >> 45 & 3) as u8
    }

    /// The type, 0 to 15: one of [`kind`] in a system descriptor or gate.
    pub(crate) fn kind(&self) -> u16 {
        self.rights() & 15
    }

    pub(crate) fn is_system(&self) -> bool {
        !self.has(rights::S)
    }

    pub(crate) fn is_code(&self) -> bool {
        self.has(rights::S | rights::CODE)
    }

    pub(crate) fn is_conforming(&self) -> bool {
        self.has(rights::S | rights::CODE | rights::DC)
    }

    pub(crate) fn is_writable_data(&self) -> bool {
        self.has(rights::S | rights::RW) && !self.has(rights::CODE)
    }

    pub(crate) fn is_readable(&self) -> bool {
        self.has(rights::S) && (!self.has(rights::CODE) || self.has(rights::RW))
    }

    pub(crate) fn is_present(&self) -> bool {
        self.has(rights::P)
    }

    /// The last valid offset, in bytes.
    pub(crate) fn limit(&self) -> u32 {
        let limit = (self.low & 0xffff | self.low >> 32 & 0xf_0000) as u32;
        if self.has(rights::G) {
            limit << 12 | 0xfff
        } else {
            limit
        }
    }

    /// The base: 32 bits, or 64 with the further bytes.
    pub(crate) fn base(&self) -> u64 {
        self.low >> 16 & 0xff_ffff | self.low >> 32 & 0xff00_0000 | self.high << 32
    }

    /// The segment register's contents for this descriptor.
    pub(crate) fn segment(&self, selector: u16) -> Segment {
        Segment {
            selector,
            base: self.base(),
            limit: self.limit(),
            rights: self.rights(),
        }
    }

    /// A gate's code segment.
    pub(crate) fn gate_selector(&self) -> u16 {
        (self.low >> 16) as u16
    }

    /// A gate's offset: 16, 32 or, with the further bytes, 64 bits.
    pub(crate) fn gate_offset(&self) -> u64 {
        let low = self.low & 0xffff;
        // The types of 16-bit gates lack the bit that 32-bit ones have.
        if self.kind() & 8 == 0 {
            low
        } else {
            low | self.low >> 32 & 0xffff_0000 | self.high << 32
        }
    }
}

impl Cpu {
    /// The descriptor that `selector`, which isn't null, selects. One outside
    /// of its table gives exception `vector` with the selector.
    pub(crate) fn descriptor(
        &mut self,
        bus: &mut dyn Bus,
        selector: u16,
        vector: u8,
        external: bool,
    ) -> Flow<Descriptor> {
        match self.find_descriptor(bus, selector)? {
            Some(descriptor) => Ok(descriptor),
            None => Err(selector_fault(vector, selector, external)),
        }
    }

    /// The descriptor that `selector` selects; `None` outside of its table.
    pub(crate) fn find_descriptor(
        &mut self,
        bus: &mut dyn Bus,
        selector: u16,
    ) -> Flow<Option<Descriptor>> {
        let table = if selector & 4 == 0 {
            self.gdtr
        } else if self.ldtr.has(rights::P) {
            self.ldtr
        } else {
            return Ok(None);
        };
        let offset = u64::from(selector & !7);
        if offset + 7 > u64::from(table.limit) {
            return Ok(None);
        }
        let at = self.table_linear(table.base.wrapping_add(offset));
        let low = self.read_system(bus, at)?;
        let high = 0;
        Ok(Some(Descriptor { low, high, at }))
    }

    /// The further half of a system descriptor or gate that `selector`
    /// selects, where the mode has one.
    pub(crate) fn read_high(
        &mut self,
        bus: &mut dyn Bus,
        selector: u16,
        descriptor: &mut Descriptor,
        vector: u8,
    ) -> Flow {
        if !self.long_mode() {
            return Ok(());
        }
        let table = if selector & 4 == 0 {
            self.gdtr
        } else {
            self.ldtr
        };
        if u64::from(selector & !7) + 15 > u64::from(table.limit) {
            return Err(selector_fault(vector, selector, false));
        }
        descriptor.high = self.read_system(bus, descriptor.at.plus(8))?;
        // Bits 12 to 8 of the last four bytes must be 0 (volume 3A, 3.5.2).
        if descriptor.high >> 40 & 0x1f != 0 {
            return Err(selector_fault(vector, selector, false));
        }
        descriptor.high &= 0xffff_ffff;
        Ok(())
    }

    /// A linear address in a descriptor table or TSS: 32 bits outside of long
    /// mode.
    pub(crate) fn table_linear(&self, at: u64) -> Linear {
        if self.long_mode() {
            Linear(at)
        } else {
            Linear(at & 0xffff_ffff)
        }
    }

    /// Sets the accessed bit of a code or data segment's descriptor.
    pub(crate) fn mark_accessed(&mut self, bus: &mut dyn Bus, descriptor: &mut Descriptor) -> Flow {
        self.set_type_bits(bus, descriptor, rights::ACCESSED)
    }

    /// Sets the busy bit of a TSS descriptor.
    pub(crate) fn mark_busy(&mut self, bus: &mut dyn Bus, descriptor: &mut Descriptor) -> Flow {
        self.set_type_bits(bus, descriptor, 2)
    }

    fn set_type_bits(&mut self, bus: &mut dyn Bus, descriptor: &mut Descriptor, bits: u16) -> Flow {
        if !descriptor.has(bits) {
            descriptor.low |= u64::from(bits) << 40;
            let byte = (descriptor.low >> 40) as u8;
            self.write_system(bus, descriptor.at.plus(5), byte)?;
        }
        Ok(())
    }

    /// Loads SS, DS, ES, FS or GS (number `register`) with `selector`, with
    /// all checks (SDM volume 2B, MOV).
    pub(crate) fn load_segment(&mut self, bus: &mut dyn Bus, register: u8, selector: u16) -> Flow {
        let segment = if register == seg::SS {
            self.checked_stack(bus, selector)?
        } else {
            self.checked_data(bus, selector)?
        };
        self.segments[usize::from(register)] = segment;
        Ok(())
    }

    fn checked_stack(&mut self, bus: &mut dyn Bus, selector: u16) -> Flow<Segment> {
        let cpl = self.cpl;
        if is_null(selector) {
            // 64-bit mode's kernels have no stack segment.
            if self.is_64() && cpl < 3 && rpl(selector) == cpl {
                return Ok(null_segment(selector));
            }
            return Err(Trap::GP);
        }
        let mut descriptor = self.descriptor(bus, selector, vector::GP, false)?;
        if rpl(selector) != cpl || !descriptor.is_writable_data() || descriptor.dpl() != cpl {
            return Err(selector_fault(vector::GP, selector, false));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::SS, selector, false));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    fn checked_data(&mut self, bus: &mut dyn Bus, selector: u16) -> Flow<Segment> {
        if is_null(selector) {
            return Ok(null_segment(selector));
        }
        let mut descriptor = self.descriptor(bus, selector, vector::GP, false)?;
        let privileged = descriptor.is_conforming()
            || (rpl(selector) <= descriptor.dpl() && self.cpl <= descriptor.dpl());
        if !descriptor.is_readable() || !privileged {
            return Err(selector_fault(vector::GP, selector, false));
        }
        if !descriptor.is_present() {
            return Err(selector_fault(vector::NP, selector, false));
        }
        self.mark_accessed(bus, &mut descriptor)?;
        Ok(descriptor.segment(selector))
    }

    /// Makes `descriptor` the code segment at privilege level `cpl`.
    pub(crate) fn set_code_segment(&mut self, descriptor: &Descriptor, selector: u16, cpl: u8) {
        let selector = selector & !3 | u16::from(cpl);
        self.segments[usize::from(seg::CS)] = descriptor.segment(selector);
        self.cpl = cpl;
        self.refresh();
    }

    /// After a return to an outer privilege level: data segments that it may
    /// not use become null (SDM volume 2A, IRET and RET).
    pub(crate) fn drop_inner_segments(&mut self) {
        for register in [seg::ES, seg::DS, seg::FS, seg::GS] {
            let cpl = self.cpl;
            let segment = &mut self.segments[usize::from(register)];
            let is_conforming = segment.has(rights::CODE | rights::DC);
            if segment.has(rights::P) && !is_conforming && segment.dpl() < cpl {
                *segment = null_segment(0);
            }
        }
    }
}

/// A segment register after a null selector was loaded: unusable.
pub(crate) const fn null_segment(selector: u16) -> Segment {
    Segment {
        selector,
        base: 0,
        limit: 0,
        rights: 0,
    }
}
