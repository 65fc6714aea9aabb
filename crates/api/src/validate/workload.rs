//! What makes pods.

use serde_json::{Value, json};

use super::{At, label_selector, needed_selector, pod};
use crate::field::{Error, Errors};
use crate::meta::{self, items};
use crate::names;
use crate::selector::LabelSelector;

/// The selector has to find the pods that the template makes.
pub(super) fn selects_own(spec: &At<'_>, selector: LabelSelector, errors: &mut Errors) {
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    if !selector.matches(labels.value().as_object()) {
        labels.invalid(errors, "`selector` does not match template `labels`");
    }
}

/// A template whose pods run for good, found by a `LabelSelector`; where that is none, pods are not looked at.
fn lasting_template(spec: &At<'_>, errors: &mut Errors, whose: &str) {
    let selector = spec.get("selector");
    needed_selector(&selector, errors, whose);
    match LabelSelector::from_value(selector.value()) {
        Ok(read) => {
            selects_own(spec, read, errors);
            lasting_pods(spec, errors, "ReplicaSet");
        }
        Err(_) => selector.invalid(errors, "invalid label selector"),
    }
}

fn lasting_pods(spec: &At<'_>, errors: &mut Errors, whose: &str) {
    let template = spec.get("template");
    pod::template(&template, errors);
    restarted_for_good(&template.get("spec"), errors, whose);
}

fn restarted_for_good(pods: &At<'_>, errors: &mut Errors, whose: &str) {
    let policy = pods.get("restartPolicy");
    if policy.text() != "Always" {
        policy.one_of(errors, &["Always"]);
    }
    if let Some(deadline) = pods.opt("activeDeadlineSeconds") {
        deadline.forbidden(errors, format!("activeDeadlineSeconds in {whose} is not Supported"));
    }
}

pub(super) fn not_negative(spec: &At<'_>, fields: &[&str], errors: &mut Errors) {
    for field in fields {
        spec.get(field).not_negative(errors);
    }
}

/// A count or a share: `3`, `25%`.
fn count_or_percent(at: &At<'_>, errors: &mut Errors) {
    match at.value() {
        Value::Null => {}
        Value::String(text) => at.all_invalid(errors, names::percent(text)),
        _ => at.not_negative(errors),
    }
}

/// The number in a count or share.
fn plain(at: &At<'_>) -> i64 {
    at.number().or_else(|| at.text().strip_suffix('%')?.parse().ok()).unwrap_or(0)
}

fn at_most_all(at: &At<'_>, errors: &mut Errors) {
    if at.text().ends_with('%') && plain(at) > 100 {
        at.invalid(errors, "must not be greater than 100%");
    }
}

fn rolling(at: &At<'_>, errors: &mut Errors) {
    let (down, up) = (at.get("maxUnavailable"), at.get("maxSurge"));
    count_or_percent(&down, errors);
    count_or_percent(&up, errors);
    if plain(&down) == 0 && plain(&up) == 0 {
        down.invalid(errors, "may not be 0 when `maxSurge` is 0");
    }
    at_most_all(&down, errors);
}

pub(crate) fn deployment(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    not_negative(&spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &mut errors);
    lasting_template(&spec, &mut errors, "deployment");
    let strategy = spec.get("strategy");
    match strategy.get("type").text() {
        "Recreate" => {
            if let Some(rolling) = strategy.opt("rollingUpdate") {
                rolling.forbidden(&mut errors, "may not be specified when strategy `type` is 'Recreate'");
            }
        }
        "RollingUpdate" => rolling(&strategy.get("rollingUpdate"), &mut errors),
        _ => errors.push(Error::not_supported(
            &strategy.path(),
            strategy.value().clone(),
            &["Recreate", "RollingUpdate"],
        )),
    }
    if let Some(deadline) = spec.opt("progressDeadlineSeconds") {
        deadline.not_negative(&mut errors);
        if deadline.number() <= Some(spec.get("minReadySeconds").number().unwrap_or(0)) {
            deadline.invalid(&mut errors, "must be greater than minReadySeconds");
        }
    }
    errors
}

/// The rules of a new object, and a selector that does not change.
fn update_of(new: &Value, old: &Value, create: fn(&Value) -> Errors) -> Errors {
    let mut errors = create(new);
    let root = At::root(new);
    root.get("spec").get("selector").unchanged(&mut errors, &old["spec"]["selector"]);
    errors
}

