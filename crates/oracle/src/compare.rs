//! Where two outcomes of a case differ, in words.

use crate::state::FxImage;

/// The x87 and SSE registers that differ from their initial values, as names and hexadecimal text.
pub fn fx_fields(image: &FxImage) -> Vec<(String, String)> {
    let initial = FxImage::initial();
    let mut fields = Vec::new();
    let mut push = |name: String, same: bool, text: String| {
        if !same {
            fields.push((name, text));
        }
    };
    push(
        "fcw".into(),
        image.fcw() == initial.fcw(),
        format!("{:#06x}", image.fcw()),
    );
    push(
        "fsw".into(),
        image.fsw() == initial.fsw(),
        format!("{:#06x}", image.fsw()),
    );
    push(
        "ftw".into(),
        image.ftw() == initial.ftw(),
        format!("{:#04x}", image.ftw()),
    );
    push(
        "mxcsr".into(),
        image.mxcsr() == initial.mxcsr(),
        format!("{:#06x}", image.mxcsr()),
    );
    for i in 0..8 {
        push(
            format!("st{i}"),
            image.st(i) == [0; 10],
            st_text(&image.st(i)),
        );
    }
    for i in 0..16 {
        push(
            format!("xmm{i}"),
            image.xmm(i) == 0,
            format!("{:#034x}", image.xmm(i)),
        );
    }
    fields
}

/// An x87 register as sign and exponent, colon, significand.
pub fn st_text(st: &[u8; 10]) -> String {
    let significand = u64::from_le_bytes(st[..8].try_into().expect("8 of 10 bytes"));
    format!("{:02x}{:02x}:{significand:016x}", st[9], st[8])
}
