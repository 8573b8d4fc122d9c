//! What the host's processor must have: x86-64-v2, the level the guest gets.

/// The host's processor lacks an extension that guest code will use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The extension's name as in `/proc/cpuinfo`.
    pub extension: &'static str,
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "this processor lacks {}: a host of level x86-64-v2 is needed (Intel from 2009, AMD from 2011)",
            self.extension
        )
    }
}

impl std::error::Error for Missing {}

/// Whether this host can run guest instructions. To be asked once, before the
/// first: on a lesser host some functions of this crate would be illegal
/// instructions.
pub fn supported() -> Result<(), Missing> {
    let extensions = [
        ("pni (sse3)", is_x86_feature_detected!("sse3")),
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("sse4_1", is_x86_feature_detected!("sse4.1")),
        ("sse4_2", is_x86_feature_detected!("sse4.2")),
        ("popcnt", is_x86_feature_detected!("popcnt")),
        ("cx16", is_x86_feature_detected!("cmpxchg16b")),
    ];
    match extensions.iter().find(|(_, present)| !present) {
        None => Ok(()),
        Some(&(extension, _)) => Err(Missing { extension }),
    }
}
