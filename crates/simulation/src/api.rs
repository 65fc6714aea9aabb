//! Requests as whoever has a client sends them, of JSON.

use http::Request;
use kube::Client;
use serde_json::Value;

pub(crate) type Answer = Result<Value, kube::Error>;

async fn send(client: &Client, method: &str, path: &str, kind: &str, body: String) -> Answer {
    let request = Request::builder().method(method).uri(path).header(http::header::CONTENT_TYPE, kind);
    client.request(request.body(body.into_bytes()).map_err(kube::Error::HttpError)?).await
}

pub(crate) async fn get(client: &Client, path: &str) -> Answer {
    send(client, "GET", path, "application/json", String::new()).await
}

pub(crate) async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    send(client, "POST", path, "application/json", body.to_string()).await
}

/// A merge patch.
pub(crate) async fn patch(client: &Client, path: &str, body: &Value) -> Answer {
    send(client, "PATCH", path, "application/merge-patch+json", body.to_string()).await
}

/// A strategic merge patch.
pub(crate) async fn merge(client: &Client, path: &str, body: &Value) -> Answer {
    send(client, "PATCH", path, "application/strategic-merge-patch+json", body.to_string()).await
}

pub(crate) async fn delete(client: &Client, path: &str, body: &Value) -> Answer {
    send(client, "DELETE", path, "application/json", body.to_string()).await
}

/// The code of a status that the server answered; `None` where it did not.
pub(crate) fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}
