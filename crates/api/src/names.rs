//! Rules for names, keys and values. Each returns what is wrong, worded as upstream words it; an empty list
//! means that all is well.

use std::borrow::Cow;

/// What is wrong with an object's name; the flag says that it is only a `generateName` prefix.
pub type NameRule = fn(&str, bool) -> Vec<String>;

fn is_lower_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// A prefix may end in a dash, because the random suffix follows it.
fn mask_trailing_dash(name: &str, prefix: bool) -> Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => format!("{head}a").into(),
        _ => name.into(),
    }
}

/// At least one byte, the first and last by their rules, the others by theirs.
fn has_shape(text: &str, first: fn(u8) -> bool, inner: fn(u8) -> bool, last: fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z)) => first(a) && last(z) && bytes.iter().all(|&b| inner(b)),
        _ => false,
    }
}

fn is_label(text: &str, first: fn(u8) -> bool) -> bool {
    has_shape(text, first, |b| is_lower_alnum(b) || b == b'-', is_lower_alnum)
}

fn is_subdomain(text: &str) -> bool {
    text.split('.').all(|label| is_label(label, is_lower_alnum))
}

/// How names that are too long are told of, and (in bytes, for upstream has two words for it) labels.
pub(crate) fn max_len(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn max_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

pub(crate) fn in_range(value: i64, min: i64, max: i64) -> Vec<String> {
    if (min..=max).contains(&value) {
        Vec::new()
    } else {
        vec![format!("must be between {min} and {max}, inclusive")]
    }
}

const SUBDOMAIN_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";

fn subdomain_shape() -> String {
    format!(
        "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
         must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '{SUBDOMAIN_REGEX}')"
    )
}

/// RFC 1123 label: at most 63 of `[a-z0-9-]`, alphanumeric at both ends.
pub fn dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 63 {
        wrong.push(max_len(63));
    }
    if !is_label(&name, is_lower_alnum) {
        wrong.push(if is_subdomain(&name) {
            "must not contain dots".to_owned()
        } else {
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
             start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
             validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned()
        });
    }
    wrong
}

/// RFC 1035 label: as above, and a letter first.
pub fn dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 63 {
        wrong.push(max_len(63));
    }
    if !is_label(&name, |b| b.is_ascii_lowercase()) {
        wrong.push(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
             alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
             regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    wrong
}

/// RFC 1123 subdomain: labels joined by dots, at most 253 bytes together.
pub fn dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 253 {
        wrong.push(max_len(253));
    }
    if !is_subdomain(&name) {
        wrong.push(subdomain_shape());
    }
    wrong
}

const UNDERSCORE_REGEX: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?(\\._?[a-z0-9]([-_a-z0-9]*[a-z0-9])?)*";

/// A DNS subdomain whose labels may have underscores inside and begin with one (KEP-4427).
pub fn dns_subdomain_with_underscores(name: &str) -> Vec<String> {
    let is_inner = |b| is_lower_alnum(b) || b == b'-' || b == b'_';
    let is_label = |label: &str| {
        has_shape(label.strip_prefix('_').unwrap_or(label), is_lower_alnum, is_inner, is_lower_alnum)
    };
    let mut wrong = Vec::new();
    if name.len() > 253 {
        wrong.push(max_len(253));
    }
    if !name.split('.').all(is_label) {
        wrong.push(format!(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '_', '-' or '.', \
             and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
             validation is '{UNDERSCORE_REGEX}')"
        ));
    }
    wrong
}

/// All names of a domain: `*.` and a DNS subdomain.
pub fn wildcard(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.len() > 253 {
        wrong.push(max_len(253));
    }
    if !name.strip_prefix("*.").is_some_and(is_subdomain) {
        wrong.push(format!(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
             consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character \
             (e.g. '*.example.com', regex used for validation is '\\*\\.{SUBDOMAIN_REGEX}')"
        ));
    }
    wrong
}

/// Anything that can stand in a URL's path: RBAC's names.
pub fn path_segment(name: &str, prefix: bool) -> Vec<String> {
    let mut wrong = Vec::new();
    if !prefix && (name == "." || name == "..") {
        wrong.push(format!("may not be '{name}'"));
    }
    for bad in ["/", "%"] {
        if name.contains(bad) {
            wrong.push(format!("may not contain '{bad}'"));
        }
    }
    wrong
}

fn is_alnum(b: u8) -> bool {
    b.is_ascii_alphanumeric()
}

fn is_key_shape(text: &str) -> bool {
    has_shape(text, is_alnum, |b| is_alnum(b) || matches!(b, b'-' | b'_' | b'.'), is_alnum)
}

