//! Policies and bindings, compiled; and what is wrong with a policy's expressions.

use serde_json::Value;
use tiphys_api::field::{Error, Path};
use tiphys_api::meta;
use tiphys_api::status::Status;
use tiphys_cel::Type;
use tiphys_cel::admission::Declarations;
use tiphys_store::Revision;

use super::params::{ParamKind, ParamRef};
use super::{GROUP, title};
use crate::admission::Phase;
use crate::admission::expressions::{Conditions, Expression, Variables};
use crate::admission::matching::Matcher;

/// A policy.
#[derive(Debug)]
pub(super) struct Policy {
    pub(super) name: String,
    pub(super) revision: Revision,
    /// Or why its constraints are none.
    pub(super) matcher: Result<Matcher, String>,
    pub(super) ignores_failures: bool,
    pub(super) param_kind: Option<ParamKind>,
    pub(super) conditions: Conditions,
    pub(super) variables: Variables,
    pub(super) work: Work,
}

/// What it does.
#[derive(Debug)]
pub(super) enum Work {
    Validate { validations: Vec<Validation>, annotations: Vec<Annotation> },
    Mutate { mutations: Vec<Mutation>, reinvoked: bool },
}

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) expression: Expression,
    pub(super) message: String,
    pub(super) message_expression: Option<Expression>,
    /// Empty for the default.
    pub(super) reason: String,
}

#[derive(Debug)]
pub(super) struct Annotation {
    pub(super) key: String,
    pub(super) value: Expression,
}

#[derive(Debug)]
pub(super) enum Mutation {
    Apply(Expression),
    Patch(Expression),
}

impl Mutation {
    fn expression(&self) -> &Expression {
        match self {
            Self::Apply(expression) | Self::Patch(expression) => expression,
        }
    }
}

/// A binding.
#[derive(Debug)]
pub(super) struct Binding {
    pub(super) name: String,
    /// The name of its policy.
    pub(super) policy: String,
    pub(super) matcher: Result<Matcher, String>,
    pub(super) params: Option<ParamRef>,
    /// `validationActions`
    pub(super) actions: Vec<String>,
}

impl Binding {
    pub(super) fn read(name: &str, object: &Value) -> Self {
        let spec = &object["spec"];
        let actions = meta::items(spec, &["validationActions"]).iter().filter_map(Value::as_str);
        Self {
            name: name.to_owned(),
            policy: meta::text(spec, &["policyName"]).to_owned(),
            matcher: Matcher::resources(&spec["matchResources"]).map_err(|e| e.to_string()),
            params: ParamRef::read(&spec["paramRef"]),
            actions: actions.map(str::to_owned).collect(),
        }
    }
}

impl Policy {
    pub(super) fn read(phase: Phase, name: &str, revision: Revision, object: &Value) -> Self {
        let spec = &object["spec"];
        let param_kind = spec["paramKind"].is_object().then(|| ParamKind {
            api_version: meta::text(spec, &["paramKind", "apiVersion"]).to_owned(),
            kind: meta::text(spec, &["paramKind", "kind"]).to_owned(),
        });
        let mut declarations =
            Declarations { params: param_kind.is_some(), authorizer: true, ..Declarations::default() };
        let variables = Variables::compile(meta::items(spec, &["variables"]), &mut declarations);
        Self {
            name: name.to_owned(),
            revision,
            matcher: Matcher::resources(&spec["matchConstraints"]).map_err(|e| e.to_string()),
            ignores_failures: meta::text(spec, &["failurePolicy"]) == "Ignore",
            param_kind,
            conditions: Conditions::compile(meta::items(spec, &["matchConditions"]), &declarations),
            variables,
            work: match phase {
                Phase::Validating => validate(spec, &declarations),
                Phase::Mutating => mutate(spec, declarations),
            },
        }
    }

