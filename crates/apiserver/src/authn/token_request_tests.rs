use std::sync::Arc;

use tiphys_pki::TokenKey;

use super::*;
use crate::source::{Source, fake::Table};

fn tokens() -> Tokens {
    let dir = tempfile::tempdir().unwrap();
    let key = Arc::new(TokenKey::open(&dir.path().join("sa.key")).unwrap());
    let meta = |name: &str, uid: &str| json!({ "namespace": "ns", "name": name, "uid": uid });
    let pod = |name: &str, account: &str| json!({ "metadata": meta(name, "pod-1"), "spec": { "serviceAccountName": account, "nodeName": "n1" } });
    let table = Table::with(&[
        ("", "serviceaccounts", json!({ "metadata": meta("sa", "sa-1") })),
        ("", "pods", pod("mine", "sa")),
        ("", "pods", pod("other", "default")),
        ("", "secrets", json!({ "metadata": meta("secret", "secret-1") })),
        ("", "nodes", json!({ "metadata": { "name": "n1", "uid": "node-1" } })),
    ]);
    Tokens::new(key, "https://issuer", Arc::new(table) as Arc<dyn Source>)
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// Knows one token, whose holder is `foreign`.
struct Foreign;

#[async_trait::async_trait]
impl super::super::Bearers for Foreign {
    async fn holder(&self, token: &str, _: SystemTime) -> Option<crate::identity::Identity> {
        let user = crate::identity::Identity::authenticated("foreign", "", Vec::new(), Default::default());
        (token == "foreign-token").then_some(user)
    }
}

fn review(tokens: &Arc<Tokens>, review: Value) -> Result<Value, Status> {
    let dir = tempfile::tempdir().unwrap();
    let ca = tiphys_pki::Authority::open(dir.path(), "ca", "kubernetes", now()).unwrap();
    let trust = tiphys_pki::ClientTrust::new([ca.certificate()]).unwrap();
    let authenticator = super::super::Authenticator::new(trust, Arc::clone(tokens), Arc::new(now))
        .with_bearers(vec![Arc::new(Foreign)]);
    crate::testing::wait(super::super::token_review(&authenticator, review))
}

#[test]
fn hands_out_what_was_asked_for() {
    let tokens = tokens();
    let request = json!({ "kind": "TokenRequest", "spec": { "expirationSeconds": 600 } });
    let answer = token_request(&tokens, "ns", "sa", request, now()).unwrap();
    assert_eq!(answer["kind"], "TokenRequest");
    let told = |field: &str| answer["metadata"][field].as_str().unwrap_or_default();
    assert_eq!((told("name"), told("namespace")), ("sa", "ns"));
    assert_eq!((told("creationTimestamp"), told("uid").is_empty()), ("2027-01-15T08:00:00Z", false));
    assert_eq!(answer["spec"]["audiences"], json!(["https://issuer"]));
    assert_eq!(answer["status"]["expirationTimestamp"], "2027-01-15T08:10:00Z");
    let token = answer["status"]["token"].as_str().unwrap();
    assert!(tokens.authenticate(token, now() + Duration::from_secs(599)).is_ok());
    assert!(tokens.authenticate(token, now() + Duration::from_secs(600)).is_err());
}

#[test]
fn binds_to_pods_secrets_and_nodes() {
    let tokens = tokens();
    for (kind, name, key) in
        [("Pod", "mine", "pod-uid"), ("Node", "n1", "node-uid"), ("Secret", "secret", "")]
    {
        let bound = json!({ "apiVersion": "v1", "kind": kind, "name": name });
        let request = json!({ "spec": { "boundObjectRef": bound } });
        let answer = token_request(&tokens, "ns", "sa", request, now()).unwrap();
        let user = tokens.authenticate(answer["status"]["token"].as_str().unwrap(), now()).unwrap();
        if !key.is_empty() {
            assert!(user.extra().contains_key(&format!("authentication.kubernetes.io/{key}")), "{kind}");
        }
    }
}

#[test]
fn refuses_what_cannot_be() {
    let tokens = tokens();
    let bound = |kind: &str, name: &str, uid: &str| json!({ "boundObjectRef": { "apiVersion": "v1", "kind": kind, "name": name, "uid": uid } });
    let cases = [
        ("none", json!({}), 404, "serviceaccounts \"none\" not found"),
        ("sa", json!({ "expirationSeconds": 599 }), 422, "may not specify a duration less than 10 minutes"),
        ("sa", json!({ "expirationSeconds": 1_u64 << 33 }), 422, "larger than 2^32 seconds"),
        ("sa", json!({ "expirationSeconds": "x" }), 422, "less than 10 minutes"),
        ("sa", bound("Pod", "absent", ""), 404, "pods \"absent\" not found"),
        ("sa", bound("Pod", "other", ""), 400, "pod running with different serviceaccount name."),
        ("sa", bound("Pod", "mine", "pod-2"), 409, "(pod-2) does not match the UID in record"),
        ("sa", bound("ConfigMap", "x", ""), 400, "cannot bind token to object of type /v1, Kind=ConfigMap"),
        ("sa", json!({ "audiences": vec!["a"; 65] }), 400, "audiences"),
    ];
    for (account, spec, code, want) in cases {
        let error = token_request(&tokens, "ns", account, json!({ "spec": spec }), now()).unwrap_err();
        assert_eq!(error.code(), code, "{spec}: {error}");
        assert!(error.message.contains(want), "{spec}: {error}");
    }
}

#[test]
fn a_request_that_means_another_account_is_refused() {
    for (metadata, code, want) in [
        (json!({"name": "other"}), 422, "must match the service account name if specified"),
        (json!({"namespace": "other"}), 422, "must match the service account namespace if specified"),
        (json!({"uid": "other"}), 409, "the UID in the token request (other) does not match the UID of"),
    ] {
        let request = json!({"metadata": metadata, "spec": {}});
        let error = token_request(&tokens(), "ns", "sa", request, now()).unwrap_err();
        assert_eq!(error.code(), code, "{metadata}: {error}");
        assert!(error.message.contains(want), "{metadata}: {error}");
    }
}

#[test]
fn a_review_tells_who_holds_a_token() {
    let tokens = Arc::new(tokens());
    let answer = token_request(&tokens, "ns", "sa", json!({}), now()).unwrap();
    let review = |spec: Value| review(&tokens, json!({ "spec": spec }));
    let good = review(json!({ "token": answer["status"]["token"] })).unwrap();
    assert_eq!(good["status"]["authenticated"], true);
    assert_eq!(good["status"]["user"]["username"], "system:serviceaccount:ns:sa");
    assert_eq!(good["status"]["audiences"], json!(["https://issuer"]));
    let bad = review(json!({ "token": "x.y.z" })).unwrap();
    assert!(bad["status"]["authenticated"].is_null());
    assert!(!bad["status"]["error"].as_str().unwrap().is_empty());
    assert_eq!(review(json!({})).unwrap_err().code(), 400);
    let foreign = review(json!({ "token": "foreign-token" })).unwrap();
    assert_eq!(foreign["status"]["user"]["username"], "foreign");
    assert_eq!(foreign["status"]["audiences"], json!(["https://issuer"]));
    let elsewhere = review(json!({ "token": "foreign-token", "audiences": ["other"] })).unwrap();
    assert!(elsewhere["status"]["authenticated"].is_null(), "it is for this server alone");
}

#[test]
fn odd_requests_get_an_answer_too() {
    let tokens = Arc::new(tokens());
    for odd in [json!(null), json!(7), json!([]), json!({ "spec": 7 }), json!({ "spec": { "audiences": 7 } })]
    {
        let answer = token_request(&tokens, "ns", "sa", odd.clone(), now()).unwrap();
        assert!(answer["status"]["token"].is_string(), "{odd}");
        assert!(review(&tokens, odd).is_err());
    }
}
