//! What an object's conditions and its pending deletion say.

use serde_json::Value;
use tiphys_api::meta;

use super::Cause;

/// Conditions that are good when they are false end in one of these.
const BAD_WHEN_TRUE: [&str; 12] = [
    "Pressure",
    "Failure",
    "Failed",
    "Remaining",
    "Unavailable",
    "Degraded",
    "Suspended",
    "Stalled",
    "Dangling",
    "Terminating",
    "DisruptionTarget",
    "NonStructuralSchema",
];

/// Conditions that tell no trouble whatever they say: an offer or a step that is not for every object.
const NEUTRAL: [&str; 6] = [
    "PodReadyToStartContainers",
    "PodResizePending",
    "PodResizeInProgress",
    "SuccessCriteriaMet",
    "Complete",
    "FailureTarget",
];

fn is_trouble(kind: &str, condition: &Value) -> bool {
    let (what, status) = (meta::text(condition, &["type"]), meta::text(condition, &["status"]));
    if NEUTRAL.contains(&what) || meta::text(condition, &["reason"]) == "PodCompleted" {
        return false;
    }
    // A request for a certificate and a budget say what was decided, a namespace what its deletion lacks.
    let bad = match kind {
        "CertificateSigningRequest" => matches!(what, "Denied" | "Failed"),
        "Namespace" => true,
        "PodDisruptionBudget" => false,
        _ => BAD_WHEN_TRUE.iter().any(|end| what.ends_with(end)),
    };
    match status {
        "True" => bad,
        "False" => !bad && kind != "CertificateSigningRequest" && kind != "PodDisruptionBudget",
        _ => true,
    }
}

/// Who last wrote a field: the manager that owns it.
fn owner<'a>(object: &'a Value, path: &[&str]) -> Option<&'a str> {
    let managers = meta::items(object, &["metadata", "managedFields"]);
    let owns = |entry: &&Value| meta::at(&entry["fieldsV1"], path).is_some();
    managers.iter().rev().find(owns).map(|entry| meta::text(entry, &["manager"]))
}

/// Conditions that are not as they should be.
pub(super) fn of_status(kind: &str, object: &Value) -> Vec<Cause> {
    let conditions = meta::items(object, &["status", "conditions"]).iter();
    let told = conditions.filter(|condition| is_trouble(kind, condition)).map(|condition| {
        let what = meta::text(condition, &["type"]);
        let reason = match meta::text(condition, &["reason"]) {
            "" => what,
            reason => reason,
        };
        let said = match meta::text(condition, &["message"]) {
            "" => format!("{what} is {}", meta::text(condition, &["status"])),
            message => message.to_owned(),
        };
        let field = format!("k:{{\"type\":\"{what}\"}}");
        let by = owner(object, &["f:status", "f:conditions", &field])
            .or_else(|| owner(object, &["f:status", "f:conditions"]));
        Cause::new(reason, by.unwrap_or_default(), said)
    });
    told.collect()
}

/// What an object waits for that was told to go.
pub(super) fn of_deletion(object: &Value) -> Vec<Cause> {
    let since = meta::text(object, &["metadata", "deletionTimestamp"]);
    if since.is_empty() {
        return Vec::new();
    }
    let waits = meta::finalizers(object).map(|finalizer| {
        let field = format!("v:\"{finalizer}\"");
        let by = owner(object, &["f:metadata", "f:finalizers", &field]);
        let message =
            format!("was deleted at {since} and waits for the finalizer {finalizer:?} to be removed");
        Cause::new("Finalizer", by.unwrap_or(finalizer), message)
    });
    let mut causes: Vec<_> = waits.collect();
    if causes.is_empty() {
        let spec = meta::items(object, &["spec", "finalizers"]).iter().filter_map(Value::as_str);
        causes.extend(spec.map(|finalizer| {
            let message = format!("was deleted at {since} and waits until {finalizer:?} has emptied it");
            Cause::new("Terminating", "namespace-controller", message)
        }));
    }
    if causes.is_empty() {
        causes.push(Cause::new("Terminating", "", format!("is to be gone at {since}, or when it has ended")));
    }
    causes
}
