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
    let path = format!("/api/v1/namespaces/{namespace}/pods?dryRun=All");
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

/// A request to create an object.
pub(crate) fn create(namespace: &str, plural: &str, object: &Value) -> Request<Vec<u8>> {
    request("POST", &format!("/api/v1/namespaces/{namespace}/{plural}"), object.to_string().into_bytes())
}

/// A request; a body is JSON.
pub(crate) fn request(method: &str, path: &str, body: Vec<u8>) -> Request<Vec<u8>> {
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
    request.body(body).expect("paths and methods of this program are valid")
}
