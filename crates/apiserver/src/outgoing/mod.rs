//! The one way to strangers: webhooks of all sorts, and aggregated API servers.
//!
//! An [`Endpoint`] is one place that is called, with what it is trusted by. It keeps its connections open, lets
//! only so many calls be under way at once, and fails fast for a while once it has failed too often in a row. Whoever
//! waits for an endpoint waits for nothing else: a call holds a place among the endpoint's own calls and no more.
//! Endpoints are made where configuration is compiled, and the same [`Spec`] gives the same endpoint for as long as
//! anybody keeps it, so that what is known of it survives a new revision of its configuration.

mod breaker;
pub mod kubeconfig;
mod redirect;
mod resolve;
#[cfg(test)]
pub(crate) mod stranger;
mod trust;
mod wire;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use parking_lot::Mutex;
use serde_json::Value;
use tiphys_pki::Rotating;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::http::body::RequestBody;
use crate::node_proxy::Stream;
use crate::source::Source;
use breaker::Breaker;
pub use wire::Dial;
use wire::{Connector, Dialer, Tcp};

/// Calls under way at one endpoint.
const IN_FLIGHT: usize = 64;
/// A call that finds all places taken gives up after this.
const TURN: Duration = Duration::from_secs(1);
/// The longest answer that [`Endpoint::ask`] reads, in bytes.
pub const MAX_ANSWER: usize = 16 << 20;
/// Connections that nobody uses are closed after this.
const IDLE: Duration = Duration::from_secs(90);
const IDLE_CONNECTIONS: usize = 8;
/// HTTP/2 connections whose other end does not answer this soon are given up.
const PING: Duration = Duration::from_secs(15);
/// How much of an error's text is passed on, in bytes.
const ERROR_TEXT: usize = 512;

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// `https://host[:port]/path`; `http` only where an administrator of the server wrote it.
    Url(String),
    /// A port of a Service, whose ready endpoints are dialled; its TLS name is `<name>.<namespace>.svc`.
    Service {
        namespace: String,
        name: String,
        port: u16,
        /// Empty, or with its leading slash.
        path: String,
    },
}

/// Whose certificate an endpoint may show.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Trust {
    /// One of an authority that the host trusts.
    System,
    /// One of an authority in this PEM, or one that stands in it itself.
    Bundle(Bytes),
    /// Any: `insecureSkipTLSVerify`.
    Anybody,
}

/// What an endpoint knows the API server by.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Proof {
    None,
    /// The certificate by the front-proxy authority.
    FrontProxy,
    /// A certificate with its chain, and its key, both in PEM.
    Certificate {
        chain: Bytes,
        key: Bytes,
    },
    /// The value of the `authorization` header.
    Header(HeaderValue),
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::FrontProxy => "FrontProxy",
            Self::Certificate { .. } => "Certificate",
            Self::Header(_) => "Header",
        })
    }
}

/// Everything that makes an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Spec {
    pub place: Place,
    pub trust: Trust,
    pub proof: Proof,
}

/// Why there can be no such endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    #[error("{0:?} is not the URL of an endpoint")]
    Url(String),
    #[error("{what}: {why}")]
    Tls { what: &'static str, why: String },
}

/// A call that failed, named as Go's client names it: `Post "https://…": context deadline exceeded`.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{method} {url:?}: {step}")]
pub struct Error {
    pub method: String,
    pub url: String,
    #[source]
    pub step: Step,
}

