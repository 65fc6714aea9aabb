use serde_json::{Value, json};

use crate::ApiServer;
use crate::testing::{ADVERTISED, ask, json as send, server};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "spec": {"type": "object", "required": ["size"], "properties": {
                "size": {"type": "integer", "minimum": 1, "maximum": 10},
                "color": {"type": "string", "default": "red", "enum": ["red", "green"]},
                "note": {"type": "string", "nullable": true},
                "replicas": {"type": "integer"},
                "port": {"x-kubernetes-int-or-string": true},
                "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "items": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
                    "items": {"type": "object", "required": ["name"], "properties": {
                        "name": {"type": "string"}, "value": {"type": "string"},
                    }}},
            }},
            "status": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        },
    })
}

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["all"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema()},
                "subresources": {"status": {}, "scale": {
                    "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas"}},
                "selectableFields": [{"jsonPath": ".spec.color"}],
                "additionalPrinterColumns": [
                    {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Color", "type": "string", "jsonPath": ".spec.color", "priority": 1},
                ],
            }],
        },
    })
}

fn foo(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

fn condition<'a>(object: &'a Value, ty: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == ty)
}

/// Waits until a definition has a condition of this status.
async fn until(server: &ApiServer, name: &str, ty: &str, status: &str) -> Value {
    let collection = server.registry().cache().collection(super::GROUP, super::RESOURCE).unwrap();
    let mut changes = collection.changes();
    loop {
        changes.borrow_and_update();
        if let Some(object) = collection.get("", name) {
            let tree: Value = serde_json::from_slice(object.json()).unwrap();
            if condition(&tree, ty).is_some_and(|c| c["status"] == status) {
                return tree;
            }
        }
        changes.changed().await.unwrap();
    }
}

/// Waits until there is no definition of the name, and nothing is served for it.
async fn until_gone(server: &ApiServer, name: &str) {
    let mut kinds = server.registry().watch_kinds();
    let (plural, group) = name.split_once('.').unwrap();
    kinds.wait_for(|kinds| kinds.group_resource(group, plural).is_none()).await.unwrap();
}

pub(super) async fn defined(server: &ApiServer, definition: Value) -> Value {
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    let (code, made) = send(server, "POST", DEFINITIONS, definition).await;
    assert_eq!(code, 201, "{made}");
    until(server, &name, "Established", "True").await
}

pub(super) async fn made(server: &ApiServer, path: &str, object: Value) -> Value {
    let (code, made) = send(server, "POST", path, object).await;
    assert_eq!(code, 201, "{made}");
    made
}

pub(super) async fn patch(server: &ApiServer, path: &str, kind: &str, body: Value) -> (u16, Value) {
    let media = format!("application/{kind}");
    let answer = ask(server, "PATCH", path, &[("content-type", &media)], body.to_string()).await;
    (answer.code, answer.json())
}

