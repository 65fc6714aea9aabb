//! What makes pods.

use serde_json::{Value, json};

use super::{At, label_selector, needed_selector, pod};
use crate::field::{Error, Errors};
use crate::meta::{self, items};
use crate::names;
use crate::schedule::{Schedule, zone_error};
use crate::selector::LabelSelector;

/// The selector has to find the pods that the template makes.
fn selects_own(spec: &At<'_>, selector: LabelSelector, errors: &mut Errors) {
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

fn not_negative(spec: &At<'_>, fields: &[&str], errors: &mut Errors) {
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

const MAX_INDEXED: i64 = 100_000;
const JOB_POLICIES: &[&str] = &["OnFailure", "Never"];

fn job_spec(spec: &At<'_>, errors: &mut Errors) {
    let fields = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "backoffLimitPerIndex",
        "ttlSecondsAfterFinished",
        "maxFailedIndexes",
    ];
    not_negative(spec, &fields, errors);
    if let Some(manager) = spec.opt("managedBy") {
        manager.all_invalid(errors, names::label_key(manager.text()));
        if !manager.text().contains('/') {
            manager.invalid(errors, "must be a domain-prefixed path (such as \"acme.io/foo\")");
        }
    }
    if let Some(mode) = spec.opt("completionMode") {
        mode.one_of(errors, &["Indexed", "NonIndexed"]);
        let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
        if mode.text() == "Indexed" {
            if completions.number().is_none() {
                completions.required(errors, "when completion mode is Indexed");
            }
            if parallelism.number().is_some_and(|n| n > MAX_INDEXED) {
                let detail =
                    format!("must be less than or equal to {MAX_INDEXED} when completion mode is Indexed");
                parallelism.invalid(errors, detail);
            }
        } else {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(set) = spec.opt(field) {
                    set.forbidden(errors, "requires indexed completion mode");
                }
            }
        }
    }
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.get("backoffLimitPerIndex").required(errors, "when maxFailedIndexes is specified");
    }
    if let Some(policy) = spec.opt("podFailurePolicy") {
        failure_policy(spec, &policy, errors);
    }
    let template = spec.get("template");
    pod::template(&template, errors);
    let pods = template.get("spec");
    let policy = pods.get("restartPolicy");
    match policy.text() {
        "" | "Always" => {
            let words: Vec<String> = JOB_POLICIES.iter().map(|p| format!("{p:?}")).collect();
            policy.required(errors, &format!("valid values: {}", words.join(", ")));
        }
        _ => policy.one_of(errors, JOB_POLICIES),
    }
    if spec.has("podFailurePolicy") && policy.text() != "Never" {
        policy.invalid(errors, "only \"Never\" is supported when podFailurePolicy is specified");
    }
}

fn failure_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    if rules.len() > 20 {
        errors.push(Error::too_many(&rules.path(), rules.len(), 20));
    }
    for rule in rules.items() {
        let action = rule.get("action");
        action.needed_of(errors, &["Count", "FailIndex", "FailJob", "Ignore"]);
        if action.text() == "FailIndex" && !spec.has("backoffLimitPerIndex") {
            action.invalid(errors, "requires the backoffLimitPerIndex to be set");
        }
        let codes = rule.opt("onExitCodes");
        let conditions = rule.get("onPodConditions");
        match (&codes, conditions.len()) {
            (Some(_), 1..) => {
                rule.invalid(errors, "specifying both OnExitCodes and OnPodConditions is not supported")
            }
            (None, 0) => {
                rule.invalid(errors, "specifying one of OnExitCodes and OnPodConditions is required")
            }
            _ => {}
        }
        let Some(codes) = codes else { continue };
        codes.get("operator").needed_of(errors, &["In", "NotIn"]);
        let values = codes.get("values");
        if values.len() == 0 {
            values.invalid(errors, "at least one value is required");
        }
        for value in values.items() {
            if codes.get("operator").text() == "In" && value.number() == Some(0) {
                value.invalid(errors, "must not be 0 for the In operator");
            }
        }
    }
}

pub(crate) fn job(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    generated_selector(&root, &mut errors);
    job_spec(&spec, &mut errors);
    let selector = spec.get("selector");
    if selector.value().is_null() {
        selector.required(&mut errors, "");
    } else {
        label_selector(&selector, &mut errors);
    }
    if let Ok(read) = LabelSelector::from_value(selector.value()) {
        selects_own(&spec, read, &mut errors);
    }
    let name = root.get("metadata").get("name").text().to_owned();
    if spec.get("completionMode").text() == "Indexed" && name.len() > 60 {
        let completions = spec.get("completions").number().unwrap_or(1);
        let longest = format!("{name}-{}", completions.max(1) - 1);
        if longest.len() > 63 {
            let metadata = root.get("metadata");
            metadata.get("name").invalid(&mut errors, "will not able to create pod with invalid DNS label");
        }
    }
    errors
}

