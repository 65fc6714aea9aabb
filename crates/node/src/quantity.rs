//! Reading the API's quantities as the whole numbers that a kernel takes.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// The value in thousandths, rounded up and saturating; `None` for text that is no quantity.
pub fn milli(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1000)
}

/// The value in whole units (bytes, say), rounded up and saturating; `None` for text that is no quantity.
pub fn units(quantity: &Quantity) -> Option<i64> {
    scaled(&quantity.0, 1)
}

fn scaled(text: &str, scale: i128) -> Option<i64> {
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if number.is_empty() || number == "." || fraction.contains('.') || number.len() > 36 {
        return None;
    }
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let (mut numerator, mut denominator) = suffix_factor(suffix)?;
    numerator = numerator.checked_mul(scale)?;
    for _ in 0..fraction.len() {
        denominator = denominator.checked_mul(10)?;
    }
    let value = match digits.checked_mul(numerator) {
        Some(product) => (product + denominator - 1) / denominator,
        None => i128::from(i64::MAX),
    };
    let value = i64::try_from(value).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

fn suffix_factor(suffix: &str) -> Option<(i128, i128)> {
    const TABLE: [(&str, i128, i128); 16] = [
        ("n", 1, 1_000_000_000),
        ("u", 1, 1_000_000),
        ("m", 1, 1_000),
        ("", 1, 1),
        ("k", 1_000, 1),
        ("M", 1_000_000, 1),
        ("G", 1_000_000_000, 1),
        ("T", 1_000_000_000_000, 1),
        ("P", 1_000_000_000_000_000, 1),
        ("E", 1_000_000_000_000_000_000, 1),
        ("Ki", 1 << 10, 1),
        ("Mi", 1 << 20, 1),
        ("Gi", 1 << 30, 1),
        ("Ti", 1 << 40, 1),
        ("Pi", 1 << 50, 1),
        ("Ei", 1 << 60, 1),
    ];
    if let Some((_, n, d)) = TABLE.iter().find(|(name, _, _)| *name == suffix) {
        return Some((*n, *d));
    }
    let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
    Some(if exponent < 0 { (1, power) } else { (power, 1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_every_notation() {
        let cases = [
            ("1", 1000, 1),
            ("500m", 500, 1),
            ("1.5", 1500, 2),
            ("0.1", 100, 1),
            ("2Ki", 2_048_000, 2048),
            ("1e3", 1_000_000, 1000),
            ("100u", 1, 1),
            ("-2", -2000, -2),
        ];
        for (text, m, u) in cases {
            let q = Quantity(text.into());
            assert_eq!((milli(&q), units(&q)), (Some(m), Some(u)), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_quantity() {
        for text in ["", ".", "1.2.3", "x", "1Q", "1e", "1e999", "é"] {
            assert_eq!(units(&Quantity(text.into())), None, "{text:?}");
        }
        assert_eq!(units(&Quantity("9E".into())), Some(9_000_000_000_000_000_000));
        assert_eq!(units(&Quantity("99999E".into())), Some(i64::MAX));
    }
}