/// The step that failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Step {
    #[error("service {0:?} not found")]
    NoService(String),
    #[error("service {service:?} has no port {port}")]
    NoPort { service: String, port: u16 },
    #[error("no endpoints available for service {0:?}")]
    NoEndpoints(String),
    #[error("looking up {host}: {source}")]
    Lookup { host: String, source: Arc<io::Error> },
    #[error("dial tcp {to}: {source}")]
    Dial { to: SocketAddr, source: Arc<io::Error> },
    #[error("tls: {0}")]
    Handshake(Arc<io::Error>),
    #[error("sending the request: {0}")]
    Send(Arc<legacy::Error>),
    #[error("the URL cannot be requested: {0}")]
    Request(Arc<http::Error>),
    #[error("reading the answer: {0}")]
    Read(Arc<hyper::Error>),
    #[error("context deadline exceeded")]
    Deadline,
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the server answered {code}: {text}")]
    Code { code: StatusCode, text: String },
    #[error("stopped after {} redirects", redirect::MOST)]
    Redirects,
    #[error("the answer leads to {0:?}, which is not asked")]
    Redirect(String),
    #[error("the answer is not JSON: {0}")]
    NotJson(Arc<serde_json::Error>),
    #[error("too many calls to this endpoint failed; it is left alone for a moment")]
    Open,
    #[error("too many calls to this endpoint are under way")]
    Busy,
}

impl Step {
    /// Whether the endpoint itself has failed: it was asked, and took time without an answer.
    fn is_failure(&self) -> bool {
        use Step::{Deadline, Dial, Handshake, Lookup, Read, Send};
        matches!(self, Lookup { .. } | Dial { .. } | Handshake(_) | Send(_) | Read(_) | Deadline)
    }

    /// The step that a client of hyper's gave up at.
    fn of(error: legacy::Error) -> Self {
        let mut at: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(cause) = at {
            if let Some(step) = cause.downcast_ref::<Self>() {
                return step.clone();
            }
            at = cause.source();
        }
        Self::Send(Arc::new(error))
    }
}

/// All endpoints of a server.
pub struct Outgoing {
    source: Arc<dyn Source>,
    front_proxy: Option<Arc<Rotating>>,
    dial: Arc<dyn Dial>,
    known: Mutex<HashMap<Spec, Weak<Endpoint>>>,
}

impl Outgoing {
    /// `front_proxy` is what [`Proof::FrontProxy`] shows.
    pub fn new(source: Arc<dyn Source>, front_proxy: Option<Arc<Rotating>>) -> Self {
        Self { source, front_proxy, dial: Arc::new(Tcp), known: Mutex::default() }
    }

    /// One whose connections are made by `dial`, not by TCP.
    #[must_use]
    pub fn by(self, dial: Arc<dyn Dial>) -> Self {
        Self { dial, ..self }
    }

    /// The endpoint of a specification: the one that is in use already, or a new one. Dials nothing.
    ///
    /// # Errors
    /// The URL, a certificate or a key is none.
    pub fn endpoint(&self, spec: &Spec) -> Result<Arc<Endpoint>, SpecError> {
        let mut known = self.known.lock();
        if let Some(endpoint) = known.get(spec).and_then(Weak::upgrade) {
            return Ok(endpoint);
        }
        known.retain(|_, endpoint| endpoint.strong_count() > 0);
        let (source, dial) = (Arc::clone(&self.source), Arc::clone(&self.dial));
        let endpoint = Arc::new(Endpoint::new(spec, source, dial, self.front_proxy.as_ref())?);
        known.insert(spec.clone(), Arc::downgrade(&endpoint));
        Ok(endpoint)
    }
}

type Pool = Client<Connector, RequestBody>;

/// A place that is called. See the module.
pub struct Endpoint {
    dialer: Arc<Dialer>,
    trust: Trust,
    scheme: Scheme,
    authority: Authority,
    /// Of [`Endpoint::ask`].
    path: String,
    authorization: Option<HeaderValue>,
    pool: Mutex<Pool>,
    breaker: Breaker,
    places: Semaphore,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({}://{}{})", self.scheme, self.authority, self.path)
    }
}

