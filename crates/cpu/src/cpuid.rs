//! What CPUID announces (SDM volume 2A, CPUID): exactly what is implemented.
//!
//! The model number is a Westmere's, the last whose features are those of
//! x86-64-v2: kernels have no quirk for it that ours would mind, and the C
//! library chooses for it what is quick here, `rep movsb` and unaligned copies,
//! where it would do without for a model that it doesn't know. None of it comes
//! from the host.

use x86::control::cr4;

use crate::walk::PHYSICAL_BITS;
use crate::xstate;
use crate::{Cpu, Model};

/// EAX, EBX, ECX, EDX.
type Leaf = [u32; 4];

const NONE: Leaf = [0; 4];

/// Sets of feature bits by their numbers.
const fn bits(numbers: &[u32]) -> u32 {
    let mut set = 0;
    let mut n = 0;
    while n < numbers.len() {
        set |= 1 << numbers[n];
        n += 1;
    }
    set
}

const LEAF_MAX: u32 = 0x16;
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
const EXTENDED_LEAF: u32 = 0x8000_0000;
const EXTENDED_LEAF_MAX: u32 = 0x8000_0008;

/// Family 6, model 0x2c, stepping 2.
const SIGNATURE: u32 = 0x0002_06c2;

/// Leaf 1 ECX: SSE3, SSSE3, CMPXCHG16B, PCID, SSE4.1, SSE4.2, x2APIC, POPCNT,
/// TSC-deadline, XSAVE, a hypervisor.
const FEATURES_1_ECX: u32 = bits(&[0, 9, 13, 17, 19, 20, 21, 23, 24, 26, 31]);
/// Leaf 1 ECX of x86-64-v3 besides: FMA, MOVBE, AVX, F16C.
const FEATURES_1_ECX_V3: u32 = bits(&[12, 22, 28, 29]);
/// OSXSAVE, which follows CR4.
const OSXSAVE: u32 = 1 << 27;
/// Leaf 1 EDX: FPU, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE,
/// MCA, CMOV, PAT, CLFSH, MMX, FXSR, SSE, SSE2.
const FEATURES_1_EDX: u32 = bits(&[
    0, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 19, 23, 24, 25, 26,
]);
/// Leaf 7 EBX: FSGSBASE, TSC_ADJUST, FDP_EXCPTN_ONLY, SMEP, ERMS, INVPCID, no
/// FCS and FDS, SMAP.
const FEATURES_7_EBX: u32 = bits(&[0, 1, 6, 7, 9, 10, 13, 20]);
/// Leaf 7 EBX of x86-64-v3 besides: BMI1, AVX2, BMI2.
const FEATURES_7_EBX_V3: u32 = bits(&[3, 5, 8]);
/// Leaf 7 ECX: UMIP.
const FEATURES_7_ECX: u32 = bits(&[2]);
/// Leaf 7 EDX: FSRM, IBRS and IBPB, ARCH_CAPABILITIES.
const FEATURES_7_EDX: u32 = bits(&[4, 26, 29]);
/// Leaf 7.2 EDX: BHI_CTRL, MCDT_NO. Kernels distrust BHI_NO and would run a
/// loop at every system call, unless they can ask the processor for the same.
const FEATURES_7_2_EDX: u32 = bits(&[4, 5]);
/// Leaf 80000001H ECX: LAHF in 64-bit mode, PREFETCHW.
const FEATURES_X1_ECX: u32 = bits(&[0, 8]);
/// Leaf 80000001H ECX of x86-64-v3 besides: LZCNT.
const FEATURES_X1_ECX_V3: u32 = bits(&[5]);
/// Leaf 80000001H EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, 64-bit mode.
const FEATURES_X1_EDX: u32 = bits(&[11, 20, 26, 27, 29]);

/// What CPUID gives for `leaf` and `subleaf`.
pub(crate) fn leaf(cpu: &Cpu, leaf: u32, subleaf: u32) -> Leaf {
    match leaf {
        0..=LEAF_MAX => basic(cpu, leaf, subleaf),
        HYPERVISOR_LEAF => {
            let [b, c, d] = words(b"ReVirtReVirt");
            [HYPERVISOR_LEAF, b, c, d]
        }
        EXTENDED_LEAF..=EXTENDED_LEAF_MAX => extended(cpu.model, leaf),
        // Beyond the last: as the last basic leaf.
        _ => basic(cpu, LEAF_MAX, subleaf),
    }
}

