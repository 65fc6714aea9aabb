//! The JSONPath of printer columns: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

use serde_json::Value;

/// A path, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// Counts from the end where it is negative.
    Index(i64),
    All,
    Where {
        path: Vec<String>,
        equal: bool,
        value: Value,
    },
}

/// What cannot be read as a path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no path that is understood")]
pub struct Error(String);

/// More values than this are not looked at.
const MAX_FOUND: usize = 1024;

impl JsonPath {
    /// # Errors
    /// The text is no path, or one with more than names, indexes, wildcards and comparisons.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let wrong = || Error(text.to_owned());
        let mut steps = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            if let Some(inner) = rest.strip_prefix('[') {
                let end = closing(inner).ok_or_else(wrong)?;
                steps.push(bracket(&inner[..end]).ok_or_else(wrong)?);
                rest = &inner[end + 1..];
                continue;
            }
            rest = rest.strip_prefix('.').ok_or_else(wrong)?;
            let (name, after) = name(rest);
            rest = after;
            match name.as_str() {
                "" if rest.is_empty() || rest.starts_with('[') => {}
                "" => return Err(wrong()),
                "*" => steps.push(Step::All),
                _ => steps.push(Step::Field(name)),
            }
        }
        Ok(Self(steps))
    }

    /// The values that the path leads to.
    pub fn find<'v>(&self, value: &'v Value) -> Vec<&'v Value> {
        let mut found = vec![value];
        for step in &self.0 {
            let mut next = Vec::new();
            for value in found {
                step.take(value, &mut next);
                next.truncate(MAX_FOUND);
            }
            found = next;
        }
        found
    }
}

/// Where the bracket ends, quoted text passed over.
fn closing(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match (quote, c) {
            (None, ']') => return Some(at),
            (None, '\'' | '"') => quote = Some(c),
            (Some(q), c) if q == c => quote = None,
            _ => {}
        }
    }
    None
}

/// A name up to the next dot or bracket; a backslash takes what follows as it is.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '.' | '[' => return (name, &text[at..]),
            '\\' => name.extend(chars.next().map(|(_, c)| c)),
            c => name.push(c),
        }
    }
    (name, "")
}

fn unquoted(text: &str) -> Option<&str> {
    ['\'', '"'].into_iter().find_map(|q| text.strip_prefix(q)?.strip_suffix(q))
}

fn bracket(text: &str) -> Option<Step> {
    let text = text.trim();
    if text == "*" {
        return Some(Step::All);
    }
    if let Some(name) = unquoted(text) {
        return Some(Step::Field(name.to_owned()));
    }
    if let Ok(index) = text.parse() {
        return Some(Step::Index(index));
    }
    let condition = text.strip_prefix("?(")?.strip_suffix(')')?;
    let (left, right, equal) = match condition.split_once("==") {
        Some((left, right)) => (left, right, true),
        None => condition.split_once("!=").map(|(left, right)| (left, right, false))?,
    };
    let path = left.trim().strip_prefix("@.")?.split('.').map(str::to_owned).collect();
    let right = right.trim();
    let value = match unquoted(right) {
        Some(text) => Value::from(text),
        None => serde_json::from_str(right).ok()?,
    };
    Some(Step::Where { path, equal, value })
}

impl Step {
    fn take<'v>(&self, value: &'v Value, found: &mut Vec<&'v Value>) {
        match (self, value) {
            (Self::Field(name), Value::Object(map)) => found.extend(map.get(name)),
            (Self::Index(at), Value::Array(items)) => {
                let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
                let at = if *at < 0 { at.saturating_add(length) } else { *at };
                found.extend(usize::try_from(at).ok().and_then(|at| items.get(at)));
            }
            (Self::All, Value::Array(items)) => found.extend(items),
            (Self::All, Value::Object(map)) => found.extend(map.values()),
            (Self::Where { path, equal, value }, Value::Array(items)) => {
                found.extend(items.iter().filter(|item| {
                    crate::meta::at(item, path).is_some_and(|there| (there == value) == *equal)
                }));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "jsonpath_tests.rs"]
mod tests;
