//! Objects as a client sends them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Request;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};

/// The image of measured pods, and what it runs.
pub(crate) const IMAGE: &str = "tiphys.local/bench:1";
pub(crate) const COMMAND: [&str; 2] = ["sleep", "1000000"];

/// Applies every object of a YAML text.
pub(crate) async fn apply(client: &Client, text: &str) -> Result<()> {
    for document in text.split("\n---\n") {
        let object: DynamicObject = serde_saphyr::from_str(document).context("reading an object")?;
        let types = object.types.clone().context("an object names no kind")?;
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &types.kind));
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        let name = object.metadata.name.as_deref().context("an object has no name")?;
        let by = PatchParams::apply("bench").force();
        api.patch(name, &by, &Patch::Apply(&object)).await.with_context(|| format!("applying {name}"))?;
    }
    Ok(())
}

/// Makes a namespace and, since not every side has a controller for it, its default service account.
pub(crate) async fn namespace(client: &Client, name: &str) -> Result<()> {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n---\n\
         apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: default\n  namespace: {name}\n"
    );
    apply(client, &text).await
}

/// Waits until pods may be created in a namespace: a controller may have to make a token first.
pub(crate) async fn accepts_pods(client: &Client, namespace: &str) -> Result<()> {
    let path = format!("{}?dryRun=All", pods(namespace));
    let mut last = None;
    for _ in 0..300 {
        let body = pod("trial", true).to_string().into_bytes();
        match client.request_text(request("POST", &path, body)).await {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    bail!("no pod can be created in {namespace}: {last:?}")
}

/// A pod that sleeps; one for nobody is never scheduled.
pub(crate) fn pod(name: &str, scheduled: bool) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "schedulerName": if scheduled { "default-scheduler" } else { "nobody" },
            "automountServiceAccountToken": scheduled,
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "main", "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": COMMAND,
            }],
        },
    })
}

/// About a kilobyte, as configuration often is.
pub(crate) fn config_map(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "bench"}},
        "data": {"settings": "key = value\n".repeat(64)},
    })
}

/// A Deployment that wants no Pods, and says something else each time.
pub(crate) fn deployment(name: &str, n: usize) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "labels": {"app": "bench"}, "annotations": {"bench/n": n.to_string()}},
        "spec": {
            "replicas": 0, "paused": true, "selector": {"matchLabels": {"app": "bench"}},
            "template": {
                "metadata": {"labels": {"app": "bench"}},
                "spec": {"containers": [{
                    "name": "main", "image": IMAGE, "command": COMMAND, "env": [{"name": "A", "value": "b"}],
                    "ports": [{"containerPort": 80}], "resources": {"requests": {"cpu": "10m"}},
                }]},
            },
        },
    })
}

/// A Pod of about 4 KB as it is stored.
pub(crate) fn large_pod(n: usize) -> Value {
    let mut pod = pod(&format!("pod-{n:06}"), false);
    let annotations = (0..10).map(|i| (format!("bench/note-{i}"), "x".repeat(200).into()));
    pod["metadata"]["annotations"] = Value::Object(annotations.collect());
    pod
}

/// One of many custom kinds, with a schema of a few fields.
pub(crate) fn definition(n: usize) -> Value {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "minimum": 0, "default": 1},
            "mode": {"type": "string", "enum": ["a", "b"]},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things{n}.bench.example.com")},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced",
            "names": {"plural": format!("things{n}"), "singular": format!("thing{n}"),
                      "kind": format!("Thing{n}"), "listKind": format!("Thing{n}List")},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                          "subresources": {"status": {}}}],
        },
    })
}

/// Where the objects of a definition are.
pub(crate) fn custom_collection(n: usize) -> String {
    format!("/apis/bench.example.com/v1/namespaces/default/things{n}")
}

/// A namespace and its default account, each with the collection that it belongs to.
pub(crate) fn namespace_and_account(name: &str) -> [(String, Value); 2] {
    [
        (
            "/api/v1/namespaces".to_owned(),
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        ),
        (
            format!("/api/v1/namespaces/{name}/serviceaccounts"),
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        ),
    ]
}

/// Where the pods of a namespace are.
pub(crate) fn pods(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/pods")
}

/// A request to create an object.
pub(crate) fn create(namespace: &str, plural: &str, object: &Value) -> Request<Vec<u8>> {
    request("POST", &format!("/api/v1/namespaces/{namespace}/{plural}"), object.to_string().into_bytes())
}

/// A request; a body is JSON.
pub(crate) fn request(method: &str, path: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(body).expect("paths and methods of this program are valid")
}
