//! The plain request that probes and hooks make.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::handlers::HttpRequest;

/// The most of an answer's body that is read.
const MAX_BODY: usize = 10 * 1024;

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

fn authority(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Sends a GET and answers the status. Redirects are not followed.
pub(crate) async fn get(request: &HttpRequest, host: &str) -> Result<u16, HttpError> {
    let stream = TcpStream::connect((host, request.port))
        .await
        .map_err(|e| HttpError::Connect(authority(host, request.port), plain(&e)))?;
    if !request.tls {
        return send(request, host, stream).await;
    }
    let name = ServerName::try_from(host.to_owned()).map_err(|_| HttpError::Host)?;
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| HttpError::Tls(io::Error::other(e)))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anyone))
            .with_no_client_auth();
    let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(HttpError::Tls)?;
    send(request, host, stream).await
}

async fn send<S>(request: &HttpRequest, host: &str, stream: S) -> Result<u16, HttpError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio_util::task::AbortOnDropHandle::new(tokio::spawn(connection));
    let mut message = http::Request::get(&request.path);
    let given = |name: &str| request.headers.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
    if !given("host") {
        message = message.header("Host", authority(host, request.port));
    }
    if !given("user-agent") {
        message = message.header("User-Agent", "kube-probe/1.37");
    }
    if !given("accept") {
        message = message.header("Accept", "*/*");
    }
    for (name, value) in &request.headers {
        message = message.header(name, value);
    }
    let response = sender.send_request(message.body(Empty::<Bytes>::new())?).await?;
    let status = response.status().as_u16();
    // The body is read, to a bound, so that the server is not cut off in the middle of its answer.
    let mut body = response.into_body();
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > MAX_BODY {
            break;
        }
    }
    drop(connection);
    Ok(status)
}

/// Probes ask whether a server answers, not who it is; upstream verifies no certificate here either.
#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::ring::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
