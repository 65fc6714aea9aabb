//! Bundles of trust, and requests for the certificates of pods.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificates::signer_name;
use super::pem;
use super::{At, label_selector};
use crate::field::{Error, Errors, Path};
use crate::meta;
use crate::names;

const MAX_BUNDLE: usize = 1024 * 1024;
const MAX_UID: usize = 128;
const MAX_KEY: usize = 10 * 1024;
const MAX_CHAIN: usize = 100 * 1024;
/// The shortest life that a pod's certificate may be asked for, in seconds; the longest of Kubernetes' own signers,
/// and of others.
const LIFE: [i64; 3] = [60 * 60, 24 * 60 * 60, 91 * 24 * 60 * 60];

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
    for (i, block) in pem::blocks(text).enumerate() {
        if block.kind != "CERTIFICATE" {
            wrong.push(format!("entry {i} has bad block type: {}", block.kind));
        } else if block.has_headers() {
            wrong.push(format!("entry {i} has PEM block headers"));
        } else {
            match block.certificate() {
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

pub(crate) fn pod_certificate(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let signer = spec.get("signerName");
    signer_name(&signer, &mut errors);
    let annotations = spec.get("unverifiedUserAnnotations");
    meta::validate_annotations(annotations.value(), &annotations.path(), &mut errors);
    for (name, uid) in
        [("podName", "podUID"), ("serviceAccountName", "serviceAccountUID"), ("nodeName", "nodeUID")]
    {
        let (name, uid) = (spec.get(name), spec.get(uid));
        let wrong = names::dns_subdomain(name.text(), false);
        name.all_invalid(&mut errors, wrong);
        if uid.text().is_empty() {
            errors.push(Error::invalid(&uid.path(), "", "must not be empty"));
        }
        if uid.text().len() > MAX_UID {
            errors.push(Error::too_long(&uid.path(), MAX_UID));
        }
    }
    let life = spec.get("maxExpirationSeconds");
    if life.value().is_null() {
        life.required(&mut errors, "must be set");
    }
    let [least, most] = lifetimes(signer.text());
    if life.number().is_some_and(|seconds| !(least..=most).contains(&seconds)) {
        life.invalid(&mut errors, format!("must be in the range [{least}, {most}]"));
    }
    for field in ["pkixPublicKey", "proofOfPossession", "stubPKCS10Request"] {
        let key = spec.get(field);
        if key.text().len() / 4 * 3 > MAX_KEY {
            errors.push(Error::too_long(&key.path(), MAX_KEY));
        }
    }
    errors
}

/// The least and the most seconds that a pod's certificate may be asked to live.
fn lifetimes(signer: &str) -> [i64; 2] {
    let domain = signer.split('/').next().unwrap_or_default();
    let own = domain == "kubernetes.io" || domain.ends_with(".kubernetes.io");
    [LIFE[0], LIFE[if own { 1 } else { 2 }]]
}

/// A certificate that a volume shows (KEP-4317). The paths are the volume's to judge.
pub(super) fn certificate_projection(at: &At<'_>, errors: &mut Errors) {
    let signer = at.get("signerName");
    signer_name(&signer, errors);
    at.get("keyType").one_of(errors, KEY_TYPES);
    let life = at.get("maxExpirationSeconds");
    let [least, most] = lifetimes(signer.text());
    match life.number() {
        Some(seconds) if seconds < least => {
            life.invalid(errors, format!("if provided, maxExpirationSeconds must be >= {least}"));
        }
        Some(seconds) if seconds > most => {
            life.invalid(errors, format!("if provided, maxExpirationSeconds must be <= {most}"));
        }
        _ => {}
    }
    let annotations = at.get("userAnnotations");
    meta::validate_annotations(annotations.value(), &annotations.path(), errors);
    if CERTIFICATE_PATHS.iter().all(|path| at.get(path).text().is_empty()) {
        at.required(
            errors,
            "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
        );
    }
}

const KEY_TYPES: &[&str] = &["ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096"];
pub(super) const CERTIFICATE_PATHS: [&str; 3] = ["credentialBundlePath", "keyPath", "certificateChainPath"];

/// Bundles of trust that a volume shows: one by its name, or all of a signer that a selector finds (KEP-3257).
pub(super) fn bundle_projection(at: &At<'_>, errors: &mut Errors) {
    let (name, signer) = (at.get("name"), at.get("signerName"));
    match (at.has("name"), at.has("signerName")) {
        (true, true) => at.invalid(errors, "only one of name and signerName may be used"),
        (true, false) => {
            if name.text().is_empty() {
                name.required(errors, "must be a valid object name");
            }
            // What stands before the last colon is a signer's.
            let own = name.text().rsplit(':').next().unwrap_or_default();
            for detail in names::dns_subdomain(own, false) {
                name.invalid(errors, format!("not a valid clustertrustbundlename: {detail}"));
            }
            if let Some(selector) = at.opt("labelSelector") {
                selector.invalid(errors, "labelSelector must be unset if name is specified");
            }
        }
        (false, true) => {
            signer_name(&signer, errors);
            if let Some(selector) = at.opt("labelSelector") {
                label_selector(&selector, errors);
            }
        }
        (false, false) => at.required(errors, "either name or signerName must be specified"),
    }
}

pub(crate) fn pod_certificate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    At::root(new).get("spec").unchanged(&mut errors, &old["spec"]);
    errors
}

const OUTCOMES: [&str; 3] = ["Issued", "Denied", "Failed"];

/// How a request ended: once, and with a certificate for its key where it was fulfilled.
pub(crate) fn pod_certificate_status(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    let conditions = status.get("conditions");
    let mut ends = 0;
    for (i, condition) in conditions.items().enumerate() {
        // Upstream writes an index as if it were a field.
        let path = Path::new("status").child("conditions").child(&format!("[{i}]"));
        let (kind, status) = (condition.get("type"), condition.get("status"));
        if !OUTCOMES.contains(&kind.text()) {
            errors.push(Error::not_supported(&path.child("type"), kind.text(), &OUTCOMES));
            continue;
        }
        ends += 1;
        if ends > 1 {
            let why = "There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"";
            errors.push(Error::invalid(&path.child("type"), kind.text(), why));
        }
        if status.text() != "True" {
            errors.push(Error::not_supported(&path.child("status"), status.text(), &["True"]));
        }
    }
    super::conditions(&conditions, &mut errors);
    if !errors.is_empty() {
        return errors;
    }
    let same = new["status"] == old["status"];
    let why = match (ended(old), ended(new)) {
        (Some(_), _) if !same => "immutable after PodCertificateRequest is issued, denied, or failed",
        (Some(_), _) => return errors,
        (None, Some("Issued")) => {
            errors.extend(issued(new).err());
            return errors;
        }
        (None, Some(_)) if new["status"] != json!({"conditions": conditions.value()}) => {
            "non-condition status fields must be empty when denying or failing the PodCertificateRequest"
        }
        (None, None) if !same => {
            "status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\""
        }
        (None, _) => return errors,
    };
    errors.push(Error::invalid_whole(&status.path(), why));
    errors
}

fn ended(request: &Value) -> Option<&str> {
    let conditions = meta::items(request, &["status", "conditions"]).iter();
    let ended = conditions.filter(|c| c["status"] == "True").find_map(|c| c["type"].as_str());
    ended.filter(|kind| OUTCOMES.contains(kind))
}

/// What is wrong with the chain that was issued, and with the times that are told of it.
fn issued(request: &Value) -> Result<(), Error> {
    let status = Path::new("status");
    let at = status.child("certificateChain");
    let chain = meta::text(request, &["status", "certificateChain"]);
    if chain.len() > MAX_CHAIN {
        return Err(Error::too_long(&at, MAX_CHAIN));
    }
    let wrong = |why: &str| Error::invalid(&at, chain, why);
    let mut blocks = pem::blocks(chain);
    let first = blocks
        .next()
        .ok_or_else(|| wrong("issued certificate chain must contain at least one certificate"))?;
    if first.kind != "CERTIFICATE" {
        return Err(wrong("issued certificate chain must consist entirely of CERTIFICATE PEM blocks"));
    }
    let malformed = "leaf certificate does not parse as valid X.509";
    let der = first.certificate().ok_or_else(|| wrong(malformed))?;
    let (_, leaf) = X509Certificate::from_der(&der).map_err(|_| wrong(malformed))?;
    if asked_key(request).is_some_and(|key| key != leaf.public_key().raw) {
        return Err(wrong("leaf certificate was not issued to the requested public key"));
    }
    let told = |field: &str, why: &str| {
        let time = meta::text(request, &["status", field]).parse::<Timestamp>();
        time.map_err(|_| Error::required(&status.child(field), why))
    };
    let consistent = "must be present and consistent with the issued certificate";
    let (from, until) = (told("notBefore", consistent)?, told("notAfter", consistent)?);
    let refresh =
        told("beginRefreshAt", "must be present and in the range [notbefore+10min, notafter-10min]")?;
    let validity = leaf.validity();
    let differs = |field: &str, name: &str, time: Timestamp| {
        let why = format!("must be set to the {name} time encoded in the leaf certificate");
        Error::invalid(&status.child(field), time.to_string(), why)
    };
    if from.as_second() != validity.not_before.timestamp() {
        return Err(differs("notBefore", "NotBefore", from));
    }
    if until.as_second() != validity.not_after.timestamp() {
        return Err(differs("notAfter", "NotAfter", until));
    }
    let life = until.as_second() - from.as_second();
    if life < LIFE[0] {
        return Err(Error::invalid(&at, life, "leaf certificate lifetime must be >= 1 hour"));
    }
    let most = request["spec"]["maxExpirationSeconds"].as_i64().unwrap_or(i64::MAX);
    if life > most {
        let why = format!("leaf certificate lifetime must be <= spec.maxExpirationSeconds ({most})");
        return Err(Error::invalid(&at, life, why));
    }
    let margin = SignedDuration::from_mins(10);
    for (bad, why) in [
        (refresh.duration_since(from) < margin, "must be at least 10 minutes after status.notBefore"),
        (until.duration_since(refresh) < margin, "must be at least 10 minutes before status.notAfter"),
    ] {
        if bad {
            return Err(Error::invalid(&status.child("beginRefreshAt"), refresh.to_string(), why));
        }
    }
    for block in blocks {
        if block.kind != "CERTIFICATE" {
            return Err(wrong("issued certificate chain must consist entirely of CERTFICATE PEM blocks"));
        }
        if block.certificate().is_none() {
            return Err(wrong("intermediate certificate does not parse as valid X.509"));
        }
    }
    Ok(())
}

/// The key that a certificate was asked for, in DER: named itself, or by a request that is signed with it.
fn asked_key(request: &Value) -> Option<Vec<u8>> {
    let bytes = |field| {
        let text = Some(meta::text(request, &["spec", field])).filter(|text| !text.is_empty())?;
        BASE64_STANDARD.decode(text).ok()
    };
    if let Some(key) = bytes("pkixPublicKey") {
        return Some(key);
    }
    let stub = bytes("stubPKCS10Request")?;
    let (_, stub) = X509CertificationRequest::from_der(&stub).ok()?;
    Some(stub.certification_request_info.subject_pki.raw.to_vec())
}

#[cfg(test)]
#[path = "trust_tests.rs"]
mod tests;
