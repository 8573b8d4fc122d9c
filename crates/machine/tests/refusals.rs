//! Images and configurations that cannot be booted are refused, with a message
//! that says what to do.

mod kernels;

use machine::{BootKind, EngineKind, Error, Image, Images, Machine, MachineConfig};

/// A `vmlinux` of one segment: 4 KiB of file and `memory_bytes` at 16 MiB.
fn vmlinux(memory_bytes: u64) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01".to_vec();
    file.resize(0x40, 0);
    file[0x10..0x14].copy_from_slice(&[2, 0, 62, 0]);
    file[0x18..0x20].copy_from_slice(&0x100_0000u64.to_le_bytes());
    file[0x20] = 0x40;
    file[0x36..0x3a].copy_from_slice(&[56, 0, 1, 0]);
    file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
    for field in [
        0x78u64,
        0xffff_ffff_8100_0000,
        0x100_0000,
        4096,
        memory_bytes,
        4096,
    ] {
        file.extend(field.to_le_bytes());
    }
    file.resize(0x78 + 4096, 0xf4);
    file
}

fn config_of(images: &Images, memory_bytes: u64) -> MachineConfig {
    MachineConfig {
        initrd: images.initrd.as_ref().map(Image::digest),
        ..MachineConfig::new(memory_bytes, images.kernel.digest(), 0)
    }
}

fn make(config: &MachineConfig, images: &Images) -> Result<Machine, Error> {
    Machine::new(config, images, EngineKind::Interpreter)
}

fn linux() -> Images {
    Images {
        kernel: Image::new(vmlinux(1 << 20)),
        initrd: Some(Image::new(vec![7; 1 << 20])),
    }
}

#[test]
fn a_vmlinux_is_booted() {
    assert_eq!(
        BootKind::of(&vmlinux(1 << 20)).expect("a good file"),
        BootKind::Linux
    );
    let images = linux();
    make(&config_of(&images, 32 << 20), &images).expect("it fits");
}

#[test]
fn memory_too_small_for_the_kernel_is_told() {
    let images = linux();
    let error = make(&config_of(&images, 16 << 20), &images).expect_err("it ends at 17 MiB");
    assert!(
        matches!(
            error,
            Error::MemoryTooSmall {
                what: "the kernel",
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn memory_too_small_for_the_initrd_is_told_with_what_would_do() {
    let images = linux();
    let config = config_of(&images, (17 << 20) + 4096);
    let error = make(&config, &images).expect_err("the initrd doesn't fit");
    let Error::MemoryTooSmall { needed_bytes, .. } = error else {
        panic!("{error}")
    };
    make(&config_of(&images, needed_bytes), &images).expect("so much does");
}

#[test]
fn absurd_memory_is_told() {
    let images = linux();
    for memory_bytes in [0, 4096, (1 << 20) + 1, u64::MAX] {
        let error = make(&config_of(&images, memory_bytes), &images).expect_err("absurd");
        assert!(matches!(error, Error::Memory(_)), "{error}");
    }
}

#[test]
fn a_command_line_that_is_too_long_is_told() {
    let images = linux();
    let config = MachineConfig {
        append: "x".repeat(2048),
        ..config_of(&images, 32 << 20)
    };
    let error = make(&config, &images).expect_err("2047 is the limit");
    assert!(
        matches!(
            error,
            Error::CommandLine {
                bytes: 2048,
                bytes_max: 2047
            }
        ),
        "{error}"
    );
}

#[test]
fn an_image_that_is_not_the_named_one_is_told() {
    let images = linux();
    let config = config_of(&images, 32 << 20);
    let others = Images {
        kernel: Image::new(vmlinux(2 << 20)),
        ..linux()
    };
    assert!(matches!(
        make(&config, &others),
        Err(Error::WrongImage { what: "kernel", .. })
    ));
    let others = Images {
        initrd: None,
        ..linux()
    };
    assert!(matches!(
        make(&config, &others),
        Err(Error::WrongImage { what: "initrd", .. })
    ));
}

#[test]
fn a_file_that_is_no_kernel_is_told() {
    for kernel in [
        &b""[..],
        b"#!/bin/sh\n",
        &[0; 100_000],
        &vmlinux(1 << 20)[..0x60],
    ] {
        assert!(matches!(BootKind::of(kernel), Err(Error::Kernel { .. })));
        for boot in [BootKind::Linux, BootKind::LinuxEntry, BootKind::Multiboot] {
            let images = Images {
                kernel: Image::new(kernel.to_vec()),
                initrd: None,
            };
            let config = MachineConfig {
                boot,
                ..config_of(&images, 32 << 20)
            };
            let error = make(&config, &images).expect_err("no kernel");
            assert!(matches!(error, Error::Kernel { .. }), "{error}");
        }
    }
}

#[test]
fn a_kernel_over_the_loader_s_own_data_is_told() {
    let mut kernel = kernels::TICKS.to_vec();
    for field in [12, 16] {
        kernel[field..field + 4].copy_from_slice(&0x9000u32.to_le_bytes());
    }
    let images = Images {
        kernel: Image::new(kernel),
        initrd: None,
    };
    let config = MachineConfig {
        boot: BootKind::Multiboot,
        ..config_of(&images, 8 << 20)
    };
    assert!(matches!(make(&config, &images), Err(Error::Kernel { .. })));
}

#[test]
fn more_than_one_processor_is_not_there_yet() {
    let images = linux();
    let config = MachineConfig {
        vcpus: 2,
        ..config_of(&images, 32 << 20)
    };
    assert!(matches!(make(&config, &images), Err(Error::NotYet { .. })));
}
