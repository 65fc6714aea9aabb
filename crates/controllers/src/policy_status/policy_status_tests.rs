use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use kube::runtime::watcher;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_api::kind::Kinds;
use tiphys_client::{Informer, Queue};
use tokio::sync::Notify;

use super::*;

fn policy() -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p", "uid": "u", "generation": 1, "resourceVersion": "1"},
        "spec": {"validations": [{"expression": "object.nope"}], "matchConstraints": {"resourceRules": [
            {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}]}}})
}

/// A server that answers patches with these codes in turn, and tells when the last of them has come.
fn server(codes: &[u16], done: Arc<Notify>, told: Arc<Mutex<Vec<Value>>>) -> Client {
    let codes = Arc::new(Mutex::new(VecDeque::from(codes.to_vec())));
    let answer = |code: u16, body: Value| {
        Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
    };
    let service = tower::service_fn(move |request: Request<Body>| {
        let (codes, done, told) = (codes.clone(), done.clone(), told.clone());
        async move {
            if request.method() == Method::PATCH {
                assert_eq!(request.uri().path().rsplit('/').next(), Some("status"));
                let body = request.into_body().collect_bytes().await.unwrap();
                let mut codes = codes.lock();
                let code = codes.pop_front().expect("nobody asks again after it was told");
                if codes.is_empty() {
                    done.notify_one();
                }
                told.lock().push(serde_json::from_slice(&body).unwrap());
                return Ok::<_, Infallible>(match code {
                    200 => answer(200, policy()),
                    code => answer(
                        code,
                        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
                        "message": "not now", "reason": "Whatever", "code": code, "metadata": {}}),
                    ),
                });
            }
            if request.uri().query().is_some_and(|query| query.contains("watch=true")) {
                std::future::pending::<()>().await;
            }
            Ok(answer(
                200,
                json!({"apiVersion": "admissionregistration.k8s.io/v1",
                "kind": "ValidatingAdmissionPolicyList", "metadata": {"resourceVersion": "1"}, "items": [policy()]}),
            ))
        }
    });
    Client::new(service, "default")
}

/// However often the server refuses, and whatever it says: the status is told in the end.
#[tokio::test(start_paused = true)]
async fn a_status_is_never_lost() {
    let (done, told) = (Arc::new(Notify::new()), Arc::default());
    let codes = [404, 409, 500, 429, 403, 404, 200];
    let client = server(&codes, done.clone(), Arc::clone(&told));
    let mut informer = Informer::new(
        Api::<ValidatingAdmissionPolicy>::all(client.clone()),
        watcher::Config::default(),
        |p| p,
    );
    let queue = Queue::new();
    informer.on_change({
        let queue = queue.clone();
        move |change| queue.add(change.key.clone())
    });
    let policies = informer.reader();
    let controller = PolicyStatus { client, queue, policies, kinds: Kinds::builtin() };
    tokio::select! {
        () = informer.run() => {}
        () = controller.run() => {}
        () = done.notified() => {}
    }
    let told: Vec<Value> = told.lock().clone();
    assert_eq!(told.len(), codes.len());
    let field = &told[0]["status"]["typeChecking"]["expressionWarnings"][0]["fieldRef"];
    assert_eq!((field, &told[0]["metadata"]["uid"]), (&json!("spec.validations[0].expression"), &json!("u")));
}
