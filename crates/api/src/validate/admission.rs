//! Webhooks and policies of admission: their structure. What their expressions mean is judged where they are
//! compiled.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{At, dns_subdomain, label_selector};
use crate::convert::removed::others::are_lenient;
use crate::field::{Error, Errors, Path};
use crate::meta;
use crate::names;

const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
const NO_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const MAX_CONDITIONS: usize = 64;
const MAX_AUDIT_ANNOTATIONS: usize = 20;
const MAX_VALUE_EXPRESSION: usize = 5 * 1024;

/// What older objects got away with, and so may keep.
#[derive(Clone, Copy)]
struct Strictness {
    no_side_effects: bool,
    known_review_version: bool,
    unique_names: bool,
}

pub(crate) fn webhooks(object: &Value) -> Errors {
    let strict = !are_lenient(object);
    judge(object, Strictness { no_side_effects: strict, known_review_version: strict, unique_names: strict })
}

pub(crate) fn webhooks_update(new: &Value, old: &Value) -> Errors {
    if are_lenient(new) {
        return webhooks(new);
    }
    let hooks = meta::items(old, &["webhooks"]);
    let names: BTreeSet<&str> = hooks.iter().map(|h| meta::text(h, &["name"])).collect();
    judge(
        new,
        Strictness {
            no_side_effects: hooks.iter().all(|h| NO_SIDE_EFFECTS.contains(&meta::text(h, &["sideEffects"]))),
            known_review_version: hooks.iter().all(|h| {
                let versions = meta::items(h, &["admissionReviewVersions"]);
                versions.is_empty() || versions.iter().any(is_review_version)
            }),
            unique_names: names.len() == hooks.len(),
        },
    )
}

fn is_review_version(version: &Value) -> bool {
    version.as_str().is_some_and(|v| REVIEW_VERSIONS.contains(&v))
}

fn judge(object: &Value, strict: Strictness) -> Errors {
    let mut errors = Vec::new();
    let mut seen = BTreeSet::new();
    for hook in At::root(object).get("webhooks").items() {
        webhook(&hook, strict, &mut errors);
        let name = hook.get("name");
        if strict.unique_names && !name.text().is_empty() && !seen.insert(name.text().to_owned()) {
            name.duplicate(&mut errors);
        }
    }
    errors
}

fn webhook(hook: &At<'_>, strict: Strictness, errors: &mut Errors) {
    let name = hook.get("name");
    if let Some(text) = name.needed(errors) {
        let wrong = dns_subdomain(text);
        if !wrong.is_empty() {
            name.invalid(errors, wrong.join(","));
        } else if text.split('.').count() < 3 {
            name.invalid(errors, "should be a domain with at least three segments separated by dots");
        }
    }
    hook.get("rules").items().for_each(|r| rule(&r, errors));
    given_of(&hook.get("failurePolicy"), errors, &["Fail", "Ignore"]);
    given_of(&hook.get("matchPolicy"), errors, &["Equivalent", "Exact"]);
    let effects = hook.get("sideEffects");
    let allowed =
        if strict.no_side_effects { NO_SIDE_EFFECTS } else { &["None", "NoneOnDryRun", "Some", "Unknown"] };
    if effects.value().is_null() {
        effects.required(errors, &format!("must specify one of {}", allowed.join(", ")));
    } else {
        effects.one_of(errors, allowed);
    }
    let timeout = hook.get("timeoutSeconds");
    if timeout.number().is_some_and(|t| !(1..=30).contains(&t)) {
        timeout.invalid(errors, "the timeout value must be between 1 and 30 seconds");
    }
    label_selector(&hook.get("namespaceSelector"), errors);
    label_selector(&hook.get("objectSelector"), errors);
    given_of(&hook.get("reinvocationPolicy"), errors, &["IfNeeded", "Never"]);
    client(&hook.get("clientConfig"), errors);
    match_conditions(&hook.get("matchConditions"), errors);
    review_versions(&hook.get("admissionReviewVersions"), strict.known_review_version, errors);
}

