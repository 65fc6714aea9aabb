//! The plain request that probes and hooks make.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::handlers::HttpRequest;

/// The most of an answer's body that is read.
const MAX_BODY: usize = 10 * 1024;
/// The most redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// No answer was had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error("dial tcp {0}: connect: {1}")]
    Connect(String, String),
    #[error("invalid host")]
    Host,
    #[error("{}", plain(.0))]
    Tls(io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("{0}")]
    Request(#[from] http::Error),
    #[error("stopped after {MAX_REDIRECTS} redirects")]
    Redirects,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    /// The code of the last answer: a redirect's, if it leads away from the host.
    pub(crate) status: u16,
    /// The beginning of its body.
    pub(crate) body: String,
    location: Option<String>,
}

/// An I/O error without the number that Rust adds to the kernel's text, in the kernel's own lower case.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}

/// The request's address as messages show it.
pub(crate) fn url(request: &HttpRequest, host: &str) -> String {
    let scheme = if request.tls { "https" } else { "http" };
    format!("{scheme}://{}{}", authority(host, request.port), request.path)
}

/// A host and a port, as one text.
pub(crate) fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Sends a GET, and follows redirects as long as they stay on the host.
pub(crate) async fn get(request: &HttpRequest, host: &str) -> Result<Reply, HttpError> {
    let mut request = request.clone();
    for _ in 0..=MAX_REDIRECTS {
        let reply = get_once(&request, host).await?;
        let moved = matches!(reply.status, 301 | 302 | 303 | 307 | 308);
        let next = reply.location.as_deref().filter(|_| moved).and_then(|to| redirected(&request, host, to));
        match next {
            Some(next) => request = next,
            None => return Ok(reply),
        }
    }
    Err(HttpError::Redirects)
}

/// The request that a redirect asks for; `None` if it leads to another host, or nowhere.
fn redirected(from: &HttpRequest, host: &str, location: &str) -> Option<HttpRequest> {
    let mut next = from.clone();
    let location = location.split('#').next().unwrap_or_default();
    if !location.contains("://") {
        next.path = if location.starts_with('/') {
            location.to_owned()
        } else {
            let directory = from.path.split('?').next().unwrap_or_default();
            format!("{}/{location}", directory.rsplit_once('/').map_or("", |(directory, _)| directory))
        };
        return (!location.starts_with("//")).then_some(next);
    }
    let uri: Uri = location.parse().ok()?;
    next.tls = match uri.scheme_str()? {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    next.port = uri.port_u16().unwrap_or(if next.tls { 443 } else { 80 });
    next.path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
    next.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("host"));
    (uri.host()?.trim_matches(['[', ']']) == host).then_some(next)
}

async fn get_once(request: &HttpRequest, host: &str) -> Result<Reply, HttpError> {
    let stream = TcpStream::connect((host, request.port))
        .await
        .map_err(|e| HttpError::Connect(authority(host, request.port), plain(&e)))?;
    if !request.tls {
        return send(request, host, stream).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| HttpError::Host)?;
    // Probes ask whether a server answers, not who it is; upstream verifies no certificate here either.
    let config = tiphys_pki::unverified_client_config().map_err(|e| HttpError::Tls(io::Error::other(e)))?;
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(HttpError::Tls)?;
    send(request, host, stream).await
}

async fn send<S>(request: &HttpRequest, host: &str, stream: S) -> Result<Reply, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let message = message(request, host).body(Empty::<Bytes>::new())?;
    let response = sender.send_request(message).await?;
    let status = response.status().as_u16();
    let location = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok()).map(str::to_owned);
    // The body is read, to a bound, so that the server is not cut off in the middle of its answer.
    let mut stream = response.into_body();
    let mut body = Vec::new();
    while let Some(Ok(frame)) = stream.frame().await {
        body.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
        if body.len() > MAX_BODY {
            break;
        }
    }
    body.truncate(MAX_BODY);
    drop(connection);
    Ok(Reply { status, body: String::from_utf8_lossy(&body).into_owned(), location })
}

/// What the spec says of a header takes the place of what a request has by itself; if it says nothing, without a
/// value, the header is left out.
fn message(request: &HttpRequest, host: &str) -> http::request::Builder {
    let agent = format!("kube-{}/1.37", request.purpose);
    let own = [
        (header::HOST, authority(host, request.port)),
        (header::USER_AGENT, agent),
        (header::ACCEPT, "*/*".to_owned()),
    ];
    let given =
        |name: &HeaderName| request.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name.as_str()));
    let mut message = http::Request::get(&request.path);
    for (name, value) in &own {
        message = match given(name) {
            Some((_, given)) if !given.is_empty() => message.header(name, given),
            // Every request has a host.
            Some(_) if name != header::HOST => message,
            _ => message.header(name, value),
        };
    }
    for (name, value) in &request.headers {
        if own.iter().all(|(own, _)| !name.eq_ignore_ascii_case(own.as_str())) {
            message = message.header(name, value);
        }
    }
    message
}
