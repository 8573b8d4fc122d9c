//! Any bytes as a kernel: a machine is made or an error told; nothing panics,
//! and nothing is allocated that the bytes only allege.

use machine::{BootKind, EngineKind, Image, Images, Machine, MachineConfig, Until};

/// Tries `data` as a kernel to be entered by `boot`.
pub(crate) fn boot(data: &[u8], boot: BootKind) {
    let _ = BootKind::of(data);
    let initrd = Image::new(vec![7; 5000]);
    let images = Images {
        kernel: Image::new(data.to_vec()),
        initrd: Some(initrd.clone()),
    };
    let config = MachineConfig {
        boot,
        initrd: Some(initrd.digest()),
        ..MachineConfig::new(32 << 20, images.kernel.digest(), 0)
    };
    if let Ok(mut machine) = Machine::new(&config, &images, EngineKind::Interpreter) {
        // It may be anything; it must be something that runs. By steps: code
        // without branches is long.
        for _ in 0..50 {
            machine.run(Until::Step);
        }
    }
}
