//! Any bytes as a kernel: a machine is made or an error told; nothing panics,
//! and nothing is allocated that the bytes only allege.

use machine::{BootKind, EngineKind, Images, Machine, MachineConfig, Until};
use seal::Digest;

/// Tries `data` as a kernel to be entered by `boot`.
pub(crate) fn boot(data: &[u8], boot: BootKind) {
    let _ = BootKind::of(data);
    let images = Images {
        kernel: data.to_vec(),
        initrd: Some(vec![7; 5000]),
    };
    let config = MachineConfig {
        boot,
        initrd: Some(Digest::of(&[7; 5000])),
        ..MachineConfig::new(32 << 20, Digest::of(data), 0)
    };
    if let Ok(mut machine) = Machine::new(&config, &images, EngineKind::Interpreter) {
        // It may be anything; it must be something that runs. By steps: code
        // without branches is long.
        for _ in 0..50 {
            machine.run(Until::Step);
        }
    }
}
