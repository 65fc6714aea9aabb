//! Work that comes to an end: Jobs and CronJobs.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    At, label_selector, pod,
    workload::{not_negative, selects_own},
};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;
use crate::schedule::{Schedule, zone_error};
use crate::selector::LabelSelector;

/// Indexes stand in the status: there are never more at work, or failed.
const MAX_INDEXED: i64 = 100_000;
/// With more completions than [`MAX_INDEXED`], each of which may fail by itself.
const MAX_OF_MANY: i64 = 10_000;
const MAX_RULES: usize = 20;
const MAX_CODES: usize = 255;
const MAX_MANAGER: usize = 63;
/// In bytes.
const MAX_INDEXES_TEXT: usize = 64 * 1024;
const JOB_POLICIES: &[&str] = &["OnFailure", "Never"];

/// One of a few words, which must be there and are named if they are not.
fn word(at: &At<'_>, errors: &mut Errors, words: &[&str]) {
    if at.text().is_empty() {
        let all: Vec<String> = words.iter().map(|w| format!("{w:?}")).collect();
        at.required(errors, &format!("valid values: [{}]", all.join(" ")));
    } else {
        at.one_of(errors, words);
    }
}

fn at_most(at: &At<'_>, errors: &mut Errors, most: i64, detail: impl Into<String>) {
    if at.number().is_some_and(|n| n > most) {
        at.invalid(errors, detail);
    }
}

fn few(list: &At<'_>, errors: &mut Errors, most: usize) {
    if list.len() > most {
        errors.push(Error::too_many(&list.path(), list.len(), most));
    }
}

