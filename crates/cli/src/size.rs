//! Sizes as people write them: `512M`.

/// The bytes that `text` names: a number, with a binary unit K, M, G or T
/// (also as `KiB`, `MB`, ...).
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '_')
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let number: u64 = digits.replace('_', "").parse().map_err(|_| usage(text))?;
    let shift = match unit
        .trim()
        .to_ascii_lowercase()
        .trim_end_matches('b')
        .trim_end_matches('i')
    {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return Err(usage(text)),
    };
    number
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("`{text}` is more than any machine has"))
}

/// `bytes` in the largest unit that divides it.
pub(crate) fn print(bytes: u64) -> String {
    let unit = [(40, "T"), (30, "G"), (20, "M"), (10, "K")]
        .into_iter()
        .find(|&(shift, _)| bytes != 0 && bytes.is_multiple_of(1 << shift));
    unit.map_or_else(
        || bytes.to_string(),
        |(shift, name)| format!("{}{name}", bytes >> shift),
    )
}

fn usage(text: &str) -> String {
    format!("`{text}` is no size: write a number with K, M or G, as in 512M")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_binary() {
        assert_eq!(parse("512M"), Ok(512 << 20));
        assert_eq!(parse("4g"), Ok(4 << 30));
        assert_eq!(parse("64KiB"), Ok(64 << 10));
        assert_eq!(parse("1_048_576"), Ok(1 << 20));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "M", "12X", "-5M", "1.5G", "99999999999T"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_printed_is_parsed() {
        for bytes in [0, 1, 4096, 512 << 20, (3 << 30) + 4096] {
            assert_eq!(parse(&print(bytes)), Ok(bytes));
        }
    }
}
