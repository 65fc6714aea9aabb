//! Which flow a request is of.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tiphys_api::meta;

use super::counts::{Counts, Flows};
use super::level::Level;
use super::{Flow, settings};
use crate::authz::Target;
use crate::identity::{Identity, SERVICE_ACCOUNTS, service_account_user};

/// A FlowSchema, ready to be asked.
pub(super) struct Schema {
    name: String,
    precedence: i32,
    flow: Flow,
    by: Option<Distinguisher>,
    rules: Vec<Rule>,
    pub(super) level: Arc<Level>,
    pub(super) counts: Arc<Counts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Distinguisher {
    User,
    Namespace,
}

struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

/// Whom a rule is about; `None`: everybody.
enum Subject {
    User(Option<String>),
    Group(Option<String>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    priority_level_configuration: Reference,
    #[serde(default)]
    matching_precedence: i32,
    distinguisher_method: Option<Method>,
    #[serde(default)]
    rules: Vec<RawRule>,
}

#[derive(Deserialize)]
struct Reference {
    name: String,
}

#[derive(Deserialize)]
struct Method {
    r#type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawRule {
    #[serde(default)]
    subjects: Vec<RawSubject>,
    #[serde(default)]
    resource_rules: Vec<ResourceRule>,
    #[serde(default)]
    non_resource_rules: Vec<PathRule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSubject {
    kind: String,
    user: Option<Reference>,
    group: Option<Reference>,
    service_account: Option<Account>,
}

#[derive(Deserialize)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ResourceRule {
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    cluster_scope: bool,
    #[serde(default)]
    namespaces: Vec<String>,
}

#[derive(Deserialize)]
struct PathRule {
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
}

/// What stands for every verb, group, resource, path, namespace and name.
const ALL: &str = "*";

fn among(list: &[String], word: &str) -> bool {
    list.iter().any(|listed| listed == word || listed == ALL)
}

impl Subject {
    fn read(raw: RawSubject) -> Option<Self> {
        let named = |reference: Reference| Some(reference.name).filter(|name| name != ALL);
        Some(match raw.kind.as_str() {
            "User" => Self::User(named(raw.user?)),
            "Group" => Self::Group(named(raw.group?)),
            "ServiceAccount" => {
                let Account { namespace, name } = raw.service_account?;
                match name.as_str() {
                    ALL => Self::Group(Some(format!("{SERVICE_ACCOUNTS}:{namespace}"))),
                    name => Self::User(Some(service_account_user(&namespace, name))),
                }
            }
            _ => return None,
        })
    }

    fn fits(&self, user: &Identity) -> bool {
        match self {
            Self::User(None) | Self::Group(None) => true,
            Self::User(Some(name)) => user.name() == name,
            Self::Group(Some(group)) => user.in_group(group),
        }
    }
}

impl ResourceRule {
    fn fits(&self, verb: &str, group: &str, (resource, subresource): (&str, &str), namespace: &str) -> bool {
        let resources = self.resources.iter().any(|listed| match listed.split_once('/') {
            None => listed == ALL || (subresource.is_empty() && listed == resource),
            Some((of, below)) => of == resource && below == subresource,
        });
        let place =
            if namespace.is_empty() { self.cluster_scope } else { among(&self.namespaces, namespace) };
        resources && place && among(&self.verbs, verb) && among(&self.api_groups, group)
    }
}

impl PathRule {
    fn fits(&self, verb: &str, path: &str) -> bool {
        let paths = self.paths.iter().any(|listed| match listed.strip_suffix('*') {
            Some(start) => path.starts_with(start),
            None => path == listed,
        });
        paths && among(&self.verbs, verb)
    }
}

impl Schema {
    /// `level` finds the level of a name. `None` for a schema of a level that there is not, or that makes no sense.
    pub(super) fn read(
        object: &Value,
        level: impl Fn(&str) -> Option<Arc<Level>>,
        flows: &Flows,
    ) -> Option<Self> {
        let spec = Spec::deserialize(&object["spec"]).ok()?;
        let level = level(&spec.priority_level_configuration.name)?;
        let name = meta::name(object).to_owned();
        let rules = spec.rules.into_iter().map(|raw| Rule {
            subjects: raw.subjects.into_iter().filter_map(Subject::read).collect(),
            resources: raw.resource_rules,
            paths: raw.non_resource_rules,
        });
        Some(Self {
            precedence: spec.matching_precedence,
            flow: Flow {
                schema_uid: settings::uid(object),
                level_uid: level.uid().clone(),
                waited: Duration::ZERO,
            },
            by: match spec.distinguisher_method.as_ref().map_or("", |method| &method.r#type) {
                "ByUser" => Some(Distinguisher::User),
                "ByNamespace" => Some(Distinguisher::Namespace),
                _ => None,
            },
            rules: rules.collect(),
            counts: flows.counts(level.name(), &name),
            level,
            name,
        })
    }

    /// Schemas are asked in this order.
    pub(super) fn order(&self) -> (i32, &str) {
        (self.precedence, &self.name)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn flow(&self) -> Flow {
        self.flow.clone()
    }

    /// What tells the flows of one schema apart.
    pub(super) fn distinguisher<'a>(&self, user: &'a Identity, target: &Target<'a>) -> &'a str {
        match (self.by, target) {
            (None, _) | (Some(Distinguisher::Namespace), Target::Path(_)) => "",
            (Some(Distinguisher::User), _) => user.name(),
            (Some(Distinguisher::Namespace), Target::Resource { namespace, .. }) => namespace,
        }
    }

    pub(super) fn fits(&self, user: &Identity, verb: &str, target: &Target<'_>) -> bool {
        self.rules.iter().any(|rule| {
            let about = match *target {
                Target::Path(path) => rule.paths.iter().any(|p| p.fits(verb, path)),
                Target::Resource { group, resource, subresource, namespace, .. } => {
                    rule.resources.iter().any(|r| r.fits(verb, group, (resource, subresource), namespace))
                }
            };
            about && rule.subjects.iter().any(|subject| subject.fits(user))
        })
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
