use std::{collections::VecDeque, time::Duration};

use http::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::*;

fn config_map(name: &str, revision: u32, team: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"namespace": "ns", "name": name, "uid": name, "resourceVersion": revision.to_string(),
            "labels": {"team": team}}})
}

fn list(items: &[Value], revision: u32) -> String {
    json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
        "metadata": {"resourceVersion": revision.to_string()}})
    .to_string()
}

fn event(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// Answers requests with the scripted bodies in turn, then never.
fn scripted(answers: Vec<(u16, String)>) -> Client {
    let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
    Client::new(
        tower::service_fn(move |_: Request<Body>| {
            let next = answers.lock().pop_front();
            async move {
                match next {
                    Some((code, body)) => Ok::<_, std::convert::Infallible>(
                        Response::builder().status(code).body(Body::from(body.into_bytes())).expect("valid"),
                    ),
                    None => std::future::pending().await,
                }
            }
        }),
        "ns",
    )
}

fn team(map: &ConfigMap) -> Vec<String> {
    map.metadata.labels.iter().flatten().filter(|(k, _)| *k == "team").map(|(_, v)| v.clone()).collect()
}

#[tokio::test(start_paused = true)]
async fn it_follows_lists_and_watches_and_makes_up_for_what_a_broken_watch_swallowed() {
    let gone = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": "Expired",
        "message": "too old resource version", "code": 410, "metadata": {}});
    let client = scripted(vec![
        (200, list(&[config_map("a", 1, "red"), config_map("b", 2, "red")], 2)),
        (200, event("MODIFIED", config_map("b", 3, "blue")) + &event("ERROR", gone)),
        (200, list(&[config_map("b", 3, "blue"), config_map("c", 5, "red")], 5)),
    ]);
    let mut informer =
        Informer::new(Api::<ConfigMap>::namespaced(client, "ns"), watcher::Config::default(), |m| m)
            .index("team", team);
    let reader = informer.reader();
    let changes = Arc::new(Mutex::new(Vec::new()));
    informer.on_change({
        let (changes, reader) = (changes.clone(), informer.reader());
        move |change| {
            assert_eq!(reader.get(&change.key).is_some(), change.new.is_some(), "readers see it first");
            let word = match (&change.old, &change.new) {
                (None, _) => "+",
                (_, None) => "-",
                _ => "~",
            };
            changes.lock().push(format!("{word}{}", change.key.name));
        }
    });
    let running = tokio::spawn(informer.run());
    reader.synced().await;
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(*changes.lock(), ["+a", "+b", "~b", "~b", "+c", "-a"]);
    let names = |maps: Vec<Arc<ConfigMap>>| -> Vec<String> {
        maps.iter().filter_map(|m| m.metadata.name.clone()).collect()
    };
    assert_eq!(names(reader.list()), ["b", "c"]);
    assert_eq!(names(reader.list_in("ns")), ["b", "c"]);
    assert_eq!(names(reader.list_in("other")), [""; 0]);
    assert_eq!(names(reader.indexed("team", "red")), ["c"]);
    assert_eq!(names(reader.indexed("team", "blue")), ["b"]);
    running.abort();
}
