use serde_json::{Value, json};
use tiphys_api::codec::protobuf;

use crate::ApiServer;
use crate::testing::{self, Answer, ask};

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn deployment(replicas: u32) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "nginx:1"}, {"name": "side", "image": "s:1"}]},
            },
        },
    })
}

async fn patch(server: &ApiServer, query: &str, kind: &str, body: Value) -> Answer {
    let path = format!("{DEPLOYMENTS}/web{query}");
    ask(server, "PATCH", &path, &[("content-type", kind)], body.to_string()).await
}

async fn created() -> ApiServer {
    let server = testing::server().await;
    let (code, _) = testing::json(&server, "POST", DEPLOYMENTS, deployment(2)).await;
    assert_eq!(code, 201);
    server
}

/// The fields that a manager owns.
fn owned(object: &Value, manager: &str, subresource: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    let found = entries.into_iter().find(|entry| {
        entry["manager"] == manager && entry["subresource"].as_str().unwrap_or_default() == subresource
    });
    found.map_or(Value::Null, |entry| entry["fieldsV1"].clone())
}

#[tokio::test]
async fn each_kind_of_patch_does_what_it_says() {
    let server = created().await;
    let strategic =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "s:2"}]}}}});
    let answer = patch(&server, "", "application/strategic-merge-patch+json", strategic).await;
    let containers = answer.json()["spec"]["template"]["spec"]["containers"].clone();
    assert_eq!((&containers[0]["image"], &containers[1]["image"]), (&json!("nginx:1"), &json!("s:2")));

    let merge = json!({"metadata": {"labels": {"app": null, "x": "y"}}});
    let answer = patch(&server, "", "application/merge-patch+json", merge).await;
    assert_eq!(answer.json()["metadata"]["labels"], json!({"x": "y"}));

    let test = json!([{"op": "test", "path": "/spec/replicas", "value": 2}, {"op": "replace", "path": "/spec/replicas", "value": 3}]);
    let answer = patch(&server, "?fieldManager=me", "application/json-patch+json", test.clone()).await;
    assert_eq!((answer.code, &answer.json()["spec"]["replicas"]), (200, &json!(3)));
    assert_eq!(owned(&answer.json(), "me", ""), json!({"f:spec": {"f:replicas": {}}}));
    let answer = patch(&server, "", "application/json-patch+json", test).await;
    assert_eq!((answer.code, &answer.json()["reason"]), (422, &json!("Invalid")));
    assert_eq!(patch(&server, "", "application/json", json!({})).await.code, 415);
}

