//! What is wrong with the rules of a definition, before any of them runs: mistakes, and what they might cost.

use async_trait::async_trait;
use serde_json::Value as Json;
use tiphys_api::custom::{Additional, Rule, Structural};
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::meta;
use tiphys_api::status::Status;
use tiphys_cel::structural::{MAX_REQUEST, Shape};
use tiphys_cel::{Program, Type};

use super::environment;
use crate::admission::{self, Attributes, Operation};
use crate::definitions::{GROUP, RESOURCE};

/// What one rule may be estimated to cost.
const MOST_EACH: u64 = 10_000_000;
/// What all rules of a schema may be estimated to cost together.
const MOST_TOGETHER: u64 = 100_000_000;
/// How many of the dearest expressions are named where all together are too dear.
const TOLD: usize = 4;
const HINT: &str = "try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, \
                    and strings are declared";

/// Refuses definitions whose rules have mistakes or may be too dear.
#[derive(Debug)]
pub(crate) struct Plugin;

#[async_trait]
impl admission::Plugin for Plugin {
    fn name(&self) -> &'static str {
        "CustomResourceValidationRules"
    }

    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        let written = matches!(attributes.operation, Operation::Create | Operation::Update);
        written
            && attributes.group == GROUP
            && attributes.resource == RESOURCE
            && attributes.subresource.is_empty()
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: &Json, old: &Json) -> Result<(), Status> {
        let errors = check(object, old);
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(attributes.group, attributes.kind, meta::name(object), &errors))
    }
}

/// What is wrong with the rules of a definition, as far as they are new.
pub(super) fn check(definition: &Json, old: &Json) -> Errors {
    let mut errors = Errors::new();
    let path = Path::new("spec").child("versions");
    for (at, version) in meta::items(definition, &["spec", "versions"]).iter().enumerate() {
        let schema = &version["schema"]["openAPIV3Schema"];
        let before = meta::items(old, &["spec", "versions"]).iter().find(|v| v["name"] == version["name"]);
        if !schema.is_object() || before.is_some_and(|v| v["schema"]["openAPIV3Schema"] == *schema) {
            continue;
        }
        let mut compiled = Structural::compile(schema);
        compiled.embedded = true;
        let path = path.index(at).child("schema").child("openAPIV3Schema");
        let mut walk = Walk { errors: &mut errors, total: 0, dear: Vec::new() };
        walk.schema(&compiled, "self", &path, Some(1), None);
        let Walk { total, mut dear, .. } = walk;
        if total > MOST_TOGETHER {
            dear.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            for (at, _) in dear.iter().take(TOLD) {
                let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                errors.push(Error::forbidden(at, why));
            }
            let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            errors.push(Error::forbidden(&path, too_dear(what, total, MOST_TOGETHER)));
        }
    }
    errors
}

fn too_dear(what: &str, cost: u64, most: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "a factor for people to read")]
    let factor = cost as f64 / most as f64;
    let factor = match factor {
        f if f > 100.0 => "more than 100x".to_owned(),
        f if f < 1.5 => format!("{f:.6}x"),
        f => format!("{f:.1}x"),
    };
    format!("{what} exceeds budget by factor of {factor} ({HINT})")
}

struct Walk<'e> {
    errors: &'e mut Errors,
    total: u64,
    /// Expressions that make up a hundredth of what all may cost, or more.
    dear: Vec<(Path, u64)>,
}

