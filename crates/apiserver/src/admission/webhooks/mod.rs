//! Webhooks that have a say in what is written: `MutatingWebhookConfiguration` and
//! `ValidatingWebhookConfiguration` of `admissionregistration.k8s.io`.
//!
//! Configurations are compiled when they change. A request that no rule is about asks nobody and allocates
//! nothing. Mutating webhooks are called one after the other, by their configurations' names and their places in
//! them; validating ones at the same time.

mod counts;
pub(crate) mod hook;
mod review;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tiphys_api::decode::{self, FieldValidation, Target};
use tiphys_api::field::{self, Path};
use tiphys_api::kind::Kinds;
use tiphys_api::meta;
use tiphys_api::patch::{apply::Set, json as json_patch};
use tiphys_api::status::{Details, Reason, Status, StatusCause};
use tokio::sync::watch;
use tokio::time::Instant;

pub use self::counts::Counts;
use self::hook::{Hook, Reviews};
use self::review::{Answer, Rejected};
use super::expressions::{Asker, Input};
use super::matching::{Candidate, GROUP, Matched, configures, is_exempt};
use super::{Attributes, Plugin, request};
use crate::authz::Chain;
use crate::derived::{Derived, Made};
use crate::outgoing::Outgoing;
use crate::source::Source;

/// All webhooks of one phase of one request are done by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which of the two kinds of webhooks a plug-in calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Mutating,
    Validating,
}

impl Phase {
    fn resource(self) -> &'static str {
        match self {
            Self::Mutating => "mutatingwebhookconfigurations",
            Self::Validating => "validatingwebhookconfigurations",
        }
    }

    /// What the plug-in is called, and what audit annotations start with.
    fn name(self) -> &'static str {
        match self {
            Self::Mutating => "MutatingAdmissionWebhook",
            Self::Validating => "ValidatingAdmissionWebhook",
        }
    }

    fn annotations(self) -> &'static str {
        match self {
            Self::Mutating => "mutation.webhook.admission.k8s.io",
            Self::Validating => "validating.webhook.admission.k8s.io",
        }
    }
}

/// Calls the webhooks of one phase.
pub struct Webhooks {
    phase: Phase,
    source: Arc<dyn Source>,
    outgoing: Arc<Outgoing>,
    authorizer: Arc<Chain>,
    kinds: watch::Receiver<Arc<Kinds>>,
    counts: Arc<Counts>,
    compiled: Derived<Vec<Hook>, 1>,
}

/// Why a webhook lets nothing through.
enum Failed {
    /// It could not be called, or its answer is none: the failure policy decides.
    Call(String),
    /// It said no, or it must not be asked.
    Refused(Status),
}

/// What is remembered between the rounds of mutating webhooks.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// Those called already that want to see later changes.
    called: Vec<String>,
    /// Those that have to see the object again.
    again: Vec<String>,
    /// What the object was after the last webhook.
    last: Value,
}

impl Memory {
    fn changed(&mut self) {
        self.again.append(&mut self.called);
    }
}

/// Whether the request fulfils the webhook's conditions.
fn hold(
    asker: &Asker<'_>,
    hook: &Hook,
    attributes: &Attributes<'_>,
    matched: &Matched,
    objects: [&Value; 2],
) -> Result<bool, String> {
    let [object, old] = objects.map(|object| matched.show(attributes.subresource, object));
    let request = request::describe(attributes, matched);
    let input = Input {
        object: &object,
        old: &old,
        request: &request,
        namespace: &Value::Null,
        params: None,
        asker: Some(asker),
        attributes,
    };
    hook.conditions.hold(&input.bindings())
}

impl Webhooks {
    pub fn new(
        phase: Phase,
        source: Arc<dyn Source>,
        outgoing: Arc<Outgoing>,
        authorizer: Arc<Chain>,
        kinds: watch::Receiver<Arc<Kinds>>,
        counts: Arc<Counts>,
    ) -> Self {
        let compiled = Derived::of(GROUP, [phase.resource()]);
        Self { phase, source, outgoing, authorizer, kinds, counts, compiled }
    }

