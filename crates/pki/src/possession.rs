//! Proofs that somebody holds a key: signatures as KEP-4317 has them.

use num_bigint::BigUint;
use ring::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA256_ASN1, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::secp521;

/// Why a key is not believed to be somebody's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotHeld {
    #[error("must be a valid PKIX-serialized public key")]
    NoKey,
    #[error("unknown public key type; supported types are Ed25519, ECDSA, and RSA")]
    UnknownKey,
    #[error("elliptic public keys must use curve P256, P384 or P521")]
    Curve { name: &'static str },
    #[error("RSA keys must have modulus size 3072 or 4096")]
    Modulus { bits: u64 },
    #[error("must be a valid DER-serialized PKCS#10 certificate signing request")]
    NoRequest,
    #[error("could not verify proof-of-possession signature")]
    Signature,
}

const ED25519_KEY: &str = "1.3.101.112";
const P256: &str = "1.2.840.10045.3.1.7";
const P384: &str = "1.3.132.0.34";
/// The one that is known and not accepted.
const P224: &str = "1.3.132.0.33";
/// The largest exponent of an RSA key; Go reads no larger one.
const MAX_EXPONENT: u64 = (1 << 31) - 1;

/// Verifies that `proof` is a signature of `message` with a key in PKIX form: RSASSA-PSS with a salt of any length,
/// ECDSA in ASN.1, both over SHA-256, or Ed25519.
///
/// # Errors
/// The key is none that is accepted, or the signature another's.
pub fn proves_possession(key: &[u8], message: &[u8], proof: &[u8]) -> Result<(), NotHeld> {
    let held = match accepted(key)? {
        Accepted::Plain(algorithm, point) => {
            UnparsedPublicKey::new(algorithm, point).verify(message, proof).is_ok()
        }
        Accepted::P521(point) => secp521::verifies(&SHA256, &point, message, proof),
        Accepted::Rsa(key) => verifies_pss(&key, message, proof),
    };
    if held { Ok(()) } else { Err(NotHeld::Signature) }
}

/// Verifies that a PKCS#10 request in DER is signed with the key that it names.
///
/// # Errors
/// It is no request, its key is none that is accepted, or the signature another's.
pub fn proves_its_key(request: &[u8]) -> Result<(), NotHeld> {
    let (rest, request) = X509CertificationRequest::from_der(request).map_err(|_| NotHeld::NoRequest)?;
    if !rest.is_empty() {
        return Err(NotHeld::NoRequest);
    }
    accepted(request.certification_request_info.subject_pki.raw)?;
    if secp521::is_signed(&request) { Ok(()) } else { Err(NotHeld::Signature) }
}

/// A key of a kind and size that proofs may be made with.
enum Accepted {
    Plain(&'static dyn VerificationAlgorithm, Vec<u8>),
    /// A point of the curve.
    P521(Vec<u8>),
    Rsa(Rsa),
}

struct Rsa {
    modulus: BigUint,
    exponent: BigUint,
}

fn accepted(key: &[u8]) -> Result<Accepted, NotHeld> {
    let (rest, info) = SubjectPublicKeyInfo::from_der(key).map_err(|_| NotHeld::NoKey)?;
    if !rest.is_empty() {
        return Err(NotHeld::NoKey);
    }
    let point = || info.subject_public_key.data.to_vec();
    if info.algorithm.algorithm.to_id_string() == ED25519_KEY {
        return Ok(Accepted::Plain(&ED25519, point()));
    }
    match info.parsed().map_err(|_| NotHeld::NoKey)? {
        PublicKey::EC(_) => {
            let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve.ok_or(NotHeld::NoKey)?.to_id_string().as_str() {
                P256 => Ok(Accepted::Plain(&ECDSA_P256_SHA256_ASN1, point())),
                P384 => Ok(Accepted::Plain(&ECDSA_P384_SHA256_ASN1, point())),
                secp521::CURVE => Ok(Accepted::P521(point())),
                P224 => Err(NotHeld::Curve { name: "P-224" }),
                _ => Err(NotHeld::NoKey),
            }
        }
        PublicKey::RSA(RSAPublicKey { modulus, exponent }) => {
            let (modulus, exponent) = (BigUint::from_bytes_be(modulus), BigUint::from_bytes_be(exponent));
            // As Go counts it: in whole bytes.
            let bits = modulus.bits().div_ceil(8) * 8;
            if ![3072, 4096].contains(&bits) {
                return Err(NotHeld::Modulus { bits });
            }
            if exponent < BigUint::from(2u8) || exponent > BigUint::from(MAX_EXPONENT) {
                return Err(NotHeld::NoKey);
            }
            Ok(Accepted::Rsa(Rsa { modulus, exponent }))
        }
        _ => Err(NotHeld::UnknownKey),
    }
}

/// RSASSA-PSS-VERIFY of RFC 8017 (8.1.2) with SHA-256, for a salt of any length: Go signs with the longest that
/// fits, which `ring` does not verify. All of it is public, so that its time tells nothing.
fn verifies_pss(key: &Rsa, message: &[u8], signature: &[u8]) -> bool {
    let bits = key.modulus.bits();
    let number = BigUint::from_bytes_be(signature);
    if signature.len() as u64 != bits.div_ceil(8) || number >= key.modulus {
        return false;
    }
    let number = number.modpow(&key.exponent, &key.modulus).to_bytes_be();
    let Ok(length) = usize::try_from((bits - 1).div_ceil(8)) else { return false };
    let Some(padding) = length.checked_sub(number.len()) else { return false };
    let mut encoded = vec![0; padding];
    encoded.extend(number);
    // The top bits that the modulus has no room for.
    let unused = (8 - (bits - 1) % 8) % 8;
    decodes(&encoded, unused as u32, message)
}

/// EMSA-PSS-VERIFY (9.1.2).
fn decodes(encoded: &[u8], unused: u32, message: &[u8]) -> bool {
    let Some(split) = encoded.len().checked_sub(SHA256_OUTPUT_LEN + 1) else { return false };
    let (masked, rest) = encoded.split_at(split);
    let Some((&0xbc, hash)) = rest.split_last() else { return false };
    let (Some(first), top) = (masked.first(), 0xff_u8.checked_shr(unused).unwrap_or(0)) else {
        return false;
    };
    if first & !top != 0 {
        return false;
    }
    let mut block: Vec<u8> = masked.iter().zip(mask(hash, masked.len())).map(|(a, b)| a ^ b).collect();
    block[0] &= top;
    let Some(one) = block.iter().position(|byte| *byte != 0).filter(|at| block[*at] == 1) else {
        return false;
    };
    let mut again = digest::Context::new(&SHA256);
    again.update(&[0; 8]);
    again.update(digest::digest(&SHA256, message).as_ref());
    again.update(&block[one + 1..]);
    again.finish().as_ref() == hash
}

/// MGF1 (B.2.1).
fn mask(seed: &[u8], length: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(length + SHA256_OUTPUT_LEN);
    for counter in 0u32.. {
        if mask.len() >= length {
            break;
        }
        let mut part = digest::Context::new(&SHA256);
        part.update(seed);
        part.update(&counter.to_be_bytes());
        mask.extend_from_slice(part.finish().as_ref());
    }
    mask.truncate(length);
    mask
}

#[cfg(test)]
#[path = "possession_tests.rs"]
mod tests;