#[tokio::test]
async fn applies_create_conflict_and_give_up_fields() {
    let server = testing::server().await;
    let apply =
        |query: &'static str, config: Value| patch(&server, query, "application/apply-patch+yaml", config);
    let answer = apply("?fieldManager=one", deployment(2)).await;
    assert_eq!(answer.code, 201);
    let created = answer.json();
    // Not a field more than what was said, though reading and defaults added many.
    let container = json!({".": {}, "f:name": {}, "f:image": {}});
    assert_eq!(
        owned(&created, "one", "")["f:spec"]["f:template"]["f:spec"]["f:containers"],
        json!({"k:{\"name\":\"side\"}": container, "k:{\"name\":\"web\"}": container})
    );
    let again = apply("?fieldManager=one", deployment(2)).await.json();
    assert_eq!(again, created, "an apply that changes nothing writes nothing");

    let answer = apply("?fieldManager=two", deployment(5)).await;
    assert_eq!(answer.code, 409);
    let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"});
    assert_eq!(answer.json()["details"]["causes"], json!([cause]));
    let forced = apply("?fieldManager=two&force=true", deployment(5)).await.json();
    assert_eq!(forced["spec"]["replicas"], 5);
    assert_eq!(owned(&forced, "one", "")["f:spec"].get("f:replicas"), None);

    let mut less = deployment(5);
    less["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap().pop();
    assert_eq!(apply("?fieldManager=two", less.clone()).await.code, 200);
    less["spec"].as_object_mut().unwrap().remove("replicas");
    assert_eq!(apply("?fieldManager=one", less).await.code, 200);
    let (_, object) = testing::json(&server, "GET", &format!("{DEPLOYMENTS}/web"), Value::Null).await;
    assert_eq!(object["spec"]["template"]["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(object["spec"]["replicas"], 5);

    assert_eq!(apply("", deployment(5)).await.code, 422, "an apply must say who applies");
    for (version, kind, told) in [
        ("apps/v1", Value::Null, "apps/v1, Kind="),
        ("apps/v1beta1", json!("Deployment"), "apps/v1beta1, Kind=Deployment"),
        ("v1", json!("Deployment"), "/v1, Kind=Deployment"),
    ] {
        let mut other = deployment(5);
        (other["apiVersion"], other["kind"]) = (version.into(), kind);
        let answer = apply("?fieldManager=one", other).await;
        let told = format!("invalid object type: {told}");
        assert_eq!((answer.code, &answer.json()["message"]), (400, &json!(told)));
    }
    let mut unknown = deployment(5);
    unknown["spec"]["replica"] = 1.into();
    for query in ["?fieldManager=one&fieldValidation=Strict", "?fieldManager=one&fieldValidation=Ignore"] {
        let answer = apply(query, unknown.clone()).await;
        assert_eq!(answer.code, 400);
        let told = ".spec.replica: field not declared in schema";
        assert!(answer.json()["message"].as_str().unwrap().ends_with(told));
    }
}

#[tokio::test]
async fn keys_that_stand_twice_in_what_is_applied_are_told() {
    let server = testing::server().await;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\ndata:\n  a: one\n  a: two\n";
    let apply = |validation: &'static str| {
        let path = format!(
            "/api/v1/namespaces/default/configmaps/web?fieldManager=one&fieldValidation={validation}"
        );
        let server = &server;
        async move { ask(server, "PATCH", &path, &[("content-type", "application/apply-patch+yaml")], text).await }
    };
    let told =
        "error converting YAML to JSON: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map";
    let refused = apply("Strict").await;
    let message = format!("error strict decoding YAML: {told}");
    assert_eq!((refused.code, &refused.json()["message"]), (400, &json!(message)));
    let warned = apply("Warn").await;
    assert_eq!((warned.code, &warned.json()["data"]), (201, &json!({"a": "two"})));
    let warning = warned.headers["warning"].to_str().unwrap();
    assert_eq!(warning, r#"299 - "line 7: key \"a\" already set in map""#);
    assert!(!apply("Ignore").await.headers.contains_key("warning"));
}

/// In the order and the words of upstream's handlers: what is wrong with the patch comes before what it makes.
#[tokio::test]
async fn keys_that_stand_twice_in_a_patch_are_told() {
    let server = created().await;
    let patch = async |path: &str, kind: &str, validation: &str, body: &str| {
        let path = format!("{DEPLOYMENTS}/web{path}?fieldValidation={validation}");
        ask(&server, "PATCH", &path, &[("content-type", kind)], body.to_owned()).await
    };
    let merged = r#"{"spec":{"replicas":3,"foo":1,"replicas":4}}"#;
    let object = r#"[{"op":"add","op":"replace","path":"/spec/replicas","value":4,"foo":1}]"#;
    let scaled = r#"{"spec":{"replicas":3,"replicas":4}}"#;
    let twice = r#"duplicate field "spec.replicas""#;
    let unknown = r#"unknown field "spec.foo""#;
    let operation = [r#"json patch duplicate field "[0].op""#, r#"json patch unknown field "[0].foo""#];
    for (path, kind, body, told, shown) in [
        ("", "application/merge-patch+json", merged, vec![twice, unknown], None),
        (
            "",
            "application/strategic-merge-patch+json",
            merged,
            vec![twice, unknown],
            Some("map[spec:map[foo:1 replicas:4]]"),
        ),
        ("", "application/json-patch+json", object, operation.to_vec(), None),
        ("/scale", "application/merge-patch+json", scaled, vec![twice], None),
    ] {
        let refused = patch(path, kind, "Strict", body).await.json();
        let message = refused["message"].as_str().unwrap();
        assert_eq!(refused["code"], 422, "{message}");
        assert!(message.ends_with(&format!("\": strict decoding error: {}", told.join(", "))), "{message}");
        if let Some(shown) = shown {
            assert!(message.contains(&format!("patch: Invalid value: \"{shown}\": ")), "{message}");
        }
        let warned = patch(path, kind, "", body).await;
        let warnings = warned.headers.get_all("warning").iter().map(|w| w.to_str().unwrap().to_owned());
        let warnings: Vec<_> = warnings.collect();
        let expected: Vec<_> = told.iter().map(|told| format!("299 - {told:?}")).collect();
        assert_eq!((warned.code, warnings), (200, expected), "{kind}");
        assert_eq!(warned.json()["spec"]["replicas"], 4);
        let ignored = patch(path, kind, "Ignore", body).await;
        assert_eq!((ignored.code, ignored.headers.get("warning")), (200, None));
    }
    let misfit = patch("", "application/merge-patch+json", "", r#"{"spec":{"replicas":"x"}}"#).await.json();
    let message = misfit["message"].as_str().unwrap();
    let why = "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32";
    assert!(message.ends_with(why), "{message}");
}

#[tokio::test]
async fn whoever_scales_owns_the_replicas() {
    let server = created().await;
    let answer = patch(
        &server,
        "/scale?fieldManager=scaler",
        "application/merge-patch+json",
        json!({"spec": {"replicas": 7}}),
    )
    .await;
    assert_eq!((answer.code, &answer.json()["spec"]["replicas"]), (200, &json!(7)));
    let (_, object) = testing::json(&server, "GET", &format!("{DEPLOYMENTS}/web"), Value::Null).await;
    assert_eq!(owned(&object, "scaler", "scale"), json!({"f:spec": {"f:replicas": {}}}));
}

#[tokio::test]
async fn objects_travel_as_protobuf_and_yaml() {
    let server = testing::server().await;
    let protobuf = "application/vnd.kubernetes.protobuf";
    let body = protobuf::encode(&deployment(0)).unwrap();
    let headers = [("content-type", protobuf), ("accept", protobuf)];
    let answer = ask(&server, "POST", DEPLOYMENTS, &headers, body).await;
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (201, protobuf));
    let object = protobuf::decode(&answer.body, ("", "")).unwrap();
    assert_eq!((&object["kind"], &object["spec"]["replicas"]), (&json!("Deployment"), &json!(0)));
    assert_eq!(object["spec"]["strategy"]["type"], "RollingUpdate");

    let answer = ask(&server, "GET", DEPLOYMENTS, &[("accept", protobuf)], "").await;
    let list = protobuf::decode(&answer.body, ("", "")).unwrap();
    assert_eq!(
        (&list["kind"], &list["items"][0]["metadata"]["name"]),
        (&json!("DeploymentList"), &json!("web"))
    );

    let yaml = "application/yaml";
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n  a: |\n    b\n";
    let path = "/api/v1/namespaces/default/configmaps";
    let answer = ask(&server, "POST", path, &[("content-type", yaml), ("accept", yaml)], body).await;
    assert_eq!((answer.code, answer.headers["content-type"].to_str().unwrap()), (201, yaml));
    assert!(String::from_utf8_lossy(&answer.body).contains("kind: ConfigMap"));

    for (kind, body, code) in [(yaml, "a: [", 400), (protobuf, "k8s", 400), ("text/plain", "a", 415)] {
        assert_eq!(ask(&server, "POST", path, &[("content-type", kind)], body).await.code, code, "{kind}");
    }
}
