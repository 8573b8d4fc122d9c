//! Which processor is announced, and so which instructions exist.

/// A processor that CPUID can announce. The levels are those of the x86-64
/// psABI; what a level doesn't have is `#UD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Model {
    /// x86-64-v2: SSE4.2, POPCNT, CMPXCHG16B, and XSAVE for the SSE state.
    #[default]
    V2,
    /// x86-64-v3: AVX, AVX2, BMI1, BMI2, FMA, F16C, LZCNT and MOVBE besides.
    V3,
}
