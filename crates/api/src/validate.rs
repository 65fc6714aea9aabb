//! What the API refuses, and in which words. The rules and the messages are upstream's.
//!
//! Every function reads an object in the storage version, decoded and defaulted, and looks only at what its
//! kind adds: the rules for metadata are in [`crate::meta`].

use serde_json::Value;

use crate::field::{Error, Errors, Path};
use crate::{meta, names};

pub(crate) mod access;
pub(crate) mod admission;
pub(crate) mod annotations;
pub(crate) mod autoscaling;
pub(crate) mod certificates;
pub(crate) mod cluster;
mod container;
pub(crate) mod devices;
mod disks;
pub(crate) mod groups;
pub(crate) mod initializers;
pub(crate) mod jobs;
pub(crate) mod leases;
pub(crate) mod machinery;
pub(crate) mod migration;
pub(crate) mod network;
pub(crate) mod pem;
pub(crate) mod pod;
mod pod_os;
pub(crate) mod quota;
pub(crate) mod resize;
mod resources;
mod scheduling;
mod security;
pub(crate) mod service;
pub(crate) mod storage;
pub(crate) mod trust;
mod volume;
pub(crate) mod workload;

/// A value and how it was reached. The path becomes text only when there is something to complain about.
#[derive(Clone, Copy)]
pub(crate) struct At<'a> {
    value: &'a Value,
    step: Step<'a>,
    parent: Option<&'a At<'a>>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

impl<'a> At<'a> {
    pub(crate) fn root(value: &'a Value) -> Self {
        Self { value, step: Step::Root, parent: None }
    }

