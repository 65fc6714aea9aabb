//! DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize: what volumes and claims get at
//! birth, and how claims grow.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::{meta, quantity::Quantity, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::source::{Entry, Source};

/// Gives a claim that names no class the class that is marked as default: the newest, then the first by name.
pub struct DefaultStorageClass {
    source: Arc<dyn Source>,
}

impl DefaultStorageClass {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }
}

fn is_default(class: &Value) -> bool {
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"]
        .iter()
        .any(|key| meta::annotation(class, key) == Some("true"))
}

#[async_trait]
impl Plugin for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "persistentvolumeclaims")
    }

    async fn admit(&self, request: &Attributes<'_>, claim: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request)
            || !claim["spec"]["storageClassName"].is_null()
            || meta::annotation(claim, "volume.beta.kubernetes.io/storage-class").is_some()
        {
            return Ok(());
        }
        let classes = self.source.list("storage.k8s.io", "storageclasses", None);
        let mut defaults: Vec<Value> = classes.iter().map(Entry::tree).filter(is_default).collect();
        let born = |class: &Value| meta::text(class, &["metadata", "creationTimestamp"]).to_owned();
        defaults.sort_by(|a, b| born(b).cmp(&born(a)).then_with(|| meta::name(a).cmp(meta::name(b))));
        if let Some(class) = defaults.first() {
            super::spec_mut(claim).insert("storageClassName".to_owned(), meta::name(class).into());
        }
        Ok(())
    }
}

/// Lets claims grow only where their class can make them.
pub struct PersistentVolumeClaimResize {
    source: Arc<dyn Source>,
}

impl PersistentVolumeClaimResize {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }
}

/// The class that a claim names.
fn class_of(claim: &Value) -> &str {
    meta::annotation(claim, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| meta::text(claim, &["spec", "storageClassName"]))
}

#[async_trait]
impl Plugin for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Update, "", "persistentvolumeclaims")
    }

    async fn validate(&self, request: &Attributes<'_>, claim: &Value, old: &Value) -> Result<(), Status> {
        let asks = |claim: &Value| {
            Quantity::parse(meta::text(claim, &["spec", "resources", "requests", "storage"])).ok()
        };
        if !self.handles(request) || asks(claim) <= asks(old) {
            return Ok(());
        }
        if meta::text(old, &["status", "phase"]) != "Bound" {
            return Err(request.forbidden(claim, "Only bound persistent volume claims can be expanded"));
        }
        let name = class_of(claim);
        let class = self.source.get("storage.k8s.io", "storageclasses", "", name);
        let grows = class.is_some_and(|class| class.tree()["allowVolumeExpansion"] == true);
        if !grows || name.is_empty() || name != class_of(old) {
            let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the \
                 pvc must support resize";
            return Err(request.forbidden(claim, why));
        }
        Ok(())
    }
}

/// Puts the finalizer on volumes and claims that keeps them while they are used.
pub struct StorageObjectInUseProtection;

#[async_trait]
impl Plugin for StorageObjectInUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "persistentvolumes")
            || request.is(Operation::Create, "", "persistentvolumeclaims")
    }

    async fn admit(&self, request: &Attributes<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        let finalizer = if request.is(Operation::Create, "", "persistentvolumes") {
            "kubernetes.io/pv-protection"
        } else if request.is(Operation::Create, "", "persistentvolumeclaims") {
            "kubernetes.io/pvc-protection"
        } else {
            return Ok(());
        };
        if !meta::finalizers(object).any(|f| f == finalizer) {
            super::list_mut(object, &["metadata", "finalizers"]).push(finalizer.into());
        }
        Ok(())
    }
}
