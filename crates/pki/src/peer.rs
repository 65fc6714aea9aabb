//! Who is at the other end of a TLS connection.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ring::digest;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error as TlsError, RootCertStore, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::{
    error::{Error, Result},
    secp521::provider,
};

/// What a valid client certificate says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The subject's common name.
    pub user: String,
    /// The subject's organizations.
    pub groups: Vec<String>,
    /// From then on the certificate proves nothing.
    pub not_after: SystemTime,
    /// `X509SHA256=<hex>`: names the certificate in `authentication.kubernetes.io/credential-id`.
    pub credential_id: String,
}

/// Why a client's certificate is not accepted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Rejected {
    #[error("the client sent no certificate")]
    Absent,
    #[error("the client's certificate is not acceptable: {0}")]
    Untrusted(TlsError),
    #[error("the client's certificate cannot be read")]
    Unreadable,
    #[error("the client's certificate has no common name")]
    Nameless,
}

impl Rejected {
    /// Whether the certificate would be accepted had its time not run out.
    pub fn expired(&self) -> bool {
        use rustls::CertificateError::{Expired, ExpiredContext};
        matches!(self, Self::Untrusted(TlsError::InvalidCertificate(Expired | ExpiredContext { .. })))
    }
}

/// Checks client certificates against authorities.
#[derive(Clone)]
pub struct ClientTrust {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    pub fn new<'a>(authorities: impl IntoIterator<Item = &'a CertificateDer<'static>>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots
                .add(authority.clone())
                .map_err(|source| Error::Tls { step: "trust an authority's certificate", source })?;
        }
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| Error::Tls {
                step: "set up the verification of client certificates",
                source: TlsError::General(e.to_string()),
            })?;
        Ok(Self { verifier })
    }

    /// Verifies what a client sent (its own certificate first) as of `now`.
    ///
    /// That the client holds the certificate's key was proven by the handshake.
    pub fn verify(
        &self,
        chain: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> std::result::Result<Peer, Rejected> {
        let (own, intermediates) = chain.split_first().ok_or(Rejected::Absent)?;
        let at = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        self.verifier.verify_client_cert(own, intermediates, at).map_err(Rejected::Untrusted)?;
        read(own)
    }
}

impl fmt::Debug for ClientTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientTrust")
    }
}

fn read(der: &CertificateDer<'_>) -> std::result::Result<Peer, Rejected> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Rejected::Unreadable)?;
    let subject = certificate.subject();
    let user = subject.iter_common_name().next().and_then(|cn| cn.as_str().ok()).unwrap_or_default();
    if user.is_empty() {
        return Err(Rejected::Nameless);
    }
    let groups = subject
        .iter_organization()
        .map(|o| o.as_str().map(str::to_owned))
        .collect::<std::result::Result<_, _>>()
        .map_err(|_| Rejected::Unreadable)?;
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let mut credential_id = "X509SHA256=".to_owned();
    for byte in digest::digest(&digest::SHA256, der).as_ref() {
        credential_id.push_str(&format!("{byte:02x}"));
    }
    Ok(Peer {
        user: user.to_owned(),
        groups,
        not_after: UNIX_EPOCH + Duration::from_secs(not_after),
        credential_id,
    })
}

/// Asks clients for a certificate and takes any, or none, as long as they hold its key.
///
/// Whether a certificate is trusted is for authentication to say: it can answer 401 with a reason, where a
/// refused handshake would leave the client with a TLS alert.
#[derive(Debug)]
pub(crate) struct AnyCertificate {
    provider: Arc<CryptoProvider>,
    hints: Vec<DistinguishedName>,
}

impl AnyCertificate {
    /// `trust` tells clients whose certificates are of use.
    pub(crate) fn new(trust: &ClientTrust) -> Self {
        Self { provider: provider(), hints: trust.verifier.root_hint_subjects().to_vec() }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }
    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> std::result::Result<ClientCertVerified, TlsError> {
        Ok(ClientCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