pub(crate) fn deployment_update(new: &Value, old: &Value) -> Errors {
    update_of(new, old, deployment)
}

/// Counts in a status are not negative, and collisions are not forgotten.
pub(crate) fn counts_status(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let mut errors = Vec::new();
    for name in status.value().as_object().into_iter().flat_map(|fields| fields.keys()) {
        status.get(name).not_negative(&mut errors);
    }
    for less in ["updatedReplicas", "readyReplicas", "availableReplicas"] {
        let count = status.get(less);
        if count.number().unwrap_or(0) > status.get("replicas").number().unwrap_or(0) {
            errors.push(Error::invalid(
                &count.path(),
                count.number().unwrap_or(0),
                "cannot be greater than status.replicas",
            ));
        }
    }
    let (ready, available) = (status.get("readyReplicas"), status.get("availableReplicas"));
    if available.number().unwrap_or(0) > ready.number().unwrap_or(0) {
        let of = if new["kind"] == "StatefulSet" { "status.readyReplicas" } else { "readyReplicas" };
        available.invalid(&mut errors, format!("cannot be greater than {of}"));
    }
    collisions(&status, old, &mut errors);
    errors
}

fn collisions(status: &At<'_>, old: &Value, errors: &mut Errors) {
    let count = status.get("collisionCount");
    let now = count.number().unwrap_or(0);
    if old["status"]["collisionCount"].as_i64().is_some_and(|was| !count.value().is_i64() || now < was) {
        errors.push(Error::invalid(&count.path(), now, "cannot be decremented"));
    }
}

/// As [`counts_status`], of what has no replicas.
pub(crate) fn numbers_status(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let mut errors = Vec::new();
    for name in status.value().as_object().into_iter().flat_map(|fields| fields.keys()) {
        status.get(name).not_negative(&mut errors);
    }
    collisions(&status, old, &mut errors);
    errors
}

pub(crate) fn replica_set(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    not_negative(&spec, &["replicas", "minReadySeconds"], &mut errors);
    lasting_template(&spec, &mut errors, "deployment");
    errors
}

pub(crate) fn replica_set_update(new: &Value, old: &Value) -> Errors {
    update_of(new, old, replica_set)
}

pub(crate) fn replication_controller(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    not_negative(&spec, &["replicas", "minReadySeconds"], &mut errors);
    let selector = spec.get("selector");
    if selector.value().as_object().is_none_or(serde_json::Map::is_empty) {
        selector.required(&mut errors, "");
    }
    selector.labels(&mut errors);
    if spec.has("template") {
        if let Ok(read) = LabelSelector::from_map(selector.value().as_object()) {
            selects_own(&spec, read, &mut errors);
        }
        lasting_pods(&spec, &mut errors, "ReplicationController");
    } else {
        spec.get("template").required(&mut errors, "");
    }
    errors
}

pub(crate) fn replication_controller_update(new: &Value, _old: &Value) -> Errors {
    replication_controller(new)
}

pub(crate) fn daemon_set(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    not_negative(&spec, &["minReadySeconds", "revisionHistoryLimit"], &mut errors);
    let selector = spec.get("selector");
    if spec.has("selector") {
        needed_selector(&selector, &mut errors, "daemonset");
    }
    if let Ok(read) = LabelSelector::from_value(selector.value()) {
        selects_own(&spec, read, &mut errors);
    }
    lasting_pods(&spec, &mut errors, "DaemonSet");
    let strategy = spec.get("updateStrategy");
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" => {
            let at = strategy.get("rollingUpdate");
            let (down, up) = (at.get("maxUnavailable"), at.get("maxSurge"));
            count_or_percent(&down, &mut errors);
            count_or_percent(&up, &mut errors);
            at_most_all(&down, &mut errors);
            at_most_all(&up, &mut errors);
            match (plain(&down), plain(&up)) {
                (0, 0) => errors.push(Error::required(&down.path(), "cannot be 0 when maxSurge is 0")),
                (1.., 1..) => up.invalid(&mut errors, "may not be set when maxUnavailable is non-zero"),
                _ => {}
            }
        }
        _ => errors.push(Error::not_supported(
            &strategy.path(),
            strategy.value().clone(),
            &["RollingUpdate", "OnDelete"],
        )),
    }
    errors
}

pub(crate) fn daemon_set_update(new: &Value, old: &Value) -> Errors {
    update_of(new, old, daemon_set)
}

