//! What this host leaves in C1 where the manual leaves it open.

use std::sync::OnceLock;

use super::status::C1;

/// Whether FCOMI, FUCOMI and FCMOVcc without a stack fault leave C1 as it was,
/// as the guest's do (docs/determinism.md). AMD's processors do; where they
/// don't, their instructions can't stand for the guest's.
pub fn comparisons_keep_c1() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let (compared, moved): (u16, u16);
        // SAFETY: the x87 stack is empty before, by the ABI, and after; nothing
        // is raised. FXAM of a negative number sets C1.
        unsafe {
            std::arch::asm!(
                "fld1", "fld1", "fchs", "fxam", "fucomi st, st(1)", "fnstsw ax",
                "mov {compared:x}, ax",
                "fxam", "stc", "fcmovb st, st(1)", "fnstsw ax",
                "fstp st(0)", "fstp st(0)",
                compared = out(reg) compared,
                out("ax") moved,
                out("st(0)") _, out("st(1)") _, out("st(2)") _, out("st(3)") _,
                out("st(4)") _, out("st(5)") _, out("st(6)") _, out("st(7)") _,
                options(nomem, nostack),
            );
        }
        compared & moved & C1 != 0
    })
}
