//! Which requests a webhook or a policy is about: rules, selectors and the equivalence of resources.
//!
//! A [`Matcher`] is compiled when its configuration changes. A [`Candidate`] is one request, and looks up what
//! matchers ask about it at most once.

use std::sync::{Arc, OnceLock};

use serde_json::Value;
use tiphys_api::convert;
use tiphys_api::kind::{Action, Kind, Kinds};
use tiphys_api::meta;
use tiphys_api::selector::{self, LabelSelector};
use tiphys_api::status::Status;

use super::{Attributes, Operation};
use crate::source::Source;

/// The group of the kinds that configure admission.
pub(super) const GROUP: &str = "admissionregistration.k8s.io";

/// Whether the request writes one of these kinds, whose expressions are to be checked.
pub(super) fn configures(attributes: &Attributes<'_>, resource: &str) -> bool {
    attributes.group == GROUP
        && attributes.resource == resource
        && attributes.subresource.is_empty()
        && matches!(attributes.operation, Operation::Create | Operation::Update)
}

/// Kinds that neither webhooks nor policies are asked about: those that configure admission, of which a bad one could not be mended
/// otherwise, and those that ask who somebody is and what he may, which a webhook may have to ask itself.
pub(super) fn is_exempt(attributes: &Attributes<'_>) -> bool {
    match attributes.group {
        GROUP => matches!(
            attributes.resource,
            "mutatingwebhookconfigurations"
                | "validatingwebhookconfigurations"
                | "mutatingadmissionpolicies"
                | "mutatingadmissionpolicybindings"
                | "validatingadmissionpolicies"
                | "validatingadmissionpolicybindings"
        ),
        "authentication.k8s.io" => matches!(attributes.resource, "tokenreviews" | "selfsubjectreviews"),
        "authorization.k8s.io" => matches!(
            attributes.resource,
            "subjectaccessreviews"
                | "localsubjectaccessreviews"
                | "selfsubjectaccessreviews"
                | "selfsubjectrulesreviews"
        ),
        _ => false,
    }
}

/// `rules`, selectors and `matchPolicy`, compiled.
#[derive(Clone, Debug)]
pub struct Matcher {
    rules: Rules,
    excluded: Vec<Rule>,
    equivalent: bool,
    namespaces: LabelSelector,
    objects: LabelSelector,
}

#[derive(Clone, Debug)]
enum Rules {
    Any,
    One(Vec<Rule>),
}

/// One of `rules` or `resourceRules`. An entry `*` stands for everything.
#[derive(Clone, Debug)]
struct Rule {
    operations: Operations,
    groups: Names,
    versions: Names,
    /// Resource and subresource.
    resources: Vec<(Names, Names)>,
    /// Empty for any.
    names: Vec<String>,
    scope: Scope,
}

#[derive(Clone, Copy, Debug)]
struct Operations(u8);

/// What one field of a rule lets through.
#[derive(Clone, Debug)]
enum Names {
    Any,
    These(Vec<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    All,
    Cluster,
    Namespaced,
    /// A value that is none of upstream's.
    None,
}

/// The way in which a request matches: the resource and version that the rule is about, which may be another
/// than the request's.
#[derive(Clone, Debug)]
pub struct Matched {
    pub row: Arc<Kind>,
    pub version: String,
}

/// One request in the eyes of matchers.
pub struct Candidate<'a> {
    pub attributes: &'a Attributes<'a>,
    kinds: &'a Kinds,
    source: &'a dyn Source,
    equivalents: OnceLock<Vec<Matched>>,
    namespace: OnceLock<Option<Value>>,
}

fn strings<'a>(rule: &'a Value, field: &'static str) -> impl Iterator<Item = &'a str> {
    meta::items(rule, &[field]).iter().filter_map(Value::as_str)
}

impl Names {
    fn read<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let names: Vec<String> = names.map(str::to_owned).collect();
        if names.iter().any(|name| name == "*") { Self::Any } else { Self::These(names) }
    }

    fn contains(&self, name: &str) -> bool {
        match self {
            Self::Any => true,
            Self::These(names) => names.iter().any(|one| one == name),
        }
    }
}

impl Operations {
    fn read<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.fold(0, |all, name| {
            all | match name {
                "*" => u8::MAX,
                "CREATE" => Self::bit(Operation::Create),
                "UPDATE" => Self::bit(Operation::Update),
                "DELETE" => Self::bit(Operation::Delete),
                "CONNECT" => Self::bit(Operation::Connect),
                _ => 0,
            }
        }))
    }

    fn bit(operation: Operation) -> u8 {
        match operation {
            Operation::Create => 1,
            Operation::Update => 2,
            Operation::Delete => 4,
            Operation::Connect => 8,
        }
    }
}

