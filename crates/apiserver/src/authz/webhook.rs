//! An authorizer that is another server: it is asked by a `SubjectAccessReview`, and its answers are remembered.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use tiphys_api::selector::{FieldSelector, LabelSelector, Operator};
use tiphys_cel::{Bindings, Declared, Environment, Type};
use tiphys_metrics::{Exposition, Histogram, Kind, Table};
use tokio::time::Instant;
use tracing::warn;

use super::config::WebhookConfig;
use super::{Attributes, Decision, Target};
use crate::bounded::Bounded;
use crate::outgoing::{Endpoint, Error, Outgoing, SpecError, Step};

const GROUP: &str = "authorization.k8s.io";
/// Answers that are remembered.
const REMEMBERED: usize = 4096;
/// Answers to questions of more bytes than this, of what the client chooses, are not remembered.
const MEMORABLE: usize = 10_000;

/// Asks one endpoint.
pub(crate) struct Webhook {
    name: String,
    config: WebhookConfig,
    endpoint: Arc<Endpoint>,
    known: Mutex<Bounded<[u8; 32], Known>>,
    calls: Arc<Calls>,
}

/// Until when an answer counts, and what it was.
type Known = (Instant, Decision);

/// What is counted of webhooks, by their names.
pub(crate) struct Calls {
    evaluations: Table<2, AtomicU64>,
    took: Table<2, Histogram>,
    failed_open: Table<2, AtomicU64>,
    /// Questions that match conditions have kept from a webhook, and conditions that failed.
    excluded: Table<1, AtomicU64>,
    condition_errors: Table<1, AtomicU64>,
}

const SECONDS: [f64; 8] = [0.005, 0.025, 0.1, 0.5, 1.0, 2.5, 10.0, 30.0];
const SERIES: usize = 256;

