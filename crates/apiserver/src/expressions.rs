//! Expressions that configurations of all sorts hold: compiled once, with the errors that upstream tells.

use serde_json::Value;
use tiphys_api::meta;
use tiphys_cel::admission::Declarations;
use tiphys_cel::{Bindings, Budget, Environment, EvalError, MATCH_CONDITIONS_BUDGET, Program, Type};

use crate::metrics::expressions::{compiling, evaluating};

/// An expression that has been compiled, with its source; or why it could not be, as upstream tells it.
#[derive(Debug)]
pub(crate) struct Expression {
    pub(crate) source: String,
    pub(crate) program: Result<Program, String>,
}

impl Expression {
    /// `wanted` are the types that its value may have; none means any.
    pub(crate) fn compile(source: &str, environment: &Environment, wanted: &[Type]) -> Self {
        let compiled = compiling(|| Program::compile(source, environment))
            .map_err(|e| format!("compilation failed: {e}"));
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
    pub(crate) fn evaluate<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        budget: &mut Budget,
    ) -> Result<Result<tiphys_cel::Value<'a>, String>, String> {
        let program = match &self.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        match evaluating(|| program.evaluate(bindings, budget)) {
            Ok(value) => Ok(Ok(value)),
            Err(spent @ EvalError::BudgetSpent) => Err(spent.to_string()),
            Err(error) => Ok(Err(format!("expression '{}' resulted in error: {error}", self.source))),
        }
    }
}

/// `matchConditions`: a request that does not fulfil one of them is none of the webhook's or policy's business.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Vec<Expression>);

impl Conditions {
    pub(crate) fn compile(conditions: &[Value], declarations: &Declarations) -> Self {
        if conditions.is_empty() {
            return Self::default();
        }
        let sources = conditions.iter().map(|condition| meta::text(condition, &["expression"]));
        Self::of(sources, &declarations.environment())
    }

    /// Compiles the sources of conditions.
    pub(crate) fn of<'s>(sources: impl Iterator<Item = &'s str>, environment: &Environment) -> Self {
        Self(sources.map(|source| Expression::compile(source, environment, &[Type::Bool])).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn expressions(&self) -> impl Iterator<Item = &Expression> {
        self.0.iter()
    }

    /// Whether all hold. One that does not wins over errors of others.
    pub(crate) fn hold<'a>(&'a self, bindings: &Bindings<'a>) -> Result<bool, String> {
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
