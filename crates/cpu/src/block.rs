//! Decoded code, by the physical page it was read from.
//!
//! The law: what is executed is what memory holds now. Every page that a block
//! was read from is watched (`memory::flag::CODE`); a write to it drops the
//! blocks that it touches, the one in execution included.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderError, DecoderOptions, Instruction};
use memory::flag;
use x86::{Linear, PAGE_BYTES, Physical};

use crate::state::CodeSize;
use crate::{Cpu, Flow, Model, Op, Trap, exec};

/// Instructions in a block at most.
const OPS_MAX: usize = 64;
/// Bytes an instruction has at most; a longer one is `#GP(0)`.
const INSN_BYTES_MAX: usize = 15;
/// Length in bytes of a block at most.
const LINE_BYTES_MAX: usize = OPS_MAX * INSN_BYTES_MAX;
/// How `model` decodes: without BMI1 and LZCNT their prefixes mean nothing, and
/// TZCNT and LZCNT are BSF and BSR.
fn options(model: Model) -> u32 {
    match model {
        Model::V2 => DecoderOptions::NO_MPFX_0FBC | DecoderOptions::NO_MPFX_0FBD,
        Model::V3 => DecoderOptions::NONE,
    }
}

/// Where a block's operations stand in [`Blocks::ops`]: at least one, of which
/// the last one sets `rip`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    first: u32,
    count: u16,
}

/// Straight-line code from one page, up to and with the first instruction that
/// may go elsewhere. An instruction that crosses into the next page is a block
/// of its own.
#[derive(Debug)]
struct Block {
    span: Span,
    size: CodeSize,
    /// Where its first byte lies.
    start: Physical,
    /// Length in bytes of the part in the first page.
    bytes: u64,
    /// Length in bytes altogether.
    bytes_all: u64,
    /// Where it goes on, if it crosses a page.
    second_page: Option<Physical>,
}

/// A block's number.
type BlockId = u32;

/// All blocks.
#[derive(Debug)]
pub(crate) struct Blocks {
    /// The operations of all blocks, one after the other. Those of dropped
    /// blocks stay until all are cleared.
    ops: Vec<Op>,
    blocks: BTreeMap<BlockId, Block>,
    next_id: BlockId,
    by_start: BTreeMap<(Physical, CodeSize), BlockId>,
    /// Which blocks have bytes in a page.
    by_page: BTreeMap<u64, Vec<BlockId>>,
    /// Writes to a page beside its blocks, since one was last added or dropped.
    beside: BTreeMap<u64, u8>,
    /// Blocks found lately, by where they start: the quick part of `by_start`.
    recent: Box<[Recent; RECENT]>,
}

/// A block that was found. Never one that crosses a page: whether it is still
/// the block at its place depends on where the next page is mapped.
#[derive(Clone, Copy, Debug)]
struct Recent {
    start: Physical,
    span: Span,
    size: CodeSize,
}

/// A power of two.
const RECENT: usize = 1 << 15;

/// At no place where code can be.
const NOTHING: Recent = Recent {
    start: Physical(u64::MAX),
    span: Span { first: 0, count: 0 },
    size: CodeSize::Bits16,
};

/// After so many writes beside its blocks a page has probably become data, and
/// its blocks are dropped: while it is watched, each store there takes the slow
/// way.
const BESIDE_MAX: u8 = 32;

/// Operations kept at most (40 bytes each); then all are dropped.
const OPS_KEPT_MAX: usize = 1 << 21;

impl Default for Blocks {
    fn default() -> Blocks {
        let recent = vec![NOTHING; RECENT].into_boxed_slice();
        Blocks {
            ops: Vec::new(),
            blocks: BTreeMap::new(),
            next_id: 0,
            by_start: BTreeMap::new(),
            by_page: BTreeMap::new(),
            beside: BTreeMap::new(),
            recent: recent.try_into().expect("the length is the type's"),
        }
    }
}

impl Blocks {
    /// The operations of a block.
    #[inline(always)]
    pub(crate) fn ops(&self, span: Span) -> &[Op] {
        let first = span.first as usize;
        &self.ops[first..first + usize::from(span.count)]
    }