    /// Every expression with the place in the object where it stands.
    fn expressions(&self) -> Vec<(String, &Expression)> {
        let mut found: Vec<(String, &Expression)> = Vec::new();
        for (i, expression) in self.variables.expressions().enumerate() {
            found.push((format!("spec.variables[{i}].expression"), expression));
        }
        for (i, expression) in self.conditions.expressions().enumerate() {
            found.push((format!("spec.matchConditions[{i}].expression"), expression));
        }
        match &self.work {
            Work::Validate { validations, annotations } => {
                for (i, validation) in validations.iter().enumerate() {
                    found.push((format!("spec.validations[{i}].expression"), &validation.expression));
                    let message = validation.message_expression.as_ref();
                    found.extend(message.map(|m| (format!("spec.validations[{i}].messageExpression"), m)));
                }
                for (i, annotation) in annotations.iter().enumerate() {
                    found.push((format!("spec.auditAnnotations[{i}].valueExpression"), &annotation.value));
                }
            }
            Work::Mutate { mutations, .. } => {
                for (i, mutation) in mutations.iter().enumerate() {
                    let way = match mutation {
                        Mutation::Apply(_) => "applyConfiguration",
                        Mutation::Patch(_) => "jsonPatch",
                    };
                    found.push((format!("spec.mutations[{i}].{way}.expression"), mutation.expression()));
                }
            }
        }
        found
    }
}

fn validate(spec: &Value, declarations: &Declarations) -> Work {
    let environment = declarations.environment();
    // A message is no place for questions to the authorizer.
    let messages = Declarations { authorizer: false, ..declarations.clone() }.environment();
    let validations = meta::items(spec, &["validations"]).iter().map(|validation| {
        let text = |field| meta::text(validation, &[field]);
        let message = Some(text("messageExpression")).filter(|m| !m.is_empty());
        Validation {
            expression: Expression::compile(text("expression"), &environment, &[Type::Bool]),
            message: text("message").to_owned(),
            message_expression: message.map(|m| Expression::compile(m, &messages, &[Type::String])),
            reason: text("reason").to_owned(),
        }
    });
    let annotations = meta::items(spec, &["auditAnnotations"]).iter().map(|annotation| {
        let text = |field| meta::text(annotation, &[field]);
        let value = Expression::compile(text("valueExpression"), &environment, &[Type::String, Type::Null]);
        Annotation { key: text("key").to_owned(), value }
    });
    Work::Validate { validations: validations.collect(), annotations: annotations.collect() }
}

fn mutate(spec: &Value, declarations: Declarations) -> Work {
    let environment = Declarations { patches: true, ..declarations }.environment();
    let object = |name| tiphys_cel::patch_type(name).map_or(Type::Dyn, Type::Object);
    let mutations = meta::items(spec, &["mutations"]).iter().map(|mutation| {
        let text = |way| meta::text(mutation, &[way, "expression"]);
        match meta::text(mutation, &["patchType"]) {
            "JSONPatch" => {
                let wanted = Type::list(object("JSONPatch"));
                Mutation::Patch(Expression::compile(text("jsonPatch"), &environment, &[wanted]))
            }
            _ => Mutation::Apply(Expression::compile(
                text("applyConfiguration"),
                &environment,
                &[object("Object")],
            )),
        }
    });
    Work::Mutate {
        mutations: mutations.collect(),
        reinvoked: meta::text(spec, &["reinvocationPolicy"]) == "IfNeeded",
    }
}

/// Refuses a policy that is written with expressions that mean nothing. What stays as it is is not judged again.
pub(super) fn check(phase: Phase, object: &Value, old: &Value) -> Result<(), Status> {
    if object["spec"] == old["spec"] {
        return Ok(());
    }
    let policy = Policy::read(phase, meta::name(object), Revision::ZERO, object);
    let errors: Vec<Error> = policy
        .expressions()
        .into_iter()
        .filter_map(|(place, expression)| {
            let why = expression.program.as_ref().err()?;
            Some(Error::invalid(&Path::new(&place), expression.source.as_str(), why.as_str()))
        })
        .collect();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(GROUP, title(phase), meta::name(object), &errors))
}
