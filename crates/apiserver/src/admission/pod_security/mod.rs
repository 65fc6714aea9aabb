//! PodSecurity: holds pods to the level that their namespace is labelled with (the Pod Security Standards).

mod checks;
mod config;

pub use self::config::Config;
use self::config::Mode;

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
    namespaces: Kept<Labelled>,
    config: Arc<Config>,
}

/// What is asked of a pod, and the version of the standards that is named for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Wanted<'a> {
    level: Level,
    version: &'a str,
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

impl Wanted<'_> {
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

/// What a namespace's labels say of one mode.
#[derive(Default)]
struct Said {
    /// One that can't be read means the strictest to those who would be let through otherwise.
    level: Option<Level>,
    /// It can be read.
    legible: bool,
    version: Option<String>,
}

/// What a namespace asks of its pods: what it says of each mode, in the order of [`Mode::ALL`].
#[derive(Default, Deserialize)]
#[serde(from = "Namespace")]
struct Labelled([Said; 3]);

impl From<Namespace> for Labelled {
    fn from(namespace: Namespace) -> Self {
        let labels = namespace.metadata.labels.unwrap_or_default();
        Self(Mode::ALL.map(|mode| {
            let label = |suffix| labels.get(&format!("{LABEL}{}{suffix}", mode.as_str()));
            let level = label("").map(|text| Level::parse(text));
            Said {
                level: level.map(|level| level.unwrap_or(Level::Restricted)),
                legible: level.flatten().is_some(),
                version: label("-version").filter(|version| is_version(version)).cloned(),
            }
        }))
    }
}

impl Labelled {
    /// What holds in one mode: labels go over what is configured.
    fn wanted<'a>(&'a self, mode: Mode, config: &'a Config) -> Wanted<'a> {
        let [enforce, ..] = &self.0;
        let said = &self.0[mode as usize];
        let mut default = config.of(mode);
        if mode != Mode::Enforce && enforce.legible && said.level.is_none() {
            // Whoever enforces more than is told of otherwise wants that told, too.
            let enforced = self.wanted(Mode::Enforce, config);
            if enforced.level > default.level {
                default = enforced;
            }
        }
        Wanted {
            level: said.level.unwrap_or(default.level),
            version: said.version.as_deref().unwrap_or(default.version),
        }
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
    pub fn new(source: Arc<dyn Source>, config: Arc<Config>) -> Self {
        Self { source, namespaces: Kept::of("", "namespaces"), config }
    }

    /// Whether the pod of a request is nobody's business, which is noted.
    fn exempts(&self, request: &Attributes<'_>, spec: &Value) -> bool {
        let exempt = self.config.exempts(request.namespace, request.user.name(), spec);
        if let Some(why) = exempt {
            request.annotations.add("pod-security.kubernetes.io/exempt", || why);
        }
        exempt.is_some()
    }

    /// What the request's namespace asks for.
    fn labelled(&self, request: &Attributes<'_>) -> Arc<Labelled> {
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
        let spec = &object["spec"];
        if self.exempts(request, spec) {
            return Ok(());
        }
        let labelled = self.labelled(request);
        let enforced = labelled.wanted(Mode::Enforce, &self.config);
        let policy = || format!("{}:{}", enforced.level.as_str(), enforced.version);
        request.annotations.add("pod-security.kubernetes.io/enforce-policy", policy);
        // A pod that was let in before the label came may go on being updated.
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
        let Some((metadata, spec)) = pod.filter(|(_, spec)| !self.exempts(request, spec)) else {
            return Vec::new();
        };
        let labelled = self.labelled(request);
        if request.annotations.is_recording() {
            let audited = labelled.wanted(Mode::Audit, &self.config);
            if let Some(violations) = audited.violations(metadata, spec) {
                let note = || format!("would violate {violations}");
                request.annotations.add("pod-security.kubernetes.io/audit-violations", note);
            }
        }
        let warned = labelled.wanted(Mode::Warn, &self.config);
        warned.violations(metadata, spec).map(|v| format!("would violate {v}")).into_iter().collect()
    }
}

#[cfg(test)]
#[path = "../pod_security_tests.rs"]
mod tests;
