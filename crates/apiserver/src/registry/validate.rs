//! The rules that hold for every kind, and the kind's own.

use serde_json::Value;
use tiphys_api::field::Errors;
use tiphys_api::kind::{Kind, Update};
use tiphys_api::meta;

/// What is wrong with a new object.
pub(super) fn created(kind: &Kind, object: &Value) -> Errors {
    let mut errors = meta::validate_create(object, kind.is_namespaced(), kind.hooks.validate_name);
    errors.extend((kind.hooks.validate_create)(object));
    errors
}

/// What is wrong with a changed object.
pub(super) fn updated(rules: &Update, object: &Value, old: &Value) -> Errors {
    let mut errors = meta::validate_update(object, old);
    errors.extend((rules.validate)(object, old));
    errors
}
