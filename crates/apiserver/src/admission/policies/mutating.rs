//! What mutating policies make of an object.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tiphys_api::decode::{self, FieldValidation, Target};
use tiphys_api::meta;
use tiphys_api::patch::{apply, json as json_patch};
use tiphys_api::status::{Details, Reason, Status, StatusCause};
use tiphys_cel::{Budget, RUNTIME_BUDGET};

use super::compile::{Mutation, Work};
use super::{Finding, Invocation, Misconfigured, Policies, request};
use crate::admission::Attributes;
use crate::admission::expressions::{Asker, Input};
use crate::admission::matching::Candidate;

/// What the plug-in keeps its memory under.
const NAME: &str = "MutatingAdmissionPolicy";

/// Why the request is refused, and as what: upstream's code is 403 for both.
struct Wrong {
    message: String,
    reason: Reason,
}

impl Wrong {
    /// A policy that could not be asked.
    fn forbidden(message: String) -> Self {
        Self { message, reason: Reason::Forbidden }
    }

    /// A policy that was asked and failed.
    fn invalid(message: String) -> Self {
        Self { message, reason: Reason::Invalid }
    }
}

/// Why a mutation was not made.
enum Failed {
    /// It is the policy's own fault.
    Policy(String),
    /// Nothing is known of the kind (yet).
    Unknown(Status),
}

impl From<String> for Failed {
    fn from(why: String) -> Self {
        Self::Policy(why)
    }
}

/// What is remembered between the rounds.
#[derive(Default, Serialize, Deserialize)]
struct Memory {
    /// Those invoked already that want to see later changes.
    invoked: Vec<String>,
    /// Those that have to see the object again.
    again: Vec<String>,
    /// What the object was after the last policy.
    last: Value,
}

impl Memory {
    fn changed(&mut self) {
        self.again.append(&mut self.invoked);
    }
}

pub(super) async fn admit(
    policies: &Policies,
    attributes: &Attributes<'_>,
    object: &mut Value,
    old: &Value,
) -> Result<(), Status> {
    let (compiled, kinds) = (policies.compiled(), policies.kinds.borrow().clone());
    let candidate = Candidate::new(attributes, &kinds, &*policies.source);
    let found = policies.find(&compiled.value, &kinds, &candidate, object, old);
    if found.is_empty() || object.is_null() {
        return refuse(attributes, object, wrongs(&found));
    }
    let namespace = Policies::namespace(&candidate)?;
    let second = attributes.round.is_second();
    let noted = attributes.round.noted(NAME);
    // What cannot be read was not written by this plug-in.
    let mut memory: Memory = noted.and_then(|n| serde_json::from_value(n).ok()).unwrap_or_default();
    if second && memory.last != *object {
        memory.changed();
    }
    let asker = policies.asker(attributes);
    let mut wrong = wrongs(&found);
    for finding in &found {
        let Finding::Invoke(invocation) = finding else { continue };
        let key = key(invocation);
        let Work::Mutate { mutations, reinvoked } = &invocation.policy.work else { continue };
        if second && !memory.again.contains(&key) {
            continue;
        }
        let mut failed = |why: String| {
            if !invocation.policy.ignores_failures {
                let message = denial(&invocation.policy.name, Some(&invocation.binding.name), &why);
                wrong.push(Wrong::invalid(message));
            }
        };
        let applies = || applies(&asker, attributes, invocation, &namespace, [object, old]);
        match asker.settled(applies).await {
            Ok(true) => {}
            Ok(false) => continue,
            Err(why) => {
                failed(why);
                continue;
            }
        }
        let before = object.clone();
        for mutation in mutations {
            let mutate = || mutate(&asker, attributes, invocation, mutation, &namespace, [object, old]);
            match asker.settled(mutate).await {
                Ok(mutated) => *object = mutated,
                Err(Failed::Policy(why)) => failed(why),
                Err(Failed::Unknown(status)) => return Err(status),
            }
        }
        if before != *object {
            memory.changed();
            attributes.round.ask_again();
        }
        if *reinvoked && !memory.invoked.contains(&key) {
            memory.invoked.push(key);
        }
    }
    if !second {
        memory.last = object.clone();
        if let Ok(note) = serde_json::to_value(&memory) {
            attributes.round.note(NAME, note);
        }
    }
    refuse(attributes, object, wrong)
}

