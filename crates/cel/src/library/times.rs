//! The parts of points in time and of durations.

use jiff::{civil::DateTime, tz::TimeZone};

use super::{Out, Price, Regexes, Row};
use crate::error::EvalError;
use crate::value::Value;

const TIME: &[&str] = &["timestamp.() int", "timestamp.(string) int"];
const BOTH: &[&str] = &["timestamp.() int", "timestamp.(string) int", "duration.() int"];

pub(super) const ROWS: &[Row] = &[
    ("getFullYear", |_, a| part(a, |t| i64::from(t.year())), Price::One, TIME),
    ("getMonth", |_, a| part(a, |t| i64::from(t.month()) - 1), Price::One, TIME),
    ("getDayOfYear", |_, a| part(a, |t| i64::from(t.date().day_of_year()) - 1), Price::One, TIME),
    ("getDayOfMonth", |_, a| part(a, |t| i64::from(t.day()) - 1), Price::One, TIME),
    ("getDate", |_, a| part(a, |t| i64::from(t.day())), Price::One, TIME),
    ("getDayOfWeek", |_, a| part(a, |t| i64::from(t.weekday().to_sunday_zero_offset())), Price::One, TIME),
    ("getHours", hours, Price::One, BOTH),
    ("getMinutes", minutes, Price::One, BOTH),
    ("getSeconds", seconds, Price::One, BOTH),
    ("getMilliseconds", milliseconds, Price::One, BOTH),
];

/// A zone: `UTC`, an offset like `+02:00`, or a name of the host's database.
fn zone(name: &str) -> Result<TimeZone, EvalError> {
    let unknown = || EvalError::new(format!("unknown time zone {name}"));
    if let Some((hours, minutes)) = name.split_once(':') {
        let number = |s: &str| s.parse::<i32>().map_err(|_| unknown());
        let sign = if hours.starts_with('-') { -1 } else { 1 };
        let hours = number(hours.trim_start_matches(['+', '-']))?;
        let minutes = number(minutes)?;
        if !(0..=59).contains(&minutes) || hours > 24 {
            return Err(unknown());
        }
        let offset =
            jiff::tz::Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).map_err(|_| unknown())?;
        return Ok(TimeZone::fixed(offset));
    }
    match name {
        "" | "UTC" | "Z" => Ok(TimeZone::UTC),
        name => TimeZone::get(name).map_err(|_| unknown()),
    }
}

fn part<'a>(args: &[Value<'a>], of: impl Fn(DateTime) -> i64) -> Out<'a> {
    let zone = match args.get(1) {
        Some(name) => zone(name.as_str().ok_or_else(EvalError::no_overload)?)?,
        None => TimeZone::UTC,
    };
    match &args[0] {
        Value::Timestamp(t) => Ok(Value::Int(of(zone.to_datetime(*t)))),
        _ => Err(EvalError::no_overload()),
    }
}

fn hours<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Int(d / 3_600_000_000_000)),
        _ => part(args, |t| i64::from(t.hour())),
    }
}

fn minutes<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Int(d / 60_000_000_000)),
        _ => part(args, |t| i64::from(t.minute())),
    }
}

fn seconds<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Int(d / 1_000_000_000)),
        _ => part(args, |t| i64::from(t.second())),
    }
}

fn milliseconds<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    match &args[0] {
        Value::Duration(d) => Ok(Value::Int(d / 1_000_000 % 1_000)),
        _ => part(args, |t| i64::from(t.millisecond())),
    }
}
