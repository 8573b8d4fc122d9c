//! Where two outcomes of a case differ, in words.

use std::fmt::Write;

use crate::case::{Case, Change, End, Fault, Mode, Outcome};
use crate::layout::PAGE_BYTES;
use crate::state::{FxImage, MachineState, flag, gpr};
use crate::undefined::{Open, VectorBits, is_access_fault};

/// The first linear address that Linux keeps from user code; it does not tell whether one above is
/// present.
const USER_END: u64 = 0x7fff_ffff_f000;

/// Everything in which `got` differs from `expected`, a line each; empty if nothing does.
///
/// RF and what `open` names are not compared, nor the x87 instruction and data pointers, nor, of
/// 32-bit code, the registers that it can't see.
pub fn differences(case: &Case, expected: &Outcome, got: &Outcome, open: &Open) -> Vec<String> {
    let mut found = Vec::new();
    let ends = (visible_end(expected.end), visible_end(got.end));
    if matches!(ends, (End::Endless, _) | (_, End::Endless)) {
        // Where a long run was cut off says nothing.
        return found;
    }
    if open.refusal && is_access_fault(expected.end) != is_access_fault(got.end) {
        return found;
    }
    let order = are_near(ends, open.fault_span)
        || open.fault && matches!(ends, (End::Fault(_), End::Fault(_)))
        || open.limit
            && is_limit(ends.0) != is_limit(ends.1)
            && is_access_fault(ends.0)
            && is_access_fault(ends.1);
    if ends.0 != ends.1 && !order {
        found.push(format!("end: expected {}, got {}", expected.end, got.end));
    }
    let (a, b) = (seen(case, &expected.state), seen(case, &got.state));
    for (i, name) in gpr::NAMES.iter().enumerate() {
        if open.gprs >> i & 1 == 0 {
            let is_cut = open.upper_halves >> i & 1 != 0;
            let mask = if is_cut { 0xffff_ffff } else { u64::MAX };
            number(&mut found, name, a.gpr[i] & mask, b.gpr[i] & mask);
        }
    }
    number(&mut found, "rip", a.rip, b.rip);
    if (a.rflags ^ b.rflags) & !(open.flags | flag::RF) != 0 {
        let (a, b) = (a.rflags & !open.flags, b.rflags & !open.flags);
        found.push(format!(
            "flags: expected {}, got {}",
            flags_text(a),
            flags_text(b)
        ));
    }
    number(&mut found, "fs.base", a.fs_base, b.fs_base);
    number(&mut found, "gs.base", a.gs_base, b.gs_base);
    fx_differences(&mut found, &a.fx, &b.fx, open);
    for (i, (&a, &b)) in a.ymm_high.iter().zip(&b.ymm_high).enumerate() {
        if vectors_differ(a, b, open, |bits| (bits.register == i).then_some(bits.high)) {
            found.push(format!("ymm{i}.high: expected {a:#034x}, got {b:#034x}"));
        }
    }
    memory_differences(&mut found, case, &expected.changes, &got.changes, open);
    found
}

/// Flags by name, or `none`.
pub fn flags_text(rflags: u64) -> String {
    let names: Vec<&str> = flag::NAMES
        .iter()
        .filter(|(_, bit)| *bit != flag::IF && rflags & bit != 0)
        .map(|(name, _)| *name)
        .collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(",")
    }
}

/// Whether both are page faults less than `span` bytes apart, and alike if in one page.
fn are_near(ends: (End, End), span: u64) -> bool {
    let (End::Fault(a), End::Fault(b)) = ends else {
        return false;
    };
    a.address.zip(b.address).is_some_and(|(x, y)| {
        x.abs_diff(y) < span && (a.error == b.error || x / PAGE_BYTES != y / PAGE_BYTES)
    })
}

/// Whether it is how a segment's limit refuses an access.
fn is_limit(end: End) -> bool {
    matches!(end, End::Fault(fault) if matches!(fault.vector, 12 | 13))
}

fn visible_end(end: End) -> End {
    let End::Fault(
        fault @ Fault {
            vector: 14,
            address: Some(address),
            ..
        },
    ) = end
    else {
        return end;
    };
    End::Fault(Fault {
        error: if address >= USER_END {
            fault.error | 1
        } else {
            fault.error
        },
        ..fault
    })
}

/// A state without what its mode can't see.
fn seen(case: &Case, state: &MachineState) -> MachineState {
    let mut state = *state;
    if case.mode == Mode::Compat {
        state.gpr.iter_mut().for_each(|value| *value &= 0xffff_ffff);
        state.gpr[8..].fill(0);
        (8..16).for_each(|i| state.fx.set_xmm(i, 0));
        state.ymm_high[8..].fill(0);
    }
    state.fx.clear_reserved();
    state
}

fn number(found: &mut Vec<String>, name: &str, expected: u64, got: u64) {
    if expected != got {
        found.push(format!("{name}: expected {expected:#x}, got {got:#x}"));
    }
}

