//! The rules that hold for every kind, and the kind's own.

use serde_json::Value;
use tiphys_api::field::Errors;
use tiphys_api::kind::Update;
use tiphys_api::meta;

use super::Call;

/// What is wrong with a new object.
pub(super) fn created(call: &Call, object: &Value) -> Errors {
    let kind = &call.kind;
    let mut errors = meta::validate_create(object, kind.is_namespaced(), kind.hooks.validate_name);
    errors.extend(kind.validate_create(&call.version, object));
    errors
}

/// What is wrong with a changed object.
pub(super) fn updated(call: &Call, rules: &Update, object: &Value, old: &Value) -> Errors {
    let mut errors = meta::validate_update(object, old);
    errors.extend(call.kind.validate_update(rules, &call.version, object, old));
    errors
}
