//! Environments, programs and what they may cost.

use std::sync::Arc;

use crate::check::{Checked, check};
use crate::error::{Errors, EvalError};
use crate::eval::Evaluator;
use crate::library::Regexes;
use crate::syntax::ast::{Expr, Literal, Node};
use crate::syntax::parse;
use crate::types::{ObjectType, Type};
use crate::value::Value;

/// What one expression may cost when it runs.
pub const PER_CALL_LIMIT: u64 = 1_000_000;
/// What all expressions of one policy binding, or of one custom resource, may cost together.
pub const RUNTIME_BUDGET: u64 = 10_000_000;
/// What all match conditions of one webhook or binding may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// Gives the type that an expression constructs by its name, as `Object.spec{...}`.
pub type Constructor = fn(&str) -> Option<Arc<dyn ObjectType>>;

/// The variables that an expression may use, with their types.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    variables: Vec<(Arc<str>, Type)>,
    constructor: Option<Constructor>,
    binds: bool,
}

impl Environment {
    pub fn new() -> Self {
        Self::default()
    }

    /// Also has a variable. Its name may have dots: `authorizer.requestResource`.
    #[must_use]
    pub fn with(mut self, name: &str, ty: Type) -> Self {
        self.variables.retain(|(n, _)| **n != *name);
        self.variables.push((name.into(), ty));
        self
    }

    /// Lets expressions construct objects.
    #[must_use]
    pub fn with_constructor(mut self, constructor: Constructor) -> Self {
        self.constructor = Some(constructor);
        self
    }

    /// Lets expressions name what they use more than once: `cel.bind(name, value, body)`.
    #[must_use]
    pub fn with_bind(mut self) -> Self {
        self.binds = true;
        self
    }

    pub(crate) fn variable(&self, name: &str) -> Option<(usize, &Type)> {
        let at = self.variables.iter().position(|(n, _)| **n == *name)?;
        Some((at, &self.variables[at].1))
    }

    pub(crate) fn constructed(&self, name: &str) -> Option<Arc<dyn ObjectType>> {
        self.constructor.and_then(|of| of(name))
    }
}

/// The values of variables, by their names.
#[derive(Clone, Debug, Default)]
pub struct Bindings<'a> {
    values: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Bindings<'a> {
    pub fn new() -> Self {
        Self { values: Vec::new() }
    }

    #[must_use]
    pub fn with(mut self, name: &'a str, value: Value<'a>) -> Self {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &'a str, value: Value<'a>) {
        self.values.retain(|(n, _)| *n != name);
        self.values.push((name, value));
    }

    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.values.iter().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// What may still be spent: by all expressions together, and by the one that runs.
#[derive(Clone, Debug)]
pub struct Budget {
    remaining: u64,
    call: u64,
    per_call: u64,
}

impl Budget {
    /// So much for all expressions, and [`PER_CALL_LIMIT`] for each.
    pub fn new(total: u64) -> Self {
        Self { remaining: total, call: 0, per_call: PER_CALL_LIMIT }
    }

    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    pub(crate) fn spend(&mut self, cost: u64) -> Result<(), EvalError> {
        self.call = self.call.checked_sub(cost).ok_or(EvalError::TooDear)?;
        self.remaining = self.remaining.checked_sub(cost).ok_or_else(|| {
            self.remaining = 0;
            EvalError::BudgetSpent
        })?;
        Ok(())
    }
}

/// A checked expression, ready to run any number of times and on any thread.
pub struct Program {
    pub(crate) source: String,
    pub(crate) expr: Expr,
    pub(crate) checked: Checked,
    pub(crate) regexes: Regexes,
    /// The names of the environment's variables, by their places.
    pub(crate) variables: Vec<Arc<str>>,
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Program").field(&self.source).finish()
    }
}

impl Program {
    /// Parses and checks a source of at most 100,000 code points and 250 levels.
    pub fn compile(source: &str, environment: &Environment) -> Result<Self, Errors> {
        let parsed = parse(source, environment.binds)?;
        let mut errors = Errors::of(source);
        let checked = check(&parsed.expr, parsed.nodes, environment, &mut errors);
        let mut regexes = Regexes::default();
        if errors.is_empty() {
            literals(&parsed.expr, &mut regexes, &mut errors);
        }
        if !errors.is_empty() {
            return Err(errors.sorted());
        }
        let variables = environment.variables.iter().map(|(name, _)| Arc::clone(name)).collect();
        Ok(Self { source: source.to_owned(), expr: parsed.expr, checked, regexes, variables })
    }

