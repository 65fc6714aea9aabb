//! `x-kubernetes-validations`: rules in CEL.

use std::pin::Pin;
use std::sync::Arc;

use serde_json::Value;

use super::Structural;
use crate::field::Errors;

/// The rules of a version, compiled by whoever can run them.
pub trait Rules: std::fmt::Debug + Send + Sync {
    /// Judges an object that fits its schema otherwise. `old` is what it is to replace.
    fn judge(&self, object: &Value, old: Option<&Value>, errors: &mut Errors);
}

/// Converts objects by a webhook.
pub trait Converter: std::fmt::Debug + Send + Sync {
    /// The same objects, in the same order, in another `apiVersion`.
    ///
    /// # Errors
    /// Why there are none, for people to read.
    fn convert<'a>(&'a self, objects: Vec<Value>, api_version: &'a str) -> Converting<'a>;
}

/// A conversion under way.
pub type Converting<'a> = Pin<Box<dyn Future<Output = Result<Vec<Value>, String>> + Send + 'a>>;

/// Makes what only others than this crate can run.
pub trait Compiler {
    /// Compiles the rules of a schema; `None` where it has none.
    fn rules(&self, schema: &Structural) -> Option<Arc<dyn Rules>>;
    /// Makes the converter that `spec.conversion.webhook` describes.
    fn converter(&self, webhook: &Value) -> Arc<dyn Converter>;
}

/// One rule, as it is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub rule: String,
    pub message: String,
    pub message_expression: String,
    pub reason: String,
    pub field_path: String,
    pub optional_old_self: bool,
}

impl Rule {
    /// Reads a schema's rules.
    pub(super) fn read(rules: Option<&Value>) -> Vec<Arc<Self>> {
        let rules = rules.and_then(Value::as_array).into_iter().flatten();
        rules
            .map(|rule| {
                let text = |key: &str| rule[key].as_str().unwrap_or_default().to_owned();
                Arc::new(Self {
                    rule: text("rule"),
                    message: text("message"),
                    message_expression: text("messageExpression"),
                    reason: text("reason"),
                    field_path: text("fieldPath"),
                    optional_old_self: rule["optionalOldSelf"].as_bool().unwrap_or(false),
                })
            })
            .collect()
    }
}