fn fx_differences(found: &mut Vec<String>, expected: &FxImage, got: &FxImage, open: &Open) {
    if !open.x87 {
        x87_differences(found, expected, got, open);
    }
    if !open.mxcsr {
        number(found, "mxcsr", expected.mxcsr().into(), got.mxcsr().into());
    }
    for i in 0..16 {
        let (a, b) = (expected.xmm(i), got.xmm(i));
        if vectors_differ(a, b, open, |bits| (bits.register == i).then_some(bits.low)) {
            found.push(format!("xmm{i}: expected {a:#034x}, got {b:#034x}"));
        }
    }
}

/// Whether two halves of a vector register differ in more than is open; `bits` tells which of
/// [`Open::vectors`] are this half's.
fn vectors_differ(
    a: u128,
    b: u128,
    open: &Open,
    bits: impl Fn(&VectorBits) -> Option<u128>,
) -> bool {
    let free = open.vectors.iter().filter_map(bits);
    let mask = !free.fold(0, |all, bits| all | bits);
    (a ^ b) & mask != 0
        && !(open.approximate && singles_are_near(a, b))
        && !open.nan.is_some_and(|bits| differ_in_nans(a, b, bits))
}

/// Whether each lane of `bits` bits, 32 or 64, that differs is a NaN on both sides.
fn differ_in_nans(a: u128, b: u128, bits: u32) -> bool {
    (0..128).step_by(bits as usize).all(|shift| {
        let lanes = [a, b].map(|value| (value >> shift) as u64);
        let is_nan = |lane: u64| match bits {
            32 => f32::from_bits(lane as u32).is_nan(),
            _ => f64::from_bits(lane).is_nan(),
        };
        let mask = u64::MAX >> (64 - bits);
        (lanes[0] ^ lanes[1]) & mask == 0 || lanes.into_iter().all(is_nan)
    })
}

fn x87_differences(found: &mut Vec<String>, expected: &FxImage, got: &FxImage, open: &Open) {
    let invalid = expected.fsw() & 1 != 0;
    let mut mask = !(open.fsw | if invalid { open.fsw_if_invalid } else { 0 });
    if open.top {
        mask &= !TOP;
    }
    number(found, "fcw", expected.fcw().into(), got.fcw().into());
    number(
        found,
        "fsw",
        (expected.fsw() & mask).into(),
        (got.fsw() & mask).into(),
    );
    number(found, "ftw", expected.ftw().into(), got.ftw().into());
    for i in 0..8 {
        let (a, b) = if open.top {
            (physical(expected, i), physical(got, i))
        } else {
            (expected.st(i), got.st(i))
        };
        let near =
            i < 2 && open.st_ulps > 0 && ulps(&unscaled(a, got), &unscaled(b, got)) <= open.st_ulps;
        if a != b && !near {
            found.push(format!(
                "st{i}: expected {}, got {}",
                st_text(&a),
                st_text(&b)
            ));
        }
    }
}

/// Where the status word tells the top of the x87 stack.
const TOP: u16 = 7 << 11;

/// The x87 register `i`, wherever the top of the stack is.
fn physical(image: &FxImage, i: usize) -> [u8; 10] {
    let top = usize::from((image.fsw() & TOP) >> 11);
    image.st((i + 8 - top) % 8)
}

/// A result just below the smallest normal number, as it was before the unmasked underflow, which
/// is open, of the unit `image` multiplied it by 2 to the 24576th (SDM vol. 1, 8.5.5).
fn unscaled(mut st: [u8; 10], image: &FxImage) -> [u8; 10] {
    const UNDERFLOW_MASK: u16 = 1 << 4;
    let is_scaled = st[8] == 0 && st[9] & 0x7f == 0x60;
    if image.fcw() & UNDERFLOW_MASK == 0 && is_scaled {
        st[9] &= 0x80;
    }
    st
}

/// How far two extended numbers of one sign lie apart, in units of the last place.
fn ulps(a: &[u8; 10], b: &[u8; 10]) -> u64 {
    let parts = |st: &[u8; 10]| {
        let exponent = u16::from_le_bytes([st[8], st[9]]);
        let significand = u64::from_le_bytes(st[..8].try_into().expect("8 of 10 bytes"));
        // A denormal number is counted in the units of the smallest normal ones.
        let is_denormal = exponent & 0x7fff == 0 && significand >> 63 == 0;
        (exponent | u16::from(is_denormal), significand)
    };
    let ((ea, sa), (eb, sb)) = (parts(a), parts(b));
    if ea == eb {
        sa.abs_diff(sb)
    } else if ea.abs_diff(eb) == 1 && (ea ^ eb) & 0x8000 == 0 {
        // Either side of a power of two.
        let (low, high) = if ea < eb { (sa, sb) } else { (sb, sa) };
        (u64::MAX - low)
            .saturating_add(high - (1 << 63))
            .saturating_add(1)
    } else {
        u64::MAX
    }
}