impl Endpoint {
    fn new(
        spec: &Spec,
        source: Arc<dyn Source>,
        dial: Arc<dyn Dial>,
        front_proxy: Option<&Arc<Rotating>>,
    ) -> Result<Self, SpecError> {
        let (scheme, authority, path) = located(&spec.place)?;
        let tls = match scheme == Scheme::HTTPS {
            true => Some(trust::config(&spec.trust, &spec.proof, front_proxy)?),
            false => None,
        };
        let dialer = Arc::new(Dialer::new(spec.place.clone(), &authority, tls, source, dial)?);
        let authorization = match &spec.proof {
            Proof::Header(value) => Some(value.clone()),
            _ => None,
        };
        Ok(Self {
            pool: Mutex::new(pool(&dialer)),
            dialer,
            trust: spec.trust.clone(),
            scheme,
            authority,
            path,
            authorization,
            breaker: Breaker::default(),
            places: Semaphore::new(IN_FLIGHT),
        })
    }

    /// Posts JSON to the endpoint's own path, or to where that leads, and reads the JSON of a 2xx. `query` is what
    /// follows `?`, if anything.
    ///
    /// # Errors
    /// What keeps the answer from being there within `timeout`.
    pub async fn ask(&self, query: &str, body: Bytes, timeout: Duration) -> Result<Value, Error> {
        self.post(query, body, timeout, json).await
    }

    /// Posts JSON as [`Endpoint::ask`] does; of a 2xx nothing is read.
    ///
    /// # Errors
    /// What keeps that from happening within `timeout`.
    pub async fn tell(&self, body: Bytes, timeout: Duration) -> Result<(), Error> {
        self.post("", body, timeout, |_| Ok(())).await
    }

    async fn post<T>(
        &self,
        query: &str,
        body: Bytes,
        timeout: Duration,
        understand: impl FnOnce(Bytes) -> Result<T, Step>,
    ) -> Result<T, Error> {
        let mark = if query.is_empty() { "" } else { "?" };
        let path = format!("{}{mark}{query}", self.path);
        self.understood(&Method::POST, &path, self.posted(&path, body), timeout, understand).await
    }

    /// The answer to JSON that is posted, from wherever redirects lead. Only this place is shown what it knows the
    /// server by.
    async fn posted(&self, path: &str, body: Bytes) -> Result<Response<Bytes>, Step> {
        let bad = |e: http::Error| Step::Request(Arc::new(e));
        let (mut method, mut at) = (Method::POST, self.located(path)?);
        for _ in 0..=redirect::MOST {
            let request = Request::builder().method(&method).uri(&at);
            let request = request.header(header::ACCEPT, "application/json");
            let request = match method {
                Method::GET => request.body(Empty::new().map_err(|never| match never {}).boxed_unsync()),
                _ => request
                    .header(header::CONTENT_TYPE, "application/json")
                    .body(Full::new(body.clone()).map_err(|never| match never {}).boxed_unsync()),
            };
            let request = request.map_err(bad)?;
            let is_here = at.scheme() == Some(&self.scheme) && at.authority() == Some(&self.authority);
            let answer = match is_here {
                true => self.whole(request).await?,
                false => self.elsewhere(&at)?.whole(request).await?,
            };
            match redirect::next(&method, &at, &answer)? {
                None => return Ok(answer),
                Some(next) => (method, at) = (next.method, next.to),
            }
        }
        Err(Step::Redirects)
    }

    /// Where an answer of this place leads.
    fn elsewhere(&self, at: &Uri) -> Result<Self, Step> {
        let spec = Spec { place: Place::Url(at.to_string()), trust: self.trust.clone(), proof: Proof::None };
        let (source, dial) = self.dialer.ways();
        Self::new(&spec, source, dial, None).map_err(|_| Step::Redirect(at.to_string()))
    }

    /// Gets the JSON of a path; as [`Endpoint::ask`] otherwise.
    ///
    /// # Errors
    /// What keeps the answer from being there within `timeout`.
    pub async fn get(&self, path: &str, headers: HeaderMap, timeout: Duration) -> Result<Value, Error> {
        let request = self.getting(path, headers)?;
        self.understood(&Method::GET, path, self.whole(request), timeout, json).await
    }

