//! The rules that hold for every kind, and the kind's own.

use serde_json::Value;
use tiphys_api::field::Errors;
use tiphys_api::kind::Update;
use tiphys_api::meta;

use super::Call;
use super::initialization::is_pending;

/// What is wrong with a new object.
pub(super) fn created(call: &Call, object: &Value) -> Errors {
    let kind = &call.kind;
    let mut errors = meta::validate_create(object, kind.is_namespaced(), kind.hooks.validate_name);
    errors.extend(kind.validate_create(&call.version, object));
    errors
}

/// What is wrong with a changed object. One that initializers have yet to complete is still as good as new: nobody
/// else has seen it.
pub(super) fn updated(call: &Call, rules: &Update, object: &Value, old: &Value) -> Errors {
    let mut errors = meta::validate_update(object, old);
    errors.extend(if call.subresource.is_empty() && is_pending(old) {
        call.kind.validate_create(&call.version, object)
    } else {
        call.kind.validate_update(rules, &call.version, object, old)
    });
    errors
}
