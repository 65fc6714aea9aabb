use super::*;
use crate::ApiServer;
use crate::identity::Component;
use crate::testing::{ask, ask_as, json as send, server};

const PODS: &str = "/api/v1/namespaces/default/pods";

/// A server whose namespace `default` takes pods.
async fn ready() -> ApiServer {
    let server = server().await;
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let (code, account) = send(&server, "POST", "/api/v1/namespaces/default/serviceaccounts", account).await;
    assert_eq!(code, 201, "{account}");
    server
}

async fn pod(server: &ApiServer, name: &str, owner: Option<&Value>) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"containers": [
        {"name": "c", "image": "i"}]}});
    if let Some(owner) = owner {
        pod["metadata"]["ownerReferences"] = json!([{"apiVersion": owner["apiVersion"], "kind": owner["kind"],
            "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"], "controller": true}]);
    }
    let (code, pod) = send(server, "POST", PODS, pod).await;
    assert_eq!(code, 201, "{pod}");
    pod
}

fn causes(answer: &Value) -> Vec<String> {
    let causes = answer["causes"].as_array().unwrap_or_else(|| panic!("{answer}"));
    causes
        .iter()
        .map(|c| format!("{} {}", c["reason"].as_str().unwrap(), c["message"].as_str().unwrap()))
        .collect()
}

fn report(pod: &Value) -> Value {
    json!({"apiVersion": "why.tiphys.io/v1", "kind": "Report", "uid": pod["metadata"]["uid"],
           "explains": "PodScheduled",
           "causes": [{"reason": "NodeResourcesFit", "by": "default-scheduler", "message": "n1: Insufficient cpu"}]})
}

#[tokio::test]
async fn a_report_is_told_until_it_is_over() {
    let server = ready().await;
    let made = pod(&server, "p", None).await;
    let why = format!("{PODS}/p/why");
    let (code, answer) = send(&server, "GET", &why, Value::Null).await;
    assert_eq!((code, causes(&answer)), (200, vec![]));
    let text = report(&made).to_string();
    let scheduler = Component::Scheduler;
    let posted = ask_as(&server, &scheduler, "POST", &why, &[], text.clone()).await;
    assert_eq!(posted.code, 201, "{}", posted.json());
    assert_eq!(ask_as(&server, &scheduler, "POST", &why, &[], text).await.code, 201);
    let (_, answer) = send(&server, "GET", &why, Value::Null).await;
    assert_eq!(causes(&answer), ["NodeResourcesFit n1: Insufficient cpu"]);

    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = ask(&server, "GET", &why, &[("accept", accept)], "").await.json();
    assert_eq!(table["rows"][0]["cells"][2], "pod/p");

    let scheduled = json!([{"op": "add", "path": "/status/conditions", "value": [
        {"type": "PodScheduled", "status": "True"}]}]);
    let kind = [("content-type", "application/json-patch+json")];
    let patched = ask(&server, "PATCH", &format!("{PODS}/p/status"), &kind, scheduled.to_string()).await;
    assert_eq!(patched.code, 200, "{}", patched.json());
    let (_, answer) = send(&server, "GET", &why, Value::Null).await;
    assert_eq!(causes(&answer), [""; 0]);
}

#[tokio::test]
async fn an_owner_tells_what_its_pods_and_events_say() {
    let server = ready().await;
    let template =
        json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": "rs"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let sets = "/apis/apps/v1/namespaces/default/replicasets";
    let (code, set) = send(&server, "POST", sets, set).await;
    assert_eq!(code, 201, "{set}");
    let owned = pod(&server, "p", Some(&set)).await;
    pod(&server, "stranger", None).await;
    for (of, message, kind) in
        [(&owned, "no image", "Warning"), (&owned, "fine", "Normal"), (&set, "refused", "Warning")]
    {
        let involved = json!({"kind": of["kind"], "namespace": "default", "name": of["metadata"]["name"],
                              "uid": of["metadata"]["uid"]});
        let event = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"generateName": "e"},
            "involvedObject": involved, "reason": "R", "message": message, "type": kind});
        let (code, event) = send(&server, "POST", "/api/v1/namespaces/default/events", event).await;
        assert_eq!(code, 201, "{event}");
    }
    let (code, answer) = send(&server, "GET", &format!("{sets}/rs/why"), Value::Null).await;
    let mut told = causes(&answer);
    told.sort();
    assert_eq!((code, told), (200, vec!["R no image".to_owned(), "R refused".to_owned()]));
    // A user who may read ReplicaSets, but no Events, learns nothing of those.
    let job_controller = Component::Scheduler;
    let answer = ask_as(&server, &job_controller, "GET", &format!("{sets}/rs/why"), &[], "").await.json();
    assert_eq!(causes(&answer), [""; 0]);
}

