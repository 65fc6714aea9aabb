//! Points in time: RFC 3339, between the years 1 and 9999.

use jiff::Timestamp;

/// A text with a zone, or a date alone, which is its midnight in UTC.
pub(crate) fn parse(text: &str) -> Option<Timestamp> {
    if text.len() == 10 {
        return parse(&format!("{text}T00:00:00Z"));
    }
    let date_time = text.as_bytes().get(10).is_some_and(|c| matches!(c, b'T' | b't'));
    // RFC 3339 knows neither jiff's zone names in brackets nor signs before a year.
    if !date_time || text.contains('[') || !text.as_bytes()[0].is_ascii_digit() {
        return None;
    }
    text.parse().ok().and_then(in_range)
}

/// The point, where it lies in the years that CEL knows.
pub(crate) fn in_range(time: Timestamp) -> Option<Timestamp> {
    const FIRST: i64 = -62_135_596_800;
    const LAST: i64 = 253_402_300_799;
    // Whole seconds are cut towards 1970: what is just before the first may seem to be it.
    let early = time.as_second() == FIRST && time.subsec_nanosecond() < 0;
    (!early && (FIRST..=LAST).contains(&time.as_second())).then_some(time)
}