    /// The block at the processor's `rip`.
    #[inline(always)]
    pub(crate) fn find(&mut self, cpu: &mut Cpu) -> Flow<Span> {
        let linear = cpu.code_linear(cpu.rip)?;
        if let Some(start) = cpu.tlb.fetch(cpu.space, linear) {
            let recent = &self.recent[slot(start)];
            if recent.start == start && recent.size == cpu.code_size {
                return Ok(recent.span);
            }
        }
        self.find_slowly(cpu, linear)
    }

    /// The block at `rip`, which lies at `linear`, decoded if need be.
    #[cold]
    #[inline(never)]
    fn find_slowly(&mut self, cpu: &mut Cpu, linear: Linear) -> Flow<Span> {
        let start = cpu.fetch_address(linear)?.ok_or(Trap::GP)?;
        let key = (start, cpu.code_size);
        if let Some(&id) = self.by_start.get(&key) {
            let block = &self.blocks[&id];
            let span = block.span;
            let Some(page) = block.second_page else {
                self.remember(start, span, cpu.code_size);
                return Ok(span);
            };
            // The next page may have been mapped anew.
            if cpu.fetch_address(linear.page().plus(PAGE_BYTES))? == Some(page) {
                return Ok(span);
            }
            self.remove(cpu, id);
        }
        if self.ops.len() >= OPS_KEPT_MAX {
            self.clear(cpu);
        }
        let first = self.ops.len();
        let decoded = decode(cpu, linear, start, &mut self.ops);
        let block = decoded.inspect_err(|_| self.ops.truncate(first))?;
        if block.second_page.is_none() {
            self.remember(start, block.span, cpu.code_size);
        }
        Ok(self.insert(cpu, key, block))
    }

    fn remember(&mut self, start: Physical, span: Span, size: CodeSize) {
        self.recent[slot(start)] = Recent { start, span, size };
    }

    fn insert(&mut self, cpu: &mut Cpu, key: (Physical, CodeSize), block: Block) -> Span {
        let id = self.next_id;
        self.next_id += 1;
        self.by_start.insert(key, id);
        for page in block.pages() {
            let number = page.page_number();
            self.by_page.entry(number).or_default().push(id);
            self.beside.remove(&number);
            if cpu.ram.pages().get(number) & flag::CODE == 0 {
                cpu.ram.pages().set(number, flag::CODE);
                cpu.tlb.flush_writes_to(page);
            }
        }
        let span = block.span;
        self.blocks.insert(id, block);
        span
    }

    /// Drops the blocks that have bytes in `start..start + bytes`.
    pub(crate) fn invalidate(&mut self, cpu: &mut Cpu, start: Physical, bytes: u64) {
        let end = start.0.saturating_add(bytes);
        for number in start.page_number()..=(end - 1) / PAGE_BYTES {
            let Some(ids) = self.by_page.get(&number) else {
                continue;
            };
            let mut touched: Vec<BlockId> = ids
                .iter()
                .copied()
                .filter(|id| self.blocks[id].overlaps(start.0, end))
                .collect();
            if touched.is_empty() {
                let beside = self.beside.entry(number).or_default();
                *beside += 1;
                if *beside < BESIDE_MAX {
                    continue;
                }
                touched.clone_from(ids);
            }
            self.beside.remove(&number);
            touched.into_iter().for_each(|id| self.remove(cpu, id));
        }
    }

    fn remove(&mut self, cpu: &mut Cpu, id: BlockId) {
        let Some(block) = self.blocks.remove(&id) else {
            return;
        };
        let recent = &mut self.recent[slot(block.start)];
        if recent.start == block.start {
            *recent = NOTHING;
        }
        self.by_start.remove(&(block.start, block.size));
        for page in block.pages() {
            let number = page.page_number();
            if let Some(ids) = self.by_page.get_mut(&number) {
                ids.retain(|&other| other != id);
                if ids.is_empty() {
                    self.by_page.remove(&number);
                    cpu.ram.pages().clear(number, flag::CODE);
                }
            }
        }
    }

