//! What of devices is not kept: fields of features that 1.37 has off by default, unless the stored object has some of
//! the feature already, and what drivers said of devices that a claim does not have any more.

use serde_json::Value;

use super::{create, create_counted, update, update_counted, update_status_alone};
use crate::meta;

/// The fields of one feature; `*` stands for all members.
type Feature = &'static [&'static [&'static str]];

const OF_SLICES: &[Feature] = &[
    // DRAOptionalNodeOperations
    &[&["spec", "skipNodeOperations"]],
    // DRANodeAllocatableResources
    &[&["spec", "devices", "*", "nodeAllocatableResources"]],
    // DRAListTypeAttributes
    &[
        &["spec", "devices", "*", "attributes", "*", "bools"],
        &["spec", "devices", "*", "attributes", "*", "ints"],
        &["spec", "devices", "*", "attributes", "*", "strings"],
        &["spec", "devices", "*", "attributes", "*", "versions"],
    ],
    // DRADeviceCompatibilityGroups
    &[&["spec", "devices", "*", "consumesCounters", "*", "compatibilityGroups"]],
    // DRAResourcePoolStatus
    &[&["spec", "partitionTypeAttribute"]],
];

const OF_CLAIMS: &[Feature] = &[
    // DRADerivedAttributes
    &[
        &["spec", "devices", "requests", "*", "exactly", "derivedAttributes"],
        &["spec", "devices", "requests", "*", "firstAvailable", "*", "derivedAttributes"],
    ],
    // DRAOptionalNodeOperations
    &[&["status", "allocation", "devices", "results", "*", "skipNodeOperations"]],
];

const OF_TEMPLATES: &[Feature] = &[&[
    &["spec", "spec", "devices", "requests", "*", "exactly", "derivedAttributes"],
    &["spec", "spec", "devices", "requests", "*", "firstAvailable", "*", "derivedAttributes"],
]];

fn drop_features(features: &[Feature], new: &mut Value, old: &Value) {
    for feature in features.iter().filter(|feature| !feature.iter().any(|path| has(old, path))) {
        feature.iter().for_each(|path| remove(new, path));
    }
}

fn has(object: &Value, path: &[&str]) -> bool {
    match (path, object) {
        ([], value) => !value.is_null(),
        (["*", rest @ ..], Value::Array(items)) => items.iter().any(|item| has(item, rest)),
        (["*", rest @ ..], Value::Object(fields)) => fields.values().any(|item| has(item, rest)),
        ([field, rest @ ..], value) => value.get(*field).is_some_and(|item| has(item, rest)),
    }
}

fn remove(object: &mut Value, path: &[&str]) {
    match (path, object) {
        ([field], Value::Object(fields)) => drop(fields.remove(*field)),
        (["*", rest @ ..], Value::Array(items)) => items.iter_mut().for_each(|item| remove(item, rest)),
        (["*", rest @ ..], Value::Object(fields)) => fields.values_mut().for_each(|item| remove(item, rest)),
        ([field, rest @ ..], Value::Object(fields)) => {
            if let Some(item) = fields.get_mut(*field) {
                remove(item, rest);
            }
        }
        _ => {}
    }
}

pub(crate) fn create_slice(slice: &mut Value) {
    create_counted(slice);
    drop_features(OF_SLICES, slice, &Value::Null);
}

pub(crate) fn update_slice(new: &mut Value, old: &Value) {
    drop_features(OF_SLICES, new, old);
    update_counted(new, old);
}

pub(crate) fn create_claim(claim: &mut Value) {
    create(claim);
    drop_features(OF_CLAIMS, claim, &Value::Null);
}

pub(crate) fn update_claim(new: &mut Value, old: &Value) {
    update(new, old);
    drop_features(OF_CLAIMS, new, old);
}

pub(crate) fn update_claim_status(new: &mut Value, old: &Value) {
    update_status_alone(new, old);
    drop_features(OF_CLAIMS, new, old);
    let same = |a: &Value, b: &Value| ["driver", "pool", "device"].iter().all(|field| a[*field] == b[*field]);
    const RESULTS: [&str; 4] = ["status", "allocation", "devices", "results"];
    let has =
        |claim: &Value, told: &Value| meta::items(claim, &RESULTS).iter().any(|result| same(result, told));
    let is_gone = |told: &Value| has(old, told) && !has(new, told);
    let left: Vec<Value> =
        meta::items(new, &["status", "devices"]).iter().filter(|told| !is_gone(told)).cloned().collect();
    if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
        match left.is_empty() {
            true => drop(status.remove("devices")),
            false => drop(status.insert("devices".to_owned(), left.into())),
        }
    }
}

pub(crate) fn create_template(template: &mut Value) {
    drop_features(OF_TEMPLATES, template, &Value::Null);
}

pub(crate) fn update_template(new: &mut Value, old: &Value) {
    drop_features(OF_TEMPLATES, new, old);
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
