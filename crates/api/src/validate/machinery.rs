//! Flow control, aggregation and migration.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::admission::service_port;
use super::{At, dns_label, dns_subdomain};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;

const VERBS: &[&str] =
    &["create", "delete", "deletecollection", "get", "list", "patch", "proxy", "update", "watch"];
const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of the hash that shuffle sharding deals a flow's queues from.
const MAX_HASH_BITS: i64 = 60;

pub(crate) fn flow_schema(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let precedence = spec.get("matchingPrecedence");
    let number = precedence.number().unwrap_or(0);
    if number <= 0 {
        precedence.invalid(&mut errors, "must be a positive value");
    }
    if number > MAX_PRECEDENCE {
        precedence.invalid(&mut errors, format!("must not be greater than {MAX_PRECEDENCE}"));
    }
    if number == 1 && meta::name(object) != "exempt" {
        precedence.invalid(&mut errors, "only the schema named 'exempt' may have matchingPrecedence 1");
    }
    if let Some(method) = spec.opt("distinguisherMethod") {
        method.get("type").one_of(&mut errors, &["ByNamespace", "ByUser"]);
    }
    let level = spec.get("priorityLevelConfiguration");
    let name = level.get("name");
    if name.text().is_empty() {
        name.required(&mut errors, "must reference a priority level");
    } else {
        name.rule(&mut errors, dns_subdomain);
    }
    spec.get("rules").items().for_each(|rule| flow_rule(&rule, &mut errors));
    let fixed = match meta::name(object) {
        "exempt" => Some(exempt_schema()),
        "catch-all" => Some(catch_all_schema()),
        _ => None,
    };
    must_equal(object, &spec, fixed, &mut errors);
    flow_conditions(&root, &mut errors);
    errors
}

pub(crate) fn flow_schema_update(new: &Value, _old: &Value) -> Errors {
    flow_schema(new)
}

/// What keeps a cluster reachable is the same in all of them.
fn must_equal(object: &Value, spec: &At<'_>, fixed: Option<Value>, errors: &mut Errors) {
    if fixed.is_some_and(|fixed| fixed != *spec.value()) {
        spec.invalid(errors, format!("spec of '{}' must equal the fixed value", meta::name(object)));
    }
}

fn every_request(subjects: &Value) -> Value {
    json!([{
        "subjects": subjects,
        "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
            "clusterScope": true, "namespaces": ["*"]}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
    }])
}

/// The spec of the FlowSchema `exempt`, which no cluster may change: administrators never wait.
pub(crate) fn exempt_schema() -> Value {
    let masters = json!([{"kind": "Group", "group": {"name": "system:masters"}}]);
    json!({
        "matchingPrecedence": 1,
        "priorityLevelConfiguration": {"name": "exempt"},
        "rules": every_request(&masters),
    })
}

/// The spec of the FlowSchema `catch-all`, which no cluster may change: every request is in some flow.
pub(crate) fn catch_all_schema() -> Value {
    let all = json!([{"kind": "Group", "group": {"name": "system:unauthenticated"}},
        {"kind": "Group", "group": {"name": "system:authenticated"}}]);
    json!({
        "matchingPrecedence": 10_000,
        "priorityLevelConfiguration": {"name": "catch-all"},
        "distinguisherMethod": {"type": "ByUser"},
        "rules": every_request(&all),
    })
}

/// The spec of the PriorityLevelConfiguration `catch-all`, which no cluster may change.
pub(crate) fn catch_all_level() -> Value {
    json!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": 5, "lendablePercent": 0, "limitResponse": {"type": "Reject"}}})
}

fn flow_rule(rule: &At<'_>, errors: &mut Errors) {
    let subjects = rule.get("subjects");
    if subjects.len() == 0 {
        subjects.required(errors, "subjects must contain at least one value");
    }
    subjects.items().for_each(|subject| flow_subject(&subject, errors));
    let (resources, urls) = (rule.get("resourceRules"), rule.get("nonResourceRules"));
    if resources.len() == 0 && urls.len() == 0 {
        rule.required(errors, "at least one of resourceRules and nonResourceRules has to be non-empty");
    }
    for resource in resources.items() {
        verbs(&resource.get("verbs"), errors);
        let groups = resource.get("apiGroups");
        some_or_all(&groups, "resource rules must supply at least one api group", "api groups", errors);
        let kinds = resource.get("resources");
        some_or_all(&kinds, "resource rules must supply at least one resource", "resources", errors);
        namespaces(&resource, errors);
    }
    for path in urls.items() {
        verbs(&path.get("verbs"), errors);
        let urls = path.get("nonResourceURLs");
        let needed = "nonResourceURLs must contain at least one value";
        if !some_or_all(&urls, needed, "non-resource URLs", errors) {
            urls.items().for_each(|url| url_path(&url, errors));
        }
    }
}

