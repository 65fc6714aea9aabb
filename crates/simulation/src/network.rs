//! The network between the API server and its clients: it delays, breaks off, loses and repeats.
//!
//! What a watch promises is kept: no event is passed over while its connection lasts, and none overtakes another. An
//! event is lost with its connection (its client asks again from where it was, or is told that this is too long ago),
//! arrives twice in a row, or late; those of different watches overtake each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use kube::{Client, client::Body as KubeBody};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_apiserver::{ApiServer, identity::Component};
use tiphys_client::election::Fence;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;
use tower_service::Service;

use crate::{
    chance::Chance,
    laws::Laws,
    trace::{NOTHING, Trace, hash},
};

mod events;

use self::events::Events;

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why a watch that asks for too old a version ends.
const EXPIRED: &str = "Expired";
/// Why a watch cannot begin while what it reads from is made anew.
const INITIALIZING: &str = "TooManyRequests";
/// For so long a host that is back asks for what it missed.
const AWAY: Duration = Duration::from_secs(20);

/// The server that answers, while it is up.
#[derive(Clone)]
struct Up {
    server: ApiServer,
    life: CancellationToken,
}

/// A collection whose watches have ended, and cannot begin for a while; then the past is forgotten.
#[derive(Clone)]
struct Lapse {
    path: &'static str,
    until: Instant,
}

pub(crate) struct Network {
    chance: Chance,
    trace: Arc<Trace>,
    laws: Arc<Laws>,
    faulty: AtomicBool,
    up: Mutex<Option<Up>>,
    /// Who is cut off, by host.
    cut: Mutex<BTreeMap<Arc<str>, watch::Sender<bool>>>,
    /// Since when hosts are back.
    back: Mutex<BTreeMap<Arc<str>, Instant>>,
    /// The component whose writes wait for their turn at the server.
    held: Mutex<Option<&'static str>>,
    lapse: watch::Sender<Option<Lapse>>,
    /// Who has been told that the past is forgotten.
    told: Mutex<BTreeSet<Arc<str>>>,
    /// How many creations of pods there were whose creator was not told, by namespace.
    untold: Mutex<BTreeMap<String, u64>>,
}

/// What becomes of one request.
enum Whim {
    Passes,
    /// Nothing arrives.
    LosesRequest,
    /// It is done, and nobody is told.
    LosesAnswer,
    /// A watch begins, and ends with the news that what it asks for is too long ago.
    ForgetsThePast,
    /// The server refuses it, for a reason that goes by.
    Refuses(StatusCode, &'static str),
}

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("connection refused")]
    Refused,
    #[error("connection reset")]
    Reset,
    #[error("timed out")]
    TimedOut,
}

impl Network {
    pub(crate) fn new(seed: u64, trace: Arc<Trace>, laws: Arc<Laws>) -> Arc<Self> {
        Arc::new(Self {
            chance: Chance::new(seed, "network"),
            trace,
            laws,
            faulty: AtomicBool::new(false),
            up: Mutex::new(None),
            cut: Mutex::default(),
            back: Mutex::default(),
            held: Mutex::default(),
            lapse: watch::Sender::new(None),
            told: Mutex::default(),
            untold: Mutex::default(),
        })
    }

