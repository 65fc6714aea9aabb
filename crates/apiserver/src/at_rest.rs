//! Encryption of stored Secrets.
//!
//! A sealed value is `tiphys:aes256gcm:<key id>:`, 32 random bytes, and the ciphertext with its tag. From the named
//! key and the random bytes HKDF-SHA256 makes a key and a nonce for this one value, so the number of values that a
//! key can seal is not limited by the size of a nonce. The store's key is authenticated with the value: one
//! Secret's bytes don't open in another's place.

use bytes::Bytes;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf,
    rand::{SecureRandom, SystemRandom},
};
use tiphys_pki::SealingKey;
use tiphys_store::Key;

const PREFIX: &[u8] = b"tiphys:aes256gcm:";
const SALT: usize = 32;
const NONCE: usize = 12;

/// Seals and opens values of resources that are encrypted at rest.
pub struct Transformer {
    /// The first seals; all open.
    keys: Vec<(String, hkdf::Prk)>,
    random: SystemRandom,
}

/// Why a value can't be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("cannot encrypt {0}: the system gave no random numbers")]
    Random(String),
    #[error("{0} is encrypted with the key {1:?}, which is not in pki/secrets.keys")]
    UnknownKey(String, String),
    #[error("{0} cannot be decrypted: the value is damaged, or its key is not the one that sealed it")]
    Damaged(String),
}

impl Transformer {
    /// `keys` as the pki has them: at least one, the first seals.
    pub fn new(keys: &[SealingKey]) -> Self {
        let prk = |key: &SealingKey| hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &key.secret);
        Self { keys: keys.iter().map(|k| (k.id.clone(), prk(k))).collect(), random: SystemRandom::new() }
    }

    /// Whether values of this storage are sealed.
    pub fn covers(group: &str, resource: &str) -> bool {
        group.is_empty() && resource == "secrets"
    }

    /// The form in which the value of `key` is stored.
    pub fn seal(&self, key: &Key, value: &[u8]) -> Result<Bytes, Error> {
        let failed = || Error::Random(key.as_str().to_owned());
        let (id, prk) = self.keys.first().ok_or_else(failed)?;
        let mut salt = [0; SALT];
        self.random.fill(&mut salt).map_err(|_| failed())?;
        let (cipher, nonce) = derive(prk, &salt).ok_or_else(failed)?;
        let tag_length = AES_256_GCM.tag_len();
        let mut sealed = Vec::with_capacity(PREFIX.len() + id.len() + 1 + SALT + value.len() + tag_length);
        sealed.extend_from_slice(PREFIX);
        sealed.extend_from_slice(id.as_bytes());
        sealed.push(b':');
        sealed.extend_from_slice(&salt);
        let start = sealed.len();
        sealed.extend_from_slice(value);
        let tag = cipher
            .seal_in_place_separate_tag(nonce, Aad::from(key.as_str()), &mut sealed[start..])
            .map_err(|_| failed())?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed.into())
    }

    /// The value that was stored for `key`. One that is not sealed is returned as it is: it was written before
    /// encryption, and the next write seals it.
    pub fn open(&self, key: &Key, stored: Bytes) -> Result<Bytes, Error> {
        let Some(rest) = stored.strip_prefix(PREFIX) else { return Ok(stored) };
        let damaged = || Error::Damaged(key.as_str().to_owned());
        let colon = rest.iter().position(|&b| b == b':').ok_or_else(damaged)?;
        let (id, rest) = (&rest[..colon], &rest[colon + 1..]);
        let (_, prk) = self.keys.iter().find(|(own, _)| own.as_bytes() == id).ok_or_else(|| {
            Error::UnknownKey(key.as_str().to_owned(), String::from_utf8_lossy(id).into_owned())
        })?;
        let (salt, sealed) = rest.split_at_checked(SALT).ok_or_else(damaged)?;
        let (cipher, nonce) = derive(prk, salt).ok_or_else(damaged)?;
        let mut value = sealed.to_vec();
        let length =
            cipher.open_in_place(nonce, Aad::from(key.as_str()), &mut value).map_err(|_| damaged())?.len();
        value.truncate(length);
        Ok(value.into())
    }
}

/// The length of what HKDF is asked for.
struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        32 + NONCE
    }
}

/// The key and nonce of the one value that `salt` belongs to.
fn derive(prk: &hkdf::Prk, salt: &[u8]) -> Option<(LessSafeKey, Nonce)> {
    let mut bytes = [0; 32 + NONCE];
    prk.expand(&[b"tiphys secrets at rest", salt], Length).ok()?.fill(&mut bytes).ok()?;
    let (key, nonce) = bytes.split_at(32);
    let key = UnboundKey::new(&AES_256_GCM, key).ok()?;
    Some((LessSafeKey::new(key), Nonce::try_assume_unique_for_key(nonce).ok()?))
}

#[cfg(test)]
#[path = "at_rest_tests.rs"]
mod tests;