impl Calls {
    pub(crate) fn new() -> Self {
        let count = || Table::new(SERIES);
        Self {
            evaluations: count(),
            took: Table::new(SERIES),
            failed_open: count(),
            excluded: Table::new(SERIES),
            condition_errors: Table::new(SERIES),
        }
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let results = [
            ("webhook_evaluations_total", &self.evaluations, "Questions to webhooks."),
            ("webhook_evaluations_fail_open_total", &self.failed_open, "Failures that others decided after."),
        ];
        for (name, table, help) in results {
            text.family(&format!("apiserver_authorization_{name}"), Kind::Counter, help);
            for ([name, result], count) in table.entries() {
                text.sample(&[("name", name), ("result", result)], count.load(Relaxed) as f64);
            }
        }
        let help = "Time that webhooks took.";
        text.family("apiserver_authorization_webhook_duration_seconds", Kind::Histogram, help);
        for ([name, result], took) in self.took.entries() {
            text.histogram(&[("name", name), ("result", result)], took);
        }
        let conditions = [
            (
                "apiserver_authorization_match_condition_exclusions_total",
                &self.excluded,
                "Questions that match conditions kept from a webhook.",
            ),
            (
                "apiserver_authorization_match_condition_evaluation_errors_total",
                &self.condition_errors,
                "Match conditions that failed.",
            ),
        ];
        for (name, table, help) in conditions {
            text.family(name, Kind::Counter, help);
            for ([name], count) in table.entries() {
                text.sample(&[("type", "Webhook"), ("name", name)], count.load(Relaxed) as f64);
            }
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    allowed: bool,
    denied: bool,
    reason: String,
}

impl Webhook {
    pub(crate) fn new(
        name: String,
        config: WebhookConfig,
        outgoing: &Outgoing,
        calls: Arc<Calls>,
    ) -> Result<Self, SpecError> {
        let endpoint = outgoing.endpoint(&config.endpoint)?;
        Ok(Self { name, config, endpoint, known: Mutex::new(Bounded::new(REMEMBERED)), calls })
    }

    /// What the server says, or has said lately.
    pub(crate) async fn ask(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(attributes);
        match self.concerns(&spec) {
            Ok(true) => {}
            Ok(false) => {
                self.calls.excluded.entry([&self.name], AtomicU64::default).fetch_add(1, Relaxed);
                return Decision::NoOpinion { reason: String::new() };
            }
            Err(error) => {
                let errors = self.calls.condition_errors.entry([&self.name], AtomicU64::default);
                errors.fetch_add(1, Relaxed);
                return match self.config.denies_on_failure {
                    true => Decision::Failed { error, denied: true },
                    false => Decision::NoOpinion { reason: String::new() },
                };
            }
        }
        let key = (chosen(attributes) < MEMORABLE).then(|| {
            let digest: [u8; 32] = Sha256::digest(spec.to_string().as_bytes()).into();
            digest
        });
        if let Some(key) = key
            && let Some((until, decision)) = self.known().get(&key)
            && Instant::now() < until
        {
            return decision;
        }
        let decision = match self.call(spec).await {
            Ok(status) => self.judge(status),
            Err((result, error)) => {
                warn!(webhook = self.name, error, "a webhook for permissions did not answer");
                if !self.config.denies_on_failure {
                    let count = self.calls.failed_open.entry([&self.name, result], AtomicU64::default);
                    count.fetch_add(1, Relaxed);
                }
                return Decision::Failed { error, denied: self.config.denies_on_failure };
            }
        };
        let counts = match &decision {
            Decision::Allow { .. } => self.config.remember_allowed,
            _ => self.config.remember_others,
        };
        if let (Some(key), Some(counts)) = (key, counts) {
            self.known().insert(key, (Instant::now() + counts, decision.clone()));
        }
        decision
    }

    fn known(&self) -> parking_lot::MutexGuard<'_, Bounded<[u8; 32], Known>> {
        self.known.lock()
    }

    /// Whether the question fulfils the webhook's conditions.
    fn concerns(&self, spec: &Value) -> Result<bool, String> {
        if self.config.conditions.is_empty() {
            return Ok(true);
        }
        let shown = complete(spec);
        let request = tiphys_cel::Value::from_json(&shown, &REQUEST);
        self.config.conditions.hold(&Bindings::new().with("request", request))
    }

    /// Asks; an error comes with the word that it is counted under.
    async fn call(&self, spec: Value) -> Result<Status, (&'static str, String)> {
        let review = json!({
            "kind": "SubjectAccessReview",
            "apiVersion": self.config.version.of(GROUP),
            "metadata": {},
            "spec": worded(spec, self.config.version),
        });
        let begun = Instant::now();
        let answer = self.endpoint.ask("", Bytes::from(review.to_string()), self.config.timeout).await;
        let (result, answer) = match answer {
            Ok(answer) => match Answer::deserialize(answer) {
                Ok(answer) => ("success", Ok(answer.status)),
                Err(error) => ("error", Err(format!("the answer is no SubjectAccessReview: {error}"))),
            },
            Err(error @ Error { step: Step::Deadline, .. }) => ("timeout", Err(error.to_string())),
            Err(error) => ("error", Err(error.to_string())),
        };
        let labels = [self.name.as_str(), result];
        self.calls.evaluations.entry(labels, AtomicU64::default).fetch_add(1, Relaxed);
        self.calls.took.entry(labels, || Histogram::new(&SECONDS)).observe_time(begun.elapsed());
        answer.map_err(|error| (result, error))
    }

    fn judge(&self, Status { allowed, denied, reason }: Status) -> Decision {
        match (allowed, denied) {
            (true, true) => Decision::Failed {
                error: "webhook subject access review returned both allow and deny response".to_owned(),
                denied: true,
            },
            (true, false) => Decision::Allow { reason },
            (false, true) => Decision::Deny { reason },
            (false, false) => Decision::NoOpinion { reason },
        }
    }
}

/// The bytes of a question that whoever makes the request chooses.
fn chosen(attributes: &Attributes<'_>) -> usize {
    attributes.verb.len()
        + match attributes.target {
            Target::Path(path) => path.len(),
            Target::Resource {
                group,
                version,
                resource,
                subresource,
                namespace,
                name,
                field_selector,
                label_selector,
            } => [group, version, resource, subresource, namespace, name, field_selector, label_selector]
                .map(str::len)
                .iter()
                .sum(),
        }
}

/// The `spec` of the review; what is empty is left out.
fn spec(attributes: &Attributes<'_>) -> Value {
    let user = attributes.user;
    let mut spec = Map::new();
    put(&mut spec, "user", user.name());
    put(&mut spec, "uid", user.uid());
    if !user.groups().is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups()));
    }
    if !user.extra().is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra()));
    }
    let mut about = Map::new();
    put(&mut about, "verb", attributes.verb);
    let kind = match attributes.target {
        Target::Path(path) => {
            put(&mut about, "path", path);
            "nonResourceAttributes"
        }
        Target::Resource {
            group,
            version,
            resource,
            subresource,
            namespace,
            name,
            field_selector,
            label_selector,
        } => {
            let parts = [
                ("namespace", namespace),
                ("group", group),
                ("version", version),
                ("resource", resource),
                ("subresource", subresource),
                ("name", name),
            ];
            parts.into_iter().for_each(|(key, value)| put(&mut about, key, value));
            for (key, requirements) in
                [("fieldSelector", fields(field_selector)), ("labelSelector", labels(label_selector))]
            {
                if !requirements.is_empty() {
                    about.insert(key.to_owned(), json!({ "requirements": requirements }));
                }
            }
            "resourceAttributes"
        }
    };
    spec.insert(kind.to_owned(), Value::Object(about));
    Value::Object(spec)
}

