//! The registers of the memory-mapped transport, by their offsets.

/// The registers (virtio 1.1, 4.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Register {
    Magic,
    Version,
    DeviceId,
    VendorId,
    DeviceFeatures,
    DeviceFeaturesSelect,
    DriverFeatures,
    DriverFeaturesSelect,
    QueueSelect,
    QueueSizeMax,
    QueueSize,
    QueueReady,
    QueueNotify,
    InterruptStatus,
    InterruptAcknowledge,
    Status,
    /// Descriptors, available ring, used ring: which, and whether its high half.
    QueuePlace(Place, bool),
    /// The length and address of shared memory: there is none.
    SharedMemory,
    ConfigGeneration,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Descriptors,
    Available,
    Used,
}

impl Register {
    /// The one at `offset`.
    pub(super) fn at(offset: u64) -> Register {
        match offset {
            0x00 => Register::Magic,
            0x04 => Register::Version,
            0x08 => Register::DeviceId,
            0x0c => Register::VendorId,
            0x10 => Register::DeviceFeatures,
            0x14 => Register::DeviceFeaturesSelect,
            0x20 => Register::DriverFeatures,
            0x24 => Register::DriverFeaturesSelect,
            0x30 => Register::QueueSelect,
            0x34 => Register::QueueSizeMax,
            0x38 => Register::QueueSize,
            0x44 => Register::QueueReady,
            0x50 => Register::QueueNotify,
            0x60 => Register::InterruptStatus,
            0x64 => Register::InterruptAcknowledge,
            0x70 => Register::Status,
            0x80 => Register::QueuePlace(Place::Descriptors, false),
            0x84 => Register::QueuePlace(Place::Descriptors, true),
            0x90 => Register::QueuePlace(Place::Available, false),
            0x94 => Register::QueuePlace(Place::Available, true),
            0xa0 => Register::QueuePlace(Place::Used, false),
            0xa4 => Register::QueuePlace(Place::Used, true),
            0xb0 | 0xb4 | 0xb8 | 0xbc => Register::SharedMemory,
            0xfc => Register::ConfigGeneration,
            _ => Register::Nothing,
        }
    }
}
