//! The state components that XSAVE manages, and what CPUID leaf 0DH says of
//! them (SDM volume 1, 13.1 and 13.2).

use crate::Model;

/// XCR0\[0\]: the x87 unit. Always set.
pub const X87: u64 = 1 << 0;
/// XCR0\[1\]: XMM registers and MXCSR.
pub const SSE: u64 = 1 << 1;
/// XCR0\[2\]: the upper halves of the YMM registers.
pub const AVX: u64 = 1 << 2;

/// The components that `model` has.
pub const fn supported(model: Model) -> u64 {
    match model {
        Model::V2 => X87 | SSE,
        Model::V3 => X87 | SSE | AVX,
    }
}

/// Bytes of the legacy region and the header: the components of x86-64-v2 lie
/// in the legacy region, in the standard and in the compacted format.
pub(crate) const AREA_BYTES: u64 = 576;
/// Where the upper halves of the YMM registers lie, in both formats: right
/// behind, as there is no other component.
pub(crate) const YMM_HIGH: u64 = AREA_BYTES;
/// Their length in bytes.
pub(crate) const YMM_HIGH_BYTES: u64 = 256;

/// Bytes of an area that holds `components`.
pub(crate) const fn area_bytes(components: u64) -> u64 {
    if components & AVX != 0 {
        YMM_HIGH + YMM_HIGH_BYTES
    } else {
        AREA_BYTES
    }
}

/// CPUID.0DH.1:EAX: XSAVEOPT, XSAVEC (with compacted XRSTOR), and XGETBV with
/// ECX = 1. XSAVES and XFD are not there.
const EXTENSIONS: u32 = 1 << 0 | 1 << 1 | 1 << 2;

/// EAX, EBX, ECX and EDX of CPUID leaf 0DH on `model`, with XCR0 as it is.
pub(crate) fn cpuid(model: Model, xcr0: u64, subleaf: u32) -> [u32; 4] {
    let supported = supported(model);
    // All of these numbers are small.
    let bytes = |components| area_bytes(components) as u32;
    match subleaf {
        0 => [supported as u32, bytes(xcr0), bytes(supported), 0],
        1 => [EXTENSIONS, bytes(xcr0), 0, 0],
        2 if supported & AVX != 0 => [YMM_HIGH_BYTES as u32, YMM_HIGH as u32, 0, 0],
        _ => [0; 4],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lower_level_has_nothing_beyond_the_header() {
        let xcr0 = X87 | SSE;
        assert_eq!(cpuid(Model::V2, xcr0, 0), [3, 576, 576, 0]);
        assert_eq!(cpuid(Model::V2, xcr0, 1), [7, 576, 0, 0]);
        assert_eq!(cpuid(Model::V2, xcr0, 2), [0; 4]);
    }

    #[test]
    fn the_size_follows_what_is_enabled() {
        assert_eq!(cpuid(Model::V3, X87 | SSE, 0), [7, 576, 832, 0]);
        assert_eq!(cpuid(Model::V3, X87 | SSE | AVX, 0), [7, 832, 832, 0]);
        assert_eq!(cpuid(Model::V3, X87, 2), [256, 576, 0, 0]);
    }
}
