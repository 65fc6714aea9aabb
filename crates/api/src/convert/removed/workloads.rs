//! Deployments and DaemonSets: what the old versions had as fields, the current one keeps as annotations.

use serde_json::{Value, json};

use super::{annotate, object, take_annotation};
use crate::meta::{as_map, child_mut};

/// The revision that a Deployment is to go back to.
const ROLLBACK: &str = "deprecated.deployment.rollback.to";
/// How often the template of a DaemonSet has changed.
const GENERATION: &str = "deprecated.daemonset.template.generation";

pub(crate) fn deployment_to(version: &str, deployment: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    take_annotation(deployment, ROLLBACK);
    if let Some(rollback) = object(as_map(deployment), "spec").and_then(|spec| spec.remove("rollbackTo")) {
        let revision = rollback.get("revision").and_then(Value::as_i64).unwrap_or(0);
        annotate(deployment, ROLLBACK, revision.to_string());
    }
}

pub(crate) fn deployment_from(version: &str, deployment: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    if let Some(revision) = take_annotation(deployment, ROLLBACK).and_then(|text| text.parse::<i64>().ok()) {
        let rollback = if revision == 0 { json!({}) } else { json!({"revision": revision}) };
        child_mut(as_map(deployment), "spec").insert("rollbackTo".to_owned(), rollback);
    }
}

pub(crate) fn daemon_set_to(_version: &str, set: &mut Value) {
    take_annotation(set, GENERATION);
    if let Some(generation) = object(as_map(set), "spec").and_then(|spec| spec.remove("templateGeneration")) {
        annotate(set, GENERATION, generation.to_string());
    }
}

pub(crate) fn daemon_set_from(_version: &str, set: &mut Value) {
    if let Some(generation) = take_annotation(set, GENERATION).and_then(|text| text.parse::<i64>().ok()) {
        child_mut(as_map(set), "spec").insert("templateGeneration".to_owned(), generation.into());
    }
}
