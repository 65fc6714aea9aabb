//! Amounts of resources: `100m`, `1.5Gi`, `2e3`. Exact to a billionth, as `apimachinery/pkg/api/resource`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Neg, Sub};

/// Billionths in one.
const NANO: i128 = 1_000_000_000;
/// The most that a binary amount can be: 2^63-1.
const BINARY_CAP: i128 = i64::MAX as i128 * NANO;

/// How an amount likes to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// 12e6
    DecimalExponent,
    /// 12Mi
    BinarySI,
    /// 12M
    DecimalSI,
}

/// An amount. Two amounts are equal when they mean the same, however they are written.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nano: i128,
    format: Format,
}

/// Why a text is no quantity; worded as upstream words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// Also an amount beyond about 10^29, which this implementation does not hold.
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// The parts of a text: sign, digits before and after the point, and the suffix.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

fn split(text: &str) -> Result<Parts<'_>, Error> {
    if text.is_empty() {
        return Err(Error::Format);
    }
    let (negative, rest) = match text.as_bytes()[0] {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let digits = |s: &str| s.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = rest.split_at(digits(rest));
    let (fraction, suffix) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    let after = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let after = after.strip_prefix(['-', '+']).unwrap_or(after);
    if !after.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Format);
    }
    if whole.is_empty() && fraction.is_empty() {
        // Only a sign is read as zero upstream; a bare suffix or point has no number.
        return if suffix.is_empty() && !text.contains('.') && text.len() == 1 {
            Ok(Parts { negative, whole: "0", fraction, suffix })
        } else {
            Err(Error::Numeric)
        };
    }
    Ok(Parts { negative, whole: whole.trim_start_matches('0'), fraction, suffix })
}

/// The decimal exponent and the binary exponent that a suffix stands for.
fn suffix_of(suffix: &str) -> Result<(i32, u32, Format), Error> {
    let decimal = |e| Ok((e, 0, Format::DecimalSI));
    let binary = |e| Ok((0, e, Format::BinarySI));
    match suffix {
        "" => decimal(0),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => match suffix.strip_prefix(['e', 'E']) {
            Some(digits) if !digits.is_empty() => {
                Ok((digits.parse().map_err(|_| Error::Suffix)?, 0, Format::DecimalExponent))
            }
            _ => Err(Error::Suffix),
        },
    }
}

impl Quantity {
    pub const ZERO: Self = Self { nano: 0, format: Format::DecimalSI };

    /// Whole units.
    pub fn from_units(units: i64, format: Format) -> Self {
        Self { nano: i128::from(units) * NANO, format }
    }

    /// Thousandths: CPU.
    pub fn from_milli(milli: i64) -> Self {
        Self { nano: i128::from(milli) * (NANO / 1000), format: Format::DecimalSI }
    }

    /// Reads a text. What is finer than a billionth is rounded away from zero, so that somebody who asks
    /// for something gets something.
    ///
    /// # Errors
    /// The text is no quantity.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let parts = split(text)?;
        let (exponent, shift, mut format) = suffix_of(parts.suffix)?;
        let fraction = parts.fraction.trim_end_matches('0');
        let mut mantissa: i128 = 0;
        for digit in parts.whole.bytes().chain(fraction.bytes()) {
            let next = mantissa.checked_mul(10).and_then(|m| m.checked_add(i128::from(digit - b'0')));
            mantissa = next.ok_or(Error::Numeric)?;
        }
        let nano = if mantissa == 0 { Some(0) } else { scale(mantissa, shift, exponent, fraction.len()) };
        let nano = match (nano, format) {
            (Some(n), Format::BinarySI) => n.min(BINARY_CAP),
            (None, Format::BinarySI) => BINARY_CAP,
            (Some(n), _) => n,
            (None, _) => return Err(Error::Numeric),
        };
        if format == Format::BinarySI && nano > 0 && nano < NANO {
            format = Format::DecimalSI;
        }
        Ok(Self { nano: if parts.negative { -nano } else { nano }, format })
    }

    /// Whole units, rounded away from zero.
    pub fn value(self) -> i64 {
        self.rounded(NANO)
    }

    /// Thousandths, rounded away from zero.
    pub fn milli(self) -> i64 {
        self.rounded(NANO / 1000)
    }

    fn rounded(self, unit: i128) -> i64 {
        let magnitude = self.nano.unsigned_abs().div_ceil(unit.unsigned_abs());
        let magnitude = i64::try_from(magnitude).unwrap_or(i64::MAX);
        if self.nano < 0 { -magnitude } else { magnitude }
    }

    pub fn is_zero(self) -> bool {
        self.nano == 0
    }

    pub fn is_negative(self) -> bool {
        self.nano < 0
    }

    /// There is nothing finer than a thousandth in it.
    pub fn is_milli_precise(self) -> bool {
        self.nano % (NANO / 1000) == 0
    }

    /// There is nothing finer than one in it.
    pub fn is_whole(self) -> bool {
        self.nano % NANO == 0
    }

    pub fn format(self) -> Format {
        self.format
    }

    /// The least amount that is not less, and that lies a whole number of steps above `from`; written as the step is.
    /// `None` if that is beyond 2^63-1, or the step leads nowhere.
    pub fn stepped(self, from: Self, step: Self) -> Option<Self> {
        if step.nano <= 0 {
            return None;
        }
        let above = self.nano.checked_sub(from.nano)?;
        let steps = above.div_euclid(step.nano) + i128::from(above.rem_euclid(step.nano) > 0);
        let nano = steps.checked_mul(step.nano)?.checked_add(from.nano)?;
        (nano <= BINARY_CAP).then_some(Self { nano, format: step.format })
    }
}

