//! What validating policies say to a request.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tiphys_api::status::{Reason, Status, StatusCause};
use tiphys_cel::{Bindings, Budget, RUNTIME_BUDGET};

use super::compile::{Annotation, Policy, Validation, Work};
use super::counts::Wrong;
use super::{Finding, Invocation, Policies, request};
use crate::admission::Attributes;
use crate::admission::expressions::{Asker, Input};
use crate::admission::matching::Candidate;

/// The longest message that an expression may give.
const MAX_MESSAGE: usize = 5 * 1024;
/// The most failures that are audited for one request.
const MAX_FAILURES: usize = 50;
/// The longest annotation of a policy.
const MAX_ANNOTATION: usize = 10 * 1024;

/// A reason to refuse the request.
#[derive(Clone, Debug, Default)]
struct Denial {
    /// The place of the validation.
    index: usize,
    message: String,
    /// As the policy gives it.
    reason: String,
    wrong: Wrong,
    took: Duration,
}

/// What a policy says: what it refuses and what it wants to be noted.
#[derive(Debug, Default)]
struct Verdict {
    denials: Vec<Denial>,
    annotations: Vec<(String, String)>,
    /// Annotations that could not be made.
    failed: Vec<String>,
    /// Errors that change nothing.
    ignored: Vec<(Wrong, Duration)>,
}

pub(super) async fn validate(
    policies: &Policies,
    attributes: &Attributes<'_>,
    object: &Value,
    old: &Value,
) -> Result<(), Status> {
    let (compiled, kinds) = (policies.compiled(), policies.kinds.borrow().clone());
    let candidate = Candidate::new(attributes, &kinds, &*policies.source);
    let found = policies.find(&compiled.value, &kinds, &candidate, object, old);
    if found.is_empty() {
        return Ok(());
    }
    let namespace = Policies::namespace(&candidate)?;
    // The first denial, which the client hears of.
    let mut denied: Option<(String, String)> = None;
    let mut deny = |policy: &str, binding: Option<&str>, denial: &Denial| {
        let who = match binding {
            Some(binding) => format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}'"),
            None => format!("ValidatingAdmissionPolicy '{policy}'"),
        };
        denied.get_or_insert_with(|| {
            (format!("{who} denied request: {}", denial.message), denial.reason.clone())
        });
    };
    let asker = policies.asker(attributes);
    let mut failures = Vec::new();
    let mut notes: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for finding in &found {
        let invocation = match finding {
            Finding::Invoke(invocation) => invocation,
            Finding::Misconfigured(wrong) if wrong.policy.ignores_failures => continue,
            Finding::Misconfigured(wrong) => {
                let denial = Denial { message: wrong.why.clone(), ..Denial::default() };
                deny(&wrong.policy.name, wrong.binding.map(|b| b.name.as_str()), &denial);
                continue;
            }
        };
        let Invocation { policy, binding, .. } = invocation;
        let verdict = asker.settled(|| ask(&asker, attributes, invocation, &namespace, object, old)).await;
        let names = [&*policy.name, &*binding.name];
        for (wrong, took) in &verdict.ignored {
            policies.counts.checked(names, *wrong, "allow", *took);
        }
        for denial in &verdict.denials {
            for action in &binding.actions {
                policies.counts.checked(names, denial.wrong, &action.to_ascii_lowercase(), denial.took);
                match action.as_str() {
                    "Deny" => deny(&policy.name, Some(&binding.name), denial),
                    "Warn" => attributes.warnings.add(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                        policy.name, binding.name, denial.message
                    )),
                    "Audit" => failures.push(json!({
                        "message": denial.message,
                        "policy": policy.name,
                        "binding": binding.name,
                        "expressionIndex": denial.index,
                        "validationActions": binding.actions,
                    })),
                    // Validation lets no other through.
                    _ => {}
                }
            }
        }
        for message in &verdict.failed {
            let denial = Denial { message: message.clone(), ..Denial::default() };
            deny(&policy.name, Some(&binding.name), &denial);
        }
        for (key, value) in verdict.annotations {
            let values = notes.entry((policy.name.clone(), key)).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }
    for ((policy, key), values) in notes {
        attributes.annotations.add(format!("{policy}/{key}"), || values.join(", "));
    }
    if !failures.is_empty() {
        failures.truncate(MAX_FAILURES);
        let key = "validation.policy.admission.k8s.io/validation_failure";
        attributes.annotations.add(key, || Value::from(failures).to_string());
    }
    match denied {
        Some((message, reason)) => Err(refusal(attributes, object, message, &reason)),
        None => Ok(()),
    }
}

fn refusal(attributes: &Attributes<'_>, object: &Value, message: String, reason: &str) -> Status {
    let mut status = attributes.forbidden(object, &message);
    status.reason = match reason {
        "Unauthorized" => Reason::Unauthorized,
        "Forbidden" => Reason::Forbidden,
        "RequestEntityTooLarge" => Reason::RequestEntityTooLarge,
        _ => Reason::Invalid,
    };
    if let Some(details) = &mut status.details {
        details.causes.push(StatusCause { reason: String::new(), message, field: String::new() });
    }
    status
}

