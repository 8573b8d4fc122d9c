//! The state components that XSAVE manages, and what CPUID leaf 0DH says of
//! them (SDM volume 1, 13.1 and 13.2).

/// XCR0\[0\]: the x87 unit. Always set.
pub const X87: u64 = 1 << 0;
/// XCR0\[1\]: XMM registers and MXCSR.
pub const SSE: u64 = 1 << 1;
/// The components there are.
pub const SUPPORTED: u64 = X87 | SSE;

const SUPPORTED_LOW: u32 = 3;
const _: () = assert!(SUPPORTED_LOW as u64 == SUPPORTED);

/// Bytes of an XSAVE area: the legacy region and the header. Both components
/// lie in the legacy region, in the standard and in the compacted format.
const AREA_BYTES: u32 = 576;

/// CPUID.0DH.1:EAX: XSAVEOPT, XSAVEC (with compacted XRSTOR), and XGETBV with
/// ECX = 1. XSAVES and XFD are not there.
const EXTENSIONS: u32 = 1 << 0 | 1 << 1 | 1 << 2;

/// EAX, EBX, ECX and EDX of CPUID leaf 0DH.
pub fn cpuid(subleaf: u32) -> [u32; 4] {
    match subleaf {
        0 => [SUPPORTED_LOW, AREA_BYTES, AREA_BYTES, 0],
        1 => [EXTENSIONS, AREA_BYTES, 0, 0],
        _ => [0; 4],
    }
}
