//! Things that are only asked: bindings, tokens, reviews.

use http::{Response, StatusCode};
use serde_json::{Value, json};
use tiphys_api::codec::protobuf;
use tiphys_api::decode::Target;
use tiphys_api::kind::{Kind, Subresource, Update, api_version};
use tiphys_api::meta;
use tiphys_api::status::Status;

use super::body::{self, Body, RequestBody};
use super::negotiate::{self, Offer};
use super::resource::{encoding, unbuilt};
use super::{Asked, Handler, dialect, encode, respond};
use crate::registry::objectmeta::{named, time};
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
        let mut request = dialect::read(&call, &target, &bytes, encoding(&asked)?, asked.validation()?)?;
        named(&mut request, &call.name)?;
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
            let pod = Call { kind: kind.clone(), name, subresource, ..call.clone() };
            self.registry.admit_asked(&pod, &mut object).await?;
            return self.bind(&pod, &object).await;
        }
        self.registry.admit_asked(call, &mut object).await?;
        let Kind { group, resource, hooks, .. } = &*call.kind;
        // Nothing is stored, but what is asked and answered is, too, read in one version alone.
        (hooks.to_storage)(&call.version, &mut object);
        let answer = self.security.review(group, resource, &call.namespace, &call.user, object).await;
        let mut answer = answer.ok_or_else(|| unbuilt(&call.kind.qualified_resource()))??;
        (hooks.from_storage)(&call.version, &mut answer);
        Ok(answer)
    }

    /// Puts a pod on a node.
    async fn bind(&self, call: &Call, binding: &Value) -> Result<Value, Status> {
        let node = meta::text(binding, &["target", "name"]);
        if node.is_empty() {
            let path = tiphys_api::field::Path::new("target").child("name");
            let error = tiphys_api::field::Error::required(&path, "");
            return Err(Status::invalid("", "Binding", &call.name, &[error]));
        }
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

/// A pod on its node.
fn bound(call: &Call, pod: &Value, binding: &Value, node: &str, now: &str) -> Result<Value, Status> {
    let uid = meta::uid(binding);
    if !uid.is_empty() && uid != meta::uid(pod) {
        return Err(call.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            meta::uid(pod)
        )));
    }
    if meta::is_terminating(pod) {
        return Err(
            call.conflict(&format!("pod {} is being deleted, cannot be assigned to a host", call.name))
        );
    }
    let assigned = meta::text(pod, &["spec", "nodeName"]);
    if !assigned.is_empty() {
        return Err(call.conflict(&format!("pod {} is already assigned to node {assigned:?}", call.name)));
    }
    if !meta::items(pod, &["spec", "schedulingGates"]).is_empty() {
        return Err(call.conflict(&format!("pod {} has non-empty .spec.schedulingGates", call.name)));
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
