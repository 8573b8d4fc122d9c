//! Decoded code, by the physical page it was read from.
//!
//! The law: what is executed is what memory holds now. Every page that a block
//! was read from is watched (`memory::flag::CODE`); a write to it drops the
//! blocks that it touches, the one in execution included.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, Instruction};
use memory::flag;
use x86::{Linear, PAGE_BYTES, Physical};

use crate::state::CodeSize;
use crate::{Cpu, Flow, Op, Trap, exec};

/// Instructions in a block at most.
const OPS_MAX: usize = 64;
/// Bytes an instruction has at most; a longer one is `#GP(0)`.
const INSN_BYTES_MAX: usize = 15;
/// Features that are not announced, and so decode as they did before them.
const OPTIONS: u32 = DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD;

/// Straight-line code from one page, up to and with the first instruction that
/// may go elsewhere. An instruction that crosses into the next page is a block
/// of its own.
#[derive(Debug)]
pub(crate) struct Block {
    /// At least one; the last one sets `rip`.
    pub(crate) ops: Box<[Op]>,
    /// Where its first byte lies.
    pub(crate) start: Physical,
    /// Length in bytes of the part in the first page.
    pub(crate) bytes: u64,
    /// Length in bytes altogether.
    pub(crate) bytes_all: u64,
    /// Where it goes on, if it crosses a page.
    pub(crate) second_page: Option<Physical>,
}

/// A block's number in the cache.
pub(crate) type BlockId = u32;

/// All blocks.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    blocks: Vec<Option<Block>>,
    free: Vec<BlockId>,
    by_start: BTreeMap<(Physical, u8), BlockId>,
    /// Which blocks have bytes in a page.
    by_page: BTreeMap<u64, Vec<BlockId>>,
    /// Counts removals: whoever holds a [`BlockId`] checks it.
    pub(crate) generation: u64,
}

/// Blocks kept at most; then all are dropped.
const BLOCKS_MAX: usize = 1 << 18;

impl Blocks {
    /// The block with this number.
    #[inline(always)]
    pub(crate) fn get(&self, id: BlockId) -> Option<&Block> {
        self.blocks.get(id as usize)?.as_ref()
    }

    /// The block at the processor's `rip`, decoded if need be.
    pub(crate) fn at_rip(&mut self, cpu: &mut Cpu) -> Flow<BlockId> {
        let linear = cpu.code_linear(cpu.rip)?;
        let start = cpu.fetch_address(linear)?.ok_or(Trap::GP)?;
        let key = (start, cpu.code_size as u8);
        if let Some(&id) = self.by_start.get(&key) {
            let block = self.get(id).expect("indexed blocks exist");
            if block.second_page.is_none() || self.still_crosses(cpu, linear, id)? {
                return Ok(id);
            }
            self.remove(cpu, id);
        }
        let block = decode(cpu, linear, start)?;
        if self.blocks.len() - self.free.len() >= BLOCKS_MAX {
            self.clear(cpu);
        }
        Ok(self.insert(cpu, key, block))
    }

    fn still_crosses(&self, cpu: &mut Cpu, linear: Linear, id: BlockId) -> Flow<bool> {
        let second = cpu.fetch_address(linear.page().plus(PAGE_BYTES))?;
        Ok(second == self.get(id).and_then(|block| block.second_page))
    }

    fn insert(&mut self, cpu: &mut Cpu, key: (Physical, u8), block: Block) -> BlockId {
        let pages = [Some(block.start.page()), block.second_page];
        let id = match self.free.pop() {
            Some(id) => {
                self.blocks[id as usize] = Some(block);
                id
            }
            None => {
                self.blocks.push(Some(block));
                u32::try_from(self.blocks.len() - 1).expect("BLOCKS_MAX is far below")
            }
        };
        self.by_start.insert(key, id);
        for page in pages.into_iter().flatten() {
            let number = page.page_number();
            self.by_page.entry(number).or_default().push(id);
            if cpu.ram.pages().get(number) & flag::CODE == 0 {
                cpu.ram.pages().set(number, flag::CODE);
                cpu.tlb.flush_writes_to(page);
            }
        }
        id
    }

    /// Drops the blocks that have bytes in `start..start + bytes`.
    pub(crate) fn invalidate(&mut self, cpu: &mut Cpu, start: Physical, bytes: u64) {
        let end = start.0.saturating_add(bytes);
        for number in start.page_number()..=(end - 1) / PAGE_BYTES {
            let Some(ids) = self.by_page.get(&number) else {
                continue;
            };
            let touched: Vec<BlockId> = ids
                .iter()
                .copied()
                .filter(|&id| {
                    self.get(id)
                        .is_some_and(|block| block.overlaps(start.0, end))
                })
                .collect();
            touched.into_iter().for_each(|id| self.remove(cpu, id));
        }
    }

