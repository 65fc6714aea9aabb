//! What makes pods: Deployments, Jobs and their kin.

use serde_json::{Map, Value, json};

use super::Fill::{Bool, Int, Text};
use super::{each, fill, is_text, object, pod_template, spec};
use crate::meta::{self, as_map, child_mut};

pub fn deployment(_version: &str, deployment: &mut Value) {
    let spec = spec(deployment);
    fill(
        spec,
        &[("replicas", Int(1)), ("revisionHistoryLimit", Int(10)), ("progressDeadlineSeconds", Int(600))],
    );
    let strategy = child_mut(spec, "strategy");
    fill(strategy, &[("type", Text("RollingUpdate"))]);
    if is_text(strategy, "type", "RollingUpdate") {
        let rolling = child_mut(strategy, "rollingUpdate");
        fill(rolling, &[("maxUnavailable", Text("25%")), ("maxSurge", Text("25%"))]);
    }
    pod_template(spec);
}

pub fn replica_set(_version: &str, set: &mut Value) {
    let spec = spec(set);
    fill(spec, &[("replicas", Int(1))]);
    pod_template(spec);
}

/// The selector and the labels come from the template where they are missing.
pub fn replication_controller(_version: &str, controller: &mut Value) {
    let labels = template_labels(controller);
    let spec = spec(controller);
    fill(spec, &[("replicas", Int(1))]);
    pod_template(spec);
    if let Some(labels) = labels {
        spec.entry("selector").or_insert_with(|| labels.clone());
        child_mut(as_map(controller), "metadata").entry("labels").or_insert(labels);
    }
}

fn template_labels(workload: &Value) -> Option<Value> {
    let labels = meta::at(workload, &["spec", "template", "metadata", "labels"])?;
    labels.as_object().is_some_and(|l| !l.is_empty()).then(|| labels.clone())
}

pub fn daemon_set(_version: &str, set: &mut Value) {
    let spec = spec(set);
    fill(spec, &[("revisionHistoryLimit", Int(10))]);
    let strategy = child_mut(spec, "updateStrategy");
    fill(strategy, &[("type", Text("RollingUpdate"))]);
    if is_text(strategy, "type", "RollingUpdate") {
        fill(child_mut(strategy, "rollingUpdate"), &[("maxUnavailable", Int(1)), ("maxSurge", Int(0))]);
    }
    pod_template(spec);
}

pub fn stateful_set(_version: &str, set: &mut Value) {
    let spec = spec(set);
    fill(
        spec,
        &[
            ("replicas", Int(1)),
            ("revisionHistoryLimit", Int(10)),
            ("podManagementPolicy", Text("OrderedReady")),
        ],
    );
    let strategy = child_mut(spec, "updateStrategy");
    fill(strategy, &[("type", Text("RollingUpdate"))]);
    if is_text(strategy, "type", "RollingUpdate") {
        fill(child_mut(strategy, "rollingUpdate"), &[("partition", Int(0))]);
    }
    let retention = child_mut(spec, "persistentVolumeClaimRetentionPolicy");
    fill(retention, &[("whenDeleted", Text("Retain")), ("whenScaled", Text("Retain"))]);
    for claim in each(spec, "volumeClaimTemplates") {
        fill(claim, &[("apiVersion", Text("v1")), ("kind", Text("PersistentVolumeClaim"))]);
        fill(child_mut(claim, "spec"), &[("volumeMode", Text("Filesystem"))]);
        fill(child_mut(claim, "status"), &[("phase", Text("Pending"))]);
    }
    pod_template(spec);
}

pub fn job(_version: &str, job: &mut Value) {
    let labels = template_labels(job);
    let spec = spec(job);
    let per_index = spec.contains_key("backoffLimitPerIndex");
    let failure_policy = spec.contains_key("podFailurePolicy");
    if !spec.contains_key("completions") && !spec.contains_key("parallelism") {
        fill(spec, &[("completions", Int(1))]);
    }
    fill(
        spec,
        &[
            ("parallelism", Int(1)),
            ("backoffLimit", Int(if per_index { i32::MAX.into() } else { 6 })),
            ("completionMode", Text("NonIndexed")),
            ("suspend", Bool(false)),
            ("podReplacementPolicy", Text(if failure_policy { "Failed" } else { "TerminatingOrFailed" })),
            ("manualSelector", Bool(false)),
        ],
    );
    if let Some(policy) = object(spec, "podFailurePolicy") {
        for rule in each(policy, "rules") {
            for pattern in each(rule, "onPodConditions") {
                fill(pattern, &[("status", Text("True"))]);
            }
        }
    }
    pod_template(spec);
    if let Some(labels) = labels {
        child_mut(as_map(job), "metadata").entry("labels").or_insert(labels);
    }
}

pub fn cron_job(_version: &str, job: &mut Value) {
    let spec = spec(job);
    fill(
        spec,
        &[
            ("concurrencyPolicy", Text("Allow")),
            ("suspend", Bool(false)),
            ("successfulJobsHistoryLimit", Int(3)),
            ("failedJobsHistoryLimit", Int(1)),
        ],
    );
    if let Some(template) = object(spec, "jobTemplate") {
        pod_template(child_mut(template, "spec"));
    }
}

/// A metric is a CPU use of 80 percent unless another is named.
pub fn autoscaler(version: &str, autoscaler: &mut Value) {
    let spec = spec(autoscaler);
    fill(spec, &[("minReplicas", Int(1))]);
    // What is measured may stand in its annotations, which only conversion reads.
    if version == "v1" {
        return;
    }
    let metrics = || {
        json!([{"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 80}}}])
    };
    spec.entry("metrics").or_insert_with(metrics);
    if let Some(behavior) = object(spec, "behavior") {
        scaling_rules(child_mut(behavior, "scaleUp"), Some(0), &[("Pods", 4), ("Percent", 100)]);
        scaling_rules(child_mut(behavior, "scaleDown"), None, &[("Percent", 100)]);
    }
}

fn scaling_rules(rules: &mut Map<String, Value>, window: Option<i64>, policies: &[(&str, i64)]) {
    fill(rules, &[("selectPolicy", Text("Max"))]);
    if let Some(window) = window {
        fill(rules, &[("stabilizationWindowSeconds", Int(window))]);
    }
    let all = || policies.iter().map(|(t, v)| json!({"type": t, "value": v, "periodSeconds": 15})).collect();
    rules.entry("policies").or_insert_with(all);
}
