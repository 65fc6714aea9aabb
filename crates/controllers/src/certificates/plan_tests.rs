use serde_json::{Value, json};

use super::*;

const NODE_CLIENT: &str = include_str!("node.csr");
const SERVING: &str = include_str!("serving.csr");
const PERSON: &str = include_str!("person.csr");

fn now() -> Timestamp {
    "2026-05-02T00:00:00Z".parse().expect("a time")
}

fn request(signer: &str, usages: &[&str], status: Value) -> CertificateSigningRequest {
    let object = json!({"metadata": {"name": "x", "creationTimestamp": "2026-05-01T23:00:00Z"},
        "spec": {"request": "", "signerName": signer, "usages": usages, "username": "system:node:n1"}, "status": status});
    serde_json::from_value(object).expect("a request")
}

fn looked(request: &CertificateSigningRequest, pem: &str) -> Step {
    step(request, SigningRequest::parse(pem.as_bytes()).ok().as_ref(), now())
}

fn condition(kind: &str, at: &str) -> Value {
    json!({"conditions": [{"type": kind, "status": "True", "lastUpdateTime": at}]})
}

const CLIENT: &[&str] = &["client auth", "digital signature"];
const JUST: &str = "2026-05-01T23:59:00Z";

#[test]
fn a_kubelet_is_asked_about_and_nobody_else() {
    let kubelet = request(KUBELET_CLIENT, CLIENT, Value::Null);
    assert_eq!(looked(&kubelet, NODE_CLIENT), Step::Ask(vec![SELF, NODE]));
    let mut bootstrap = kubelet.clone();
    bootstrap.spec.username = Some("system:bootstrap:abcdef".to_owned());
    assert_eq!(looked(&bootstrap, NODE_CLIENT), Step::Ask(vec![NODE]));
    for (signer, usages, pem) in [
        (KUBELET_CLIENT, CLIENT, SERVING),
        (KUBELET_CLIENT, CLIENT, PERSON),
        (KUBELET_CLIENT, &["client auth"], NODE_CLIENT),
        (KUBELET_SERVING, &["server auth", "digital signature"], SERVING),
        (API_CLIENT, CLIENT, NODE_CLIENT),
        ("example.com/x", CLIENT, NODE_CLIENT),
        (KUBELET_CLIENT, CLIENT, "x"),
    ] {
        assert_eq!(looked(&request(signer, usages, Value::Null), pem), Step::Nothing, "{signer} {usages:?}");
    }
}

#[test]
fn what_is_approved_is_signed_or_fails() {
    let approved = |signer: &str, usages: &[&str]| request(signer, usages, condition("Approved", JUST));
    let life = |step: Step| match step {
        Step::Sign { life, usages } => (life, usages.len()),
        other => panic!("{other:?}"),
    };
    let mut person = approved(API_CLIENT, &["client auth", "key encipherment"]);
    assert_eq!(life(looked(&person, PERSON)), (LIFE, 2));
    for (asked, got) in [(1200, Duration::from_secs(1200)), (1, SHORTEST), (i32::MAX, LIFE), (-1, SHORTEST)] {
        person.spec.expiration_seconds = Some(asked);
        assert_eq!(life(looked(&person, PERSON)).0, got);
    }
    life(looked(&approved(KUBELET_CLIENT, CLIENT), NODE_CLIENT));
    life(looked(
        &approved(KUBELET_SERVING, &["server auth", "digital signature", "key encipherment"]),
        SERVING,
    ));
    for (signer, usages, pem, why) in [
        (API_CLIENT, &["server auth"][..], PERSON, "invalid usage for client certificate"),
        (
            API_CLIENT,
            &["digital signature"],
            PERSON,
            "missing required usage for client certificate: client auth",
        ),
        (KUBELET_CLIENT, CLIENT, PERSON, "subject organization is not system:nodes"),
        (KUBELET_CLIENT, CLIENT, SERVING, "DNS subjectAltNames are not allowed"),
        (KUBELET_SERVING, CLIENT, NODE_CLIENT, "DNS or IP subjectAltName is required"),
        (KUBELET_SERVING, CLIENT, SERVING, "usages did not match [digital signature server auth]"),
    ] {
        assert_eq!(looked(&approved(signer, usages), pem), Step::Fail(why), "{signer}");
    }
    assert_eq!(looked(&approved("kubernetes.io/legacy-unknown", CLIENT), PERSON), Step::Nothing);
    assert_eq!(looked(&request(API_CLIENT, CLIENT, condition("Denied", JUST)), PERSON), Step::Nothing);
    let mut signed = condition("Approved", JUST);
    signed["certificate"] = "eA==".into();
    assert_eq!(looked(&request(API_CLIENT, CLIENT, signed), PERSON), Step::Nothing);
}

#[test]
fn answered_requests_go_after_an_hour_and_others_after_a_day() {
    let long_ago = "2026-05-01T22:59:59Z";
    let mut signed = condition("Approved", long_ago);
    signed["certificate"] = "eA==".into();
    for (status, goes) in [
        (signed, true),
        (condition("Approved", long_ago), false),
        (condition("Denied", long_ago), true),
        (condition("Failed", long_ago), true),
        (condition("Denied", JUST), false),
        (Value::Null, false),
    ] {
        let it = looked(&request("example.com/x", CLIENT, status.clone()), PERSON);
        assert_eq!(it == Step::Delete, goes, "{status}");
    }
    let day = SignedDuration::from_hours(24);
    let old = request("example.com/x", CLIENT, Value::Null);
    assert_eq!(step(&old, None, now() + day), Step::Delete);
    assert_eq!(again(&old, now()), Verdict::After(Duration::from_secs(23 * 3600 + 1)));
    assert_eq!(again(&request("example.com/x", CLIENT, condition("Approved", JUST)), now()), Verdict::Done);
}
