//! The ways to change an object without sending all of it: the object first, then the patch.

use std::sync::LazyLock;

use jiff::Timestamp;
use serde_json::Value;
use tiphys_api::decode::{FieldValidation, decode_tree};
use tiphys_api::patch::apply::{Set, Types, Writer, applied, updated};
use tiphys_api::patch::{json as json_patch, merge as merge_patch, strategic as strategic_patch, two_way};
use tiphys_api::schema::TypeRef;

use crate::objects::target_of;
use crate::values;

static NOTHING: LazyLock<Set> = LazyLock::new(Set::default);

pub(crate) fn json(data: &[u8]) {
    let Some([object, patch]) = values(data) else { return };
    if let Ok(patched) = json_patch::patch(&object, &patch) {
        let text = patched.to_string();
        assert!(text.len() <= data.len() * 2 + json_patch::MAX_COPIED * 2, "{} bytes came of it", text.len());
    }
}

pub(crate) fn merge(data: &[u8]) {
    let Some([object, patch]) = values(data) else { return };
    let Ok(once) = merge_patch::patch(&object, &patch) else { return };
    assert_eq!(merge_patch::patch(&once, &patch).as_ref(), Ok(&once), "patched twice");
}

/// Reads objects of one kind, which the first names.
fn typed<const N: usize>(data: &[u8]) -> Option<([Value; N], &'static str, TypeRef<'static>)> {
    let mut values: [Value; N] = values(data)?;
    let (_, version, target) = target_of(&values[0])?;
    for value in &mut values {
        *value = decode_tree(&target, value.take(), FieldValidation::Ignore).ok()?.object;
    }
    Some((values, version, target.ty))
}

pub(crate) fn strategic(data: &[u8]) {
    let Some([object, patch]) = values(data) else { return };
    let Some((.., target)) = target_of(&object) else { return };
    let Ok(object) = decode_tree(&target, object, FieldValidation::Ignore) else { return };
    // Whatever comes of it is decoded again.
    if let Ok(patched) = strategic_patch::patch(&object.object, &patch, target.ty) {
        let _read = decode_tree(&target, patched, FieldValidation::Ignore);
    }
    // What two objects differ in, and the one with that patch.
    let Ok(other) = decode_tree(&target, patch, FieldValidation::Ignore) else { return };
    let difference = two_way::patch(&object.object, &other.object, target.ty);
    let _patched = strategic_patch::patch(&object.object, &difference, target.ty);
}

pub(crate) fn apply(data: &[u8]) {
    let Some(([mut live, config], _, ty)) = typed(data) else { return };
    let Some(api_version) = config["apiVersion"].as_str() else { return };
    let writer = |manager| Writer {
        manager,
        api_version,
        subresource: "",
        now: Timestamp::UNIX_EPOCH,
        ignored: &NOTHING,
    };
    let types = Types { ty, convert: &|object, _| Some((object.clone(), ty)) };
    updated(None, &mut live, &writer("one"), &types);
    let unforced = applied(Some(live.clone()), &config, &writer("two"), false, &types);
    if let Ok(once) = applied(Some(live.clone()), &config, &writer("two"), true, &types) {
        // Who was not in the way of anybody needed no force.
        assert!(unforced.is_err() || unforced.as_ref() == Ok(&once), "{unforced:?}");
        let twice = applied(Some(once.clone()), &config, &writer("two"), false, &types);
        assert_eq!(twice.as_ref(), Ok(&once), "applied twice");
    }
}

pub(crate) fn managed_fields(data: &[u8]) {
    let Some([fields]) = values(data) else { return };
    let Ok(set) = Set::decode(fields) else { return };
    let encoded = set.encode();
    let again = Set::decode(encoded.clone()).expect("what was written can be read");
    assert_eq!(again.encode(), encoded, "read twice");
}