/// Asks one policy through one binding.
fn ask(
    asker: &Asker<'_>,
    attributes: &Attributes<'_>,
    invocation: &Invocation<'_>,
    namespace: &Value,
    object: &Value,
    old: &Value,
) -> Verdict {
    let Invocation { policy, matched, params, .. } = invocation;
    let [object, old] = [object, old].map(|o| matched.show(attributes.subresource, o));
    let request = request::describe(attributes, matched);
    let input = Input {
        object: &object,
        old: &old,
        request: &request,
        namespace,
        params: params.as_ref(),
        asker: Some(asker),
        attributes,
    };
    let begun = Instant::now();
    let error = |message: String, wrong: Wrong| {
        let took = begun.elapsed();
        let mut verdict = Verdict::default();
        if policy.ignores_failures {
            verdict.ignored.push((wrong, took));
        } else {
            verdict.denials.push(Denial { message, wrong, took, ..Denial::default() });
        }
        verdict
    };
    if !policy.conditions.is_empty() {
        let bindings = policy.variables.bind(input.bindings());
        match policy.conditions.hold(&bindings) {
            Ok(true) => {}
            Ok(false) => return Verdict::default(),
            Err(why) => return error(why, Wrong::Evaluating),
        }
    }
    let bindings = policy.variables.bind(input.bindings());
    let Work::Validate { validations, annotations } = &policy.work else { return Verdict::default() };
    let mut verdict = Verdict::default();
    if let Err(why) = judge(policy, validations, &bindings, &mut verdict) {
        return error(why, Wrong::Cost);
    }
    match note(policy, annotations, &bindings, &mut verdict) {
        Ok(()) => verdict,
        Err(why) => error(why, Wrong::Cost),
    }
}

/// The error ends the policy.
fn judge<'a>(
    policy: &Policy,
    validations: &'a [Validation],
    bindings: &Bindings<'a>,
    verdict: &mut Verdict,
) -> Result<(), String> {
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let mut results = Vec::with_capacity(validations.len());
    for validation in validations {
        let begun = Instant::now();
        let result = validation.expression.evaluate(bindings, &mut budget)?;
        results.push((result, begun.elapsed()));
    }
    for (index, (validation, (result, took))) in validations.iter().zip(results).enumerate() {
        let wrong = || match &validation.expression.program {
            Ok(_) => Wrong::Evaluating,
            Err(_) => Wrong::Compiling,
        };
        match result {
            Ok(tiphys_cel::Value::Bool(true)) => {}
            Ok(_) => {
                let message = message(validation, bindings, &mut budget);
                let reason = validation.reason.clone();
                verdict.denials.push(Denial { index, message, reason, took, wrong: Wrong::Nothing });
            }
            Err(_) if policy.ignores_failures => verdict.ignored.push((wrong(), took)),
            Err(message) => {
                let denial = Denial { index, message, wrong: wrong(), took, ..Denial::default() };
                verdict.denials.push(denial);
            }
        }
    }
    Ok(())
}

/// What the client is told: what the expression says, else the fixed message, else which expression failed.
fn message<'a>(validation: &'a Validation, bindings: &Bindings<'a>, budget: &mut Budget) -> String {
    let said = validation.message_expression.as_ref().and_then(|expression| {
        match expression.evaluate(bindings, budget) {
            Ok(Ok(tiphys_cel::Value::String(text))) => Some(text.trim().to_owned()),
            // Whatever went wrong with a message, the request is refused all the same.
            _ => None,
        }
    });
    let said = said.filter(|text| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n'));
    said.or_else(|| Some(validation.message.trim().to_owned()).filter(|text| !text.is_empty()))
        .unwrap_or_else(|| format!("failed expression: {}", validation.expression.source.trim()))
}

fn note<'a>(
    policy: &Policy,
    annotations: &'a [Annotation],
    bindings: &Bindings<'a>,
    verdict: &mut Verdict,
) -> Result<(), String> {
    let mut budget = Budget::new(RUNTIME_BUDGET);
    for annotation in annotations {
        match annotation.value.evaluate(bindings, &mut budget)? {
            Ok(tiphys_cel::Value::String(text)) => {
                let mut value = text.trim().to_owned();
                value.truncate(value.floor_char_boundary(MAX_ANNOTATION));
                if !value.is_empty() {
                    verdict.annotations.push((annotation.key.clone(), value));
                }
            }
            Ok(tiphys_cel::Value::Null) => {}
            Ok(other) => verdict.failed.push(format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or \
                 null.",
                annotation.value.source,
                other.type_name()
            )),
            Err(_) if policy.ignores_failures => {}
            Err(why) => verdict.failed.push(why),
        }
    }
    Ok(())
}