fn job_spec(spec: &At<'_>, errors: &mut Errors) {
    let fields = [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ];
    not_negative(spec, &fields, errors);
    if spec.has("maxFailedIndexes") && !spec.has("backoffLimitPerIndex") {
        spec.get("backoffLimitPerIndex").required(errors, "when maxFailedIndexes is specified");
    }
    if let Some(manager) = spec.opt("managedBy") {
        manager_of(&manager, errors);
    }
    let mode = spec.get("completionMode");
    match mode.text() {
        "Indexed" => indexed(spec, errors),
        "" | "NonIndexed" => {
            for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
                if let Some(set) = spec.opt(field) {
                    set.invalid(errors, NOT_INDEXED);
                }
            }
        }
        _ => mode.one_of(errors, &["NonIndexed", "Indexed"]),
    }
    if let Some(policy) = spec.opt("podFailurePolicy") {
        failure_policy(spec, &policy, errors);
    }
    match spec.opt("successPolicy") {
        Some(policy) if mode.text() == "Indexed" => success_policy(spec, &policy, errors),
        Some(policy) => policy.invalid(errors, NOT_INDEXED),
        None => {}
    }
    if let Some(replacement) = spec.opt("podReplacementPolicy") {
        let failing = spec.has("podFailurePolicy");
        replacement.one_of(errors, if failing { &["Failed"] } else { &["Failed", "TerminatingOrFailed"] });
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
        "OnFailure" if spec.has("podFailurePolicy") => {
            policy.invalid(errors, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        _ => policy.one_of(errors, JOB_POLICIES),
    }
}

const NOT_INDEXED: &str = "requires indexed completion mode";

fn manager_of(manager: &At<'_>, errors: &mut Errors) {
    let Some(text) = manager.needed(errors) else { return };
    match text.split_once('/').filter(|(host, path)| !host.is_empty() && !path.is_empty()) {
        Some((host, _)) => {
            for wrong in names::dns_subdomain(host, false) {
                errors.push(Error::invalid(&manager.path(), host, wrong));
            }
        }
        None => manager.invalid(errors, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if text.len() > MAX_MANAGER {
        errors.push(Error::too_long(&manager.path(), MAX_MANAGER));
    }
}

fn indexed(spec: &At<'_>, errors: &mut Errors) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let failed = spec.get("maxFailedIndexes");
    let upto = |most: i64| format!("must be less than or equal to {most}");
    if completions.number().is_none() {
        completions.required(errors, "when completion mode is Indexed");
    }
    let detail = format!("{} when completion mode is Indexed", upto(MAX_INDEXED));
    at_most(&parallelism, errors, MAX_INDEXED, detail);
    if let Some(all) = completions.number() {
        at_most(&failed, errors, all, "must be less than or equal to completions");
    }
    at_most(&failed, errors, MAX_INDEXED, upto(MAX_INDEXED));
    if completions.number().is_some_and(|n| n > MAX_INDEXED) && spec.has("backoffLimitPerIndex") {
        if failed.number().is_none() {
            failed.required(errors, &format!("must be specified when completions is above {MAX_INDEXED}"));
        }
        for at in [&parallelism, &failed] {
            let detail = format!(
                "{} when completions are above {MAX_INDEXED} and used with backoff limit per index",
                upto(MAX_OF_MANY)
            );
            at_most(at, errors, MAX_OF_MANY, detail);
        }
    }
}

fn failure_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    few(&rules, errors, MAX_RULES);
    let pod = &spec.value()["template"]["spec"];
    let containers = ["containers", "initContainers"].map(|list| pod[list].as_array());
    let containers: BTreeSet<&str> =
        containers.into_iter().flatten().flatten().filter_map(|c| c["name"].as_str()).collect();
    for rule in rules.items() {
        let action = rule.get("action");
        if action.text() == "FailIndex" {
            if !spec.has("backoffLimitPerIndex") {
                action.invalid(errors, "requires the backoffLimitPerIndex to be set");
            }
        } else {
            word(&action, errors, &["Count", "FailIndex", "FailJob", "Ignore"]);
        }
        if let Some(codes) = rule.opt("onExitCodes") {
            exit_codes(&codes, &containers, errors);
        }
        let conditions = rule.get("onPodConditions");
        few(&conditions, errors, MAX_RULES);
        for condition in conditions.items() {
            let kind = condition.get("type");
            kind.all_invalid(errors, names::label_key(kind.text()));
            word(&condition.get("status"), errors, &["False", "True", "Unknown"]);
        }
        let detail = match (rule.has("onExitCodes"), conditions.len()) {
            (true, 1..) => "specifying both OnExitCodes and OnPodConditions is not supported",
            (false, 0) => "specifying one of OnExitCodes and OnPodConditions is required",
            _ => continue,
        };
        errors.push(Error::invalid_whole(&rule.path(), detail));
    }
}

fn exit_codes(codes: &At<'_>, containers: &BTreeSet<&str>, errors: &mut Errors) {
    let operator = codes.get("operator");
    word(&operator, errors, &["In", "NotIn"]);
    if let Some(name) = codes.opt("containerName")
        && !containers.contains(name.text())
    {
        name.invalid(errors, "must be one of the container or initContainer names in the pod template");
    }
    let values = codes.get("values");
    match values.len() {
        0 => values.invalid(errors, "at least one value is required"),
        _ => few(&values, errors, MAX_CODES),
    }
    let (mut known, mut last, mut ordered) = (BTreeSet::new(), i64::MIN, true);
    for value in values.items() {
        let Some(code) = value.number() else { continue };
        if operator.text() == "In" && code == 0 {
            value.invalid(errors, "must not be 0 for the In operator");
        }
        if !known.insert(code) {
            value.duplicate(errors);
        }
        ordered &= last <= code;
        last = code;
    }
    if !ordered {
        values.invalid(errors, "must be ordered");
    }
}

fn success_policy(spec: &At<'_>, policy: &At<'_>, errors: &mut Errors) {
    let rules = policy.get("rules");
    if rules.len() == 0 {
        rules.required(errors, "at least one rules must be specified when the successPolicy is specified");
    }
    few(&rules, errors, MAX_RULES);
    // That there are none has been told.
    let completions = spec.get("completions").number().unwrap_or(0);
    for rule in rules.items() {
        let (named, enough) = (rule.opt("succeededIndexes"), rule.opt("succeededCount"));
        if named.is_none() && enough.is_none() {
            rule.required(errors, "at least one of succeededCount or succeededIndexes must be specified");
        }
        let mut total = None;
        if let Some(named) = named {
            if named.text().len() > MAX_INDEXES_TEXT {
                errors.push(Error::too_long(&named.path(), MAX_INDEXES_TEXT));
            }
            let counted = count_indexes(named.text(), completions);
            total = Some(*counted.as_ref().unwrap_or(&0));
            if let Err(wrong) = counted {
                named.invalid(errors, format!("error parsing succeededIndexes: {wrong}"));
            }
        }
        let Some(enough) = enough else { continue };
        enough.not_negative(errors);
        for (most, of) in [
            (Some(completions), "the number of specified completions"),
            (total, "the number of indexes in the specified succeededIndexes field"),
        ] {
            if let Some(most) = most {
                at_most(&enough, errors, most, format!("must be less than or equal to {most} ({of})"));
            }
        }
    }
}

/// How many indexes below `limit` the text names, as in `1,3-5`, in their order.
fn count_indexes(text: &str, limit: i64) -> Result<i64, String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(n) if n >= limit => Err(format!("too large index: {text:?}")),
        Ok(n) => Ok(n),
    };
    let ascending = |before: i64, n: i64| {
        let wrong = || format!("non-increasing order, previous: {before}, current: {n}");
        if before < n { Ok(n) } else { Err(wrong()) }
    };
    let (mut total, mut last) = (0, None);
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = match part.split_once('-') {
            None => (index(part)?, None),
            Some((_, rest)) if rest.contains('-') => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
                     separated by '-'"
                ));
            }
            Some((from, to)) => (index(from)?, Some(to)),
        };
        let to = to.map_or(Ok(from), |to| ascending(from, index(to)?))?;
        last.map_or(Ok(from), |last| ascending(last, from))?;
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
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
    let completions = spec.get("completions");
    if spec.get("completionMode").text() != "Indexed" {
        completions.unchanged(&mut errors, &was["completions"]);
    } else if completions.value() != &was["completions"]
        && completions.number().is_some()
        && completions.number() != spec.get("parallelism").number()
    {
        completions.invalid(&mut errors, "can only be modified in tandem with spec.parallelism");
    }
    spec.get("selector").unchanged(&mut errors, &was["selector"]);
    let template = spec.get("template");
    if idle(old) {
        template.get("spec").unchanged(&mut errors, &redirected(template.value(), &was["template"]));
    } else {
        template.unchanged(&mut errors, &was["template"]);
    }
    for field in ["completionMode", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"]
    {
        spec.get(field).unchanged(&mut errors, &was[field]);
    }
    errors
}