#[tokio::test]
async fn a_pod_tells_that_its_gang_is_waited_for() {
    let server = ready().await;
    let member = async |name: &str| {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {
            "schedulingGroup": {"podGroupName": "g"}, "containers": [{"name": "c", "image": "i"}]}});
        let (code, pod) = send(&server, "POST", PODS, pod).await;
        assert_eq!(code, 201, "{pod}");
    };
    let why = async || {
        let (_, answer) = send(&server, "GET", &format!("{PODS}/a/why"), Value::Null).await;
        causes(&answer)
    };
    member("a").await;
    let waits = "GangScheduling waiting for";
    assert_eq!(why().await, [format!("{waits} pod's pod group \"g\" to appear in scheduling queue")]);
    let group = json!({"apiVersion": "scheduling.k8s.io/v1beta1", "kind": "PodGroup", "metadata": {"name": "g"},
        "spec": {"schedulingPolicy": {"gang": {"minCount": 2}}}});
    let groups = "/apis/scheduling.k8s.io/v1beta1/namespaces/default/podgroups";
    let (code, group) = send(&server, "POST", groups, group).await;
    assert_eq!(code, 201, "{group}");
    let queue = "minCount pods from a gang to appear in scheduling queue";
    assert_eq!(why().await, [format!("{waits} {queue}: 1 of 2 are there")]);
    member("b").await;
    assert_eq!(why().await, [""; 0]);
}

#[tokio::test]
async fn a_namespace_tells_what_holds_it() {
    let server = server().await;
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    assert_eq!(send(&server, "POST", "/api/v1/namespaces", namespace).await.0, 201);
    let held =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "held", "finalizers": ["a/b"]}});
    assert_eq!(send(&server, "POST", "/api/v1/namespaces/n/configmaps", held).await.0, 201);
    assert_eq!(send(&server, "DELETE", "/api/v1/namespaces/n/configmaps/held", Value::Null).await.0, 200);
    assert_eq!(send(&server, "DELETE", "/api/v1/namespaces/n", Value::Null).await.0, 200);
    let (code, answer) = send(&server, "GET", "/api/v1/namespaces/n/why", Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    let holder = answer["causes"].as_array().unwrap().iter().find(|c| c["reason"] == "Finalizer").unwrap();
    assert_eq!(holder["objects"], json!([{"kind": "ConfigMap", "namespace": "n", "name": "held"}]));
}

#[tokio::test]
async fn reports_are_checked() {
    let server = ready().await;
    let made = pod(&server, "p", None).await;
    let why = format!("{PODS}/p/why");
    let mut other = report(&made);
    other["uid"] = "another".into();
    let mut long = report(&made);
    long["causes"][0]["message"] = "x".repeat(2000).into();
    let mut unknown = report(&made);
    unknown["more"] = 1.into();
    for wrong in [json!({}), other, long, unknown] {
        assert_eq!(send(&server, "POST", &why, wrong).await.0, 400);
    }
    // A kubelet writes the status of its own pods alone.
    let stranger = Component::Node("n1".into());
    let answer = ask_as(&server, &stranger, "POST", &why, &[], report(&made).to_string()).await;
    assert_eq!(answer.code, 403, "{}", answer.json());
    assert_eq!(send(&server, "GET", &format!("{PODS}/q/why"), Value::Null).await.0, 404);
    assert_eq!(send(&server, "DELETE", &why, Value::Null).await.0, 405);
}
