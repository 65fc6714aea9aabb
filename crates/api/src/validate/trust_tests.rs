use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};

use crate::validate::tests::{check, created, made, updated, with};

const GROUP: &str = "certificates.k8s.io";
const KIND: &str = "ClusterTrustBundle";

fn pem(kind: &str, body: &str) -> String {
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

/// A certificate that is valid for so many seconds from the start of 2026, and its key.
fn certificate(seconds: i64) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = params.not_before + std::time::Duration::from_secs(seconds.unsigned_abs());
    (params.self_signed(&key).unwrap().pem(), key)
}

fn bundle(name: &str, signer: &str, text: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"signerName": signer, "trustBundle": text}})
}

#[test]
fn bundles_are_named_after_their_signers() {
    let (good, _) = certificate(60);
    assert_eq!(created(GROUP, KIND, &bundle("plain", "", &good)), [""; 0]);
    assert_eq!(created(GROUP, KIND, &bundle("x.io:signer:v1", "x.io/signer", &good)), [""; 0]);
    check(&[
        (
            GROUP,
            KIND,
            bundle("a:b", "", &good),
            &[
                "metadata.name: Invalid value: \"a:b\": ClusterTrustBundle without signer name must not have \":\" in its name",
            ],
        ),
        (
            GROUP,
            KIND,
            bundle("v1", "x.io/signer", &good),
            &[
                "metadata.name: Invalid value: \"v1\": ClusterTrustBundle for signerName x.io/signer must be named with prefix x.io:signer:",
            ],
        ),
    ]);
    let told = updated(GROUP, KIND, &bundle("a.io:s:v", "a.io/s", &good), &bundle("a.io:s:v", "", &good));
    assert!(told.iter().any(|t| t.starts_with("spec.signerName: Invalid value: ")), "{told:?}");
}

