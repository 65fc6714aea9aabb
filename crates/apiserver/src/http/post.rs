//! Things that are only asked: bindings, tokens, reviews.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::codec::protobuf;
use tiphys_api::decode::Target;
use tiphys_api::kind::{Kind, Subresource, Update, api_version};
use tiphys_api::status::Status;
use tiphys_api::{field, meta};

use super::body::{self, Body, RequestBody};
use super::negotiate::{self, Offer};
use super::resource::{encoding, unbuilt};
use super::{Asked, Handler, dialect, encode, respond};
use crate::registry::objectmeta::{named, place, time};
use crate::registry::{Call, Updating};

impl Handler {
    /// Answers a subresource that takes a request object.
    pub(super) async fn post(
        &self,
        subresource: &Subresource,
        mut call: Call,
        asked: Asked,
        body: RequestBody,
    ) -> Result<Response<Body>, Status> {
        let speaks = subresource.speaks.as_ref().ok_or_else(|| unbuilt(&subresource.name))?;
        let target = Target::builtin(&speaks.group, &speaks.version, &speaks.kind)
            .ok_or_else(|| unbuilt(&speaks.kind))?;
        let known = protobuf::knows(&api_version(&speaks.group, &speaks.version), &speaks.kind);
        let offer = Offer { stream: false, shapes: false, protobuf: known };
        let accepted = negotiate::accept(&asked.head.headers, asked.query.optional_flag("pretty"), offer)?;
        let bytes = body::read(body).await?;
        let read = |target: &Target<'_>| {
            dialect::read(&call, target, &bytes, encoding(&asked)?, asked.validation()?)
        };
        let mut request = read(&target).or_else(|why| {
            let older = older(&target).ok_or_else(|| why.clone())?;
            let request = read(&older).map_err(|_| why)?;
            call.warnings.add(OLD_EVICTION);
            Ok::<_, Status>(request)
        })?;
        named(&mut request, &call.name)?;
        judge(&speaks.group, &speaks.kind, &(subresource.posted.validate)(&request))?;
        self.registry.admit_asked(&call, &mut request).await?;
        let answer = match (&*call.kind.resource, &*subresource.name) {
            ("pods", "binding") => self.bind(&call, &request).await?,
            ("pods", "eviction") => self.evict(&mut call, &request, &asked).await?,
            ("serviceaccounts", "token") => self.security.token(&call.namespace, &call.name, request)?,
            _ => return Err(unbuilt(&format!("{}/{}", call.kind.qualified_resource(), subresource.name))),
        };
        let shown = encode::value(&answer, accepted.encoding, accepted.pretty)?;
        Ok(respond::response(StatusCode::CREATED, accepted.encoding.media_type(), Body::Full(shown)))
    }

    /// Answers an object of a kind that is never kept.
    pub(super) async fn review(&self, call: &Call, mut object: Value) -> Result<Value, Status> {
        if call.kind.group.is_empty() && call.kind.resource == "bindings" {
            let kinds = self.registry.kinds();
            let kind = kinds.resource("", "v1", "pods").ok_or_else(super::not_here)?;
            let (name, subresource) = (meta::name(&object).to_owned(), "binding".to_owned());
            judge("", "Binding", &(call.kind.hooks.validate_create)(&object))?;
            let pod = Call { kind: kind.clone(), name, subresource, ..call.clone() };
            self.registry.admit_asked(&pod, &mut object).await?;
            return self.bind(&pod, &object).await;
        }
        self.registry.admit_asked(call, &mut object).await?;
        let Kind { group, resource, hooks, .. } = &*call.kind;
        // Nothing is stored, but what is asked and answered is, too, read in one version alone.
        (hooks.to_storage)(&call.version, &mut object);
        place(&mut object, &call.namespace)?;
        judge(group, "", &(hooks.validate_create)(&object))?;
        let answer = self.security.review(group, resource, &call.namespace, &call.user, object).await;
        let mut answer = answer.ok_or_else(|| unbuilt(&call.kind.qualified_resource()))??;
        (hooks.from_storage)(&call.version, &mut answer);
        Ok(answer)
    }

    /// Puts a pod on a node.
    async fn bind(&self, call: &Call, binding: &Value) -> Result<Value, Status> {
        let node = meta::text(binding, &["target", "name"]);
        let now = self.registry.now();
        let mut make = |pod: Option<&Value>| {
            let pod = pod.ok_or_else(|| call.not_found())?;
            bound(call, pod, binding, node, &time(now))
        };
        let updating = Updating { rules: Update::PLAIN, create: false, make: &mut make };
        self.registry.update(call, updating).await?;
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }
}

const OLD_EVICTION: &str = "policy/v1beta1 Eviction is deprecated in v1.22+, unavailable in v1.25+";

/// The removed version that clients up to 1.21 ask for evictions in; they are the same.
fn older<'a>(target: &Target<'a>) -> Option<Target<'a>> {
    ((target.group, target.kind) == ("policy", "Eviction"))
        .then_some(Target { version: "v1beta1", ..*target })
}

/// Refuses what is asked wrongly.
fn judge(group: &str, kind: &str, wrong: &[field::Error]) -> Result<(), Status> {
    if wrong.is_empty() { Ok(()) } else { Err(Status::invalid(group, kind, "", wrong)) }
}

/// A pod on its node.
fn bound(call: &Call, pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Status> {
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return Err(call.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        )));
    }
    let unfit = |why: &str| {
        Err(Status::conflict("", "pods/binding", &call.name, &format!("pod {} {why}", call.name)))
    };
    if meta::is_terminating(pod) {
        return unfit("is being deleted, cannot be assigned to a host");
    }
    let assigned = meta::text(pod, &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return unfit(&format!("is already assigned to node {assigned:?}"));
    }
    if !meta::items(pod, &["spec", "schedulingGates"]).is_empty() {
        return unfit("has non-empty .spec.schedulingGates");
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = node.into();
    for (key, value) in binding["metadata"]["annotations"].as_object().into_iter().flatten() {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    // Labels that the pod has already are its own.
    for (key, value) in binding["metadata"]["labels"].as_object().into_iter().flatten() {
        let labels = meta::child_mut(meta::metadata_mut(&mut pod), "labels");
        labels.entry(key.as_str()).or_insert_with(|| value.clone());
    }
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
                           "lastTransitionTime": now});
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| c["type"] != "PodScheduled");
        list.push(scheduled);
    }
    Ok(pod)
}

#[cfg(test)]
#[path = "post_tests.rs"]
mod tests;
