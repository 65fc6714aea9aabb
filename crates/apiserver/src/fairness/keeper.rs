//! Follows the objects: keeps those that the server answers for, tells which FlowSchemas lead nowhere, and has the
//! requests judged by what there is.

use std::collections::HashSet;
use std::sync::Arc;

use futures::future::join_all;
use serde_json::{Value, json};
use tiphys_api::kind::{Action, Update};
use tiphys_api::meta;
use tiphys_api::status::{Reason, Status};
use tiphys_store::Revision;
use tokio_util::sync::CancellationToken;

use super::{Fairness, GROUP, LEVELS, SCHEMAS, objects};
use crate::registry::objectmeta::time;
use crate::registry::{Call, Registry, Updating};
use crate::source::Source;

/// The versions of both resources that somebody has looked at.
pub(crate) type Seen = [Revision; 2];

/// Follows and keeps the objects until `stop`, from what [`look`] saw last.
pub(crate) async fn keep(
    fairness: Arc<Fairness>,
    registry: Arc<Registry>,
    mut seen: Seen,
    stop: CancellationToken,
) {
    let source: &dyn Source = &**registry.cache();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = source.changed(GROUP, LEVELS, seen[0]) => {}
            () = source.changed(GROUP, SCHEMAS, seen[1]) => {}
        }
        seen = look(&fairness, &registry).await;
    }
}

/// Has requests judged by the objects that there are now, and sets right what the server answers for.
pub(crate) async fn look(fairness: &Fairness, registry: &Registry) -> Seen {
    let source: &dyn Source = &**registry.cache();
    let seen = [LEVELS, SCHEMAS].map(|resource| source.version(GROUP, resource));
    let [levels, schemas] = [LEVELS, SCHEMAS].map(|resource| -> Vec<Value> {
        source.list(GROUP, resource, None).into_iter().map(|entry| entry.tree()).collect()
    });
    // A store that has ended has no objects; who is still here is judged by those that there were.
    if seen.contains(&Revision::ZERO) {
        return seen;
    }
    fairness.configure(levels.iter(), schemas.iter());
    let all = [(LEVELS, objects::levels(), &levels), (SCHEMAS, objects::schemas(), &schemas)];
    let restored = all.iter().flat_map(|(resource, wanted, there)| {
        wanted.iter().map(move |wanted| async move {
            let found = there.iter().find(|object| meta::name(object) == meta::name(wanted));
            told(restore(registry, resource, found, wanted).await, wanted);
        })
    });
    let names: HashSet<&str> = levels.iter().map(meta::name).collect();
    let judged = schemas.iter().map(async |schema| told(judge(registry, schema, &names).await, schema));
    // All at once: the store commits them together.
    tokio::join!(join_all(restored), join_all(judged));
    seen
}

/// Somebody who was faster makes the next round look again; anything else is worth a line.
fn told(done: Result<(), Status>, object: &Value) {
    if let Err(status) = done
        && ![Reason::AlreadyExists, Reason::Conflict, Reason::NotFound].contains(&status.reason)
    {
        tracing::warn!(%status, object = meta::name(object), "keeping an object of priority and fairness");
    }
}

fn call(registry: &Registry, resource: &str, name: &str, subresource: &str) -> Option<Call> {
    let kinds = registry.kinds();
    Some(Call {
        subresource: subresource.to_owned(),
        field_manager: "api-priority-and-fairness-config-producer-v1".to_owned(),
        ..Call::own(kinds.resource(GROUP, "v1", resource)?, "v1", "", name)
    })
}

/// Makes an object that is missing, or brings it up to date where that is the server's to do.
async fn restore(
    registry: &Registry,
    resource: &str,
    there: Option<&Value>,
    wanted: &Value,
) -> Result<(), Status> {
    let Some(there) = there else {
        let Some(call) = call(registry, resource, "", "") else { return Ok(()) };
        return registry.create(&call, wanted.clone()).await.map(drop);
    };
    let Some(updated) = objects::update(there, wanted) else { return Ok(()) };
    let Some(call) = call(registry, resource, meta::name(wanted), "") else { return Ok(()) };
    put(registry, &call, call.kind.hooks.update, updated).await
}

/// Writes the condition that tells whether a FlowSchema's level is there.
async fn judge(registry: &Registry, schema: &Value, levels: &HashSet<&str>) -> Result<(), Status> {
    let level = meta::text(schema, &["spec", "priorityLevelConfiguration", "name"]);
    let Some(judged) = judged(schema, level, levels.contains(level), &time(registry.now())) else {
        return Ok(());
    };
    let Some(call) = call(registry, SCHEMAS, meta::name(schema), "status") else { return Ok(()) };
    let rules = match call.kind.subresource("status").map(|status| &status.action) {
        Some(Action::Update(rules)) => *rules,
        _ => return Ok(()),
    };
    put(registry, &call, rules, judged).await
}

/// The schema with the condition that it should have; `None` if it has it.
fn judged(schema: &Value, level: &str, found: bool, now: &str) -> Option<Value> {
    let (status, reason, what) = match found {
        true => ("False", "Found", "and it exists"),
        false => ("True", "NotFound", "but there is no such object"),
    };
    let message =
        format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?} {what}");
    let wanted = json!({"type": "Dangling", "status": status, "reason": reason, "message": message});
    let conditions = schema["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let (dangling, mut others): (Vec<_>, Vec<_>) =
        conditions.into_iter().partition(|condition| condition["type"] == "Dangling");
    let there = dangling.into_iter().next().unwrap_or_default();
    if ["status", "reason", "message"].iter().all(|field| there[field] == wanted[field]) {
        return None;
    }
    let since =
        if there["status"] == wanted["status"] { there["lastTransitionTime"].clone() } else { now.into() };
    let mut condition = wanted;
    condition["lastTransitionTime"] = since;
    others.push(condition);
    let mut schema = schema.clone();
    schema["status"]["conditions"] = Value::Array(others);
    Some(schema)
}

async fn put(registry: &Registry, call: &Call, rules: Update, object: Value) -> Result<(), Status> {
    let mut make = |_: Option<&Value>| Ok(object.clone());
    registry.update(call, Updating { rules, create: false, make: &mut make }).await.map(drop)
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
