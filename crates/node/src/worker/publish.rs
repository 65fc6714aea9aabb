//! Tells the API what the node knows about a pod.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Map, Value, json};

use super::operations::Job;
use crate::labels;
use crate::status::OWN_CONDITIONS;

/// Why the API was not told.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// There is no such pod any more.
    #[error("the pod is gone from the API")]
    Gone,
    /// Anything else; it is tried again.
    #[error(transparent)]
    Api(#[from] kube::Error),
}

/// Sends what differs between two statuses. Conditions of others are neither sent nor touched.
pub(crate) async fn publish(
    job: Job,
    uid: String,
    old: PodStatus,
    new: PodStatus,
) -> Result<(), PublishError> {
    let patch = patch(&uid, &old, &new);
    let api: Api<Pod> = Api::namespaced(job.ctx.kube.clone(), &job.key.namespace);
    match api.patch_status(&job.key.name, &PatchParams::default(), &Patch::Strategic(patch)).await {
        Ok(_) => Ok(()),
        // Another pod has the name now: the precondition on the UID failed.
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Err(PublishError::Gone),
        Err(error) => Err(error.into()),
    }
}

/// A strategic merge patch from one status to another.
///
/// Lists that the API merges by key carry the deletion of entries that are no more: an address that changed would
/// stay beside the new one otherwise.
fn patch(uid: &str, old: &PodStatus, new: &PodStatus) -> Value {
    let tree = |status: &PodStatus| match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let (old, new) = (tree(old), tree(new));
    let mut status = Map::new();
    for (name, value) in &new {
        match name.as_str() {
            "conditions" => {
                let list = || value.as_array().into_iter().flatten();
                let is_gone = |c: &&Value| is_own(c) && !list().any(|now| now["type"] == c["type"]);
                let before = old.get(name).and_then(Value::as_array).into_iter().flatten();
                let dead = before.filter(is_gone).map(|c| json!({"$patch": "delete", "type": c["type"]}));
                let own = list().filter(|c| is_own(c)).cloned().map(whole_condition);
                status.insert(name.clone(), own.chain(dead).collect());
            }
            "podIPs" | "hostIPs" => {
                let mut list: Vec<Value> = value.as_array().cloned().unwrap_or_default();
                let before = old.get(name).and_then(Value::as_array).into_iter().flatten();
                let dead: Vec<Value> = before
                    .filter(|ip| !list.contains(ip))
                    .map(|ip| json!({"$patch": "delete", "ip": ip["ip"]}))
                    .collect();
                list.extend(dead);
                status.insert(name.clone(), Value::Array(list));
            }
            _ if old.get(name) != Some(value) => {
                status.insert(name.clone(), value.clone());
            }
            _ => {}
        }
    }
    for name in old.keys().filter(|n| !new.contains_key(*n)) {
        status.insert(name.clone(), Value::Null);
    }
    json!({"metadata": {"uid": uid}, "status": status})
}

/// A condition that leaves nothing of the one before it: an entry is merged with its like field by field.
fn whole_condition(mut condition: Value) -> Value {
    if let Some(fields) = condition.as_object_mut() {
        for name in ["reason", "message"] {
            fields.entry(name).or_insert(Value::Null);
        }
    }
    condition
}

fn is_own(condition: &Value) -> bool {
    condition["type"].as_str().is_some_and(|t| OWN_CONDITIONS.contains(&t))
}

/// Whether two statuses say the same, as far as the node is concerned.
pub(crate) fn same(a: &PodStatus, b: &PodStatus) -> bool {
    let own = |status: &PodStatus| {
        let mut status = status.clone();
        if let Some(conditions) = &mut status.conditions {
            conditions.retain(|c| OWN_CONDITIONS.contains(&c.type_.as_str()));
            conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
        }
        serde_json::to_value(status).ok()
    };
    own(a) == own(b)
}

