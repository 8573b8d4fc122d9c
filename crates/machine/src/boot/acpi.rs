//! The ACPI tables (ACPI 6.4, chapter 5): what the guest cannot find out by
//! looking.
//!
//! Fixed hardware, not the reduced kind: the power button, the timer and the
//! soft-off state are registers that every kernel knows without interpreting
//! code.

use acpi_tables::aml::{
    Device, EISAName, IO, Interrupt, Memory32Fixed, Name, Package, ResourceTemplate, Scope, ZERO,
};
use acpi_tables::facs::FACS;
use acpi_tables::fadt::{FADTBuilder, Flags, PmProfile};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, AmlSink};
use devices::{IoApic, LocalApic, Power};
use memory::Ram;
use x86::Physical;

use crate::board::{irq, place};
use crate::{Error, MachineConfig, slot};

/// Where a PC's firmware keeps the RSDP, and kernels look for it.
const START: u64 = 0xe_0000;
const END: u64 = 0x10_0000;

const OEM: [u8; 6] = *b"REVIRT";
const OEM_TABLE: [u8; 8] = *b"REVIRTVM";
const OEM_REVISION: u32 = 1;

/// Puts the tables into memory and returns where the RSDP is.
pub(super) fn load(config: &MachineConfig, ram: &Ram) -> Result<Physical, Error> {
    let rsdp_at = START;
    let mut next = START + 64;
    let mut put = |table: &[u8]| -> Result<u64, Error> {
        let at = next;
        // The FACS wants 64 bytes; others don't mind.
        next = (at + table.len() as u64).next_multiple_of(64);
        assert!(
            next <= END,
            "bug: the ACPI tables have outgrown their place"
        );
        ram.write(Physical(at), table)?;
        Ok(at)
    };
    let facs_at = put(&bytes_of(&FACS::new()))?;
    let dsdt_at = put(&dsdt(slot::slots(config).len(), config.has_serial2))?;
    let fadt_at = put(&fadt(facs_at, dsdt_at))?;
    let madt_at = put(&madt(config.vcpus))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt_at);
    xsdt.add_entry(madt_at);
    let xsdt_at = put(&bytes_of(&xsdt))?;
    ram.write(Physical(rsdp_at), &bytes_of(&Rsdp::new(OEM, xsdt_at)))?;
    Ok(Physical(rsdp_at))
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

/// A register of the power-management block, in ports.
fn port(bytes: u8, number: u16) -> GAS {
    let access = match bytes {
        1 => AccessSize::ByteAccess,
        2 => AccessSize::WordAccess,
        _ => AccessSize::DwordAccess,
    };
    GAS::new(AddressSpace::SystemIo, 8 * bytes, 0, access, number.into())
}

fn fadt(facs_at: u64, dsdt_at: u64) -> Vec<u8> {
    /// IAPC_BOOT_ARCH: legacy devices, an 8042, no VGA.
    const BOOT_ARCHITECTURE: u16 = 1 << 0 | 1 << 1 | 1 << 2;
    /// Latencies that say there is no C2 and no C3.
    const NO_C2: u16 = 101;
    const NO_C3: u16 = 1001;
    let event = place::POWER + Power::EVENT_OFFSET;
    let control = place::POWER + Power::CONTROL_OFFSET;
    let timer = place::POWER + Power::TIMER_OFFSET;
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .preferred_pm_profile(PmProfile::EnterpriseServer)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup);
    fadt.firmware_ctrl = (facs_at as u32).into();
    fadt.dsdt = (dsdt_at as u32).into();
    fadt.x_dsdt = dsdt_at.into();
    fadt.sci_int = u16::from(irq::POWER).into();
    // No SMI command port: the machine is in ACPI mode from the start.
    fadt.pm1a_evt_blk = u32::from(event).into();
    fadt.pm1a_cnt_blk = u32::from(control).into();
    fadt.pm_tmr_blk = u32::from(timer).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    fadt.century = 0x32;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port(1, place::RESET);
    fadt.reset_value = Power::RESET_VALUE;
    fadt.x_pm1a_evt_blk = port(4, event);
    // The event block is two registers of 16 bits.
    fadt.x_pm1a_evt_blk.access_size = AccessSize::WordAccess;
    fadt.x_pm1a_cnt_blk = port(2, control);
    fadt.x_pm_tmr_blk = port(4, timer);
    bytes_of(&fadt.finalize())
}

