//! What a request costs: ConfigMaps and Pods created, read and listed over loopback with TLS, beside a server on
//! the same stack that answers at once with what it has at hand. The last column is what a request costs when it
//! comes from the same process: processor time, which other work on the host hardly changes.
//!
//! `cargo bench -p tiphys-apiserver --bench requests [-- SECONDS ["Pod create"] [unaudited]]`; the clients run on the same processors.

use std::convert::Infallible;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tiphys_apiserver::audit;
use tiphys_apiserver::identity::Component;
use tiphys_apiserver::server::Connector;
use tiphys_apiserver::{ApiServer, Config};
use tiphys_pki::{Leaf, Pki, Rotating};
use tiphys_store::embedded::{Embedded, Options};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tower_service::Service;

const CLIENTS: u64 = 32;
/// How many objects a list has.
const LISTED: usize = 500;

/// Makes the n-th request of a run.
type Make = Arc<dyn Fn(u64) -> Request<Full<Bytes>> + Send + Sync>;

#[derive(Clone)]
struct Load {
    tls: TlsConnector,
    run: Duration,
}

impl Load {
    /// Requests per second over TLS. The clients connect before the clock starts.
    async fn measure(&self, to: SocketAddr, expected: StatusCode, make: Make) -> f64 {
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(self.connect(to).await);
        }
        self.run(clients, expected, make).await
    }

    /// Microseconds of processor time for a request without a connection.
    async fn in_process(&self, to: &Connector, expected: StatusCode, make: Make) -> f64 {
        let (before, start) = (processor_time(), Instant::now());
        let rate = self.run(vec![to.clone(); CLIENTS as usize], expected, make).await;
        (processor_time() - before).as_secs_f64() * 1e6 / (rate * start.elapsed().as_secs_f64())
    }

    /// Requests per second, all answered with `expected`.
    async fn run<C: Client>(&self, clients: Vec<C>, expected: StatusCode, make: Make) -> f64 {
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
                        let (code, body) = sender.ask(request).await;
                        assert_eq!(code, expected, "{body:?}");
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

/// What all threads of this process have used together.
fn processor_time() -> Duration {
    let threads = std::fs::read_dir("/proc/self/task").expect("this process has threads");
    let nanos = threads.flatten().map(|thread| {
        // A thread that has just ended has no file any more.
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|nanos| nanos.parse::<u64>().ok()).unwrap_or_default()
    });
    Duration::from_nanos(nanos.sum())
}

/// One who asks, one request after the other.
trait Client: Send + 'static {
    fn ask(&mut self, request: Request<Full<Bytes>>) -> impl Future<Output = (StatusCode, Bytes)> + Send;
}

impl Client for http1::SendRequest<Full<Bytes>> {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        whole(self.send_request(request).await.expect("the server answers")).await
    }
}

impl Client for Connector {
    async fn ask(&mut self, request: Request<Full<Bytes>>) -> (StatusCode, Bytes) {
        let Ok(response) = self.call(request).await;
        whole(response).await
    }
}

async fn whole<B: Body<Data = Bytes, Error: Debug>>(response: Response<B>) -> (StatusCode, Bytes) {
    let code = response.status();
    (code, response.into_body().collect().await.expect("the answer comes to its end").to_bytes())
}

fn request(method: &str, path: String, body: Bytes) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let request = request.header("content-type", "application/json");
    request.body(Full::new(body)).expect("a valid request")
}

/// Creates objects under new names that start with `first`; `object` has the name `NAME`.
fn creates(path: &'static str, first: char, object: &Value) -> Make {
    let text = object.to_string();
    let (before, after) = text.split_once("NAME").expect("the object has a place for its name");
    let (before, after) = (before.to_owned(), after.to_owned());
    Arc::new(move |n| request("POST", path.to_owned(), format!("{before}{first}{n}{after}").into()))
}

/// Reads the first `known` objects in turn.
fn gets(path: &'static str, known: u64) -> Make {
    Arc::new(move |n| request("GET", format!("{path}/o{}", n % known), Bytes::new()))
}

