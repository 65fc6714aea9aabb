//! Whom a call believes, and what it shows of itself.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tiphys_pki::{Rotating, provider};

use super::{Proof, SpecError, Trust};

fn bad(what: &'static str, why: impl std::fmt::Display) -> SpecError {
    SpecError::Tls { what, why: why.to_string() }
}

/// The TLS of calls that trust and prove this.
pub(super) fn config(
    trust: &Trust,
    proof: &Proof,
    front_proxy: Option<&Arc<Rotating>>,
) -> Result<ClientConfig, SpecError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|e| bad("TLS", e))?;
    let builder = match trust {
        Trust::Anybody => return unverified(proof, front_proxy),
        Trust::System => builder.with_root_certificates(Arc::clone(system_roots())),
        Trust::Bundle(pem) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Bundle::read(pem)?))
        }
    };
    Ok(match prove(proof, front_proxy)? {
        Some(resolver) => builder.with_client_cert_resolver(resolver),
        None => builder.with_no_client_auth(),
    })
}

fn unverified(proof: &Proof, front_proxy: Option<&Arc<Rotating>>) -> Result<ClientConfig, SpecError> {
    let mut config = tiphys_pki::unverified_client_config().map_err(|e| bad("TLS", e))?;
    if let Some(resolver) = prove(proof, front_proxy)? {
        config.client_auth_cert_resolver = resolver;
    }
    Ok(config)
}

fn prove(
    proof: &Proof,
    front_proxy: Option<&Arc<Rotating>>,
) -> Result<Option<Arc<dyn rustls::client::ResolvesClientCert>>, SpecError> {
    Ok(match proof {
        Proof::None | Proof::Header(_) => None,
        Proof::FrontProxy => match front_proxy {
            Some(certificate) => Some(Arc::clone(certificate) as _),
            None => return Err(bad("client certificate", "this server has no front-proxy certificate")),
        },
        Proof::Certificate { chain, key } => {
            let chain = certificates(chain, "client certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key).map_err(|e| bad("client key", e))?;
            let key = any_supported_type(&key).map_err(|e| bad("client key", e))?;
            Some(Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key))))
        }
    })
}

fn certificates(pem: &[u8], what: &'static str) -> Result<Vec<CertificateDer<'static>>, SpecError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|e| bad(what, e))?;
    if all.is_empty() { Err(bad(what, "no certificate in PEM")) } else { Ok(all) }
}

/// The host's authorities, read when they are first needed.
fn system_roots() -> &'static Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        // A certificate that cannot be read is one that nobody trusts.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    })
}

/// Trusts the authorities of a bundle, and the servers whose own certificate stands in it: many a webhook's
/// bundle is its self-signed certificate.
#[derive(Debug)]
struct Bundle {
    authorities: Arc<WebPkiServerVerifier>,
    pinned: Vec<CertificateDer<'static>>,
}

impl Bundle {
    fn read(pem: &[u8]) -> Result<Self, SpecError> {
        let pinned = certificates(pem, "CA bundle")?;
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(pinned.iter().cloned());
        if added == 0 {
            return Err(bad("CA bundle", "no certificate in it can be read"));
        }
        let authorities = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| bad("CA bundle", e))?;
        Ok(Self { authorities, pinned })
    }
}

impl ServerCertVerifier for Bundle {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chained = self.authorities.verify_server_cert(end_entity, intermediates, name, ocsp, now);
        if chained.is_err() && self.pinned.iter().any(|own| own == end_entity) {
            rustls::client::verify_server_name(&ParsedCertificate::try_from(end_entity)?, name)?;
            tiphys_pki::check_validity(end_entity, now)?;
            return Ok(ServerCertVerified::assertion());
        }
        chained
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
