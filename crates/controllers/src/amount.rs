//! Numbers that are given as such or as a part of a whole: `3`, `25%`; and amounts: `100m`.

use k8s_openapi::apimachinery::pkg::{api::resource::Quantity, util::intstr::IntOrString};

/// What becomes of a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Round {
    Up,
    Down,
}

/// How many of `of` are meant, never less than none. What is absent, or no percentage, means none.
pub(crate) fn scaled(value: Option<&IntOrString>, of: i32, round: Round) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(n)) => (*n).max(0),
        Some(IntOrString::String(text)) => {
            let percent = i64::from(text.strip_suffix('%').and_then(|p| p.parse::<i32>().ok()).unwrap_or(0));
            let exact = percent * i64::from(of);
            let result = match round {
                Round::Up => (exact + 99).div_euclid(100),
                Round::Down => exact.div_euclid(100),
            };
            i32::try_from(result.max(0)).unwrap_or(i32::MAX)
        }
    }
}

/// An amount in thousandths, rounded up; what is none has none.
pub(crate) fn milli(amount: &Quantity) -> Option<i64> {
    amount.0.parse().ok().map(tiphys_api::quantity::Quantity::milli)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_whole_are_rounded_as_asked() {
        let percent = |text: &str| Some(IntOrString::String(text.to_owned()));
        for (value, of, up, down) in [
            (None, 10, 0, 0),
            (Some(IntOrString::Int(3)), 10, 3, 3),
            (Some(IntOrString::Int(-3)), 10, 0, 0),
            (percent("25%"), 10, 3, 2),
            (percent("100%"), 7, 7, 7),
            (percent("10%"), 1, 1, 0),
            (percent("many"), 10, 0, 0),
            (percent("2147483647%"), i32::MAX, i32::MAX, i32::MAX),
        ] {
            assert_eq!(scaled(value.as_ref(), of, Round::Up), up, "{value:?} of {of}");
            assert_eq!(scaled(value.as_ref(), of, Round::Down), down, "{value:?} of {of}");
        }
    }
}
