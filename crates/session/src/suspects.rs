//! Which pages may be at fault when a digest of memory differs.
//!
//! The log holds one digest for all of memory. So a page can't be convicted by
//! it; but it is either among those that the guest wrote since the last digest
//! that agreed, or it changed although nothing wrote to it.

use std::fmt;

use machine::Machine;
use memory::flag;
use seal::Digest;
use x86::{PAGE_BYTES, Physical};

/// Pages to look at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects {
    /// Changed although nothing wrote to them: the host's memory failed, or
    /// this program did.
    pub unwritten: Vec<Physical>,
    /// Written since the last digest.
    pub written: Vec<Physical>,
}

/// So many addresses are shown.
const SHOWN: usize = 8;

impl Suspects {
    /// The digest of the machine's memory (all of it hashed anew, or what was
    /// written) and who is to blame should it differ.
    pub(crate) fn digest_memory(machine: &mut Machine, all: bool) -> (Digest, Suspects) {
        let written: Vec<u64> = machine.cpu().ram.pages().with(flag::DIRTY).collect();
        if !all {
            let digest = machine.digest_memory();
            return (
                digest,
                Suspects {
                    unwritten: Vec::new(),
                    written: addresses(&written),
                },
            );
        }
        let pages: Vec<u64> = machine
            .cpu()
            .ram
            .ranges()
            .flat_map(|(start, bytes)| {
                start.page_number()..start.page_number() + bytes / PAGE_BYTES
            })
            .collect();
        let before: Vec<Digest> = pages
            .iter()
            .map(|number| machine.page_digest(*number))
            .collect();
        let digest = machine.digest_memory_fully();
        let is_suspect = |(number, before): &(&u64, Digest)| {
            machine.page_digest(**number) != *before && written.binary_search(number).is_err()
        };
        let unwritten: Vec<u64> = pages
            .iter()
            .zip(before)
            .filter(is_suspect)
            .map(|(number, _)| *number)
            .collect();
        (
            digest,
            Suspects {
                unwritten: addresses(&unwritten),
                written: addresses(&written),
            },
        )
    }
}

fn addresses(numbers: &[u64]) -> Vec<Physical> {
    numbers
        .iter()
        .map(|number| Physical(number * PAGE_BYTES))
        .collect()
}

impl fmt::Display for Suspects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pages, what) = if self.unwritten.is_empty() {
            (&self.written, "written since the last digest that agreed")
        } else {
            (&self.unwritten, "changed although nothing wrote to it")
        };
        if pages.is_empty() {
            return write!(f, "no page was written since the last digest that agreed");
        }
        write!(f, "{what}: page")?;
        for page in &pages[..pages.len().min(SHOWN)] {
            write!(f, " {:#x}", page.0)?;
        }
        if pages.len() > SHOWN {
            write!(f, " and {} more", pages.len() - SHOWN)
        } else {
            Ok(())
        }
    }
}
