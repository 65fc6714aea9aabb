//! Wall-clock time as CRI and the log format want it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970, the unit of every CRI timestamp.
pub(crate) fn now_nanos() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Writes `nanos` as RFC 3339 in UTC with nine decimals, the form the CRI log format asks for.
///
/// Done by hand because the shim writes one of these a line and must stay small.
pub(crate) fn write_rfc3339(nanos: i64, into: &mut Vec<u8>) {
    let seconds = nanos.div_euclid(1_000_000_000);
    let (year, month, day) = civil(seconds.div_euclid(86_400));
    let second_of_day = seconds.rem_euclid(86_400);
    let digits = |into: &mut Vec<u8>, value: i64, width: u32, after: u8| {
        for place in (0..width).rev() {
            into.push(b'0' + u8::try_from(value / 10_i64.pow(place) % 10).unwrap_or(0));
        }
        into.push(after);
    };
    digits(into, year, 4, b'-');
    digits(into, month, 2, b'-');
    digits(into, day, 2, b'T');
    digits(into, second_of_day / 3600, 2, b':');
    digits(into, second_of_day / 60 % 60, 2, b':');
    digits(into, second_of_day % 60, 2, b'.');
    digits(into, nanos.rem_euclid(1_000_000_000), 9, b'Z');
}

/// The Gregorian date of a day counted from 1970-01-01, by eras of 400 years that begin in March.
fn civil(day: i64) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day_of_month = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day_of_month)
}

#[cfg(test)]
#[path = "clock_tests.rs"]
mod tests;