    /// Gets a path in JSON, and reads the answer whatever its code.
    ///
    /// # Errors
    /// What keeps the answer from being there within `timeout`.
    pub async fn fetch(
        &self,
        path: &str,
        headers: HeaderMap,
        timeout: Duration,
    ) -> Result<Response<Bytes>, Error> {
        let request = self.getting(path, headers)?;
        let fetched = self.within(timeout, self.whole(request)).await;
        fetched.map_err(|step| self.error(&Method::GET, path, step))
    }

    fn getting(&self, path: &str, headers: HeaderMap) -> Result<Request<RequestBody>, Error> {
        let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
        let request = Request::builder().uri(path).body(body);
        let mut request = request.map_err(|e| self.error(&Method::GET, path, Step::Request(Arc::new(e))))?;
        *request.headers_mut() = headers;
        request.headers_mut().insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        Ok(request)
    }

    async fn whole(&self, request: Request<RequestBody>) -> Result<Response<Bytes>, Step> {
        let (head, body) = self.exchange(request).await?.into_parts();
        Ok(Response::from_parts(head, read(body, MAX_ANSWER).await?))
    }

    /// What `understand` makes of a 2xx.
    async fn understood<T>(
        &self,
        method: &Method,
        path: &str,
        answer: impl Future<Output = Result<Response<Bytes>, Step>>,
        timeout: Duration,
        understand: impl FnOnce(Bytes) -> Result<T, Step>,
    ) -> Result<T, Error> {
        let asked = self.within(timeout, async {
            let response = answer.await?;
            let (code, body) = (response.status(), response.into_body());
            if !code.is_success() {
                let text = String::from_utf8_lossy(&body[..body.len().min(ERROR_TEXT)]).into_owned();
                return Err(Step::Code { code, text });
            }
            understand(body)
        });
        asked.await.map_err(|step| self.error(method, path, step))
    }

    /// Sends a request whose URI is a path with its query, and answers once the head of the answer is there;
    /// redirects are answers like others. The body of the answer is the caller's to bound.
    ///
    /// # Errors
    /// What keeps that from happening within `timeout`.
    pub async fn send(
        &self,
        request: Request<RequestBody>,
        timeout: Duration,
    ) -> Result<Response<Incoming>, Error> {
        let (method, path) = (request.method().clone(), request.uri().to_string());
        let sent = self.within(timeout, self.exchange(request));
        sent.await.map_err(|step| self.error(&method, &path, step))
    }

    /// A connection of its own that speaks HTTP/1.1, for what is going to be upgraded.
    ///
    /// # Errors
    /// The endpoint does not answer within `timeout`.
    pub async fn dial(&self, timeout: Duration) -> Result<Box<dyn Stream>, Error> {
        let dialled = self.within(timeout, async { Ok(self.dialer.dial(wire::Speaks::Http1).await?.0) });
        dialled.await.map_err(|step| self.error(&Method::CONNECT, "", step))
    }

    /// `host[:port]`, as the endpoint's certificate and the `host` header name it.
    pub fn authority(&self) -> &str {
        self.authority.as_str()
    }

    /// Where calls would go now; the same text for the same place.
    ///
    /// # Errors
    /// It is a Service that leads nowhere.
    pub fn resolved(&self) -> Result<String, Step> {
        self.dialer.resolved()
    }

    /// Name, namespace and port of the Service that this is, if it is one.
    pub fn service(&self) -> Option<(&str, &str, u16)> {
        self.dialer.service()
    }