/// A list that names some or, as `*` alone, all; whether it has the `*`.
fn some_or_all(list: &At<'_>, needed: &str, others: &str, errors: &mut Errors) -> bool {
    let all = list.items().any(|i| i.text() == "*");
    if list.len() == 0 {
        list.required(errors, needed);
    } else if list.len() > 1 && all {
        list.invalid(errors, format!("if '*' is present, must not specify other {others}"));
    }
    all
}

fn verbs(verbs: &At<'_>, errors: &mut Errors) {
    let all = some_or_all(verbs, "verbs must contain at least one value", "verbs", errors);
    if !all && verbs.items().any(|v| !VERBS.contains(&v.text())) {
        errors.push(Error::not_supported(&verbs.path(), verbs.value().clone(), VERBS));
    }
}

fn namespaces(rule: &At<'_>, errors: &mut Errors) {
    let namespaces = rule.get("namespaces");
    if namespaces.len() == 0 && rule.get("clusterScope").is_true() {
        return;
    }
    let needed = "resource rules that are not cluster scoped must supply at least one namespace";
    if !some_or_all(&namespaces, needed, "namespaces", errors) {
        for name in namespaces.items() {
            for wrong in dns_label(name.text()) {
                name.invalid(
                    errors,
                    format!("each member of this list must be '*' or a DNS-1123 label; {wrong}"),
                );
            }
        }
    }
}

fn url_path(url: &At<'_>, errors: &mut Errors) {
    let text = url.text();
    let wildcards = text.matches('*').count();
    let wrong = match text {
        "" => "must not be empty",
        "/" => return,
        _ if !text.starts_with('/') => "must start with slash",
        _ if text.contains(' ') => "must not contain white-space",
        _ if text.contains("//") => "must not contain double slash",
        _ if wildcards > 1 || (wildcards == 1 && !text.ends_with("/*")) => {
            "wildcard can only do suffix matching"
        }
        _ => return,
    };
    url.invalid(errors, wrong);
}

fn flow_subject(subject: &At<'_>, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] =
        [("User", "user"), ("Group", "group"), ("ServiceAccount", "serviceAccount")];
    let kind = subject.get("kind");
    if KINDS.iter().all(|(known, _)| *known != kind.text()) {
        return kind.one_of(errors, &["Group", "ServiceAccount", "User"]);
    }
    for (known, field) in KINDS {
        let told = subject.get(field);
        if known != kind.text() {
            if !told.value().is_null() {
                told.forbidden(errors, format!("{field} is forbidden when subject kind is not '{known}'"));
            }
            continue;
        }
        if told.value().is_null() {
            told.required(errors, &format!("{field} is required when subject kind is '{known}'"));
            continue;
        }
        let name = told.get("name");
        let named = name.needed(errors);
        if field == "serviceAccount" {
            if named.is_some_and(|n| n != "*") {
                name.rule(errors, dns_subdomain);
            }
            let namespace = told.get("namespace");
            if namespace.text().is_empty() {
                namespace.required(errors, "must specify namespace for service account");
            }
            namespace.rule(errors, dns_label);
        }
    }
}

fn flow_conditions(root: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    let status = root.get("status");
    for condition in status.get("conditions").items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text().to_owned()) {
            kind.duplicate(errors);
        }
        if kind.text().is_empty() {
            kind.required(errors, "must not be empty");
        }
    }
}

pub(crate) fn flow_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    flow_conditions(&At::root(new), &mut errors);
    errors
}

pub(crate) fn priority_level(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let (kind, name) = (spec.get("type"), meta::name(object));
    if (name == "exempt") != (kind.text() == "Exempt") {
        kind.invalid(&mut errors, "type must be 'Exempt' if and only if name is 'exempt'");
    }
    let (limited, exempt) = (spec.opt("limited"), spec.opt("exempt"));
    match (kind.text(), limited, exempt) {
        ("Exempt", Some(limited), _) => {
            limited.forbidden(&mut errors, "must be nil if the type is not Limited");
        }
        ("Exempt", None, Some(exempt)) => {
            let shares = exempt.get("nominalConcurrencyShares");
            if shares.number().is_some_and(|s| s < 0) {
                shares.invalid(&mut errors, "must be a non-negative integer");
            }
            lendable(&exempt, &mut errors);
        }
        ("Exempt", None, None) => {}
        ("Limited", _, Some(exempt)) => {
            exempt.forbidden(&mut errors, "must be nil if the type is Limited");
        }
        ("Limited", None, None) => {
            spec.get("limited").required(&mut errors, "must not be empty when type is Limited");
        }
        ("Limited", Some(limited), None) => limits(&limited, &mut errors),
        _ => kind.one_of(&mut errors, &["Exempt", "Limited"]),
    }
    must_equal(object, &spec, (name == "catch-all").then(catch_all_level), &mut errors);
    flow_conditions(&root, &mut errors);
    errors
}

pub(crate) fn priority_level_update(new: &Value, _old: &Value) -> Errors {
    priority_level(new)
}

fn lendable(at: &At<'_>, errors: &mut Errors) {
    let percent = at.get("lendablePercent");
    if percent.number().is_some_and(|p| !(0..=100).contains(&p)) {
        percent.invalid(errors, "must be between 0 and 100, inclusive");
    }
}

