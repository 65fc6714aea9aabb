//! Role-based access control: `rbac.authorization.k8s.io`.
//!
//! Roles and bindings are compiled when they change. A decision looks up the bindings of the user and of each of
//! its groups, and reads no JSON.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use serde::Deserialize;
use tiphys_store::Revision;

use super::{Attributes, Authorizer, Decision, Target, rule::Rule};
use crate::{
    derived::{Derived, Made},
    identity::{Identity, service_account_user},
    source::{Entry, Source},
};

/// RBAC's API group.
pub const GROUP: &str = "rbac.authorization.k8s.io";

const RESOURCES: [&str; 4] = ["clusterroles", "roles", "clusterrolebindings", "rolebindings"];

/// Decides by the roles and bindings that the source has.
pub struct Rbac {
    source: Arc<dyn Source>,
    compiled: Derived<Compiled, 4>,
}

/// All policy.
#[derive(Default)]
struct Compiled {
    /// Namespace (empty for a ClusterRole) and name.
    roles: HashMap<Place, Parsed<Vec<Rule>>>,
    bindings: HashMap<Place, Parsed<Binding>>,
    /// The bindings of each subject, by the namespace that they hold in; empty: everywhere.
    by_subject: HashMap<String, HashMap<Subject, Vec<Arc<Grant>>>>,
}

type Place = (String, String);

/// What an object says, kept as long as the object is at that revision.
struct Parsed<T> {
    revision: Revision,
    value: Arc<T>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    User(String),
    Group(String),
}

/// A binding that gives a role to one subject.
struct Grant {
    binding: Place,
    role: RoleRef,
    /// The subject as decisions mention it.
    subject: String,
}

/// The role that a binding names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct RoleRef {
    pub(super) kind: String,
    pub(super) name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    #[serde(default)]
    subjects: Option<Vec<RawSubject>>,
    role_ref: RoleRef,
}

#[derive(Deserialize)]
struct RawSubject {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
}

#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

/// The rules that a user has, and what could not be found while collecting them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserRules {
    pub rules: Vec<Rule>,
    pub errors: Vec<String>,
}

impl Rbac {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, compiled: Derived::of(GROUP, RESOURCES) }
    }

    /// What `user` may do in `namespace`, or everywhere if that is empty.
    pub fn rules_for(&self, user: &Identity, namespace: &str) -> UserRules {
        let mut found = UserRules::default();
        self.compiled().value.visit(user, namespace, |_, rules| {
            match rules {
                Ok(rules) => found.rules.extend_from_slice(rules),
                Err(error) => found.errors.push(error),
            }
            None::<()>
        });
        found
    }

    /// The rules of the role that a binding in `namespace` names.
    pub(super) fn role_rules(&self, role: &RoleRef, namespace: &str) -> Result<Vec<Rule>, String> {
        self.compiled().value.rules(role, namespace).map(<[Rule]>::to_vec)
    }

    /// Policy as it is now.
    fn compiled(&self) -> Arc<Made<Compiled, 4>> {
        self.compiled.get(&*self.source, |before| Compiled::new(&*self.source, before))
    }
}

impl Compiled {
    /// Compiles what has changed since `before`.
    fn new(source: &dyn Source, before: &Self) -> Self {
        let list = |resources: [&'static str; 2]| {
            resources.into_iter().flat_map(|resource| source.list(GROUP, resource, None))
        };
        let roles = parse(list([RESOURCES[0], RESOURCES[1]]), &before.roles, |entry| {
            Some(entry.read::<Role>()?.rules.unwrap_or_default())
        });
        let bindings =
            parse(list([RESOURCES[2], RESOURCES[3]]), &before.bindings, |entry| entry.read::<Binding>());
        let mut by_subject: HashMap<String, HashMap<Subject, Vec<Arc<Grant>>>> = HashMap::new();
        // Decisions mention the first binding that allows: always the same one.
        let places: BTreeSet<&Place> = bindings.keys().collect();
        for place in places {
            let binding = &bindings[place].value;
            let subjects = binding.subjects.iter().flatten();
            for (subject, shown) in subjects.filter_map(|raw| raw.resolve(&place.0)) {
                let grant = Grant { binding: place.clone(), role: binding.role_ref.clone(), subject: shown };
                let of_place = by_subject.entry(place.0.clone()).or_default();
                of_place.entry(subject).or_default().push(Arc::new(grant));
            }
        }
        Self { roles, bindings, by_subject }
    }

