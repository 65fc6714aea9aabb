//! `x-kubernetes-validations`: the rules of custom objects, in CEL (KEP-2876).
//!
//! The rules of a version are compiled when its definition changes, each against the schema that it stands in.
//! What they cost is bounded three times: an expression by the estimate of its definition and by what it may
//! spend when it runs, and all of them together by what one object may spend.

mod estimate;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use tiphys_api::custom::{Additional, ListType, Rule, Rules, Structural, Type as JsonType};
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::kind::Str;
use tiphys_cel::structural::Shape;
use tiphys_cel::{Bindings, Budget, Environment, EvalError, Program, RUNTIME_BUDGET, Type, Value};

use crate::metrics::expressions::{compiling, evaluating};

pub(crate) use estimate::Plugin;

/// A message that an expression makes may have this many bytes.
const MAX_MESSAGE: usize = 5 * 1024;

/// Compiles the rules of a schema and of those in it; `None` without any.
pub(crate) fn compile(schema: &Structural) -> Option<Arc<dyn Rules>> {
    Some(Arc::new(Node::compile(schema, "self")?))
}

/// A schema that has rules, or has some in it.
#[derive(Debug)]
struct Node {
    ty: Type,
    /// What messages call the type.
    name: &'static str,
    rules: Vec<Compiled>,
    properties: BTreeMap<Str, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
    list: ListType,
    /// Parts of the value before and after can be told to be the same.
    correlates: bool,
}

#[derive(Debug)]
struct Compiled {
    source: Arc<Rule>,
    /// What is wrong with a rule that another version of the program has let through.
    program: Result<Program, String>,
    message: Option<Program>,
    /// It speaks of what was there before.
    transition: bool,
}

/// The environment of a rule.
fn environment(ty: &Type, optional: bool) -> Environment {
    let old = if optional { Type::optional(ty.clone()) } else { ty.clone() };
    Environment::new().with("self", ty.clone()).with("oldSelf", old)
}

impl Compiled {
    fn new(rule: &Arc<Rule>, ty: &Type) -> Self {
        let environment = environment(ty, rule.optional_old_self);
        let program = compiling(|| Program::compile(&rule.rule, &environment)).map_err(|e| e.to_string());
        let message = Some(&rule.message_expression)
            .filter(|text| !text.trim().is_empty())
            .and_then(|text| Program::compile(text, &environment).ok());
        let transition = program.as_ref().is_ok_and(|p| p.uses("oldSelf"));
        Self { source: Arc::clone(rule), program, message, transition }
    }

    /// How errors speak of the rule.
    fn told(&self) -> &str {
        match self.source.message.trim() {
            "" => self.source.rule.trim(),
            message => message,
        }
    }
}

impl Node {
    fn compile(schema: &Structural, name: &str) -> Option<Self> {
        let properties: BTreeMap<Str, Self> = schema
            .properties
            .iter()
            .filter_map(|(field, s)| Some((field.clone(), Self::compile(s, &format!("{name}.{field}"))?)))
            .collect();
        let additional = match &schema.additional {
            Some(Additional::Of(s)) => Self::compile(s, &format!("{name}.@values")).map(Box::new),
            _ => None,
        };
        let items = schema.items.as_ref().and_then(|s| Self::compile(s, &format!("{name}.@items")));
        if schema.rules.is_empty() && properties.is_empty() && additional.is_none() && items.is_none() {
            return None;
        }
        let ty = if schema.rules.is_empty() { None } else { Shape::of(schema, name).map(|s| s.ty) };
        let ty = ty.unwrap_or(Type::Dyn);
        Some(Self {
            rules: schema.rules.iter().map(|rule| Compiled::new(rule, &ty)).collect(),
            ty,
            name: schema.ty.map_or("", JsonType::name),
            properties,
            additional,
            items: items.map(Box::new),
            list: schema.list.clone(),
            correlates: !schema.atomic_map,
        })
    }
}

impl Rules for Node {
    fn judge(&self, object: &Json, old: Option<&Json>, errors: &mut Errors) {
        let mut run = Run { budget: Budget::new(RUNTIME_BUDGET), errors };
        // Whoever ran out of budget has told so.
        let _ = run.node(self, object, old, &Path::root(), false);
    }
}

/// No more rules are run.
struct Spent;

struct Run<'e> {
    budget: Budget,
    errors: &'e mut Errors,
}

