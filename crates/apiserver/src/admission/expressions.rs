//! What the expressions of webhooks and policies see of a request, and their match conditions.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;
use tiphys_api::meta;
use tiphys_cel::admission::{Declarations, NAMESPACE, REQUEST};
use tiphys_cel::{Ask, Bindings, Budget, Decision, Declared, EvalError, Fields, ObjectType, Type};

use super::Attributes;
use crate::authz::{self, Chain, Target};
use crate::identity::Identity;

pub(super) use crate::expressions::{Conditions, Expression};

/// The authorizer, asked about the request's user.
///
/// Expressions don't wait. What a webhook has to be asked is noted, and whatever comes of the expression meanwhile is
/// thrown away: [`Self::settled`] asks, and evaluates once more with the answer.
pub(super) struct Asker<'a> {
    chain: &'a Chain,
    user: &'a Identity,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    answers: HashMap<Question, Decision>,
    open: Vec<Question>,
}

/// What an expression asks.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Question {
    /// Of this service account instead of the user.
    account: Option<(String, String)>,
    verb: String,
    about: About,
}

#[derive(Clone, PartialEq, Eq, Hash)]
enum About {
    Path(String),
    /// Group, resource, subresource, namespace, name, field selector and label selector.
    Resource([String; 7]),
}

impl Question {
    fn of(account: Option<(&str, &str)>, ask: &Ask<'_>) -> Self {
        let (verb, about) = match *ask {
            Ask::Path { path, verb } => (verb, About::Path(path.to_owned())),
            Ask::Resource {
                group,
                resource,
                subresource,
                namespace,
                name,
                verb,
                field_selector,
                label_selector,
            } => {
                let parts = [group, resource, subresource, namespace, name, field_selector, label_selector];
                (verb, About::Resource(parts.map(str::to_owned)))
            }
        };
        let account = account.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        Self { account, verb: verb.to_owned(), about }
    }

    fn target(&self) -> Target<'_> {
        match &self.about {
            About::Path(path) => Target::Path(path),
            About::Resource(parts) => {
                let [group, resource, subresource, namespace, name, field_selector, label_selector] =
                    parts.each_ref().map(String::as_str);
                Target::Resource {
                    group,
                    version: "*",
                    resource,
                    subresource,
                    namespace,
                    name,
                    field_selector,
                    label_selector,
                }
            }
        }
    }

    /// Whom it is about, where that is not the request's user.
    fn other(&self) -> Option<Identity> {
        let account = |(namespace, name): &(String, String)| {
            Identity::service_account(namespace, name, "", Default::default())
        };
        self.account.as_ref().map(account)
    }
}

impl<'a> Asker<'a> {
    pub(super) fn new(chain: &'a Chain, user: &'a Identity) -> Self {
        Self { chain, user, asked: Mutex::default() }
    }

    /// What `evaluate` gives once all that it asks has been answered. Each round answers something that the last one
    /// lacked, and what an evaluation may ask is bounded by what it may cost.
    pub(super) async fn settled<T>(&self, mut evaluate: impl FnMut() -> T) -> T {
        loop {
            let found = evaluate();
            let open = std::mem::take(&mut self.asked.lock().open);
            if open.is_empty() {
                return found;
            }
            for question in open {
                let other = question.other();
                let user = other.as_ref().unwrap_or(self.user);
                let attributes = authz::Attributes { user, verb: &question.verb, target: question.target() };
                let decision = told(self.chain.authorize(&attributes).await);
                self.asked.lock().answers.insert(question, decision);
            }
        }
    }
}

/// An answer as expressions read it.
fn told(decision: authz::Decision) -> Decision {
    match decision {
        authz::Decision::Allow { reason } => Decision { allowed: true, reason, error: None },
        authz::Decision::Deny { reason } | authz::Decision::NoOpinion { reason } => {
            Decision { allowed: false, reason, error: None }
        }
        authz::Decision::Failed { error, .. } => {
            Decision { allowed: false, reason: String::new(), error: Some(error) }
        }
    }
}

impl tiphys_cel::Authorizer for Asker<'_> {
    fn decide(&self, account: Option<(&str, &str)>, ask: &Ask<'_>) -> Decision {
        let question = Question::of(account, ask);
        let other = question.other();
        let user = other.as_ref().unwrap_or(self.user);
        let attributes = authz::Attributes { user, verb: &question.verb, target: question.target() };
        if let Ok(decision) = self.chain.decide(&attributes) {
            return told(decision);
        }
        let mut asked = self.asked.lock();
        if let Some(decision) = asked.answers.get(&question) {
            return decision.clone();
        }
        asked.open.push(question);
        Decision { allowed: false, reason: String::new(), error: Some("not yet asked".to_owned()) }
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

#[cfg(test)]
#[path = "expressions_tests.rs"]
mod tests;
