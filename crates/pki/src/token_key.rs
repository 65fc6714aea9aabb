//! The key that service-account tokens are signed with.

use std::path::Path;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rcgen::KeyPair;
use ring::{
    digest,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};

use crate::{
    error::{Error, Result},
    file,
};

/// An ECDSA P-256 key for JWS algorithm ES256 (RFC 7518, 3.4).
pub struct TokenKey {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
    /// The public point, uncompressed: 0x04, then x and y of 32 bytes each.
    point: Vec<u8>,
}

impl TokenKey {
    /// Reads the key from `path`, or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        let corrupt = |why: String| Error::Corrupt {
            path: path.to_owned(),
            what: "a P-256 private key (PKCS#8 in PEM)",
            why,
        };
        let key = match file::read(path)? {
            Some(pem) => KeyPair::from_pem(&pem).map_err(|e| corrupt(e.to_string()))?,
            None => {
                let key = KeyPair::generate()
                    .map_err(|source| Error::Issue { step: "make the key for tokens", source })?;
                file::write_private(path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let random = SystemRandom::new();
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.serialized_der(), &random)
            .map_err(|e| corrupt(e.to_string()))?;
        let point = pair.public_key().as_ref().to_vec();
        let id = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &point));
        Ok(Self { pair, random, id, point })
    }

    /// The key's id (`kid`): a digest of the public key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The public key's coordinates x and y, 32 bytes each.
    pub fn coordinates(&self) -> (&[u8], &[u8]) {
        self.point[1..].split_at(32)
    }

    /// The signature of 64 bytes that a JWS carries.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>> {
        let signature =
            self.pair.sign(&self.random, message).map_err(|_| Error::Random { step: "sign a token" })?;
        Ok(signature.as_ref().to_vec())
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &self.point).verify(message, signature).is_ok()
    }
}

#[cfg(test)]
#[path = "token_key_tests.rs"]
mod tests;
