//! Objects in the four encodings.

use std::sync::LazyLock;

use serde_json::Value;
use tiphys_api::codec::{cbor as cbor_codec, protobuf as protobuf_codec, yaml as yaml_codec};
use tiphys_api::decode::{FieldValidation, Target, decode, decode_tree, repeated};
use tiphys_api::kind::{Action, Kind, Kinds, split_api_version};
use tiphys_api::{convert, meta};

static KINDS: LazyLock<Kinds> = LazyLock::new(Kinds::builtin);

/// The row and the version that a tree says it is of; a Pod, if it says nothing that is known.
pub(crate) fn row_of(tree: &Value) -> (&'static Kind, &'static str) {
    let text = |key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = split_api_version(text("apiVersion"));
    let named = KINDS.kind(group, version, text("kind")).and_then(|row| Some((row, row.version(version)?)));
    let pod = || KINDS.kind("", "v1", "Pod").and_then(|row| Some((row, row.version("v1")?)));
    let (row, version) = named.or_else(pod).expect("Pods are built in");
    (row, &version.name)
}

/// What an object of a row is decoded as.
pub(crate) fn target_of(tree: &Value) -> Option<(&'static Kind, &'static str, Target<'static>)> {
    let (row, version) = row_of(tree);
    Some((row, version, Target::of(row, version)?))
}

pub(crate) fn json(data: &[u8]) {
    let tree: Value = serde_json::from_slice(data).unwrap_or_default();
    assert!(repeated(data).len() <= data.len(), "what stands twice stands there");
    assert_eq!(repeated(tree.to_string().as_bytes()), Vec::<String>::new(), "nothing is written twice");
    let Some((row, version, target)) = target_of(&tree) else { return };
    if let Ok(read) = decode(&target, data, FieldValidation::Warn) {
        lives(row, version, &target, read.object);
    }
}

pub(crate) fn yaml(data: &[u8]) {
    let Ok(text) = yaml_codec::to_json(data) else { return };
    let tree: Value = serde_json::from_slice(&text).expect("what was YAML is JSON");
    round_trip_yaml(&tree);
    json(&text);
}

pub(crate) fn protobuf(data: &[u8]) {
    let Ok(tree) = protobuf_codec::decode(data, ("v1", "Pod")) else { return };
    let bytes = protobuf_codec::encode(&tree).expect("what was read can be written");
    let again = protobuf_codec::decode(&bytes, ("", "")).expect("what was written can be read");
    assert_eq!(again, tree, "read twice");
    let Some((row, version, target)) = target_of(&tree) else { return };
    if let Ok(read) = decode_tree(&target, tree, FieldValidation::Warn) {
        lives(row, version, &target, read.object);
    }
}

pub(crate) fn cbor(data: &[u8]) {
    let Ok(tree) = cbor_codec::decode(data) else { return };
    round_trip_cbor(&tree);
    let Some((row, version, target)) = target_of(&tree) else { return };
    if let Ok(read) = decode_tree(&target, tree, FieldValidation::Warn) {
        lives(row, version, &target, read.object);
    }
}

fn round_trip_cbor(tree: &Value) {
    let bytes = cbor_codec::encode(tree).expect("a tree can be written");
    assert_eq!(&cbor_codec::decode(&bytes).expect("what was written can be read"), tree, "CBOR");
}

fn round_trip_yaml(tree: &Value) {
    let text = yaml_codec::from_value(tree).expect("a tree can be written");
    let json = match yaml_codec::to_json(text.as_bytes()) {
        Ok(json) => json,
        // JSON may be nested deeper than YAML.
        Err(_) if depth(tree) >= yaml_codec::MAX_DEPTH => return,
        Err(error) => panic!("{error}: {text}"),
    };
    let again: Value = serde_json::from_slice(&json).expect("what was YAML is JSON");
    assert_eq!(&again, tree, "{text}");
}

fn depth(tree: &Value) -> usize {
    match tree {
        Value::Object(map) => 1 + map.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// An object is defaulted, converted, judged, changed and shown as the API server would.
fn lives(row: &Kind, version: &str, target: &Target<'_>, mut object: Value) {
    let strictly = |object: &Value| {
        decode(target, object.to_string().as_bytes(), FieldValidation::Strict)
            .expect("what was read is known")
    };
    assert_eq!(strictly(&object).object, object, "read twice");
    if let Ok(bytes) = protobuf_codec::encode(&object) {
        let tree = protobuf_codec::decode(&bytes, ("", "")).expect("what was written can be read");
        decode_tree(target, tree, FieldValidation::Strict).expect("protobuf says nothing that is unknown");
    }
    round_trip_cbor(&object);
    round_trip_yaml(&object);

    row.fill_defaults(version, &mut object);
    let once = object.clone();
    row.fill_defaults(version, &mut object);
    assert_eq!(object, once, "defaulted twice");
    strictly(&object);

    convert::to_storage(row, version, &mut object);
    let stored = object.clone();
    convert::from_storage(row, version, &mut object);
    convert::to_storage(row, version, &mut object);
    assert_eq!(object, stored, "there and back");

    (row.hooks.prepare_create)(&mut object);
    let old = object.clone();
    // What is wrong is not asked here, only that the rules come to an end.
    let _errors = row.validate_create(version, &object);
    let _errors = meta::validate_create(&object, row.is_namespaced(), row.hooks.validate_name);
    (row.hooks.update.prepare)(&mut object, &old);
    let _errors = row.validate_update(&row.hooks.update, version, &object, &old);
    for part in &row.subresources {
        match &part.action {
            Action::Update(update) => {
                let mut new = stored.clone();
                (update.prepare)(&mut new, &old);
                let _errors = (update.validate)(&new, &old);
            }
            Action::Scale(scale) => {
                let shown = convert::scale_of(scale, &old);
                let mut scaled = old.clone();
                convert::apply_scale(scale, &shown, &mut scaled);
            }
            Action::Post | Action::Connect => {}
        }
    }
    let cells = row.cells(version, &object, jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(cells.len(), row.columns(version).len(), "a cell for each column");
}