/// Whether every lane is within the 1.5 * 2^-12 that RCPPS and RSQRTPS promise, of either side.
fn singles_are_near(a: u128, b: u128) -> bool {
    (0..4).all(|lane| {
        let single = |v: u128| f32::from_bits((v >> (32 * lane)) as u32);
        let (a, b) = (single(a), single(b));
        a.to_bits() == b.to_bits() || (a - b).abs() <= 2.0 * 1.5 / 4096.0 * a.abs()
    })
}

fn memory_differences(
    found: &mut Vec<String>,
    case: &Case,
    expected: &[Change],
    got: &[Change],
    open: &Open,
) {
    let mut addresses: Vec<u64> = expected
        .iter()
        .chain(got)
        .map(|change| change.address)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    for address in addresses {
        let before = u64::from_le_bytes(std::array::from_fn(|i| {
            case.byte_before(address + i as u64)
        }));
        let after = |changes: &[Change]| {
            changes
                .iter()
                .find(|change| change.address == address)
                .map_or(before, |change| change.value)
        };
        let mut mask = [0xff; 8];
        for (i, byte) in mask.iter_mut().enumerate() {
            if open
                .memory
                .iter()
                .any(|range| range.contains(&(address + i as u64)))
            {
                *byte = 0;
            }
        }
        let mask = u64::from_le_bytes(mask);
        let (a, b) = (after(expected), after(got));
        if (a ^ b) & mask != 0 {
            found.push(format!(
                "[{address:#x}]: was {before:#018x}, expected {a:#018x}, got {b:#018x}"
            ));
        }
    }
}

/// A case and where it went wrong, for a person: the instruction, what it started from, how the
/// subjects' outcomes differ.
pub fn report(case: &Case, differences: &[String]) -> String {
    let mut text = String::new();
    let bytes: Vec<String> = case.code.iter().map(|byte| format!("{byte:02x}")).collect();
    let _ = writeln!(
        text,
        "{}\n  {}   {}",
        case.name,
        bytes.join(" "),
        case.disassembly()
    );
    for difference in differences {
        let _ = writeln!(text, "  {difference}");
    }
    let _ = write!(text, "  from:");
    for (i, value) in case.state.gpr.iter().enumerate() {
        let _ = write!(text, " {}={value:#x}", gpr::NAMES[i]);
    }
    let state = &case.state;
    let _ = writeln!(
        text,
        "\n        rip={:#x} flags={} fs.base={:#x} gs.base={:#x}",
        state.rip,
        flags_text(state.rflags),
        state.fs_base,
        state.gs_base
    );
    let _ = write!(text, "       ");
    for (name, value) in fx_fields(&state.fx)
        .into_iter()
        .chain(ymm_changes(&[0; 16], &state.ymm_high))
    {
        let _ = write!(text, " {name}={value}");
    }
    for patch in &case.patches {
        let bytes: Vec<String> = patch
            .bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let _ = write!(
            text,
            "\n        [{:#x}] = {}",
            patch.address,
            bytes.join(" ")
        );
    }
    text.push('\n');
    text
}

/// The x87 and SSE registers that differ from their initial values, as names and hexadecimal text.
pub fn fx_fields(image: &FxImage) -> Vec<(String, String)> {
    fx_changes(&FxImage::initial(), image)
}

/// The x87 and SSE registers of `after` that differ from `before`.
pub fn fx_changes(before: &FxImage, after: &FxImage) -> Vec<(String, String)> {
    all_fx_fields(before)
        .into_iter()
        .zip(all_fx_fields(after))
        .filter(|(a, b)| a != b)
        .map(|(_, b)| b)
        .collect()
}

/// The upper halves of YMM registers of `after` that differ from `before`.
pub fn ymm_changes(before: &[u128; 16], after: &[u128; 16]) -> Vec<(String, String)> {
    let pairs = before.iter().zip(after).enumerate();
    pairs
        .filter(|(_, (before, after))| before != after)
        .map(|(i, (_, after))| (format!("ymm{i}.high"), format!("{after:#034x}")))
        .collect()
}

fn all_fx_fields(image: &FxImage) -> Vec<(String, String)> {
    let mut fields = vec![
        ("fcw".into(), format!("{:#06x}", image.fcw())),
        ("fsw".into(), format!("{:#06x}", image.fsw())),
        ("ftw".into(), format!("{:#04x}", image.ftw())),
        ("mxcsr".into(), format!("{:#06x}", image.mxcsr())),
    ];
    fields.extend((0..8).map(|i| (format!("st{i}"), st_text(&image.st(i)))));
    fields.extend((0..16).map(|i| (format!("xmm{i}"), format!("{:#034x}", image.xmm(i)))));
    fields
}

/// An x87 register as sign and exponent, colon, significand.
pub fn st_text(st: &[u8; 10]) -> String {
    let significand = u64::from_le_bytes(st[..8].try_into().expect("8 of 10 bytes"));
    format!("{:02x}{:02x}:{significand:016x}", st[9], st[8])
}