fn given_of(at: &At<'_>, errors: &mut Errors, words: &[&str]) {
    if !at.value().is_null() {
        at.one_of(errors, words);
    }
}

fn review_versions(versions: &At<'_>, known: bool, errors: &mut Errors) {
    let accepted = REVIEW_VERSIONS.join(", ");
    if versions.len() == 0 {
        return versions.required(errors, &format!("must specify one of {accepted}"));
    }
    let mut seen = BTreeSet::new();
    for version in versions.items() {
        if seen.insert(version.text()) {
            version.all_invalid(errors, names::dns1035_label(version.text(), false));
        } else {
            version.invalid(errors, "duplicate version");
        }
    }
    if known && !versions.items().any(|v| is_review_version(v.value())) {
        versions.invalid(errors, format!("must include at least one of {accepted}"));
    }
}

/// Where a webhook is called: by URL or as a Service.
pub(crate) fn client(config: &At<'_>, errors: &mut Errors) {
    match (config.opt("url"), config.opt("service")) {
        (Some(url), None) => https_url(&url.path(), url.text(), errors),
        (None, Some(service)) => service_reference(&service.path(), &service, errors),
        _ => config.required(errors, "exactly one of url or service is required"),
    }
}

/// `https://host[/path]`
pub(crate) fn https_url(path: &Path, text: &str, errors: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let mut wrong = |value: &str, detail: String| errors.push(Error::invalid(path, value, detail));
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (scheme, rest) = rest.split_once(':').unwrap_or(("", rest));
    if scheme != "https" {
        wrong(scheme, format!("'https' is the only allowed URL scheme{FORM}"));
    }
    let authority = rest.strip_prefix("//").map_or("", |r| r.split('/').next().unwrap_or_default());
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    if host.is_empty() {
        wrong("", format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        wrong(user, "user information is not permitted in the URL".to_owned());
    }
    if !fragment.is_empty() {
        wrong(fragment, "fragments are not permitted in the URL".to_owned());
    }
    if !query.is_empty() {
        wrong(query, "query parameters are not permitted in the URL".to_owned());
    }
}

/// A Service that is called, told as what stands at `path`.
pub(crate) fn service_reference(path: &Path, service: &At<'_>, errors: &mut Errors) {
    // Upstream takes the one for the other.
    for (told, field) in [("name", "namespace"), ("namespace", "name")] {
        if service.get(field).text().is_empty() {
            errors.push(Error::required(&path.child(told), ""));
        }
    }
    let port = service.get("port");
    port_at(&path.child("port"), port.number().unwrap_or(0), errors);
    let called = service.get("path");
    let text = called.text();
    if text.is_empty() || text == "/" {
        return;
    }
    let path = path.child("path");
    let mut wrong = |detail: String| errors.push(Error::invalid(&path, text, detail));
    let Some(steps) = text.strip_prefix('/') else {
        return wrong("must start with a '/'".to_owned());
    };
    for (i, step) in steps.strip_suffix('/').unwrap_or(steps).split('/').enumerate() {
        if step.is_empty() {
            wrong(format!("segment[{i}] may not be empty"));
            continue;
        }
        dns_subdomain(step).into_iter().for_each(|why| wrong(format!("segment[{i}]: {why}")));
    }
}

/// A port that defaults have filled in.
pub(crate) fn service_port(port: &At<'_>, errors: &mut Errors) {
    port_at(&port.path(), port.number().unwrap_or(0), errors);
}

fn port_at(path: &Path, port: i64, errors: &mut Errors) {
    let wrong = names::port(port);
    if !wrong.is_empty() {
        errors.push(Error::invalid(path, port, format!("port is not valid: {}", wrong.join(", "))));
    }
}

fn rule(rule: &At<'_>, errors: &mut Errors) {
    let operations = rule.get("operations");
    needed_list(&operations, errors);
    alone(&operations, "*", "must not specify other operations", errors);
    operations.items().for_each(|o| o.one_of(errors, OPERATIONS));
    let groups = rule.get("apiGroups");
    needed_list(&groups, errors);
    alone(&groups, "*", "must not specify other API groups", errors);
    let versions = rule.get("apiVersions");
    needed_list(&versions, errors);
    alone(&versions, "*", "must not specify other API versions", errors);
    for version in versions.items() {
        version.needed(errors);
    }
    resources(&rule.get("resources"), errors);
    given_of(&rule.get("scope"), errors, &["*", "Cluster", "Namespaced"]);
}

fn needed_list(list: &At<'_>, errors: &mut Errors) {
    if list.len() == 0 {
        list.required(errors, "");
    }
}

fn alone(list: &At<'_>, wildcard: &str, or_else: &str, errors: &mut Errors) {
    if list.len() > 1 && list.items().any(|i| i.text() == wildcard) {
        list.invalid(errors, format!("if '{wildcard}' is present, {or_else}"));
    }
}

/// `pods`, `pods/*`, `*/scale`, `*`: what one entry covers, no other may name again.
fn resources(list: &At<'_>, errors: &mut Errors) {
    needed_list(list, errors);
    let (mut every_part_of, mut part_of_every) = (BTreeSet::new(), BTreeSet::new());
    let mut plain = false;
    for resource in list.items() {
        let Some(text) = resource.needed(errors) else { continue };
        let Some((whole, part)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if every_part_of.contains(whole) {
            resource.invalid(errors, format!("if '{whole}/*' is present, must not specify {text}"));
        }
        if part_of_every.contains(part) {
            resource.invalid(errors, format!("if '*/{part}' is present, must not specify {text}"));
        }
        if part == "*" {
            every_part_of.insert(whole);
        }
        if whole == "*" {
            part_of_every.insert(part);
        }
    }
    alone(list, "*/*", "must not specify other resources", errors);
    if plain && list.items().any(|r| r.text() == "*") {
        list.invalid(errors, "if '*' is present, must not specify other resources without subresources");
    }
}

/// Expressions that all must hold before anything is asked.
pub(crate) fn match_conditions(conditions: &At<'_>, errors: &mut Errors) {
    if conditions.len() > MAX_CONDITIONS {
        errors.push(Error::too_many(&conditions.path(), conditions.len(), MAX_CONDITIONS));
    }
    let mut seen = BTreeSet::new();
    for condition in conditions.items() {
        expression(&condition.get("expression"), "", errors);
        let name = condition.get("name");
        if let Some(text) = name.needed(errors) {
            name.all_invalid(errors, names::label_key(text));
            if !seen.insert(text.to_owned()) {
                name.duplicate(errors);
            }
        }
    }
}

fn expression(at: &At<'_>, detail: &str, errors: &mut Errors) {
    if at.text().trim().is_empty() {
        at.required(errors, detail);
    }
}

pub(crate) fn validating_policy(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    policy(&spec, &mut errors);
    let (validations, annotations) = (spec.get("validations"), spec.get("auditAnnotations"));
    if validations.len() == 0 && annotations.len() == 0 {
        for empty in [validations, annotations] {
            empty.required(&mut errors, "validations or auditAnnotations must contain at least one item");
        }
        return errors;
    }
    validations.items().for_each(|v| validation(&v, &mut errors));
    audit_annotations(meta::name(object), &annotations, &mut errors);
    errors
}

pub(crate) fn validating_policy_update(new: &Value, _old: &Value) -> Errors {
    validating_policy(new)
}

pub(crate) fn mutating_policy(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    policy(&spec, &mut errors);
    let mutations = spec.get("mutations");
    if mutations.len() == 0 {
        mutations.required(&mut errors, "mutations must contain at least one item");
    }
    mutations.items().for_each(|m| mutation(&m, &mut errors));
    spec.get("reinvocationPolicy").needed_of(&mut errors, &["IfNeeded", "Never"]);
    errors
}

pub(crate) fn mutating_policy_update(new: &Value, _old: &Value) -> Errors {
    mutating_policy(new)
}

fn policy(spec: &At<'_>, errors: &mut Errors) {
    spec.get("failurePolicy").needed_of(errors, &["Fail", "Ignore"]);
    if let Some(kind) = spec.opt("paramKind") {
        param_kind(&kind, errors);
    }
    let constraints = spec.get("matchConstraints");
    if constraints.value().is_null() {
        constraints.required(errors, "");
    } else {
        match_resources(&constraints, errors);
        needed_list(&constraints.get("resourceRules"), errors);
    }
    match_conditions(&spec.get("matchConditions"), errors);
    for variable in spec.get("variables").items() {
        let name = variable.get("name");
        if name.text().trim().is_empty() {
            name.required(errors, "name is not specified");
        } else if !is_identifier(name.text()) {
            name.invalid(errors, "name is not a valid CEL identifier");
        }
        expression(&variable.get("expression"), "expression is not specified", errors);
    }
}

/// An identifier of the expression language that is no word of its grammar.
fn is_identifier(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|b| b == b'_' || b.is_ascii_alphanumeric())
        && !names::is_cel_word(name)
}

fn param_kind(kind: &At<'_>, errors: &mut Errors) {
    let version = kind.get("apiVersion");
    if let Some(text) = version.needed(errors) {
        let mut wrong = |value: &str, detail: String| {
            errors.push(Error::invalid(&version.path(), value, detail));
        };
        let (group, number) = text.split_once('/').unwrap_or(("", text));
        if number.contains('/') {
            wrong(text, format!("unexpected GroupVersion string: {text}"));
        } else {
            let subdomain = if group.is_empty() { Vec::new() } else { dns_subdomain(group) };
            if !subdomain.is_empty() {
                wrong(group, subdomain.join(","));
            }
            let label = names::dns1035_label(number, false);
            if number.is_empty() {
                wrong(text, "version must be specified".to_owned());
            } else if !label.is_empty() {
                wrong(number, label.join(","));
            }
        }
    }
    let name = kind.get("kind");
    if let Some(text) = name.needed(errors) {
        let wrong = names::dns1035_label(&text.to_ascii_lowercase(), false);
        if !wrong.is_empty() {
            let detail = format!("may have mixed case, but should otherwise match: {}", wrong.join(","));
            name.invalid(errors, detail);
        }
    }
}

fn match_resources(matched: &At<'_>, errors: &mut Errors) {
    matched.get("matchPolicy").needed_of(errors, &["Equivalent", "Exact"]);
    for field in ["namespaceSelector", "objectSelector"] {
        match matched.opt(field) {
            Some(selector) => label_selector(&selector, errors),
            None => matched.get(field).required(errors, ""),
        }
    }
    for field in ["resourceRules", "excludeResourceRules"] {
        for named in matched.get(field).items() {
            let mut seen = BTreeSet::new();
            for name in named.get("resourceNames").items() {
                name.all_invalid(errors, names::path_segment(name.text(), false));
                if !seen.insert(name.text()) {
                    name.duplicate(errors);
                }
            }
            rule(&named, errors);
        }
    }
}

fn validation(validation: &At<'_>, errors: &mut Errors) {
    expression(&validation.get("expression"), "expression is not specified", errors);
    let blank = |at: &At<'_>| !at.text().is_empty() && at.text().trim().is_empty();
    let words = validation.get("messageExpression");
    if blank(&words) {
        words.invalid(errors, "must be non-empty if specified");
    }
    let message = validation.get("message");
    if blank(&message) {
        message.invalid(errors, "message must be non-empty if specified");
    } else if message.text().trim().contains(['\n', '\r']) {
        message.invalid(errors, "message must not contain line breaks");
    }
    given_of(&validation.get("reason"), errors, &["Forbidden", "Invalid", "RequestEntityTooLarge"]);
}

fn audit_annotations(policy: &str, annotations: &At<'_>, errors: &mut Errors) {
    if annotations.len() > MAX_AUDIT_ANNOTATIONS {
        let detail = format!("must not have more than {MAX_AUDIT_ANNOTATIONS} auditAnnotations");
        annotations.invalid(errors, detail);
    }
    let mut seen = BTreeSet::new();
    for annotation in annotations.items() {
        let key = annotation.get("key");
        if policy.is_empty() {
            key.invalid(errors, "requires metadata.name be non-empty");
        } else {
            let whole = format!("{policy}/{}", key.text());
            for wrong in names::label_key(&whole) {
                errors.push(Error::invalid(&key.path(), whole.as_str(), wrong));
            }
        }
        let value = annotation.get("valueExpression");
        expression(&value, "valueExpression is not specified", errors);
        if value.text().trim().len() > MAX_VALUE_EXPRESSION {
            value.required(errors, &format!("must not exceed {MAX_VALUE_EXPRESSION} bytes in length"));
        }
        if !seen.insert(key.text().to_owned()) {
            key.duplicate(errors);
        }
    }
}

fn mutation(mutation: &At<'_>, errors: &mut Errors) {
    let kind = mutation.get("patchType");
    let (field, other) = match kind.needed(errors) {
        None => return,
        Some("JSONPatch") => ("jsonPatch", "applyConfiguration"),
        Some("ApplyConfiguration") => ("applyConfiguration", "jsonPatch"),
        Some(_) => return kind.one_of(errors, &["ApplyConfiguration", "JSONPatch"]),
    };
    let told = mutation.get(field);
    if told.value().is_null() {
        told.required(errors, &format!("must be specified when patchType is {}", kind.text()));
    } else {
        expression(&told.get("expression"), "expression is not specified", errors);
    }
    if mutation.has(other) {
        let detail = format!("must not be specified when patchType is {}", kind.text());
        errors.push(Error::invalid(&mutation.get(other).path(), format!("{{{other}}}"), detail));
    }
}

fn binding(spec: &At<'_>, errors: &mut Errors) {
    spec.get("policyName").needed_as(errors, dns_subdomain);
    if let Some(reference) = spec.opt("paramRef") {
        param_ref(&reference, errors);
    }
    if let Some(matched) = spec.opt("matchResources") {
        match_resources(&matched, errors);
    }
}

fn param_ref(reference: &At<'_>, errors: &mut Errors) {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (reference.get("name"), reference.opt("selector"));
    name.rule(errors, |n| names::path_segment(n, false));
    match (&selector, name.text().is_empty()) {
        (None, true) => reference.required(errors, "one of name or selector must be specified"),
        (None, false) => {}
        (Some(selector), unnamed) => {
            if !unnamed {
                name.forbidden(errors, EITHER);
            }
            label_selector(selector, errors);
            if !unnamed {
                selector.forbidden(errors, EITHER);
            }
        }
    }
    reference.get("parameterNotFoundAction").needed_of(errors, &["Deny", "Allow"]);
}

pub(crate) fn mutating_binding(object: &Value) -> Errors {
    let mut errors = Vec::new();
    binding(&At::root(object).get("spec"), &mut errors);
    errors
}

pub(crate) fn mutating_binding_update(new: &Value, _old: &Value) -> Errors {
    mutating_binding(new)
}

pub(crate) fn validating_binding(object: &Value) -> Errors {
    let mut errors = mutating_binding(object);
    let root = At::root(object);
    let spec = root.get("spec");
    let actions = spec.get("validationActions");
    let mut seen = BTreeSet::new();
    for action in actions.items() {
        action.one_of(&mut errors, &["Audit", "Deny", "Warn"]);
        if !seen.insert(action.text()) {
            action.duplicate(&mut errors);
        }
    }
    if seen.contains("Deny") && seen.contains("Warn") {
        actions.invalid(
            &mut errors,
            "must not contain both Deny and Warn (repeating the same validation failure information in the \
             API response and headers serves no purpose)",
        );
    }
    if seen.is_empty() {
        actions.required(&mut errors, "at least one validation action is required");
    }
    errors
}

pub(crate) fn validating_binding_update(new: &Value, _old: &Value) -> Errors {
    validating_binding(new)
}

/// What the controller found out about a policy's expressions.
pub(crate) fn policy_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    for warning in status.get("typeChecking").get("expressionWarnings").items() {
        warning.get("warning").needed(&mut errors);
        expression(&warning.get("fieldRef"), "", &mut errors);
    }
    super::conditions(&status.get("conditions"), &mut errors);
    errors
}

#[cfg(test)]
#[path = "admission_tests.rs"]
mod tests;
