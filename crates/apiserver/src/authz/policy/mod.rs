//! The roles and bindings that every cluster has, and how a start brings them up to date.
//!
//! The tables name what upstream 1.37 grants with its default feature gates. A start adds what is missing and
//! takes nothing away: users' own rules and subjects stay. Annotated
//! `rbac.authorization.kubernetes.io/autoupdate: "false"`, an object is left alone altogether.

mod cluster_roles;
mod controllers;
mod reconcile;

use serde_json::{Value, json};

use super::{
    rbac::GROUP,
    rule::{Rule, every_path, everything},
};
use crate::source::Source;

pub use reconcile::Change;

/// A rule in a table; lists are separated by spaces, the core group is called `core`.
#[derive(Clone, Copy)]
struct Row {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    paths: &'static str,
}

/// Verbs on resources of groups.
const fn on(verbs: &'static str, groups: &'static str, resources: &'static str) -> Row {
    Row { verbs, groups, resources, names: "", paths: "" }
}

/// Verbs on objects of these names.
const fn named(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
) -> Row {
    Row { verbs, groups, resources, names, paths: "" }
}

/// `get` of paths.
const fn paths(paths: &'static str) -> Row {
    Row { verbs: "get", groups: "", resources: "", names: "", paths }
}

const READ: &str = "get list watch";
const WRITE: &str = "create delete deletecollection patch update";
const ALL: &str = "create delete deletecollection get list patch update watch";

/// What everything that records events may do.
const EVENTS: Row = on("create patch update", "core events.k8s.io", "events");

impl Row {
    fn rule(&self) -> Rule {
        let list = |text: &str| {
            let mut words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        let mut api_groups = list(self.groups);
        for group in &mut api_groups {
            if group == "core" {
                group.clear();
            }
        }
        api_groups.sort();
        Rule {
            verbs: list(self.verbs),
            api_groups,
            resources: list(self.resources),
            resource_names: list(self.names),
            non_resource_urls: list(self.paths),
        }
    }
}

fn rules(rows: &[Row]) -> Vec<Rule> {
    rows.iter().map(Row::rule).collect()
}

/// What the Node authorizer lets every kubelet do; the rules of the ClusterRole `system:node`.
pub fn node_rules() -> Vec<Rule> {
    rules(cluster_roles::NODE)
}

/// What must change for the cluster to have its default policy: [`Change`]s in the order to make them.
pub fn plan(source: &dyn Source) -> Vec<Change> {
    let mut plan = reconcile::Plan::new(source);
    for role in cluster_roles() {
        plan.role("clusterroles", role);
    }
    plan.aggregate();
    for (namespace, name, rows) in cluster_roles::NAMESPACED {
        plan.role("roles", role("Role", namespace, name, &rules(rows)));
    }
    for binding in bindings() {
        let cluster_wide = binding["metadata"]["namespace"].is_null();
        plan.binding(if cluster_wide { "clusterrolebindings" } else { "rolebindings" }, binding);
    }
    plan.finish()
}

/// The default ClusterRoles. Those made of others come without rules.
fn cluster_roles() -> Vec<Value> {
    let mut all = vec![role("ClusterRole", "", "cluster-admin", &[everything(), every_path()])];
    for (name, aggregate_to, rows) in cluster_roles::TABLE {
        let mut object = role("ClusterRole", "", name, &rules(rows));
        if !aggregate_to.is_empty() {
            object["metadata"]["labels"][aggregation_label(aggregate_to)] = "true".into();
        }
        all.push(object);
    }
    for (name, aggregate_to) in cluster_roles::AGGREGATED {
        let mut object = role("ClusterRole", "", name, &[]);
        object["aggregationRule"] =
            json!({ "clusterRoleSelectors": [{ "matchLabels": { aggregation_label(name): "true" } }] });
        if !aggregate_to.is_empty() {
            object["metadata"]["labels"][aggregation_label(aggregate_to)] = "true".into();
        }
        all.push(object);
    }
    for (name, rows) in controllers::TABLE {
        let rules: Vec<Rule> = rules(rows).into_iter().map(with_patch).collect();
        all.push(role("ClusterRole", "", &format!("system:controller:{name}"), &rules));
    }
    all
}

/// Who may update may patch: upstream's controllers send whole objects, ours what they change.
fn with_patch(mut rule: Rule) -> Rule {
    let has = |verb: &str| rule.verbs.iter().any(|v| v == verb);
    if has("update") && !has("patch") {
        rule.verbs.push("patch".to_owned());
        rule.verbs.sort();
    }
    rule
}

fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

/// The default bindings, cluster-wide and not.
fn bindings() -> Vec<Value> {
    let mut all: Vec<Value> = cluster_roles::BINDINGS
        .iter()
        .map(|(role, subjects)| binding("", role, "ClusterRole", role, subjects))
        .collect();
    for (name, _) in controllers::TABLE {
        let role = format!("system:controller:{name}");
        all.push(binding("", &role, "ClusterRole", &role, &format!("account:kube-system/{name}")));
    }
    for (namespace, name, role, subjects) in cluster_roles::NAMESPACED_BINDINGS {
        all.push(binding(namespace, name, "Role", role, subjects));
    }
    all
}

fn metadata(namespace: &str, name: &str) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { reconcile::AUTO_UPDATE: "true" },
    });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

fn role(kind: &str, namespace: &str, name: &str, rules: &[Rule]) -> Value {
    json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata(namespace, name),
        "rules": rules,
    })
}

/// `subjects` are `user:<name>`, `group:<name>` and `account:<namespace>/<name>`, separated by spaces.
fn binding(namespace: &str, name: &str, role_kind: &str, role: &str, subjects: &str) -> Value {
    let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
    let subjects: Vec<Value> = subjects
        .split_whitespace()
        .filter_map(|subject| {
            let (what, name) = subject.split_once(':')?;
            Some(match what {
                "user" => json!({ "apiGroup": GROUP, "kind": "User", "name": name }),
                "group" => json!({ "apiGroup": GROUP, "kind": "Group", "name": name }),
                _ => {
                    let (namespace, name) = name.split_once('/')?;
                    json!({ "kind": "ServiceAccount", "name": name, "namespace": namespace })
                }
            })
        })
        .collect();
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": metadata(namespace, name),
        "roleRef": { "apiGroup": GROUP, "kind": role_kind, "name": role },
    });
    if !subjects.is_empty() {
        object["subjects"] = subjects.into();
    }
    object
}

#[cfg(test)]
#[path = "../policy_tests.rs"]
mod tests;
