//! FXSAVE and FXRSTOR, the XSAVE family, XGETBV and XSETBV.
//!
//! The law: what is saved follows from the registers alone. A component is in
//! use if its registers differ from their initial values (XINUSE of SDM volume
//! 1, 13.6), never by what was executed; the modified optimisation of XSAVEOPT,
//! which remembers addresses, isn't done. Bytes that the manual calls reserved
//! or unused are left as they are in memory. SDM volume 1, 10.5 and chapter 13.

use iced_x86::{Code, EncodingKind, Instruction};
use silicon::mxcsr;
use x86::Linear;
use x86::control::{cr0, cr4};

use crate::fpu::{Fpu, IMAGE_BYTES};
use crate::op::Handler;
use crate::width::Width;
use crate::xstate::{self, AREA_BYTES, area_bytes};
use crate::{Bus, Cpu, Flow, Op, Trap};

/// Bytes of the legacy region.
const LEGACY_BYTES: u64 = 512;
/// Where XMM0 lies.
const XMM: u64 = 160;
/// MXCSR and its mask, eight bytes in the image of the x87 unit.
const MXCSR: u64 = 24;
/// XSTATE_BV, XCOMP_BV and the reserved rest of the header.
const XSTATE_BV: u64 = 512;
const XCOMP_BV: u64 = 520;
const RESERVED: u64 = 528;
/// In XCOMP_BV: the format is the compacted one.
const COMPACTED: u64 = 1 << 63;

pub(super) fn lower(insn: &Instruction, _: &mut Op) -> Option<Handler> {
    use Code as C;
    if insn.encoding() != EncodingKind::Legacy {
        return None;
    }
    Some(match insn.code() {
        C::Fxsave_m512byte => fxsave::<false>,
        C::Fxsave64_m512byte => fxsave::<true>,
        C::Fxrstor_m512byte => fxrstor::<false>,
        C::Fxrstor64_m512byte => fxrstor::<true>,
        C::Xsave_mem => xsave::<false, false>,
        C::Xsave64_mem => xsave::<true, false>,
        C::Xsaveopt_mem => xsave::<false, true>,
        C::Xsaveopt64_mem => xsave::<true, true>,
        C::Xsavec_mem => xsavec::<false>,
        C::Xsavec64_mem => xsavec::<true>,
        C::Xrstor_mem => xrstor::<false>,
        C::Xrstor64_mem => xrstor::<true>,
        C::Xgetbv => xgetbv,
        C::Xsetbv => xsetbv,
        _ => return None,
    })
}

fn fxsave<const WIDE: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_fxsave()?;
    let area = cpu.area(op, 16, LEGACY_BYTES, true)?;
    let parts = xstate::X87 | xstate::SSE;
    area.store_x87(cpu, bus, WIDE, parts, true)?;
    area.store_xmm(cpu, bus)
}

fn fxrstor<const WIDE: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_fxsave()?;
    let area = cpu.area(op, 16, LEGACY_BYTES, false)?;
    let mxcsr = area.load_mxcsr(cpu, bus)?;
    let fpu = area.load_x87(cpu, bus, WIDE)?;
    let xmm = area.load_xmm(cpu, bus)?;
    (cpu.mxcsr, cpu.fpu, cpu.xmm) = (mxcsr, fpu, xmm);
    Ok(())
}

/// XSAVE, and XSAVEOPT with the initial optimisation alone.
fn xsave<const WIDE: bool, const OPTIMISED: bool>(
    cpu: &mut Cpu,
    bus: &mut dyn Bus,
    op: &Op,
) -> Flow {
    cpu.check_xsave()?;
    let wanted = cpu.requested();
    let area = cpu.area(op, 64, area_bytes(wanted), true)?;
    let in_use = cpu.state_in_use();
    let saved = if OPTIMISED { wanted & in_use } else { wanted };
    let old: u64 = area.load(cpu, bus, XSTATE_BV)?;
    // MXCSR goes with either, whether it is in use or not.
    let with_mxcsr = wanted & (xstate::SSE | xstate::AVX) != 0;
    area.store_x87(cpu, bus, WIDE, saved, with_mxcsr)?;
    if saved & xstate::SSE != 0 {
        area.store_xmm(cpu, bus)?;
    }
    if saved & xstate::AVX != 0 {
        area.store_ymm_high(cpu, bus)?;
    }
    area.store(cpu, bus, XSTATE_BV, old & !wanted | in_use & wanted)
}