/// The mantissa times 2^shift times 10^(exponent - decimals), in billionths, rounded up.
fn scale(mantissa: i128, shift: u32, exponent: i32, decimals: usize) -> Option<i128> {
    let mantissa = mantissa.checked_mul(1_i128.checked_shl(shift)?)?;
    let power = i64::from(exponent).checked_sub(i64::try_from(decimals).ok()?)?.checked_add(9)?;
    let magnitude = u32::try_from(power.unsigned_abs()).ok()?;
    let scaled = if power >= 0 {
        10_i128.checked_pow(magnitude).and_then(|p| mantissa.checked_mul(p))?
    } else {
        // A divisor beyond i128 is larger than any mantissa.
        let divisor = 10_i128.checked_pow(magnitude).unwrap_or(i128::MAX);
        mantissa / divisor + i128::from(mantissa % divisor != 0)
    };
    // Room for sums of many.
    (scaled < i128::MAX / 1024).then_some(scaled)
}

/// The text as the API writes it back.
///
/// # Errors
/// The text is no quantity.
pub fn canonical(text: &str) -> Result<Cow<'_, str>, Error> {
    let quantity = Quantity::parse(text)?;
    let parts = split(text)?;
    let (exponent, shift, format) = suffix_of(parts.suffix)?;
    let digits = parts.whole.len() + parts.fraction.len();
    // A text that upstream takes for canonical stays as it was written, also "1.500".
    let kept = match format {
        Format::BinarySI => {
            let odd = parts.whole.parse::<u64>().is_ok_and(|v| v & 7 != 0);
            parts.fraction.is_empty() && digits + (shift as usize * 3 / 10) < 15 && odd
        }
        _ => {
            let scale = i64::from(exponent) - parts.fraction.len() as i64;
            let zeros = |digits: &str| digits.len() - digits.trim_end_matches('0').len();
            let end = match zeros(parts.fraction) {
                all if all == parts.fraction.len() => all + zeros(parts.whole),
                some => some,
            };
            digits <= 18 && scale >= -9 && scale % 3 == 0 && end < 3 && !parts.whole.is_empty()
        }
    };
    if kept || text == "0" { Ok(Cow::Borrowed(text)) } else { Ok(Cow::Owned(quantity.to_string())) }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nano == 0 {
            return f.write_str("0");
        }
        let small = self.nano > -1024 * NANO && self.nano < 1024 * NANO;
        if self.format == Format::BinarySI && !small && self.is_whole() {
            let mut amount = self.nano / NANO;
            let mut power = 0;
            while amount % 1024 == 0 && power < 6 {
                amount /= 1024;
                power += 1;
            }
            return write!(f, "{amount}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][power]);
        }
        let (mut amount, mut exponent) = (self.nano, -9);
        while amount % 1000 == 0 {
            amount /= 1000;
            exponent += 3;
        }
        let suffix = match exponent {
            0 => Some(""),
            _ if self.format == Format::DecimalExponent => None,
            -9 => Some("n"),
            -6 => Some("u"),
            -3 => Some("m"),
            3 => Some("k"),
            6 => Some("M"),
            9 => Some("G"),
            12 => Some("T"),
            15 => Some("P"),
            18 => Some("E"),
            _ => None,
        };
        match suffix {
            Some(suffix) => write!(f, "{amount}{suffix}"),
            None => write!(f, "{amount}e{exponent}"),
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nano == other.nano
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nano.cmp(&other.nano)
    }
}

/// Sums keep the format of the first operand, or of the second where the first is zero. They saturate.
impl Add for Quantity {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let format = if self.nano == 0 { other.format } else { self.format };
        Self { nano: self.nano.saturating_add(other.nano), format }
    }
}

impl Sub for Quantity {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Quantity {
    type Output = Self;
    fn neg(self) -> Self {
        Self { nano: self.nano.saturating_neg(), format: self.format }
    }
}

impl Sum for Quantity {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl std::str::FromStr for Quantity {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse(text)
    }
}

#[cfg(test)]
#[path = "quantity_tests.rs"]
mod tests;
