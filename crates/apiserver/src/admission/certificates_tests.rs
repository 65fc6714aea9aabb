use serde_json::json;

use super::*;
use crate::{
    admission::tests::Case,
    authz::{Attributes as Asked, Authorizer},
    identity::Component,
};

/// Lets verbs be done in the names of signers.
struct Allow(&'static [(&'static str, &'static str)]);

impl Authorizer for Allow {
    fn authorize(&self, asked: &Asked<'_>) -> Decision {
        let Target::Resource { group: GROUP, resource: "signers", name, .. } = asked.target else {
            return Decision::NoOpinion { reason: String::new() };
        };
        match self.0.contains(&(asked.verb, name)) {
            true => Decision::Allow { reason: String::new() },
            false => Decision::NoOpinion { reason: String::new() },
        }
    }
}

fn case(operation: Operation, resource: &'static str) -> Case<'static> {
    Case { group: GROUP, namespace: "", ..Case::new(operation, resource, "x") }
}

fn asked(signer: &str) -> Value {
    json!({"metadata": {"name": "x"}, "spec": {"signerName": signer}})
}

#[tokio::test]
async fn signers_are_spoken_for_by_those_who_may() {
    let allow =
        Arc::new(Allow(&[("approve", "a.example/x"), ("sign", "a.example/*"), ("attest", "a.example/x")]));
    let plugin = Signers::new(Arc::new(Chain::new(vec![allow])));
    let signed = |signer| {
        let mut object = asked(signer);
        object["status"] = json!({"certificate": "eA=="});
        object
    };
    for (resource, object, old, refused) in [
        ("certificatesigningrequests/approval", asked("a.example/x"), asked("a.example/x"), None),
        (
            "certificatesigningrequests/approval",
            asked("a.example/y"),
            asked("a.example/y"),
            Some("approve requests with"),
        ),
        (
            "certificatesigningrequests/approval",
            asked("a.example/x"),
            asked("a.example/y"),
            Some("approve requests with"),
        ),
        ("certificatesigningrequests/status", signed("a.example/y"), asked("a.example/y"), None),
        (
            "certificatesigningrequests/status",
            signed("b.example/y"),
            asked("b.example/y"),
            Some("sign requests with"),
        ),
        ("certificatesigningrequests/status", asked("b.example/y"), asked("b.example/y"), None),
        ("certificatesigningrequests", asked("b.example/y"), asked("b.example/y"), None),
        ("clustertrustbundles", asked("a.example/x"), Value::Null, None),
        ("clustertrustbundles", asked("a.example/y"), Value::Null, Some("attest for")),
        ("clustertrustbundles", asked("a.example/y"), asked("a.example/y"), None),
    ] {
        let answer = case(Operation::Update, resource).run(&plugin, object.clone(), old).await;
        let signer = object["spec"]["signerName"].as_str().unwrap();
        match (answer, refused) {
            (Ok(_), None) => {}
            (Err((403, message)), Some(what)) => {
                assert!(message.contains(&format!("user not permitted to {what} signerName")), "{message}");
            }
            (answer, _) => panic!("{resource} {signer}: {answer:?}"),
        }
    }
}

fn plugin() -> SigningRequests {
    SigningRequests::new(Arc::new(|| std::time::UNIX_EPOCH))
}

/// A request for `CN=e2e, O=system:masters`, made with `openssl req -new` and a key that is gone.
const MASTERS_REQUEST: &str = include_str!("masters.csr");

#[tokio::test]
async fn a_request_says_who_sent_it() {
    let mut object = asked("example.com/x");
    object["spec"]["request"] = STANDARD.encode(MASTERS_REQUEST).into();
    object["spec"]["username"] = "somebody else".into();
    object["spec"]["uid"] = "u".into();
    let made = case(Operation::Create, REQUESTS).run(&plugin(), object.clone(), Value::Null).await.unwrap();
    let spec = &made["spec"];
    assert_eq!(spec["username"], Component::ControllerManager.identity().name());
    assert_eq!((&spec["groups"], &spec["uid"]), (&json!(["system:authenticated"]), &Value::Null));

    object["spec"]["signerName"] = API_CLIENT.into();
    let refused =
        case(Operation::Create, REQUESTS).run(&plugin(), object.clone(), Value::Null).await.unwrap_err();
    assert!(refused.1.contains("signer with system:masters group is not allowed"), "{}", refused.1);
    object["spec"]["request"] = "eA==".into();
    let refused = case(Operation::Create, REQUESTS).run(&plugin(), object, Value::Null).await.unwrap_err();
    assert!(
        refused.0 == 422 && refused.1.contains("PEM block type must be CERTIFICATE REQUEST"),
        "{}",
        refused.1
    );
}

#[tokio::test]
async fn conditions_are_dated_and_certificates_are_some() {
    let old = json!({"status": {"conditions": [
        {"type": "Approved", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
    let new = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}, {"type": "x", "status": "True"}]}});
    let case = case(Operation::Update, "certificatesigningrequests/status");
    let made = case.run(&plugin(), new, old.clone()).await.unwrap();
    let times: Vec<_> =
        made["status"]["conditions"].as_array().unwrap().iter().map(|c| &c["lastTransitionTime"]).collect();
    assert_eq!(times, ["2020-01-01T00:00:00Z", "1970-01-01T00:00:00Z"]);
    assert_eq!(made["status"]["conditions"][0]["lastUpdateTime"], "1970-01-01T00:00:00Z");
    let refused = case.run(&plugin(), json!({"status": {"certificate": "eA=="}}), old).await.unwrap_err();
    assert_eq!(refused.0, 422);
}