const KEY_SHAPE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
                         an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

/// A label's key: an optional DNS subdomain and `/`, then at most 63 of `[A-Za-z0-9-_.]`.
pub fn label_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let name = match key.split_once('/') {
        None => key,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a valid label key {KEY_SHAPE} with an optional DNS subdomain prefix and '/' (e.g. \
                 'example.com/MyName')"
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                wrong.push("prefix part must be non-empty".to_owned());
            } else {
                wrong.extend(dns_subdomain(prefix, false).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push(format!("name part {}", max_bytes(63)));
    }
    if !is_key_shape(name) {
        wrong.push(format!("name part {KEY_SHAPE}"));
    }
    wrong
}

/// A label's value: empty, or at most 63 of `[A-Za-z0-9-_.]`.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.len() > 63 {
        wrong.push(max_bytes(63));
    }
    if !value.is_empty() && !is_key_shape(value) {
        wrong.push(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
             must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', \
             regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
                .to_owned(),
        );
    }
    wrong
}

/// A key of a ConfigMap or Secret: a file's name.
pub fn config_key(key: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if key.len() > 253 {
        wrong.push(max_len(253));
    }
    if key.is_empty() || !key.bytes().all(|b| is_alnum(b) || matches!(b, b'-' | b'_' | b'.')) {
        wrong.push(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
             'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')"
                .to_owned(),
        );
    }
    wrong.extend(parent_prefix(key));
    wrong
}

fn parent_prefix(name: &str) -> Option<String> {
    match name {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ => name.starts_with("..").then(|| "must not start with '..'".to_owned()),
    }
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if name.is_empty() {
        wrong.push("environment variable name must be non-empty".to_owned());
    }
    if !name.bytes().all(|b| (b' '..=b'~').contains(&b) && b != b'=') {
        wrong.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    wrong
}

/// The name of a port: at most 15 of `[a-z0-9-]`, a letter among them.
pub fn port_name(name: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut say = |bad: bool, what: &str| {
        if bad {
            wrong.push(what.to_owned());
        }
    };
    say(name.len() > 15, &max_len(15));
    let charset = !name.is_empty() && name.bytes().all(|b| is_lower_alnum(b) || b == b'-');
    say(!charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    say(!name.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    say(name.contains("--"), "must not contain consecutive hyphens");
    say(name.starts_with('-') || name.ends_with('-'), "must not begin or end with a hyphen");
    wrong
}

/// The number of a port.
pub fn port(number: i64) -> Vec<String> {
    in_range(number, 1, 65535)
}

/// The name of an HTTP header.
pub fn http_header(name: &str) -> Vec<String> {
    if !name.is_empty() && name.bytes().all(|b| is_alnum(b) || b == b'-') {
        return Vec::new();
    }
    vec![
        "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used \
         for validation is '[-A-Za-z0-9]+')"
            .to_owned(),
    ]
}

/// The reason of a condition: a word for machines, perhaps with parts.
pub fn condition_reason(text: &str) -> Vec<String> {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':');
    if has_shape(text, |b| b.is_ascii_alphabetic(), inner, |b| b.is_ascii_alphanumeric() || b == b'_') {
        return Vec::new();
    }
    vec![
        "a condition reason must start with alphabetic character, optionally followed by a string of \
         alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
         'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for \
         validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')"
            .to_owned(),
    ]
}

/// `25%`.
pub fn percent(text: &str) -> Vec<String> {
    let digits = text.strip_suffix('%').unwrap_or_default();
    if !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()) {
        return Vec::new();
    }
    vec![
        "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
         used for validation is '[0-9]+%')"
            .to_owned(),
    ]
}

/// What is wrong with the name of an initializer, which is a domain of at least three parts.
pub fn initializer(name: &str) -> Vec<String> {
    let mut wrong = dns_subdomain(name, false);
    if wrong.is_empty() && name.split('.').count() < 3 {
        wrong.push("should be a domain with at least three segments separated by dots".to_owned());
    }
    wrong
}

/// Words of the expression language (CEL) that are part of its grammar, and those that no variable may have.
pub const CEL_GRAMMAR: [&str; 4] = ["true", "false", "null", "in"];
pub const CEL_RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Whether a word means something to the expression language.
pub fn is_cel_word(text: &str) -> bool {
    CEL_GRAMMAR.contains(&text) || CEL_RESERVED.contains(&text)
}

#[cfg(test)]
#[path = "names_tests.rs"]
mod tests;
