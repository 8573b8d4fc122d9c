//! Loads and stores at the guest's addresses.
//!
//! The quick way is a hit in the soft TLB. The slow way, in [`crate::paging`],
//! checks everything, splits what crosses a page, reaches the board where
//! there is no RAM, and enters the TLB for the next time. A store that may
//! fault never changes memory before all of it is known to succeed.

use x86::{Linear, gpr, seg};

use crate::segment::rights;
use crate::tlb::Space;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op, Trap};

impl Cpu {
    /// The linear address of the instruction's memory operand, of `bytes`
    /// bytes. Limits and kinds of segments are checked where they exist;
    /// canonical form is left to the access.
    #[inline(always)]
    pub(crate) fn address(&self, op: &Op, bytes: u64, write: bool) -> Flow<Linear> {
        self.address_plus(op, 0, bytes, write)
    }

    /// As [`Cpu::address`], where `displacement` is part of the effective
    /// address: BT's with a register index, a gather's.
    #[inline(always)]
    pub(crate) fn address_plus(
        &self,
        op: &Op,
        displacement: u64,
        bytes: u64,
        write: bool,
    ) -> Flow<Linear> {
        self.linear(op, self.offset_plus(op, displacement), bytes, write)
    }

    /// As [`Cpu::address`], of the part of the operand that lies `displacement`
    /// bytes behind its start: a size of addresses that is less than 64 bits
    /// makes the start wrap around, not what lies behind it.
    #[inline(always)]
    pub(crate) fn address_of_part(
        &self,
        op: &Op,
        displacement: u64,
        bytes: u64,
        write: bool,
    ) -> Flow<Linear> {
        let offset = self.offset(op).wrapping_add(displacement);
        self.linear(op, offset, bytes, write)
    }

    #[inline(always)]
    fn linear(&self, op: &Op, offset: u64, bytes: u64, write: bool) -> Flow<Linear> {
        if self.is_64() {
            let base = self.segments[usize::from(op.seg)].base;
            Ok(Linear(base.wrapping_add(offset)))
        } else {
            self.in_segment(op.seg, offset, bytes, write)
        }
    }

