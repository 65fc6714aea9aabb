//! DefaultIngressClass: an Ingress that names no class gets the one that is marked as default.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::source::{Entry, Source};

pub struct DefaultIngressClass {
    source: Arc<dyn Source>,
}

impl DefaultIngressClass {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl Plugin for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "networking.k8s.io", "ingresses")
            || request.is(Operation::Create, "extensions", "ingresses")
    }

    async fn admit(&self, request: &Attributes<'_>, ingress: &mut Value, _: &Value) -> Result<(), Status> {
        let named = !ingress["spec"]["ingressClassName"].is_null()
            || meta::annotation(ingress, "kubernetes.io/ingress.class").is_some();
        if named || !self.handles(request) {
            return Ok(());
        }
        let classes = self.source.list("networking.k8s.io", "ingressclasses", None);
        let is_default = |class: &Value| {
            meta::annotation(class, "ingressclass.kubernetes.io/is-default-class") == Some("true")
        };
        let defaults = classes.iter().map(Entry::tree).filter(is_default);
        // Of several the newest counts, then the first by name.
        let born = |class: &Value| meta::text(class, &["metadata", "creationTimestamp"]).to_owned();
        let chosen =
            defaults.min_by(|a, b| born(b).cmp(&born(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
        if let Some(class) = chosen {
            super::spec_mut(ingress).insert("ingressClassName".to_owned(), meta::name(&class).into());
        }
        Ok(())
    }
}