#[tokio::test]
async fn a_definition_is_established_and_its_objects_are_served() {
    let server = server().await;
    let definition = defined(&server, definition()).await;
    assert_eq!(condition(&definition, "NamesAccepted").unwrap()["reason"], "NoConflicts");
    assert_eq!(definition["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(definition["status"]["acceptedNames"]["listKind"], "FooList");
    assert_eq!(definition["spec"]["names"]["singular"], "foo");
    assert_eq!(definition["spec"]["conversion"]["strategy"], "None");

    let object = made(&server, FOOS, foo("a", json!({"size": 1, "unknown": true, "note": null}))).await;
    // Unknown fields are dropped, defaults filled in, and null is kept where it is a value.
    assert_eq!(object["spec"], json!({"size": 1, "color": "red", "note": null}));
    assert_eq!(object["metadata"]["generation"], 1);

    let path = format!("{FOOS}/a");
    let (_, read) = send(&server, "GET", &path, Value::Null).await;
    assert_eq!(read, object);
    let (code, changed) = patch(&server, &path, "merge-patch+json", json!({"spec": {"size": 2}})).await;
    assert_eq!((code, &changed["metadata"]["generation"]), (200, &json!(2)));
    let body = json!([{"op": "replace", "path": "/spec/size", "value": 3}]);
    assert_eq!(patch(&server, &path, "json-patch+json", body).await.1["spec"]["size"], 3);
    let (code, refused) = patch(&server, &path, "strategic-merge-patch+json", json!({})).await;
    assert_eq!((code, &refused["reason"]), (415, &json!("UnsupportedMediaType")));

    let (code, list) =
        send(&server, "GET", &format!("{FOOS}?fieldSelector=spec.color%3Dred"), Value::Null).await;
    assert_eq!((code, &list["kind"], list["items"].as_array().unwrap().len()), (200, &json!("FooList"), 1));
    let (_, none) =
        send(&server, "GET", &format!("{FOOS}?fieldSelector=spec.color%3Dgreen"), Value::Null).await;
    assert_eq!(none["items"], json!([]));
    let (code, _) = send(&server, "GET", &format!("{FOOS}?fieldSelector=spec.size%3D3"), Value::Null).await;
    assert_eq!(code, 400);

    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let table = ask(&server, "GET", FOOS, &[("accept", table)], "").await.json();
    let columns: Vec<&Value> =
        table["columnDefinitions"].as_array().unwrap().iter().map(|c| &c["name"]).collect();
    assert_eq!(columns, ["Name", "Size", "Color"]);
    assert_eq!(table["rows"][0]["cells"], json!(["a", 3, "red"]));
    let partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io";
    let partial = ask(&server, "GET", FOOS, &[("accept", partial)], "").await.json();
    assert_eq!(partial["items"][0]["metadata"]["name"], "a");

    let (_, resources) = send(&server, "GET", "/apis/example.com/v1", Value::Null).await;
    let names: Vec<&Value> = resources["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["foos", "foos/scale", "foos/status"]);
    assert_eq!(resources["resources"][0]["shortNames"], json!(["fo"]));
}

#[tokio::test]
async fn objects_are_judged_by_their_schema() {
    let server = server().await;
    defined(&server, definition()).await;
    let told = async |spec: Value| send(&server, "POST", FOOS, foo("a", spec)).await.1["message"].clone();
    let of = |errors: &str| Value::from(format!("Foo.example.com \"a\" is invalid: {errors}"));
    for (spec, errors) in [
        (json!({}), "spec.size: Required value"),
        (
            json!({"size": "big"}),
            "spec.size: Invalid value: \"string\": spec.size in body must be of type integer: \"string\"",
        ),
        (
            json!({"size": 11}),
            "spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10",
        ),
        (
            json!({"size": 1, "color": "blue"}),
            "spec.color: Unsupported value: \"blue\": supported values: \"red\", \"green\"",
        ),
        (
            json!({"size": 1, "port": true}),
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \
             \"boolean\"",
        ),
        (
            json!({"size": 1, "items": [{"name": "x"}, {"name": "x"}]}),
            "spec.items[1]: Duplicate value: {\"name\":\"x\"}",
        ),
    ] {
        assert_eq!(told(spec.clone()).await, of(errors), "{spec}");
    }
    let strict = format!("{FOOS}?fieldValidation=Strict");
    let (code, refused) = send(&server, "POST", &strict, foo("a", json!({"size": 1, "x": 1}))).await;
    assert_eq!(code, 400);
    assert!(
        refused["message"].as_str().unwrap().contains("strict decoding error: unknown field \"spec.x\""),
        "{refused}"
    );
    let warned = ask(
        &server,
        "POST",
        FOOS,
        &[("content-type", "application/json")],
        foo("b", json!({"size": 1, "x": 1, "any": {"y": {"z": 1}}})).to_string(),
    )
    .await;
    assert_eq!(
        (warned.code, warned.headers["warning"].to_str().unwrap()),
        (201, "299 - \"unknown field \\\"spec.x\\\"\"")
    );
    assert_eq!(warned.json()["spec"]["any"], json!({"y": {"z": 1}}));
}

#[tokio::test]
async fn status_and_scale_are_subresources() {
    let server = server().await;
    defined(&server, definition()).await;
    let mut object = foo("a", json!({"size": 1, "replicas": 2}));
    object["status"] = json!({"replicas": 7});
    let object = made(&server, FOOS, object).await;
    assert_eq!(object.get("status"), None);

    let path = format!("{FOOS}/a");
    let body = json!({"status": {"replicas": 3}, "spec": {"size": 9}});
    let (code, changed) = patch(&server, &format!("{path}/status"), "merge-patch+json", body).await;
    assert_eq!(
        (code, &changed["status"], &changed["spec"]["size"]),
        (200, &json!({"replicas": 3}), &json!(1))
    );
    assert_eq!(changed["metadata"]["generation"], 1);
    let (_, changed) = patch(&server, &path, "merge-patch+json", json!({"status": null})).await;
    assert_eq!(changed["status"], json!({"replicas": 3}));

    let (code, scale) = send(&server, "GET", &format!("{path}/scale"), Value::Null).await;
    assert_eq!((code, &scale["spec"]["replicas"], &scale["status"]["replicas"]), (200, &json!(2), &json!(3)));
    let body = json!({"spec": {"replicas": 5}});
    let (code, scale) = patch(&server, &format!("{path}/scale"), "merge-patch+json", body).await;
    assert_eq!((code, &scale["spec"]["replicas"]), (200, &json!(5)), "{scale}");
    let (_, object) = send(&server, "GET", &path, Value::Null).await;
    assert_eq!((&object["spec"]["replicas"], &object["metadata"]["generation"]), (&json!(5), &json!(2)));
}

#[tokio::test]
async fn managers_own_items_of_keyed_lists() {
    let server = server().await;
    defined(&server, definition()).await;
    let apply = async |manager: &str, items: Value| {
        let path = format!("{FOOS}/a?fieldManager={manager}");
        patch(&server, &path, "apply-patch+yaml", foo("a", json!({"size": 1, "items": items}))).await
    };
    assert_eq!(apply("one", json!([{"name": "x", "value": "1"}])).await.0, 201);
    let (code, both) = apply("two", json!([{"name": "y", "value": "2"}])).await;
    assert_eq!((code, both["spec"]["items"].as_array().unwrap().len()), (200, 2), "{both}");
    let (code, conflict) = apply("two", json!([{"name": "x", "value": "3"}])).await;
    assert_eq!((code, &conflict["reason"]), (409, &json!("Conflict")));
    let (_, left) = apply("one", json!([])).await;
    assert_eq!(left["spec"]["items"], json!([{"name": "y", "value": "2"}]));
}

#[tokio::test]
async fn a_new_default_is_seen_on_what_is_stored() {
    let server = server().await;
    let stored = defined(&server, definition()).await;
    made(&server, FOOS, foo("a", json!({"size": 1}))).await;
    let mut changed = stored.clone();
    let spec = &mut changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    spec["properties"]["late"] = json!({"type": "string", "default": "here"});
    let mut kinds = server.registry().watch_kinds();
    kinds.borrow_and_update();
    let (code, answer) = send(&server, "PUT", &format!("{DEFINITIONS}/foos.example.com"), changed).await;
    assert_eq!((code, &answer["metadata"]["generation"]), (200, &json!(2)), "{answer}");
    kinds.changed().await.unwrap();
    let (_, object) = send(&server, "GET", &format!("{FOOS}/a"), Value::Null).await;
    assert_eq!(object["spec"]["late"], "here");
    let (_, list) = send(&server, "GET", FOOS, Value::Null).await;
    assert_eq!(list["items"][0]["spec"]["late"], "here");
}

#[tokio::test]
async fn a_definition_takes_its_objects_along() {
    let server = server().await;
    defined(&server, definition()).await;
    let mut held = foo("held", json!({"size": 1}));
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    made(&server, FOOS, held).await;
    made(&server, FOOS, foo("free", json!({"size": 1}))).await;
    let path = format!("{DEFINITIONS}/foos.example.com");
    let (code, going) = send(&server, "DELETE", &path, Value::Null).await;
    assert_eq!(
        (code, &going["metadata"]["finalizers"]),
        (200, &json!([super::definition::FINALIZER])),
        "{going}"
    );
    until(&server, "foos.example.com", "Terminating", "True").await;

    // Until they are gone, what is there can be changed, and nothing new be made.
    let mut kinds = server.registry().watch_kinds();
    let closed = |kinds: &std::sync::Arc<tiphys_api::kind::Kinds>| {
        !kinds.group_resource("example.com", "foos").unwrap().verbs.contains(tiphys_api::kind::Verbs::CREATE)
    };
    kinds.wait_for(closed).await.unwrap();
    assert_eq!(send(&server, "POST", FOOS, foo("new", json!({"size": 1}))).await.0, 405);
    let (code, _) = patch(
        &server,
        &format!("{FOOS}/held"),
        "merge-patch+json",
        json!({"metadata": {"finalizers": null}}),
    )
    .await;
    assert_eq!(code, 200);
    until_gone(&server, "foos.example.com").await;
    assert_eq!(send(&server, "GET", FOOS, Value::Null).await.0, 404);
    assert_eq!(send(&server, "GET", &path, Value::Null).await.0, 404);
    assert_eq!(send(&server, "GET", "/apis/example.com/v1", Value::Null).await.0, 404);

    defined(&server, definition()).await;
    let (_, list) = send(&server, "GET", FOOS, Value::Null).await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn names_are_had_by_one_definition() {
    let server = server().await;
    defined(&server, definition()).await;
    let mut other = definition();
    other["metadata"]["name"] = "bars.example.com".into();
    other["spec"]["names"] = json!({"plural": "bars", "kind": "Foo", "shortNames": ["fo"]});
    assert_eq!(send(&server, "POST", DEFINITIONS, other).await.0, 201);
    let refused = until(&server, "bars.example.com", "NamesAccepted", "False").await;
    assert_eq!(condition(&refused, "NamesAccepted").unwrap()["message"], "\"FooList\" is already in use");
    assert_eq!(condition(&refused, "Established").unwrap()["status"], "False");
    assert_eq!(send(&server, "GET", "/apis/example.com/v1/bars", Value::Null).await.0, 404);

    let path = format!("{DEFINITIONS}/foos.example.com");
    assert_eq!(send(&server, "DELETE", &path, Value::Null).await.0, 200);
    // The names are free again.
    until(&server, "bars.example.com", "Established", "True").await;
    assert_eq!(
        send(&server, "GET", "/apis/example.com/v1/namespaces/default/bars", Value::Null).await.0,
        200
    );
}

#[tokio::test]
async fn definitions_and_objects_survive_a_restart() {
    let store: std::sync::Arc<dyn tiphys_store::Store> = std::sync::Arc::new(tiphys_store::Memory::new());
    let dir = tempfile::tempdir().unwrap();
    let pki = std::sync::Arc::new(tiphys_pki::Pki::open(dir.path()).unwrap());
    let start = async || {
        let config = crate::testing::config(std::sync::Arc::clone(&pki), ADVERTISED);
        ApiServer::start(config, std::sync::Arc::clone(&store)).await.unwrap()
    };
    let first = start().await;
    defined(&first, definition()).await;
    let object = made(&first, FOOS, foo("a", json!({"size": 1}))).await;
    first.stop();
    let second = start().await;
    let (_, read) = send(&second, "GET", &format!("{FOOS}/a"), Value::Null).await;
    assert_eq!(read, object);
}

#[tokio::test]
async fn versions_differ_in_name_only() {
    let server = server().await;
    let mut definition = definition();
    let mut beta = definition["spec"]["versions"][0].clone();
    beta["name"] = "v1beta1".into();
    beta["storage"] = false.into();
    beta["deprecated"] = true.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(beta);
    defined(&server, definition).await;
    let old = FOOS.replace("/v1/", "/v1beta1/");
    let body = json!({"apiVersion": "example.com/v1beta1", "kind": "Foo", "metadata": {"name": "a"}, "spec": {"size": 1}});
    let answer = ask(&server, "POST", &old, &[("content-type", "application/json")], body.to_string()).await;
    assert_eq!((answer.code, &answer.json()["apiVersion"]), (201, &json!("example.com/v1beta1")));
    assert_eq!(answer.headers["warning"], "299 - \"example.com/v1beta1 Foo is deprecated\"");
    let (_, read) = send(&server, "GET", &format!("{FOOS}/a"), Value::Null).await;
    assert_eq!(read["apiVersion"], "example.com/v1");
    let (_, group) = send(&server, "GET", "/apis/example.com", Value::Null).await;
    assert_eq!(group["preferredVersion"]["version"], "v1");
}

#[tokio::test]
async fn objects_of_an_older_storage_version_are_read_and_written_anew() {
    let server = server().await;
    let mut definition = definition();
    let mut next = definition["spec"]["versions"][0].clone();
    next["name"] = "v2".into();
    next["storage"] = false.into();
    definition["spec"]["versions"].as_array_mut().unwrap().push(next);
    defined(&server, definition).await;
    for name in ["a", "b"] {
        made(&server, FOOS, foo(name, json!({"size": 1}))).await;
    }
    let path = format!("{DEFINITIONS}/foos.example.com");
    let change = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    assert_eq!(patch(&server, &path, "json-patch+json", change).await.0, 200);
    let v2 = FOOS.replace("/v1/", "/v2/");
    let mut seen = Value::Null;
    while seen["apiVersion"] != "example.com/v2" {
        seen = send(&server, "GET", &format!("{v2}/a"), Value::Null).await.1;
        tokio::task::yield_now().await;
    }
    let (_, list) = send(&server, "GET", &v2, Value::Null).await;
    assert_eq!(list["items"][1]["apiVersion"], "example.com/v2");
    let add = json!([{"op": "add", "path": "/metadata/labels", "value": {"x": "y"}}]);
    let (code, changed) = patch(&server, &format!("{v2}/a"), "json-patch+json", add).await;
    assert_eq!((code, &changed["apiVersion"]), (200, &json!("example.com/v2")), "{changed}");
    // Whoever migrates the storage writes what is there, unchanged; once only is there something to do.
    let (_, before) = send(&server, "GET", &format!("{v2}/b"), Value::Null).await;
    let (_, migrated) = send(&server, "PUT", &format!("{v2}/b"), before.clone()).await;
    assert_ne!(migrated["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"]);
    let (_, again) = send(&server, "PUT", &format!("{v2}/b"), migrated.clone()).await;
    assert_eq!(again, migrated);
    let status = json!({"status": {"storedVersions": ["v2"]}});
    assert_eq!(patch(&server, &format!("{path}/status"), "merge-patch+json", status).await.0, 200);
    assert_eq!(send(&server, "GET", &format!("{v2}/b"), Value::Null).await.1, migrated);
}

#[tokio::test]
async fn a_custom_kind_is_described() {
    let server = server().await;
    defined(&server, definition()).await;
    let (_, index) = send(&server, "GET", "/openapi/v3", Value::Null).await;
    let url = index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str().unwrap();
    let (code, document) = send(&server, "GET", url, Value::Null).await;
    let schemas = &document["components"]["schemas"];
    let object = &schemas["com.example.v1.Foo"];
    assert_eq!((code, &object["properties"]["spec"]), (200, &schema()["properties"]["spec"]));
    let kind = json!([{"group": "example.com", "version": "v1", "kind": "Foo"}]);
    assert_eq!(object["x-kubernetes-group-version-kind"], kind);
    // `kubectl explain` tells it in upstream's words.
    for (field, words) in [
        ("apiVersion", "APIVersion defines"),
        ("kind", "Kind is a string"),
        ("metadata", "Standard object's metadata"),
    ] {
        let text = object["properties"][field]["description"].as_str().unwrap();
        assert!(text.starts_with(words), "{text}");
    }
    assert_eq!(
        schemas["com.example.v1.FooList"]["properties"]["items"]["items"]["$ref"],
        "#/components/schemas/com.example.v1.Foo"
    );
    let patch = &document["paths"]["/apis/example.com/v1/namespaces/{namespace}/foos/{name}"]["patch"];
    let types: Vec<&String> = patch["requestBody"]["content"].as_object().unwrap().keys().collect();
    assert_eq!(
        types,
        ["application/apply-patch+yaml", "application/json-patch+json", "application/merge-patch+json"]
    );
    let (_, v2) = send(&server, "GET", "/openapi/v2", Value::Null).await;
    assert_eq!(v2["definitions"]["com.example.v1.Foo"]["properties"]["spec"]["required"], json!(["size"]));

    // Another schema has another document.
    let path = format!("{DEFINITIONS}/foos.example.com");
    let (_, mut changed) = send(&server, "GET", &path, Value::Null).await;
    changed["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "new".into();
    let mut kinds = server.registry().watch_kinds();
    kinds.borrow_and_update();
    assert_eq!(send(&server, "PUT", &path, changed).await.0, 200);
    kinds.changed().await.unwrap();
    let (_, index) = send(&server, "GET", "/openapi/v3", Value::Null).await;
    assert_ne!(index["paths"]["apis/example.com/v1"]["serverRelativeURL"].as_str(), Some(url));
}

/// A webhook whose authorities are none is not asked: the kind waits until they are mended.
#[tokio::test]
async fn a_definition_with_bad_authorities_is_not_served() {
    let server = server().await;
    let mut definition = definition();
    let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
    definition["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {
        "conversionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://127.0.0.1:1/", "caBundle": "d29yZHM="}}});
    assert_eq!(send(&server, "POST", DEFINITIONS, definition).await.0, 201);
    let told = until(&server, &name, "NamesAccepted", "True").await;
    let established = condition(&told, "Established").unwrap();
    assert_eq!(
        (established["status"].as_str(), established["reason"].as_str(), established["message"].as_str()),
        (Some("False"), Some("InvalidCABundle"), Some("The conversion webhook CABundle is invalid"))
    );
    assert!(condition(&told, "NonStructuralSchema").is_none());
    let mend = json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": null}}}}});
    let (code, mended) = patch(&server, &format!("{DEFINITIONS}/{name}"), "merge-patch+json", mend).await;
    assert_eq!(code, 200, "{mended}");
    until(&server, &name, "Established", "True").await;
}

#[tokio::test]
async fn a_definition_tells_who_approved_its_group() {
    let server = server().await;
    let mut definition = definition();
    let plural = definition["spec"]["names"]["plural"].as_str().unwrap().to_owned();
    definition["spec"]["group"] = "x.k8s.io".into();
    definition["metadata"]["name"] = format!("{plural}.x.k8s.io").into();
    definition["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a try"});
    let told = defined(&server, definition).await;
    let conformant = condition(&told, "KubernetesAPIApprovalPolicyConformant").unwrap();
    assert_eq!(
        (&conformant["status"], &conformant["reason"]),
        (&json!("False"), &json!("UnapprovedAnnotation"))
    );
}
