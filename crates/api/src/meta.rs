//! What every object has: `metadata`, read from and written into a tree, and the rules for names.

use std::cmp::Reverse;

use serde_json::Value;

/// What is wrong with a name; the flag says that the name is only a `generateName` prefix.
pub type NameRule = fn(&str, bool) -> Vec<String>;

/// What stands at a path of object keys.
pub fn at<'a, S: AsRef<str>>(object: &'a Value, path: &[S]) -> Option<&'a Value> {
    path.iter().try_fold(object, |v, key| v.get(key.as_ref()))
}

/// Text at a path; empty when absent.
pub fn text<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    at(object, path).and_then(Value::as_str).unwrap_or_default()
}

pub fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

/// Sorts Kubernetes versions by priority: `v2`, `v1`, `v2beta1`, `v1beta2`, `v1alpha1`, then the rest by name.
pub fn version_rank(version: &str) -> impl Ord + use<> {
    let parsed = parse_version(version);
    let name = if parsed.is_none() { version.to_owned() } else { String::new() };
    (parsed.is_none(), parsed.map(Reverse), name)
}

/// Stability (2 stable, 1 beta, 0 alpha), major, minor.
fn parse_version(version: &str) -> Option<(u8, u32, u32)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().ok()?;
    let tail = &rest[digits..];
    if tail.is_empty() {
        return Some((2, major, 0));
    }
    let (stability, minor) = match tail.strip_prefix("beta") {
        Some(minor) => (1, minor),
        None => (0, tail.strip_prefix("alpha")?),
    };
    Some((stability, major, minor.parse().ok()?))
}

fn is_alnum(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit()
}

/// A prefix may end in a dash, because the random suffix follows it.
fn mask_trailing_dash(name: &str, prefix: bool) -> std::borrow::Cow<'_, str> {
    match name.strip_suffix('-') {
        Some(head) if prefix && !head.is_empty() => format!("{head}a").into(),
        _ => name.into(),
    }
}

fn label_shape(label: &str, first: fn(u8) -> bool) -> bool {
    let bytes = label.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z)) => first(a) && is_alnum(z) && bytes.iter().all(|&b| is_alnum(b) || b == b'-'),
        _ => false,
    }
}

fn too_long(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

/// RFC 1123 label: at most 63 of `[a-z0-9-]`, alphanumeric at both ends.
pub fn name_is_dns_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 63 {
        wrong.push(too_long(63));
    }
    if !label_shape(&name, is_alnum) {
        wrong.push(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
             start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
             validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
                .to_owned(),
        );
    }
    wrong
}

/// RFC 1035 label: as above, and a letter first.
pub fn name_is_dns1035_label(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 63 {
        wrong.push(too_long(63));
    }
    if !label_shape(&name, |b| b.is_ascii_lowercase()) {
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
pub fn name_is_dns_subdomain(name: &str, prefix: bool) -> Vec<String> {
    let name = mask_trailing_dash(name, prefix);
    let mut wrong = Vec::new();
    if name.len() > 253 {
        wrong.push(too_long(253));
    }
    if !name.split('.').all(|label| label_shape(label, is_alnum)) {
        wrong.push(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character (e.g. 'example.com', regex used for \
             validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
                .to_owned(),
        );
    }
    wrong
}

/// Anything that can stand in a URL's path: RBAC's names.
pub fn name_is_path_segment(name: &str, prefix: bool) -> Vec<String> {
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
