//! The network between the API server and its clients: it delays, breaks off, loses and repeats.
//!
//! What a watch promises is kept: no event is passed over while its connection lasts, and none overtakes another. An
//! event is lost with its connection (its client asks again from where it was, or is told that this is too long ago),
//! arrives twice in a row, or late; those of different watches overtake each other.

use std::{
    collections::{BTreeMap, VecDeque},
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
use futures::{FutureExt, stream};
use http::{Method, Request, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
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

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// Why a watch that asks for too old a version ends.
const EXPIRED: &str = "Expired";
/// For so long a host that is back asks for what it missed.
const AWAY: Duration = Duration::from_secs(20);

/// The server that answers, while it is up.
#[derive(Clone)]
struct Up {
    server: ApiServer,
    life: CancellationToken,
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
        let (there, back, whim) = (network.delay(), network.delay(), network.whim(&host, writes, watches));
        sleep(there).await;
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
                let events =
                    Events::new(network, who, body.map_err(Into::into).boxed_unsync(), life, up, line);
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

/// A watch on its way.
struct Events {
    network: Arc<Network>,
    who: Arc<str>,
    body: Body,
    life: CancellationToken,
    up: CancellationToken,
    line: watch::Receiver<bool>,
    begun: Vec<u8>,
    ready: VecDeque<Bytes>,
    /// How much longer than others this one takes.
    slow: Duration,
    over: bool,
}

impl Events {
    fn new(
        network: Arc<Network>,
        who: Arc<str>,
        body: Body,
        life: CancellationToken,
        up: CancellationToken,
        line: watch::Receiver<bool>,
    ) -> Self {
        let is_slow = network.faulty.load(Relaxed) && network.chance.one_in(12);
        let slow = if is_slow { network.chance.millis(200, 3000) } else { Duration::ZERO };
        let (begun, ready) = (Vec::new(), VecDeque::new());
        Self { network, who, body, life, up, line, begun, ready, slow, over: false }
    }

    fn body(self) -> Body {
        let frames = stream::unfold(self, |mut events| async move {
            let next = events.next().await?;
            Some((next.map(Frame::data), events))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Result<Bytes, BoxError>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            let piece = tokio::select! {
                biased;
                () = self.life.cancelled() => return pending().await,
                () = self.up.cancelled() => None,
                () = async { drop(self.line.wait_for(|cut| *cut).await) } => None,
                piece = self.body.frame() => match piece {
                    Some(Ok(frame)) => frame.into_data().ok(),
                    // The server has ended it in order.
                    Some(Err(_)) | None => {
                        self.over = true;
                        continue;
                    }
                },
            };
            let Some(piece) = piece else {
                self.over = true;
                return Some(Err(Broken::Reset.into()));
            };
            sleep(self.network.delay() + self.slow).await;
            if self.life.is_cancelled() {
                return pending().await;
            }
            self.take(&piece);
        }
    }

    /// Takes in what has come, and decides what of it arrives.
    fn take(&mut self, piece: &[u8]) {
        let Network { chance, trace, faulty, .. } = &*self.network;
        let faulty = faulty.load(Relaxed);
        self.begun.extend_from_slice(piece);
        while let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.begun.drain(..=end).collect();
            if faulty && chance.one_in(150) {
                trace.step(format_args!("~ {} a watch breaks off", self.who));
                self.over = true;
                return;
            }
            let line = Bytes::from(line);
            trace.step(format_args!("~ {} {:016x}", self.who, told(&line)));
            if faulty && chance.one_in(60) {
                self.ready.push_back(line.clone());
            }
            self.ready.push_back(line);
        }
    }
}