/// The policies that could not be asked, where that is no reason to go on without them.
fn wrongs(found: &[Finding<'_>]) -> Vec<Wrong> {
    let wrong = found.iter().filter_map(|finding| match finding {
        Finding::Misconfigured(Misconfigured { policy, binding, why }) if !policy.ignores_failures => {
            Some(Wrong::forbidden(denial(&policy.name, binding.map(|b| b.name.as_str()), why)))
        }
        _ => None,
    });
    wrong.collect()
}

fn denial(policy: &str, binding: Option<&str>, why: &str) -> String {
    match binding {
        Some(binding) => format!("policy '{policy}' with binding '{binding}' denied request: {why}"),
        None => format!("policy {policy:?} denied request: {why}"),
    }
}

fn refuse(attributes: &Attributes<'_>, object: &Value, wrong: Vec<Wrong>) -> Result<(), Status> {
    let Some(Wrong { message, reason }) = wrong.first() else { return Ok(()) };
    let forbidden = attributes.forbidden(object, message);
    let cause = |wrong: &Wrong| StatusCause {
        reason: String::new(),
        message: wrong.message.clone(),
        field: String::new(),
    };
    let causes = wrong.iter().map(cause).collect();
    let details = forbidden.details.map(|details| Details { causes, ..*details });
    Err(Status::foreign(Reason::Forbidden.code(), reason.as_str().to_owned(), message.clone(), details))
}

fn key(invocation: &Invocation<'_>) -> String {
    let params = invocation.params.as_ref();
    let part = |of: fn(&Value) -> &str| params.map_or("", of);
    let (namespace, name) = (part(meta::namespace), part(meta::name));
    format!("{}/{}/{namespace}/{name}", invocation.policy.name, invocation.binding.name)
}

/// Shows the objects to `then` as the policy wants to see them.
fn shown<T>(
    asker: &Asker<'_>,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    namespace: &Value,
    [object, old]: [&Value; 2],
    then: impl FnOnce(&Input<'_>) -> T,
) -> T {
    let [object, old] = [object, old].map(|o| invocation.matched.show(attributes.subresource, o));
    let request = request::describe(attributes, &invocation.matched);
    then(&Input {
        object: &object,
        old: &old,
        request: &request,
        namespace,
        params: invocation.params.as_ref(),
        asker: Some(asker),
        attributes,
    })
}

fn applies(
    asker: &Asker<'_>,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    namespace: &Value,
    objects: [&Value; 2],
) -> Result<bool, String> {
    let policy = invocation.policy;
    if policy.conditions.is_empty() {
        return Ok(true);
    }
    shown(asker, attributes, invocation, namespace, objects, |input| {
        let bindings = policy.variables.bind(input.bindings());
        match policy.conditions.hold(&bindings) {
            Err(_) if policy.ignores_failures => Ok(false),
            outcome => outcome,
        }
    })
}

/// The object after one mutation, as it is stored.
fn mutate(
    asker: &Asker<'_>,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    mutation: &Mutation,
    namespace: &Value,
    objects: [&Value; 2],
) -> Result<Value, Failed> {
    let Invocation { policy, matched, .. } = invocation;
    let (group, version, kind) = matched.kind(attributes.subresource);
    let own = (group, version, kind) == (&*matched.row.group, &*matched.version, &*matched.row.kind);
    let target =
        if own { Target::of(&matched.row, &matched.version) } else { Target::builtin(group, version, kind) };
    let Some(target) = target else {
        let why = format!(
            "Resource kind {group}/{version}, Kind={kind} not found. There can be a delay between when \
             CustomResourceDefinitions are created and when they are available."
        );
        return Err(Failed::Unknown(Status::new(Reason::ServiceUnavailable, why)));
    };
    let patched = shown(asker, attributes, invocation, namespace, objects, |input| {
        let bindings = policy.variables.bind(input.bindings());
        let mut budget = Budget::new(RUNTIME_BUDGET);
        match mutation {
            Mutation::Apply(expression) => {
                let mut config = expression.evaluate(&bindings, &mut budget)??.apply_configuration()?;
                for field in ["apiVersion", "kind"] {
                    config[field] = input.object[field].clone();
                }
                apply::overlaid(input.object, &config, target.ty)
                    .map_err(|why| format!("error applying patch: {why}"))
            }
            Mutation::Patch(expression) => {
                let patch = expression.evaluate(&bindings, &mut budget)??.json_patch()?;
                json_patch::patch(input.object, &patch).map_err(|e| format!("JSON Patch: {e}"))
            }
        }
    })?;
    let decoded = decode::decode_tree(&target, patched, FieldValidation::Ignore);
    let mut patched = decoded.map_err(|status| status.message)?.object;
    if own {
        (matched.row.hooks.default)(&matched.version, &mut patched);
    }
    Ok(matched.take(attributes.subresource, patched, objects[0]))
}
