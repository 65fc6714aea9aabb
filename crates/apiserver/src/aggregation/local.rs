//! The APIServices of the groups that this server has itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tiphys_api::kind::{Kind, Kinds};
use tiphys_api::status::{Reason, Status};

use super::{GROUP, RESOURCE, own};
use crate::registry::{Call, DeleteOptions, Registry};
use crate::source::Source;

/// Marks what is made here: `onstart` for groups that every cluster has, `true` for what comes and goes.
pub(super) const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// What has failed is tried again after this.
const LATER: Duration = Duration::from_secs(10);

/// Changes that follow each other this closely are looked at together: many definitions may come at once.
const SETTLE: Duration = Duration::from_millis(100);

/// Priorities of the groups that every cluster has; upstream's.
const PRIORITIES: [(&str, i64); 23] = [
    ("", 18000),
    ("apps", 17800),
    ("events.k8s.io", 17750),
    ("authentication.k8s.io", 17700),
    ("authorization.k8s.io", 17600),
    ("autoscaling", 17500),
    ("batch", 17400),
    ("certificates.k8s.io", 17300),
    ("networking.k8s.io", 17200),
    ("extensions", 17150),
    ("policy", 17100),
    ("rbac.authorization.k8s.io", 17000),
    ("storage.k8s.io", 16800),
    ("storagemigration.k8s.io", 16800),
    ("apiextensions.k8s.io", 16700),
    ("admissionregistration.k8s.io", 16700),
    ("scheduling.k8s.io", 16600),
    ("coordination.k8s.io", 16500),
    ("node.k8s.io", 16300),
    ("discovery.k8s.io", 16200),
    ("flowcontrol.apiserver.k8s.io", 16100),
    ("internal.apiserver.k8s.io", 16000),
    ("resource.k8s.io", 15900),
];

/// How a group of this server ranks among others.
pub(super) fn group_priority(group: &str) -> i64 {
    const CUSTOM: i64 = 1000;
    PRIORITIES.iter().find(|(name, _)| *name == group).map_or(CUSTOM, |(_, priority)| *priority)
}

fn is_builtin(group: &str) -> bool {
    PRIORITIES.iter().any(|(name, _)| *name == group) || group == GROUP
}

/// Every APIService that this server's groups ask for, by name.
fn wanted(kinds: &Kinds) -> BTreeMap<String, Value> {
    let mut wanted = BTreeMap::new();
    for group in kinds.groups() {
        // The group of APIServices is not aggregated itself.
        if group.name == GROUP {
            continue;
        }
        for (place, version) in group.versions.iter().enumerate() {
            let builtin = is_builtin(group.name);
            let after = i64::try_from(place).unwrap_or(i64::MAX);
            let version_priority = if builtin { (15 - 3 * after).max(1) } else { (100 - after).max(1) };
            let mut spec = json!({"version": version, "groupPriorityMinimum": group_priority(group.name),
                                  "versionPriority": version_priority});
            if !group.name.is_empty() {
                spec["group"] = group.name.into();
            }
            let name = format!("{version}.{}", group.name);
            let managed = if builtin { "onstart" } else { "true" };
            let object = json!({
                "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
                "metadata": {"name": name, "labels": {AUTOMANAGED: managed}}, "spec": spec,
            });
            wanted.insert(name, object);
        }
    }
    wanted.extend(own::services());
    wanted
}

/// What is missing of `wanted`, and what was made here for groups that are gone. `there` are the names of all
/// APIServices, and whether each comes and goes with its group.
fn plan(mut wanted: BTreeMap<String, Value>, there: &BTreeMap<String, bool>) -> (Vec<Value>, Vec<String>) {
    let gone = there.iter().filter(|(name, managed)| **managed && !wanted.contains_key(*name));
    let gone = gone.map(|(name, _)| name.clone()).collect();
    wanted.retain(|name, _| !there.contains_key(name));
    (wanted.into_values().collect(), gone)
}

/// Makes APIServices appear and disappear with this server's groups.
pub(super) async fn run(registry: Arc<Registry>, source: Arc<dyn Source>) {
    let mut kinds = registry.watch_kinds();
    loop {
        let rows = Arc::clone(&kinds.borrow_and_update());
        let seen = source.version(GROUP, RESOURCE);
        let outcome = round(&registry, &rows).await;
        if let Err(status) = &outcome {
            tracing::warn!(%status, "cannot write all APIServices of this server's groups");
        }
        tokio::select! {
            changed = kinds.changed() => {
                if changed.is_err() {
                    return;
                }
            }
            () = source.changed(GROUP, RESOURCE, seen) => {}
            () = tokio::time::sleep(LATER), if outcome.is_err() => {}
        }
        tokio::time::sleep(SETTLE).await;
    }
}

/// Does what is to be done; what fails keeps nothing else from it.
async fn round(registry: &Registry, rows: &Kinds) -> Result<(), Status> {
    let Some(kind) = rows.resource(GROUP, "v1", RESOURCE) else { return Ok(()) };
    let (missing, gone) = planned(registry, rows, kind)?;
    let mut outcome = Ok(());
    for mut object in missing {
        (kind.hooks.default)("v1", &mut object);
        match registry.create(&call(kind, "", ""), object).await {
            // The cache may be behind.
            Err(status) if status.reason == Reason::AlreadyExists => {}
            made => outcome = outcome.and(made.map(drop)),
        }
    }
    for name in gone {
        match registry.delete(&call(kind, &name, ""), &DeleteOptions::default()).await {
            Err(status) if status.reason == Reason::NotFound => {}
            gone => outcome = outcome.and(gone.map(drop)),
        }
    }
    outcome
}

/// What is missing, and what is to go.
fn planned(registry: &Registry, rows: &Kinds, kind: &Kind) -> Result<(Vec<Value>, Vec<String>), Status> {
    let there = registry.collection(kind)?.iter(None).map(|object| {
        let managed = object.labels().get(AUTOMANAGED) == Some("true");
        (object.name().to_owned(), managed)
    });
    Ok(plan(wanted(rows), &there.collect()))
}

/// Waits until every group of the server has its APIServices, so that nothing is written by itself any more.
#[cfg(test)]
pub(crate) async fn settled(registry: &Registry) {
    let rows = registry.kinds();
    let kind = rows.resource(GROUP, "v1", RESOURCE).unwrap();
    let source: &dyn Source = &**registry.cache();
    let mut seen = tiphys_store::Revision::ZERO;
    while !planned(registry, &rows, kind).unwrap().0.is_empty() {
        source.changed(GROUP, RESOURCE, seen).await;
        seen = source.version(GROUP, RESOURCE);
    }
}

/// A request of the server's own to an APIService.
pub(super) fn call(kind: &Arc<Kind>, name: &str, subresource: &str) -> Call {
    Call { subresource: subresource.to_owned(), ..Call::own(kind, "v1", "", name) }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