fn basic(cpu: &Cpu, leaf: u32, subleaf: u32) -> Leaf {
    match leaf {
        0 => {
            let [b, d, c] = words(b"GenuineIntel");
            [LEAF_MAX, b, c, d]
        }
        1 => {
            let osxsave = if cpu.cr4 & cr4::OSXSAVE != 0 {
                OSXSAVE
            } else {
                0
            };
            // A line of 64 bytes, one logical processor, APIC number 0.
            let others = 8 << 8 | 1 << 16;
            let features = FEATURES_1_ECX | v3(cpu.model, FEATURES_1_ECX_V3);
            [SIGNATURE, others, features | osxsave, FEATURES_1_EDX]
        }
        // Caches are told by leaf 4.
        2 => [0x00ff_ff01, 0, 0, 0],
        4 => cache(subleaf),
        // The APIC timer always runs.
        6 => [1 << 2, 0, 0, 0],
        7 => match subleaf {
            0 => {
                let features = FEATURES_7_EBX | v3(cpu.model, FEATURES_7_EBX_V3);
                [2, features, FEATURES_7_ECX, FEATURES_7_EDX]
            }
            2 => [0, 0, 0, FEATURES_7_2_EDX],
            _ => NONE,
        },
        // One thread in a core, one core in a package.
        0xb => match subleaf {
            0 => [0, 1, 1 << 8, 0],
            1 => [0, 1, 2 << 8 | 1, 0],
            _ => [0, 0, subleaf & 0xff, 0],
        },
        0xd => xstate::cpuid(cpu.model, cpu.xcr0, subleaf),
        0x15 => {
            let (numerator, crystal_hz) = crystal(cpu.tsc_hz);
            [1, numerator, crystal_hz, 0]
        }
        0x16 => {
            // In MHz, 16 bits wide.
            let mhz = u32::from(u16::try_from(cpu.tsc_hz / 1_000_000).unwrap_or(u16::MAX));
            [mhz, mhz, 100, 0]
        }
        _ => NONE,
    }
}

/// The crystal of leaf 15H, as (times the TSC is faster, frequency in Hz). It
/// is the APIC timer's clock too, which the board drives at the TSC's rate: so
/// the ratio is 1 wherever the frequency fits.
fn crystal(tsc_hz: u64) -> (u32, u32) {
    (1..=32)
        .filter(|ratio| tsc_hz.is_multiple_of(u64::from(*ratio)))
        .find_map(|ratio| Some((ratio, u32::try_from(tsc_hz / u64::from(ratio)).ok()?)))
        .unwrap_or((0, 0))
}

/// Leaf 4: 32 KiB each of data and instructions, 1 MiB and 16 MiB for both,
/// in lines of 64 bytes.
fn cache(subleaf: u32) -> Leaf {
    let describe = |kind: u32, level: u32, ways: u32, sets: u32| {
        let eax = kind | level << 5 | 1 << 8;
        [eax, (ways - 1) << 22 | 63, sets - 1, 0]
    };
    match subleaf {
        0 => describe(1, 1, 8, 64),
        1 => describe(2, 1, 8, 64),
        2 => describe(3, 2, 16, 1024),
        3 => describe(3, 3, 16, 16384),
        _ => NONE,
    }
}

/// `bits` if `model` has what x86-64-v3 adds.
fn v3(model: Model, bits: u32) -> u32 {
    match model {
        Model::V2 => 0,
        Model::V3 => bits,
    }
}

const BRAND_V2: &[u8; 48] = b"ReVirt software processor, x86-64-v2\0\0\0\0\0\0\0\0\0\0\0\0";
const BRAND_V3: &[u8; 48] = b"ReVirt software processor, x86-64-v3\0\0\0\0\0\0\0\0\0\0\0\0";

fn extended(model: Model, leaf: u32) -> Leaf {
    let name = match model {
        Model::V2 => BRAND_V2,
        Model::V3 => BRAND_V3,
    };
    let brand = |n: usize| {
        let [a, b, c, d]: Leaf = std::array::from_fn(|word| {
            let at = 16 * n + 4 * word;
            u32::from_le_bytes([name[at], name[at + 1], name[at + 2], name[at + 3]])
        });
        [a, b, c, d]
    };
    match leaf & 0xff {
        0 => [EXTENDED_LEAF_MAX, 0, 0, 0],
        1 => {
            let features = FEATURES_X1_ECX | v3(model, FEATURES_X1_ECX_V3);
            [0, 0, features, FEATURES_X1_EDX]
        }
        2 => brand(0),
        3 => brand(1),
        4 => brand(2),
        // The second-level cache: 1 MiB, 16 ways, lines of 64 bytes.
        6 => [0, 0, 1024 << 16 | 8 << 12 | 64, 0],
        // The TSC runs at one rate always.
        7 => [0, 0, 0, 1 << 8],
        8 => [48 << 8 | PHYSICAL_BITS, 0, 0, 0],
        _ => NONE,
    }
}

fn words(text: &[u8; 12]) -> [u32; 3] {
    std::array::from_fn(|n| {
        u32::from_le_bytes([
            text[4 * n],
            text[4 * n + 1],
            text[4 * n + 2],
            text[4 * n + 3],
        ])
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rig::Rig;

    #[test]
    fn the_vendor_is_one_whose_tsc_frequency_kernels_read() {
        let rig = Rig::new();
        let [_, b, c, d] = leaf(&rig.cpu, 0, 0);
        let name: Vec<u8> = [b, d, c].iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(name, b"GenuineIntel");
    }

    #[test]
    fn the_tsc_frequency_is_told_exactly() {
        let mut rig = Rig::new();
        for hz in [1_000_000_000, 3_000_000_001, 9_600_000_000] {
            rig.cpu.tsc_hz = hz;
            let [denominator, numerator, crystal, _] = leaf(&rig.cpu, 0x15, 0).map(u64::from);
            assert_eq!(crystal * numerator, hz * denominator);
        }
    }

    #[test]
    fn osxsave_follows_cr4() {
        let mut rig = Rig::new();
        assert_eq!(leaf(&rig.cpu, 1, 0)[2] & OSXSAVE, 0);
        rig.cpu.cr4 |= cr4::OSXSAVE;
        assert_ne!(leaf(&rig.cpu, 1, 0)[2] & OSXSAVE, 0);
    }
}
