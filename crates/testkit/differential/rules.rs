//! Which differences are meant, and why.

use anyhow::{Context, Result, ensure};
use regex::Regex;
use serde::Deserialize;
use serde_json::Value;

use crate::compare::Difference;

/// An entry of `differences.yaml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// A regular expression for the whole place, in which `*` is one step and `**` any number of them.
    at: String,
    /// A regular expression that the file, the number of the request and the request must match somewhere.
    #[serde(default, rename = "in")]
    within: String,
    /// A regular expression for the whole value as JSON; `absent` is none.
    #[serde(default)]
    reference: Option<String>,
    #[serde(default)]
    ours: Option<String>,
    /// The servers differ on some runs alone: not to need this rule is no error.
    #[serde(default)]
    sometimes: bool,
    why: String,
}

struct Rule {
    at: Regex,
    within: Regex,
    reference: Option<Regex>,
    ours: Option<Regex>,
    sometimes: bool,
    why: String,
    text: String,
    used: usize,
}

pub(crate) struct Rules(Vec<Rule>);

impl Rules {
    /// # Errors
    /// It is no list of entries, or one has no reason.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let entries: Vec<Entry> = serde_saphyr::from_str(text).context("reading the differences")?;
        entries.into_iter().map(Rule::new).collect::<Result<_>>().map(Self)
    }

    /// Whether the difference is meant.
    pub(crate) fn explain(&mut self, request: &str, difference: &Difference) -> bool {
        let rule = self.0.iter_mut().find(|rule| rule.explains(request, difference));
        if let Some(rule) = rule {
            rule.used += 1;
            return true;
        }
        false
    }

    pub(crate) fn explained(&self) -> usize {
        self.0.iter().map(|rule| rule.used).sum()
    }

    /// How many differences there are for each reason.
    pub(crate) fn table(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().filter(|rule| rule.used > 0).map(|rule| (rule.used, rule.why.as_str()))
    }

    /// Rules that every run needs, and this one did not.
    pub(crate) fn unused(&self) -> Vec<&str> {
        self.0
            .iter()
            .filter(|rule| rule.used == 0 && !rule.sometimes)
            .map(|rule| rule.text.as_str())
            .collect()
    }
}

impl Rule {
    fn new(entry: Entry) -> Result<Self> {
        ensure!(!entry.why.trim().is_empty(), "{}: no reason", entry.at);
        let place = entry.at.replace("/**", "\u{1}").replace('*', "[^/]*").replace('\u{1}', "(/.*)?");
        let whole = |text: &str| {
            Regex::new(&format!("^(?s:{text})$")).with_context(|| format!("in the rule for {}", entry.at))
        };
        let text = format!("{} in {:?}: {}", entry.at, entry.within, entry.why);
        Ok(Self {
            at: whole(&place)?,
            within: Regex::new(&entry.within)?,
            reference: entry.reference.as_deref().map(whole).transpose()?,
            ours: entry.ours.as_deref().map(whole).transpose()?,
            sometimes: entry.sometimes,
            why: entry.why,
            text,
            used: 0,
        })
    }

    fn explains(&self, request: &str, difference: &Difference) -> bool {
        let value = |rule: &Option<Regex>, value: &Option<Value>| {
            let text = value.as_ref().map_or_else(|| "absent".to_owned(), Value::to_string);
            rule.as_ref().is_none_or(|rule| rule.is_match(&text))
        };
        self.at.is_match(&difference.at)
            && self.within.is_match(request)
            && value(&self.reference, &difference.reference)
            && value(&self.ours, &difference.ours)
    }
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
