//! Words: what one PUSH, POP, CALL or RET moves, and how wide an address is.
//! 8 bytes in 64-bit code, 4 in 32-bit code.

use iced_x86::Register;

use super::Translator;
use super::memory::Access;
use crate::asm::Mem;
use crate::register::{Host, STACK};

impl Translator<'_> {
    /// [`Mode::word_bytes`](crate::cache::Mode::word_bytes).
    pub(super) fn word_bytes(&self) -> u8 {
        self.key.mode.word_bytes()
    }

    /// Whether `register` is a general one as wide.
    pub(super) fn is_word(&self, register: Register) -> bool {
        register.is_gpr() && register.size() == usize::from(self.word_bytes())
    }

    /// One word read, wherever it lies.
    pub(super) fn read_word(&self) -> Access {
        self.read_words(1)
    }

    /// `count` words read, wherever they lie.
    pub(super) fn read_words(&self, count: u8) -> Access {
        Access {
            bytes: self.word_bytes() * count,
            write: false,
            aligned: false,
        }
    }

    pub(super) fn load_word(&mut self, to: Host, from: Mem) {
        if self.key.mode.narrow {
            self.asm.load_32(to, from);
        } else {
            self.asm.load(to, from);
        }
    }

    pub(super) fn store_word(&mut self, to: Mem, from: Host) {
        if self.key.mode.narrow {
            self.asm.store_32(to, from);
        } else {
            self.asm.store(to, from);
        }
    }

    pub(super) fn mov_word(&mut self, to: Host, from: Host) {
        if self.key.mode.narrow {
            self.asm.mov_32(to, from);
        } else {
            self.asm.mov(to, from);
        }
    }

    pub(super) fn lea_word(&mut self, to: Host, from: Mem) {
        if self.key.mode.narrow {
            self.asm.lea_32(to, from);
        } else {
            self.asm.lea(to, from);
        }
    }

    /// Length in bytes of so many words.
    pub(super) fn words_bytes(&self, words: i32) -> i32 {
        i32::from(self.word_bytes()) * words
    }

    /// Moves the guest's stack pointer by so many words, and then by so many
    /// bytes.
    pub(super) fn move_stack(&mut self, words: i32, bytes: i32) {
        let disp = self.words_bytes(words) + bytes;
        self.lea_word(STACK, Mem::base(STACK, disp));
    }

    /// The place of word number `n` from the address in `base` on.
    pub(super) fn word_at(&self, base: Host, n: i32) -> Mem {
        Mem::base(base, self.words_bytes(n))
    }
}