/// A suspended Job of which nothing runs may be told where its pods are to run, and with what (KEP-2926, KEP-5440).
fn idle(job: &Value) -> bool {
    let status = &job["status"];
    let conditions = status["conditions"].as_array();
    let told = conditions.into_iter().flatten().any(|c| c["type"] == "Suspended" && c["status"] == "True");
    job["spec"]["suspend"] == true
        && (status["startTime"].is_null() || told)
        && status["active"].as_i64().unwrap_or(0) == 0
}

/// The old template's pod, with what an idle Job may change taken from the new one.
fn redirected(new: &Value, old: &Value) -> Value {
    let (new, mut pod) = (&new["spec"], old["spec"].clone());
    let Some(fields) = pod.as_object_mut() else { return pod };
    follow(fields, new, &["nodeSelector", "tolerations", "schedulingGates"]);
    let affinity = fields.entry("affinity").or_insert_with(|| Map::new().into());
    if let Some(affinity) = affinity.as_object_mut() {
        follow(affinity, &new["affinity"], &["nodeAffinity"]);
    }
    if new["affinity"].is_null() && affinity.as_object().is_some_and(Map::is_empty) {
        fields.remove("affinity");
    }
    for list in ["containers", "initContainers"] {
        let (Some(all), Some(next)) =
            (fields.get_mut(list).and_then(Value::as_array_mut), new[list].as_array())
        else {
            continue;
        };
        if all.len() != next.len() {
            continue;
        }
        for (container, next) in all.iter_mut().zip(next).filter(|(c, next)| c["name"] == next["name"]) {
            if let Some(container) = container.as_object_mut() {
                follow(container, next, &["resources"]);
            }
        }
    }
    pod
}

/// Makes `fields` of a map what they are in `new`.
fn follow(map: &mut Map<String, Value>, new: &Value, fields: &[&str]) {
    for field in fields {
        match new.get(field) {
            Some(value) => map.insert((*field).to_owned(), value.clone()),
            None => map.remove(*field),
        };
    }
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

#[cfg(test)]
#[path = "jobs_tests.rs"]
mod tests;
