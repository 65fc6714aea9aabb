//! What the expressions of webhooks and policies see of a request, and their match conditions.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use serde_json::Value;
use tiphys_api::meta;
use tiphys_cel::admission::{Declarations, NAMESPACE, REQUEST};
use tiphys_cel::{
    Ask, Bindings, Budget, Decision, Declared, Environment, EvalError, Fields, MATCH_CONDITIONS_BUDGET,
    ObjectType, Program, Type,
};

use super::Attributes;
use crate::authz::{self, Authorizer, Target};
use crate::identity::Identity;

/// The authorizer, asked about the request's user.
pub(super) struct Asker<'a> {
    pub(super) authorizer: &'a dyn Authorizer,
    pub(super) user: &'a Identity,
}

impl tiphys_cel::Authorizer for Asker<'_> {
    fn decide(&self, account: Option<(&str, &str)>, ask: &Ask<'_>) -> Decision {
        let other;
        let user = match account {
            Some((namespace, name)) => {
                other = Identity::service_account(namespace, name, "", Default::default());
                &other
            }
            None => self.user,
        };
        let (verb, target) = match *ask {
            Ask::Path { path, verb } => (verb, Target::Path(path)),
            Ask::Resource { group, resource, subresource, namespace, name, verb, field_selector, .. } => (
                verb,
                Target::Resource {
                    group,
                    version: "*",
                    resource,
                    subresource,
                    namespace,
                    name,
                    field_selector,
                },
            ),
        };
        match self.authorizer.authorize(&authz::Attributes { user, verb, target }) {
            authz::Decision::Allow { reason } => Decision { allowed: true, reason, error: None },
            authz::Decision::Deny { reason } | authz::Decision::NoOpinion { reason } => {
                Decision { allowed: false, reason, error: None }
            }
        }
    }
}

/// What one request shows to expressions. `Null` stands for what there is not.
pub(super) struct Input<'a> {
    pub(super) object: &'a Value,
    pub(super) old: &'a Value,
    /// The `AdmissionRequest` without the objects.
    pub(super) request: &'a Value,
    pub(super) namespace: &'a Value,
    pub(super) params: Option<&'a Value>,
    pub(super) asker: Option<&'a Asker<'a>>,
    pub(super) attributes: &'a Attributes<'a>,
}

impl<'a> Input<'a> {
    pub(super) fn bindings(&self) -> Bindings<'a> {
        let dynamic = |value: &'a Value| tiphys_cel::Value::from_json(value, &Type::Dyn);
        let mut bindings = Bindings::new()
            .with("object", dynamic(self.object))
            .with("oldObject", dynamic(self.old))
            .with("request", tiphys_cel::Value::from_json(self.request, &REQUEST))
            .with("namespaceObject", tiphys_cel::Value::from_json(self.namespace, &NAMESPACE))
            .with("params", self.params.map_or(tiphys_cel::Value::Null, dynamic));
        if let Some(asker) = self.asker {
            let a = self.attributes;
            let about = [a.group, a.resource, a.subresource, a.namespace, a.name];
            bindings.set("authorizer", tiphys_cel::Value::authorizer(asker));
            bindings.set("authorizer.requestResource", tiphys_cel::Value::request_resource(asker, about));
        }
        bindings
    }
}

/// An expression that has been compiled, with its source; or why it could not be, as upstream tells it.
#[derive(Debug)]
pub(super) struct Expression {
    pub(super) source: String,
    pub(super) program: Result<Program, String>,
}

impl Expression {
    /// `wanted` are the types that its value may have; none means any.
    pub(super) fn compile(source: &str, environment: &Environment, wanted: &[Type]) -> Self {
        let compiled = Program::compile(source, environment).map_err(|e| format!("compilation failed: {e}"));
        let program = compiled.and_then(|program| {
            let found = program.result_type();
            let name = |ty: &Type| match ty {
                Type::Null => "null_type".to_owned(),
                other => other.to_string(),
            };
            match wanted {
                [] => Ok(program),
                _ if wanted.iter().any(|ty| ty.same(found)) => Ok(program),
                [one] => Err(format!("must evaluate to {} but got {}", name(one), name(found))),
                many => {
                    let many = many.iter().map(name).collect::<Vec<_>>().join(" ");
                    Err(format!("must evaluate to one of [{many}] but got {}", name(found)))
                }
            }
        });
        Self { source: source.to_owned(), program }
    }