impl Rule {
    fn read(rule: &Value) -> Self {
        let resource = |entry: &str| {
            let (resource, subresource) = entry.split_once('/').unwrap_or((entry, ""));
            (Names::read(std::iter::once(resource)), Names::read(std::iter::once(subresource)))
        };
        Self {
            operations: Operations::read(strings(rule, "operations")),
            groups: Names::read(strings(rule, "apiGroups")),
            versions: Names::read(strings(rule, "apiVersions")),
            resources: strings(rule, "resources").map(resource).collect(),
            names: strings(rule, "resourceNames").map(str::to_owned).collect(),
            scope: match meta::text(rule, &["scope"]) {
                "" | "*" => Scope::All,
                "Cluster" => Scope::Cluster,
                "Namespaced" => Scope::Namespaced,
                _ => Scope::None,
            },
        }
    }

    fn matches(&self, attributes: &Attributes<'_>, group: &str, version: &str, resource: &str) -> bool {
        // A namespace is no namespaced object, although it is said to be in itself.
        let in_cluster = attributes.namespace.is_empty() || is_namespace(group, resource);
        let in_scope = match self.scope {
            Scope::All => true,
            Scope::Cluster => in_cluster,
            Scope::Namespaced => !in_cluster,
            Scope::None => false,
        };
        let mut resources = self.resources.iter();
        in_scope
            && self.operations.0 & Operations::bit(attributes.operation) != 0
            && self.groups.contains(group)
            && self.versions.contains(version)
            && resources.any(|(r, s)| r.contains(resource) && s.contains(attributes.subresource))
            && (self.names.is_empty() || self.names.iter().any(|name| name == attributes.name))
    }
}

fn is_namespace(group: &str, resource: &str) -> bool {
    group.is_empty() && resource == "namespaces"
}

impl Matcher {
    /// Of a webhook: its `rules`, `matchPolicy`, `namespaceSelector` and `objectSelector`. Without rules it
    /// matches nothing.
    ///
    /// # Errors
    /// A selector is none.
    pub fn webhook(webhook: &Value) -> Result<Self, selector::Error> {
        let rules = meta::items(webhook, &["rules"]).iter().map(Rule::read).collect();
        Self::read(webhook, Rules::One(rules))
    }

    /// Of a policy's `matchConstraints` or a binding's `matchResources`: without `resourceRules` it matches
    /// everything that is not excluded.
    ///
    /// # Errors
    /// A selector is none.
    pub fn resources(resources: &Value) -> Result<Self, selector::Error> {
        let rules: Vec<Rule> = meta::items(resources, &["resourceRules"]).iter().map(Rule::read).collect();
        Self::read(resources, if rules.is_empty() { Rules::Any } else { Rules::One(rules) })
    }

    fn read(from: &Value, rules: Rules) -> Result<Self, selector::Error> {
        // A selector that is absent hides nothing.
        let selector = |field| match &from[field] {
            Value::Null => Ok(LabelSelector::everything()),
            selector => LabelSelector::from_value(selector),
        };
        Ok(Self {
            rules,
            excluded: meta::items(from, &["excludeResourceRules"]).iter().map(Rule::read).collect(),
            equivalent: meta::text(from, &["matchPolicy"]) != "Exact",
            namespaces: selector("namespaceSelector")?,
            objects: selector("objectSelector")?,
        })
    }