    /// The webhooks as they are now, in the order of their calls.
    fn compiled(&self) -> Arc<Made<Vec<Hook>, 1>> {
        // What served before is kept until all are read, so that endpoints that stay keep what is known of them.
        self.compiled.get(&*self.source, |_| {
            let configurations = self.source.list(GROUP, self.phase.resource(), None);
            configurations.iter().flat_map(|entry| Hook::read_all(&entry.tree(), &self.outgoing)).collect()
        })
    }

    fn kinds(&self) -> Arc<Kinds> {
        Arc::clone(&self.kinds.borrow())
    }

    /// How the webhook is to be called for the object, if it is.
    async fn matched(
        &self,
        hook: &Hook,
        candidate: &Candidate<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<Option<Matched>, Status> {
        let matcher = hook.matcher.as_ref().map_err(Status::internal)?;
        let matched = matcher.matches(candidate, object, old)?;
        match matched {
            Some(matched) if !hook.conditions.is_empty() => {
                let a = candidate.attributes;
                let asker = Asker::new(&self.authorizer, a.user);
                match asker.settled(|| hold(&asker, hook, a, &matched, [object, old])).await {
                    Ok(holds) => Ok(holds.then_some(matched)),
                    Err(_) if hook.ignores_failures => Ok(None),
                    Err(why) => Err(Status::forbidden(a.group, a.resource, a.name, &why)),
                }
            }
            matched => Ok(matched),
        }
    }

    /// Whether the request writes webhooks of this phase, whose conditions are to be checked.
    fn is_own(&self, attributes: &Attributes<'_>) -> bool {
        configures(attributes, self.phase.resource())
    }

    /// Asks one webhook, and counts what comes of it.
    async fn call(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        matched: &Matched,
        objects: [&Value; 2],
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        let begun = Instant::now();
        let outcome = self.asked(hook, attributes, matched, objects, deadline).await;
        let call = (hook.name.as_str(), self.phase, attributes.operation);
        self.counts.ended(call, &outcome, hook.ignores_failures, begun.elapsed());
        outcome
    }

    async fn asked(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        matched: &Matched,
        objects: [&Value; 2],
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        if attributes.dry_run && !hook.dry_runs {
            let message = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Failed::Refused(Status::bad_request(message)));
        }
        let reviews = hook.reviews.ok_or_else(|| {
            let known = "webhook does not accept known AdmissionReview versions (v1, v1beta1)";
            Failed::Call(format!("could not create admission objects: {known}"))
        })?;
        let endpoint = hook
            .endpoint
            .as_ref()
            .map_err(|why| Failed::Call(format!("could not get REST client: {why}")))?;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(Failed::Refused(out_of_time()));
        }
        let timeout = hook.timeout.min(left);
        let seconds = timeout.as_secs() + u64::from(timeout.subsec_nanos() > 0);
        let uid = uuid::Uuid::new_v4().to_string();
        let body = review::request(reviews, &uid, attributes, matched, objects);
        let answer = endpoint.ask(&format!("timeout={seconds}s"), body, timeout).await;
        let answer = answer.map_err(|e| Failed::Call(format!("failed to call webhook: {e}")))?;
        let mutating = self.phase == Phase::Mutating;
        let answer = review::answer(reviews, &uid, mutating, answer)
            .map_err(|why| Failed::Call(format!("received invalid webhook response: {why}")))?;
        for (key, value) in &answer.annotations {
            attributes.annotations.add(format!("{}/{key}", hook.name), || value.clone());
        }
        answer.warnings.iter().for_each(|text| attributes.warnings.add(text.as_str()));
        match &answer.rejected {
            Some(rejected) => Err(Failed::Refused(denied(&hook.name, rejected))),
            None => Ok(answer),
        }
    }

    /// What a failure means for the request: nothing, where the webhook's policy is to ignore it.
    fn judge(
        &self,
        hook: &Hook,
        index: usize,
        attributes: &Attributes<'_>,
        why: Failed,
    ) -> Result<(), Status> {
        match why {
            Failed::Refused(status) => Err(status),
            Failed::Call(why) if hook.ignores_failures => {
                tracing::warn!(webhook = hook.name, why, "failed calling a webhook; going on without it");
                let round = u8::from(attributes.round.is_second());
                let key = format!("failed-open.{}/round_{round}_index_{index}", self.phase.annotations());
                attributes.annotations.add(key, || hook.name.clone());
                Ok(())
            }
            Failed::Call(why) => {
                tracing::warn!(webhook = hook.name, why, "failed calling a webhook; refusing the request");
                Err(internal(&format!("failed calling webhook {:?}: {why}", hook.name)))
            }
        }
    }

    /// Calls a mutating webhook; tells whether it has changed the object.
    async fn mutate(
        &self,
        hook: &Hook,
        attributes: &Attributes<'_>,
        matched: &Matched,
        object: &mut Value,
        old: &Value,
        deadline: Instant,
    ) -> Result<bool, Failed> {
        let shown = matched.show(attributes.subresource, object);
        let shown_old = matched.show(attributes.subresource, old);
        let answer = self.call(hook, attributes, matched, [&shown, &shown_old], deadline).await?;
        let Some(patch) = answer.patch.filter(|p| p.as_array().is_none_or(|o| !o.is_empty())) else {
            return Ok(false);
        };
        if object.is_null() {
            let message = format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                hook.name
            );
            return Err(Failed::Refused(internal(&message)));
        }
        let refused = |why: String| Failed::Refused(internal(&why));
        let patched = json_patch::patch(&shown, &patch).map_err(|e| refused(e.to_string()))?;
        let (group, version, kind) = matched.kind(attributes.subresource);
        let own = (group, version, kind) == (&*matched.row.group, &*matched.version, &*matched.row.kind);
        let target = if own {
            Target::of(&matched.row, &matched.version)
        } else {
            Target::builtin(group, version, kind)
        };
        let mut patched = match target {
            Some(target) => {
                let decoded = decode::decode_tree(&target, patched, FieldValidation::Ignore);
                decoded.map_err(|status| refused(status.message))?.object
            }
            None => patched,
        };
        let changed = patched != shown;
        if changed {
            if own {
                (matched.row.hooks.default)(&matched.version, &mut patched);
            }
            *object = matched.take(attributes.subresource, patched, object);
        }
        Ok(changed)
    }

    async fn admit_all(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        let (compiled, kinds) = (self.compiled(), self.kinds());
        let candidate = Candidate::new(attributes, &kinds, &*self.source);
        let deadline = Instant::now() + PATIENCE;
        let second = attributes.round.is_second();
        let noted = attributes.round.noted(self.name());
        // What cannot be read was not written by this plug-in.
        let mut memory: Memory = noted.and_then(|n| serde_json::from_value(n).ok()).unwrap_or_default();
        if second && memory.last != *object {
            memory.changed();
        }
        for (index, hook) in compiled.value.iter().enumerate() {
            let Some(matched) = self.matched(hook, &candidate, object, old).await? else { continue };
            if second && !memory.again.contains(&hook.id) {
                continue;
            }
            let outcome = self.mutate(hook, attributes, &matched, object, old, deadline).await;
            let changed = *outcome.as_ref().unwrap_or(&false);
            let key = format!("{}/round_{}_index_{index}", self.phase.annotations(), u8::from(second));
            attributes.annotations.add(key, || {
                json!({"configuration": hook.configuration, "webhook": hook.name, "mutated": changed})
                    .to_string()
            });
            if changed {
                memory.changed();
                attributes.round.ask_again();
            }
            if hook.reinvoked && !memory.called.contains(&hook.id) {
                memory.called.push(hook.id.clone());
            }
            if let Err(why) = outcome {
                self.judge(hook, index, attributes, why)?;
            }
        }
        if !second && (!memory.called.is_empty() || !memory.again.is_empty()) {
            memory.last = object.clone();
            if let Ok(note) = serde_json::to_value(&memory) {
                attributes.round.note(self.name(), note);
            }
        }
        Ok(())
    }

    async fn validate_all(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        old: &Value,
    ) -> Result<(), Status> {
        let (compiled, kinds) = (self.compiled(), self.kinds());
        let candidate = Candidate::new(attributes, &kinds, &*self.source);
        let deadline = Instant::now() + PATIENCE;
        let mut calls = Vec::new();
        for hook in &compiled.value {
            if let Some(matched) = self.matched(hook, &candidate, object, old).await? {
                calls.push((hook, matched));
            }
        }
        let calls = calls.iter().enumerate().map(async |(index, (hook, matched))| {
            let shown = matched.show(attributes.subresource, object);
            let shown_old = matched.show(attributes.subresource, old);
            match self.call(hook, attributes, matched, [&shown, &shown_old], deadline).await {
                Ok(_) => Ok(()),
                Err(why) => self.judge(hook, index, attributes, why),
            }
        });
        join_all(calls).await.into_iter().collect()
    }
}

