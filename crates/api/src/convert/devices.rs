//! `resource.k8s.io/v1beta1`, which has no name for the part of a request that asks for exactly one kind of
//! device, and one more for the part of a device that describes it.

use serde_json::{Map, Value};

use crate::meta::{as_map, child_mut};

/// The fields of a request that newer versions keep under `exactly`.
const EXACTLY: [&str; 8] = [
    "adminAccess",
    "allocationMode",
    "capacity",
    "count",
    "derivedAttributes",
    "deviceClassName",
    "selectors",
    "tolerations",
];

pub(crate) fn claim_to_storage(version: &str, claim: &mut Value) {
    if version == "v1beta1" {
        each_in(claim, &["spec", "devices", "requests"], nest_exactly);
    }
}

pub(crate) fn claim_from_storage(version: &str, claim: &mut Value) {
    if version == "v1beta1" {
        each_in(claim, &["spec", "devices", "requests"], |request| {
            unnest(request, "exactly");
            // The older type writes it always.
            request.entry("deviceClassName").or_insert_with(|| "".into());
        });
    }
}

pub(crate) fn template_to_storage(version: &str, template: &mut Value) {
    claim_to_storage(version, child_of(template, "spec"));
}

pub(crate) fn template_from_storage(version: &str, template: &mut Value) {
    claim_from_storage(version, child_of(template, "spec"));
}

pub(crate) fn slice_to_storage(version: &str, slice: &mut Value) {
    if version == "v1beta1" {
        each_in(slice, &["spec", "devices"], |device| unnest(device, "basic"));
    }
}

pub(crate) fn slice_from_storage(version: &str, slice: &mut Value) {
    if version == "v1beta1" {
        each_in(slice, &["spec", "devices"], |device| {
            let name = device.remove("name");
            let basic = std::mem::take(device);
            device.insert("basic".to_owned(), basic.into());
            device.extend(name.map(|name| ("name".to_owned(), name)));
        });
    }
}

fn nest_exactly(request: &mut Map<String, Value>) {
    let mut exactly = Map::new();
    for field in EXACTLY {
        if let Some(value) = request.remove(field).filter(|v| *v != "") {
            exactly.insert(field.to_owned(), value);
        }
    }
    if !exactly.is_empty() {
        exactly.entry("deviceClassName").or_insert_with(|| "".into());
        request.insert("exactly".to_owned(), exactly.into());
    }
}

fn unnest(map: &mut Map<String, Value>, field: &str) {
    if let Some(Value::Object(nested)) = map.remove(field) {
        map.extend(nested);
    }
}

fn child_of<'a>(object: &'a mut Value, field: &str) -> &'a mut Value {
    as_map(object).entry(field).or_insert_with(|| Map::new().into())
}

fn each_in(object: &mut Value, path: &[&str], change: impl Fn(&mut Map<String, Value>)) {
    let Some((last, parents)) = path.split_last() else { return };
    let parent = parents.iter().fold(as_map(object), |map, key| child_mut(map, key));
    let items = parent.get_mut(*last).and_then(Value::as_array_mut).into_iter().flatten();
    items.filter_map(Value::as_object_mut).for_each(change);
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