/// Reads a page of objects.
fn lists(path: &'static str) -> Make {
    Arc::new(move |_| request("GET", format!("{path}?limit={LISTED}"), Bytes::new()))
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

/// What the server that does nothing answers to a GET.
type Prepared = Arc<Mutex<Bytes>>;

/// A server that reads each request and answers with what it was sent, or what was prepared.
async fn echo(listener: TcpListener, tls: Arc<rustls::ServerConfig>, prepared: Prepared) {
    let acceptor = TlsAcceptor::from(tls);
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, prepared) = (acceptor.clone(), Arc::clone(&prepared));
        tokio::spawn(async move {
            stream.set_nodelay(true).expect("the socket is open");
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let service = service_fn(|request: Request<Incoming>| {
                let answer = prepared.lock().clone();
                async move {
                    let post = request.method() == "POST";
                    let sent = request.into_body().collect().await.map(|b| b.to_bytes()).unwrap_or_default();
                    let mut response = Response::new(Full::new(if post { sent } else { answer }));
                    *response.status_mut() = if post { StatusCode::CREATED } else { StatusCode::OK };
                    Ok::<_, Infallible>(response)
                }
            });
            let connection = auto::Builder::new(TokioExecutor::new());
            // A client that goes away ends its connection.
            drop(connection.serve_connection(TokioIo::new(stream), service).await);
        });
    }
}

/// The audit that a cluster has by default.
fn audited(dir: &std::path::Path) -> audit::Config {
    let log = audit::LogOptions {
        path: dir.join("audit.log"),
        max_size: 16 << 20,
        max_backups: 3,
        max_age: Duration::ZERO,
    };
    let policy = audit::Policy::parse(audit::Policy::DEFAULT.as_bytes()).expect("a policy");
    audit::Config { policy, log: Some(log), webhook: None }
}

#[tokio::main]
async fn main() {
    let seconds = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(3);
    let only = std::env::args().skip(1).find(|a| a.contains(' ')).unwrap_or_default();
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
        removed_apis: true,
        others: Default::default(),
        authorizers: Default::default(),
        audit: if std::env::args().any(|a| a == "unaudited") {
            Default::default()
        } else {
            audited(dir.path())
        },
        admission: Default::default(),
        trace: None,
        shared: false,
        dial: None,
    };
    let server = ApiServer::start(config, Arc::new(store)).await.expect("a server");
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let nothing = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let nothing_at = nothing.local_addr().expect("a bound listener");
    let serving: Arc<Rotating> = pki.rotating(Leaf::kubelet_serving("bench", &[])).expect("a certificate");
    let trust = pki.client_trust().expect("an authority");
    let prepared = Prepared::default();
    let quick = tiphys_pki::server_config(serving, &trust).expect("TLS");
    tokio::spawn(echo(nothing, quick, Arc::clone(&prepared)));
    let inside = server.connector(&Component::ApiServer);
    let admin = pki.rotating(Leaf::admin()).expect("a certificate");
    let tls = tiphys_pki::client_config(pki.cluster.certificate(), Some(admin)).expect("TLS");
    let load = Load { tls: TlsConnector::from(Arc::new(tls)), run: Duration::from_secs(seconds) };
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    let accounts =
        request("POST", "/api/v1/namespaces/default/serviceaccounts".to_owned(), account.to_string().into());
    let (code, body) = inside.clone().ask(accounts).await;
    assert_eq!(code, StatusCode::CREATED, "{body:?}");

    println!(
        "{:<16} {:>10} {:>14} {:>7} {:>12}",
        "requests/s", "tiphys", "does nothing", "ratio", "in process"
    );
    for (kind, path, object) in [
        ("ConfigMap", "/api/v1/namespaces/default/configmaps", config_map()),
        ("Pod", "/api/v1/namespaces/default/pods", pod()),
    ] {
        let row = async |verb: &str, expected: StatusCode, here: Make, there: Make| {
            let what = format!("{kind} {verb}");
            if !only.is_empty() && only != what {
                return 0.0;
            }
            let floor = load.measure(nothing_at, expected, Arc::clone(&there)).await;
            let ours = load.measure(address, expected, there).await;
            let inside = load.in_process(&inside, expected, here).await;
            println!("{what:<16} {ours:>10.0} {floor:>14.0} {:>7.2} {inside:>12.1}", ours / floor);
            ours
        };
        let (there, here) = (creates(path, 'o', &object), creates(path, 'i', &object));
        let made = row("create", StatusCode::CREATED, here, there).await;
        // Every run lasts at least as long as it is told, and all names below the count are taken by its end.
        let known = ((made * seconds as f64) as u64).clamp(1, 1000);
        let reads = [("get", gets(path, known)), ("list 500", lists(path))];
        for (verb, make) in reads.into_iter().filter(|_| made > 0.0) {
            let (code, answer) = inside.clone().ask(make(0)).await;
            assert_eq!(code, StatusCode::OK, "{answer:?}");
            *prepared.lock() = answer;
            row(verb, StatusCode::OK, Arc::clone(&make), make).await;
        }
    }
    server.stop();
}
