use super::*;
use crate::testing::{json as send, server};

const NOW: &str = "2026-01-01T00:00:00Z";

fn call() -> Call {
    let kinds = tiphys_api::kind::Kinds::builtin();
    let pods = kinds.group_resource("", "pods").unwrap();
    Call { subresource: "binding".to_owned(), ..Call::own(pods, "v1", "default", "p") }
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec,
           "status": {"conditions": [{"type": "PodScheduled", "status": "False"}, {"type": "Ready"}]}})
}

#[test]
fn a_bound_pod_is_on_its_node_and_says_so() {
    let binding = json!({"metadata": {"uid": "u", "annotations": {"a": "b"}}});
    let pod = bound(&call(), &pod(json!({})), &binding, "n1", NOW).unwrap();
    assert_eq!(pod["spec"]["nodeName"], "n1");
    assert_eq!(pod["metadata"]["annotations"]["a"], "b");
    let conditions = pod["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2);
    assert_eq!((&conditions[1]["type"], &conditions[1]["status"]), (&json!("PodScheduled"), &json!("True")));
}

#[test]
fn a_pod_is_bound_once() {
    let refused = |pod: Value, binding: Value| bound(&call(), &pod, &binding, "n2", NOW).unwrap_err();
    let bound_already = refused(pod(json!({"nodeName": "n1"})), json!({}));
    assert_eq!(bound_already.code(), 409);
    assert!(bound_already.message.contains("pod p is already assigned to node \"n1\""), "{bound_already}");
    assert_eq!(refused(pod(json!({})), json!({"metadata": {"uid": "other"}})).code(), 409);
    assert_eq!(refused(pod(json!({"schedulingGates": [{"name": "g"}]})), json!({})).code(), 409);
    let mut leaving = pod(json!({}));
    leaving["metadata"]["deletionTimestamp"] = NOW.into();
    assert_eq!(refused(leaving, json!({})).code(), 409);
}

#[tokio::test]
async fn pods_are_bound_and_evicted_through_their_subresources() {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    send(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    server.registry().cache().wait_newest().await.unwrap();
    let pods = "/api/v1/namespaces/default/pods";
    for name in ["p", "q"] {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let (code, made) = send(&server, "POST", pods, pod).await;
        assert_eq!(code, 201, "{made}");
    }
    let binding = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name},
               "target": {"kind": "Node", "name": "n1"}})
    };
    let (code, status) = send(&server, "POST", &format!("{pods}/p/binding"), binding("p")).await;
    assert_eq!((code, &status["status"]), (201, &json!("Success")), "{status}");
    let bindings = "/api/v1/namespaces/default/bindings";
    assert_eq!(send(&server, "POST", bindings, binding("q")).await.0, 201);
    for name in ["p", "q"] {
        let (_, pod) = send(&server, "GET", &format!("{pods}/{name}"), Value::Null).await;
        assert_eq!(pod["spec"]["nodeName"], "n1");
    }
    assert_eq!(send(&server, "POST", &format!("{pods}/p/binding"), binding("p")).await.0, 409);

    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let (code, evicted) = send(&server, "POST", &format!("{pods}/p/eviction"), eviction).await;
    assert_eq!(code, 201, "{evicted}");
    let (_, pod) = send(&server, "GET", &format!("{pods}/p"), Value::Null).await;
    assert_eq!(pod["metadata"]["deletionGracePeriodSeconds"], 30);
    let (code, _) = send(&server, "DELETE", &format!("{pods}/p?gracePeriodSeconds=0"), Value::Null).await;
    assert_eq!(code, 200);
    assert_eq!(send(&server, "GET", &format!("{pods}/p"), Value::Null).await.0, 404);
}