    /// Whether faults happen from now on; delays always do.
    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.faulty.store(faulty, Relaxed);
    }

    pub(crate) fn connect(&self, server: ApiServer, life: CancellationToken) {
        *self.up.lock() = Some(Up { server, life });
    }

    /// The server is gone; connections to it end.
    pub(crate) fn disconnect(&self) {
        if let Some(up) = self.up.lock().take() {
            up.life.cancel();
        }
    }

    fn line(&self, host: &Arc<str>) -> watch::Sender<bool> {
        let mut cut = self.cut.lock();
        cut.entry(Arc::clone(host)).or_insert_with(|| watch::Sender::new(false)).clone()
    }

    /// Cuts a host off, or connects it again.
    pub(crate) fn cut(&self, host: &Arc<str>, cut: bool) {
        self.line(host).send_replace(cut);
        self.back.lock().insert(Arc::clone(host), Instant::now());
    }

    /// From now on a component's writes take seconds, or as long as others' again.
    pub(crate) fn hold(&self, component: Option<&'static str>) {
        *self.held.lock() = component;
    }

    /// All watches of a collection end, and none begins for a while; then who asks for what has happened meanwhile learns
    /// that it is too long ago.
    pub(crate) fn lapse(&self, path: &'static str, lasts: Duration) {
        self.told.lock().clear();
        self.lapse.send_replace(Some(Lapse { path, until: Instant::now() + lasts }));
    }

    /// Why a watch of this collection cannot begin now, because of a lapse.
    fn lapsed(&self, path: &str, who: &Arc<str>) -> Option<Whim> {
        let lapse = self.lapse.borrow().clone().filter(|lapse| lapse.path == path)?;
        if Instant::now() < lapse.until {
            return Some(Whim::Refuses(StatusCode::TOO_MANY_REQUESTS, INITIALIZING));
        }
        self.told.lock().insert(Arc::clone(who)).then_some(Whim::Refuses(StatusCode::GONE, EXPIRED))
    }

    pub(crate) fn is_cut(&self, host: &Arc<str>) -> bool {
        *self.line(host).borrow()
    }

    /// Whether the server has forgotten what a watch from there asks for: who was cut off may have missed much.
    fn forgets(&self, host: &Arc<str>) -> bool {
        let back = self.back.lock().get(host).copied();
        self.chance.one_in(if back.is_some_and(|at| at.elapsed() < AWAY) { 2 } else { 10 })
    }

    /// How many pods of a namespace may have been created without their creator's knowledge.
    pub(crate) fn untold(&self, namespace: &str) -> u64 {
        self.untold.lock().get(namespace).copied().unwrap_or(0)
    }

    /// A client of `component` on `host`, which falls silent when `life` ends.
    pub(crate) fn client(
        self: &Arc<Self>,
        host: &Arc<str>,
        component: Component,
        life: &CancellationToken,
    ) -> Client {
        Client::new(self.wire(host, component, life), "default")
    }

    /// One that writes only for as long as the fence lets it.
    pub(crate) fn fenced_client(
        self: &Arc<Self>,
        host: &Arc<str>,
        component: Component,
        life: &CancellationToken,
        fence: &Fence,
    ) -> Client {
        Client::new(fence.guard(self.wire(host, component, life)), "default")
    }

    fn wire(self: &Arc<Self>, host: &Arc<str>, component: Component, life: &CancellationToken) -> Wire {
        let line = self.line(host).subscribe();
        let agent = component.user_agent();
        let who = agent.split_whitespace().next().unwrap_or(&agent);
        let who = who.trim_start_matches("kube-controller-manager/").split('/').next().unwrap_or(who);
        let who = if **host == *who { who.to_owned() } else { format!("{host}:{who}") };
        let (network, host, life) = (Arc::clone(self), Arc::clone(host), life.clone());
        Wire { network, host, who: who.into(), component, life, line }
    }

    fn delay(&self) -> Duration {
        match self.chance.below(100) {
            0 if self.faulty.load(Relaxed) => self.chance.millis(100, 2000),
            0..=5 => self.chance.millis(5, 60),
            _ => self.chance.millis(0, 4),
        }
    }

    fn whim(&self, host: &Arc<str>, writes: bool, watches: bool) -> Whim {
        if !self.faulty.load(Relaxed) {
            return Whim::Passes;
        }
        if watches && self.forgets(host) {
            return if self.chance.one_in(2) {
                Whim::Refuses(StatusCode::GONE, EXPIRED)
            } else {
                Whim::ForgetsThePast
            };
        }
        match self.chance.below(if writes { 250 } else { 500 }) {
            0 => Whim::LosesRequest,
            1 => Whim::LosesAnswer,
            2 => Whim::Refuses(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            3 => Whim::Refuses(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests"),
            4 => Whim::Refuses(StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            5 | 6 if writes => Whim::Refuses(StatusCode::CONFLICT, "Conflict"),
            _ => Whim::Passes,
        }
    }
}

/// One component's way to the API server.
#[derive(Clone)]
struct Wire {
    network: Arc<Network>,
    host: Arc<str>,
    who: Arc<str>,
    component: Component,
    life: CancellationToken,
    line: watch::Receiver<bool>,
}

impl Service<Request<KubeBody>> for Wire {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<KubeBody>) -> Self::Future {
        self.clone().exchange(request).boxed()
    }
}

impl Wire {
    async fn exchange(self, request: Request<KubeBody>) -> Result<Response<Body>, BoxError> {
        let Self { network, host, who, component, life, mut line } = self;
        let trace = Arc::clone(&network.trace);
        let (mut parts, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let target = parts.uri.path_and_query().map_or("", |target| target.as_str()).to_owned();
        let name = format!("{who} {} {target}", parts.method);
        trace.step(format_args!("> {name} {:016x}", told(&body)));
        let writes = parts.method != Method::GET;
        let watches = target.contains("watch=true") || target.contains("watch=1");
        // A watch of some objects of a collection, such as a kubelet's, does not lapse with those of all.
        let selects = target.contains("fieldSelector=");
        let path = if selects { String::new() } else { parts.uri.path().to_owned() };
        let (mut there, back) = (network.delay(), network.delay());
        let mut whim = network.whim(&host, writes, watches);
        if writes && network.held.lock().is_some_and(|held| who.ends_with(held)) {
            there += network.chance.millis(200, 4000);
        }
        sleep(there).await;
        if watches && let Some(lapsed) = network.lapsed(&path, &who) {
            whim = lapsed;
        }
        if life.is_cancelled() {
            return pending().await;
        }
        if *line.borrow_and_update() {
            sleep(Duration::from_secs(10)).await;
            return Err(Broken::TimedOut.into());
        }
        let up = network.up.lock().clone();
        let Some(Up { server, life: up }) = up else {
            sleep(Duration::from_millis(50)).await;
            trace.step(format_args!("< {name} refused"));
            return Err(Broken::Refused.into());
        };
        match whim {
            Whim::LosesRequest => {
                sleep(Duration::from_secs(1)).await;
                trace.step(format_args!("< {name} lost"));
                return Err(Broken::Reset.into());
            }
            Whim::Refuses(code, reason) => {
                trace.step(format_args!("< {name} made to fail with {code}"));
                return refused(code, reason);
            }
            Whim::ForgetsThePast => {
                trace.step(format_args!("< {name} made to begin anew"));
                let event = json!({"type": "ERROR", "object": status(StatusCode::GONE, EXPIRED)});
                return Ok(Response::new(whole(format!("{event}\n").into())));
            }
            Whim::Passes | Whim::LosesAnswer => {}
        }
        if writes && matches!(component, Component::Controller(_)) {
            network.laws.controller_writes(&host);
        }
        // What is compressed would be hashed compressed.
        parts.headers.remove(header::ACCEPT_ENCODING);
        let creates_pod = parts.method == Method::POST && parts.uri.path().ends_with("/pods");
        let answer = async {
            let mut connector = server.connector(&component);
            let response = connector.call(Request::from_parts(parts, Full::new(body))).await?;
            let (parts, body) = response.into_parts();
            if watches && parts.status.is_success() {
                return Ok((parts, Err(body)));
            }
            Ok::<_, BoxError>((parts, Ok(body.collect().await?.to_bytes())))
        };
        let answer = tokio::select! {
            biased;
            () = life.cancelled() => return pending().await,
            () = up.cancelled() => {
                trace.step(format_args!("< {name} broken off"));
                count(&network, creates_pod, &target);
                sleep(Duration::from_millis(20)).await;
                return Err(Broken::Reset.into());
            }
            answer = answer => answer,
        };
        let (parts, body) = answer?;
        let bytes = match body {
            Ok(bytes) => bytes,
            Err(body) => {
                trace.step(format_args!("< {name} {}", parts.status.as_u16()));
                sleep(back).await;
                let body = body.map_err(Into::into).boxed_unsync();
                let events = Events::new(network, who, path, body, life, up, line);
                return Ok(Response::from_parts(parts, events.body()));
            }
        };
        trace.step(format_args!("< {name} {} {:016x}", parts.status.as_u16(), told(&bytes)));
        if let Whim::LosesAnswer = whim {
            count(&network, creates_pod, &target);
            sleep(Duration::from_secs(1)).await;
            return Err(Broken::Reset.into());
        }
        sleep(back).await;
        if life.is_cancelled() {
            return pending().await;
        }
        if *line.borrow_and_update() {
            return Err(Broken::TimedOut.into());
        }
        Ok(Response::from_parts(parts, whole(bytes)))
    }
}

/// The hash of what is sent. Keys are the one thing that the seed does not decide, so what holds a certificate counts as
/// nothing.
fn told(bytes: &[u8]) -> u64 {
    const CERTIFICATE: &[u8] = b"BEGIN CERTIFICATE";
    let has_key = memchr::memmem::find(bytes, CERTIFICATE).is_some();
    hash(NOTHING, if has_key { &[] } else { bytes })
}

/// Counts a pod that its creator does not know of.
fn count(network: &Network, creates_pod: bool, target: &str) {
    if creates_pod && let Some(namespace) = target.split('/').nth(4) {
        let mut untold = network.untold.lock();
        *untold.entry(namespace.to_owned()).or_default() += 1;
    }
}

fn status(code: StatusCode, reason: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "the simulation wants it so", "reason": reason, "code": code.as_u16()})
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

fn refused(code: StatusCode, reason: &str) -> Result<Response<Body>, BoxError> {
    let answer = Response::builder().status(code).header(header::CONTENT_TYPE, "application/json");
    Ok(answer.body(whole(status(code, reason).to_string().into()))?)
}