    fn rules(&self, role: &RoleRef, namespace: &str) -> Result<&[Rule], String> {
        let (what, namespace) = match role.kind.as_str() {
            "ClusterRole" => ("clusterrole", ""),
            "Role" => ("role", namespace),
            other => return Err(format!("unsupported role reference kind: {other:?}")),
        };
        // A tuple of owned strings is what the map is keyed by.
        let found = self.roles.get(&(namespace.to_owned(), role.name.clone()));
        found
            .map(|parsed| parsed.value.as_slice())
            .ok_or_else(|| format!("{what}.{GROUP} {:?} not found", role.name))
    }

    /// Shows `visitor` each role that the user has, until it answers something.
    fn visit<T>(
        &self,
        user: &Identity,
        namespace: &str,
        mut visitor: impl FnMut(&Grant, Result<&[Rule], String>) -> Option<T>,
    ) -> Option<T> {
        let subjects: Vec<Subject> = std::iter::once(Subject::User(user.name().to_owned()))
            .chain(user.groups().iter().cloned().map(Subject::Group))
            .collect();
        let places: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for place in places {
            let Some(bindings) = self.by_subject.get(*place) else { continue };
            for grant in subjects.iter().filter_map(|subject| bindings.get(subject)).flatten() {
                if let Some(answer) = visitor(grant, self.rules(&grant.role, place)) {
                    return Some(answer);
                }
            }
        }
        None
    }
}

/// Parses the entries, but for those that `before` has at the same revision. One that does not parse is left out.
fn parse<T>(
    entries: impl Iterator<Item = Entry>,
    before: &HashMap<Place, Parsed<T>>,
    read: impl Fn(&Entry) -> Option<T>,
) -> HashMap<Place, Parsed<T>> {
    let mut parsed = HashMap::new();
    for entry in entries {
        let revision = entry.revision;
        let place = (entry.namespace.clone(), entry.name.clone());
        let value = match before.get(&place) {
            Some(known) if known.revision == revision => Some(Arc::clone(&known.value)),
            _ => read(&entry).map(Arc::new),
        };
        if let Some(value) = value {
            parsed.insert(place, Parsed { revision, value });
        }
    }
    parsed
}

impl RawSubject {
    /// The subject, and how decisions mention it. A service account's namespace defaults to the binding's.
    fn resolve(&self, binding_namespace: &str) -> Option<(Subject, String)> {
        let Self { kind, name, namespace } = self;
        let shown = format!("{kind} {name:?}");
        match kind.as_str() {
            "User" => Some((Subject::User(name.clone()), shown)),
            "Group" => Some((Subject::Group(name.clone()), shown)),
            "ServiceAccount" => {
                let namespace = if namespace.is_empty() { binding_namespace } else { namespace };
                if namespace.is_empty() {
                    return None;
                }
                let shown = format!("{kind} {:?}", format!("{name}/{namespace}"));
                Some((Subject::User(service_account_user(namespace, name)), shown))
            }
            _ => None,
        }
    }
}

impl Grant {
    fn allowed(&self) -> String {
        let (namespace, name) = &self.binding;
        let binding = if namespace.is_empty() {
            format!("ClusterRoleBinding {name:?}")
        } else {
            format!("RoleBinding {:?}", format!("{name}/{namespace}"))
        };
        format!("RBAC: allowed by {binding} of {} {:?} to {}", self.role.kind, self.role.name, self.subject)
    }
}

impl Authorizer for Rbac {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let namespace = match attributes.target {
            Target::Resource { namespace, .. } => namespace,
            Target::Path(_) => "",
        };
        let mut errors: Vec<String> = Vec::new();
        let allowed = self.compiled().value.visit(attributes.user, namespace, |grant, rules| match rules {
            Ok(rules) => {
                let allows = rules.iter().any(|rule| rule.allows(attributes.verb, &attributes.target));
                allows.then(|| grant.allowed())
            }
            Err(error) => {
                if !errors.contains(&error) {
                    errors.push(error);
                }
                None
            }
        });
        match (allowed, errors.as_slice()) {
            (Some(reason), _) => Decision::Allow { reason },
            (None, []) => Decision::NoOpinion { reason: String::new() },
            (None, [one]) => Decision::NoOpinion { reason: format!("RBAC: {one}") },
            (None, many) => Decision::NoOpinion { reason: format!("RBAC: [{}]", many.join(", ")) },
        }
    }

    fn rules(&self, user: &Identity, namespace: &str) -> UserRules {
        self.rules_for(user, namespace)
    }
}

#[cfg(test)]
#[path = "rbac_tests.rs"]
mod tests;