    /// The outer error ends the evaluation of everything else, too; the inner one is this expression's own.
    pub(super) fn evaluate<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        budget: &mut Budget,
    ) -> Result<Result<tiphys_cel::Value<'a>, String>, String> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        match program.evaluate(bindings, budget) {
            Ok(value) => Ok(Ok(value)),
            Err(spent @ EvalError::BudgetSpent) => Err(spent.to_string()),
            Err(error) => Ok(Err(format!("expression '{}' resulted in error: {error}", self.source))),
        }
    }
}

/// The variables of a policy, in their order; each sees those before it.
#[derive(Debug, Default)]
pub(super) struct Variables {
    all: Vec<(String, Expression)>,
}

impl Variables {
    /// Compiles `variables`, and tells `declarations` of them.
    pub(super) fn compile(variables: &[Value], declarations: &mut Declarations) -> Self {
        let mut all: Vec<(String, Expression)> = Vec::new();
        for variable in variables {
            declarations.variables = Some(declared(&all));
            let text = |field| meta::text(variable, &[field]);
            let expression = Expression::compile(text("expression"), &declarations.environment(), &[]);
            all.push((text("name").to_owned(), expression));
        }
        declarations.variables = Some(declared(&all));
        Self { all }
    }

    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.all.iter().map(|(_, expression)| expression)
    }

    /// Binds `variables`; each is evaluated when it is first asked for.
    pub(super) fn bind<'a>(&'a self, mut bindings: Bindings<'a>) -> Bindings<'a> {
        let lazy = Rc::new_cyclic(|me: &Weak<Lazy<'a>>| Lazy {
            variables: self,
            bindings: bindings.clone(),
            found: RefCell::new(vec![None; self.all.len()]),
            me: me.clone(),
        });
        bindings.set("variables", tiphys_cel::Value::Object(lazy));
        bindings
    }
}

/// The type of variables so far. One that is wrong may be anything: whoever uses it hears what is wrong with it.
fn declared(all: &[(String, Expression)]) -> Arc<dyn ObjectType> {
    let ty = |e: &Expression| e.program.as_ref().map_or(Type::Dyn, |p| p.result_type().clone());
    Declared::plain("kubernetes.variables", all.iter().map(|(name, e)| (name.as_str(), ty(e))))
}

/// Variables with the values that they have been found to have.
struct Lazy<'a> {
    variables: &'a Variables,
    bindings: Bindings<'a>,
    found: RefCell<Vec<Option<Result<tiphys_cel::Value<'a>, EvalError>>>>,
    me: Weak<Self>,
}

impl<'a> Fields<'a> for Lazy<'a> {
    fn type_name(&self) -> &str {
        "kubernetes.variables"
    }

    fn get(&self, name: &str, budget: &mut Budget) -> Option<Result<tiphys_cel::Value<'a>, EvalError>> {
        let at = self.variables.all.iter().rposition(|(n, _)| n == name)?;
        if let Some(known) = &self.found.borrow()[at] {
            return Some(known.clone());
        }
        let result = match &self.variables.all[at].1.program {
            Err(why) => {
                Err(EvalError::Failed(format!("composited variable {name:?} fails to compile: {why}")))
            }
            Ok(program) => {
                let mut bindings = self.bindings.clone();
                if let Some(me) = self.me.upgrade() {
                    bindings.set("variables", tiphys_cel::Value::Object(me));
                }
                program.evaluate(&bindings, budget).map_err(|error| match error {
                    EvalError::BudgetSpent => EvalError::BudgetSpent,
                    error => {
                        EvalError::Failed(format!("composited variable {name:?} fails to evaluate: {error}"))
                    }
                })
            }
        };
        self.found.borrow_mut()[at] = Some(result.clone());
        Some(result)
    }
}

/// `matchConditions`: a request that does not fulfil one of them is none of the webhook's or policy's business.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(super) fn compile(conditions: &[Value], declarations: &Declarations) -> Self {
        if conditions.is_empty() {
            return Self::default();
        }
        let environment = declarations.environment();
        let expression =
            |c: &Value| Expression::compile(meta::text(c, &["expression"]), &environment, &[Type::Bool]);
        Self(conditions.iter().map(expression).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter()
    }

    /// Whether all hold. One that does not wins over errors of others.
    pub(super) fn hold<'a>(&'a self, bindings: &Bindings<'a>) -> Result<bool, String> {
        let mut budget = Budget::new(MATCH_CONDITIONS_BUDGET);
        let mut errors = Vec::new();
        for condition in &self.0 {
            match condition.evaluate(bindings, &mut budget)? {
                Ok(tiphys_cel::Value::Bool(true)) => {}
                Ok(_) => return Ok(false),
                Err(why) => errors.push(why),
            }
        }
        match errors.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            many => Err(format!("[{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
#[path = "expressions_tests.rs"]
mod tests;
