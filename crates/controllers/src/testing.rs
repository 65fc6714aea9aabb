//! An API server for tests of runners: a function from a request to its answer.

use std::{convert::Infallible, sync::Arc};

use http::{Method, Request, Response};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// What a server is asked; `body` is null where there is none.
pub(crate) struct Asked {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) body: Value,
}

/// A client of a server that answers as `answer` says. Watches never bring anything.
pub(crate) fn client(answer: impl Fn(&Asked) -> (u16, Value) + Send + Sync + 'static) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            let asked = Asked {
                method: head.method,
                path: head.uri.path().to_owned(),
                query: head.uri.query().unwrap_or_default().to_owned(),
                body: serde_json::from_slice(&body).unwrap_or_default(),
            };
            if asked.query.contains("watch=true") {
                std::future::pending::<()>().await;
            }
            let (code, answer) = answer(&asked);
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
        }
    });
    Client::new(service, "default")
}

/// A list of a kind.
pub(crate) fn list(api_version: &str, kind: &str, items: &[Value]) -> (u16, Value) {
    let kind = format!("{kind}List");
    let metadata = json!({"resourceVersion": "9"});
    (200, json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items}))
}

/// A refusal.
pub(crate) fn refused(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "no", "reason": reason,
        "code": code, "metadata": {}}),
    )
}
