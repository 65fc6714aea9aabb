//! Bundles of trust, and requests for the certificates of pods.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::Value;

use super::At;
use super::certificates::signer_name;
use crate::field::{Error, Errors, Path};
use crate::meta;
use crate::names;

const MAX_BUNDLE: usize = 1024 * 1024;

pub(crate) fn bundle(object: &Value) -> Errors {
    let mut errors = named(object);
    anchors(meta::text(object, &["spec", "trustBundle"]), &mut errors);
    errors
}

pub(crate) fn bundle_update(new: &Value, old: &Value) -> Errors {
    let mut errors = named(new);
    let path = ["spec", "trustBundle"];
    if meta::text(new, &path) != meta::text(old, &path) {
        anchors(meta::text(new, &path), &mut errors);
    }
    At::root(new).get("spec").get("signerName").unchanged(&mut errors, &old["spec"]["signerName"]);
    errors
}

/// A signer's bundles begin with its name, and only they have colons in theirs.
fn named(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let (spec, metadata) = (root.get("spec"), root.get("metadata"));
    let (signer, name) = (spec.get("signerName"), metadata.get("name"));
    let mut wrong = Vec::new();
    if signer.text().is_empty() {
        if name.text().contains(':') {
            wrong.push("ClusterTrustBundle without signer name must not have \":\" in its name".to_owned());
        } else {
            wrong = names::dns_subdomain(name.text(), false);
        }
    } else {
        let prefix = format!("{}:", signer.text().replace('/', ":"));
        match name.text().strip_prefix(&prefix) {
            Some(rest) => wrong = names::dns_subdomain(rest, false),
            None => wrong.push(format!(
                "ClusterTrustBundle for signerName {} must be named with prefix {prefix}",
                signer.text()
            )),
        }
    }
    name.all_invalid(&mut errors, wrong);
    if !signer.text().is_empty() {
        signer_name(&signer, &mut errors);
    }
    errors
}

/// Certificates in PEM, each once. Whether they may sign others is for those to judge who use them.
fn anchors(text: &str, errors: &mut Errors) {
    let path = Path::new("spec").child("trustBundle");
    if text.len() > MAX_BUNDLE {
        return errors.push(Error::too_long(&path, MAX_BUNDLE));
    }
    let mut wrong = Vec::new();
    let mut found: Vec<(Vec<u8>, Vec<usize>)> = Vec::new();
    for (i, (kind, body)) in blocks(text).enumerate() {
        if kind != "CERTIFICATE" {
            wrong.push(format!("entry {i} has bad block type: {kind}"));
        } else if body.contains(':') {
            wrong.push(format!("entry {i} has PEM block headers"));
        } else {
            let packed: String = body.split_whitespace().collect();
            // A certificate is one sequence of DER.
            match BASE64_STANDARD.decode(packed).ok().filter(|der| der.first() == Some(&0x30)) {
                None => wrong.push(format!("entry {i} does not parse as X.509")),
                Some(der) => match found.iter_mut().find(|(known, _)| *known == der) {
                    Some((_, at)) => at.push(i),
                    None => found.push((der, vec![i])),
                },
            }
        }
    }
    if wrong.is_empty() && found.is_empty() {
        wrong.push("at least one trust anchor must be provided".to_owned());
    }
    if wrong.is_empty() {
        for (_, indices) in found.iter().filter(|(_, indices)| indices.len() > 1) {
            let listed: Vec<String> = indices.iter().map(ToString::to_string).collect();
            wrong.push(format!("duplicate trust anchor (indices [{}])", listed.join(" ")));
        }
    }
    errors.extend(wrong.into_iter().map(|detail| Error::invalid(&path, "<value omitted>", detail)));
}

/// The type and the body of each PEM block; what stands between blocks does not count.
fn blocks(mut rest: &str) -> impl Iterator<Item = (&str, &str)> {
    std::iter::from_fn(move || {
        let (_, from) = rest.split_once("-----BEGIN ")?;
        let (kind, from) = from.split_once("-----")?;
        let (body, after) = from.split_once(&format!("-----END {kind}-----"))?;
        rest = after;
        Some((kind, body))
    })
}

pub(crate) fn pod_certificate(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    signer_name(&spec.get("signerName"), &mut errors);
    errors
}

pub(crate) fn pod_certificate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = pod_certificate(new);
    At::root(new).get("spec").unchanged(&mut errors, &old["spec"]);
    errors
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
