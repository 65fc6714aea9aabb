//! How two answers differ.

use std::{collections::BTreeSet, fmt, sync::LazyLock};

use regex::Regex;
use serde_json::Value;

/// A place that has different values on both sides, or none on one of them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    /// A JSON pointer, in which elements with a name stand under it.
    pub(crate) at: String,
    pub(crate) reference: Option<Value>,
    pub(crate) ours: Option<Value>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text =
            |value: &Option<Value>| value.as_ref().map_or_else(|| "absent".to_owned(), Value::to_string);
        write!(f, "{}: {} | {}", self.at, text(&self.reference), text(&self.ours))
    }
}

/// All places where the answers differ, but for what no two runs have in common.
pub(crate) fn compare(reference: &Value, ours: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    walk("", Some(&told(reference, "")), Some(&told(ours, "")), &mut found);
    found
}

/// Fields whose values a server makes up; that they are there is compared.
const OWN: [&str; 12] = [
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "time",
    "continue",
    "clusterIP",
    "clusterIPs",
    "nodePort",
    "healthCheckNodePort",
    "token",
    "expirationTimestamp",
];

/// How old something is, in a table.
static AGE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^\d+(s|m|h|d)$").expect("this is a regular expression"));

/// What is made up within texts.
static WITHIN: LazyLock<Vec<(Regex, &str)>> = LazyLock::new(|| {
    [
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "<uid>"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "<time>"),
        (r"127\.0\.0\.1:\d+", "<address>"),
        (r"\b10\.91\.\d+\.\d+\b", "<address>"),
        (r"resource version: \d+ \(\d+\)", "resource version: <revision>"),
    ]
    .map(|(pattern, name)| (Regex::new(pattern).expect("these are regular expressions"), name))
    .into()
});

/// A value with names in place of what a server made up.
fn told(value: &Value, key: &str) -> Value {
    let made_up = match value {
        Value::String(text) => !text.is_empty() && text != "None",
        Value::Number(number) => number.as_u64() != Some(0),
        _ => false,
    };
    if made_up && OWN.contains(&key) {
        return format!("<{key}>").into();
    }
    match value {
        Value::String(text) => {
            let mut text = text.clone();
            if key == "cells" && AGE.is_match(&text) {
                return "<age>".into();
            }
            for (pattern, name) in &*WITHIN {
                text = pattern.replace_all(&text, *name).into_owned();
            }
            text.into()
        }
        Value::Array(values) => values.iter().map(|value| told(value, key)).collect(),
        Value::Object(map) => {
            let mut named: serde_json::Map<_, _> =
                map.iter().map(|(key, value)| (key.clone(), told(value, key))).collect();
            let prefix = map.get("generateName").and_then(Value::as_str);
            if let (Some(prefix), Some(Value::String(name))) = (prefix, map.get("name"))
                && name.starts_with(prefix)
                && name.len() == prefix.len() + 5
            {
                named.insert("name".to_owned(), format!("{prefix}<suffix>").into());
            }
            // What follows is the causes once more.
            if named.get("details").is_some_and(|details| details.get("causes").is_some())
                && let Some(Value::String(message)) = named.get_mut("message")
                && let Some(end) = message.find(" is invalid: ")
            {
                message.truncate(end + " is invalid: ".len());
            }
            named.into()
        }
        other => other.clone(),
    }
}

fn walk(at: &str, reference: Option<&Value>, ours: Option<&Value>, found: &mut Vec<Difference>) {
    match (reference, ours) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let keys: BTreeSet<_> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let place = format!("{at}/{}", key.replace('~', "~0").replace('/', "~1"));
                walk(&place, a.get(key), b.get(key), found);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => match (by_name(a), by_name(b)) {
            (Some(a), Some(b)) => {
                let names: BTreeSet<_> = a.iter().chain(&b).map(|(name, _)| name).collect();
                let get = |list: &[(String, Value)], name: &str| {
                    list.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
                };
                for name in names {
                    walk(&format!("{at}/{name}"), get(&a, name).as_ref(), get(&b, name).as_ref(), found);
                }
            }
            _ => {
                for number in 0..a.len().max(b.len()) {
                    walk(&format!("{at}/{number}"), a.get(number), b.get(number), found);
                }
            }
        },
        (a, b) if a == b => {}
        (a, b) => found.push(Difference { at: at.to_owned(), reference: a.cloned(), ours: b.cloned() }),
    }
}

/// The elements by what names them, should all have names; those that have the same are told apart in their order.
fn by_name(list: &[Value]) -> Option<Vec<(String, Value)>> {
    let name = |value: &Value| {
        let text = |place: &str| value.pointer(place).and_then(Value::as_str);
        if let (Some(reason), Some(field)) = (text("/reason"), text("/field")) {
            return Some(format!("{reason} {field}"));
        }
        // Whose rules come first is chance.
        if let Some(paths) = value.get("nonResourceURLs").and_then(Value::as_array) {
            let paths: Vec<_> = paths.iter().filter_map(Value::as_str).collect();
            return Some(paths.join(" "));
        }
        let manager = text("/manager").map(|m| {
            format!(
                "{m} {} {}",
                text("/operation").unwrap_or_default(),
                text("/subresource").unwrap_or_default()
            )
        });
        let names = [text("/metadata/name"), text("/name"), text("/type"), text("/groupVersion")];
        manager.or_else(|| names.into_iter().flatten().next().map(str::to_owned))
    };
    let named: Vec<_> = list
        .iter()
        .map(|value| name(value).map(|name| (name.replace('/', "~1"), value.clone())))
        .collect::<Option<_>>()?;
    let mut distinct = BTreeSet::new();
    let named = named.into_iter().map(|(mut name, value)| {
        while !distinct.insert(name.clone()) {
            name.push('+');
        }
        (name, value)
    });
    Some(named.collect())
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
