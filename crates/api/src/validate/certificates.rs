//! CertificateSigningRequest. That its request is one, who takes it in sees (`tiphys-apiserver`).

use serde_json::Value;

use super::At;
use crate::field::{Error, Errors, Path};
use crate::{meta, names};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// The shortest life that can be asked for, in seconds.
const SHORTEST: i64 = 600;
/// A domain, a slash, a namespace, a dot and a name.
const LONGEST_SIGNER: usize = 253 + 1 + 63 + 1 + 253;

pub(super) fn signer_name(at: &At<'_>, errors: &mut Errors) {
    let name = at.text();
    if name.is_empty() {
        return at.required(errors, "signerName must be provided");
    }
    let (Some((domain, path)), 1) = (name.split_once('/'), name.matches('/').count()) else {
        return at.invalid(
            errors,
            "must be a fully qualified domain and path of the form 'example.com/signer-name'",
        );
    };
    let mut invalid = |part: &str, detail: String| errors.push(Error::invalid(&at.path(), part, detail));
    let wrong = |label: &str, rule: fn(&str, bool) -> Vec<String>| {
        let lines = rule(label, false).into_iter();
        lines.map(|line| format!("validating label {label:?}: {line}")).collect::<Vec<_>>()
    };
    let first = domain.split('.').map(|label| wrong(label, names::dns_label)).find(|lines| !lines.is_empty());
    first.into_iter().flatten().for_each(|line| invalid(domain, line));
    if !domain.contains('.') {
        invalid(domain, "should be a domain with at least two segments separated by dots".to_owned());
    }
    let first =
        path.split('.').map(|label| wrong(label, names::dns_subdomain)).find(|lines| !lines.is_empty());
    first.into_iter().flatten().for_each(|line| invalid(path, line));
    if name.len() > LONGEST_SIGNER || domain.len() > 253 {
        errors.push(Error::too_long(&at.path(), if domain.len() > 253 { 253 } else { LONGEST_SIGNER }));
    }
}

fn conditions(at: &At<'_>, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    let listed = meta::items(at.value(), &[]);
    for (condition, value) in at.items().zip(listed) {
        let kind = meta::text(value, &["type"]);
        let (named, status) = (condition.get("type"), condition.get("status"));
        if kind.is_empty() {
            named.required(errors, "");
        }
        let words: &[&str] = if matches!(kind, "Approved" | "Denied" | "Failed") {
            &["True"]
        } else {
            &["False", "True", "Unknown"]
        };
        if status.text().is_empty() {
            status.required(errors, "");
        } else {
            status.one_of(errors, words);
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !other.is_empty() && seen.contains(&other) {
            named.invalid(errors, "Approved and Denied conditions are mutually exclusive");
        }
        if seen.contains(&kind) {
            named.duplicate(errors);
        }
        seen.push(kind);
    }
}

pub(crate) fn request(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let usages = spec.get("usages");
    if usages.len() == 0 {
        usages.required(&mut errors, "usages must be provided");
    }
    let listed = meta::items(usages.value(), &[]);
    for (at, usage) in usages.items().enumerate() {
        usage.one_of(&mut errors, &USAGES);
        if listed[..at].contains(usage.value()) {
            usage.duplicate(&mut errors);
        }
    }
    let signer = spec.get("signerName");
    if signer.text() == "kubernetes.io/legacy-unknown" {
        signer.invalid(&mut errors, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&signer, &mut errors);
    }
    if let Some(life) = spec.opt("expirationSeconds")
        && life.number().is_some_and(|seconds| seconds < SHORTEST)
    {
        life.invalid(
            &mut errors,
            format!("may not specify a duration less than {SHORTEST} seconds (10 minutes)"),
        );
    }
    conditions(&root.get("status").get("conditions"), &mut errors);
    errors
}

/// The conditions of one type.
fn of_type<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    meta::items(object, &["status", "conditions"]).iter().filter(|c| c["type"] == kind).collect()
}

/// What no update may do, whatever it is an update of; `approves` and `signs` tell what this one may.
fn changed(new: &Value, old: &Value, approves: bool, signs: bool) -> Errors {
    let mut errors = Vec::new();
    {
        let root = At::root(new);
        conditions(&root.get("status").get("conditions"), &mut errors);
    }
    let path = Path::new("status").child("conditions");
    for kind in ["Approved", "Denied", "Failed"] {
        let (before, now) = (of_type(old, kind), of_type(new, kind));
        let mut refuse = |what: &str| {
            errors.push(Error::forbidden(
                &path,
                format!("updates may not {what} a condition of type {kind:?}"),
            ));
        };
        let judged = kind != "Failed" && !approves;
        if now.len() < before.len() {
            refuse("remove");
        } else if judged && now.len() > before.len() {
            refuse("add");
        } else if judged && now != before {
            refuse("modify");
        }
    }
    let certificate = |object: &Value| meta::text(object, &["status", "certificate"]).to_owned();
    if certificate(new) != certificate(old) {
        let path = Path::new("status").child("certificate");
        if !signs {
            errors.push(Error::forbidden(&path, "updates may not set certificate content"));
        } else if !certificate(old).is_empty() {
            errors.push(Error::forbidden(&path, "updates may not modify existing certificate content"));
        }
    }
    errors
}

pub(crate) fn request_update(new: &Value, old: &Value) -> Errors {
    changed(new, old, false, false)
}

pub(crate) fn approval_update(new: &Value, old: &Value) -> Errors {
    changed(new, old, true, false)
}

pub(crate) fn status_update(new: &Value, old: &Value) -> Errors {
    changed(new, old, false, true)
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
