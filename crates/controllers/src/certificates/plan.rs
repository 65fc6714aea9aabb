//! What becomes of a CertificateSigningRequest.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use tiphys_client::Verdict;
use tiphys_pki::{KeyUsage, SigningRequest};

const API_CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";

/// What a certificate lives that asks for nothing else, and the most that it can: a year.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);
const SHORTEST: Duration = Duration::from_secs(600);
/// So long after it was signed, denied or failed a request goes.
const ANSWERED: SignedDuration = SignedDuration::from_hours(1);
/// So long after it was sent one goes that nobody has answered.
const PENDING: SignedDuration = SignedDuration::from_hours(24);

/// Who may have what approved without being asked: the permission, and what the approval tells.
pub(super) type Sort = (&'static str, &'static str);
const SELF: Sort =
    ("selfnodeclient", "Auto approving self kubelet client certificate after SubjectAccessReview.");
const NODE: Sort = ("nodeclient", "Auto approving kubelet client certificate after SubjectAccessReview.");

#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// It is of no use any more.
    Delete,
    /// To be approved if its sender may have one of these sorts; the first counts.
    Ask(Vec<Sort>),
    /// The signer can't make what is asked for.
    Fail(&'static str),
    Sign {
        usages: Vec<KeyUsage>,
        life: Duration,
    },
}

fn condition_since(request: &CertificateSigningRequest, kind: &str) -> Option<Option<Timestamp>> {
    let conditions = request.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind)?;
    Some(found.last_update_time.as_ref().map(|time| time.0))
}

fn has(request: &CertificateSigningRequest, kind: &str) -> bool {
    condition_since(request, kind).is_some()
}

fn certificate(request: &CertificateSigningRequest) -> Option<&[u8]> {
    let bytes = request.status.as_ref()?.certificate.as_ref()?.0.as_slice();
    (!bytes.is_empty()).then_some(bytes)
}

/// When the request goes; `None`: not by itself.
fn end(request: &CertificateSigningRequest) -> Option<Timestamp> {
    let since = |kind| condition_since(request, kind).flatten();
    let after = |from: Timestamp, age| from.saturating_add(age).unwrap_or(Timestamp::MAX);
    let conditions = request.status.as_ref().and_then(|s| s.conditions.as_ref());
    let signed = certificate(request).filter(|_| has(request, "Approved"));
    let answers = [
        signed.and_then(|_| since("Approved")).map(|at| after(at, ANSWERED)),
        signed.and_then(tiphys_pki::expiry).and_then(|at| Timestamp::try_from(at).ok()),
        since("Denied").map(|at| after(at, ANSWERED)),
        since("Failed").map(|at| after(at, ANSWERED)),
        request
            .metadata
            .creation_timestamp
            .as_ref()
            .filter(|_| conditions.is_none_or(Vec::is_empty))
            .map(|sent| after(sent.0, PENDING)),
    ];
    answers.into_iter().flatten().min()
}

/// When to look again, should nothing happen to the request.
pub(super) fn again(request: &CertificateSigningRequest, now: Timestamp) -> Verdict {
    let Some(end) = end(request) else { return Verdict::Done };
    let left = end.duration_since(now).max(SignedDuration::from_secs(1));
    Verdict::After(left.unsigned_abs() + Duration::from_secs(1))
}

/// Why a request can't be a kubelet's; `client` tells which of its two sorts.
fn kubelet(asked: &SigningRequest, usages: &BTreeSet<&str>, client: bool) -> Result<(), &'static str> {
    if asked.organizations != ["system:nodes"] {
        return Err("subject organization is not system:nodes");
    }
    let named = !asked.dns_names.is_empty() || !asked.addresses.is_empty();
    if client && !asked.dns_names.is_empty() {
        return Err("DNS subjectAltNames are not allowed");
    }
    if !client && !named {
        return Err("DNS or IP subjectAltName is required");
    }
    if !asked.emails.is_empty() {
        return Err("Email subjectAltNames are not allowed");
    }
    if client && !asked.addresses.is_empty() {
        return Err("IP subjectAltNames are not allowed");
    }
    if !asked.uris.is_empty() {
        return Err("URI subjectAltNames are not allowed");
    }
    if !asked.common_name.starts_with("system:node:") {
        return Err("subject common name does not begin with system:node:");
    }
    // Keys of elliptic curves encipher nothing.
    let (auth, wrong) = if client {
        ("client auth", "usages did not match [client auth digital signature]")
    } else {
        ("server auth", "usages did not match [digital signature server auth]")
    };
    let few = BTreeSet::from([auth, "digital signature"]);
    let more = BTreeSet::from([auth, "digital signature", "key encipherment"]);
    if *usages == few || *usages == more { Ok(()) } else { Err(wrong) }
}

/// Why the signer won't sign what is asked for; `None` for a signer that is not ours.
fn check(signer: &str, asked: &SigningRequest, usages: &BTreeSet<&str>) -> Option<Result<(), &'static str>> {
    Some(match signer {
        KUBELET_CLIENT => kubelet(asked, usages, true),
        KUBELET_SERVING => kubelet(asked, usages, false),
        API_CLIENT => {
            let fine = ["digital signature", "key encipherment", "client auth"];
            if usages.iter().any(|usage| !fine.contains(usage)) {
                Err("invalid usage for client certificate")
            } else if !usages.contains("client auth") {
                Err("missing required usage for client certificate: client auth")
            } else {
                Ok(())
            }
        }
        _ => return None,
    })
}

/// `asked` is what the request holds, if that can be read.
pub(super) fn step(
    request: &CertificateSigningRequest,
    asked: Option<&SigningRequest>,
    now: Timestamp,
) -> Step {
    if end(request).is_some_and(|end| end < now) {
        return Step::Delete;
    }
    let done = certificate(request).is_some() || has(request, "Denied") || has(request, "Failed");
    let Some(asked) = asked.filter(|_| !done && request.metadata.deletion_timestamp.is_none()) else {
        return Step::Nothing;
    };
    let spec = &request.spec;
    let words = spec.usages.iter().flatten();
    let usages: BTreeSet<&str> = words.clone().map(String::as_str).collect();
    let Some(judged) = check(&spec.signer_name, asked, &usages) else { return Step::Nothing };
    if has(request, "Approved") {
        return match judged {
            Err(why) => Step::Fail(why),
            Ok(()) => Step::Sign {
                usages: words.filter_map(|word| KeyUsage::named(word)).collect(),
                life: spec.expiration_seconds.map_or(LIFE, |seconds| {
                    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(SHORTEST, LIFE)
                }),
            },
        };
    }
    if spec.signer_name != KUBELET_CLIENT || judged.is_err() {
        return Step::Nothing;
    }
    let own = spec.username.as_deref() == Some(asked.common_name.as_str());
    Step::Ask(if own { vec![SELF, NODE] } else { vec![NODE] })
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