/// The interrupt controllers (ACPI 6.4, 5.2.12).
fn madt(vcpus: u32) -> Vec<u8> {
    /// There are 8259s too.
    const PCAT_COMPATIBLE: u32 = 1;
    /// Flags of a source override.
    const CONFORMS: u16 = 0;
    const LEVEL_ACTIVE_HIGH: u16 = 0b1101;
    let mut madt = Sdt::new(*b"APIC", 36, 5, OEM, OEM_TABLE, OEM_REVISION);
    madt.append_slice(&(LocalApic::ADDRESS as u32).to_le_bytes());
    madt.append_slice(&PCAT_COMPATIBLE.to_le_bytes());
    for id in 0..vcpus as u8 {
        // Processor local APIC, enabled.
        madt.append_slice(&[0, 8, id, id, 1, 0, 0, 0]);
    }
    madt.append_slice(&[1, 12, 0, 0]);
    madt.append_slice(&(IoApic::ADDRESS as u32).to_le_bytes());
    madt.append_slice(&0u32.to_le_bytes());
    for (source, pin, flags) in [
        (irq::TIMER, irq::TIMER_PIN, CONFORMS),
        (irq::POWER, irq::POWER, LEVEL_ACTIVE_HIGH),
    ] {
        madt.append_slice(&[2, 10, 0, source]);
        madt.append_slice(&u32::from(pin).to_le_bytes());
        madt.append_slice(&flags.to_le_bytes());
    }
    // LINT1 of all processors is the non-maskable interrupt's.
    madt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    madt.as_slice().to_vec()
}

/// Devices that cannot be found by looking, `slots` virtio devices among them,
/// and what soft-off is called.
fn dsdt(slots: usize, has_serial2: bool) -> Vec<u8> {
    let serial = device("COM1", "PNP0501", &[(place::UART, 8)], irq::UART, 0);
    let serial2 = device("COM2", "PNP0501", &[(place::UART2, 8)], irq::UART2, 1);
    let rtc = device("RTC_", "PNP0B00", &[(0x70, 2)], irq::RTC, 0);
    let keyboard = device("KBD_", "PNP0303", &[(0x60, 1), (0x64, 1)], irq::KEYBOARD, 0);
    let slots: Vec<Code> = (0..slots).map(virtio).collect();
    let mut devices: Vec<&dyn Aml> = vec![&serial, &rtc, &keyboard];
    if has_serial2 {
        devices.push(&serial2);
    }
    devices.extend(slots.iter().map(|slot| slot as &dyn Aml));
    let bus = Scope::new("\\_SB_".into(), devices);
    let off = Power::SLEEP_TYPE_OFF;
    let soft_off = Name::new(
        "\\_S5_".into(),
        &Package::new(vec![&off, &off, &ZERO, &ZERO]),
    );
    let mut table = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    table.append_slice(&bytes_of(&bus));
    table.append_slice(&bytes_of(&soft_off));
    table.as_slice().to_vec()
}

/// Bytes of AML.
struct Code(Vec<u8>);

impl Aml for Code {
    fn to_aml_bytes(&self, sink: &mut dyn AmlSink) {
        sink.vec(&self.0);
    }
}

/// The device `name`, number `unique` of kind `id`, with ranges of ports as
/// (first, count).
fn device(name: &str, id: &str, ports: &[(u16, u8)], line: u8, unique: u8) -> Code {
    let ports: Vec<IO> = ports
        .iter()
        .map(|&(first, count)| IO::new(first, first, 1, count))
        .collect();
    let interrupt = Interrupt::new(true, true, false, false, line.into());
    let mut resources: Vec<&dyn Aml> = ports.iter().map(|port| port as &dyn Aml).collect();
    resources.push(&interrupt);
    let id = Name::new("_HID".into(), &EISAName::new(id));
    let unique = Name::new("_UID".into(), &unique);
    let resources = Name::new("_CRS".into(), &ResourceTemplate::new(resources));
    Code(bytes_of(&Device::new(
        name.into(),
        vec![&id, &unique, &resources],
    )))
}

/// The virtio device in slot `number`, as Linux looks for it
/// (drivers/virtio/virtio_mmio.c).
fn virtio(number: usize) -> Code {
    let registers = Memory32Fixed::new(true, slot::address(number) as u32, slot::BYTES as u32);
    // Level-triggered, active high, shared.
    let interrupt = Interrupt::new(true, false, false, true, slot::pin(number).into());
    let id = Name::new("_HID".into(), &"LNRO0005");
    let unique = Name::new("_UID".into(), &number);
    let resources = ResourceTemplate::new(vec![&registers, &interrupt]);
    let resources = Name::new("_CRS".into(), &resources);
    Code(bytes_of(&Device::new(
        format!("VR{number:02}").as_str().into(),
        vec![&id, &unique, &resources],
    )))
}

#[cfg(test)]
mod tests {
    use seal::Digest;

    use super::*;

    #[test]
    fn every_table_s_bytes_sum_to_zero() {
        let ram = Ram::new(1 << 20).expect("a small mapping");
        let config = MachineConfig::new(1 << 20, Digest::default(), 0);
        assert_eq!(
            load(&config, &ram).expect("1 MiB is enough"),
            Physical(START)
        );
        for table in [
            fadt(START + 64, START + 128),
            madt(1),
            dsdt(0, false),
            dsdt(24, true),
        ] {
            let length = u32::from_le_bytes(table[4..8].try_into().expect("four bytes"));
            assert_eq!(length as usize, table.len());
            assert_eq!(
                table.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)),
                0
            );
        }
    }
}
