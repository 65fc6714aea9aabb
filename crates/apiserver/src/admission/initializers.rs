//! Initializers: `InitializerConfiguration` of `admissionregistration.k8s.io/v1alpha1`, as Kubernetes had them until
//! 1.13.
//!
//! A new object that a rule matches gets the names of those who have to see it first, in
//! `metadata.initializers.pending`. Until the list is empty, only those see the object who ask for such with
//! `includeUninitialized`, and only those change it who may `initialize` the resource. Names leave the list from its
//! front, so that initializers act in their order.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::field::{self, Error, Path};
use tiphys_api::kind::Kinds;
use tiphys_api::status::Status;
use tiphys_api::{meta, names};
use tokio::sync::watch;

use super::matching::Candidate;
use super::{Attributes, Operation, Plugin};
use crate::authz::{self, Chain, Target};
use crate::derived::{Derived, Made};
use crate::identity::Identity;
use crate::source::Source;

const GROUP: &str = "admissionregistration.k8s.io";
const RESOURCE: &str = "initializerconfigurations";
/// With `true` on a configuration, its initializers see only objects that have `initializer.kubernetes.io/<name>:
/// "true"`, where the name is the initializer's or its first part.
const OPT_IN: &str = "initializer.kubernetes.io/require-annotation";
const ANNOTATION: &str = "initializer.kubernetes.io/";
const MIRROR: &str = "kubernetes.io/config.mirror";
/// The labels by which an application is known.
const APP_LABELS: [&str; 2] = ["app", "app.kubernetes.io/name"];

/// Sets and guards `metadata.initializers`.
pub struct Initializers {
    source: Arc<dyn Source>,
    authorizer: Arc<Chain>,
    kinds: watch::Receiver<Arc<Kinds>>,
    compiled: Derived<Vec<Initializer>, 1>,
}

struct Initializer {
    name: String,
    opt_in: bool,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
struct Configuration {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    initializers: Vec<Entry>,
}

#[derive(Default, Deserialize)]
struct Metadata {
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Entry {
    name: String,
    #[serde(default)]
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    api_groups: Vec<String>,
    #[serde(default)]
    api_versions: Vec<String>,
    #[serde(default)]
    resources: Vec<String>,
}

impl Rule {
    fn matches(&self, group: &str, version: &str, resource: &str) -> bool {
        let has = |list: &[String], name: &str| list.iter().any(|item| item == "*" || item == name);
        has(&self.api_groups, group)
            && has(&self.api_versions, version)
            && (has(&self.resources, resource) || self.resources.iter().any(|r| r == "*/*"))
    }
}

impl Initializer {
    fn wants(&self, candidate: &Candidate<'_>, object: &Value) -> bool {
        let first = self.name.split('.').next().unwrap_or_default();
        let asks = |name: &str| {
            meta::annotation(object, &format!("{ANNOTATION}{name}")).is_some_and(|v| v == "true")
        };
        // Whatever name an object is written under, it is the same object.
        self.rules
            .iter()
            .any(|rule| candidate.is_called(|group, version, name| rule.matches(group, version, name)))
            && (!self.opt_in || asks(&self.name) || asks(first))
    }

