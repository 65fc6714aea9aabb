use tiphys_store::Revision;

use super::*;
use crate::identity::Component;
use crate::testing::{ask, ask_as, json as send, server};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const HISTORY: &str = "/api/v1/namespaces/default/configmaps/a/history";

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "labels": {"x": "y"}}, "data": data})
}

fn restore(version: &Value) -> Value {
    json!({"apiVersion": VERSION, "kind": RESTORE, "resourceVersion": version})
}

/// Version by version, the newest first: verb, changed fields and data.
fn told(history: &Value) -> Vec<(String, Value, Value)> {
    let items = history["items"].as_array().unwrap_or_else(|| panic!("{history}"));
    let told = items.iter().map(|item| {
        (item["verb"].as_str().unwrap().to_owned(), item["changed"].clone(), item["object"]["data"].clone())
    });
    told.collect()
}

#[tokio::test]
async fn an_object_has_a_history_and_can_be_restored() {
    let server = server().await;
    let (_, first) = send(&server, "POST", MAPS, map(json!({"k": "1", "l": "1"}))).await;
    let path = format!("{MAPS}/a");
    let (_, second) = send(&server, "PUT", &path, map(json!({"k": "2", "m": "1"}))).await;
    let (_, history) = send(&server, "GET", HISTORY, Value::Null).await;
    let created = ("create".to_owned(), json!([]), json!({"k": "1", "l": "1"}));
    let changed = ("update".to_owned(), json!(["data.k", "data.m", "data.l"]), json!({"k": "2", "m": "1"}));
    assert_eq!(told(&history), [changed.clone(), created.clone()]);
    assert_eq!((&history["kind"], &history["metadata"]["name"]), (&json!("ObjectHistory"), &json!("a")));
    assert_eq!(history["items"][0]["user"], "system:apiserver");
    assert_eq!(history["items"][0]["object"], second);

    let version = &first["metadata"]["resourceVersion"];
    let (code, restored) = send(&server, "POST", HISTORY, restore(version)).await;
    assert_eq!((code, &restored["data"]), (200, &json!({"k": "1", "l": "1"})), "{restored}");
    assert_eq!(restored["metadata"]["uid"], first["metadata"]["uid"]);
    assert_ne!(restored["metadata"]["resourceVersion"], *version);

    // After its end it has a history, too, and can be made again.
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    let (code, history) = send(&server, "GET", HISTORY, Value::Null).await;
    assert_eq!(code, 200);
    let verbs: Vec<_> = told(&history).into_iter().map(|(verb, ..)| verb).collect();
    assert_eq!(verbs, ["delete", "update", "update", "create"]);
    let end = &history["items"][0];
    assert_eq!((&end["object"], &end["changed"]), (&Value::Null, &json!([])));
    let (code, refused) = send(&server, "POST", HISTORY, restore(&end["resourceVersion"])).await;
    assert_eq!(code, 400, "{refused}");
    let (code, again) = send(&server, "POST", HISTORY, restore(&second["metadata"]["resourceVersion"])).await;
    assert_eq!((code, &again["data"]), (201, &second["data"]), "{again}");
    assert_ne!(again["metadata"]["uid"], first["metadata"]["uid"]);
    let (_, history) = send(&server, "GET", HISTORY, Value::Null).await;
    assert_eq!(told(&history).len(), 5);
}

#[tokio::test]
async fn history_comes_in_pages_and_as_a_table() {
    let server = server().await;
    send(&server, "POST", MAPS, map(json!({"k": "0"}))).await;
    for n in 1..5 {
        send(&server, "PUT", &format!("{MAPS}/a"), map(json!({"k": n.to_string()}))).await;
    }
    let (mut next, mut all) = (String::new(), Vec::new());
    loop {
        let (code, page) =
            send(&server, "GET", &format!("{HISTORY}?limit=2&continue={next}"), Value::Null).await;
        assert_eq!(code, 200, "{page}");
        all.extend(told(&page).into_iter().map(|(_, changed, data)| (changed, data["k"].clone())));
        match page["metadata"]["continue"].as_str() {
            Some(token) => next = token.to_owned(),
            None => break,
        }
    }
    let changed = |n| if n == 0 { json!([]) } else { json!(["data.k"]) };
    let expected: Vec<_> = (0..5).rev().map(|n| (changed(n), json!(n.to_string()))).collect();
    assert_eq!(all, expected);

    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let table = ask(&server, "GET", HISTORY, &[("accept", accept)], "").await.json();
    let rows = table["rows"].as_array().unwrap();
    assert_eq!(
        (rows.len(), &rows[0]["cells"][3], &rows[0]["cells"][5]),
        (5, &json!("update"), &json!("data.k"))
    );
}

#[tokio::test]
async fn the_past_is_as_secret_as_the_object() {
    let server = server().await;
    send(&server, "POST", MAPS, map(json!({"k": "1"}))).await;
    let (_, object) = send(&server, "PUT", &format!("{MAPS}/a"), map(json!({"k": "2"}))).await;
    let body = restore(&object["metadata"]["resourceVersion"]).to_string();
    // It may read ConfigMaps, and nothing else.
    let who = Component::Scheduler;
    let code = async |method, path: &str, body: &str| {
        ask_as(&server, &who, method, path, &[("content-type", "application/json")], body.to_owned())
            .await
            .code
    };
    assert_eq!(code("POST", HISTORY, &body).await, 403);
    assert_eq!(code("GET", "/api/v1/namespaces/default/secrets/a/history", "").await, 403);
    assert_eq!(code("GET", HISTORY, "").await, code("GET", &format!("{MAPS}/a"), "").await);
}

#[tokio::test]
async fn what_is_wrong_is_told() {
    let server = server().await;
    let (_, object) = send(&server, "POST", MAPS, map(json!({"k": "1"}))).await;
    let version = object["metadata"]["resourceVersion"].as_str().unwrap();
    let missing = "/api/v1/namespaces/default/configmaps/b/history";
    assert_eq!(send(&server, "GET", missing, Value::Null).await.0, 404);
    assert_eq!(send(&server, "GET", &format!("{HISTORY}?resourceVersion=x"), Value::Null).await.0, 400);
    assert_eq!(send(&server, "GET", &format!("{HISTORY}?resourceVersion=1"), Value::Null).await.0, 404);
    assert_eq!(
        send(&server, "GET", &format!("{HISTORY}?resourceVersion={version}"), Value::Null).await.0,
        200
    );
    assert_eq!(send(&server, "POST", HISTORY, restore(&json!("1"))).await.0, 404);
    assert_eq!(send(&server, "POST", HISTORY, json!({"kind": "ConfigMap"})).await.0, 400);
    assert_eq!(send(&server, "DELETE", HISTORY, Value::Null).await.0, 405);
    assert_eq!(
        send(&server, "GET", "/apis/authorization.k8s.io/v1/subjectaccessreviews/a/history", Value::Null)
            .await
            .0,
        404
    );
}

#[test]
fn many_changes_are_not_named_one_by_one() {
    let past = |object| Past { revision: Revision::ZERO, author: None, object: Some(object) };
    let of = |n: usize| Value::Object((0..n).map(|i| (format!("f{i:03}"), i.into())).collect());
    let fields = changed(&past(of(100)), Some(&past(json!({}))));
    assert_eq!((fields.len(), fields.last().map(String::as_str)), (CHANGED + 1, Some("...")));
    let nested =
        changed(&past(json!({"a": {"b": [1], "c": 2}})), Some(&past(json!({"a": {"b": [2], "c": 2}}))));
    assert_eq!(nested, ["a.b"]);
}