/// Takes note of what somebody else has said of the pod's readiness since: who gave this node up has said of its pods
/// that they are not ready, and what they are is to be said once more.
pub(crate) fn heed(published: &mut PodStatus, said: &PodStatus) {
    let is_ready = |c: &PodCondition| c.type_ == "Ready";
    let ours = published.conditions.iter_mut().flatten().find(|c| is_ready(c));
    let theirs = said.conditions.iter().flatten().find(|c| is_ready(c));
    let (Some(ours), Some(theirs)) = (ours, theirs) else { return };
    let since = |condition: &PodCondition| condition.last_transition_time.as_ref().map(|t| t.0);
    if theirs.status != ours.status && since(theirs) > since(ours) {
        *ours = theirs.clone();
    }
}

/// Removes a pod that has ended from the API.
pub(crate) async fn delete(job: Job, uid: String) -> Result<(), String> {
    let api: Api<Pod> = Api::namespaced(job.ctx.kube.clone(), &job.key.namespace);
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions { uid: Some(uid), resource_version: None }),
        ..DeleteParams::default()
    };
    match api.delete(&job.key.name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// Makes the API's image of a static pod, after removing one of another manifest.
pub(crate) async fn mirror(job: Job, stale: Option<String>) -> Result<(), String> {
    if let Some(uid) = stale {
        delete(job.clone(), uid).await?;
    }
    let node = job.ctx.node.borrow().clone();
    let mut pod = Pod { metadata: job.pod.metadata.clone(), spec: job.pod.spec.clone(), status: None };
    pod.metadata.uid = None;
    let hash = job.key.uid.to_string();
    pod.metadata.annotations.get_or_insert_default().insert(labels::CONFIG_MIRROR.to_owned(), hash);
    if let Some(uid) = node.and_then(|n| n.metadata.uid.clone()) {
        pod.metadata.owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            controller: Some(true),
            kind: "Node".to_owned(),
            name: job.ctx.config.node_name.clone(),
            uid,
            block_owner_deletion: None,
        }]);
    }
    let api: Api<Pod> = Api::namespaced(job.ctx.kube.clone(), &job.key.namespace);
    match api.create(&PostParams::default(), &pod).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(value: Value) -> PodStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn a_patch_sends_what_changed_and_removes_what_is_no_more() {
        let old = status(json!({"phase": "Pending", "reason": "x", "hostIP": "1.1.1.1", "podIP": "10.0.0.1",
            "podIPs": [{"ip": "10.0.0.1"}], "conditions": [{"type": "Ready", "status": "False"}, {"type": "mine", "status": "True"},
                {"type": "PodResizePending", "status": "True"}]}));
        let new = status(json!({"phase": "Running", "hostIP": "1.1.1.1", "podIP": "10.0.0.2",
            "podIPs": [{"ip": "10.0.0.2"}], "conditions": [{"type": "Ready", "status": "True"}, {"type": "mine", "status": "True"}]}));
        assert_eq!(
            patch("u", &old, &new),
            json!({"metadata": {"uid": "u"}, "status": {"phase": "Running", "reason": null, "podIP": "10.0.0.2",
                "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
                "conditions": [{"type": "Ready", "status": "True", "reason": null, "message": null},
                    {"$patch": "delete", "type": "PodResizePending"}]}})
        );
    }

    #[test]
    fn the_conditions_of_others_make_no_difference() {
        let a = status(
            json!({"conditions": [{"type": "Ready", "status": "True"}, {"type": "x", "status": "False"}]}),
        );
        let b = status(
            json!({"conditions": [{"type": "x", "status": "True"}, {"type": "Ready", "status": "True"}]}),
        );
        let c = status(json!({"conditions": [{"type": "Ready", "status": "False"}]}));
        assert!(same(&a, &b) && !same(&a, &c));
    }

    #[test]
    fn what_was_said_since_is_heeded() {
        let ready = |ready: &str, time: &str| {
            status(json!({"conditions": [{"type": "x", "status": "True"},
                {"type": "Ready", "status": ready, "lastTransitionTime": time}]}))
        };
        let ours = ready("True", "2026-01-01T00:01:00Z");
        for (said, heeded) in [
            (ready("False", "2026-01-01T00:02:00Z"), true),
            // What is on its way still, from before our own last word.
            (ready("False", "2026-01-01T00:00:00Z"), false),
            (PodStatus::default(), false),
        ] {
            let mut published = ours.clone();
            heed(&mut published, &said);
            assert_eq!(!same(&published, &ours), heeded, "{said:?}");
        }
    }
}