    pub fn source(&self) -> &str {
        &self.source
    }

    /// The type of its value.
    pub fn result_type(&self) -> &Type {
        &self.checked.types[self.expr.id as usize]
    }

    /// Its value. Deterministic but for what the authorizer says; what it costs is spent from the budget, also
    /// when it fails.
    pub fn evaluate<'a>(
        &'a self,
        bindings: &Bindings<'a>,
        budget: &mut Budget,
    ) -> Result<Value<'a>, EvalError> {
        // An expression may be running already: the one that asks for a variable.
        let outer = std::mem::replace(&mut budget.call, budget.per_call);
        let result = Evaluator::new(self, bindings, budget).run();
        budget.call = outer;
        result
    }

    /// Whether it mentions a variable of the environment.
    pub fn uses(&self, name: &str) -> bool {
        let place = self.variables.iter().position(|n| **n == *name);
        self.checked
            .references
            .iter()
            .any(|r| matches!(r, crate::check::Reference::Global(at) if Some(*at) == place))
    }
}

impl Program {
    /// Whether it reads `variable.field`, `variable.?field` or asks whether there is one.
    pub fn selects(&self, variable: &str, field: &str) -> bool {
        let mut found = false;
        each(&self.expr, &mut |expr| {
            if let Node::Select { operand, field: selected, .. } = &expr.node
                && let Node::Ident(name) = &operand.node
            {
                found |= **name == *variable && **selected == *field;
            }
        });
        found
    }
}

/// Looks at the literals that functions are given: patterns are compiled once, and durations, times and patterns
/// that are none are mistakes.
fn literals(expr: &Expr, regexes: &mut Regexes, errors: &mut Errors) {
    each(expr, &mut |expr| {
        let Node::Call { function, target, args } = &expr.node else { return };
        let text = |arg: Option<&Expr>| match arg.map(|a| &a.node) {
            Some(Node::Literal(Literal::String(s))) => Some(Arc::clone(s)),
            _ => None,
        };
        let at = |arg: Option<&Expr>| arg.map_or(expr.at, |a| a.at);
        match function.as_ref() {
            "matches" | "find" | "findAll" => {
                let arg = args.get(usize::from(target.is_none()));
                if let Some(pattern) = text(arg)
                    && regexes.learn(&pattern).is_err()
                {
                    errors.add(at(arg), format!("invalid {function} argument"));
                }
            }
            "duration" | "timestamp" if target.is_none() => {
                let right = |s: &str| match function.as_ref() {
                    "duration" => crate::duration::parse(s).is_some(),
                    _ => crate::time::parse(s).is_some(),
                };
                if text(args.first()).is_some_and(|s| !right(&s)) {
                    errors.add(at(args.first()), format!("invalid {function} argument"));
                }
            }
            _ => {}
        }
    });
}

/// Visits a tree's nodes.
fn each(expr: &Expr, visit: &mut impl FnMut(&Expr)) {
    visit(expr);
    match &expr.node {
        Node::Literal(_) | Node::Ident(_) => {}
        Node::Select { operand, .. } => each(operand, visit),
        Node::Call { target, args, .. } => {
            target.iter().for_each(|t| each(t, visit));
            args.iter().for_each(|a| each(a, visit));
        }
        Node::Logic { terms, .. } => terms.iter().for_each(|t| each(t, visit)),
        Node::Conditional(parts) => parts.iter().for_each(|p| each(p, visit)),
        Node::List(items) => items.iter().for_each(|(i, _)| each(i, visit)),
        Node::Map(entries) => entries.iter().for_each(|(k, v, _)| {
            each(k, visit);
            each(v, visit);
        }),
        Node::Struct { fields, .. } => fields.iter().for_each(|(_, v, _)| each(v, visit)),
        Node::Fold(fold) => {
            each(&fold.range, visit);
            fold.filter.iter().for_each(|f| each(f, visit));
            each(&fold.body, visit);
        }
        Node::OptMap { target, body, .. } => {
            each(target, visit);
            each(body, visit);
        }
    }
}
