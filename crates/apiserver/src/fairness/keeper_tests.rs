use super::*;
use crate::ApiServer;
use crate::identity::Component;
use crate::testing::{ask_as, json as send, server};

const BASE: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

#[test]
fn a_schema_dangles_without_its_level() {
    let schema = json!({"metadata": {"name": "s"}, "status": {"conditions": [{"type": "Other"}]}});
    let dangling = judged(&schema, "l", false, "then").unwrap();
    let conditions = dangling["status"]["conditions"].as_array().unwrap();
    assert_eq!(conditions[0]["type"], "Other");
    assert_eq!(
        conditions[1],
        json!({"type": "Dangling", "status": "True", "reason": "NotFound", "lastTransitionTime": "then",
            "message": "This FlowSchema references the PriorityLevelConfiguration object named \"l\" but there is no such object"})
    );
    assert_eq!(judged(&dangling, "l", false, "later"), None);
    let other = judged(&dangling, "m", false, "later").unwrap();
    assert_eq!(other["status"]["conditions"][1]["lastTransitionTime"], "then");
    let found = judged(&dangling, "l", true, "later").unwrap();
    assert_eq!(found["status"]["conditions"][1]["reason"], "Found");
    assert_eq!(found["status"]["conditions"][1]["lastTransitionTime"], "later");
}

/// Waits until an object is as it should be.
async fn until(server: &ApiServer, path: &str, good: impl Fn(u16, &Value) -> bool) -> Value {
    let source: &dyn Source = &**server.registry().cache();
    loop {
        let versions = [LEVELS, SCHEMAS].map(|resource| source.version(GROUP, resource));
        let (code, object) = send(server, "GET", path, Value::Null).await;
        if good(code, &object) {
            return object;
        }
        tokio::select! {
            () = source.changed(GROUP, LEVELS, versions[0]) => {}
            () = source.changed(GROUP, SCHEMAS, versions[1]) => {}
        }
    }
}

#[tokio::test]
async fn what_every_cluster_needs_is_put_back_and_told() {
    let server = server().await;
    let path = format!("{BASE}/flowschemas/catch-all");
    let condition = |object: &Value| object["status"]["conditions"][0]["status"] == "False";
    let first = until(&server, &path, |_, object| condition(object)).await;
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    let again = until(&server, &path, |code, object| code == 200 && condition(object)).await;
    assert_ne!(first["metadata"]["uid"], again["metadata"]["uid"]);

    let path = format!("{BASE}/flowschemas/global-default");
    let (_, mut changed) = send(&server, "GET", &path, Value::Null).await;
    changed["spec"]["matchingPrecedence"] = 5.into();
    let (code, changed) = send(&server, "PUT", &path, changed).await;
    assert_eq!(code, 200, "{changed}");
    until(&server, &path, |_, object| object["spec"]["matchingPrecedence"] == 9900).await;

    let spec = json!({"priorityLevelConfiguration": {"name": "nowhere"}, "matchingPrecedence": 3,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "x"}}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]}]});
    let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "mine"}, "spec": spec});
    let (code, made) = send(&server, "POST", &format!("{BASE}/flowschemas"), schema).await;
    assert_eq!(code, 201, "{made}");
    let path = format!("{BASE}/flowschemas/mine");
    until(&server, &path, |_, object| object["status"]["conditions"][0]["status"] == "True").await;
}

#[tokio::test]
async fn answers_name_the_flow_that_the_request_is_of() {
    let server = server().await;
    let uid = |object: Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let schema =
        uid(send(&server, "GET", &format!("{BASE}/flowschemas/kube-scheduler"), Value::Null).await.1);
    let level =
        uid(send(&server, "GET", &format!("{BASE}/prioritylevelconfigurations/workload-high"), Value::Null)
            .await
            .1);
    let answer = ask_as(&server, &Component::Scheduler, "GET", "/api/v1/pods", &[], "").await;
    assert_eq!(answer.code, 200);
    assert_eq!(answer.headers["x-kubernetes-pf-flowschema-uid"], schema.as_str());
    assert_eq!(answer.headers["x-kubernetes-pf-prioritylevel-uid"], level.as_str());

    // A level without seats, for a user of its own.
    let limited = json!({"nominalConcurrencyShares": 0, "borrowingLimitPercent": 0, "limitResponse": {"type": "Reject"}});
    let jail = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "jail"}, "spec": {"type": "Limited", "limited": limited}});
    let (code, jail) = send(&server, "POST", &format!("{BASE}/prioritylevelconfigurations"), jail).await;
    assert_eq!(code, 201, "{jail}");
    let spec = json!({"priorityLevelConfiguration": {"name": "jail"}, "matchingPrecedence": 3,
        "rules": [{"subjects": [{"kind": "User", "user": {"name": "system:kube-proxy"}}],
            "resourceRules": [{"verbs": ["list"], "apiGroups": [""], "resources": ["services"], "namespaces": ["*"], "clusterScope": true}]}]});
    let schema = json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "jail"}, "spec": spec});
    assert_eq!(send(&server, "POST", &format!("{BASE}/flowschemas"), schema).await.0, 201);
    let told = |object: &Value| object["status"]["conditions"][0]["status"] == "False";
    until(&server, &format!("{BASE}/flowschemas/jail"), |_, object| told(object)).await;
    let answer = ask_as(&server, &Component::Proxy, "GET", "/api/v1/services", &[], "").await;
    assert_eq!((answer.code, &answer.headers["retry-after"]), (429, &"1".parse().unwrap()));
    assert_eq!(
        answer.headers["x-kubernetes-pf-prioritylevel-uid"],
        jail["metadata"]["uid"].as_str().unwrap()
    );
    assert_eq!(ask_as(&server, &Component::Proxy, "GET", "/livez", &[], "").await.code, 200);
}
