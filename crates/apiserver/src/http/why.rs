//! `why`: what keeps an object from its wanted state.
//!
//! `GET <object>/why` answers an `Explanation`, or a table, to who may `get` the object; of its events and of what
//! it owns only what the user may `list` is told. `POST <object>/why` takes a `Report` from who may `update` the
//! object's status. Nothing of this is in upstream's API.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::meta;
use tiphys_api::status::Status;

use super::body::{self, Body, RequestBody};
use super::negotiate::{self, Offer, Shape};
use super::request_info::{ResourceRequest, Verb};
use super::{Asked, Handler, encode, method_not_allowed, respond};
use crate::authz;
use crate::cache::At;
use crate::registry::{Call, cache_status, store_status};
use crate::source::{Entry, Source};
use crate::why::report::{self, Report};
use crate::why::{Cause, Explanation, Subject};

/// The name of the subresource.
pub(super) const WHY: &str = "why";

/// What may be owned by an object whose state hangs on it: group, resource and kind.
const OWNED: [(&str, &str, &str); 4] = [
    ("apps", "replicasets", "ReplicaSet"),
    ("batch", "jobs", "Job"),
    ("", "pods", "Pod"),
    ("", "persistentvolumeclaims", "PersistentVolumeClaim"),
];
/// How deep ownership is followed (CronJob, Job, Pod), and how many owned objects are looked at.
const DEPTH: usize = 3;
const OWNED_MAX: usize = 500;
/// How many warnings are told, the latest.
const EVENTS: usize = 10;

impl Handler {
    pub(super) async fn why(
        &self,
        r: &ResourceRequest,
        call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let collection = self.registry.collection(&call.kind)?;
        let at = At::get("").map_err(cache_status)?;
        let object = collection.read(at, &call.namespace, &call.name).await.map_err(cache_status)?;
        let object = object.ok_or_else(|| call.not_found())?;
        let object: Value = serde_json::from_slice(object.json()).map_err(Status::internal)?;
        let key = collection.spec().key(&call.namespace, &call.name);
        let store = &**self.registry.store();
        match r.verb {
            Verb::Get => {
                let reports = report::kept(store, &key).await.map_err(store_status)?;
                self.explain(&call, &asked, &object, reports).await
            }
            Verb::Create => {
                let report: Report = serde_json::from_slice(&body::read(body).await?)
                    .map_err(|e| Status::bad_request(format!("the report: {e}")))?;
                report.check(meta::uid(&object)).map_err(Status::bad_request)?;
                self.registry.admit_report(&call, &object).await?;
                report::keep(store, &key, call.user.name(), &report).await.map_err(store_status)?;
                let done = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"});
                Ok(respond::json(StatusCode::CREATED, &done))
            }
            _ => Err(method_not_allowed()),
        }
    }

    async fn explain(
        &self,
        call: &Call,
        asked: &Asked,
        object: &Value,
        reports: Vec<Report>,
    ) -> Result<Response<Body>, Status> {
        let offer = Offer { stream: false, shapes: true, protobuf: false };
        let accepted = negotiate::accept(&asked.head.headers, asked.query.optional_flag("pretty"), offer)?;
        let subject = Subject::new(&call.kind.kind, object);
        let mut explanation = Explanation::default();
        for cause in reports.into_iter().flat_map(|report| report.causes(object)) {
            explanation.add(&subject, cause);
        }
        explanation.add_object(&call.kind.kind, object);
        let mut told = vec![(subject.clone(), meta::uid(object).to_owned())];
        self.add_claims(call, object, &mut explanation).await;
        self.add_group(call, object, &mut explanation).await;
        self.add_owned(call, object, &mut explanation, &mut told).await;
        self.add_events(call, &told, &mut explanation).await;
        if call.kind.group.is_empty() && &*call.kind.resource == "namespaces" && meta::is_terminating(object)
        {
            self.add_contents(call, &mut explanation).await;
        }
        let answer = match accepted.shape {
            Shape::Table { .. } => explanation.to_table(&subject),
            _ => explanation.to_value(&subject),
        };
        let bytes = encode::value(&answer, accepted.encoding, accepted.pretty)?;
        Ok(respond::whole(StatusCode::OK, accepted.encoding.media_type(), bytes, &asked.head.headers))
    }

    /// What of a resource the user may see of a namespace.
    async fn visible(&self, call: &Call, group: &str, resource: &str, namespace: &str) -> Vec<Entry> {
        let target = authz::Target::Resource {
            group,
            version: "v1",
            resource,
            subresource: "",
            namespace,
            name: "",
            field_selector: "",
            label_selector: "",
        };
        let attributes = authz::Attributes { user: &call.user, verb: Verb::List.as_str(), target };
        match authz::require(self.security.authorizer(), &attributes).await {
            Ok(()) => self.registry.cache().list(group, resource, Some(namespace)),
            Err(_) => Vec::new(),
        }
    }

    /// The volumes that a pod waits for.
    async fn add_claims(&self, call: &Call, pod: &Value, explanation: &mut Explanation) {
        let volumes = meta::items(pod, &["spec", "volumes"]);
        let names = volumes.iter().map(|v| meta::text(v, &["persistentVolumeClaim", "claimName"]));
        let names: Vec<_> = names.filter(|name| !name.is_empty()).collect();
        if names.is_empty() || &*call.kind.kind != "Pod" {
            return;
        }
        for entry in self.visible(call, "", "persistentvolumeclaims", &call.namespace).await {
            let claim = if names.contains(&&*entry.name) { entry.tree() } else { continue };
            let phase = meta::text(&claim, &["status", "phase"]);
            if phase != "Bound" {
                let message = format!("the claim is {phase}, not Bound");
                let cause = Cause::new("ClaimNotBound", "persistentvolume-controller", message);
                explanation.add(&Subject::new("PersistentVolumeClaim", &claim), cause);
            }
        }
    }