    fn remove(&mut self, cpu: &mut Cpu, id: BlockId) {
        let Some(block) = self.blocks[id as usize].take() else {
            return;
        };
        self.generation += 1;
        self.by_start.retain_not(block.start, id);
        for page in [Some(block.start.page()), block.second_page]
            .into_iter()
            .flatten()
        {
            let number = page.page_number();
            if let Some(ids) = self.by_page.get_mut(&number) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_page.remove(&number);
                    cpu.ram.pages().clear(number, flag::CODE);
                }
            }
        }
        self.free.push(id);
    }

    /// Drops all blocks.
    pub(crate) fn clear(&mut self, cpu: &mut Cpu) {
        self.by_page
            .keys()
            .for_each(|&number| cpu.ram.pages().clear(number, flag::CODE));
        *self = Blocks {
            generation: self.generation + 1,
            ..Blocks::default()
        };
    }
}

/// Removes an id under any of the code sizes that a block may be kept by.
trait RetainNot {
    fn retain_not(&mut self, start: Physical, id: BlockId);
}

impl RetainNot for BTreeMap<(Physical, u8), BlockId> {
    fn retain_not(&mut self, start: Physical, id: BlockId) {
        for size in [CodeSize::Bits16, CodeSize::Bits32, CodeSize::Bits64] {
            let key = (start, size as u8);
            if self.get(&key) == Some(&id) {
                self.remove(&key);
            }
        }
    }
}

impl Block {
    fn overlaps(&self, start: u64, end: u64) -> bool {
        let first = self.start.0 < end && start < self.start.0 + self.bytes;
        let second = self
            .second_page
            .is_some_and(|page| page.0 < end && start < page.0 + (self.bytes_all - self.bytes));
        first || second
    }
}

/// Decodes the block at `linear`, whose first byte lies at `start`.
fn decode(cpu: &mut Cpu, linear: Linear, start: Physical) -> Flow<Block> {
    // At most a page: straight-line code that is longer is cut.
    let mut bytes = [0u8; PAGE_BYTES as usize];
    let in_page = (PAGE_BYTES - linear.offset()) as usize;
    cpu.ram
        .read(start, &mut bytes[..in_page])
        .or(Err(Trap::GP))?;
    let bits = cpu.code_size as u32;
    let mut ops = Vec::new();
    let mut insn = Instruction::default();
    let mut decoder = Decoder::with_ip(bits, &bytes[..in_page], 0, OPTIONS);
    let mut end = 0;
    while ops.len() < OPS_MAX && decoder.can_decode() {
        decoder.decode_out(&mut insn);
        if insn.is_invalid() && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes {
            break;
        }
        end = decoder.position() as u64;
        let op = exec::lower(&insn);
        let ends = exec::ends_block(&insn);
        ops.push(op);
        if ends {
            return Ok(Block {
                ops: ops.into(),
                start,
                bytes: end,
                bytes_all: end,
                second_page: None,
            });
        }
    }
    if ops.is_empty() {
        return decode_crossing(cpu, linear, start);
    }
    ops.push(exec::fall_through(end as u16));
    Ok(Block {
        ops: ops.into(),
        start,
        bytes: end,
        bytes_all: end,
        second_page: None,
    })
}

/// Decodes the one instruction that begins at the end of a page and ends in
/// the next.
fn decode_crossing(cpu: &mut Cpu, linear: Linear, start: Physical) -> Flow<Block> {
    let in_page = (PAGE_BYTES - linear.offset()) as usize;
    if in_page >= INSN_BYTES_MAX {
        return Err(Trap::GP);
    }
    let second = cpu
        .fetch_address(linear.page().plus(PAGE_BYTES))?
        .ok_or(Trap::GP)?;
    let mut bytes = [0u8; INSN_BYTES_MAX];
    cpu.ram
        .read(start, &mut bytes[..in_page])
        .or(Err(Trap::GP))?;
    cpu.ram
        .read(second, &mut bytes[in_page..])
        .or(Err(Trap::GP))?;
    let mut decoder = Decoder::with_ip(cpu.code_size as u32, &bytes, 0, OPTIONS);
    let insn = decoder.decode();
    let bytes_all = insn.len() as u64;
    let mut ops = vec![exec::lower(&insn)];
    if !exec::ends_block(&insn) {
        ops.push(exec::fall_through(insn.len() as u16));
    }
    Ok(Block {
        ops: ops.into(),
        start,
        bytes: in_page as u64,
        bytes_all: bytes_all.max(in_page as u64),
        second_page: Some(second),
    })
}