impl Run<'_> {
    /// `kept`: what surrounds the value is as it was, so nothing new is wrong with it.
    fn node(
        &mut self,
        node: &Node,
        value: &Json,
        old: Option<&Json>,
        path: &Path,
        kept: bool,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let kept = kept || old == Some(value);
        for rule in &node.rules {
            self.rule(node, rule, value, old.filter(|o| !o.is_null()), path, kept)?;
        }
        match value {
            Json::Object(map) => {
                let before = old.filter(|_| node.correlates);
                for (name, value) in map {
                    let before = before.and_then(|o| o.get(name));
                    if let Some(below) = node.properties.get(name.as_str()) {
                        self.node(below, value, before, &path.child(name), kept)?;
                    } else if let Some(below) = &node.additional {
                        self.node(below, value, before, &path.key(name), kept)?;
                    }
                }
            }
            Json::Array(items) => {
                let Some(below) = &node.items else { return Ok(()) };
                for (at, item) in items.iter().enumerate() {
                    let before = node.list.counterpart(item, old);
                    self.node(below, item, before, &path.index(at), kept)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn rule(
        &mut self,
        node: &Node,
        rule: &Compiled,
        value: &Json,
        old: Option<&Json>,
        path: &Path,
        kept: bool,
    ) -> Result<(), Spent> {
        let wrong = |errors: &mut Errors, why: String| errors.push(Error::invalid(path, node.name, why));
        let program = match &rule.program {
            Ok(program) => program,
            Err(why) => {
                wrong(self.errors, format!("rule compile error: compilation failed: {why}"));
                return Ok(());
            }
        };
        if rule.transition && old.is_none() && !rule.source.optional_old_self {
            return Ok(());
        }
        let before = old.map(|old| Value::from_json(old, &node.ty));
        let before = match (rule.source.optional_old_self, before) {
            (true, Some(old)) => Value::some(old),
            (true, None) => Value::Optional(None),
            (false, old) => old.unwrap_or(Value::Null),
        };
        let bindings =
            Bindings::new().with("self", Value::from_json(value, &node.ty)).with("oldSelf", before);
        match evaluating(|| program.evaluate(&bindings, &mut self.budget)) {
            Ok(Value::Bool(true)) => return Ok(()),
            Ok(_) => {}
            Err(error @ EvalError::BudgetSpent) => {
                wrong(self.errors, error.to_string());
                return Err(Spent);
            }
            Err(error @ EvalError::TooDear) => {
                let why = "no further validation rules will be run due to call cost exceeds limit for rule";
                wrong(self.errors, format!("'{error}': {why}: {}", rule.told()));
                return Err(Spent);
            }
            Err(error @ EvalError::Failed(_)) => {
                let text = error.to_string();
                wrong(
                    self.errors,
                    if text.starts_with("no such overload") {
                        let why = "call arguments did not match a supported operator, function or macro \
                                   signature for rule";
                        format!("'{text}': {why}: {}", rule.told())
                    } else {
                        format!("{text} evaluating rule: {}", rule.told())
                    },
                );
                return Ok(());
            }
        }
        if kept && !rule.transition {
            return Ok(());
        }
        let detail = match self.message(rule, &bindings) {
            Ok(Some(text)) => text,
            Ok(None) if rule.source.message.is_empty() => format!("failed rule: {}", rule.source.rule.trim()),
            Ok(None) => rule.source.message.trim().to_owned(),
            Err(why) => {
                wrong(self.errors, why);
                return Err(Spent);
            }
        };
        let path = match rule.source.field_path.trim().trim_start_matches('.') {
            "" => path.clone(),
            below => path.child(below),
        };
        let shown = (!matches!(node.name, "object" | "array")).then(|| value.clone());
        self.errors.push(match (rule.source.reason.as_str(), shown) {
            ("FieldValueForbidden", _) => Error::forbidden(&path, detail),
            ("FieldValueRequired", _) => Error::required(&path, detail),
            ("FieldValueDuplicate", shown) => Error::duplicate(&path, shown.unwrap_or_default()),
            (_, Some(value)) => Error::invalid(&path, value, detail),
            (_, None) => Error::invalid_whole(&path, detail),
        });
        Ok(())
    }

    /// What the message expression says; `Ok(None)` where it has nothing to say that can be told.
    fn message<'a>(&mut self, rule: &'a Compiled, bindings: &Bindings<'a>) -> Result<Option<String>, String> {
        let Some(program) = &rule.message else { return Ok(None) };
        let source = &rule.source.message_expression;
        match program.evaluate(bindings, &mut self.budget) {
            Ok(value) => {
                let text = value.as_str().map(|t| t.trim().to_owned()).unwrap_or_default();
                let fits = !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
                Ok(fits.then_some(text))
            }
            Err(EvalError::BudgetSpent) => {
                Err("messageExpression evaluation failed due to running out of cost \
                                                budget, no further validation rules will be run"
                    .to_owned())
            }
            Err(EvalError::TooDear) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: \
                 {source:?}"
            )),
            Err(EvalError::Failed(why)) => {
                tracing::debug!(why, "a message expression failed");
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
#[path = "../rules_tests.rs"]
mod tests;
