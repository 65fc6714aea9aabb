use serde_json::{Value, json};

use crate::convert::{from_storage, to_storage};
use crate::kind::Kinds;

/// Both forms of an object, each made of the other.
fn both_ways(resource: &str, older: &Value, newer: &Value) {
    let row = Kinds::builtin().group_resource("resource.k8s.io", resource).unwrap().clone();
    let versioned = |version: &str, body: &Value| {
        let mut object = body.clone();
        object["apiVersion"] = format!("resource.k8s.io/{version}").into();
        object
    };
    let mut object = versioned("v1beta1", older);
    to_storage(&row, "v1beta1", &mut object);
    assert_eq!(object, versioned("v1", newer));
    from_storage(&row, "v1beta1", &mut object);
    assert_eq!(object, versioned("v1beta1", older));
    let mut middle = versioned("v1", newer);
    from_storage(&row, "v1beta2", &mut middle);
    assert_eq!(middle, versioned("v1beta2", newer));
}

#[test]
fn requests_of_claims_are_nested() {
    let older = json!({"devices": {"requests": [
        {"name": "a", "deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2,
         "tolerations": [{"key": "k"}]},
        {"name": "b", "deviceClassName": "", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}]},
    ]}});
    let newer = json!({"devices": {"requests": [
        {"name": "a", "exactly": {"deviceClassName": "gpu", "allocationMode": "ExactCount", "count": 2,
         "tolerations": [{"key": "k"}]}},
        {"name": "b", "firstAvailable": [{"name": "x", "deviceClassName": "gpu"}]},
    ]}});
    both_ways("resourceclaims", &json!({"spec": older}), &json!({"spec": newer}));
    let (older, newer) = (json!({"spec": {"spec": older}}), json!({"spec": {"spec": newer}}));
    both_ways("resourceclaimtemplates", &older, &newer);
}

#[test]
fn devices_of_slices_are_not() {
    let older = json!({"spec": {"driver": "d", "devices": [
        {"name": "a", "basic": {"attributes": {"model": {"string": "x"}}, "allNodes": true}},
        {"name": "b", "basic": {}},
    ]}});
    let newer = json!({"spec": {"driver": "d", "devices": [
        {"name": "a", "attributes": {"model": {"string": "x"}}, "allNodes": true},
        {"name": "b"},
    ]}});
    both_ways("resourceslices", &older, &newer);
}
