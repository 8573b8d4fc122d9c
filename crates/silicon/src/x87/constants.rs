//! The constants FLD1, FLDL2T, FLDL2E, FLDPI, FLDLG2, FLDLN2 and FLDZ, rounded by the rounding control
//! (SDM volume 1, 8.3.4).

use super::wide::Wide;
use super::{Control, F80};

/// Which constant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Constant {
    /// FLD1: one.
    One,
    /// FLDL2T: the logarithm of ten to base two.
    Log2Of10,
    /// FLDL2E: the logarithm of e to base two.
    Log2OfE,
    /// FLDPI.
    Pi,
    /// FLDLG2: the logarithm of two to base ten.
    Log10Of2,
    /// FLDLN2: the natural logarithm of two.
    LnOf2,
    /// FLDZ: zero.
    Zero,
}

pub(super) const PI: Wide = Wide::new(1, 0xc90f_daa2_2168_c234_c4c6_628b_80dc_1cd1);
pub(super) const LN_2: Wide = Wide::new(-1, 0xb172_17f7_d1cf_79ab_c9e3_b398_03f2_f6af);
pub(super) const LOG2_E: Wide = Wide::new(0, 0xb8aa_3b29_5c17_f0bb_be87_fed0_691d_3e89);
const LOG2_10: Wide = Wide::new(1, 0xd49a_784b_cd1b_8afe_492b_f6ff_4daf_db4d);
const LOG10_2: Wide = Wide::new(-2, 0x9a20_9a84_fbcf_f798_8f89_59ac_0b7c_9178);

/// The constant's value. Loading one sets no exception flag, not even where it rounds.
pub fn constant(control: Control, which: Constant) -> F80 {
    let wide = match which {
        Constant::Zero => return F80::ZERO,
        Constant::One => return F80::ONE,
        Constant::Log2Of10 => LOG2_10,
        Constant::Log2OfE => LOG2_E,
        Constant::Pi => PI,
        Constant::Log10Of2 => LOG10_2,
        Constant::LnOf2 => LN_2,
    };
    wide.rounded(control, false).value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::x87::{arith::on_host, status};

    macro_rules! loaded_by_host {
        ($control:expr, $op:literal) => {{
            let mut value = F80::ZERO;
            let status = on_host!(
                $control,
                [],
                $op,
                ["fstp tbyte ptr [{value}]"],
                value = &raw mut value
            );
            assert_eq!(status & status::EXCEPTIONS, 0);
            value
        }};
    }

    #[test]
    fn constants_are_the_hosts_in_every_rounding() {
        for rc in 0..4 {
            let control = Control(0x037f | rc << 10);
            assert_eq!(
                constant(control, Constant::One),
                loaded_by_host!(control, "fld1")
            );
            assert_eq!(
                constant(control, Constant::Log2Of10),
                loaded_by_host!(control, "fldl2t")
            );
            assert_eq!(
                constant(control, Constant::Log2OfE),
                loaded_by_host!(control, "fldl2e")
            );
            assert_eq!(
                constant(control, Constant::Pi),
                loaded_by_host!(control, "fldpi")
            );
            assert_eq!(
                constant(control, Constant::Log10Of2),
                loaded_by_host!(control, "fldlg2")
            );
            assert_eq!(
                constant(control, Constant::LnOf2),
                loaded_by_host!(control, "fldln2")
            );
            assert_eq!(
                constant(control, Constant::Zero),
                loaded_by_host!(control, "fldz")
            );
        }
    }
}
