//! Compares what is with what must be.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value, json};
use tiphys_api::{meta, selector::LabelSelector};

use super::super::{
    rbac::GROUP,
    rule::{Rule, not_covered},
};
use crate::source::Source;

pub(super) const AUTO_UPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A write that brings the policy up to date. `resource` is of RBAC's group; objects are in its version `v1`.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Create {
        resource: &'static str,
        object: Value,
    },
    /// The whole object, with the resourceVersion that it was read at.
    Update {
        resource: &'static str,
        object: Value,
    },
    /// Delete, then create: what a binding binds can't be changed.
    Replace {
        resource: &'static str,
        object: Value,
    },
}

pub(super) struct Plan<'a> {
    source: &'a dyn Source,
    changes: Vec<Change>,
    /// All ClusterRoles as they will be, for those that are made of others.
    cluster_roles: BTreeMap<String, Value>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(source: &'a dyn Source) -> Self {
        let cluster_roles = source
            .list(GROUP, "clusterroles", None)
            .into_iter()
            .map(|entry| (entry.name.clone(), entry.tree()))
            .collect();
        Self { source, changes: Vec::new(), cluster_roles }
    }

    pub(super) fn finish(self) -> Vec<Change> {
        self.changes
    }

    fn existing(&self, resource: &str, wanted: &Value) -> Option<Value> {
        let (namespace, name) = (meta::namespace(wanted), meta::name(wanted));
        self.source.get(GROUP, resource, namespace, name).map(|entry| entry.tree())
    }

    /// Adds the rules that the role lacks.
    pub(super) fn role(&mut self, resource: &'static str, wanted: Value) {
        let Some(existing) = self.existing(resource, &wanted) else {
            self.note(&wanted);
            self.changes.push(Change::Create { resource, object: wanted });
            return;
        };
        if is_protected(&existing) {
            return;
        }
        let mut object = existing.clone();
        add_metadata(&mut object, &wanted);
        if wanted["aggregationRule"].is_null() {
            let missing = not_covered(&rules_of(&existing), &rules_of(&wanted));
            if !missing.is_empty() {
                let mut rules = rules_of(&existing);
                rules.extend(missing);
                object["rules"] = json!(rules);
            }
        } else if object["aggregationRule"].is_null() {
            object["aggregationRule"] = wanted["aggregationRule"].clone();
        }
        if object != existing {
            self.note(&object);
            self.changes.push(Change::Update { resource, object });
        }
    }

    fn note(&mut self, role: &Value) {
        if role["kind"] == "ClusterRole" {
            self.cluster_roles.insert(meta::name(role).to_owned(), role.clone());
        }
    }

    /// Gives the ClusterRoles that are made of others the rules of those. A role can be made of one that is itself
    /// made of others, so this goes on until nothing changes.
    pub(super) fn aggregate(&mut self) {
        let before = self.cluster_roles.clone();
        loop {
            let mut changed = false;
            for name in before.keys() {
                let Some(rules) = self.aggregated(name) else { continue };
                let Some(role) = self.cluster_roles.get_mut(name) else { continue };
                if rules_of(role) != rules {
                    role["rules"] = json!(rules);
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        for (name, object) in &self.cluster_roles {
            if before.get(name) == Some(object) {
                continue;
            }
            // A change that is planned already takes the rules along.
            let planned = self.changes.iter_mut().find_map(|change| match change {
                Change::Create { resource: "clusterroles", object }
                | Change::Update { resource: "clusterroles", object }
                    if meta::name(object) == name =>
                {
                    Some(object)
                }
                _ => None,
            });
            match planned {
                Some(planned) => *planned = object.clone(),
                None => {
                    self.changes.push(Change::Update { resource: "clusterroles", object: object.clone() });
                }
            }
        }
    }

    /// The rules of all that the role is made of, each once. `None` for a role that is not made of others.
    fn aggregated(&self, name: &str) -> Option<Vec<Rule>> {
        let role = self.cluster_roles.get(name)?;
        if is_protected(role) {
            return None;
        }
        let selectors: Vec<LabelSelector> = role["aggregationRule"]["clusterRoleSelectors"]
            .as_array()?
            .iter()
            .filter_map(|selector| LabelSelector::from_value(selector).ok())
            .collect();
        let mut rules: Vec<Rule> = Vec::new();
        for (other, object) in &self.cluster_roles {
            let labels = meta::labels(object);
            if other == name || !selectors.iter().any(|selector| selector.matches(labels)) {
                continue;
            }
            for rule in rules_of(object) {
                if !rules.contains(&rule) {
                    rules.push(rule);
                }
            }
        }
        Some(rules)
    }

    /// Adds the subjects that the binding lacks.
    pub(super) fn binding(&mut self, resource: &'static str, wanted: Value) {
        let Some(existing) = self.existing(resource, &wanted) else {
            self.changes.push(Change::Create { resource, object: wanted });
            return;
        };
        if is_protected(&existing) {
            return;
        }
        let subjects_of = |binding: &Value| binding["subjects"].as_array().cloned().unwrap_or_default();
        let mut subjects = subjects_of(&existing);
        for subject in subjects_of(&wanted) {
            let same =
                |other: &Value| ["kind", "name", "namespace"].iter().all(|key| other[*key] == subject[*key]);
            if !subjects.iter().any(same) {
                subjects.push(subject);
            }
        }
        let mut object = existing.clone();
        add_metadata(&mut object, &wanted);
        if subjects != subjects_of(&existing) {
            object["subjects"] = subjects.into();
        }
        if existing["roleRef"] != wanted["roleRef"] {
            let mut replacement = wanted.clone();
            replacement["metadata"]["labels"] = object["metadata"]["labels"].clone();
            replacement["metadata"]["annotations"] = object["metadata"]["annotations"].clone();
            replacement["subjects"] = object["subjects"].clone();
            self.changes.push(Change::Replace { resource, object: replacement });
        } else if object != existing {
            self.changes.push(Change::Update { resource, object });
        }
    }
}

fn is_protected(object: &Value) -> bool {
    meta::annotation(object, AUTO_UPDATE) == Some("false")
}

/// Adds labels and annotations that are missing; those that are there keep their values.
fn add_metadata(object: &mut Value, wanted: &Value) {
    for field in ["labels", "annotations"] {
        let Some(wanted) = wanted["metadata"][field].as_object() else { continue };
        let metadata = meta::metadata_mut(object);
        let own = metadata.entry(field).or_insert_with(|| Map::new().into());
        if !own.is_object() {
            *own = Map::new().into();
        }
        for (key, value) in wanted {
            if own[key.as_str()].is_null() {
                own[key.as_str()] = value.clone();
            }
        }
    }
}

fn rules_of(role: &Value) -> Vec<Rule> {
    Option::deserialize(&role["rules"]).ok().flatten().unwrap_or_default()
}