    /// A field; its value is null when it is absent.
    pub(crate) fn get(&'a self, name: &'a str) -> At<'a> {
        At { value: &self.value[name], step: Step::Field(name), parent: Some(self) }
    }

    /// The same by another name.
    pub(crate) fn called(self, name: &'a str) -> Self {
        At { step: Step::Field(name), ..self }
    }

    /// A field, if it is there.
    pub(crate) fn opt(&'a self, name: &'a str) -> Option<At<'a>> {
        let value = self.value.get(name).filter(|v| !v.is_null())?;
        Some(At { value, step: Step::Field(name), parent: Some(self) })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some_and(|v| !v.is_null())
    }

    /// A value that is told of as though it were a field of this.
    pub(crate) fn with(&'a self, name: &'a str, value: &'a Value) -> At<'a> {
        At { value, step: Step::Field(name), parent: Some(self) }
    }

    /// The items of a list.
    pub(crate) fn items(&'a self) -> impl Iterator<Item = At<'a>> {
        let list = self.value.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().enumerate().map(|(i, value)| At { value, step: Step::Index(i), parent: Some(self) })
    }

    pub(crate) fn len(&self) -> usize {
        self.value.as_array().map_or(0, Vec::len)
    }

    /// The entries of a map.
    pub(crate) fn entries(&'a self) -> impl Iterator<Item = (&'a str, At<'a>)> {
        let map = self.value.as_object().into_iter().flatten();
        map.map(|(k, value)| (k.as_str(), At { value, step: Step::Key(k), parent: Some(self) }))
    }

    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    pub(crate) fn text(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    pub(crate) fn number(&self) -> Option<i64> {
        self.value.as_i64()
    }

    pub(crate) fn is_true(&self) -> bool {
        self.value == &Value::Bool(true)
    }

    pub(crate) fn path(&self) -> Path {
        let parent = self.parent.map(At::path).unwrap_or_default();
        match self.step {
            Step::Root => parent,
            Step::Field(name) => parent.child(name),
            Step::Index(i) => parent.index(i),
            Step::Key(key) => parent.key(key),
        }
    }

    pub(crate) fn required(&self, errors: &mut Errors, detail: &str) {
        errors.push(Error::required(&self.path(), detail));
    }

    pub(crate) fn invalid(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(Error::invalid(&self.path(), self.value.clone(), detail));
    }

    pub(crate) fn forbidden(&self, errors: &mut Errors, detail: impl Into<String>) {
        errors.push(Error::forbidden(&self.path(), detail));
    }

    pub(crate) fn duplicate(&self, errors: &mut Errors) {
        errors.push(Error::duplicate(&self.path(), self.value.clone()));
    }

    pub(crate) fn not_found(&self, errors: &mut Errors) {
        errors.push(Error::not_found(&self.path(), self.value.clone()));
    }

    /// Each of `wrong` is something that is wrong with the value.
    pub(crate) fn all_invalid(&self, errors: &mut Errors, wrong: Vec<String>) {
        for detail in wrong {
            self.invalid(errors, detail);
        }
    }

    /// A text that must be there.
    pub(crate) fn needed(&self, errors: &mut Errors) -> Option<&'a str> {
        match self.text() {
            "" => {
                self.required(errors, "");
                None
            }
            text => Some(text),
        }
    }

    /// A text that must be there and follow a rule.
    pub(crate) fn needed_as(&self, errors: &mut Errors, rule: impl Fn(&str) -> Vec<String>) {
        if let Some(text) = self.needed(errors) {
            self.all_invalid(errors, rule(text));
        }
    }

    /// A text that follows a rule, if it is there.
    pub(crate) fn rule(&self, errors: &mut Errors, rule: impl Fn(&str) -> Vec<String>) {
        if !self.text().is_empty() {
            self.all_invalid(errors, rule(self.text()));
        }
    }

    /// A text that follows a rule also when it is not there: then it is empty.
    pub(crate) fn always(&self, errors: &mut Errors, rule: impl Fn(&str) -> Vec<String>) {
        for detail in rule(self.text()) {
            errors.push(Error::invalid(&self.path(), self.text(), detail));
        }
    }

    /// One of a few words.
    pub(crate) fn one_of(&self, errors: &mut Errors, words: &[&str]) {
        if !words.contains(&self.text()) {
            errors.push(Error::not_supported(&self.path(), self.value.clone(), words));
        }
    }

    /// One of a few words, which must be there.
    pub(crate) fn needed_of(&self, errors: &mut Errors, words: &[&str]) {
        if self.needed(errors).is_some() {
            self.one_of(errors, words);
        }
    }

    /// A number within bounds, if it is there.
    pub(crate) fn within(&self, errors: &mut Errors, min: i64, max: i64) {
        if let Some(number) = self.number() {
            self.all_invalid(errors, names::in_range(number, min, max));
        }
    }

    /// A number that is not negative, if it is there.
    pub(crate) fn not_negative(&self, errors: &mut Errors) {
        if self.number().is_some_and(|n| n < 0) {
            self.invalid(errors, NEGATIVE);
        }
    }

    /// The number or the name of a port.
    pub(crate) fn port(&self, errors: &mut Errors) {
        let wrong = match self.value {
            Value::String(name) => names::port_name(name),
            number => names::port(number.as_i64().unwrap_or(0)),
        };
        match self.value {
            Value::Null => errors.push(Error::invalid(&self.path(), 0, wrong.concat())),
            _ => self.all_invalid(errors, wrong),
        }
    }

    /// An IP address.
    pub(crate) fn address(&self, errors: &mut Errors) {
        if self.text().parse::<std::net::IpAddr>().is_err() {
            self.invalid(errors, NO_ADDRESS);
        }
    }

    /// Labels.
    pub(crate) fn labels(&self, errors: &mut Errors) {
        if self.value.is_object() {
            meta::validate_labels(self.value, &self.path(), errors);
        }
    }

    /// The field stays as it was.
    pub(crate) fn unchanged(&self, errors: &mut Errors, old: &Value) {
        if self.value != old {
            errors.push(meta::immutable(&self.path(), self.value.clone()));
        }
    }
}

pub(crate) const NEGATIVE: &str = "must be greater than or equal to 0";
pub(crate) const NO_ADDRESS: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
pub(crate) const NOT_POSITIVE: &str = "must be greater than zero";
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

fn dns_label(text: &str) -> Vec<String> {
    names::dns_label(text, false)
}

fn dns_subdomain(text: &str) -> Vec<String> {
    names::dns_subdomain(text, false)
}

/// The API's own three truth values, in the order that messages list them.
pub(crate) const CONDITION_STATUSES: &[&str] = &["False", "True", "Unknown"];

const MAX_CONDITION_REASON: usize = 1024;
const MAX_CONDITION_MESSAGE: usize = 32 * 1024;

/// A list of `meta/v1.Condition`.
pub(crate) fn conditions(list: &At<'_>, errors: &mut Errors) {
    let mut seen = std::collections::BTreeSet::new();
    for condition in list.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text().to_owned()) {
            errors.push(Error::duplicate(&condition.path(), kind.text()));
        }
        if kind.text().is_empty() {
            kind.required(errors, "is required");
        } else {
            kind.all_invalid(errors, names::label_key(kind.text()));
        }
        condition.get("status").needed_of(errors, CONDITION_STATUSES);
        let generation = condition.get("observedGeneration");
        if generation.number().is_some_and(|n| n < 0) {
            generation.invalid(errors, "must be greater than or equal to zero");
        }
        condition.get("lastTransitionTime").needed(errors);
        let reason = condition.get("reason");
        if let Some(text) = reason.needed(errors) {
            reason.all_invalid(errors, names::condition_reason(text));
            if text.len() > MAX_CONDITION_REASON {
                errors.push(Error::too_long(&reason.path(), MAX_CONDITION_REASON));
            }
        }
        let message = condition.get("message");
        if message.text().len() > MAX_CONDITION_MESSAGE {
            errors.push(Error::too_long(&message.path(), MAX_CONDITION_MESSAGE));
        }
    }
}

/// A `meta/v1.LabelSelector`.
pub(crate) fn label_selector(at: &At<'_>, errors: &mut Errors) {
    at.get("matchLabels").labels(errors);
    for requirement in at.get("matchExpressions").items() {
        label_requirement(&requirement, errors, |_| false);
    }
}

/// What a selector asks of one label. `other_operator` judges operators that only some selectors have, and reports
/// what is wrong with their values.
fn label_requirement(at: &At<'_>, errors: &mut Errors, other_operator: impl FnOnce(&mut Errors) -> bool) {
    let values = at.get("values");
    match at.get("operator").text() {
        "In" | "NotIn" if values.len() == 0 => {
            values.required(errors, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if values.len() > 0 => {
            values.forbidden(errors, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'");
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
        _ if other_operator(errors) => {}
        _ => at.get("operator").invalid(errors, "not a valid selector operator"),
    }
    let key = at.get("key");
    key.all_invalid(errors, names::label_key(key.text()));
    for value in values.items() {
        value.rule(errors, names::label_value);
    }
}

/// The selector of a workload: it must be there, and select something in particular.
pub(crate) fn needed_selector(at: &At<'_>, errors: &mut Errors, whose: &str) {
    if at.value().is_null() {
        return at.required(errors, "");
    }
    label_selector(at, errors);
    if !at.has("matchLabels") && !at.has("matchExpressions") {
        at.invalid(errors, format!("empty selector is invalid for {whose}"));
    }
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
