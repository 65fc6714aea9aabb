use std::sync::Arc;

use http::Method;
use kube::runtime::watcher;
use parking_lot::Mutex;
use tiphys_client::Informer;
use tokio::sync::Notify;

use super::*;
use base64::{Engine, prelude::BASE64_STANDARD};
use sha2::{Digest, Sha256};

use crate::testing::{Asked, client, list, refused};

fn migration() -> Value {
    json!({"apiVersion": "storagemigration.k8s.io/v1", "kind": "StorageVersionMigration",
        "metadata": {"name": "m", "uid": "u", "resourceVersion": "1"},
        "spec": {"resource": {"group": "", "resource": "things"}}})
}

fn thing(name: &str) -> Value {
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": name, "namespace": "a", "uid": name, "resourceVersion": "4"}})
}

/// Has two pages of things, one of which somebody changes meanwhile, and is busy once.
#[derive(Default)]
struct Server {
    told: Mutex<Vec<(String, Value)>>,
    was_busy: Mutex<bool>,
    over: Notify,
}

impl Server {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        if asked.method == Method::PATCH {
            let name = asked.path.rsplit('/').next().unwrap();
            self.told.lock().push((name.to_owned(), asked.body.clone()));
            return match name {
                "status" => {
                    let mut told = migration();
                    told["status"] = asked.body["status"].clone();
                    if told["status"]["conditions"].as_array().is_some_and(|all| all.len() == 2) {
                        self.over.notify_one();
                    }
                    (200, told)
                }
                "changed" => refused(409, "Conflict"),
                "two" if !std::mem::replace(&mut *self.was_busy.lock(), true) => {
                    refused(429, "TooManyRequests")
                }
                name => (200, thing(name)),
            };
        }
        let things = |names: &[&str]| {
            let things: Vec<_> = names.iter().map(|name| thing(name)).collect();
            list("meta.k8s.io/v1", "PartialObjectMetadata", &things)
        };
        match &*asked.path {
            "/apis" => (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})),
            "/api/v1" => (
                200,
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": [
                    {"name": "things", "singularName": "", "namespaced": true, "kind": "Thing",
                        "verbs": ["list", "patch"]}]}),
            ),
            "/api/v1/things" if asked.query.contains("continue=more") => things(&["two"]),
            "/api/v1/things" => {
                let (code, mut page) = things(&["one", "changed"]);
                page["metadata"]["continue"] = json!("more");
                (code, page)
            }
            _ => list("storagemigration.k8s.io/v1", "StorageVersionMigration", &[migration()]),
        }
    }
}

/// Runs the controller until `over`.
async fn run(client: Client, over: &Notify) {
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
        () = over.notified() => {}
    }
}

#[tokio::test(start_paused = true)]
async fn every_object_is_written_anew_and_the_end_is_told() {
    let server = Arc::new(Server::default());
    let client = client({
        let server = Arc::clone(&server);
        move |asked| server.answer(asked)
    });
    run(client, &server.over).await;
    let told = server.told.lock();
    let patched: Vec<_> = told.iter().map(|(name, _)| name.as_str()).collect();
    // The server was busy the first time, so all of it comes again.
    assert_eq!(patched, ["status", "one", "changed", "two", "status", "one", "changed", "two", "status"]);
    assert_eq!(told[1].1, json!({"metadata": {"uid": "one", "resourceVersion": "4"}}));
    assert_eq!(told[0].1["status"]["resourceVersion"], "9");
    assert_eq!(told[0].1["status"]["conditions"][0]["type"], "Running");
    let end = &told.last().unwrap().1["status"]["conditions"];
    assert_eq!((&end[0]["status"], &end[1]["type"]), (&json!("False"), &json!("Succeeded")));
}

/// A custom kind that is to be stored as v2, which the server does only from the second question on.
#[derive(Default)]
struct Custom {
    asked: Mutex<u32>,
    told: Mutex<Vec<(String, Value)>>,
    over: Notify,
}

impl Custom {
    fn answer(&self, asked: &Asked) -> (u16, Value) {
        let (name, mut migration) = ("things.example.com", migration());
        migration["spec"]["resource"]["group"] = json!("example.com");
        let told = || self.told.lock();
        if asked.method == Method::PATCH {
            told().push((asked.path.clone(), asked.body.clone()));
            if asked.path.contains("storageversionmigrations") {
                migration["status"] = asked.body["status"].clone();
                if migration["status"].to_string().contains("Succeeded") {
                    self.over.notify_one();
                }
                return (200, migration);
            }
            return (200, json!({"metadata": {"name": name}}));
        }
        match &*asked.path {
            "/api/v1" => (
                200,
                json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1", "resources": []}),
            ),
            "/apis" => {
                let version = json!({"groupVersion": "example.com/v2", "version": "v2"});
                let group =
                    json!({"name": "example.com", "versions": [version], "preferredVersion": version});
                (200, json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group]}))
            }
            "/apis/example.com/v2" => {
                let mut asked = self.asked.lock();
                let version = if *asked == 0 { "v1" } else { "v2" };
                *asked += 1;
                let hash =
                    BASE64_STANDARD.encode(&Sha256::digest(format!("example.com/{version}/Thing"))[..8]);
                let resource = json!({"name": "things", "singularName": "", "namespaced": true, "kind": "Thing",
                    "verbs": ["list", "patch"], "storageVersionHash": hash});
                (
                    200,
                    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "example.com/v2",
                    "resources": [resource]}),
                )
            }
            "/apis/example.com/v2/things" => list("meta.k8s.io/v1", "PartialObjectMetadata", &[]),
            path if path.ends_with(name) => {
                let noted = told()
                    .iter()
                    .find(|(path, _)| path.contains(name))
                    .map(|(_, body)| body["status"]["conditions"].clone());
                (
                    200,
                    json!({"metadata": {"name": name, "generation": 2, "resourceVersion": "7"},
                    "spec": {"versions": [{"name": "v1"}, {"name": "v2", "storage": true}]},
                    "status": {"storedVersions": ["v1", "v2"], "conditions": noted}}),
                )
            }
            _ => list("storagemigration.k8s.io/v1", "StorageVersionMigration", &[migration]),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_definition_forgets_versions_that_nothing_is_stored_in() {
    let server = Arc::new(Custom::default());
    let client = client({
        let server = Arc::clone(&server);
        move |asked| server.answer(asked)
    });
    run(client, &server.over).await;
    assert_eq!(*server.asked.lock(), 2, "nothing is done while the server stores objects as before");
    let told = server.told.lock();
    let of_definition: Vec<_> =
        told.iter().filter(|(path, _)| path.ends_with("things.example.com/status")).collect();
    assert_eq!(of_definition.len(), 2, "{told:?}");
    assert_eq!(of_definition[0].1["status"]["conditions"][0]["status"], "True");
    assert_eq!(of_definition[1].1["status"]["storedVersions"], json!(["v2"]));
    assert!(told.last().unwrap().0.contains("storageversionmigrations"), "the end is told last");
}
