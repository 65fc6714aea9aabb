//! NamespaceLifecycle: nothing comes into a namespace that is not there or on its way out.

use std::sync::Arc;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;
use tiphys_api::status::{Status, StatusCause};

use super::{Attributes, Operation, Plugin};
use crate::kept::Kept;
use crate::source::Source;

/// Namespaces that a cluster can't do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

pub struct NamespaceLifecycle {
    source: Arc<dyn Source>,
    namespaces: Kept<Namespace>,
}

#[derive(Deserialize)]
struct Namespace {
    #[serde(default)]
    status: NamespaceStatus,
}

#[derive(Default, Deserialize)]
struct NamespaceStatus {
    #[serde(default)]
    phase: String,
}

impl NamespaceLifecycle {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, namespaces: Kept::of("", "namespaces") }
    }

    fn namespace(&self, name: &str) -> Option<Arc<Namespace>> {
        self.namespaces.get(&*self.source, "", name)
    }

    async fn check(&self, request: &Attributes<'_>, object: &Value) -> Result<(), Status> {
        let namespace = request.namespace;
        if request.group.is_empty() && request.resource == "namespaces" {
            if request.operation == Operation::Delete && IMMORTAL.contains(&request.name) {
                let why = "this namespace may not be deleted";
                return Err(Status::forbidden("", "namespaces", request.name, why));
            }
            return Ok(());
        }
        // Telling whether a namespace exists would tell too much to those who only ask for permissions.
        let asks = request.group == "authorization.k8s.io" && request.resource == "localsubjectaccessreviews";
        if namespace.is_empty() || request.operation == Operation::Delete || asks {
            return Ok(());
        }
        let mut found = self.namespace(namespace);
        if found.is_none() {
            self.source.settle().await;
            found = self.namespace(namespace);
        }
        let found = found.ok_or_else(|| Status::not_found("", "namespaces", namespace))?;
        if request.operation == Operation::Create && found.status.phase == "Terminating" {
            let why = format!(
                "unable to create new content in namespace {namespace} because it is being terminated"
            );
            let mut status = request.forbidden(object, &why);
            if let Some(details) = &mut status.details {
                details.causes.push(StatusCause {
                    reason: "NamespaceTerminating".to_owned(),
                    message: format!("namespace {namespace} is being terminated"),
                    field: "metadata.namespace".to_owned(),
                });
            }
            return Err(status);
        }
        Ok(())
    }
}

#[async_trait]
impl Plugin for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    async fn admit(&self, request: &Attributes<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        self.check(request, object).await
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, _: &Value) -> Result<(), Status> {
        // A delete has no mutating phase.
        if request.operation == Operation::Delete { self.check(request, object).await } else { Ok(()) }
    }
}
