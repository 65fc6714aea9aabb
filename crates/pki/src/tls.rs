//! TLS configurations of servers and clients inside a cluster.

use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore, ServerConfig, pki_types::CertificateDer, version::TLS13};

use crate::{
    error::{Error, Result},
    peer::{AnyCertificate, ClientTrust},
    rotating::Rotating,
    secp521::provider,
};

/// Serves TLS 1.3 and 1.2, HTTP/2 and HTTP/1.1. A client's certificate is asked for but not judged: give what
/// the connection's `peer_certificates()` returns to [`ClientTrust::verify`].
pub fn server_config(certificate: Arc<Rotating>, trust: &ClientTrust) -> Result<Arc<ServerConfig>> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| Error::Tls { step: "configure a TLS server", source })?
        .with_client_cert_verifier(Arc::new(AnyCertificate::new(trust)))
        .with_cert_resolver(certificate);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Connects by TLS 1.3 to servers whose certificates come from `authority`, and shows `certificate`.
/// No application protocol is offered; the caller sets `alpn_protocols` if it speaks HTTP/2.
pub fn client_config(
    authority: &CertificateDer<'static>,
    certificate: Option<Arc<Rotating>>,
) -> Result<ClientConfig> {
    let failed = |source| Error::Tls { step: "configure a TLS client", source };
    let mut roots = RootCertStore::empty();
    roots.add(authority.clone()).map_err(failed)?;
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(failed)?
        .with_root_certificates(roots);
    Ok(match certificate {
        Some(certificate) => builder.with_client_cert_resolver(certificate),
        None => builder.with_no_client_auth(),
    })
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
