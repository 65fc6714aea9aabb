//! CertificateApproval, CertificateSigning, CertificateSubjectRestriction and ClusterTrustBundleAttest: who may speak
//! for a signer. And what the server itself says in a request: who sent it, and when something became of it.

use std::sync::Arc;

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_api::{field, meta, status::Status};
use tiphys_pki::{Clock, SigningRequest};

use super::{Attributes, Operation, Plugin};
use crate::{
    authz::{self, Chain, Decision, Target},
    identity::MASTERS,
};

const GROUP: &str = "certificates.k8s.io";
const REQUESTS: &str = "certificatesigningrequests";
const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";

/// Whether the request updates this subresource of a signing request; empty: creates one.
fn is(request: &Attributes<'_>, subresource: &str) -> bool {
    let operation = if subresource.is_empty() { Operation::Create } else { Operation::Update };
    request.group == GROUP
        && request.resource == REQUESTS
        && request.subresource == subresource
        && request.operation == operation
}

/// Lets those do something in a signer's name who may: by the signer's own name, or by that of all of its domain.
pub struct Signers {
    authorizer: Arc<Chain>,
}

impl Signers {
    pub fn new(authorizer: Arc<Chain>) -> Self {
        Self { authorizer }
    }

    async fn may(&self, request: &Attributes<'_>, verb: &str, signer: &str) -> bool {
        let all = format!("{}/*", signer.split('/').next().unwrap_or_default());
        for name in [signer, &all] {
            let target = Target::Resource {
                group: GROUP,
                version: "*",
                resource: "signers",
                subresource: "",
                namespace: "",
                name,
                field_selector: "",
                label_selector: "",
            };
            let asked = authz::Attributes { user: request.user, verb, target };
            if matches!(self.authorizer.authorize(&asked).await, Decision::Allow { .. }) {
                return true;
            }
        }
        false
    }
}

#[async_trait]
impl Plugin for Signers {
    fn name(&self) -> &'static str {
        "CertificateApproval"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.group == GROUP
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let signer = |object: &Value| meta::text(object, &["spec", "signerName"]).to_owned();
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        let (verb, signer, what) = if is(request, "approval") {
            ("approve", signer(old), "approve requests with")
        } else if is(request, "status") {
            let answer = |object: &Value| {
                let status = &object["status"];
                (status["certificate"].clone(), status["conditions"].clone())
            };
            if answer(object) == answer(old) {
                return Ok(());
            }
            ("sign", signer(old), "sign requests with")
        } else if writes && request.resource == "clustertrustbundles" && request.subresource.is_empty() {
            let same = object["spec"] == old["spec"];
            if same || signer(object).is_empty() {
                return Ok(());
            }
            ("attest", signer(object), "attest for")
        } else {
            return Ok(());
        };
        if self.may(request, verb, &signer).await {
            return Ok(());
        }
        Err(request.forbidden(object, &format!("user not permitted to {what} signerName {signer:?}")))
    }
}

/// Says who asks for a certificate, and takes in only what is a request, and none that would make an administrator.
pub struct SigningRequests {
    clock: Clock,
}

impl SigningRequests {
    /// `clock` tells when conditions came about.
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

/// Gives conditions the times that they lack; one that was there before keeps the time of its last transition.
fn date(object: &mut Value, old: &Value, now: &str) {
    let Some(conditions) = object["status"].get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    let lacks = |condition: &Value, field: &str| meta::text(condition, &[field]).is_empty();
    for condition in conditions.iter_mut().filter(|condition| condition.is_object()) {
        if lacks(condition, "lastUpdateTime") {
            condition["lastUpdateTime"] = now.into();
        }
        if lacks(condition, "lastTransitionTime") {
            let before = meta::items(old, &["status", "conditions"]).iter().find(|before| {
                before["type"] == condition["type"]
                    && before["status"] == condition["status"]
                    && !lacks(before, "lastTransitionTime")
            });
            condition["lastTransitionTime"] =
                before.map_or_else(|| now.into(), |before| before["lastTransitionTime"].clone());
        }
    }
}

#[async_trait]
impl Plugin for SigningRequests {
    fn name(&self) -> &'static str {
        "CertificateSubjectRestriction"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.group == GROUP && request.resource == REQUESTS
    }

    async fn admit(&self, request: &Attributes<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        if is(request, "") {
            let spec = super::spec_mut(object);
            for (field, value) in [
                ("username", json!(request.user.name())),
                ("uid", json!(request.user.uid())),
                ("groups", json!(request.user.groups())),
                ("extra", json!(request.user.extra())),
            ] {
                let empty = value == "" || value == json!({});
                if empty { drop(spec.remove(field)) } else { drop(spec.insert(field.to_owned(), value)) }
            }
        } else if is(request, "approval") || is(request, "status") {
            let now = Timestamp::try_from((self.clock)()).unwrap_or(Timestamp::UNIX_EPOCH);
            date(object, old, &now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        if is(request, "status") {
            return certificate(request, object, old);
        }
        if !is(request, "") {
            return Ok(());
        }
        let sent = meta::text(object, &["spec", "request"]);
        // What is no base64 the decoder of bodies has refused.
        let pem = STANDARD.decode(sent).unwrap_or_default();
        let parsed = SigningRequest::parse(&pem).map_err(|error| {
            let path = field::Path::new("spec").child("request");
            let error = field::Error::invalid(&path, sent, error.to_string());
            Status::invalid(GROUP, "CertificateSigningRequest", meta::name(object), &[error])
        })?;
        let grants = meta::text(object, &["spec", "signerName"]) == API_CLIENT
            && parsed.organizations.iter().any(|group| group == MASTERS);
        if grants {
            let why = format!("use of {API_CLIENT} signer with {MASTERS} group is not allowed");
            return Err(request.forbidden(object, &why));
        }
        Ok(())
    }
}

/// What a signer answers is certificates in PEM.
fn certificate(request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
    let sent = meta::text(object, &["status", "certificate"]);
    if sent.is_empty() || sent == meta::text(old, &["status", "certificate"]) {
        return Ok(());
    }
    let pem = STANDARD.decode(sent).unwrap_or_default();
    if tiphys_pki::expiry(&pem).is_some() {
        return Ok(());
    }
    let path = field::Path::new("status").child("certificate");
    let why = "must contain one or more PEM blocks";
    let error = field::Error::invalid(&path, "<certificate data>", why);
    Err(Status::invalid(GROUP, "CertificateSigningRequest", request.name, &[error]))
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
