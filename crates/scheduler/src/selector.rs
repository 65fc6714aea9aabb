//! Label selectors in a form that can be compared, ordered and asked without parsing.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Test {
    In(Vec<Box<str>>),
    NotIn(Vec<Box<str>>),
    Exists,
    Absent,
}

/// What a set of labels must fulfil; [`Selector::default`] is fulfilled by every one.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    tests: Vec<(Box<str>, Test)>,
    /// Nothing fulfils it.
    never: bool,
}

impl Selector {
    /// As the API has it: none selects nothing, an empty one everything.
    pub fn of(selector: Option<&LabelSelector>) -> Self {
        let Some(selector) = selector else { return Self { tests: Vec::new(), never: true } };
        let mut compiled = Self::exactly(selector.match_labels.iter().flatten());
        for requirement in selector.match_expressions.iter().flatten() {
            let values = || requirement.values.iter().flatten().map(|v| v.as_str().into()).collect();
            let test = match requirement.operator.as_str() {
                "In" => Test::In(values()),
                "NotIn" => Test::NotIn(values()),
                "Exists" => Test::Exists,
                "DoesNotExist" => Test::Absent,
                // Validation lets no other through; what we cannot read selects nothing.
                _ => return Self { tests: Vec::new(), never: true },
            };
            compiled.tests.push((requirement.key.as_str().into(), test));
        }
        compiled
    }

    /// Labels that have all of these.
    pub fn exactly<'a>(labels: impl Iterator<Item = (&'a String, &'a String)>) -> Self {
        let tests = labels.map(|(key, value)| (key.as_str().into(), Test::In(vec![value.as_str().into()])));
        Self { tests: tests.collect(), never: false }
    }

    /// And the label must have this value, or must not.
    pub fn and(&mut self, key: &str, value: &str, equal: bool) {
        let values = vec![value.into()];
        self.tests.push((key.into(), if equal { Test::In(values) } else { Test::NotIn(values) }));
    }

    /// And what the other one asks for.
    pub fn merge(&mut self, other: Self) {
        self.tests.extend(other.tests);
        self.never |= other.never;
    }

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        self.tests.is_empty() && !self.never
    }

    pub fn matches(&self, labels: &Labels) -> bool {
        !self.never
            && self.tests.iter().all(|(key, test)| {
                let value = labels.get(&**key);
                let among = |values: &[Box<str>]| value.is_some_and(|v| values.iter().any(|w| **w == **v));
                match test {
                    Test::In(values) => among(values),
                    Test::NotIn(values) => !among(values),
                    Test::Exists => value.is_some(),
                    Test::Absent => value.is_none(),
                }
            })
    }
}
