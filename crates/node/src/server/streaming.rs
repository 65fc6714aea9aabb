//! exec, attach and port-forward: asks the runtime for a URL, goes there, and passes bytes between the two sides.
//! What they say to each other (WebSocket or SPDY) is nothing to the node.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use tiphys_cri::v1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_util::task::AbortOnDropHandle;

use super::log::look;
use super::{Answer, Query, Refusal, plain};
use crate::kubelet::Inner;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A pod and the running instance of one of its containers.
async fn running(
    inner: &Inner,
    namespace: &str,
    pod: &str,
    container: &str,
) -> Result<(Arc<Pod>, String), Refusal> {
    let (spec, observed) = look(inner, namespace, pod).await?;
    match observed.newest(container).filter(|c| c.is_running()) {
        Some(found) => Ok((spec, found.id.0.clone())),
        None => Err(Refusal::not_found(format!("container not found (\"{container}\")"))),
    }
}

/// Which of a process's streams the caller wants. A terminal has no stderr of its own.
struct Streams {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

impl Streams {
    fn of(query: &Query, tty: bool) -> Result<Self, Refusal> {
        let streams = Self {
            stdin: query.flag(&["input", "stdin"]),
            stdout: query.flag(&["output", "stdout"]),
            stderr: query.flag(&["error", "stderr"]) && !tty,
        };
        if streams.stdin || streams.stdout || streams.stderr {
            return Ok(streams);
        }
        Err(Refusal::bad_request("you must specify at least 1 of stdin, stdout, stderr"))
    }
}

pub(super) async fn exec(
    inner: &Arc<Inner>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let (_, container_id) = running(inner, namespace, pod, container).await?;
    let tty = query.flag(&["tty"]);
    let cmd = query.all("command");
    if cmd.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command"));
    }
    let Streams { stdin, stdout, stderr } = Streams::of(query, tty)?;
    let ask = v1::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
    let answer = inner.cri.runtime().exec(ask).await.map_err(|s| Refusal::internal(s.message()))?;
    relay(&answer.into_inner().url, request).await
}

pub(super) async fn attach(
    inner: &Arc<Inner>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let (spec, container_id) = running(inner, namespace, pod, container).await?;
    // Whether there is a terminal was decided when the container was made, whatever the caller says.
    let tty = crate::pod::find_container(&spec, container).is_some_and(|c| c.spec.tty.unwrap_or(false));
    let Streams { stdin, stdout, stderr } = Streams::of(query, tty)?;
    let ask = v1::AttachRequest { container_id, tty, stdin, stdout, stderr };
    let answer = inner.cri.runtime().attach(ask).await.map_err(|s| Refusal::internal(s.message()))?;
    relay(&answer.into_inner().url, request).await
}

pub(super) async fn port_forward(
    inner: &Arc<Inner>,
    namespace: &str,
    pod: &str,
    query: &Query,
    request: Request<Incoming>,
) -> Answer {
    let (_, observed) = look(inner, namespace, pod).await?;
    let sandbox = observed.sandbox().filter(|s| s.ready);
    let sandbox =
        sandbox.ok_or_else(|| Refusal::not_found(format!("pod not found (\"{pod}_{namespace}\")")))?;
    let ports: Result<Vec<i32>, _> = query
        .all("port")
        .iter()
        .flat_map(|p| p.split(','))
        .map(|p| p.parse::<u16>().map(i32::from))
        .collect();
    let port = ports.map_err(|e| Refusal::bad_request(format!("invalid port value: {e}")))?;
    let ask = v1::PortForwardRequest { pod_sandbox_id: sandbox.id.0.clone(), port };
    let answer = inner.cri.runtime().port_forward(ask).await.map_err(|s| Refusal::internal(s.message()))?;
    relay(&answer.into_inner().url, request).await
}

/// Runs a command to its end and answers its output.
pub(super) async fn run(
    inner: &Arc<Inner>,
    namespace: &str,
    pod: &str,
    container: &str,
    query: &Query,
) -> Answer {
    let (_, container_id) = running(inner, namespace, pod, container).await?;
    let cmd = query.first("cmd").unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let ask = v1::ExecSyncRequest { container_id, cmd, timeout: 0 };
    let done =
        inner.cri.runtime().exec_sync(ask).await.map_err(|s| Refusal::internal(s.message()))?.into_inner();
    let mut output = done.stdout.to_vec();
    output.extend_from_slice(&done.stderr);
    if done.exit_code != 0 {
        let output = String::from_utf8_lossy(&output);
        return Err(Refusal::internal(format!("command exited with {}: {output}", done.exit_code)));
    }
    Ok(plain(output))
}

/// Opens the way to a URL of the runtime's: `http://host:port/path`, or `unix:///socket` with the path as its query.
async fn dial(uri: &Uri) -> io::Result<Box<dyn Stream>> {
    if uri.scheme_str() == Some("unix") {
        return Ok(Box::new(UnixStream::connect(uri.path()).await?));
    }
    let host = uri.host().unwrap_or("127.0.0.1").trim_matches(['[', ']']).to_owned();
    Ok(Box::new(TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?))
}

/// Headers that belong to the upgrade and to what is upgraded to.
fn travels(name: &HeaderName) -> bool {
    name == header::CONNECTION
        || name == header::UPGRADE
        || name.as_str().starts_with("sec-websocket-")
        || name.as_str().starts_with("x-stream-protocol-version")
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for (name, value) in from.iter().filter(|(name, _)| travels(name)) {
        to.append(name.clone(), value.clone());
    }
}

/// Passes a request on to the runtime's URL, and after both sides have agreed to the upgrade every byte both ways.
async fn relay(url: &str, mut request: Request<Incoming>) -> Answer {
    if !request.headers().contains_key(header::UPGRADE) {
        return Err(Refusal::bad_request("unable to upgrade: missing upgrade headers in request"));
    }
    let uri: Uri = url.parse().map_err(|_| Refusal::internal("the runtime answered a URL that is none"))?;
    let failed =
        |e: &dyn std::fmt::Display| Refusal::internal(format!("the runtime's stream can't be reached: {e}"));
    let stream = dial(&uri).await.map_err(|e| failed(&e))?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| failed(&e))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(connection.with_upgrades()));
    let target = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut onward = Request::builder().method(request.method()).uri(target);
    if let Some(headers) = onward.headers_mut() {
        copy_headers(request.headers(), headers);
        if let Some(host) = uri.authority().and_then(|a| a.as_str().parse().ok()) {
            headers.insert(header::HOST, host);
        }
    }
    let onward = onward.body(Empty::<Bytes>::new()).map_err(|e| failed(&e))?;
    let mut answer = sender.send_request(onward).await.map_err(|e| failed(&e))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), 64 * 1024).collect().await;
        let body = body.map(|b| b.to_bytes()).unwrap_or_default();
        return Err(Refusal(status, String::from_utf8_lossy(&body).into_owned()));
    }
    let there = hyper::upgrade::on(&mut answer);
    let here = hyper::upgrade::on(&mut request);
    let empty = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(empty);
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    copy_headers(answer.headers(), response.headers_mut());
    tokio::spawn(async move {
        let (here, there) = match tokio::try_join!(here, there) {
            Ok(both) => both,
            Err(error) => return tracing::debug!(%error, "a stream was not upgraded"),
        };
        let copied = tokio::io::copy_bidirectional(&mut TokioIo::new(here), &mut TokioIo::new(there)).await;
        if let Err(error) = copied {
            tracing::debug!(%error, "a stream broke off");
        }
        drop(driver);
    });
    Ok(response)
}