    /// Drops all blocks.
    pub(crate) fn clear(&mut self, cpu: &mut Cpu) {
        let pages = self.by_page.keys();
        pages.for_each(|&number| cpu.ram.pages().clear(number, flag::CODE));
        *self = Blocks::default();
    }
}

/// Where in [`Blocks::recent`] a block that starts here is looked for.
#[inline(always)]
fn slot(start: Physical) -> usize {
    // Code starts anywhere in a page; the page's number spreads the rest. The
    // conversion keeps the low bits, which are all that is used.
    (start.0 ^ start.0 >> 10) as usize % RECENT
}

impl Block {
    fn pages(&self) -> impl Iterator<Item = Physical> + use<> {
        [Some(self.start.page()), self.second_page]
            .into_iter()
            .flatten()
    }

    fn overlaps(&self, start: u64, end: u64) -> bool {
        let first = self.start.0 < end && start < self.start.0 + self.bytes;
        let second = self
            .second_page
            .is_some_and(|page| page.0 < end && start < page.0 + (self.bytes_all - self.bytes));
        first || second
    }
}

/// Decodes the block at `linear`, whose first byte lies at `start`, and adds
/// its operations to `ops`.
fn decode(cpu: &mut Cpu, linear: Linear, start: Physical, ops: &mut Vec<Op>) -> Flow<Block> {
    let mut bytes = [0u8; LINE_BYTES_MAX];
    let page = line_bytes(cpu, start, &mut bytes).ok_or(Trap::GP)?;
    let size = cpu.code_size;
    let first = ops.len();
    let model = cpu.model;
    let (end, ended) = decode_line(size, model, page, |insn| ops.push(exec::lower(insn, model)));
    if ops.len() == first {
        return decode_crossing(cpu, linear, start, ops);
    }
    if !ended {
        ops.push(exec::fall_through(end as u16));
    }
    Ok(Block {
        span: Span::since(first, ops),
        size,
        start,
        bytes: end as u64,
        bytes_all: end as u64,
        second_page: None,
    })
}

/// Hands over the instructions of `bytes`, up to and with the first that ends
/// a block, and none that is cut off: where they end, and whether with one that
/// ends a block.
fn decode_line(
    size: CodeSize,
    model: Model,
    bytes: &[u8],
    mut each: impl FnMut(&Instruction),
) -> (usize, bool) {
    let mut decoder = Decoder::with_ip(size as u32, bytes, 0, options(model));
    let mut insn = Instruction::default();
    let mut end = 0;
    for _ in 0..OPS_MAX {
        if !decoder.can_decode() {
            break;
        }
        decoder.decode_out(&mut insn);
        if insn.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
            break;
        }
        end = decoder.position();
        each(&insn);
        if exec::ends_block(&insn) {
            return (end, true);
        }
    }
    (end, false)
}

/// An instruction, as the decoder gives it and as the interpreter executes it.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// Decoded with its offset from the block's start as its IP.
    pub insn: Instruction,
    /// The same, with its positions relative to the block's start.
    pub op: Op,
}

/// The block at `start`, for a translator: instructions that lie wholly in
/// `start`'s page, up to and with the first that may go elsewhere. Empty if the
/// first one crosses into the next page. `true`: the last one ends the block
/// ([`Op::run`] sets `rip`); `false`: execution goes on behind it.
pub fn straight_line(cpu: &Cpu, start: Physical) -> (Vec<Decoded>, bool) {
    let mut bytes = [0u8; LINE_BYTES_MAX];
    let Some(page) = line_bytes(cpu, start, &mut bytes) else {
        return (Vec::new(), false);
    };
    let mut line = Vec::with_capacity(16);
    let (_, ended) = decode_line(cpu.code_size, cpu.model, page, |insn| {
        line.push(Decoded {
            insn: *insn,
            op: exec::lower(insn, cpu.model),
        });
    });
    (line, ended)
}

