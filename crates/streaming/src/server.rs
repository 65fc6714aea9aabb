//! The HTTP server that the URLs of `Exec`, `Attach` and `PortForward` lead to.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::mpsc,
    task::JoinSet,
};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tracing::{debug, warn};

use crate::{
    command::{self, StatusForm},
    port_forward,
    websocket::{self, Encoding},
};

/// A URL is good for one connection within this time.
const URL_LIFETIME: Duration = Duration::from_secs(60);
/// URLs handed out and not used yet; the oldest gives way.
const MOST_URLS: usize = 1000;

const TUNNEL: &str = "SPDY/3.1+portforward.k8s.io";
const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// What to run or to attach to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub container: String,
    /// `None` attaches to the container's own process.
    pub command: Option<Vec<String>>,
    pub stdin: bool,
    pub stdout: bool,
    /// Never together with `tty`, whose output is one stream.
    pub stderr: bool,
    pub tty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TerminalSize {
    pub width: u16,
    pub height: u16,
}

/// How the command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus(pub i32);

/// The client's side of a session. `stdin` ends when the client closes it or goes away; writing fails
/// once the client has gone.
pub struct Io {
    pub stdin: Option<Box<dyn AsyncRead + Send + Unpin>>,
    pub stdout: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub stderr: Option<Box<dyn AsyncWrite + Send + Unpin>>,
    pub resize: mpsc::Receiver<TerminalSize>,
}

/// A connection's bytes, both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What the client is told when a session could not be had.
pub type BackendError = Box<dyn std::error::Error + Send + Sync>;

/// The runtime's part.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Runs or attaches until the process has ended and its output is written. An attachment that is dropped
    /// detaches, since its client has gone; it ends with status 0, for the container's own is told by its pod.
    async fn run(&self, command: &Command, io: Io) -> Result<ExitStatus, BackendError>;

    /// Connects `client` to a port on the sandbox's loopback until both directions are done.
    async fn forward(&self, sandbox: &str, port: u16, client: &mut dyn Duplex) -> Result<(), BackendError>;
}

#[derive(Debug)]
enum Session {
    Command(Command),
    PortForward { sandbox: String, ports: Vec<u16> },
}

/// Listens on loopback; each URL holds a random token, serves one connection and expires.
pub struct Server {
    address: SocketAddr,
    sessions: Arc<Mutex<HashMap<String, (Instant, Session)>>>,
    _listening: JoinSet<()>,
}

impl Server {
    pub async fn start(backend: Arc<dyn Backend>) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let sessions = Arc::new(Mutex::new(HashMap::new()));
        let mut listening = JoinSet::new();
        listening.spawn(accept(listener, backend, sessions.clone()));
        Ok(Self { address, sessions, _listening: listening })
    }

    /// A URL for `ExecResponse` or `AttachResponse`.
    pub fn command_url(&self, command: Command) -> String {
        let path = if command.command.is_some() { "exec" } else { "attach" };
        self.url(path, Session::Command(command))
    }

    /// A URL for `PortForwardResponse`; `ports` serve only clients that speak plain WebSocket.
    pub fn port_forward_url(&self, sandbox: String, ports: Vec<u16>) -> String {
        self.url("portforward", Session::PortForward { sandbox, ports })
    }

    fn url(&self, path: &str, session: Session) -> String {
        let token = uuid::Uuid::new_v4().simple().to_string();
        let url = format!("http://{}/{path}/{token}", self.address);
        let mut sessions = self.sessions.lock();
        sessions.retain(|_, (made, _)| made.elapsed() < URL_LIFETIME);
        if sessions.len() >= MOST_URLS
            && let Some(oldest) = sessions.iter().min_by_key(|(_, (made, _))| *made).map(|(t, _)| t.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(token, (Instant::now(), session));
        url
    }
}

type Sessions = Mutex<HashMap<String, (Instant, Session)>>;

async fn accept(listener: TcpListener, backend: Arc<dyn Backend>, sessions: Arc<Sessions>) {
    let mut connections = JoinSet::new();
    loop {
        let socket = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    warn!(%error, "accepting a streaming connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            Some(_) = connections.join_next() => continue,
        };
        let (backend, sessions) = (backend.clone(), sessions.clone());
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(request, backend.clone(), &sessions);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(socket), service)
                .with_upgrades()
                .await;
            if let Err(error) = served {
                debug!(%error, "streaming connection");
            }
        });
    }
}