fn put(map: &mut Map<String, Value>, key: &str, value: &str) {
    if !value.is_empty() {
        map.insert(key.to_owned(), value.into());
    }
}

/// A selector's requirements; one that cannot be read has none, which only widens the question.
fn fields(text: &str) -> Vec<Value> {
    if text.is_empty() {
        return Vec::new();
    }
    let requirements = FieldSelector::parse(text).map(|s| s.requirements).unwrap_or_default();
    let one = |r: &tiphys_api::selector::FieldRequirement| {
        let operator = if r.equal { "In" } else { "NotIn" };
        json!({ "key": r.field, "operator": operator, "values": [r.value] })
    };
    requirements.iter().map(one).collect()
}

fn labels(text: &str) -> Vec<Value> {
    if text.is_empty() {
        return Vec::new();
    }
    let Ok(selector) = LabelSelector::parse(text) else { return Vec::new() };
    let one = |r: &tiphys_api::selector::Requirement| {
        let operator = match r.operator {
            Operator::In => "In",
            Operator::NotIn => "NotIn",
            Operator::Exists => "Exists",
            Operator::DoesNotExist => "DoesNotExist",
            Operator::GreaterThan(_) | Operator::LessThan(_) => return None,
        };
        let mut requirement = json!({ "key": r.key, "operator": operator });
        if !r.values.is_empty() {
            requirement["values"] = json!(r.values);
        }
        Some(requirement)
    };
    selector.requirements().iter().filter_map(one).collect()
}

/// As the version calls its fields: v1beta1 says `group` where v1 says `groups`.
fn worded(mut spec: Value, version: crate::authn::ReviewVersion) -> Value {
    if version == crate::authn::ReviewVersion::V1Beta1
        && let Some(map) = spec.as_object_mut()
        && let Some(groups) = map.remove("groups")
    {
        map.insert("group".to_owned(), groups);
    }
    spec
}

/// With all texts that expressions may ask for, also those that are empty.
fn complete(spec: &Value) -> Value {
    let mut shown = spec.clone();
    let fill = |at: &mut Value, keys: &[&str], empty: Value| {
        for key in keys {
            if at[*key].is_null() {
                at[*key] = empty.clone();
            }
        }
    };
    fill(&mut shown, &["user", "uid"], "".into());
    fill(&mut shown, &["groups"], json!([]));
    fill(&mut shown, &["extra"], json!({}));
    if shown["resourceAttributes"].is_object() {
        let keys = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
        fill(&mut shown["resourceAttributes"], &keys, "".into());
    }
    shown
}

/// What match conditions see: `request`, the `spec` of a `SubjectAccessReview` of v1.
pub(super) fn environment() -> Environment {
    Environment::new().with("request", REQUEST.clone())
}

static REQUEST: LazyLock<Type> = LazyLock::new(|| {
    let strings = || Type::list(Type::String);
    let requirement = Declared::plain(
        "kubernetes.SelectorRequirement",
        [("key", Type::String), ("operator", Type::String), ("values", strings())],
    );
    let selector = |name: &'static str| {
        let requirements = Type::list(Type::Object(requirement.clone()));
        Type::Object(Declared::plain(name, [("rawSelector", Type::String), ("requirements", requirements)]))
    };
    let texts = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
    let selectors = [
        ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
        ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
    ];
    let resource = Declared::plain(
        "kubernetes.ResourceAttributes",
        texts.into_iter().map(|name| (name, Type::String)).chain(selectors),
    );
    let path =
        Declared::plain("kubernetes.NonResourceAttributes", [("path", Type::String), ("verb", Type::String)]);
    Type::Object(Declared::plain(
        "kubernetes.SubjectAccessReviewSpec",
        [
            ("resourceAttributes", Type::Object(resource)),
            ("nonResourceAttributes", Type::Object(path)),
            ("user", Type::String),
            ("groups", strings()),
            ("extra", Type::map(Type::String, strings())),
            ("uid", Type::String),
        ],
    ))
});

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
