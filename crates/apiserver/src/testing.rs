//! A whole server over a store in memory, for tests.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::Value;
use tiphys_pki::Pki;
use tiphys_store::{Memory, Store};
use tower_service::Service;

use crate::identity::Component;
use crate::{ApiServer, Config};

/// Runs what a test that is not itself asynchronous waits for.
pub(crate) fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// An answer that has come to its end.
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` should it be none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What servers in tests are started with.
pub(crate) fn config(pki: Arc<Pki>, advertise: SocketAddr) -> Config {
    Config {
        pki,
        names: Vec::new(),
        node_name: "n1".to_owned(),
        domain: "cluster.local".to_owned(),
        clock: Arc::new(SystemTime::now),
        advertise,
        service_range: "10.96.0.0/16".parse().unwrap(),
        node_ports: 30000..=32767,
        removed_apis: true,
        others: Default::default(),
        authorizers: Default::default(),
        audit: Default::default(),
        admission: Default::default(),
        trace: None,
        shared: false,
        dial: None,
    }
}

/// Starts a server whose advertised address is `advertise`.
pub(crate) async fn server_at(advertise: SocketAddr) -> ApiServer {
    server_on(advertise, Arc::new(Memory::new())).await
}

/// Starts a server over `store`; nothing is written any more but what is asked for.
pub(crate) async fn server_on(advertise: SocketAddr, store: Arc<dyn Store>) -> ApiServer {
    let dir = tempfile::tempdir().unwrap();
    let pki = Arc::new(Pki::open(dir.path()).unwrap());
    let server = ApiServer::start(config(pki, advertise), store).await.unwrap();
    crate::aggregation::local::settled(server.registry()).await;
    server
}

pub(crate) const ADVERTISED: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 6443);

pub(crate) async fn server() -> ApiServer {
    server_at(ADVERTISED).await
}

/// Asks as somebody who may do everything; `headers` are pairs of name and value.
pub(crate) async fn ask(
    server: &ApiServer,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    ask_as(server, &Component::ApiServer, method, path, headers, body).await
}

/// Asks as `who`.
pub(crate) async fn ask_as(
    server: &ApiServer,
    who: &Component,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body.into())).unwrap();
    let response = server.connector(who).call(request).await.unwrap();
    let (code, headers) = (response.status(), response.headers().clone());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Answer { code: StatusCode::as_u16(&code), headers, body }
}

/// As [`ask`] with a JSON body, which `Null` is none of.
pub(crate) async fn json(server: &ApiServer, method: &str, path: &str, body: Value) -> (u16, Value) {
    let bytes = if body.is_null() { String::new() } else { body.to_string() };
    let answer = ask(server, method, path, &[("content-type", "application/json")], bytes).await;
    (answer.code, answer.json())
}