fn xsavec<const WIDE: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_xsave()?;
    let wanted = cpu.requested();
    let area = cpu.area(op, 64, area_bytes(wanted), true)?;
    let mut in_use = cpu.state_in_use();
    // Only here does MXCSR count as a part of the SSE state.
    if cpu.mxcsr != mxcsr::INITIAL {
        in_use |= xstate::SSE;
    }
    let saved = wanted & in_use;
    area.store_x87(cpu, bus, WIDE, saved, saved & xstate::SSE != 0)?;
    if saved & xstate::SSE != 0 {
        area.store_xmm(cpu, bus)?;
    }
    if saved & xstate::AVX != 0 {
        area.store_ymm_high(cpu, bus)?;
    }
    area.store(cpu, bus, XSTATE_BV, saved)?;
    area.store(cpu, bus, XCOMP_BV, wanted | COMPACTED)
}

fn xrstor<const WIDE: bool>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_xsave()?;
    let wanted = cpu.requested();
    let area = cpu.area(op, 64, AREA_BYTES, false)?;
    let present: u64 = area.load(cpu, bus, XSTATE_BV)?;
    let format: u64 = area.load(cpu, bus, XCOMP_BV)?;
    let is_compacted = format & COMPACTED != 0;
    area.check_header(cpu, bus, present, format)?;

    let loaded = wanted & present;
    // In the standard format MXCSR is loaded whether the rest is or not, and
    // goes with the AVX state too.
    let mxcsr = match (is_compacted, wanted & xstate::SSE, loaded & xstate::SSE) {
        (false, _, _) if wanted & (xstate::SSE | xstate::AVX) == 0 => cpu.mxcsr,
        (true, 0, _) => cpu.mxcsr,
        (true, _, 0) => mxcsr::INITIAL,
        _ => area.load_mxcsr(cpu, bus)?,
    };
    let fpu = match (wanted & xstate::X87 != 0, loaded & xstate::X87 != 0) {
        (false, _) => None,
        (true, false) => Some(Fpu::default()),
        (true, true) => Some(area.load_x87(cpu, bus, WIDE)?),
    };
    let xmm = match (wanted & xstate::SSE != 0, loaded & xstate::SSE != 0) {
        (false, _) => cpu.xmm,
        (true, false) => {
            let mut xmm = cpu.xmm;
            xmm[..cpu.xmm_count()].fill(0);
            xmm
        }
        (true, true) => area.load_xmm(cpu, bus)?,
    };
    let ymm_high = match (wanted & xstate::AVX != 0, loaded & xstate::AVX != 0) {
        (false, _) => cpu.ymm_high,
        (true, false) => {
            let mut ymm_high = cpu.ymm_high;
            ymm_high[..cpu.xmm_count()].fill(0);
            ymm_high
        }
        (true, true) => area.load_ymm_high(cpu, bus)?,
    };
    (cpu.mxcsr, cpu.xmm, cpu.ymm_high) = (mxcsr, xmm, ymm_high);
    if let Some(fpu) = fpu {
        cpu.fpu = fpu;
    }
    Ok(())
}

fn xgetbv(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.check_osxsave()?;
    let value = match cpu.get::<u32>(x86::gpr::RCX) {
        0 => cpu.xcr0,
        1 => cpu.xcr0 & cpu.state_in_use(),
        _ => return Err(Trap::GP),
    };
    cpu.set(x86::gpr::RAX, u32::truncate(value));
    cpu.set(x86::gpr::RDX, u32::truncate(value >> 32));
    Ok(())
}

