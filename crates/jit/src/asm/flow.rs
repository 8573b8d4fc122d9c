//! Jumps, calls, and what binds them to their targets.

use super::{Asm, Mem, Rm, Section};

/// The place of a jump's 32-bit displacement.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct Fix {
    at: usize,
    section: Section,
}

/// The place of a jump's 8-bit displacement.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub(crate) struct NearFix(usize);

/// The condition code of a jump (SDM volume 1, appendix B).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Condition(pub(crate) u8);

impl Condition {
    pub(crate) const EQUAL: Condition = Condition(4);
    pub(crate) const NOT_EQUAL: Condition = Condition(5);
    pub(crate) const ABOVE: Condition = Condition(7);
    pub(crate) const BELOW: Condition = Condition(2);
    pub(crate) const BELOW_OR_EQUAL: Condition = Condition(6);
    pub(crate) const ABOVE_OR_EQUAL: Condition = Condition(3);
}

impl Asm {
    /// `ret`.
    pub(crate) fn ret(&mut self) {
        self.bytes.push(0xc3);
    }

    /// `call [target]`.
    pub(crate) fn call_memory(&mut self, target: Mem) {
        self.encode(false, &[0xff], 2, &Rm::Memory(target), false);
    }

    /// `jmp [target]`.
    pub(crate) fn jmp_memory(&mut self, target: Mem) {
        self.encode(false, &[0xff], 4, &Rm::Memory(target), false);
    }

    /// `jmp`, to be bound.
    pub(crate) fn jmp(&mut self) -> Fix {
        self.bytes.push(0xe9);
        self.displacement()
    }

    /// `jcc`, to be bound.
    pub(crate) fn jcc(&mut self, condition: Condition) -> Fix {
        self.raw(&[0x0f, 0x80 | condition.0]);
        self.displacement()
    }

    /// `jmp` to offset `target` in code memory.
    pub(crate) fn jmp_to(&mut self, target: u32) {
        let fix = self.jmp();
        self.bind_to(fix, target);
    }

    /// `jcc` to offset `target` in code memory.
    pub(crate) fn jcc_to(&mut self, condition: Condition, target: u32) {
        let fix = self.jcc(condition);
        self.bind_to(fix, target);
    }

    /// `call` to offset `target` in code memory.
    pub(crate) fn call_to(&mut self, target: u32) {
        self.index_changed = true;
        self.bytes.push(0xe8);
        let fix = self.displacement();
        self.bind_to(fix, target);
    }

    /// `jrcxz`, to a place within 127 bytes that is bound by [`Asm::bind_near`].
    pub(crate) fn jrcxz(&mut self) -> NearFix {
        self.raw(&[0xe3, 0]);
        NearFix(self.bytes.len() - 1)
    }

    /// `jecxz` to offset `target` in code memory, at most 128 bytes back.
    pub(crate) fn jecxz_to(&mut self, target: u32) {
        self.raw(&[0x67, 0xe3, 0]);
        let distance = i64::from(target) - i64::from(self.here());
        let distance = i8::try_from(distance).expect("bug: the target of a JECXZ is too far");
        let last = self.bytes.len() - 1;
        self.bytes[last] = distance.to_le_bytes()[0];
    }

    /// Makes a `jrcxz` go here.
    pub(crate) fn bind_near(&mut self, fix: NearFix) {
        let distance = self.bytes.len() - (fix.0 + 1);
        let distance = i8::try_from(distance).expect("bug: the target of a JRCXZ is too far");
        self.bytes[fix.0] = distance.to_le_bytes()[0];
    }

    fn displacement(&mut self) -> Fix {
        self.raw(&[0; 4]);
        Fix {
            at: self.bytes.len() - 4,
            section: self.section,
        }
    }

    /// Makes a jump go here.
    pub(crate) fn bind(&mut self, fix: Fix) {
        self.bind_to(fix, self.here());
    }

    /// Makes a jump go to offset `target` in code memory.
    pub(crate) fn bind_to(&mut self, fix: Fix, target: u32) {
        let from = self.offset_of(fix) + 4;
        let displacement = target.wrapping_sub(from);
        let bytes = if fix.section == self.section {
            &mut self.bytes
        } else {
            &mut self.other.1
        };
        bytes[fix.at..fix.at + 4].copy_from_slice(&displacement.to_le_bytes());
    }

    /// The offset in code memory of a jump's displacement.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "a block is far below 4 GiB"
    )]
    pub(crate) fn offset_of(&self, fix: Fix) -> u32 {
        let origin = if fix.section == self.section {
            self.origin
        } else {
            self.other.0
        };
        origin + fix.at as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::asm::tests::text;

    #[test]
    fn jumps_go_where_they_are_bound() {
        let mut asm = Asm::new(0x1000, 0x8000);
        let forward = asm.jcc(Condition::ABOVE);
        let near = asm.jrcxz();
        asm.jmp_to(0x1000);
        asm.bind_near(near);
        asm.bind(forward);
        assert_eq!(
            text(&asm),
            ["ja 0x000000000000000D", "jrcxz 0x000000000000000D", "jmp 0"]
        );
    }
}