fn limits(limited: &At<'_>, errors: &mut Errors) {
    let shares = limited.get("nominalConcurrencyShares");
    if shares.number().is_some_and(|s| s < 0) {
        shares.invalid(errors, "must be a non-negative integer");
    }
    let borrowing = limited.get("borrowingLimitPercent");
    if borrowing.number().is_some_and(|p| p < 0) {
        borrowing.invalid(errors, "if specified, must be a non-negative integer");
    }
    lendable(limited, errors);
    let response = limited.get("limitResponse");
    let (kind, queuing) = (response.get("type"), response.get("queuing"));
    match (kind.text(), queuing.value().is_null()) {
        ("Reject", true) => {}
        ("Reject", false) => {
            queuing.forbidden(errors, "must be nil if limited.limitResponse.type is not Limited");
        }
        ("Queue", true) => {
            queuing.required(errors, "must not be empty if limited.limitResponse.type is Limited");
        }
        ("Queue", false) => queues(&queuing, errors),
        _ => kind.one_of(errors, &["Queue", "Reject"]),
    }
}

fn queues(queuing: &At<'_>, errors: &mut Errors) {
    let length = queuing.get("queueLengthLimit");
    if length.number().unwrap_or(0) <= 0 {
        length.invalid(errors, "must be positive");
    }
    let (deck, hand) = (queuing.get("queues"), queuing.get("handSize"));
    let (cards, dealt) = (deck.number().unwrap_or(0), hand.number().unwrap_or(0));
    if cards <= 0 {
        deck.invalid(errors, "must be positive");
    } else if cards > MAX_QUEUES {
        deck.invalid(errors, format!("must not be greater than {MAX_QUEUES}"));
    }
    if dealt <= 0 {
        hand.invalid(errors, "must be positive");
    } else if dealt > cards {
        hand.invalid(errors, format!("should not be greater than queues ({cards})"));
    } else if entropy_bits(cards, dealt) > MAX_HASH_BITS {
        let detail = format!(
            "required entropy bits of deckSize {cards} and handSize {dealt} should not be greater than \
             {MAX_HASH_BITS}"
        );
        hand.invalid(errors, detail);
    }
}

/// How many bits of a hash it takes to deal a hand from a deck, a little more than needed.
fn entropy_bits(deck: i64, hand: i64) -> i64 {
    let (deck, hand) = (u32::try_from(deck).unwrap_or(u32::MAX), u32::try_from(hand).unwrap_or(u32::MAX));
    // At most 32 × 2³².
    #[allow(clippy::cast_possible_truncation)]
    let bits = (f64::from(deck).log2() * f64::from(hand)).ceil() as i64;
    bits
}

/// The bytes that base64 text stands for.
fn base64_len(text: &str) -> usize {
    text.trim_end_matches('=').len() * 3 / 4
}

pub(crate) fn api_service(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    if !meta::name(object).is_empty() && meta::name(object) != wanted {
        let metadata = root.get("metadata");
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        errors.push(Error::invalid(&metadata.get("name").path(), meta::name(object), detail));
    }
    if group.text().is_empty() && version.text() != "v1" {
        group.required(&mut errors, "only v1 may have an empty group and it better be legacy kube");
    }
    group.rule(&mut errors, dns_subdomain);
    for wrong in names::dns1035_label(version.text(), false) {
        errors.push(Error::invalid(&version.path(), version.text(), wrong));
    }
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1_000)] {
        let priority = spec.get(field);
        let number = priority.number().unwrap_or(0);
        if !(1..=most).contains(&number) {
            let detail = format!("must be positive and less than {most}");
            errors.push(Error::invalid(&priority.path(), number, detail));
        }
    }
    let (bundle, blind) = (spec.get("caBundle"), spec.get("insecureSkipTLSVerify"));
    let bytes = base64_len(bundle.text());
    match spec.opt("service") {
        None => {
            if bytes > 0 {
                let shown = format!("{bytes} bytes");
                let detail = "local APIServices may not have a caBundle";
                errors.push(Error::invalid(&bundle.path(), shown, detail));
            }
            if blind.is_true() {
                blind.invalid(&mut errors, "local APIServices may not have insecureSkipTLSVerify");
            }
        }
        Some(service) => {
            service.get("namespace").needed(&mut errors);
            service.get("name").needed(&mut errors);
            service_port(&service.get("port"), &mut errors);
            if blind.is_true() && bytes > 0 {
                blind.invalid(&mut errors, "may not be true if caBundle is present");
            }
        }
    }
    errors
}

pub(crate) fn api_service_update(new: &Value, _old: &Value) -> Errors {
    api_service(new)
}

pub(crate) fn api_service_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    for condition in status.get("conditions").items() {
        condition.get("status").one_of(&mut errors, super::CONDITION_STATUSES);
    }
    errors
}

#[cfg(test)]
#[path = "machinery_tests.rs"]
mod tests;
