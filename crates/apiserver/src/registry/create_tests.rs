use serde_json::json;
use tiphys_store::Range;

use super::*;
use crate::ApiServer;
use crate::testing::{json as ask, server};

const SERVICES: &str = "/api/v1/namespaces/default/services";

fn service(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

fn node_port(port: Value) -> Value {
    json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]})
}

/// The values that objects have for themselves.
async fn claimed(server: &ApiServer) -> Vec<String> {
    let range = Range { prefix: "/claims/".to_owned(), ..Range::default() };
    let page = server.registry().store().range(range, None).await.unwrap();
    page.records.iter().map(|record| record.key.as_str().to_owned()).collect()
}

#[tokio::test]
async fn a_name_that_is_taken_takes_nothing_else() {
    let server = server().await;
    let registry = server.registry();
    let kinds = registry.kinds();
    let kind = kinds.group_resource("", "services").unwrap();
    let call = Call::own(kind, "v1", "default", "");
    let (code, _) = ask(&server, "POST", SERVICES, service("taken", node_port(Value::Null))).await;
    assert_eq!(code, 201);
    let before = claimed(&server).await;

    // As with a name that was made up.
    let mut object = service("taken", node_port(Value::Null));
    objectmeta::place(&mut object, "default").unwrap();
    kind.fill_defaults(&storage(kind).unwrap().version, &mut object);
    assert!(registry.insert(&call, &mut object).await.unwrap().is_none());
    assert_eq!(claimed(&server).await, before);
    let spec = &object["spec"];
    assert_eq!(
        (spec.get("clusterIP"), spec["ports"][0].get("nodePort")),
        (None, Some(&Value::Null)),
        "{spec}"
    );
    meta::metadata_mut(&mut object).insert("name".into(), "free".into());
    let made = registry.insert(&call, &mut object).await.unwrap().expect("nobody has the name");
    assert!(made.json.windows(9).any(|part| part == b"clusterIP"));
    assert_eq!(claimed(&server).await.len(), before.len() + 2);
}

#[tokio::test]
async fn what_is_not_created_claims_nothing() {
    let server = server().await;
    let (code, _) = ask(&server, "POST", SERVICES, service("first", node_port(json!(30100)))).await;
    assert_eq!(code, 201);
    let policies = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "none-named-refused"}, "spec": {"matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["services"]}]},
            "validations": [{"expression": "object.metadata.name != 'refused'"}]}});
    assert_eq!(ask(&server, "POST", policies, policy).await.0, 201);
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": "b"}, "spec": {"policyName": "none-named-refused", "validationActions": ["Deny"]}});
    assert_eq!(ask(&server, "POST", &policies.replace("policies", "policybindings"), binding).await.0, 201);
    let before = claimed(&server).await;
    let none = || node_port(Value::Null);
    let mut invalid = none();
    invalid["sessionAffinity"] = json!("Sometimes");
    let mut both = none();
    let versioned = |name| {
        let mut service = service(name, none());
        service["metadata"]["resourceVersion"] = "5".into();
        service
    };
    both["ports"] = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2, "nodePort": 30100}]);
    let refused = || async {
        // A policy is heard of a moment after it was made.
        loop {
            let (code, answer) =
                ask(&server, "POST", &format!("{SERVICES}?dryRun=All"), service("refused", none())).await;
            if code == 422 && answer["message"].as_str().is_some_and(|m| m.contains("none-named-refused")) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    refused().await;
    for (what, query, object, wanted) in [
        ("a name that is taken", "", service("first", none()), 409),
        ("an invalid object", "", service("a", invalid), 422),
        ("one of two ports that is taken", "", service("a", both), 422),
        (
            "an address elsewhere",
            "",
            service("a", json!({"type": "NodePort", "clusterIP": "192.0.2.1", "ports": [{"port": 1}]})),
            422,
        ),
        ("a policy that refuses", "", service("refused", none()), 422),
        ("a policy that refuses what has a version", "", versioned("refused"), 422),
        ("a version", "", versioned("a"), 400),
        ("a dry run", "?dryRun=All", service("a", none()), 201),
    ] {
        let (code, answer) = ask(&server, "POST", &format!("{SERVICES}{query}"), object).await;
        assert_eq!(code, wanted, "{what}: {answer}");
        assert_eq!(claimed(&server).await, before, "{what}");
    }
    assert_eq!(ask(&server, "DELETE", &format!("{SERVICES}/first"), Value::Null).await.0, 200);
    assert_eq!(claimed(&server).await.len(), before.len() - 2, "what goes gives up what it had");
}