#[test]
fn bundles_hold_certificates_once() {
    let invalid = |detail: &str| format!("spec.trustBundle: Invalid value: \"<value omitted>\": {detail}");
    let ((one, _), (other, _)) = (certificate(60), certificate(60));
    for (text, wanted) in [
        (String::new(), vec!["at least one trust anchor must be provided"]),
        (format!("{one}words{other}{one}"), vec!["duplicate trust anchor (indices [0 2])"]),
        (
            pem("RSA PRIVATE KEY", "MAA=")
                + &pem("CERTIFICATE", "A: b\n\nMAA=")
                + &pem("CERTIFICATE", "!!")
                + &pem("CERTIFICATE", "MAA="),
            vec![
                "entry 0 has bad block type: RSA PRIVATE KEY",
                "entry 1 has PEM block headers",
                "entry 2 does not parse as X.509",
                "entry 3 does not parse as X.509",
            ],
        ),
    ] {
        let told = created(GROUP, KIND, &bundle("b", "", &text));
        assert_eq!(told, wanted.into_iter().map(invalid).collect::<Vec<_>>());
    }
    let kept = bundle("b", "", "");
    let labelled = with(&kept, &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(updated(GROUP, KIND, &kept, &labelled), [""; 0], "a bundle that stays is not read again");
}

fn request(change: &Value) -> Value {
    let good = json!({"signerName": "x.io/s", "podName": "p", "podUID": "u", "nodeName": "n", "nodeUID": "v",
        "serviceAccountName": "s", "serviceAccountUID": "w", "stubPKCS10Request": "AA=="});
    json!({"spec": with(&good, change)})
}

const REQUEST: &str = "PodCertificateRequest";

#[test]
fn requests_of_pods_are_whole_and_stay_as_they_are() {
    assert_eq!(created(GROUP, REQUEST, &request(&json!({}))), [""; 0]);
    check(&[
        (
            GROUP,
            REQUEST,
            request(&json!({"signerName": "", "podName": "P", "podUID": "", "nodeUID": "x".repeat(129)})),
            &[
                "spec.signerName: Required value: signerName must be provided",
                "spec.podName: Invalid value: \"P\": a lowercase RFC 1123 subdomain",
                "spec.podUID: Invalid value: \"\": must not be empty",
                "spec.nodeUID: Too long: may not be more than 128 bytes",
            ],
        ),
        (
            GROUP,
            REQUEST,
            request(&json!({"maxExpirationSeconds": 3599})),
            &["spec.maxExpirationSeconds: Invalid value: 3599: must be in the range [3600, 7862400]"],
        ),
        (
            GROUP,
            REQUEST,
            request(&json!({"signerName": "kubernetes.io/s", "maxExpirationSeconds": 86401})),
            &["spec.maxExpirationSeconds: Invalid value: 86401: must be in the range [3600, 86400]"],
        ),
    ]);
    assert_eq!(made(GROUP, REQUEST, &request(&json!({})))["spec"]["maxExpirationSeconds"], 86_400);
    let told = updated(GROUP, REQUEST, &request(&json!({})), &request(&json!({"signerName": "x.io/t"})));
    assert!(
        told[0].starts_with("spec: Invalid value: {") && told[0].ends_with("field is immutable"),
        "{told:?}"
    );
}

#[test]
fn requests_of_pods_end_once() {
    let (chain, key) = certificate(7200);
    let stub = CertificateParams::new(Vec::new()).unwrap().serialize_request(&key).unwrap();
    let by_stub = json!({"stubPKCS10Request": BASE64_STANDARD.encode(stub.der())});
    let bare = made(GROUP, REQUEST, &request(&by_stub));
    let end = |kind: &str| json!({"type": kind, "status": "True", "reason": "R", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let with_status = |base: &Value, status: &Value| {
        let mut object = base.clone();
        object["status"] = status.clone();
        object
    };
    let good = json!({"conditions": [end("Issued")], "certificateChain": chain, "notBefore": "2026-01-01T00:00:00Z",
        "notAfter": "2026-01-01T02:00:00Z", "beginRefreshAt": "2026-01-01T01:00:00Z"});
    let told = |base: &Value, status: &Value| -> Vec<String> {
        let new = with_status(base, status);
        super::pod_certificate_status(&new, base).iter().map(ToString::to_string).collect()
    };
    assert_eq!(told(&bare, &good), [""; 0]);
    assert_eq!(told(&bare, &json!({"conditions": [end("Denied")]})), [""; 0]);
    let by_key = json!({"pkixPublicKey": BASE64_STANDARD.encode(key.subject_public_key_info())});
    let mut named = bare.clone();
    named["spec"] = with(&named["spec"], &by_key);
    assert_eq!(told(&named, &good), [""; 0], "a key may be named itself");
    let (short, _) = certificate(1800);
    for (change, wanted) in [
        (
            json!({"conditions": [end("Done")]}),
            "status.conditions.[0].type: Unsupported value: \"Done\": supported values: \"Issued\", \"Denied\", \"Failed\"",
        ),
        (
            json!({"conditions": [end("Issued"), end("Denied")]}),
            "status.conditions.[1].type: Invalid value: \"Denied\": There may be at most one condition with type \"Issued\", \"Denied\", or \"Failed\"",
        ),
        (
            json!({"conditions": [end("Failed")]}),
            "status: Invalid value: non-condition status fields must be empty when denying or failing the PodCertificateRequest",
        ),
        (
            json!({"conditions": null}),
            "status: Invalid value: status is immutable unless transitioning to \"Issued\", \"Denied\", or \"Failed\"",
        ),
        (
            json!({"certificateChain": ""}),
            "status.certificateChain: Invalid value: \"\": issued certificate chain must contain at least one certificate",
        ),
        (
            json!({"notBefore": null}),
            "status.notBefore: Required value: must be present and consistent with the issued certificate",
        ),
        (
            json!({"notAfter": "2026-01-01T03:00:00Z"}),
            "status.notAfter: Invalid value: \"2026-01-01T03:00:00Z\": must be set to the NotAfter time encoded in the leaf certificate",
        ),
        (
            json!({"beginRefreshAt": "2026-01-01T00:05:00Z"}),
            "status.beginRefreshAt: Invalid value: \"2026-01-01T00:05:00Z\": must be at least 10 minutes after status.notBefore",
        ),
        (
            json!({"beginRefreshAt": "2026-01-01T01:55:00Z"}),
            "status.beginRefreshAt: Invalid value: \"2026-01-01T01:55:00Z\": must be at least 10 minutes before status.notAfter",
        ),
    ] {
        assert_eq!(told(&bare, &with(&good, &change)), [wanted]);
    }
    let foreign = told(&bare, &with(&good, &json!({"certificateChain": short})));
    assert!(
        foreign[0].ends_with("leaf certificate was not issued to the requested public key"),
        "{foreign:?}"
    );
    let broken =
        told(&bare, &with(&good, &json!({"certificateChain": chain.clone() + &pem("CERTIFICATE", "MAA=")})));
    assert!(broken[0].ends_with("intermediate certificate does not parse as valid X.509"), "{broken:?}");
    let done = with_status(&bare, &good);
    assert_eq!(
        told(&done, &with(&good, &json!({"beginRefreshAt": "2026-01-01T01:30:00Z"}))),
        ["status: Invalid value: immutable after PodCertificateRequest is issued, denied, or failed"]
    );
}
