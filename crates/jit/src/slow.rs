//! The slow way: what translated code can't do, the interpreter's handler of
//! that instruction does, with the processor's state brought up to date before
//! and taken over after. So every rare case has the interpreter's meaning.

use cpu::{Bus, Cpu, Interpreter, Op, Space, Trap};
use iced_x86::Code;
use x86::{Linear, gpr, seg};

use crate::cache::{Blocks, Mode, PARTS};
use crate::flag;
use crate::frame::{Frame, Region};
use crate::site::{Operand, Site, SiteId, Sites};
use crate::statistics::Statistics;
use crate::tlb::Filled;
use crate::window::Windows;
use crate::x87::Image;

/// Why the helper had translated code left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// It didn't: the processor's state is in the frame.
    BySite,
    /// The processor's state is complete: look around, find the next block.
    Complete,
    /// The instruction at `rip` did not complete.
    Trapped(Trap),
}

/// What the helper works with, for one stay in translated code.
pub(crate) struct Context<'a> {
    pub(crate) cpu: &'a mut Cpu,
    pub(crate) bus: &'a mut dyn Bus,
    pub(crate) frame: std::ptr::NonNull<Frame>,
    pub(crate) region: &'a mut Region,
    pub(crate) blocks: &'a mut Blocks,
    pub(crate) filled: &'a mut Filled,
    pub(crate) windows: &'a mut Windows,
    pub(crate) sites: &'a Sites,
    pub(crate) statistics: &'a mut Statistics,
    /// The branch count at which the run is to stop.
    pub(crate) until: u64,
    pub(crate) mode: Mode,
    /// The mode that each part of the jump cache was last used in.
    pub(crate) modes: &'a [Option<Mode>; PARTS],
    pub(crate) left: Left,
}

/// What translated code is to do after the helper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum After {
    /// Go on behind the call.
    Return = 0,
    /// It is left.
    Leave = 1,
    /// Go to [`Frame::go_on`], with the linear address in [`Frame::temp`].
    GoOn = 2,
}

/// What translated code calls. Returns an [`After`].
///
/// # Safety
/// `context` is the one that [`Frame::context`] was set to, and translated code
/// has stored the guest's registers in the frame. Nobody else uses what the
/// context borrows meanwhile.
pub(crate) unsafe extern "C" fn slow(context: *mut Context<'_>) -> u64 {
    // SAFETY: by the function's own conditions.
    let context = unsafe { &mut *context };
    context.execute() as u64
}