/// What a block at `start` may be made from: to the end of its page, and no
/// more than instructions in a block can have. `None` where there is no RAM.
fn line_bytes<'a>(
    cpu: &Cpu,
    start: Physical,
    bytes: &'a mut [u8; LINE_BYTES_MAX],
) -> Option<&'a [u8]> {
    let in_page = (PAGE_BYTES - start.0 % PAGE_BYTES) as usize;
    let part = &mut bytes[..in_page.min(LINE_BYTES_MAX)];
    cpu.ram.read(start, part).ok()?;
    Some(part)
}

/// The instruction that begins at `start`, at the end of a page, and goes on at
/// `second`, where the next page lies.
fn crossing_insn(cpu: &Cpu, start: Physical, second: Physical) -> Option<Instruction> {
    let in_page = (PAGE_BYTES - start.0 % PAGE_BYTES) as usize;
    let mut bytes = [0u8; INSN_BYTES_MAX];
    let (head, tail) = bytes.split_at_mut_checked(in_page)?;
    cpu.ram.read(start, head).ok()?;
    cpu.ram.read(second, tail).ok()?;
    let mut decoder = Decoder::with_ip(cpu.code_size as u32, &bytes, 0, options(cpu.model));
    Some(decoder.decode())
}

/// For a translator: the instruction that begins at `start`, at the end of a
/// page, and goes on at `second`, where the next page lies; and whether it may go
/// elsewhere. `None` if the next page is none of its business.
pub fn crossing(cpu: &Cpu, start: Physical, second: Physical) -> Option<(Decoded, bool)> {
    let insn = crossing_insn(cpu, start, second)?;
    let in_page = PAGE_BYTES - start.0 % PAGE_BYTES;
    (insn.len() as u64 > in_page).then(|| {
        let op = exec::lower(&insn, cpu.model);
        (Decoded { insn, op }, exec::ends_block(&insn))
    })
}

/// Decodes the one instruction that begins at the end of a page and ends in
/// the next.
fn decode_crossing(
    cpu: &mut Cpu,
    linear: Linear,
    start: Physical,
    ops: &mut Vec<Op>,
) -> Flow<Block> {
    let in_page = (PAGE_BYTES - linear.offset()) as usize;
    if in_page >= INSN_BYTES_MAX {
        return Err(Trap::GP);
    }
    let second = cpu
        .fetch_address(linear.page().plus(PAGE_BYTES))?
        .ok_or(Trap::GP)?;
    let insn = crossing_insn(cpu, start, second).ok_or(Trap::GP)?;
    let size = cpu.code_size;
    let first = ops.len();
    ops.push(exec::lower(&insn, cpu.model));
    if !exec::ends_block(&insn) {
        ops.push(exec::fall_through(insn.len() as u16));
    }
    Ok(Block {
        span: Span::since(first, ops),
        size,
        start,
        bytes: in_page as u64,
        bytes_all: insn.len().max(in_page) as u64,
        second_page: Some(second),
    })
}

impl Span {
    /// The operations added since there were `first`.
    fn since(first: usize, ops: &[Op]) -> Span {
        let narrow = "OPS_KEPT_MAX and OPS_MAX are far below";
        Span {
            first: u32::try_from(first).expect(narrow),
            count: u16::try_from(ops.len() - first).expect(narrow),
        }
    }
}

#[cfg(test)]
mod tests {
    use x86::{seg, vector};

    use crate::rig::{CODE, Rig};

    /// inc eax; hlt
    const INC: &[u8] = &[0xff, 0xc0, 0xf4];

    #[test]
    fn a_code_segments_base_means_nothing_in_64_bit_code() {
        let mut rig = Rig::new();
        rig.cpu.segments[usize::from(seg::CS)].base = 2;
        rig.code(INC);
        // First the block is decoded, then it is known.
        for count in 1..=2 {
            rig.cpu.rip = CODE;
            rig.run();
            assert_eq!(rig.cpu.gpr[0], count);
        }
    }

    #[test]
    fn a_code_segments_end_is_seen_where_the_block_is_known_already() {
        let mut rig = Rig::new();
        rig.protected();
        rig.code(INC);
        rig.run();
        rig.cpu.segments[usize::from(seg::CS)].limit = (CODE - 1) as u32;
        rig.cpu.rip = CODE;
        rig.run();
        assert_eq!(rig.vector(), vector::GP);
    }
}
