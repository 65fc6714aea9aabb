//! The rules that hold for every kind, and the kind's own.

use serde_json::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::kind::{Kind, Update};
use tiphys_api::meta;

/// What is wrong with a new object.
pub(super) fn created(kind: &Kind, object: &Value) -> Errors {
    let mut errors = name(kind, object);
    errors.extend((kind.hooks.validate_create)(object));
    errors
}

/// What is wrong with a changed object.
pub(super) fn updated(_kind: &Kind, rules: &Update, object: &Value, old: &Value) -> Errors {
    (rules.validate)(object, old)
}

fn name(kind: &Kind, object: &Value) -> Errors {
    let path = Path::new("metadata").child("name");
    let name = meta::name(object);
    if name.is_empty() {
        return vec![Error::required(&path, "name or generateName is required")];
    }
    let wrong = (kind.hooks.validate_name)(name, false);
    wrong.into_iter().map(|detail| Error::invalid(&path, name, detail)).collect()
}