/// Refuses webhooks whose conditions mean nothing. What stays as it is is not judged again.
fn check(attributes: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
    let hooks = meta::items(object, &["webhooks"]);
    if hooks == meta::items(old, &["webhooks"]) {
        return Ok(());
    }
    let mut errors = Vec::new();
    for (index, webhook) in hooks.iter().enumerate() {
        for (at, condition) in hook::conditions(webhook).expressions().enumerate() {
            if let Err(why) = &condition.program {
                let place = Path::new(&format!("webhooks[{index}].matchConditions[{at}].expression"));
                errors.push(field::Error::invalid(&place, condition.source.as_str(), why.as_str()));
            }
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, attributes.kind, meta::name(object), &errors))
}

fn out_of_time() -> Status {
    Status::new(Reason::Timeout, "Timeout: request did not complete within requested timeout")
}

/// The server's failure, with its cause, as upstream tells of it.
fn internal(why: &str) -> Status {
    let cause = StatusCause { reason: String::new(), message: why.to_owned(), field: String::new() };
    Status::internal(why).with_details(Details { causes: vec![cause], ..Details::default() })
}

/// The refusal of a webhook: its own status, with a message that says whose it is.
fn denied(webhook: &str, rejected: &Rejected) -> Status {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let message = match (&*rejected.message, &*rejected.reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = rejected.code.max(400);
    Status::foreign(code, rejected.reason.clone(), message, rejected.details.clone())
}

/// `metadata.managedFields` as plug-ins have left it: what cannot be read any more becomes what it was.
pub(super) fn keep_managed_fields(before: Option<Value>, object: &mut Value, attributes: &Attributes<'_>) {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    let now = metadata.get("managedFields");
    if now == before.as_ref() {
        return;
    }
    let Some(why) = now.and_then(invalid_managed_fields) else { return };
    match before {
        Some(before) => metadata.insert("managedFields".to_owned(), before),
        None => metadata.remove("managedFields"),
    };
    attributes.warnings.add(format!(
        ".metadata.managedFields was in an invalid state after admission; this could be caused by an outdated \
         mutating admission controller; please fix your requests: {why}"
    ));
}

fn invalid_managed_fields(entries: &Value) -> Option<String> {
    let Some(entries) = entries.as_array() else { return Some("it is not a list".to_owned()) };
    entries.iter().find_map(|entry| {
        let operation = entry["operation"].as_str().unwrap_or_default();
        if !matches!(operation, "Apply" | "Update") {
            return Some(format!("invalid operation: {operation:?}"));
        }
        if entry["fieldsType"] != "FieldsV1" {
            return Some(format!("invalid fieldsType: {}", entry["fieldsType"]));
        }
        Set::decode(entry["fieldsV1"].clone()).err().map(|e| e.to_string())
    })
}

#[async_trait]
impl Plugin for Webhooks {
    fn name(&self) -> &'static str {
        self.phase.name()
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        self.is_own(attributes) || !self.compiled().value.is_empty() && !is_exempt(attributes)
    }

    async fn admit(
        &self,
        attributes: &Attributes<'_>,
        object: &mut Value,
        old: &Value,
    ) -> Result<(), Status> {
        if self.phase != Phase::Mutating || self.is_own(attributes) {
            return Ok(());
        }
        let managed = object["metadata"].get("managedFields").cloned();
        self.admit_all(attributes, object, old).await?;
        keep_managed_fields(managed, object, attributes);
        Ok(())
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if self.is_own(attributes) {
            return check(attributes, object, old);
        }
        match self.phase {
            Phase::Mutating => Ok(()),
            Phase::Validating => self.validate_all(attributes, object, old).await,
        }
    }
}

#[cfg(test)]
#[path = "webhooks_tests.rs"]
mod tests;
