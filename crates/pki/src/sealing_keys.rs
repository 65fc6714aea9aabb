//! The keys that stored secrets are encrypted with.

use std::path::Path;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::rand::{SecureRandom, SystemRandom};

use crate::{
    error::{Error, Result},
    file,
};

/// A named AES-256 key.
#[derive(Clone)]
pub struct SealingKey {
    /// 1 to 32 lower-case letters, digits or `-`.
    pub id: String,
    pub secret: [u8; 32],
}

/// Reads the keys from `path`, or makes the first one. There is at least one; the first seals, all open.
///
/// The file has one key a line, `<id>:<32 bytes in Base64>`. To rotate, put a new line on top.
pub(crate) fn open(path: &Path) -> Result<Vec<SealingKey>> {
    let Some(text) = file::read(path)? else {
        let (mut secret, mut id) = ([0; 32], [0; 4]);
        let random = SystemRandom::new();
        random
            .fill(&mut secret)
            .and_then(|()| random.fill(&mut id))
            .map_err(|_| Error::Random { step: "make the key for stored secrets" })?;
        // No two keys share an id, so that a lost key is called lost and not wrong.
        let key = SealingKey { id: format!("{:08x}", u32::from_be_bytes(id)), secret };
        file::write_private(path, format!("{}:{}\n", key.id, STANDARD.encode(secret)).as_bytes())?;
        return Ok(vec![key]);
    };
    let corrupt =
        |why: String| Error::Corrupt { path: path.to_owned(), what: "keys for stored secrets", why };
    let mut keys: Vec<SealingKey> = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let key =
            parse(line.trim()).ok_or_else(|| corrupt(format!("line {} is not <id>:<key>", number + 1)))?;
        if keys.iter().any(|other| other.id == key.id) {
            return Err(corrupt(format!("the id {:?} is used twice", key.id)));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err(corrupt("it is empty".to_owned()));
    }
    Ok(keys)
}

fn parse(line: &str) -> Option<SealingKey> {
    let (id, secret) = line.split_once(':')?;
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if id.is_empty() || id.len() > 32 || !id.bytes().all(plain) {
        return None;
    }
    let secret = STANDARD.decode(secret).ok()?.try_into().ok()?;
    Some(SealingKey { id: id.to_owned(), secret })
}

#[cfg(test)]
#[path = "sealing_keys_tests.rs"]
mod tests;