impl Context<'_> {
    /// The frame. Translated code doesn't run while Rust code holds this.
    pub(crate) fn frame(&mut self) -> &mut Frame {
        // SAFETY: the frame lives as long as the region, which is borrowed; no
        // one else makes references to it.
        unsafe { self.frame.as_mut() }
    }

    /// Brings the processor's state up to date with what translated code left
    /// in the frame; `rip` apart.
    pub(crate) fn take_over(&mut self) {
        // SAFETY: as in `frame`; borrowed apart from `cpu`.
        let frame = unsafe { self.frame.as_ref() };
        take_over(self.cpu, frame, self.until);
        self.mode.space = self.cpu.space;
    }

    /// Gives the processor's state to translated code.
    pub(crate) fn give_back(&mut self) {
        let until = self.until;
        let cpu = &*self.cpu;
        // SAFETY: as in `frame`; borrowed apart from `cpu`.
        let frame = unsafe { self.frame.as_mut() };
        frame.set_gprs(&cpu.gpr);
        let left = until.wrapping_sub(cpu.branches);
        frame.set_flags(pack(cpu.flags.arithmetic()), left);
        frame.rest = cpu.flags.rest;
        frame.interrupt = u64::from(self.bus.interrupt_waits());
        if frame.x87_absent == 0 {
            frame.x87 = Image::of(&cpu.fpu);
            frame.x87_pointer = cpu.fpu.instruction_pointer;
        }
        frame.fs_base = cpu.segments[usize::from(seg::FS)].base;
        frame.gs_base = cpu.segments[usize::from(seg::GS)].base;
        frame.kernel_gs_base = cpu.kernel_gs_base;
        frame.space = cpu.space as u64;
        frame.tsc_adjust = cpu.tsc_adjust;
        frame.tsc_aux = cpu.tsc_aux;
    }

    /// Executes the instruction of the site that the frame names.
    fn execute(&mut self) -> After {
        self.take_over();
        let frame = self.frame();
        let base = frame.code_base;
        #[expect(clippy::cast_possible_truncation, reason = "it was stored as 32 bits")]
        let site = frame.site as SiteId;
        let called = self.sites.get(site);
        if matches!(called, Site::LoadX87) {
            self.frame().x87_absent = 0;
            self.give_back();
            return After::Return;
        }
        let Site::Slow {
            op,
            code,
            block: id,
            block_offset,
            operand,
            by_window,
            is_last,
            ..
        } = called
        else {
            unreachable!("bug: translated code called the helper at a jump's site");
        };
        self.statistics.hit(site);
        if *by_window {
            self.windows.miss(self.cpu, site, *id);
        }
        let block = base.wrapping_add(u64::from(*block_offset));
        let cpu = &mut *self.cpu;
        cpu.gpr[usize::from(cpu::GPR_BLOCK)] = block;
        let rsp = cpu.gpr[usize::from(gpr::RSP)];
        let at = match operand {
            Operand::None => None,
            Operand::Memory => cpu.operand_linear(op),
            Operand::Push => Some(Linear(rsp.wrapping_sub(self.mode.word_bytes().into()))),
            Operand::Pop => Some(Linear(rsp)),
            Operand::Register(number) => Some(Linear(cpu.gpr[usize::from(*number)])),
        };
        // With its end an NMI may come in.
        let in_nmi = cpu.nmi_blocked;
        let done = (op.run)(cpu, self.bus, op);
        let next = block.wrapping_add(u64::from(op.end));
        if let Err(trap) = done {
            cpu.rip = next.wrapping_sub(u64::from(op.len));
            self.left = Left::Trapped(trap);
            return After::Leave;
        }
        self.see_dropped();
        if self.mode.windowed {
            self.windows.settle(self.region, self.cpu);
        }
        if let Some(at) = at {
            self.filled.fill(self.region, self.cpu, self.cpu.space, at);
            if *by_window {
                self.windows.fill(self.region, self.cpu, at);
            }
        }
        if *is_last {
            return self.go_on(!in_nmi && only_changes_mode(*code, op));
        }
        let mode = Mode::of(self.cpu).map(|mode| mode.with_windows(self.mode.windowed));
        if self.cpu.look || mode != Some(self.mode) || self.cpu.branches >= self.until {
            self.cpu.rip = next;
            self.left = Left::Complete;
            return After::Leave;
        }
        self.give_back();
        After::Return
    }

    /// After an instruction that has set `rip`: goes on there in translated code, if
    /// nothing is to be looked at and the jump cache knows the code. `is_plain`: it
    /// may have asked for a look around, but touched nothing outside the processor.
    fn go_on(&mut self, is_plain: bool) -> After {
        self.left = Left::Complete;
        let is_due = self.cpu.branches >= self.until;
        if is_due || self.cpu.look && !(is_plain && self.is_calm()) {
            return After::Leave;
        }
        let Some(mode) = Mode::of(self.cpu) else {
            return After::Leave;
        };
        let mode = mode.with_windows(self.windows.are_on(self.cpu));
        let rip = Linear(self.cpu.rip);
        let target = match self.modes[mode.part()] == Some(mode) {
            true => Blocks::jump(self.region, mode, rip),
            false => None,
        };
        let Some(target) = target else {
            return After::Leave;
        };
        if self.see_mapping(mode, rip).is_none() {
            return After::Leave;
        }
        // The walk may have begun to watch a page.
        self.see_dropped();
        self.left = Left::BySite;
        self.statistics.went_on += 1;
        self.mode = mode;
        if mode.windowed {
            self.windows.settle(self.region, self.cpu);
        }
        self.give_back();
        let frame = self.frame();
        // The far entry counts the branch that the instruction has counted.
        frame.set_flags(frame.flags(), frame.left().wrapping_add(1));
        frame.go_on = target;
        frame.temp = rip.0;
        After::GoOn
    }

    /// Notes where `rip`'s page is mapped, if it may have been forgotten with an
    /// address space. `None` if it can't be fetched, or has been written to by that.
    fn see_mapping(&mut self, mode: Mode, rip: Linear) -> Option<()> {
        let mapped = &mut self.blocks.mapped;
        if rip.is_low() && !mapped.knows(rip, mode.space) {
            let start = self.cpu.fetch_address(rip).ok()??;
            mapped.note_known(self.region, start, mode.space, rip);
        }
        (!self.cpu.look).then_some(())
    }

    fn see_dropped(&mut self) {
        see_dropped(
            self.cpu,
            self.region,
            self.filled,
            self.windows,
            self.blocks,
            self.statistics,
        );
    }

    fn is_calm(&mut self) -> bool {
        Interpreter::is_calm(self.cpu, self.bus)
    }
}