    /// Whether a pod says that it runs this initializer: `app: envoy-initializer` runs
    /// `envoy.initializer.kubernetes.io`.
    fn is_run_by(&self, pod: &Value) -> bool {
        let mut parts = self.name.split('.');
        let (Some(first), Some(second)) = (parts.next(), parts.next()) else { return false };
        let known_as = format!("{first}-{second}");
        let labels = meta::labels(pod);
        APP_LABELS.iter().any(|key| labels.and_then(|l| l.get(*key)).is_some_and(|app| *app == *known_as))
    }
}

fn initializers(object: &Value) -> Option<&Value> {
    object.get("metadata")?.get("initializers").filter(|i| i.is_object())
}

/// No names and no result: nothing is asked for, and nothing left to do.
fn is_done(initializers: &Value) -> bool {
    pending(initializers).is_empty() && initializers.get("result").is_none_or(Value::is_null)
}

fn pending(initializers: &Value) -> &[Value] {
    initializers.get("pending").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn clear(object: &mut Value) {
    meta::metadata_mut(object).remove("initializers");
}

impl Initializers {
    pub fn new(source: Arc<dyn Source>, authorizer: Arc<Chain>, kinds: watch::Receiver<Arc<Kinds>>) -> Self {
        Self { source, authorizer, kinds, compiled: Derived::of(GROUP, [RESOURCE]) }
    }

    /// The initializers as they are now, in their order.
    fn compiled(&self) -> Arc<Made<Vec<Initializer>, 1>> {
        self.compiled.get(&*self.source, |_| {
            // By the names of their configurations, which is the order of the source.
            let configurations = self.source.list(GROUP, RESOURCE, None);
            let read = configurations.iter().filter_map(|entry| entry.read::<Configuration>());
            let initializers = read.flat_map(|configuration| {
                let opt_in = configuration.metadata.annotations.get(OPT_IN).is_some_and(|v| v == "true");
                let entries = configuration.initializers.into_iter();
                entries.map(move |Entry { name, rules }| Initializer { name, opt_in, rules })
            });
            initializers.collect()
        })
    }

    /// Whether the server has initializers at all.
    fn served(&self) -> bool {
        self.kinds.borrow().group_resource(GROUP, RESOURCE).is_some()
    }

    async fn may_initialize(
        &self,
        user: &Identity,
        attributes: &Attributes<'_>,
        name: &str,
    ) -> Result<(), Status> {
        let &Attributes { group, version, resource, namespace, .. } = attributes;
        let target = Target::Resource {
            group,
            version,
            resource,
            subresource: "",
            namespace,
            name,
            field_selector: "",
            label_selector: "",
        };
        authz::require(&self.authorizer, &authz::Attributes { user, verb: "initialize", target }).await
    }

    /// Refuses who may not `initialize` the resource.
    async fn guard(&self, attributes: &Attributes<'_>, object: &Value, what: &str) -> Result<(), Status> {
        let name = if attributes.name.is_empty() { meta::name(object) } else { attributes.name };
        let may = self.may_initialize(attributes.user, attributes, name).await;
        may.map_err(|_| attributes.forbidden(object, &format!("{what} denied")))
    }

    /// What a new object gets, or what its creator asks for.
    async fn created(&self, attributes: &Attributes<'_>, object: &mut Value) -> Result<(), Status> {
        if let Some(given) = initializers(object) {
            if !self.served() {
                clear(object);
                return Ok(());
            }
            self.guard(attributes, object, "create with initializers").await?;
            if is_done(given) {
                // The creator sees to it that nobody has to.
                clear(object);
                return Ok(());
            }
            return refuse(attributes, object, valid(given));
        }
        let compiled = self.compiled();
        if compiled.value.is_empty() {
            return Ok(());
        }
        let kinds = self.kinds.borrow().clone();
        let candidate = Candidate::new(attributes, &kinds, &*self.source);
        let names: Vec<Value> = compiled
            .value
            .iter()
            .filter(|initializer| initializer.wants(&candidate, object))
            .map(|initializer| json!({"name": initializer.name}))
            .collect();
        if !names.is_empty() && !self.is_exempt(attributes, object, &compiled.value).await {
            meta::metadata_mut(object).insert("initializers".to_owned(), json!({"pending": names}));
        }
        Ok(())
    }

    /// What cannot wait, whatever the rules say: kinds that are never kept, the configurations themselves, pods that
    /// run already, and those that run an initializer.
    async fn is_exempt(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        initializers: &[Initializer],
    ) -> bool {
        let &Attributes { group, resource, .. } = attributes;
        let kind = self.kinds.borrow().group_resource(group, resource).cloned();
        let kept = kind.is_some_and(|kind| kind.storage.is_some());
        if !kept || (group == GROUP && resource == RESOURCE) {
            return true;
        }
        let is_pod = group.is_empty() && resource == "pods";
        is_pod
            && (meta::annotation(object, MIRROR).is_some()
                || self.runs_initializer(attributes, object, initializers).await)
    }

    /// Whether a pod runs an initializer: it says so, and its account, or who makes it, may initialize pods. It would
    /// wait for itself, and two initializers for each other.
    async fn runs_initializer(
        &self,
        attributes: &Attributes<'_>,
        pod: &Value,
        initializers: &[Initializer],
    ) -> bool {
        if !initializers.iter().any(|initializer| initializer.is_run_by(pod)) {
            return false;
        }
        let account = match meta::text(pod, &["spec", "serviceAccountName"]) {
            "" => "default",
            name => name,
        };
        let account = Identity::service_account(attributes.namespace, account, "", BTreeMap::new());
        for user in [attributes.user, &account] {
            if self.may_initialize(user, attributes, meta::name(pod)).await.is_ok() {
                return true;
            }
        }
        false
    }

    /// Which changes of the list are let through.
    async fn updated(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if initializers(object).is_none() && initializers(old).is_none() {
            return Ok(());
        }
        if !attributes.subresource.is_empty() {
            // The list is a part of the object alone.
            match initializers(old).cloned() {
                Some(before) => drop(meta::metadata_mut(object).insert("initializers".to_owned(), before)),
                None => clear(object),
            }
            return Ok(());
        }
        if initializers(object).is_some_and(is_done) {
            clear(object);
        }
        if initializers(object).is_none() && initializers(old).is_none() {
            return Ok(());
        }
        refuse(attributes, object, transition(initializers(object), initializers(old)))?;
        self.guard(attributes, object, "update to uninitialized resource").await
    }
}

/// 422 if there are errors.
fn refuse(attributes: &Attributes<'_>, object: &Value, errors: field::Errors) -> Result<(), Status> {
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(attributes.group, attributes.kind, meta::name(object), &errors))
}

fn path() -> Path {
    Path::new("metadata").child("initializers")
}

/// The rules for a list that is there.
fn valid(initializers: &Value) -> field::Errors {
    let mut errors = Vec::new();
    for (i, initializer) in pending(initializers).iter().enumerate() {
        let name = initializer["name"].as_str().unwrap_or_default();
        let path = path().child("pending").index(i).child("name");
        errors.extend(names::initializer(name).into_iter().map(|wrong| Error::invalid(&path, name, wrong)));
    }
    errors.extend(failure(initializers));
    errors
}

/// A result can only be a failure: an object that is let through has none.
fn failure(initializers: &Value) -> Option<Error> {
    let result = initializers.get("result").filter(|result| result.is_object())?;
    let status = result.get("status").cloned().unwrap_or_default();
    (status != "Failure")
        .then(|| Error::invalid(&path().child("result").child("status"), status, "must be 'Failure'"))
}

/// The rules for a changed list.
fn transition(new: Option<&Value>, old: Option<&Value>) -> field::Errors {
    match (new, old) {
        (Some(_), None) => {
            vec![Error::invalid(&path(), Value::Null, "field is immutable once initialization has completed")]
        }
        (Some(new), Some(old)) => {
            let (before, after) = (old.get("result"), new.get("result"));
            if before.is_some_and(Value::is_object) {
                let frozen = || {
                    Error::invalid(
                        &path().child("result"),
                        after.cloned().unwrap_or_default(),
                        "field is immutable",
                    )
                };
                return (before != after).then(frozen).into_iter().collect();
            }
            let mut errors = Vec::new();
            if !pending(old).ends_with(pending(new)) {
                let list = new.get("pending").cloned().unwrap_or_default();
                errors.push(Error::invalid(
                    &path().child("pending"),
                    list,
                    "initializers are only removed, and in their order",
                ));
            }
            errors.extend(failure(new));
            errors
        }
        (None, Some(old)) if old.get("result").is_some_and(Value::is_object) => {
            vec![Error::invalid(&path().child("result"), Value::Null, "field is immutable")]
        }
        (None, _) => Vec::new(),
    }
}

#[async_trait]
impl Plugin for Initializers {
    fn name(&self) -> &'static str {
        "Initializers"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        match attributes.operation {
            Operation::Create => attributes.subresource.is_empty(),
            Operation::Update => true,
            Operation::Delete | Operation::Connect => false,
        }
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        match attributes.operation {
            Operation::Create => self.created(attributes, object).await,
            _ => self.updated(attributes, object, old).await,
        }
    }
}

#[cfg(test)]
#[path = "initializers_tests.rs"]
mod tests;