/// A selector that was made for the Job is the one that its UID makes.
fn generated_selector(root: &At<'_>, errors: &mut Errors) {
    let spec = root.get("spec");
    let selector = spec.get("selector");
    if spec.get("manualSelector").is_true() || selector.value().is_null() {
        return;
    }
    let (uid, name) = (meta::uid(root.value()), meta::name(root.value()));
    let expected = |key: &str| match key {
        "controller-uid" | "batch.kubernetes.io/controller-uid" => Some(uid),
        "job-name" | "batch.kubernetes.io/job-name" => Some(name),
        _ => None,
    };
    let template = spec.get("template");
    let metadata = template.get("metadata");
    let labels = metadata.get("labels");
    for key in ["batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"] {
        let label = labels.get(key);
        let want = expected(key).unwrap_or_default();
        let path = labels.path().key(key);
        match label.value() {
            Value::Null => errors.push(Error::required(&path, format!("must be '{want}'"))),
            Value::String(found) if found != want => {
                errors.push(Error::invalid(&path, labels.value().clone(), format!("must be '{want}'")));
            }
            _ => {}
        }
    }
    if LabelSelector::from_value(selector.value()).is_ok_and(|s| !s.matches_by(expected)) {
        selector.invalid(errors, "`selector` not auto-generated");
    }
}

pub(crate) fn job_update(new: &Value, old: &Value) -> Errors {
    let mut errors = job(new);
    let root = At::root(new);
    let spec = root.get("spec");
    let was = &old["spec"];
    let elastic = spec.get("completionMode").text() == "Indexed"
        && spec.get("completions").number() == spec.get("parallelism").number();
    for field in [
        "completions",
        "selector",
        "template",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        // An indexed Job grows and shrinks as long as both numbers stay the same; a suspended one that has
        // not begun may still be told where to run.
        let allowed = (field == "completions" && elastic)
            || (field == "template" && may_redirect(old) && same_but_directives(&new["spec"], was));
        if !allowed {
            spec.get(field).unchanged(&mut errors, &was[field]);
        }
    }
    errors
}

fn may_redirect(job: &Value) -> bool {
    job["spec"]["suspend"] == true && job["status"]["startTime"].is_null()
}

/// The templates differ at most in scheduling directives.
fn same_but_directives(new: &Value, old: &Value) -> bool {
    let bare = |spec: &Value| {
        let mut template = spec["template"].clone();
        for (part, fields) in [
            ("spec", ["affinity", "nodeSelector", "tolerations", "schedulingGates"].as_slice()),
            ("metadata", ["labels", "annotations"].as_slice()),
        ] {
            if let Some(map) = template.get_mut(part).and_then(Value::as_object_mut) {
                map.retain(|k, _| !fields.contains(&k.as_str()));
            }
        }
        template
    };
    bare(new) == bare(old)
}

pub(crate) fn cron_job(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = cron_job_spec(&root);
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    if name.text().len() > 52 {
        name.invalid(&mut errors, "must be no more than 52 characters");
    }
    errors
}

pub(crate) fn cron_job_update(new: &Value, _old: &Value) -> Errors {
    cron_job_spec(&At::root(new))
}

fn cron_job_spec(root: &At<'_>) -> Errors {
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let schedule = spec.get("schedule");
    if let Some(text) = schedule.needed(&mut errors)
        && let Err(wrong) = Schedule::parse(text)
    {
        schedule.invalid(&mut errors, wrong.to_string());
    }
    if let Some(zone) = spec.opt("timeZone")
        && let Some(wrong) = zone_error(zone.text())
    {
        zone.invalid(&mut errors, wrong);
    }
    let fields = ["startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"];
    not_negative(&spec, &fields, &mut errors);
    spec.get("concurrencyPolicy").needed_of(&mut errors, &["Allow", "Forbid", "Replace"]);
    let template = spec.get("jobTemplate");
    let job = template.get("spec");
    job_spec(&job, &mut errors);
    if let Some(selector) = job.opt("selector") {
        selector.invalid(&mut errors, "`selector` will be auto-generated");
    }
    let manual = job.get("manualSelector");
    if manual.is_true() {
        manual.one_of(&mut errors, &["nil", "false"]);
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