pub(crate) fn stateful_set(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let management = spec.get("podManagementPolicy");
    if management.needed(&mut errors).is_some_and(|policy| !matches!(policy, "OrderedReady" | "Parallel")) {
        management.invalid(&mut errors, "must be 'OrderedReady' or 'Parallel'");
    }
    let strategy = spec.get("updateStrategy");
    match strategy.get("type").text() {
        "" => strategy.required(&mut errors, ""),
        "OnDelete" => {
            if let Some(rolling) = strategy.opt("rollingUpdate") {
                rolling.invalid(&mut errors, "only allowed for updateStrategy 'RollingUpdate'");
            }
        }
        "RollingUpdate" => {
            let rolling = strategy.get("rollingUpdate");
            rolling.get("partition").not_negative(&mut errors);
            if let Some(down) = rolling.opt("maxUnavailable") {
                count_or_percent(&down, &mut errors);
                if plain(&down) == 0 {
                    down.invalid(&mut errors, "cannot be 0");
                }
                at_most_all(&down, &mut errors);
            }
        }
        _ => strategy.invalid(&mut errors, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    for when in ["whenDeleted", "whenScaled"] {
        retention.get(when).one_of(&mut errors, &["Retain", "Delete"]);
    }
    not_negative(&spec, &["replicas", "minReadySeconds", "revisionHistoryLimit"], &mut errors);
    spec.get("ordinals").get("start").not_negative(&mut errors);
    // The claims give every pod volumes that its template may mount without naming them.
    let whole = with_claims(object);
    let root = At::root(&whole);
    let spec = root.get("spec");
    let selector = spec.get("selector");
    needed_selector(&selector, &mut errors, "statefulset");
    match LabelSelector::from_value(selector.value()) {
        Ok(read) => {
            selects_own(&spec, read, &mut errors);
            pod::template(&spec.get("template"), &mut errors);
        }
        Err(_) => selector.invalid(&mut errors, ""),
    }
    restarted_for_good(&spec.get("template").get("spec"), &mut errors, "StatefulSet");
    errors
}

/// The set as its pods will be: with a volume for each claim that the template has no volume for.
fn with_claims(set: &Value) -> Value {
    let mut whole = set.clone();
    let claims = items(set, &["spec", "volumeClaimTemplates"]);
    let Some(spec) = whole.pointer_mut("/spec/template/spec").and_then(Value::as_object_mut) else {
        return whole;
    };
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    for name in claims.iter().map(meta::name) {
        if let Some(volumes) = volumes.as_array_mut().filter(|v| !v.iter().any(|v| v["name"] == name)) {
            volumes.push(json!({"name": name, "persistentVolumeClaim": {"claimName": name}}));
        }
    }
    whole
}

pub(crate) fn stateful_set_update(new: &Value, old: &Value) -> Errors {
    let mut errors = stateful_set(new);
    let may_change = [
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let fixed = |o: &Value| {
        let fields = o["spec"].as_object().cloned().unwrap_or_default();
        fields.into_iter().filter(|(k, _)| !may_change.contains(&k.as_str())).collect::<Vec<_>>()
    };
    if fixed(new) != fixed(old) {
        let root = At::root(new);
        root.get("spec").forbidden(
            &mut errors,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
             'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
             'minReadySeconds' are forbidden",
        );
    }
    errors
}

pub(crate) fn disruption_budget(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        spec.invalid(&mut errors, "minAvailable and maxUnavailable cannot be both set");
    }
    for budget in [min, max] {
        count_or_percent(&budget, &mut errors);
        at_most_all(&budget, &mut errors);
    }
    label_selector(&spec.get("selector"), &mut errors);
    errors
}

pub(crate) fn disruption_budget_update(new: &Value, _old: &Value) -> Errors {
    disruption_budget(new)
}

pub(crate) fn pod_template(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    pod::template(&root.get("template"), &mut errors);
    errors
}

pub(crate) fn pod_template_update(new: &Value, _old: &Value) -> Errors {
    pod_template(new)
}

pub(crate) fn revision(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    let data = root.get("data");
    if data.value().is_null() {
        data.required(&mut errors, "data is mandatory");
    }
    root.get("revision").not_negative(&mut errors);
    errors
}

pub(crate) fn revision_update(new: &Value, old: &Value) -> Errors {
    let mut errors = revision(new);
    At::root(new).get("data").unchanged(&mut errors, &old["data"]);
    errors
}

#[cfg(test)]
#[path = "workload_tests.rs"]
mod tests;
