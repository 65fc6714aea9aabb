//! An API server as far as a node needs one: objects by path, list, watch, patch, delete.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

type Sent = UnsyncBoxBody<Bytes, Infallible>;

struct Watcher {
    collection: String,
    fields: Vec<(String, String)>,
    events: mpsc::UnboundedSender<Value>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Value>,
    revision: u64,
    watchers: Vec<Watcher>,
}

/// The API; clones are the same one.
#[derive(Clone)]
pub(crate) struct Api {
    state: Arc<Mutex<State>>,
    changed: watch::Sender<u64>,
}

impl Default for Api {
    fn default() -> Self {
        Self { state: Arc::default(), changed: watch::channel(0).0 }
    }
}

impl Api {
    pub(crate) fn client(&self) -> kube::Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        kube::Client::new(service, "default")
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        let mut receiver = self.changed.subscribe();
        receiver.mark_changed();
        receiver
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.state.lock().objects.get(path).cloned()
    }

    /// The objects below a path, by their paths.
    pub(crate) fn below(&self, path: &str) -> Vec<(String, Value)> {
        let state = self.state.lock();
        let found = state.objects.iter().filter(|(at, _)| at.starts_with(path));
        found.map(|(at, object)| (at.clone(), object.clone())).collect()
    }

    /// The events about an object: reason and message of each.
    pub(crate) fn events(&self, name: &str) -> Vec<(String, String)> {
        let state = self.state.lock();
        let events = state
            .objects
            .iter()
            .filter(|(path, o)| path.contains("/events/") && o["involvedObject"]["name"] == name);
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        events.map(|(_, o)| (text(&o["reason"]), text(&o["message"]))).collect()
    }

    /// Waits for an event about an object, and answers with its message.
    pub(crate) async fn event(&self, name: &str, reason: &str) -> String {
        let mut changes = self.changes();
        let wait = async {
            loop {
                if let Some((_, message)) = self.events(name).into_iter().find(|(r, _)| r == reason) {
                    return message;
                }
                changes.changed().await.expect("the API lives");
            }
        };
        let found = tokio::time::timeout(std::time::Duration::from_secs(60), wait).await;
        found.unwrap_or_else(|_| panic!("no event {reason} about {name}: {:?}", self.events(name)))
    }

    pub(crate) fn put(&self, path: &str, mut object: Value) -> Value {
        let mut state = self.state.lock();
        state.revision += 1;
        object["metadata"]["resourceVersion"] = json!(state.revision.to_string());
        let name = path.rsplit('/').next().unwrap_or_default();
        if object["metadata"]["name"].is_null() {
            object["metadata"]["name"] = json!(name);
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("api-{}", state.revision));
        }
        let old = state.objects.insert(path.to_owned(), object.clone());
        let kind = if old.is_some() { "MODIFIED" } else { "ADDED" };
        Self::tell(&mut state, path, kind, &object);
        drop(state);
        self.changed.send_modify(|n| *n += 1);
        object
    }

    pub(crate) fn change(&self, path: &str, change: impl FnOnce(&mut Value)) {
        let mut object = self.get(path).expect("the object is there");
        change(&mut object);
        self.put(path, object);
    }

    pub(crate) fn remove(&self, path: &str) -> Option<Value> {
        let mut state = self.state.lock();
        let object = state.objects.remove(path)?;
        state.revision += 1;
        Self::tell(&mut state, path, "DELETED", &object);
        drop(state);
        self.changed.send_modify(|n| *n += 1);
        Some(object)
    }

    fn tell(state: &mut State, path: &str, kind: &str, object: &Value) {
        state.watchers.retain(|w| {
            let fits = in_collection(&w.collection, path) && selected(object, &w.fields);
            !fits || w.events.send(json!({"type": kind, "object": object})).is_ok()
        });
    }

    async fn serve(&self, request: Request<kube::client::Body>) -> Response<Sent> {
        let (parts, body) = request.into_parts();
        let path = parts.uri.path().to_owned();
        let query: Vec<(String, String)> = parts
            .uri
            .query()
            .unwrap_or_default()
            .split('&')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.replace("%3D", "=").replace("%2C", ",")))
            .collect();
        let value =
            |name: &str| query.iter().find(|(k, _)| k == name).map(|(_, v)| v.as_str()).unwrap_or_default();
        let fields: Vec<(String, String)> = value("fieldSelector")
            .split(',')
            .filter_map(|p| p.split_once('='))
            .map(|(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        let bytes = body.collect().await.map(|b| b.to_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        let object_path = path.strip_suffix("/status").unwrap_or(&path).to_owned();
        match parts.method {
            Method::GET if value("watch") == "true" || value("watch") == "1" => {
                self.watch(&path, fields, value("resourceVersion"))
            }
            Method::GET => match self.get(&path) {
                Some(object) => answer(200, &object),
                None if self.is_collection(&path) => answer(200, &self.list(&path, &fields)),
                None => not_found(),
            },
            Method::POST if path.ends_with("/token") => {
                let expires = jiff::Timestamp::now() + std::time::Duration::from_secs(3600);
                let token = format!(
                    "token-for-{}",
                    body["spec"]["boundObjectRef"]["name"].as_str().unwrap_or_default()
                );
                answer(
                    201,
                    &json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": body["spec"],
                    "status": {"token": token, "expirationTimestamp": expires.to_string()}}),
                )
            }
            // A token is `token-<user>`; masters may do everything, others may read pods.
            Method::POST if path.ends_with("/tokenreviews") => {
                let user = body["spec"]["token"].as_str().and_then(|t| t.strip_prefix("token-"));
                let status =
                    json!({"authenticated": user.is_some(), "user": {"username": user.unwrap_or_default()}});
                answer(201, &json!({"spec": body["spec"], "status": status}))
            }
            Method::POST if path.ends_with("/subjectaccessreviews") => {
                let spec = &body["spec"];
                let master = spec["groups"].as_array().is_some_and(|g| g.contains(&json!("system:masters")));
                let allowed = master || spec["resourceAttributes"]["subresource"] == "pods";
                answer(201, &json!({"spec": spec, "status": {"allowed": allowed}}))
            }
            Method::POST => {
                let said = |field: &str| body["metadata"][field].as_str().unwrap_or_default().to_owned();
                let name = match said("generateName") {
                    prefix if said("name").is_empty() => format!("{prefix}{:09}", self.state.lock().revision),
                    _ => said("name"),
                };
                let at = format!("{path}/{name}");
                if self.get(&at).is_some() {
                    return status(409, "AlreadyExists");
                }
                answer(201, &self.put(&at, body))
            }
            Method::PUT => match self.get(&object_path) {
                Some(_) => answer(200, &self.put(&object_path, body)),
                None => not_found(),
            },
            Method::PATCH => match self.get(&object_path) {
                Some(mut object) => {
                    let uid = &body["metadata"]["uid"];
                    if !uid.is_null() && *uid != object["metadata"]["uid"] {
                        return status(409, "Conflict");
                    }
                    merge(&mut object, &body);
                    answer(200, &self.put(&object_path, object))
                }
                None => not_found(),
            },
            Method::DELETE => match self.remove(&path) {
                Some(object) => answer(200, &object),
                None => not_found(),
            },
            _ => status(405, "MethodNotAllowed"),
        }
    }

    fn is_collection(&self, path: &str) -> bool {
        let resource = path.rsplit('/').next().unwrap_or_default();
        matches!(
            resource,
            "pods"
                | "services"
                | "nodes"
                | "configmaps"
                | "secrets"
                | "leases"
                | "events"
                | "clustertrustbundles"
                | "podcertificaterequests"
        )
    }

    fn list(&self, path: &str, fields: &[(String, String)]) -> Value {
        let state = self.state.lock();
        let items: Vec<&Value> = state
            .objects
            .iter()
            .filter(|(at, o)| in_collection(path, at) && selected(o, fields))
            .map(|(_, o)| o)
            .collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"resourceVersion": state.revision.to_string()}, "items": items})
    }

    fn watch(&self, path: &str, fields: Vec<(String, String)>, from: &str) -> Response<Sent> {
        let (events, received) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        // Whatever changed between the list and this is told as a modification.
        let from: u64 = from.parse().unwrap_or(0);
        for (at, object) in &state.objects {
            let revision: u64 =
                object["metadata"]["resourceVersion"].as_str().and_then(|r| r.parse().ok()).unwrap_or(0);
            if revision > from && in_collection(path, at) && selected(object, &fields) {
                events.send(json!({"type": "MODIFIED", "object": object})).ok();
            }
        }
        state.watchers.push(Watcher { collection: path.to_owned(), fields, events });
        let frames = tokio_stream::StreamExt::map(UnboundedReceiverStream::new(received), |event| {
            Ok::<_, Infallible>(Frame::data(Bytes::from(format!("{event}\n"))))
        });
        Response::new(StreamBody::new(frames).boxed_unsync())
    }
}