    /// How the request matches, if it does. `object` and `old` are `Null` where there is none.
    ///
    /// # Errors
    /// 404 if the request's namespace, whose labels are asked for, is not there.
    pub fn matches(
        &self,
        candidate: &Candidate<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<Option<Matched>, Status> {
        if self.find(&self.excluded, candidate).is_some() {
            return Ok(None);
        }
        let found = match &self.rules {
            Rules::Any => candidate.itself(),
            Rules::One(rules) => self.find(rules, candidate),
        };
        let Some(found) = found else { return Ok(None) };
        let selected = |object: &Value| object.is_object() && self.objects.matches(meta::labels(object));
        if !self.objects.is_everything() && !selected(object) && !selected(old) {
            return Ok(None);
        }
        let in_place = self.namespaces.is_everything()
            || candidate.with_namespace_labels(object, |labels| self.namespaces.matches(labels))?;
        Ok(in_place.then_some(found))
    }

    /// The first rule that is about the request itself, else the first about one of its equivalents.
    fn find(&self, rules: &[Rule], candidate: &Candidate<'_>) -> Option<Matched> {
        let a = candidate.attributes;
        if rules.iter().any(|rule| rule.matches(a, a.group, a.version, a.resource)) {
            return candidate.itself();
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        rules.iter().find_map(|rule| {
            let mut equivalents = candidate.equivalents().iter();
            equivalents.find(|e| rule.matches(a, &e.row.group, &e.version, &e.row.resource)).cloned()
        })
    }
}

impl<'a> Candidate<'a> {
    pub fn new(attributes: &'a Attributes<'a>, kinds: &'a Kinds, source: &'a dyn Source) -> Self {
        let (equivalents, namespace) = (OnceLock::new(), OnceLock::new());
        Self { attributes, kinds, source, equivalents, namespace }
    }

    /// The namespace that the request is in; a Namespace's own name for requests to it.
    pub fn namespace(&self) -> &'a str {
        let Attributes { group, resource, namespace, name, .. } = *self.attributes;
        if is_namespace(group, resource) { name } else { namespace }
    }

    /// The request's namespace as an object; `None` where there is no such, or none is meant.
    pub fn namespace_object(&self) -> Option<&Value> {
        let namespace = self.namespace.get_or_init(|| {
            let name = Some(self.namespace()).filter(|name| !name.is_empty())?;
            Some(self.source.get("", "namespaces", "", name)?.tree())
        });
        namespace.as_ref()
    }

    fn itself(&self) -> Option<Matched> {
        let Attributes { group, version, resource, .. } = *self.attributes;
        let row = self.kinds.group_resource(group, resource)?;
        Some(Matched { row: Arc::clone(row), version: version.to_owned() })
    }

    /// Whether the request's resource, or another under which the same objects are served, has such a group, version
    /// and name.
    pub(super) fn is_called(&self, such: impl Fn(&str, &str, &str) -> bool) -> bool {
        let Attributes { group, version, resource, .. } = *self.attributes;
        such(group, version, resource)
            || self.equivalents().iter().any(|e| such(&e.row.group, &e.version, &e.row.resource))
    }

    /// The other resources and versions under which the same objects are served.
    fn equivalents(&self) -> &[Matched] {
        let Attributes { group, version, resource, subresource, .. } = *self.attributes;
        self.equivalents.get_or_init(|| {
            let Some(own) = self.kinds.group_resource(group, resource) else { return Vec::new() };
            let same = |row: &&Arc<Kind>| match (&own.storage, &row.storage) {
                (Some(own), Some(other)) => own.group == other.group && own.resource == other.resource,
                _ => Arc::ptr_eq(own, row),
            };
            let rows = self.kinds.iter().filter(same);
            let rows = rows.filter(|r| subresource.is_empty() || r.subresource(subresource).is_some());
            let served = rows.flat_map(|row| {
                let versions = row.versions.iter().filter(|v| v.served);
                versions.map(move |v| Matched { row: Arc::clone(row), version: v.name.to_string() })
            });
            served.filter(|m| !(Arc::ptr_eq(&m.row, own) && m.version == version)).collect()
        })
    }

    /// Asks about the labels of the request's namespace; whoever asks for them lets through what is in none.
    fn with_namespace_labels(
        &self,
        object: &Value,
        ask: impl Fn(Option<&serde_json::Map<String, Value>>) -> bool,
    ) -> Result<bool, Status> {
        let Attributes { group, resource, subresource, operation, .. } = *self.attributes;
        if is_namespace(group, resource) {
            // What the namespace is about to be counts.
            let written = matches!(operation, Operation::Create | Operation::Update);
            if subresource.is_empty() && written {
                return Ok(ask(meta::labels(object)));
            }
        } else if self.attributes.namespace.is_empty() {
            return Ok(true);
        }
        match self.namespace_object() {
            Some(namespace) => Ok(ask(meta::labels(namespace))),
            None => Err(Status::not_found("", "namespaces", self.namespace())),
        }
    }
}

impl Matched {
    /// Group, version and kind of the objects that are shown.
    pub fn kind<'a>(&'a self, subresource: &str) -> (&'a str, &'a str, &'a str) {
        let speaks = self.row.subresource(subresource).and_then(|s| s.speaks.as_ref());
        match speaks {
            Some(speaks) if speaks.version.is_empty() => ("", "v1", &speaks.kind),
            Some(speaks) => (&speaks.group, &speaks.version, &speaks.kind),
            None => (&self.row.group, &self.version, &self.row.kind),
        }
    }

    /// A stored object as the rule wants to see it; `Null` stays `Null`.
    pub fn show(&self, subresource: &str, stored: &Value) -> Value {
        if stored.is_null() {
            return Value::Null;
        }
        match self.row.subresource(subresource) {
            Some(sub) => match &sub.action {
                Action::Scale(scale) => return convert::scale_of(scale, stored),
                Action::Update(_) => {}
                // What was posted is its own kind.
                Action::Post | Action::Connect => return stored.clone(),
            },
            None if !subresource.is_empty() => return stored.clone(),
            None => {}
        }
        let mut shown = stored.clone();
        convert::from_storage(&self.row, &self.version, &mut shown);
        shown
    }

    /// What was shown and has been changed, as it is stored; `stored` is what it was before.
    pub fn take(&self, subresource: &str, shown: Value, stored: &Value) -> Value {
        match self.row.subresource(subresource) {
            Some(sub) => match &sub.action {
                Action::Scale(scale) => {
                    let mut object = stored.clone();
                    convert::apply_scale(scale, &shown, &mut object);
                    return object;
                }
                Action::Update(_) => {}
                Action::Post | Action::Connect => return shown,
            },
            None if !subresource.is_empty() => return shown,
            None => {}
        }
        let mut object = shown;
        convert::to_storage(&self.row, &self.version, &mut object);
        object
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
