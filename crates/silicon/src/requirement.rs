//! What the host's processor must have: the level that the guest gets.

/// A level of the x86-64 psABI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// x86-64-v2.
    V2,
    /// x86-64-v3.
    V3,
}

/// The host's processor lacks an extension that guest code will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The extension's name as in `/proc/cpuinfo`.
    pub extension: &'static str,
    /// The level that it belongs to.
    pub level: Level,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let extension = self.extension;
        match self.level {
            Level::V2 => write!(
                f,
                "this processor lacks {extension}: a host of level x86-64-v2 is needed (Intel from 2009, AMD from 2011)"
            ),
            Level::V3 => write!(
                f,
                "this processor lacks {extension}: a machine with `--cpu v3` needs a host of level x86-64-v3 (Intel from 2013, AMD from 2015); make it with `--cpu v2`, or replay it on such a host"
            ),
        }
    }
}

impl std::error::Error for Missing {}

/// Whether this host has BMI2: for a translator's own code, which the guest
/// doesn't see.
pub fn has_bmi2() -> bool {
    is_x86_feature_detected!("bmi2")
}

/// Whether this host can run instructions of a guest of `level`. To be asked
/// once, before the first: on a lesser host some functions of this crate would
/// be illegal instructions.
pub fn supported(level: Level) -> Result<(), Missing> {
    let extensions = [
        (Level::V2, "pni (sse3)", is_x86_feature_detected!("sse3")),
        (Level::V2, "ssse3", is_x86_feature_detected!("ssse3")),
        (Level::V2, "sse4_1", is_x86_feature_detected!("sse4.1")),
        (Level::V2, "sse4_2", is_x86_feature_detected!("sse4.2")),
        (Level::V2, "popcnt", is_x86_feature_detected!("popcnt")),
        (Level::V2, "cx16", is_x86_feature_detected!("cmpxchg16b")),
        (Level::V3, "avx", is_x86_feature_detected!("avx")),
        (Level::V3, "avx2", is_x86_feature_detected!("avx2")),
        (Level::V3, "bmi1", is_x86_feature_detected!("bmi1")),
        (Level::V3, "bmi2", is_x86_feature_detected!("bmi2")),
        (Level::V3, "fma", is_x86_feature_detected!("fma")),
        (Level::V3, "f16c", is_x86_feature_detected!("f16c")),
        (Level::V3, "abm (lzcnt)", is_x86_feature_detected!("lzcnt")),
        (Level::V3, "movbe", is_x86_feature_detected!("movbe")),
    ];
    first_missing(level, &extensions).map_or(Ok(()), Err)
}

/// The first of the extensions that `level` has and the host hasn't.
fn first_missing(level: Level, extensions: &[(Level, &'static str, bool)]) -> Option<Missing> {
    extensions
        .iter()
        .filter(|&&(of, _, present)| !present && (level == Level::V3 || of == Level::V2))
        .map(|&(level, extension, _)| Missing { extension, level })
        .next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_without_avx2_is_told_what_to_do() {
        let extensions = [
            (Level::V2, "popcnt", true),
            (Level::V3, "avx2", false),
            (Level::V3, "fma", false),
        ];
        assert_eq!(first_missing(Level::V2, &extensions), None);
        let text = first_missing(Level::V3, &extensions).map(|missing| missing.to_string());
        let text = text.expect("avx2 is missing");
        assert!(text.contains("avx2") && text.contains("--cpu v2"), "{text}");
    }
}
