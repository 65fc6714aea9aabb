use http::Method;
use serde_json::Value;
use tokio::sync::Notify;

use super::*;
use crate::testing;

#[tokio::test(start_paused = true)]
async fn a_rule_drives_pods_away_and_says_so() {
    let pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "a", "uid": "p"}, "status": {"phase": "Running"},
        "spec": {"nodeName": "n", "containers": [], "resourceClaims": [{"name": "g", "resourceClaimName": "c"}]}});
    let claim = json!({"metadata": {"name": "c", "namespace": "a", "uid": "c"}, "spec": {}, "status": {
        "reservedFor": [{"resource": "pods", "name": "p", "uid": "p"}],
        "allocation": {"devices": {"results": [{"request": "r", "driver": "d.io", "pool": "n", "device": "g"}]}}}});
    let rule = json!({"metadata": {"name": "ill", "uid": "r", "generation": 3}, "spec": {
        "deviceSelector": {"driver": "d.io"},
        "taint": {"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}}});
    let (told, enough) =
        (Arc::new(Mutex::new(Vec::<(Method, String, Value)>::new())), Arc::new(Notify::new()));
    let client = testing::client({
        let (told, enough) = (Arc::clone(&told), Arc::clone(&enough));
        move |asked| match (&asked.method, &*asked.path) {
            (&Method::GET, "/api/v1/pods") => testing::list("v1", "Pod", std::slice::from_ref(&pod)),
            (&Method::GET, path) => match path.strip_prefix("/apis/resource.k8s.io/v1/") {
                Some("resourceclaims") => {
                    testing::list("resource.k8s.io/v1", "ResourceClaim", std::slice::from_ref(&claim))
                }
                Some("devicetaintrules") => {
                    testing::list("resource.k8s.io/v1", "DeviceTaintRule", std::slice::from_ref(&rule))
                }
                _ => testing::list("v1", path, &[]),
            },
            (method, path) => {
                let mut told = told.lock();
                told.push((method.clone(), path.to_owned(), asked.body.clone()));
                let done = |wanted: &str| {
                    told.iter().any(|(method, path, _)| {
                        path.ends_with(wanted) && (*method == Method::DELETE) == (wanted == "/pods/p")
                    })
                };
                if done("/pods/p") && done("/ill/status") {
                    enough.notify_one();
                }
                (200, if path.contains("/pods/") { pod.clone() } else { rule.clone() })
            }
        }
    });
    let mut informers = Informers::new(&client);
    let (events, _sink) = Recorder::new(client.clone(), "test", "");
    let controller = DeviceTaintEviction::new(Tools { client, events }, &mut informers);
    let mut tasks = tokio::task::JoinSet::new();
    informers.start(&mut tasks);
    tokio::select! {
        () = controller.run() => {}
        () = enough.notified() => {}
    }
    let told = told.lock();
    let find = |method: Method, path: &str| {
        let found = told.iter().find(|(m, p, _)| *m == method && p == path);
        found.map(|(.., body)| body.clone()).unwrap_or_else(|| panic!("{method} {path}: {told:?}"))
    };
    let disrupted = &find(Method::PATCH, "/api/v1/namespaces/a/pods/p/status")["status"]["conditions"][0];
    assert_eq!(
        (&disrupted["type"], &disrupted["reason"]),
        (&json!("DisruptionTarget"), &json!("DeletionByDeviceTaintManager"))
    );
    assert_eq!(find(Method::DELETE, "/api/v1/namespaces/a/pods/p")["preconditions"]["uid"], "p");
    let status = find(Method::PATCH, "/apis/resource.k8s.io/v1/devicetaintrules/ill/status");
    let condition = &status["status"]["conditions"][0];
    assert_eq!((&condition["type"], &condition["observedGeneration"]), (&json!(CONDITION), &json!(3)));
}
