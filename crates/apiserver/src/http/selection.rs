//! Which objects a client selects.

use std::sync::Arc;

use tiphys_api::kind::Kind;
use tiphys_api::selector::{FieldRequirement, FieldSelector, LabelSelector};
use tiphys_api::status::Status;

use crate::cache::Filter;
use crate::registry::Call;

/// Reads the selectors of a list or watch. A call that names an object selects that object.
///
/// # Errors
/// 400 for a selector that cannot be read, or a field that the kind cannot be selected by.
pub(super) fn parse(call: &Call, labels: &str, fields: &str) -> Result<Filter, Status> {
    let kind = &call.kind;
    let labels = LabelSelector::parse(labels).map_err(|e| Status::bad_request(e.to_string()))?;
    let mut fields = FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.to_string()))?;
    for FieldRequirement { field, .. } in &fields.requirements {
        if matches!(field.as_str(), "metadata.name" | "metadata.namespace") {
            continue;
        }
        let known = match &kind.custom {
            None => kind.fields.iter().any(|known| known.label == *field),
            Some(custom) => custom.is_selectable(&call.version, field),
        };
        if !known {
            return Err(Status::bad_request(unknown(kind, field)));
        }
    }
    if !call.name.is_empty() {
        if fields.exact("metadata.name").is_some_and(|selected| selected != call.name) {
            return Err(Status::bad_request("fieldSelector metadata.name doesn't match requested name"));
        }
        let (field, value) = ("metadata.name".to_owned(), call.name.clone());
        fields.requirements.push(FieldRequirement { field, value, equal: true });
    }
    let namespace = (!call.namespace.is_empty()).then(|| Arc::from(call.namespace.as_str()));
    let uninitialized = call.uninitialized;
    Ok(Filter { namespace, labels: Arc::new(labels), fields: Arc::new(fields), uninitialized, rough: false })
}

/// What upstream says of a field that a kind cannot be selected by.
fn unknown(kind: &Kind, field: &str) -> String {
    match &*kind.kind {
        "Job" if kind.custom.is_none() => format!("field label {field:?} not supported for batchv1.Job"),
        _ if kind.custom.is_none() && kind.fields.is_empty() => {
            format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
        }
        _ => format!("field label not supported: {field}"),
    }
}