/// Drops what the processor's soft TLB has dropped, from the fast TLB and from
/// what is known of where code is mapped; and copies what it had kept of an address
/// space that is current again.
pub(crate) fn see_dropped(
    cpu: &mut Cpu,
    region: &mut Region,
    filled: &mut Filled,
    windows: &mut Windows,
    blocks: &mut Blocks,
    statistics: &mut Statistics,
) {
    if cpu.tlb.has_dropped() {
        let dropped = cpu.tlb.take_dropped();
        statistics.dropped(&dropped);
        filled.drop(region, cpu, &dropped);
        windows.drop(region, cpu, &dropped);
        blocks.mapped.drop(region, &dropped);
        if dropped.left {
            for (space, page) in cpu.tlb.returned() {
                filled.fill(region, cpu, space, page);
                if let Some(physical) = cpu.tlb.fetch(space, page) {
                    blocks.mapped.note_known(region, physical, space, page);
                }
            }
        }
    }
}

/// Whether an instruction asks for a look around only because it changes whose code
/// runs, or what is mapped: it touches no device, and nothing that holds for a whole
/// stay.
fn only_changes_mode(code: Code, op: &Op) -> bool {
    match code {
        Code::Syscall | Code::Sysretq | Code::Iretq => true,
        Code::Mov_cr_r64 => op.a == 3,
        _ => false,
    }
}

/// By [`Frame::space`]. [`Space::UserAc`] has no translated code.
fn space(number: u64) -> Space {
    const USER: u64 = Space::User as u64;
    const SUPERVISOR_AC: u64 = Space::SupervisorAc as u64;
    match number {
        USER => Space::User,
        SUPERVISOR_AC => Space::SupervisorAc,
        _ => Space::Supervisor,
    }
}

/// Brings the processor's state up to date with what translated code left in
/// the frame; `rip` apart. `until`: the branch count at which it was to stop.
pub(crate) fn take_over(cpu: &mut Cpu, frame: &Frame, until: u64) {
    frame.get_gprs(&mut cpu.gpr);
    cpu.flags.rest = frame.rest;
    cpu.flags.set_arithmetic(unpack(frame.flags()));
    cpu.branches = until.wrapping_sub(frame.left());
    cpu.segments[usize::from(seg::FS)].base = frame.fs_base;
    cpu.segments[usize::from(seg::GS)].base = frame.gs_base;
    cpu.kernel_gs_base = frame.kernel_gs_base;
    cpu.space = space(frame.space);
    if frame.x87_absent == 0 {
        frame.x87.give(&mut cpu.fpu);
        cpu.fpu.instruction_pointer = frame.x87_pointer;
    }
}

/// The arithmetic flags in the form of [`crate::register::FLAGS`].
fn pack(flags: u64) -> u16 {
    let [low, ..] = flags.to_le_bytes();
    let overflow = u8::from(flags & x86::flags::OF != 0);
    u16::from_le_bytes([overflow, low & flag::LOW | flag::FIXED])
}

/// The arithmetic flags out of that form.
fn unpack(packed: u16) -> u64 {
    let [overflow, low] = packed.to_le_bytes();
    let overflow = if overflow != 0 { x86::flags::OF } else { 0 };
    u64::from(low & flag::LOW) | overflow
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_unpacked_as_they_were_packed() {
        for flags in [0, 0x8d5, 0x800, 0x001, 0x0c4, 0x010] {
            assert_eq!(unpack(pack(flags)), flags);
        }
    }
}