    /// The group that a pod waits for, which is not considered before there are as many of it as it wants (KEP-4671).
    async fn add_group(&self, call: &Call, pod: &Value, explanation: &mut Explanation) {
        let of = |pod: &Value| meta::text(pod, &["spec", "schedulingGroup", "podGroupName"]).to_owned();
        let name = of(pod);
        if &*call.kind.kind != "Pod" || name.is_empty() || is_placed(pod) {
            return;
        }
        let subject =
            Subject { kind: "PodGroup".to_owned(), namespace: call.namespace.clone(), name: name.clone() };
        let groups = self.visible(call, "scheduling.k8s.io", "podgroups", &call.namespace).await;
        let Some(group) = groups.iter().find(|group| *group.name == *name).map(Entry::tree) else {
            let message = format!("waiting for pod's pod group {name:?} to appear in scheduling queue");
            return explanation.add(&subject, Cause::new("GangScheduling", "scheduler", message));
        };
        let wanted =
            meta::at(&group, &["spec", "schedulingPolicy", "gang", "minCount"]).and_then(Value::as_u64);
        let pods = self.visible(call, "", "pods", &call.namespace).await;
        let pods = pods.iter().filter(|pod| contains(pod, &name)).map(Entry::tree);
        let is_member = |pod: &Value| {
            let is_over = matches!(meta::text(pod, &["status", "phase"]), "Succeeded" | "Failed");
            of(pod) == name && !is_over && (!meta::is_terminating(pod) || is_placed(pod))
        };
        let there = pods.filter(is_member).count();
        match wanted {
            Some(wanted) if usize::try_from(wanted).is_ok_and(|wanted| there < wanted) => {
                let message = format!(
                    "waiting for minCount pods from a gang to appear in scheduling queue: {there} of {wanted} are there"
                );
                explanation.add(&subject, Cause::new("GangScheduling", "scheduler", message));
            }
            _ => explanation.add_object("PodGroup", &group),
        }
    }

    /// What the object owns, and what that owns.
    async fn add_owned(
        &self,
        call: &Call,
        object: &Value,
        explanation: &mut Explanation,
        told: &mut Vec<(Subject, String)>,
    ) {
        if call.namespace.is_empty() {
            return;
        }
        let mut lists = Vec::with_capacity(OWNED.len());
        for (group, resource, kind) in OWNED {
            lists.push((kind, self.visible(call, group, resource, &call.namespace).await));
        }
        let mut owners = vec![meta::uid(object).to_owned()];
        for _ in 0..DEPTH {
            let mut found = Vec::new();
            for (kind, entries) in &lists {
                let mentions = |entry: &&Entry| owners.iter().any(|uid| contains(entry, uid));
                for entry in entries.iter().filter(mentions) {
                    let owned = entry.tree();
                    let mut references = meta::items(&owned, &["metadata", "ownerReferences"]).iter();
                    if !references.any(|r| owners.iter().any(|uid| meta::text(r, &["uid"]) == uid)) {
                        continue;
                    }
                    if told.len() == OWNED_MAX {
                        return;
                    }
                    explanation.add_object(kind, &owned);
                    found.push(meta::uid(&owned).to_owned());
                    told.push((Subject::new(kind, &owned), meta::uid(&owned).to_owned()));
                }
            }
            owners = found;
        }
    }

    /// The latest warnings about any of the objects.
    async fn add_events(&self, call: &Call, told: &[(Subject, String)], explanation: &mut Explanation) {
        let namespace = if call.namespace.is_empty() { "default" } else { &call.namespace };
        let mut warnings = Vec::new();
        for entry in self.visible(call, "", "events", namespace).await {
            if !contains(&entry, "\"Warning\"") || !told.iter().any(|(_, uid)| contains(&entry, uid)) {
                continue;
            }
            let event = entry.tree();
            let uid = meta::text(&event, &["involvedObject", "uid"]);
            let about = told.iter().find(|(_, of)| of == uid);
            if let (Some((subject, _)), "Warning") = (about, meta::text(&event, &["type"])) {
                warnings.push((entry.revision, subject, event));
            }
        }
        warnings.sort_by_key(|(revision, ..)| std::cmp::Reverse(*revision));
        for (_, subject, event) in warnings.into_iter().take(EVENTS) {
            explanation.add_event(subject, &event);
        }
    }

    /// What is left in a namespace that is to go, and whose finalizers hold it.
    async fn add_contents(&self, call: &Call, explanation: &mut Explanation) {
        let kinds = self.registry.kinds();
        let mut seen = std::collections::BTreeSet::new();
        for kind in kinds.iter().filter(|kind| kind.is_namespaced()) {
            let Some(storage) = &kind.storage else { continue };
            if !seen.insert((storage.group.clone(), storage.resource.clone())) {
                continue;
            }
            for entry in self.visible(call, &storage.group, &storage.resource, &call.name).await {
                if contains(&entry, "\"finalizers\"") {
                    explanation.add_object(&kind.kind, &entry.tree());
                }
            }
        }
    }
}

fn is_placed(pod: &Value) -> bool {
    !meta::text(pod, &["spec", "nodeName"]).is_empty()
}

/// A quick look whether it is worth to read an object.
fn contains(entry: &Entry, text: &str) -> bool {
    !text.is_empty() && std::str::from_utf8(&entry.json).is_ok_and(|json| json.contains(text))
}

#[cfg(test)]
#[path = "why_tests.rs"]
mod tests;
