//! The formats of strings that schemas can name.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use regex::Regex;

use crate::names;

macro_rules! expression {
    ($name:ident, $text:literal) => {
        // The text is a constant, which every test that uses it compiles.
        static $name: LazyLock<Regex> = LazyLock::new(|| Regex::new($text).expect("a good expression"));
    };
}

expression!(UUID, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
expression!(UUID3, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$");
expression!(UUID4, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
expression!(UUID5, r"(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$");
expression!(HEX_COLOR, r"^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$");
expression!(RGB_COLOR, r"^rgb\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)$");
expression!(SSN, r"^\d{3}[- ]?\d{2}[- ]?\d{4}$");
expression!(OBJECT_ID, r"^[0-9a-fA-F]{24}$");
expression!(EMAIL, r"^[^@\s<>]+@[^@\s<>]+$");
expression!(URI, r"^([A-Za-z][A-Za-z0-9+.-]*:[^\s]*|/[^\s]*)$");
expression!(
    DURATION,
    r"^[-+]?(0|([0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(ns|us|µs|ms|s|m|h|d|w|nanos?|micros?|millis?|sec|second|seconds|min|minute|minutes|hour|hours|hr|day|days|week|weeks|nanosecond|nanoseconds|microsecond|microseconds|millisecond|milliseconds))+$"
);

/// Every format of a string that is known, without its dashes.
const KNOWN: [&str; 25] = [
    "bsonobjectid",
    "byte",
    "cidr",
    "creditcard",
    "date",
    "datetime",
    "duration",
    "email",
    "hexcolor",
    "hostname",
    "ipv4",
    "ipv6",
    "isbn",
    "isbn10",
    "isbn13",
    "k8slongname",
    "k8sshortname",
    "mac",
    "password",
    "rgbcolor",
    "ssn",
    "uri",
    "uuid",
    "uuid3",
    "uuid4",
];

/// Whether a format means something for a type; the empty type is any.
pub(super) fn is_known(ty: &str, format: &str) -> bool {
    match ty {
        "" | "string" => {
            let plain = format.replace('-', "");
            plain == "uuid5" || KNOWN.contains(&plain.as_str())
        }
        "integer" => matches!(format, "int32" | "int64"),
        "number" => matches!(format, "float" | "double"),
        _ => false,
    }
}

/// Whether a text is not in the format. One that is not known is that of every text.
pub(super) fn is_wrong(format: &str, text: &str) -> bool {
    let right = match format.replace('-', "").as_str() {
        "bsonobjectid" => OBJECT_ID.is_match(text),
        "byte" => BASE64_STANDARD.decode(text).is_ok(),
        "cidr" => cidr(text),
        "creditcard" => luhn(text),
        "date" => text.len() == 10 && text.parse::<jiff::civil::Date>().is_ok(),
        "datetime" => text.parse::<jiff::Timestamp>().is_ok(),
        "duration" => DURATION.is_match(text),
        "email" => EMAIL.is_match(text),
        "hexcolor" => HEX_COLOR.is_match(text),
        "hostname" => names::dns_subdomain(&text.to_lowercase(), false).is_empty(),
        "ipv4" => text.parse::<Ipv4Addr>().is_ok(),
        "ipv6" => text.parse::<Ipv6Addr>().is_ok(),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        "k8slongname" => names::dns_subdomain(text, false).is_empty(),
        "k8sshortname" => names::dns_label(text, false).is_empty(),
        "mac" => mac(text),
        "rgbcolor" => rgb(text),
        "ssn" => SSN.is_match(text),
        "uri" => URI.is_match(text),
        "uuid" => UUID.is_match(text),
        "uuid3" => UUID3.is_match(text),
        "uuid4" => UUID4.is_match(text),
        "uuid5" => UUID5.is_match(text),
        _ => true,
    };
    !right
}

fn cidr(text: &str) -> bool {
    let Some((address, bits)) = text.split_once('/') else { return false };
    let plain = !bits.is_empty() && bits.bytes().all(|b| b.is_ascii_digit());
    let bits: Option<u8> = bits.parse().ok().filter(|_| plain);
    bits.is_some_and(|bits| {
        (address.parse::<Ipv4Addr>().is_ok() && bits <= 32)
            || (address.parse::<Ipv6Addr>().is_ok() && bits <= 128)
    })
}

fn mac(text: &str) -> bool {
    let pairs = |separator: char| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len(), 6 | 8 | 20)
            && parts.iter().all(|p| p.len() == 2 && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    let quads = || {
        let parts: Vec<&str> = text.split('.').collect();
        matches!(parts.len(), 3 | 4 | 10)
            && parts.iter().all(|p| p.len() == 4 && p.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    pairs(':') || pairs('-') || quads()
}

fn rgb(text: &str) -> bool {
    RGB_COLOR.captures(text).is_some_and(|parts| {
        parts.iter().skip(1).flatten().all(|part| part.as_str().parse::<u16>().is_ok_and(|n| n <= 255))
    })
}

fn digits(text: &str) -> Vec<u32> {
    text.chars().filter_map(|c| c.to_digit(10)).collect()
}

fn luhn(text: &str) -> bool {
    let digits = digits(text);
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(at, d)| if at % 2 == 0 { *d } else { (d * 2) / 10 + (d * 2) % 10 })
        .sum();
    (13..=19).contains(&digits.len()) && sum.is_multiple_of(10)
}

fn isbn10(text: &str) -> bool {
    let plain: Vec<char> = text.chars().filter(|c| *c != '-' && *c != ' ').collect();
    let value = |at: usize, c: char| match c {
        'X' if at == 9 => Some(10),
        c => c.to_digit(10),
    };
    let weighted: Option<Vec<u32>> =
        plain.iter().enumerate().map(|(at, c)| Some((at as u32 + 1) * value(at, *c)?)).collect();
    plain.len() == 10 && weighted.is_some_and(|all| all.iter().sum::<u32>().is_multiple_of(11))
}

fn isbn13(text: &str) -> bool {
    let plain = text.chars().all(|c| c.is_ascii_digit() || c == '-' || c == ' ');
    let digits = digits(text);
    let sum: u32 = digits.iter().enumerate().map(|(at, d)| if at % 2 == 0 { *d } else { 3 * d }).sum();
    plain && digits.len() == 13 && sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_in_their_formats() {
        for (format, good, bad) in [
            ("date", "2026-02-03", "2026-02-30"),
            ("date-time", "2026-02-03T04:05:06Z", "2026-02-03"),
            ("byte", "aGVsbG8=", "*"),
            ("ipv4", "10.0.0.1", "10.0.0.256"),
            ("ipv6", "::1", "10.0.0.1"),
            ("cidr", "10.0.0.0/8", "10.0.0.0/33"),
            ("mac", "01:23:45:67:89:ab", "01:23"),
            ("uuid", "123e4567-e89b-12d3-a456-426614174000", "123e4567"),
            ("uuid4", "123e4567-e89b-42d3-a456-426614174000", "123e4567-e89b-12d3-a456-426614174000"),
            ("email", "a@b.example", "a"),
            ("uri", "https://example.com/a", "not a uri"),
            ("hostname", "a.example.com", "-"),
            ("duration", "1h30m", "soon"),
            ("hexcolor", "#ffffff", "#ggg"),
            ("rgbcolor", "rgb(1,2,255)", "rgb(1,2,256)"),
            ("creditcard", "4111 1111 1111 1111", "4111 1111 1111 1112"),
            ("isbn", "978-0321751041", "978-0321751042"),
            ("isbn10", "0321751043", "0321751044"),
            ("ssn", "123-45-6789", "123"),
            ("bsonobjectid", "507f1f77bcf86cd799439011", "507f"),
            ("k8s-short-name", "abc", "a.b"),
            ("k8s-long-name", "a.b", "A"),
        ] {
            assert!(is_known("string", format), "{format}");
            assert!(!is_wrong(format, good), "{format} {good}");
            assert!(is_wrong(format, bad), "{format} {bad}");
        }
        assert!(!is_wrong("made-up", "anything") && !is_known("string", "made-up"));
        assert!(is_known("integer", "int32") && !is_known("integer", "date"));
    }
}
