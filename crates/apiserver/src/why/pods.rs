//! What a pod's containers say.

use serde_json::Value;
use tiphys_api::meta;

use super::Cause;

/// The states of containers that keep a pod from running, or have ended it.
pub(super) fn of_containers(kind: &str, pod: &Value) -> Vec<Cause> {
    if kind != "Pod" {
        return Vec::new();
    }
    let node = meta::text(pod, &["spec", "nodeName"]);
    let by = format!("kubelet on {node}");
    let mut causes = Vec::new();
    if meta::text(pod, &["status", "phase"]) == "Failed" && !meta::text(pod, &["status", "reason"]).is_empty()
    {
        let reason = meta::text(pod, &["status", "reason"]);
        causes.push(Cause::new(reason, &by, meta::text(pod, &["status", "message"])));
    }
    for list in ["initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"] {
        for status in meta::items(pod, &["status", list]) {
            causes.extend(of_container(status).map(|(reason, message)| Cause::new(reason, &by, message)));
        }
    }
    causes
}

fn of_container(status: &Value) -> Option<(&str, String)> {
    let name = meta::text(status, &["name"]);
    let ended = |state: &'static str| {
        let ended = meta::at(status, &[state, "terminated"])?;
        let code = ended.get("exitCode").and_then(Value::as_i64).filter(|code| *code != 0)?;
        let message = match meta::text(ended, &["message"]) {
            "" => String::new(),
            message => format!(": {message}"),
        };
        Some((meta::text(ended, &["reason"]), format!("ended with exit code {code}{message}")))
    };
    if let Some((reason, how)) = ended("state") {
        return Some((reason, format!("container {name} {how}")));
    }
    let waiting = meta::at(status, &["state", "waiting"])?;
    let reason = meta::text(waiting, &["reason"]);
    let message = match (meta::text(waiting, &["message"]), ended("lastState")) {
        (message, Some((_, how))) => format!("container {name} waits: {message}; it {how}"),
        ("", None) => format!("container {name} waits"),
        (message, None) => format!("container {name} waits: {message}"),
    };
    Some((reason, message))
}
