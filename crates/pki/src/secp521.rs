//! Signatures with keys on the curve P-521, which `ring` does not know. All that is verified is public.

use std::sync::{Arc, LazyLock};

use p521::ecdsa::{Signature, VerifyingKey, signature::hazmat::PrehashVerifier};
use ring::digest::{self, SHA256, SHA384, SHA512};
use rustls::{
    SignatureScheme,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring::default_provider},
    pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id},
};
use x509_parser::certification_request::X509CertificationRequest;

/// The curve's object identifier.
pub(crate) const CURVE: &str = "1.3.132.0.35";
/// Octets of a number below the curve's order.
const SIZE: usize = 66;

/// Whether a signature in ASN.1 is that of the message's digest by the key at `point` (uncompressed).
pub(crate) fn verifies(
    digest: &'static digest::Algorithm,
    point: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    Signature::from_der(signature).is_ok_and(|signature| is_of(digest, point, message, &signature))
}

/// Whether a signature as JWS has it (RFC 7518, 3.4: r and s of 66 octets each) is that of the message's SHA-512 by the
/// key with these coordinates.
pub fn es512_verifies(x: &[u8], y: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let point = [&[4][..], x, y].concat();
    Signature::from_slice(signature).is_ok_and(|signature| is_of(&SHA512, &point, message, &signature))
}

fn is_of(digest: &'static digest::Algorithm, point: &[u8], message: &[u8], signature: &Signature) -> bool {
    let digest = digest::digest(digest, message);
    // A digest is a number here, shorter than those of the curve.
    let mut number = [0; SIZE];
    number[SIZE - digest.as_ref().len()..].copy_from_slice(digest.as_ref());
    VerifyingKey::from_sec1_bytes(point).is_ok_and(|key| key.verify_prehash(&number, signature).is_ok())
}

/// Whether a request is signed with the key that it names.
pub(crate) fn is_signed(request: &X509CertificationRequest<'_>) -> bool {
    let info = &request.certification_request_info;
    let curve = info.subject_pki.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
    if curve.is_none_or(|curve| curve.to_id_string() != CURVE) {
        return request.verify_signature().is_ok();
    }
    let digest = match request.signature_algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.10045.4.3.2" => &SHA256,
        "1.2.840.10045.4.3.3" => &SHA384,
        "1.2.840.10045.4.3.4" => &SHA512,
        _ => return false,
    };
    verifies(digest, &info.subject_pki.subject_public_key.data, info.raw, &request.signature_value.data)
}

/// Signatures in certificates and handshakes.
#[derive(Debug)]
struct Algorithm {
    digest: &'static digest::Algorithm,
    signature: AlgorithmIdentifier,
}

impl SignatureVerificationAlgorithm for Algorithm {
    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> std::result::Result<(), InvalidSignature> {
        if verifies(self.digest, public_key, message, signature) { Ok(()) } else { Err(InvalidSignature) }
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ECDSA_P521
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }
}

static ALGORITHMS: [Algorithm; 3] = [
    Algorithm { digest: &SHA512, signature: alg_id::ECDSA_SHA512 },
    Algorithm { digest: &SHA384, signature: alg_id::ECDSA_SHA384 },
    Algorithm { digest: &SHA256, signature: alg_id::ECDSA_SHA256 },
];

/// Cryptography for TLS: `ring`'s, and signatures with P-521.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
        let mut provider = default_provider();
        let known = provider.signature_verification_algorithms;
        let [first, ..] = &ALGORITHMS;
        let own = ALGORITHMS.iter().map(|algorithm| algorithm as &dyn SignatureVerificationAlgorithm);
        let all: Vec<_> = known.all.iter().copied().chain(own).collect();
        let first: Vec<&dyn SignatureVerificationAlgorithm> = vec![first];
        let scheme = (SignatureScheme::ECDSA_NISTP521_SHA512, &*first.leak());
        let mapping: Vec<_> = known.mapping.iter().copied().chain([scheme]).collect();
        // Made once: they last as long as the program does.
        provider.signature_verification_algorithms =
            WebPkiSupportedAlgorithms { all: all.leak(), mapping: mapping.leak() };
        Arc::new(provider)
    });
    Arc::clone(&PROVIDER)
}

#[cfg(test)]
#[path = "secp521_tests.rs"]
mod tests;