    /// The offset of the memory operand: its effective address.
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        self.offset_plus(op, 0)
    }

    #[inline(always)]
    fn offset_plus(&self, op: &Op, displacement: u64) -> u64 {
        let sum = self.gpr[usize::from(op.base & 31)]
            .wrapping_add(self.gpr[usize::from(op.index & 31)] << op.scale)
            .wrapping_add(op.disp)
            .wrapping_add(displacement);
        sum & op.address.last()
    }

    /// The address of the string operand at `offset` in `segment`.
    #[inline(always)]
    pub(crate) fn string_address(
        &self,
        segment: u8,
        offset: u64,
        bytes: u64,
        write: bool,
    ) -> Flow<Linear> {
        if self.is_64() {
            Ok(Linear(
                self.segments[usize::from(segment)]
                    .base
                    .wrapping_add(offset),
            ))
        } else {
            self.in_segment(segment, offset, bytes, write)
        }
    }

    /// The number at `at`. `stack`: a non-canonical address gives `#SS`.
    #[inline(always)]
    pub(crate) fn read<W: Width>(&mut self, bus: &mut dyn Bus, at: Linear, stack: bool) -> Flow<W> {
        match self.tlb.read(self.space, at, W::BYTES) {
            Some(physical) => Ok(self.ram.load(physical)),
            None => Ok(W::truncate(self.read_slow(
                bus,
                self.space,
                at,
                W::BYTES as u8,
                stack,
            )?)),
        }
    }

    /// Puts the number at `at`.
    #[inline(always)]
    pub(crate) fn write<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        at: Linear,
        stack: bool,
        value: W,
    ) -> Flow {
        match self.tlb.write(self.space, at, W::BYTES) {
            Some(physical) => {
                self.ram.store(physical, value);
                Ok(())
            }
            None => self.write_slow(
                bus,
                self.space,
                at,
                W::BYTES as u8,
                stack,
                value.zero_extend(),
            ),
        }
    }

    /// Makes sure that [`Cpu::write`] of a `W` at `at` will succeed, so that a
    /// read-modify-write changes nothing where it faults.
    #[inline(always)]
    pub(crate) fn probe_write<W: Width>(&mut self, at: Linear, stack: bool) -> Flow {
        match self.tlb.write(self.space, at, W::BYTES) {
            Some(_) => Ok(()),
            None => self.probe_write_slow(self.space, at, W::BYTES, stack),
        }
    }

    /// The linear address of the memory operand's first byte; `None` if that
    /// can't be read.
    pub fn operand_linear(&self, op: &Op) -> Option<Linear> {
        self.quick(op).or_else(|| self.address(op, 1, false).ok())
    }

    /// Where the memory operand lies, where that takes nothing but a hit in the
    /// soft TLB: 64-bit code, 64-bit address.
    #[inline(always)]
    pub(crate) fn quick(&self, op: &Op) -> Option<Linear> {
        op.quick.then(|| {
            let base = self.segments[usize::from(op.seg & 7)].base;
            let index = self.gpr[usize::from(op.index & 31)] << (op.scale & 3);
            let offset = self.gpr[usize::from(op.base & 31)]
                .wrapping_add(index)
                .wrapping_add(op.disp);
            Linear(base.wrapping_add(offset))
        })
    }

    /// Hands the memory operand to `f`. The way that most accesses take calls
    /// nothing, so that a handler that ends with this needs no frame.
    #[inline(always)]
    pub(crate) fn with_load<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        op: &Op,
        f: impl FnOnce(&mut Cpu, W),
    ) -> Flow {
        if let Some(at) = self.quick(op)
            && let Some(physical) = self.tlb.read(self.space, at, W::BYTES)
        {
            let value = self.ram.load(physical);
            f(self, value);
            return Ok(());
        }
        self.with_load_slowly(bus, op, f)
    }

    #[cold]
    #[inline(never)]
    fn with_load_slowly<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        op: &Op,
        f: impl FnOnce(&mut Cpu, W),
    ) -> Flow {
        let value = self.load(bus, op)?;
        f(self, value);
        Ok(())
    }

    /// The memory operand.
    #[inline(always)]
    pub(crate) fn load<W: Width>(&mut self, bus: &mut dyn Bus, op: &Op) -> Flow<W> {
        let at = self.address(op, W::BYTES, false)?;
        self.read(bus, at, op.stack)
    }

    /// Stores to the memory operand.
    #[inline(always)]
    pub(crate) fn store<W: Width>(&mut self, bus: &mut dyn Bus, op: &Op, value: W) -> Flow {
        if let Some(at) = self.quick(op)
            && let Some(physical) = self.tlb.write(self.space, at, W::BYTES)
        {
            self.ram.store(physical, value);
            return Ok(());
        }
        self.store_slowly(bus, op, value)
    }

    #[cold]
    #[inline(never)]
    fn store_slowly<W: Width>(&mut self, bus: &mut dyn Bus, op: &Op, value: W) -> Flow {
        let at = self.address(op, W::BYTES, true)?;
        self.write(bus, at, op.stack, value)
    }

    /// Replaces the memory operand by `f` of it. `f` runs only once nothing
    /// can fault any more.
    #[inline(always)]
    pub(crate) fn modify<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        op: &Op,
        f: impl FnOnce(&mut Cpu, W) -> W,
    ) -> Flow {
        if let Some(at) = self.quick(op)
            && let Some(physical) = self.tlb.write(self.space, at, W::BYTES)
        {
            let value = f(self, self.ram.load(physical));
            self.ram.store(physical, value);
            return Ok(());
        }
        self.modify_slowly(bus, op, f)
    }

    #[cold]
    #[inline(never)]
    fn modify_slowly<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        op: &Op,
        f: impl FnOnce(&mut Cpu, W) -> W,
    ) -> Flow {
        let at = self.address(op, W::BYTES, true)?;
        self.probe_write::<W>(at, op.stack)?;
        let old = self.read(bus, at, op.stack)?;
        let new = f(self, old);
        self.write(bus, at, op.stack, new)
    }

    /// 16 bytes at `at`.
    #[inline(always)]
    pub(crate) fn read_128(&mut self, bus: &mut dyn Bus, at: Linear, stack: bool) -> Flow<u128> {
        if let Some(physical) = self.tlb.read(self.space, at, 16) {
            return Ok(self.ram.load(physical));
        }
        // The halves may be aligned, or canonical, where the whole isn't.
        self.probe_read_slow(self.space, at, 16, stack)?;
        let low: u64 = self.read(bus, at, stack)?;
        let high: u64 = self.read(bus, at.plus(8), stack)?;
        Ok(u128::from(high) << 64 | u128::from(low))
    }

    /// Puts 16 bytes at `at`.
    #[inline(always)]
    pub(crate) fn write_128(
        &mut self,
        bus: &mut dyn Bus,
        at: Linear,
        stack: bool,
        value: u128,
    ) -> Flow {
        if let Some(physical) = self.tlb.write(self.space, at, 16) {
            self.ram.store(physical, value);
            return Ok(());
        }
        self.probe_write_slow(self.space, at, 16, stack)?;
        self.write(bus, at, stack, value as u64)?;
        self.write(bus, at.plus(8), stack, (value >> 64) as u64)
    }

    /// Reads with supervisor rights whatever the privilege level: descriptor
    /// tables and task-state segments.
    pub(crate) fn read_system<W: Width>(&mut self, bus: &mut dyn Bus, at: Linear) -> Flow<W> {
        if let Some(physical) = self.tlb.read(Space::Supervisor, at, W::BYTES) {
            return Ok(self.ram.load(physical));
        }
        let value = self.read_slow(bus, Space::Supervisor, at, W::BYTES as u8, false)?;
        Ok(W::truncate(value))
    }

    /// Writes with supervisor rights whatever the privilege level.
    pub(crate) fn write_system<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        at: Linear,
        value: W,
    ) -> Flow {
        self.write_slow(
            bus,
            Space::Supervisor,
            at,
            W::BYTES as u8,
            false,
            value.zero_extend(),
        )
    }

    /// Pushes `value`.
    #[inline(always)]
    pub(crate) fn push<W: Width>(&mut self, bus: &mut dyn Bus, value: W) -> Flow {
        let rsp = self.gpr[usize::from(gpr::RSP)].wrapping_sub(W::BYTES);
        if self.is_64()
            && let Some(physical) = self.tlb.write(self.space, Linear(rsp), W::BYTES)
        {
            self.ram.store(physical, value);
            self.gpr[usize::from(gpr::RSP)] = rsp;
            return Ok(());
        }
        self.push_slowly(bus, value)
    }

    #[cold]
    #[inline(never)]
    fn push_slowly<W: Width>(&mut self, bus: &mut dyn Bus, value: W) -> Flow {
        let rsp = self.gpr[usize::from(gpr::RSP)].wrapping_sub(W::BYTES);
        let at = self.stack_address(rsp, W::BYTES, true)?;
        self.write(bus, at, true, value)?;
        self.set_rsp(rsp);
        Ok(())
    }

    /// Pops a value for `f`, which runs with the stack pointer already moved.
    #[inline(always)]
    pub(crate) fn with_pop<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        f: impl FnOnce(&mut Cpu, W),
    ) -> Flow {
        let rsp = self.gpr[usize::from(gpr::RSP)];
        if self.is_64()
            && let Some(physical) = self.tlb.read(self.space, Linear(rsp), W::BYTES)
        {
            let value = self.ram.load(physical);
            self.gpr[usize::from(gpr::RSP)] = rsp.wrapping_add(W::BYTES);
            f(self, value);
            return Ok(());
        }
        self.with_pop_slowly(bus, f)
    }

    #[cold]
    #[inline(never)]
    fn with_pop_slowly<W: Width>(
        &mut self,
        bus: &mut dyn Bus,
        f: impl FnOnce(&mut Cpu, W),
    ) -> Flow {
        let value = self.pop(bus)?;
        f(self, value);
        Ok(())
    }

    /// Pops a value.
    #[inline(always)]
    pub(crate) fn pop<W: Width>(&mut self, bus: &mut dyn Bus) -> Flow<W> {
        let value = self.peek(bus, 0)?;
        self.set_rsp(self.gpr[usize::from(gpr::RSP)].wrapping_add(W::BYTES));
        Ok(value)
    }

    /// The value `offset` bytes above the stack pointer, without popping it.
    #[inline(always)]
    pub(crate) fn peek<W: Width>(&mut self, bus: &mut dyn Bus, offset: u64) -> Flow<W> {
        let rsp = self.gpr[usize::from(gpr::RSP)].wrapping_add(offset);
        let at = self.stack_address(rsp, W::BYTES, false)?;
        self.read(bus, at, true)
    }

    /// The linear address of stack offset `rsp`, of which only the bits that
    /// the stack's size uses count.
    #[inline(always)]
    pub(crate) fn stack_address(&self, rsp: u64, bytes: u64, write: bool) -> Flow<Linear> {
        if self.is_64() {
            Ok(Linear(rsp))
        } else {
            self.in_segment(seg::SS, rsp & self.stack_mask(), bytes, write)
        }
    }

    /// Sets the part of RSP that the stack's size uses.
    #[inline(always)]
    pub(crate) fn set_rsp(&mut self, rsp: u64) {
        let mask = self.stack_mask();
        let register = &mut self.gpr[usize::from(gpr::RSP)];
        // A 32-bit stack pointer's update clears the upper half, as any
        // 32-bit register's does; a 16-bit one's keeps the rest.
        let kept = if mask == 0xffff { *register & !mask } else { 0 };
        *register = kept | rsp & mask;
    }

    /// The linear address of `offset` in a segment that has a limit and
    /// rights: everything outside of 64-bit mode (SDM volume 3A, 5.3, 5.5).
    pub(crate) fn in_segment(
        &self,
        segment: u8,
        offset: u64,
        bytes: u64,
        write: bool,
    ) -> Flow<Linear> {
        let register = &self.segments[usize::from(segment)];
        if segment == seg::FLAT {
            return Ok(Linear(offset & 0xffff_ffff));
        }
        let fault = if segment == seg::SS && register.has(rights::P) {
            Trap::SS
        } else {
            Trap::GP
        };
        // Of a stack segment only the limit faults as #SS: it is always
        // writable.
        register.linear(offset, bytes, write).ok_or(fault)
    }

    /// RIP of the instruction after `op`, in the block in execution.
    #[inline(always)]
    pub(crate) fn next_rip(&self, op: &Op) -> u64 {
        self.gpr[usize::from(crate::state::GPR_BLOCK)].wrapping_add(u64::from(op.end))
            & self.rip_mask()
    }
}
