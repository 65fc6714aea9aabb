//! RuntimeClass: gives a pod what its class says of overhead and scheduling.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::source::Source;

pub struct RuntimeClass {
    source: Arc<dyn Source>,
}

impl RuntimeClass {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    /// The pod's class; `Null` if it names none.
    async fn class(&self, request: &Attributes<'_>, pod: &Value) -> Result<Value, Status> {
        let name = meta::text(pod, &["spec", "runtimeClassName"]);
        if name.is_empty() {
            return Ok(Value::Null);
        }
        let get = || self.source.get("node.k8s.io", "runtimeclasses", "", name);
        let mut found = get();
        if found.is_none() {
            self.source.settle().await;
            found = get();
        }
        found
            .map(|entry| entry.tree())
            .ok_or_else(|| request.forbidden(pod, &format!("pod rejected: RuntimeClass {name:?} not found")))
    }
}

#[async_trait]
impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "pods")
    }

    async fn admit(&self, request: &Attributes<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) {
            return Ok(());
        }
        let class = self.class(request, pod).await?;
        let overhead = &class["overhead"]["podFixed"];
        if !overhead.is_null() {
            let given = &pod["spec"]["overhead"];
            if !given.is_null() && given != overhead {
                let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
                return Err(request.forbidden(pod, why));
            }
            super::spec_mut(pod).insert("overhead".to_owned(), overhead.clone());
        }
        let selector = class["scheduling"]["nodeSelector"].as_object();
        for (key, value) in selector.into_iter().flatten() {
            let own = &pod["spec"]["nodeSelector"][key.as_str()];
            if !own.is_null() && own != value {
                let (own, value) = (own.as_str().unwrap_or_default(), value.as_str().unwrap_or_default());
                let why = format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; \
                     pod.spec.nodeSelector[{key}] = {own}"
                );
                return Err(request.forbidden(pod, &why));
            }
            meta::child_mut(super::spec_mut(pod), "nodeSelector").insert(key.clone(), value.clone());
        }
        for toleration in meta::items(&class, &["scheduling", "tolerations"]) {
            if !meta::items(pod, &["spec", "tolerations"]).contains(toleration) {
                super::list_mut(pod, &["spec", "tolerations"]).push(toleration.clone());
            }
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, pod: &Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) {
            return Ok(());
        }
        let overhead = &pod["spec"]["overhead"];
        let class = self.class(request, pod).await?;
        if &class["overhead"]["podFixed"] == overhead {
            return Ok(());
        }
        let why = if class["overhead"].is_null() {
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
        } else {
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
        };
        Err(request.forbidden(pod, why))
    }
}
