//! Single lanes and masks between XMM registers, general registers and memory:
//! PEXTRx, PINSRx, EXTRACTPS, INSERTPS, MOVMSKPx, PMOVMSKB.

use iced_x86::{Code, Instruction, OpKind};
use silicon::{integer, shuffle};

use super::Encoding;
use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(in crate::exec) fn lower<E: Encoding>(insn: &Instruction) -> Option<Handler> {
    use Code as C;
    let mut kinds = (0..insn.op_count()).map(|n| insn.op_kind(n));
    let general_is_memory = kinds.any(|kind| kind == OpKind::Memory);
    let place = |register: Handler, memory: Handler| {
        Some(if general_is_memory { memory } else { register })
    };
    match insn.code() {
        C::Movmskps_r32_xmm
        | C::VEX_Vmovmskps_r32_xmm
        | C::Movmskps_r64_xmm
        | C::VEX_Vmovmskps_r64_xmm => Some(movmskps::<E>),
        C::Movmskpd_r32_xmm
        | C::VEX_Vmovmskpd_r32_xmm
        | C::Movmskpd_r64_xmm
        | C::VEX_Vmovmskpd_r64_xmm => Some(movmskpd::<E>),
        C::Pmovmskb_r32_xmm
        | C::VEX_Vpmovmskb_r32_xmm
        | C::Pmovmskb_r64_xmm
        | C::VEX_Vpmovmskb_r64_xmm => Some(pmovmskb::<E>),
        C::Pextrb_r32m8_xmm_imm8
        | C::VEX_Vpextrb_r32m8_xmm_imm8
        | C::Pextrb_r64m8_xmm_imm8
        | C::VEX_Vpextrb_r64m8_xmm_imm8 => place(pextrb::<E>, pextrb_memory::<E>),
        C::Pextrw_r32_xmm_imm8
        | C::VEX_Vpextrw_r32_xmm_imm8
        | C::Pextrw_r64_xmm_imm8
        | C::VEX_Vpextrw_r64_xmm_imm8 => Some(pextrw::<E>),
        C::Pextrw_r32m16_xmm_imm8
        | C::VEX_Vpextrw_r32m16_xmm_imm8
        | C::Pextrw_r64m16_xmm_imm8
        | C::VEX_Vpextrw_r64m16_xmm_imm8 => place(pextrw::<E>, pextrw_memory::<E>),
        C::Pextrd_rm32_xmm_imm8
        | C::VEX_Vpextrd_rm32_xmm_imm8
        | C::Extractps_rm32_xmm_imm8
        | C::VEX_Vextractps_rm32_xmm_imm8
        | C::Extractps_r64m32_xmm_imm8
        | C::VEX_Vextractps_r64m32_xmm_imm8 => place(pextrd::<E>, pextrd_memory::<E>),
        C::Pextrq_rm64_xmm_imm8 | C::VEX_Vpextrq_rm64_xmm_imm8 => {
            place(pextrq::<E>, pextrq_memory::<E>)
        }
        C::Pinsrb_xmm_r32m8_imm8
        | C::VEX_Vpinsrb_xmm_xmm_r32m8_imm8
        | C::Pinsrb_xmm_r64m8_imm8
        | C::VEX_Vpinsrb_xmm_xmm_r64m8_imm8 => place(pinsrb::<E>, pinsrb_memory::<E>),
        C::Pinsrw_xmm_r32m16_imm8
        | C::VEX_Vpinsrw_xmm_xmm_r32m16_imm8
        | C::Pinsrw_xmm_r64m16_imm8
        | C::VEX_Vpinsrw_xmm_xmm_r64m16_imm8 => place(pinsrw::<E>, pinsrw_memory::<E>),
        C::Pinsrd_xmm_rm32_imm8 | C::VEX_Vpinsrd_xmm_xmm_rm32_imm8 => {
            place(pinsrd::<E>, pinsrd_memory::<E>)
        }
        C::Pinsrq_xmm_rm64_imm8 | C::VEX_Vpinsrq_xmm_xmm_rm64_imm8 => {
            place(pinsrq::<E>, pinsrq_memory::<E>)
        }
        C::Insertps_xmm_xmmm32_imm8 | C::VEX_Vinsertps_xmm_xmm_xmmm32_imm8 => {
            place(insertps::<E>, insertps_memory::<E>)
        }
        _ => None,
    }
}

macro_rules! masks {
    ($($name:ident)*) => {$(
        fn $name<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            // A 32-bit result clears the register's upper half, and the
            // 64-bit form's is zero there too.
            let mask = u64::from(integer::$name(cpu.xmm(op.b)));
            cpu.set(op.a, mask);
            Ok(())
        }
    )*};
}
masks! { movmskps movmskpd pmovmskb }

macro_rules! extracts {
    ($($name:ident $memory:ident)*) => {$(
        fn $name<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            let lane = u64::from(shuffle::$name(cpu.xmm(op.b), op.imm8()));
            cpu.set(op.a, lane);
            Ok(())
        }
        fn $memory<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            let lane = shuffle::$name(cpu.xmm(op.b), op.imm8());
            cpu.store(bus, op, lane)
        }
    )*};
}
extracts! { pextrb pextrb_memory pextrw pextrw_memory pextrd pextrd_memory pextrq pextrq_memory }

macro_rules! inserts {
    ($($name:ident $memory:ident: $lane:ty;)*) => {$(
        fn $name<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            // Not by that width: here 4 is SPL's number, never AH's.
            let lane = <$lane>::truncate(cpu.get::<u64>(E::second(op)));
            let result = shuffle::$name(cpu.xmm(E::first(op)), lane, op.imm8());
            E::set(cpu, op.a, result);
            Ok(())
        }
        fn $memory<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            E::check(cpu)?;
            let lane = cpu.load::<$lane>(bus, op)?;
            let result = shuffle::$name(cpu.xmm(E::first(op)), lane, op.imm8());
            E::set(cpu, op.a, result);
            Ok(())
        }
    )*};
}
inserts! {
    pinsrb pinsrb_memory: u8;
    pinsrw pinsrw_memory: u16;
    pinsrd pinsrd_memory: u32;
    pinsrq pinsrq_memory: u64;
}

fn insertps<E: Encoding>(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let imm = op.imm8();
    let single = shuffle::pextrd(cpu.xmm(E::second(op)), imm >> 6);
    let result = shuffle::insertps(cpu.xmm(E::first(op)), single, imm);
    E::set(cpu, op.a, result);
    Ok(())
}

fn insertps_memory<E: Encoding>(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    E::check(cpu)?;
    let single = cpu.load::<u32>(bus, op)?;
    let result = shuffle::insertps(cpu.xmm(E::first(op)), single, op.imm8());
    E::set(cpu, op.a, result);
    Ok(())
}