/// Why no session begins.
struct Refusal(StatusCode, &'static str);

impl From<Refusal> for Response<Full<Bytes>> {
    fn from(Refusal(status, why): Refusal) -> Self {
        let mut response = Response::new(Full::from(why));
        *response.status_mut() = status;
        response
    }
}

/// How the client wants to stream.
#[derive(Debug, PartialEq, Eq)]
enum Upgrade {
    Spdy { protocol: Option<String> },
    WebSocket { protocol: Option<String>, accept: String },
}

impl Upgrade {
    /// Chooses the first protocol the client offers of those that `speaks` accepts.
    fn choose(headers: &HeaderMap, speaks: impl Fn(&str) -> bool) -> Result<Self, Refusal> {
        let text =
            |name: header::HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let offered = |name: &str| -> Vec<String> {
            let values = headers.get_all(name).iter().filter_map(|v| v.to_str().ok());
            values.flat_map(|v| v.split(',')).map(|p| p.trim().to_owned()).filter(|p| !p.is_empty()).collect()
        };
        let pick = |name: &str| -> Result<Option<String>, Refusal> {
            let offered = offered(name);
            if offered.is_empty() {
                return Ok(None);
            }
            match offered.into_iter().find(|p| speaks(p)) {
                Some(protocol) => Ok(Some(protocol)),
                None => Err(Refusal(
                    StatusCode::FORBIDDEN,
                    "none of the offered stream protocols is spoken here\n",
                )),
            }
        };
        if text(header::UPGRADE).eq_ignore_ascii_case("websocket") {
            let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
                return Err(Refusal(StatusCode::BAD_REQUEST, "Sec-WebSocket-Key is missing\n"));
            };
            let accept = derive_accept_key(key.as_bytes());
            Ok(Self::WebSocket { protocol: pick("sec-websocket-protocol")?, accept })
        } else if text(header::UPGRADE).eq_ignore_ascii_case("SPDY/3.1") {
            Ok(Self::Spdy { protocol: pick(STREAM_PROTOCOL)? })
        } else {
            Err(Refusal(StatusCode::BAD_REQUEST, "an upgrade to SPDY/3.1 or to a WebSocket is needed\n"))
        }
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let mut set = |name: &'static str, value: &str| {
            // Protocols were matched against our own list, and an accept key is base64: both are tokens.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        };
        match self {
            Self::Spdy { protocol } => {
                set("upgrade", "SPDY/3.1");
                if let Some(protocol) = protocol {
                    set(STREAM_PROTOCOL, protocol);
                }
            }
            Self::WebSocket { protocol, accept } => {
                set("upgrade", "websocket");
                set("sec-websocket-accept", accept);
                if let Some(protocol) = protocol {
                    set("sec-websocket-protocol", protocol);
                }
            }
        }
        response
    }
}

fn encoding(protocol: Option<&str>) -> Encoding {
    if protocol.is_some_and(|p| p.contains("base64")) { Encoding::Base64 } else { Encoding::Binary }
}

fn status_form(protocol: Option<&str>) -> StatusForm {
    if protocol.is_some_and(|p| p.starts_with("v4.") || p.starts_with("v5.")) {
        StatusForm::Object
    } else {
        StatusForm::Text
    }
}

fn speaks_command(protocol: &str) -> bool {
    matches!(
        protocol,
        "v5.channel.k8s.io"
            | "v4.channel.k8s.io"
            | "v3.channel.k8s.io"
            | "v2.channel.k8s.io"
            | "channel.k8s.io"
            | "v4.base64.channel.k8s.io"
            | "base64.channel.k8s.io"
    )
}

fn speaks_port_forward(protocol: &str) -> bool {
    matches!(protocol, TUNNEL | "portforward.k8s.io" | "v4.channel.k8s.io" | "v4.base64.channel.k8s.io")
}

fn answer(
    request: Request<Incoming>,
    backend: Arc<dyn Backend>,
    sessions: &Sessions,
) -> Response<Full<Bytes>> {
    let token = request.uri().path().rsplit('/').next().unwrap_or_default();
    let session = match sessions.lock().remove(token) {
        Some((made, session)) if made.elapsed() < URL_LIFETIME => session,
        _ => return Refusal(StatusCode::NOT_FOUND, "this URL has been used or has expired\n").into(),
    };
    let speaks = match &session {
        Session::Command(_) => speaks_command,
        Session::PortForward { .. } => speaks_port_forward,
    };
    let upgrade = match Upgrade::choose(request.headers(), speaks) {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal.into(),
    };
    let response = upgrade.response();
    tokio::spawn(async move {
        match hyper::upgrade::on(request).await {
            Ok(upgraded) => stream(TokioIo::new(upgraded), upgrade, backend, session).await,
            Err(error) => debug!(%error, "upgrading a streaming connection"),
        }
    });
    response
}

async fn stream<T>(io: T, upgrade: Upgrade, backend: Arc<dyn Backend>, session: Session)
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match (session, upgrade) {
        (Session::Command(command), Upgrade::Spdy { protocol }) => {
            command::over_spdy(io, &*backend, &command, status_form(protocol.as_deref())).await;
        }
        (Session::Command(command), Upgrade::WebSocket { protocol, .. }) => {
            let protocol = protocol.as_deref();
            command::over_websocket(io, encoding(protocol), &*backend, &command, status_form(protocol)).await;
        }
        (Session::PortForward { sandbox, .. }, Upgrade::Spdy { .. }) => {
            port_forward::over_spdy(io, backend, sandbox).await;
        }
        (Session::PortForward { sandbox, .. }, Upgrade::WebSocket { protocol: Some(protocol), .. })
            if protocol == TUNNEL =>
        {
            let (inner, _tunnel) = websocket::tunnel(io);
            port_forward::over_spdy(inner, backend, sandbox).await;
        }
        (Session::PortForward { sandbox, ports }, Upgrade::WebSocket { protocol, .. }) => {
            let encoding = encoding(protocol.as_deref());
            port_forward::over_websocket(io, encoding, backend, sandbox, ports).await;
        }
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
