//! `InitializerConfiguration` of `admissionregistration.k8s.io/v1alpha1`.

use serde_json::Value;

use super::At;
use crate::field::Errors;
use crate::names;

pub(crate) fn configuration(object: &Value) -> Errors {
    let root = At::root(object);
    let mut errors = Vec::new();
    for initializer in root.get("initializers").items() {
        initializer.get("name").needed_as(&mut errors, names::initializer);
        for rule in initializer.get("rules").items() {
            for (list, what) in [("apiGroups", "API groups"), ("apiVersions", "API versions")] {
                everything_alone(&rule.get(list), what, &mut errors);
            }
            everything_alone(&rule.get("resources"), "resources", &mut errors);
            for resource in rule.get("resources").items() {
                match resource.text() {
                    "" => resource.required(&mut errors, ""),
                    "*/*" => {}
                    name if name.contains('/') => {
                        resource.invalid(&mut errors, "must not specify subresources")
                    }
                    _ => {}
                }
            }
        }
    }
    errors
}

/// A list that is there, and has nothing else where it has `*`.
fn everything_alone(list: &At<'_>, what: &str, errors: &mut Errors) {
    if list.len() == 0 {
        list.required(errors, "");
    } else if list.len() > 1 && list.items().any(|item| item.text() == "*") {
        list.invalid(errors, format!("if '*' is present, must not specify other {what}"));
    }
}

#[cfg(test)]
#[path = "initializers_tests.rs"]
mod tests;
