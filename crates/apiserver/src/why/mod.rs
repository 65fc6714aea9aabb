//! Why an object is not in its wanted state.
//!
//! Nothing is kept for this but what somebody [reports](report); an answer is put together when it is asked for,
//! from what the object itself, what it owns, its events and its reports say. What is said of several objects
//! alike is said once.

mod conditions;
mod pods;
pub(crate) mod report;

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tiphys_api::meta;
use tiphys_api::table::{self, Column};

/// The API version of explanations and reports.
pub(crate) const VERSION: &str = "why.tiphys.io/v1";

/// An object that something is said of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Subject {
    pub(crate) kind: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Subject {
    pub(crate) fn new(kind: &str, object: &Value) -> Self {
        Self {
            kind: kind.to_owned(),
            namespace: meta::namespace(object).to_owned(),
            name: meta::name(object).to_owned(),
        }
    }

    fn to_value(&self) -> Value {
        let mut value = json!({"kind": self.kind, "name": self.name});
        if !self.namespace.is_empty() {
            value["namespace"] = self.namespace.as_str().into();
        }
        value
    }
}

/// One thing that keeps an object from its wanted state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cause {
    /// One word, as conditions and events have it.
    pub(crate) reason: String,
    /// Who says so, or who is waited for.
    pub(crate) by: String,
    pub(crate) message: String,
}

impl Cause {
    pub(crate) fn new(reason: &str, by: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), by: by.to_owned(), message: message.into() }
    }
}

/// All causes that are known, each with what it is said of.
#[derive(Debug, Default)]
pub(crate) struct Explanation {
    /// In the order in which they were found: what is nearest to the object first.
    causes: Vec<(Cause, Vec<Subject>, usize)>,
    place: BTreeMap<Cause, usize>,
    /// There were more than an answer holds.
    cut: bool,
}

impl Explanation {
    /// The most causes, and the most subjects of one, that an answer names.
    const CAUSES: usize = 100;
    const SUBJECTS: usize = 20;

    pub(crate) fn add(&mut self, subject: &Subject, cause: Cause) {
        let at = match self.place.get(&cause) {
            Some(&at) => at,
            None if self.causes.len() == Self::CAUSES => return self.cut = true,
            None => {
                self.place.insert(cause.clone(), self.causes.len());
                self.causes.push((cause, Vec::new(), 0));
                self.causes.len() - 1
            }
        };
        let (_, subjects, count) = &mut self.causes[at];
        if subjects.contains(subject) {
            return;
        }
        *count += 1;
        if subjects.len() < Self::SUBJECTS {
            subjects.push(subject.clone());
        }
    }

    /// What an object says of itself.
    pub(crate) fn add_object(&mut self, kind: &str, object: &Value) {
        let subject = Subject::new(kind, object);
        let causes = conditions::of_deletion(object)
            .into_iter()
            .chain(pods::of_containers(kind, object))
            .chain(conditions::of_status(kind, object));
        causes.for_each(|cause| self.add(&subject, cause));
    }

    /// What an event of the type `Warning` says.
    pub(crate) fn add_event(&mut self, subject: &Subject, event: &Value) {
        let by = match meta::text(event, &["reportingComponent"]) {
            "" => meta::text(event, &["source", "component"]),
            by => by,
        };
        let cause = Cause::new(meta::text(event, &["reason"]), by, meta::text(event, &["message"]));
        // A condition or a container often says the same, and more precisely who says it.
        let is_said = |(said, of, _): &(Cause, Vec<Subject>, usize)| {
            said.message == cause.message && of.contains(subject)
        };
        if !self.causes.iter().any(is_said) {
            self.add(subject, cause);
        }
    }

    /// `why.tiphys.io/v1` `Explanation`: its `causes` are empty where nothing is known.
    pub(crate) fn to_value(&self, subject: &Subject) -> Value {
        let causes = self.causes.iter().map(|(cause, subjects, count)| {
            json!({"reason": cause.reason, "by": cause.by, "message": cause.message, "count": count,
                   "objects": subjects.iter().map(Subject::to_value).collect::<Vec<_>>()})
        });
        let causes: Vec<_> = causes.collect();
        let mut metadata = subject.to_value();
        meta::as_map(&mut metadata).remove("kind");
        json!({"kind": "Explanation", "apiVersion": VERSION, "metadata": metadata, "causes": causes,
               "incomplete": self.cut})
    }

    /// The same for people.
    pub(crate) fn to_table(&self, subject: &Subject) -> Value {
        const META: &str = "meta.k8s.io/v1";
        let columns = ["Reason", "By", "Object", "Message"].map(|name| Column::text(name).definition());
        let row = |cells: [String; 4]| {
            let metadata = json!({"name": subject.name, "namespace": subject.namespace});
            table::row(cells.map(Value::from).into(), Some(table::partial(META, &metadata)))
        };
        let mut rows: Vec<_> = self
            .causes
            .iter()
            .map(|(cause, subjects, count)| {
                let first = subjects.first();
                let mut named =
                    first.map(|s| format!("{}/{}", s.kind.to_lowercase(), s.name)).unwrap_or_default();
                if *count > 1 {
                    named += &format!(" and {} more", count - 1);
                }
                row([cause.reason.clone(), cause.by.clone(), named, cause.message.clone()])
            })
            .collect();
        if rows.is_empty() {
            let nothing = "nothing is known that keeps it from its wanted state";
            rows.push(row(["<none>".to_owned(), String::new(), String::new(), nothing.to_owned()]));
        }
        table::table(META, &json!({}), columns.into(), rows)
    }
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
