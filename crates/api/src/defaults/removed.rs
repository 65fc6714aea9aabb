//! What versions that upstream has removed fill in differently. The defaults of the current version follow, where a
//! field is still open.

use serde_json::{Map, Value, json};

use super::Fill::{Bool, Int, Text};
use super::{each, fill, is_text, object, spec};
use crate::convert::removed::others::PRESERVE_ZERO;
use crate::custom::definition;
use crate::meta::{self, as_map, child_mut};

/// Means the same as no limit.
const UNLIMITED: i64 = i32::MAX as i64;

/// What selects pods, and the object's own labels, came from the template.
fn from_template(workload: &mut Value) {
    let labels = meta::at(workload, &["spec", "template", "metadata", "labels"]);
    let Some(Value::Object(labels)) =
        labels.filter(|l| l.as_object().is_some_and(|l| !l.is_empty())).cloned()
    else {
        return;
    };
    let own = child_mut(as_map(workload), "metadata");
    if own.get("labels").and_then(Value::as_object).is_none_or(Map::is_empty) {
        own.insert("labels".to_owned(), labels.clone().into());
    }
    spec(workload).entry("selector").or_insert_with(|| json!({"matchLabels": labels}));
}

/// `extensions/v1beta1`, `apps/v1beta1` and what came after.
pub(crate) fn deployment(version: &str, deployment: &mut Value) {
    if version == "v1beta1" {
        from_template(deployment);
        let extensions = deployment["apiVersion"] == "extensions/v1beta1";
        let spec = spec(deployment);
        if extensions {
            let strategy = child_mut(spec, "strategy");
            fill(strategy, &[("type", Text("RollingUpdate"))]);
            if is_text(strategy, "type", "RollingUpdate") || strategy.contains_key("rollingUpdate") {
                fill(
                    child_mut(strategy, "rollingUpdate"),
                    &[("maxUnavailable", Int(1)), ("maxSurge", Int(1))],
                );
            }
            fill(
                spec,
                &[("progressDeadlineSeconds", Int(UNLIMITED)), ("revisionHistoryLimit", Int(UNLIMITED))],
            );
        }
        fill(spec, &[("revisionHistoryLimit", Int(2))]);
    }
    super::deployment(version, deployment);
}

/// `extensions/v1beta1`.
pub(crate) fn daemon_set(version: &str, set: &mut Value) {
    if version == "v1beta1" {
        from_template(set);
        fill(child_mut(spec(set), "updateStrategy"), &[("type", Text("OnDelete"))]);
    }
    super::daemon_set(version, set);
}

/// `extensions/v1beta1`.
pub(crate) fn replica_set(version: &str, set: &mut Value) {
    if version == "v1beta1" {
        from_template(set);
    }
    super::replica_set(version, set);
}

/// `apps/v1beta1`.
pub(crate) fn stateful_set(version: &str, set: &mut Value) {
    if version == "v1beta1" {
        from_template(set);
        fill(child_mut(spec(set), "updateStrategy"), &[("type", Text("OnDelete"))]);
    }
    super::stateful_set(version, set);
}

/// `extensions/v1beta1` and `networking.k8s.io/v1beta1`: today every path says its type.
pub(crate) fn ingress(version: &str, ingress: &mut Value) {
    if version != "v1beta1" {
        return;
    }
    for rule in each(spec(ingress), "rules") {
        if let Some(http) = object(rule, "http") {
            for path in each(http, "paths") {
                fill(path, &[("pathType", Text("ImplementationSpecific"))]);
            }
        }
    }
}

/// `autoscaling/v2beta1` writes its metrics in another way.
pub(crate) fn autoscaler(version: &str, autoscaler: &mut Value) {
    if version == "v2beta1" {
        let spec = spec(autoscaler);
        let none = spec.get("metrics").and_then(Value::as_array).is_none_or(Vec::is_empty);
        if none {
            let cpu = json!({"name": "cpu", "targetAverageUtilization": 80});
            spec.insert("metrics".to_owned(), json!([{"type": "Resource", "resource": cpu}]));
        }
    }
    super::autoscaler(version, autoscaler);
}

