//! Single lanes and masks between XMM registers, general registers and memory:
//! PEXTRx, PINSRx, EXTRACTPS, INSERTPS, MOVMSKPx, PMOVMSKB.

use iced_x86::{Code, Instruction, OpKind};
use silicon::{integer, shuffle};

use crate::op::Handler;
use crate::width::Width;
use crate::{Bus, Cpu, Flow, Op};

pub(super) fn lower(insn: &Instruction) -> Option<Handler> {
    use Code as C;
    let general_is_memory = insn.op_kind(0) == OpKind::Memory
        || insn.op_count() > 1 && insn.op_kind(1) == OpKind::Memory;
    let place = |register: Handler, memory: Handler| {
        Some(if general_is_memory { memory } else { register })
    };
    match insn.code() {
        C::Movmskps_r32_xmm | C::Movmskps_r64_xmm => Some(movmskps),
        C::Movmskpd_r32_xmm | C::Movmskpd_r64_xmm => Some(movmskpd),
        C::Pmovmskb_r32_xmm | C::Pmovmskb_r64_xmm => Some(pmovmskb),
        C::Pextrb_r32m8_xmm_imm8 | C::Pextrb_r64m8_xmm_imm8 => place(pextrb, pextrb_memory),
        C::Pextrw_r32_xmm_imm8 | C::Pextrw_r64_xmm_imm8 => Some(pextrw),
        C::Pextrw_r32m16_xmm_imm8 | C::Pextrw_r64m16_xmm_imm8 => place(pextrw, pextrw_memory),
        C::Pextrd_rm32_xmm_imm8 | C::Extractps_rm32_xmm_imm8 | C::Extractps_r64m32_xmm_imm8 => {
            place(pextrd, pextrd_memory)
        }
        C::Pextrq_rm64_xmm_imm8 => place(pextrq, pextrq_memory),
        C::Pinsrb_xmm_r32m8_imm8 | C::Pinsrb_xmm_r64m8_imm8 => place(pinsrb, pinsrb_memory),
        C::Pinsrw_xmm_r32m16_imm8 | C::Pinsrw_xmm_r64m16_imm8 => place(pinsrw, pinsrw_memory),
        C::Pinsrd_xmm_rm32_imm8 => place(pinsrd, pinsrd_memory),
        C::Pinsrq_xmm_rm64_imm8 => place(pinsrq, pinsrq_memory),
        C::Insertps_xmm_xmmm32_imm8 => place(insertps, insertps_memory),
        _ => None,
    }
}

macro_rules! masks {
    ($($name:ident)*) => {$(
        fn $name(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
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
        fn $name(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
            let lane = u64::from(shuffle::$name(cpu.xmm(op.b), op.imm8()));
            cpu.set(op.a, lane);
            Ok(())
        }
        fn $memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
            let lane = shuffle::$name(cpu.xmm(op.b), op.imm8());
            cpu.store(bus, op, lane)
        }
    )*};
}
extracts! { pextrb pextrb_memory pextrw pextrw_memory pextrd pextrd_memory pextrq pextrq_memory }

macro_rules! inserts {
    ($($name:ident $memory:ident: $lane:ty;)*) => {$(
        fn $name(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
            // Not by that width: here 4 is SPL's number, never AH's.
            let lane = <$lane>::truncate(cpu.get::<u64>(op.b));
            cpu.set_xmm(op.a, shuffle::$name(cpu.xmm(op.a), lane, op.imm8()));
            Ok(())
        }
        fn $memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
            cpu.check_sse()?;
            let lane = cpu.load::<$lane>(bus, op)?;
            cpu.set_xmm(op.a, shuffle::$name(cpu.xmm(op.a), lane, op.imm8()));
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

fn insertps(cpu: &mut Cpu, _: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let imm = op.imm8();
    let single = shuffle::pextrd(cpu.xmm(op.b), imm >> 6);
    cpu.set_xmm(op.a, shuffle::insertps(cpu.xmm(op.a), single, imm));
    Ok(())
}

fn insertps_memory(cpu: &mut Cpu, bus: &mut dyn Bus, op: &Op) -> Flow {
    cpu.check_sse()?;
    let single = cpu.load::<u32>(bus, op)?;
    cpu.set_xmm(op.a, shuffle::insertps(cpu.xmm(op.a), single, op.imm8()));
    Ok(())
}
