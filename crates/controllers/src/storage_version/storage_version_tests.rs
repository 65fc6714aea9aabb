use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response};
use kube::client::Body;
use kube::runtime::watcher;
use tiphys_client::Informer;
use tokio::sync::Notify;

use super::*;

fn migration() -> Value {
    json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration",
        "metadata": {"name": "m", "uid": "u", "resourceVersion": "1"},
        "spec": {"resource": {"group": "", "resource": "things"}}})
}

/// A server with two pages of things, one of which somebody changes meanwhile, that is busy once.
struct Server {
    told: Mutex<Vec<(String, Value)>>,
    busy: Mutex<bool>,
    over: Notify,
}

impl Server {
    fn thing(name: &str) -> Value {
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
            "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": "4"}})
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let list = |items: &[&str], token: &str| {
            let items: Vec<_> = items.iter().map(|name| Self::thing(name)).collect();
            json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
                "metadata": {"resourceVersion": "9", "continue": token}, "items": items})
        };
        let refused = |code: u16| {
            (
                code,
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no",
                "reason": "Whatever", "code": code, "metadata": {}}),
            )
        };
        if method == Method::PATCH {
            let body: Value = serde_json::from_slice(body).unwrap();
            self.told.lock().unwrap().push((path.to_owned(), body.clone()));
            if path.ends_with("/status") {
                let mut told = migration();
                told["status"] = body["status"].clone();
                if told["status"]["conditions"].as_array().is_some_and(|all| all.len() == 2) {
                    self.over.notify_one();
                }
                return (200, told);
            }
            return match path.rsplit('/').next().unwrap() {
                "changed" => refused(409),
                "two" if std::mem::take(&mut *self.busy.lock().unwrap()) => refused(429),
                name => (200, Self::thing(name)),
            };
        }
        match path {
            "/apis" => (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
            "/api/v1" => (
                200,
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [
                    {"name": "things", "singularName": "", "namespaced": true, "kind": "Thing",
                        "verbs": ["list", "patch"]}]}),
            ),
            "/api/v1/things" if query.contains("continue=more") => (200, list(&["two"], "")),
            "/api/v1/things" => (200, list(&["one", "changed"], "more")),
            _ => (
                200,
                json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigrationList",
                    "metadata": {"resourceVersion": "1"}, "items": [migration()]}),
            ),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_object_is_written_anew_and_the_end_is_told() {
    let server = Arc::new(Server { told: Mutex::default(), busy: Mutex::new(true), over: Notify::new() });
    let service = tower::service_fn({
        let server = Arc::clone(&server);
        move |request: Request<Body>| {
            let server = Arc::clone(&server);
            async move {
                let (method, uri) = (request.method().clone(), request.uri().clone());
                let body = request.into_body().collect_bytes().await.unwrap();
                let query = uri.query().unwrap_or_default();
                if query.contains("watch=true") {
                    std::future::pending::<()>().await;
                }
                let (code, answer) = server.answer(&method, uri.path(), query, &body);
                let answer = Body::from(answer.to_string().into_bytes());
                Ok::<_, Infallible>(Response::builder().status(code).body(answer).unwrap())
            }
        }
    });
    let client = Client::new(service, "default");
    let mut informer =
        Informer::new(Api::<StorageVersionMigration>::all(client.clone()), watcher::Config::default(), |m| m);
    let queue = Queue::new();
    informer.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.key.clone())
    });
    let controller = StorageVersionMigrations { client, queue, migrations: informer.reader() };
    tokio::select! {
        () = informer.run() => {}
        () = controller.run() => {}
        () = server.over.notified() => {}
    }
    let told = server.told.lock().unwrap();
    let patched: Vec<_> = told.iter().map(|(path, _)| path.rsplit('/').next().unwrap()).collect();
    // Busy the first time, so all of it comes again.
    assert_eq!(patched, ["status", "one", "changed", "two", "status", "one", "changed", "two", "status"]);
    assert_eq!(told[1].1, json!({"metadata": {"uid": "one", "resourceVersion": "4"}}));
    assert_eq!(told[0].1["status"]["resourceVersion"], "9");
    assert_eq!(told[0].1["status"]["conditions"][0]["type"], "Running");
    let end = &told.last().unwrap().1["status"]["conditions"];
    assert_eq!((&end[0]["status"], &end[1]["type"]), (&json!("False"), &json!("Succeeded")));
}
