//! PodSecurity: holds pods to the level that their namespace is labelled with (the Pod Security Standards).

mod checks;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tiphys_api::{
    field::{Error, Path},
    meta,
    status::Status,
};

use super::{Attributes, Operation, Plugin};
use crate::kept::Kept;
use crate::source::Source;

/// How much a pod may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Privileged,
    Baseline,
    Restricted,
}

const LABEL: &str = "pod-security.kubernetes.io/";

pub struct PodSecurity {
    source: Arc<dyn Source>,
    namespaces: Kept<Modes>,
}

/// What a namespace asks of its pods, and the version of the standards that it names.
struct Wanted {
    level: Level,
    version: String,
}

impl Level {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "privileged" => Some(Self::Privileged),
            "baseline" => Some(Self::Baseline),
            "restricted" => Some(Self::Restricted),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

impl Wanted {
    /// Reads the labels of one mode. One that can't be read means the strictest level to those who would be let
    /// through otherwise.
    fn read(labels: &Labels, mode: &str) -> Self {
        let level = labels.get(&format!("{LABEL}{mode}"));
        let level = level.map_or(Level::Privileged, |l| Level::parse(l).unwrap_or(Level::Restricted));
        let version = labels.get(&format!("{LABEL}{mode}-version")).filter(|v| is_version(v));
        Self { level, version: version.map_or("latest", String::as_str).to_owned() }
    }

    /// What the pod does that the level forbids, as one sentence; `None` if nothing.
    fn violations(&self, metadata: &Value, spec: &Value) -> Option<String> {
        let found = checks::run(self.level, metadata, spec);
        if found.is_empty() {
            return None;
        }
        let all: Vec<String> = found.iter().map(|v| format!("{} ({})", v.reason, v.detail)).collect();
        Some(format!("PodSecurity \"{}:{}\": {}", self.level.as_str(), self.version, all.join(", ")))
    }
}

fn is_version(text: &str) -> bool {
    let number = |n: &str| !n.is_empty() && n.len() < 6 && n.bytes().all(|b| b.is_ascii_digit());
    text == "latest" || text.strip_prefix("v1.").is_some_and(number)
}

type Labels = BTreeMap<String, String>;

/// What a namespace asks of its pods.
#[derive(Deserialize)]
#[serde(from = "Namespace")]
struct Modes {
    enforce: Wanted,
    audit: Wanted,
    warn: Wanted,
}

impl Default for Modes {
    fn default() -> Self {
        Self::read(&Labels::new())
    }
}

impl Modes {
    fn read(labels: &Labels) -> Self {
        let mode = |mode| Wanted::read(labels, mode);
        Self { enforce: mode("enforce"), audit: mode("audit"), warn: mode("warn") }
    }
}

impl From<Namespace> for Modes {
    fn from(namespace: Namespace) -> Self {
        Self::read(&namespace.metadata.labels.unwrap_or_default())
    }
}

#[derive(Deserialize)]
struct Namespace {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    labels: Option<Labels>,
}

impl PodSecurity {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, namespaces: Kept::of("", "namespaces") }
    }

    /// What the request's namespace asks for.
    fn modes(&self, request: &Attributes<'_>) -> Arc<Modes> {
        self.namespaces.get(&*self.source, "", request.namespace).unwrap_or_default()
    }
}

fn writes_namespace(request: &Attributes<'_>) -> bool {
    request.is(Operation::Create, "", "namespaces") || request.is(Operation::Update, "", "namespaces")
}

/// Whether the request decides what a pod may do.
fn shapes_pod(request: &Attributes<'_>) -> bool {
    request.group.is_empty()
        && request.resource == "pods"
        && match request.operation {
            Operation::Create => request.subresource.is_empty(),
            Operation::Update => ["", "ephemeralcontainers", "resize"].contains(&request.subresource),
            _ => false,
        }
}

/// The metadata and spec of the pods that an object makes.
fn template<'a>(request: &Attributes<'_>, object: &'a Value) -> Option<(&'a Value, &'a Value)> {
    let template = match (request.group, request.resource) {
        ("apps", "deployments" | "replicasets" | "statefulsets" | "daemonsets")
        | ("batch", "jobs")
        | ("", "replicationcontrollers") => &object["spec"]["template"],
        ("batch", "cronjobs") => &object["spec"]["jobTemplate"]["spec"]["template"],
        ("", "podtemplates") => &object["template"],
        _ => return None,
    };
    template["spec"].is_object().then(|| (&template["metadata"], &template["spec"]))
}

/// Labels of a namespace that name no level or version.
fn wrong_labels(namespace: &Value, old: &Value) -> Vec<Error> {
    let path = Path::new("metadata").child("labels");
    let mut errors = Vec::new();
    for (key, value) in meta::labels(namespace).into_iter().flatten() {
        let Some(mode) = key.strip_prefix(LABEL) else { continue };
        let unchanged = meta::labels(old).and_then(|labels| labels.get(key)) == Some(value);
        let text = value.as_str().unwrap_or_default();
        let path = path.key(key);
        match mode {
            _ if unchanged => {}
            "enforce" | "warn" | "audit" if Level::parse(text).is_none() => {
                let detail = "must be one of privileged, baseline, restricted";
                errors.push(Error::invalid(&path, text, detail));
            }
            "enforce-version" | "warn-version" | "audit-version" if !is_version(text) => {
                errors.push(Error::invalid(&path, text, "must be \"latest\" or \"v1.x\""));
            }
            _ => {}
        }
    }
    errors
}

#[async_trait]
impl Plugin for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        writes_namespace(request) || shapes_pod(request)
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if writes_namespace(request) {
            let errors = wrong_labels(object, old);
            if errors.is_empty() {
                return Ok(());
            }
            return Err(Status::invalid("", "Namespace", meta::name(object), &errors));
        }
        if !shapes_pod(request) {
            return Ok(());
        }
        let modes = self.modes(request);
        let enforced = &modes.enforce;
        let policy = || format!("{}:{}", enforced.level.as_str(), enforced.version);
        request.annotations.add("pod-security.kubernetes.io/enforce-policy", policy);
        // A pod that was let in before the label came may go on being updated.
        let spec = &object["spec"];
        if request.operation == Operation::Update && *spec == old["spec"] {
            return Ok(());
        }
        match enforced.violations(&object["metadata"], spec) {
            Some(violations) => Err(request.forbidden(object, &format!("violates {violations}"))),
            None => Ok(()),
        }
    }

    fn warnings(&self, request: &Attributes<'_>, object: &Value, _: &Value) -> Vec<String> {
        let pod = if shapes_pod(request) {
            Some((&object["metadata"], &object["spec"]))
        } else if [Operation::Create, Operation::Update].contains(&request.operation)
            && request.subresource.is_empty()
        {
            template(request, object)
        } else {
            None
        };
        let Some((metadata, spec)) = pod else { return Vec::new() };
        let modes = self.modes(request);
        if request.annotations.is_recording()
            && let Some(violations) = modes.audit.violations(metadata, spec)
        {
            let note = || format!("would violate {violations}");
            request.annotations.add("pod-security.kubernetes.io/audit-violations", note);
        }
        modes.warn.violations(metadata, spec).map(|v| format!("would violate {v}")).into_iter().collect()
    }
}

#[cfg(test)]
#[path = "../pod_security_tests.rs"]
mod tests;
