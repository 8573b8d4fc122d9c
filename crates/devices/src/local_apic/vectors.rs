//! Sets of interrupt vectors.

/// 256 bits, one for each vector, as three of the registers hold them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Vectors(pub(super) [u32; 8]);

impl Vectors {
    pub(super) fn highest(&self) -> Option<u8> {
        let word = self.0.iter().rposition(|word| *word != 0)?;
        let bit = 31 - self.0[word].leading_zeros();
        u8::try_from(word as u32 * 32 + bit).ok()
    }

    pub(super) fn set(&mut self, vector: u8, on: bool) {
        let word = &mut self.0[usize::from(vector / 32)];
        let bit = 1 << (vector % 32);
        *word = if on { *word | bit } else { *word & !bit };
    }

    pub(super) fn has(&self, vector: u8) -> bool {
        self.0[usize::from(vector / 32)] >> (vector % 32) & 1 != 0
    }
}