impl Walk<'_> {
    /// `count`: how often the schema's values can be there; `None`: as often as a request is long.
    /// `uncorrelated`: the part of the schema in which nobody knows what a value was before.
    fn schema(
        &mut self,
        schema: &Structural,
        name: &str,
        path: &Path,
        count: Option<u64>,
        uncorrelated: Option<&Path>,
    ) {
        if !schema.any(&|s| !s.rules.is_empty()) {
            return;
        }
        if !schema.rules.is_empty() {
            let shape = Shape::of(schema, name);
            for (at, rule) in schema.rules.iter().enumerate() {
                let path = path.child("x-kubernetes-validations").index(at);
                match &shape {
                    Some(shape) => self.rule(rule, shape, &path, count, uncorrelated),
                    None => {
                        let why = "expressions cannot see values of this schema: it has no type";
                        self.errors.push(Error::invalid(&path.child("rule"), rule.rule.as_str(), why));
                    }
                }
            }
        }
        let times = |most: Option<u64>| Some(count?.saturating_mul(most?));
        let within = |uncorrelatable: bool| uncorrelated.or(uncorrelatable.then_some(path));
        for (field, property) in &schema.properties {
            let at = path.child("properties").key(field);
            self.schema(property, &format!("{name}.{field}"), &at, count, within(schema.atomic_map));
        }
        if let Some(items) = &schema.items {
            let keyed = matches!(schema.list, tiphys_api::custom::ListType::Map(_));
            let at = path.child("items");
            self.schema(items, &format!("{name}.@items"), &at, times(schema.max_items), within(!keyed));
        }
        if let Some(Additional::Of(values)) = &schema.additional {
            let at = path.child("additionalProperties");
            let name = format!("{name}.@values");
            self.schema(values, &name, &at, times(schema.max_properties), within(false));
        }
    }

    fn count(&mut self, path: &Path, cost: u64) {
        self.total = self.total.saturating_add(cost);
        if cost >= MOST_TOGETHER / 100 {
            self.dear.push((path.clone(), cost));
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        shape: &Shape,
        path: &Path,
        count: Option<u64>,
        uncorrelated: Option<&Path>,
    ) {
        let shown = || Json::from(rule.rule.as_str());
        let environment = environment(&shape.ty, rule.optional_old_self);
        let program = match Program::compile(&rule.rule, &environment) {
            Ok(program) => program,
            Err(errors) => {
                let why = format!("compilation failed: {errors}");
                return self.errors.push(Error::invalid(&path.child("rule"), shown(), why));
            }
        };
        if !matches!(program.result_type(), Type::Bool) {
            let why = "cel expression must evaluate to a bool";
            return self.errors.push(Error::invalid(&path.child("rule"), shown(), why));
        }
        let count = count.unwrap_or(MAX_REQUEST / (shape.least + 1));
        let cost = program.estimate(shape).max.saturating_mul(count);
        self.count(&path.child("rule"), cost);
        if cost > MOST_EACH {
            let why = too_dear("estimated rule cost", cost, MOST_EACH);
            self.errors.push(Error::forbidden(&path.child("rule"), why));
        }
        if program.uses("oldSelf") {
            if let Some(uncorrelated) = uncorrelated {
                let why = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {uncorrelated}"
                );
                self.errors.push(Error::invalid(&path.child("rule"), shown(), why));
            }
        } else if rule.optional_old_self {
            let why = "may not be set if oldSelf is not used in rule";
            self.errors.push(Error::invalid(&path.child("optionalOldSelf"), true, why));
        }
        if !rule.message_expression.trim().is_empty() {
            self.message(rule, shape, path);
        }
    }

    fn message(&mut self, rule: &Rule, shape: &Shape, path: &Path) {
        let at = path.child("messageExpression");
        let shown = || Json::from(rule.message_expression.as_str());
        match Program::compile(&rule.message_expression, &environment(&shape.ty, rule.optional_old_self)) {
            Err(errors) => {
                let why = format!("messageExpression compilation failed: {errors}");
                self.errors.push(Error::invalid(&at, shown(), why));
            }
            Ok(program) if !matches!(program.result_type(), Type::String) => {
                let why = "messageExpression must evaluate to a string";
                self.errors.push(Error::invalid(&at, shown(), why));
            }
            Ok(program) => {
                let cost = program.estimate(shape).max;
                self.count(&at, cost);
                if cost > MOST_EACH {
                    let why = too_dear("estimated messageExpression cost", cost, MOST_EACH);
                    self.errors.push(Error::forbidden(&at, why));
                }
            }
        }
    }
}