/// `rbac.authorization.k8s.io/v1alpha1` names the version of a subject, not its group.
pub(crate) fn role_binding(version: &str, binding: &mut Value) {
    if version != "v1alpha1" {
        return super::role_binding(version, binding);
    }
    let binding = as_map(binding);
    if let Some(role) = object(binding, "roleRef") {
        fill(role, &[("apiGroup", Text("rbac.authorization.k8s.io"))]);
    }
    for subject in each(binding, "subjects") {
        if is_text(subject, "kind", "ServiceAccount") {
            fill(subject, &[("apiVersion", Text("v1"))]);
        } else if is_text(subject, "kind", "User") || is_text(subject, "kind", "Group") {
            fill(subject, &[("apiVersion", Text("rbac.authorization.k8s.io/v1alpha1"))]);
        }
    }
}

/// `admissionregistration.k8s.io/v1beta1`: a webhook that fails is passed over, and has 30 seconds.
pub(crate) fn webhooks(version: &str, configuration: &mut Value) {
    if version == "v1beta1" {
        for webhook in each(as_map(configuration), "webhooks") {
            fill(
                webhook,
                &[
                    ("failurePolicy", Text("Ignore")),
                    ("matchPolicy", Text("Exact")),
                    ("sideEffects", Text("Unknown")),
                    ("timeoutSeconds", Int(30)),
                ],
            );
            webhook.entry("admissionReviewVersions").or_insert_with(|| json!(["v1beta1"]));
        }
    }
    super::webhooks(version, configuration);
}

/// `apiextensions.k8s.io/v1beta1`: a definition has at least one version, and nothing of its objects is unknown.
pub(crate) fn definition(version: &str, object: &mut Value) {
    if version == "v1beta1" {
        let spec = spec(object);
        fill(spec, &[("scope", Text("Namespaced")), ("preserveUnknownFields", Bool(true))]);
        let first = each(spec, "versions").next().and_then(|v| v.get("name").cloned());
        match (spec.get("version").cloned(), first) {
            (Some(name), None) if name != "" => {
                let only = json!([{"name": name, "served": true, "storage": true}]);
                spec.insert("versions".to_owned(), only);
            }
            (None, Some(first)) => drop(spec.insert("version".to_owned(), first)),
            _ => {}
        }
        let conversion = child_mut(spec, "conversion");
        fill(conversion, &[("strategy", Text("None"))]);
        if is_text(conversion, "strategy", "Webhook") {
            conversion.entry("conversionReviewVersions").or_insert_with(|| json!(["v1beta1"]));
            let client = super::object(conversion, "webhookClientConfig");
            if let Some(service) = client.and_then(|client| super::object(client, "service")) {
                fill(service, &[("port", Int(443))]);
            }
        }
    }
    definition::default(version, object);
}

/// `certificates.k8s.io/v1beta1`: a request need not say whom it asks, nor what for.
pub(crate) fn signing_request(version: &str, request: &mut Value) {
    if version == "v1beta1" {
        let spec = spec(request);
        fill(spec, &[("signerName", Text("kubernetes.io/legacy-unknown"))]);
        spec.entry("usages").or_insert_with(|| json!(["digital signature", "key encipherment"]));
    }
}

/// The betas of `flowcontrol.apiserver.k8s.io`, where no shares meant 30.
pub(crate) fn priority_level(version: &str, level: &mut Value) {
    let assured = matches!(version, "v1beta1" | "v1beta2");
    let zero = version == "v1" || !assured && meta::annotation(level, PRESERVE_ZERO).is_some();
    let limited = |level: &mut Value, change: &dyn Fn(&mut Map<String, Value>)| {
        object(spec(level), "limited").into_iter().for_each(change);
    };
    limited(level, &|limited| {
        if let Some(shares) = limited.remove("assuredConcurrencyShares").filter(|_| assured) {
            limited.insert(SHARES.to_owned(), shares);
        }
        if !zero && limited.get(SHARES).is_some_and(|shares| *shares == 0) {
            limited.remove(SHARES);
        }
    });
    super::priority_level(version, level);
    if assured {
        limited(level, &|limited| {
            if let Some(shares) = limited.remove(SHARES) {
                limited.insert("assuredConcurrencyShares".to_owned(), shares);
            }
        });
    }
}

const SHARES: &str = "nominalConcurrencyShares";

#[cfg(test)]
#[path = "removed_tests.rs"]
mod tests;