/// `/api/v1/pods` has `/api/v1/namespaces/x/pods/y`; `/api/v1/namespaces/x/pods` has it too.
fn in_collection(collection: &str, path: &str) -> bool {
    let Some((parent, _)) = path.rsplit_once('/') else { return false };
    if parent == collection {
        return true;
    }
    let Some((group, resource)) = collection.rsplit_once('/') else { return false };
    parent
        .strip_prefix(group)
        .and_then(|rest| rest.strip_prefix("/namespaces/"))
        .is_some_and(|rest| rest.split_once('/').is_some_and(|(_, r)| r == resource))
}

fn selected(object: &Value, fields: &[(String, String)]) -> bool {
    fields.iter().all(|(path, want)| {
        let value = path.split('.').fold(object, |o, part| &o[part]);
        value.as_str() == Some(want)
    })
}

/// Enough of a strategic merge: conditions by type, addresses by ip, everything else as a merge patch.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (name, value) in patch {
        match (name.as_str(), value) {
            (_, Value::Null) => {
                into.as_object_mut().unwrap().remove(name);
            }
            ("conditions", Value::Array(new)) => by_key(&mut into[name], new, "type"),
            ("podIPs" | "hostIPs", Value::Array(new)) => by_key(&mut into[name], new, "ip"),
            ("addresses", Value::Array(new)) => {
                into[name] = new.iter().filter(|a| a["$patch"].is_null()).cloned().collect();
            }
            (_, Value::Object(_)) => merge(&mut into[name], value),
            _ => into[name] = value.clone(),
        }
    }
}

fn by_key(list: &mut Value, new: &[Value], key: &str) {
    let mut all = list.as_array().cloned().unwrap_or_default();
    for item in new {
        let mut new = all.iter().find(|o| o[key] == item[key]).cloned().unwrap_or(json!({}));
        all.retain(|o| o[key] != item[key]);
        if item["$patch"] != "delete" {
            merge(&mut new, item);
            all.push(new);
        }
    }
    *list = Value::Array(all);
}

fn answer(code: u16, object: &Value) -> Response<Sent> {
    let body = Full::new(Bytes::from(object.to_string()));
    Response::builder().status(code).body(body.boxed_unsync()).unwrap()
}

fn status(code: u16, reason: &str) -> Response<Sent> {
    answer(
        code,
        &json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "reason": reason, "message": reason, "code": code}),
    )
}

fn not_found() -> Response<Sent> {
    status(404, "NotFound")
}
