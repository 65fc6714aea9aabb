//! Of every object only what collecting takes.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{
    Resource,
    api::{DynamicObject, ObjectMeta},
    discovery::ApiResource,
};
use serde::{Deserialize, Deserializer};

/// An object without anything but its identity, its owners and the state of its deletion. Everything else is skipped
/// while it is read, without being made: the collector is told every change of every object.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    #[serde(default, deserialize_with = "kept")]
    pub(super) metadata: ObjectMeta,
}

/// The fields of `metadata` that are kept.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

fn kept<'de, D: Deserializer<'de>>(from: D) -> Result<ObjectMeta, D::Error> {
    let kept = Kept::deserialize(from)?;
    Ok(ObjectMeta {
        name: kept.name,
        namespace: kept.namespace,
        uid: kept.uid,
        resource_version: kept.resource_version,
        deletion_timestamp: kept.deletion_timestamp,
        finalizers: kept.finalizers,
        owner_references: kept.owner_references,
        ..ObjectMeta::default()
    })
}

impl Resource for Metadata {
    type DynamicType = ApiResource;
    type Scope = <DynamicObject as Resource>::Scope;

    fn kind(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::kind(of)
    }
    fn group(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::group(of)
    }
    fn version(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::version(of)
    }
    fn api_version(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::api_version(of)
    }
    fn plural(of: &ApiResource) -> Cow<'_, str> {
        DynamicObject::plural(of)
    }
    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_collecting_needs_is_kept_and_all_else_is_not() {
        let object = r#"{"kind": "Pod", "apiVersion": "v1", "metadata": {
            "name": "a", "namespace": "b", "uid": "c", "resourceVersion": "7", "labels": {"x": "y"},
            "deletionTimestamp": "2026-01-02T03:04:05Z", "finalizers": ["f"],
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "o", "uid": "u", "blockOwnerDeletion": true}],
            "managedFields": [{"manager": "m", "fieldsV1": {"f:spec": {}}}]}, "spec": {"containers": [1]}}"#;
        let Metadata { metadata } = serde_json::from_str(object).unwrap();
        let owner = &metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((&*owner.uid, owner.block_owner_deletion), ("u", Some(true)));
        assert!(metadata.deletion_timestamp.is_some());
        let expected = ObjectMeta {
            name: Some("a".to_owned()),
            namespace: Some("b".to_owned()),
            uid: Some("c".to_owned()),
            resource_version: Some("7".to_owned()),
            deletion_timestamp: metadata.deletion_timestamp.clone(),
            finalizers: Some(vec!["f".to_owned()]),
            owner_references: metadata.owner_references.clone(),
            ..ObjectMeta::default()
        };
        assert_eq!(metadata, expected);
    }
}
