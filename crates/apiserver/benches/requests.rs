//! What a request costs: ConfigMaps and Pods created and read over loopback with TLS, beside a server on the
//! same stack that does nothing.
//!
//! `cargo bench -p tiphys-apiserver --bench requests [-- SECONDS]`; the clients run on the same processors.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tiphys_apiserver::{ApiServer, Config};
use tiphys_pki::{Leaf, Pki, Rotating};
use tiphys_store::embedded::{Embedded, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

const CLIENTS: u64 = 32;

/// Makes the n-th request of a run.
type Make = Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>;

#[derive(Clone)]
struct Load {
    tls: TlsConnector,
    run: Duration,
}

impl Load {
    /// Requests per second, all answered with `expected`. The clients connect before the clock starts.
    async fn measure(&self, to: SocketAddr, expected: StatusCode, make: Make) -> f64 {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(self.connect(to).await);
        }
        let next = Arc::new(AtomicU64::new(0));
        let (start, run) = (Instant::now(), self.run);
        let clients: Vec<_> = clients
            .into_iter()
            .map(|mut sender| {
                let (next, make) = (Arc::clone(&next), Arc::clone(&make));
                tokio::spawn(async move {
                    let mut done = 0;
                    while start.elapsed() < run {
                        let request = make(next.fetch_add(1, Ordering::Relaxed));
                        let (code, body) = ask(&mut sender, request).await;
                        assert_eq!(code, expected, "{body}");
                        done += 1;
                    }
                    done
                })
            })
            .collect();
        let mut done = 0;
        for client in clients {
            done += client.await.expect("a client ends by itself");
        }
        f64::from(done) / start.elapsed().as_secs_f64()
    }

    async fn connect(&self, to: SocketAddr) -> http1::SendRequest<Full<Bytes>> {
        let stream = TcpStream::connect(to).await.expect("the server listens");
        stream.set_nodelay(true).expect("the socket is open");
        let name = ServerName::try_from("localhost").expect("a valid name");
        let stream = self.tls.connect(name, stream).await.expect("the server's certificate is good");
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.expect("the server speaks HTTP/1.1");
        tokio::spawn(connection);
        sender
    }
}

async fn ask(
    sender: &mut http1::SendRequest<Full<Bytes>>,
    request: Request<Full<Bytes>>,
) -> (StatusCode, String) {
    let response = sender.send_request(request).await.expect("the server answers");
    let code = response.status();
    let body = response.into_body().collect().await.expect("the answer comes to its end").to_bytes();
    (code, String::from_utf8_lossy(&body).into_owned())
}

fn request(method: &str, path: String, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "application/json");
    request.body(Full::new(body)).expect("a valid request")
}

/// Creates objects under new names; `object` has the name `NAME`.
fn creates(path: &'static str, object: &Value) -> Make {
    let text = object.to_string();
    let (before, after) = text.split_once("NAME").expect("the object has a place for its name");
    let (before, after) = (before.to_owned(), after.to_owned());
    Arc::new(move |n| request("POST", path.to_owned(), format!("{before}o{n}{after}").into()))
}

/// Reads the first `known` objects in turn.
fn gets(path: &'static str, known: u64) -> Make {
    Arc::new(move |n| request("GET", format!("{path}/o{}", n % known), Bytes::new()))
}

fn config_map() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "NAME"},
           "data": {"key": "v".repeat(900)}})
}

fn pod() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "registry.example.com/team/image:1.2.3", "args": ["--port=8080"],
            "env": [{"name": "A", "value": "1"}, {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            "ports": [{"containerPort": 8080}], "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}}})
    };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "NAME", "labels": {"app": "web", "tier": "front"}},
        "spec": {"automountServiceAccountToken": false, "containers": [container("a"), container("b")]}})
}

/// A server that reads each request and answers with what it was sent.
async fn echo(listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("the socket is open");
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| async move {
                let code = if request.method() == "POST" { StatusCode::CREATED } else { StatusCode::OK };
                let body = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                let mut response = Response::new(Full::new(body));
                *response.status_mut() = code;
                Ok::<_, Infallible>(response)
            });
            let connection = auto::Builder::new(TokioExecutor::new());
            // A client that goes away ends its connection.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(3);
    let dir = tempfile::tempdir().expect("a directory");
    let pki = Arc::new(Pki::open(&dir.path().join("pki")).expect("keys"));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a bound listener");
    let store = Embedded::open(dir.path().join("store"), Options::default()).expect("a store");
    let config = Config {
        pki: Arc::clone(&pki),
        names: Vec::new(),
        node_name: "bench".to_owned(),
        domain: "cluster.local".to_owned(),
        clock: Arc::new(SystemTime::now),
        advertise: address,
        service_range: "10.96.0.0/16".parse().expect("a range"),
        node_ports: 30000..=32767,
    };
    let server = ApiServer::start(config, Arc::new(store)).await.expect("a server");
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let nothing = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nothing_at = nothing.local_addr().expect("a bound listener");
    let serving: Arc<Rotating> = pki.rotating(Leaf::kubelet_serving("bench", &[])).expect("a certificate");
    let trust = pki.client_trust().expect("an authority");
    tokio::spawn(echo(nothing, tiphys_pki::server_config(serving, &trust).expect("TLS")));

    let admin = pki.rotating(Leaf::admin()).expect("a certificate");
    let tls = tiphys_pki::client_config(pki.cluster.certificate(), Some(admin)).expect("TLS");
    let load = Load { tls: TlsConnector::from(Arc::new(tls)), run: Duration::from_secs(seconds) };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts =
        request("POST", "/api/v1/namespaces/default/serviceaccounts".to_owned(), account.to_string().into());
    let (code, body) = ask(&mut load.connect(address).await, accounts).await;
    assert_eq!(code, StatusCode::CREATED, "{body}");

    println!("{:<20} {:>12} {:>14} {:>7}", "requests/s", "tiphys", "does nothing", "ratio");
    let row = |what: &str, ours: f64, floor: f64| {
        println!("{what:<20} {ours:>12.0} {floor:>14.0} {:>7.2}", ours / floor);
    };
    for (what, path, object) in [
        ("ConfigMap", "/api/v1/namespaces/default/configmaps", config_map()),
        ("Pod", "/api/v1/namespaces/default/pods", pod()),
    ] {
        let make = creates(path, &object);
        let floor = load.measure(nothing_at, StatusCode::CREATED, Arc::clone(&make)).await;
        let ours = load.measure(address, StatusCode::CREATED, make).await;
        row(&format!("{what} create"), ours, floor);
        // Every run lasts at least as long as it is told, and all names below the count are taken by its end.
        let known = ((ours * seconds as f64) as u64).clamp(1, 1000);
        let floor = load.measure(nothing_at, StatusCode::OK, gets(path, known)).await;
        let ours = load.measure(address, StatusCode::OK, gets(path, known)).await;
        row(&format!("{what} get"), ours, floor);
    }
    server.stop();
}