fn xsetbv(cpu: &mut Cpu, _: &mut dyn Bus, _: &Op) -> Flow {
    cpu.check_osxsave()?;
    let value = cpu.edx_eax();
    // The upper halves are nothing without the lower ones.
    let is_whole = value & xstate::AVX == 0 || value & xstate::SSE != 0;
    let is_known = value & !xstate::supported(cpu.model) == 0;
    let is_valid = value & xstate::X87 != 0 && is_known && is_whole;
    if cpu.cpl != 0 || cpu.get::<u32>(x86::gpr::RCX) != 0 || !is_valid {
        return Err(Trap::GP);
    }
    cpu.xcr0 = value;
    Ok(())
}

impl Cpu {
    fn check_fxsave(&self) -> Flow {
        if self.cr0 & cr0::EM != 0 {
            Err(Trap::UD)
        } else if self.cr0 & cr0::TS != 0 {
            Err(Trap::NM)
        } else {
            Ok(())
        }
    }

    fn check_osxsave(&self) -> Flow {
        if self.cr4 & cr4::OSXSAVE == 0 {
            Err(Trap::UD)
        } else {
            Ok(())
        }
    }

    fn check_xsave(&self) -> Flow {
        self.check_osxsave()?;
        if self.cr0 & cr0::TS != 0 {
            Err(Trap::NM)
        } else {
            Ok(())
        }
    }

    fn edx_eax(&self) -> u64 {
        let half = |register| u64::from(self.get::<u32>(register));
        half(x86::gpr::RDX) << 32 | half(x86::gpr::RAX)
    }

    /// The requested-feature bitmap: RFBM.
    fn requested(&self) -> u64 {
        self.xcr0 & self.edx_eax()
    }

    /// XINUSE: the components that are not as after reset.
    fn state_in_use(&self) -> u64 {
        let x87 = if self.fpu.is_initial() {
            0
        } else {
            xstate::X87
        };
        let sse = if self.xmm == [0; 16] { 0 } else { xstate::SSE };
        let avx = if self.ymm_high == [0; 16] {
            0
        } else {
            xstate::AVX
        };
        x87 | sse | avx
    }

    /// XMM registers that the mode can name, and so saves.
    fn xmm_count(&self) -> usize {
        if self.is_64() { 16 } else { 8 }
    }

    /// The memory operand, all of whose pages can be accessed.
    fn area(&mut self, op: &Op, alignment: u64, bytes: u64, write: bool) -> Flow<Area> {
        let start = self
            .address(op, bytes, write)
            .map_err(|fault| self.misaligned_or(fault, op, alignment))?;
        if self.is_64() && !start.is_canonical() {
            return Err(if op.stack { Trap::SS } else { Trap::GP });
        }
        if !start.0.is_multiple_of(alignment) {
            return Err(Trap::GP);
        }
        let area = Area {
            start,
            stack: op.stack,
        };
        // It lies in two pages at most. Bytes that are not used fault too; the
        // last one first, as on the silicon.
        for at in [start.plus(bytes - 1), start] {
            if write {
                self.probe_write::<u8>(at, op.stack)?;
            } else {
                self.probe_read_slow(self.space, at, 1, op.stack)?;
            }
        }
        Ok(area)
    }
}

/// An FXSAVE or XSAVE area in the guest's memory.
#[derive(Clone, Copy, Debug)]
struct Area {
    start: Linear,
    stack: bool,
}

impl Area {
    fn load(self, cpu: &mut Cpu, bus: &mut dyn Bus, offset: u64) -> Flow<u64> {
        cpu.read(bus, self.start.plus(offset), self.stack)
    }

    fn store(self, cpu: &mut Cpu, bus: &mut dyn Bus, offset: u64, value: u64) -> Flow {
        cpu.write(bus, self.start.plus(offset), self.stack, value)
    }