    /// Does one piece of work with the endpoint, if it is fit for it and has room.
    async fn within<T>(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<T, Step>>,
    ) -> Result<T, Step> {
        let deadline = Instant::now() + timeout;
        let ticket = self.breaker.enter(Instant::now()).ok_or(Step::Open)?;
        let turn = tokio::time::timeout_at(deadline.min(Instant::now() + TURN), self.places.acquire());
        // The semaphore is never closed.
        let Ok(Ok(_place)) = turn.await else { return Err(Step::Busy) };
        let result = tokio::time::timeout_at(deadline, work).await.unwrap_or_else(|_| {
            // Who does not answer may be gone without a word: nobody else shall wait on its connections.
            *self.pool.lock() = pool(&self.dialer);
            Err(Step::Deadline)
        });
        match &result {
            Err(step) if step.is_failure() => ticket.failed(Instant::now()),
            // Nobody was asked.
            Err(Step::NoService(_) | Step::NoPort { .. } | Step::NoEndpoints(_) | Step::Request(_)) => {}
            _ => ticket.worked(),
        }
        result
    }

    /// The URL of a path with its query.
    fn located(&self, path: &str) -> Result<Uri, Step> {
        let url = Uri::builder().scheme(self.scheme.clone()).authority(self.authority.clone());
        url.path_and_query(path).build().map_err(|e| Step::Request(Arc::new(e)))
    }

    async fn exchange(&self, mut request: Request<RequestBody>) -> Result<Response<Incoming>, Step> {
        let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
        *request.uri_mut() = self.located(path)?;
        if let Some(authorization) = &self.authorization {
            request.headers_mut().insert(header::AUTHORIZATION, authorization.clone());
        }
        let pool = self.pool.lock().clone();
        pool.request(request).await.map_err(Step::of)
    }

    fn error(&self, method: &Method, path: &str, step: Step) -> Error {
        let mut name = method.as_str().to_ascii_lowercase();
        name[..1].make_ascii_uppercase();
        let port =
            if self.authority.port().is_none() && self.dialer.service().is_some() { ":443" } else { "" };
        Error { method: name, url: format!("{}://{}{port}{path}", self.scheme, self.authority), step }
    }
}

fn pool(dialer: &Arc<Dialer>) -> Pool {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .http2_keep_alive_interval(PING)
        .http2_keep_alive_timeout(PING)
        .build(Connector(Arc::clone(dialer)))
}

/// The parts of a place's URL.
fn located(place: &Place) -> Result<(Scheme, Authority, String), SpecError> {
    match place {
        Place::Url(url) => {
            let bad = || SpecError::Url(url.clone());
            let uri: Uri = url.parse().map_err(|_| bad())?;
            let path = cleaned(uri.path());
            let parts = uri.into_parts();
            let scheme =
                parts.scheme.filter(|s| *s == Scheme::HTTPS || *s == Scheme::HTTP).ok_or_else(bad)?;
            Ok((scheme, parts.authority.ok_or_else(bad)?, path))
        }
        Place::Service { namespace, name, port, path } => {
            let authority = format!("{name}.{namespace}.svc:{port}");
            let authority = authority.parse().map_err(|_| SpecError::Url(authority))?;
            Ok((Scheme::HTTPS, authority, cleaned(path)))
        }
    }
}

/// A path as Go's `path.Join` leaves it, through which client-go takes the path of every webhook: with one slash before each
/// segment, and none at the end. Routers answer other spellings with redirects.
fn cleaned(path: &str) -> String {
    let mut segments = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            _ => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/"))
}

fn json(body: Bytes) -> Result<Value, Step> {
    serde_json::from_slice(&body).map_err(|e| Step::NotJson(Arc::new(e)))
}

/// Reads a whole body of at most `limit` bytes.
async fn read(mut body: Incoming, limit: usize) -> Result<Bytes, Step> {
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Step::Read(Arc::new(e)))?;
        let Ok(data) = frame.into_data() else { continue };
        if whole.len() + data.len() > limit {
            return Err(Step::TooLong);
        }
        whole.extend_from_slice(&data);
    }
    Ok(whole.freeze())
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
