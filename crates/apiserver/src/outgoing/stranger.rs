//! A server on loopback that the API server calls in tests.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::ServerConfig;
use rustls::server::ServerSessionMemoryCache;
use rustls::sign::SingleCertAndKey;
use tiphys_pki::{Authority, Leaf, SHORT, Usage};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Serves TLS, HTTP/1.1 and HTTP/2, until it is dropped.
pub(crate) struct Stranger {
    pub(crate) address: SocketAddr,
    /// The PEM of the authority that its certificate is by.
    pub(crate) ca: Bytes,
    serving: JoinHandle<()>,
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Stranger {
    /// Answers each request by `answer`, which gets the whole body; the certificate is for `names`.
    pub(crate) async fn start<F, A>(names: &[&str], answer: F) -> Self
    where
        F: Fn(Request<Bytes>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Bytes>> + Send + 'static,
    {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::open(dir.path(), "ca", "stranger", SystemTime::now()).unwrap();
        let leaf = Leaf {
            common_name: "stranger".to_owned(),
            organization: None,
            names: names.iter().map(|&name| name.to_owned()).collect(),
            usage: Usage::Server,
            lifetime: SHORT,
        };
        let key = authority.issue(&leaf, SystemTime::now()).unwrap().certified_key().unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(key)));
        config.session_storage = ServerSessionMemoryCache::new(8);
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer) = (acceptor.clone(), answer.clone());
                connections.spawn(async move {
                    // What the client thinks of the connection is the test's to see.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let service = service_fn(move |request: Request<Incoming>| {
                        let answer = answer.clone();
                        async move {
                            let (head, body) = request.into_parts();
                            let body = body.collect().await?.to_bytes();
                            let response = answer(Request::from_parts(head, body)).await;
                            Ok::<_, hyper::Error>(response.map(Full::new))
                        }
                    });
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(tls), service)
                        .await;
                });
            }
        });
        Self { address, ca: Bytes::from(authority.pem().to_owned()), serving }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }
}