    /// Stores the x87 unit's part, if `saved` has it, and MXCSR if `mxcsr`.
    fn store_x87(
        self,
        cpu: &mut Cpu,
        bus: &mut dyn Bus,
        wide: bool,
        saved: u64,
        mxcsr: bool,
    ) -> Flow {
        let image = cpu.fpu.image(wide);
        let (words, _) = image.as_chunks::<8>();
        for (offset, word) in (0..).step_by(8).zip(words) {
            if offset == MXCSR {
                if mxcsr {
                    let value = u64::from(mxcsr::EXISTING) << 32 | u64::from(cpu.mxcsr);
                    self.store(cpu, bus, offset, value)?;
                }
            } else if saved & xstate::X87 != 0 {
                self.store(cpu, bus, offset, u64::from_le_bytes(*word))?;
            }
        }
        Ok(())
    }

    fn store_xmm(self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Flow {
        for n in 0..cpu.xmm_count() {
            let at = self.start.plus(XMM + 16 * n as u64);
            cpu.write_128(bus, at, self.stack, cpu.xmm[n])?;
        }
        Ok(())
    }

    fn store_ymm_high(self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Flow {
        for n in 0..cpu.xmm_count() {
            let at = self.start.plus(xstate::YMM_HIGH + 16 * n as u64);
            cpu.write_128(bus, at, self.stack, cpu.ymm_high[n])?;
        }
        Ok(())
    }

    fn load_ymm_high(self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Flow<[u128; 16]> {
        let mut ymm_high = cpu.ymm_high;
        for (n, register) in ymm_high.iter_mut().enumerate().take(cpu.xmm_count()) {
            let at = self.start.plus(xstate::YMM_HIGH + 16 * n as u64);
            *register = cpu.read_128(bus, at, self.stack)?;
        }
        Ok(ymm_high)
    }

    fn load_mxcsr(self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Flow<u32> {
        let value: u32 = cpu.read(bus, self.start.plus(MXCSR), self.stack)?;
        if value & !mxcsr::EXISTING != 0 {
            return Err(Trap::GP);
        }
        Ok(value)
    }

    fn load_x87(self, cpu: &mut Cpu, bus: &mut dyn Bus, wide: bool) -> Flow<Fpu> {
        let mut image = [0; IMAGE_BYTES];
        for (offset, word) in (0..).step_by(8).zip(image.as_chunks_mut::<8>().0) {
            *word = self.load(cpu, bus, offset)?.to_le_bytes();
        }
        let mut fpu = Fpu::default();
        fpu.set_image(&image, wide);
        Ok(fpu)
    }

    fn load_xmm(self, cpu: &mut Cpu, bus: &mut dyn Bus) -> Flow<[u128; 16]> {
        let mut xmm = cpu.xmm;
        for (n, register) in xmm.iter_mut().enumerate().take(cpu.xmm_count()) {
            let at = self.start.plus(XMM + 16 * n as u64);
            *register = cpu.read_128(bus, at, self.stack)?;
        }
        Ok(xmm)
    }

    /// XRSTOR's conditions on the header (SDM volume 1, 13.8.1, 13.8.2).
    fn check_header(self, cpu: &mut Cpu, bus: &mut dyn Bus, present: u64, format: u64) -> Flow {
        let is_compacted = format & COMPACTED != 0;
        let components = format & !COMPACTED;
        let (is_valid, reserved_end) = if is_compacted {
            let known = components & !cpu.xcr0 == 0 && present & !components == 0;
            (known, AREA_BYTES)
        } else {
            // Of the reserved bytes, only the first eight must be zero.
            (present & !cpu.xcr0 == 0 && format == 0, RESERVED + 8)
        };
        if !is_valid {
            return Err(Trap::GP);
        }
        for offset in (RESERVED..reserved_end).step_by(8) {
            if self.load(cpu, bus, offset)? != 0 {
                return Err(Trap::GP);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
