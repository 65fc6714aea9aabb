//! Service-account tokens: made, and verified against what exists.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use parking_lot::Mutex;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tiphys_pki::TokenKey;
use uuid::Uuid;

use super::{
    CREDENTIAL_ID,
    claims::{Claims, Header, Private, Reference},
};
use crate::{
    bounded::Bounded,
    identity::{Identity, service_account_user},
    source::{Entry, Source},
};

/// Longer tokens are not looked at.
const MAX_LENGTH: usize = 16 * 1024;
/// Verified tokens that are remembered.
const REMEMBERED: usize = 4096;
/// How long a token of an object lives on that is being deleted, so that its pod can say goodbye.
const DELETION_LEEWAY: Duration = Duration::from_secs(60);
/// By how much the clocks of API servers may differ.
const CLOCK_SKEW: u64 = 60;

/// Makes and verifies tokens with one key.
pub struct Tokens {
    key: Arc<TokenKey>,
    issuer: String,
    audiences: Vec<String>,
    source: Arc<dyn Source>,
    /// Claims whose signature, issuer and shape are known to be good, by the token's digest.
    verified: Mutex<Bounded<[u8; 32], Arc<Claims>>>,
}

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidToken {
    #[error("the token is not a JSON web token")]
    Malformed,
    #[error("the token is not signed by this cluster")]
    Signature,
    #[error("the token was issued by {0:?}")]
    Issuer(String),
    #[error("the token is not yet valid")]
    NotYetValid,
    #[error("the token has expired")]
    Expired,
    #[error("the token's audiences are {0:?}")]
    Audience(Vec<String>),
    #[error("the {kind} that the token is bound to no longer exists")]
    Gone { kind: &'static str },
}

/// For whom, for what and for how long a token is.
pub(super) struct Grant {
    pub(super) audiences: Vec<String>,
    pub(super) lifetime: Duration,
    pub(super) claims: Private,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    uid: String,
    deletion_timestamp: Option<jiff::Timestamp>,
}

#[derive(Deserialize)]
struct WithMeta {
    metadata: Meta,
}

impl Tokens {
    /// `issuer` is the URL that tokens name; it is also the audience of tokens for the API server itself.
    pub fn new(key: Arc<TokenKey>, issuer: impl Into<String>, source: Arc<dyn Source>) -> Self {
        let issuer = issuer.into();
        Self {
            key,
            audiences: vec![issuer.clone()],
            issuer,
            source,
            verified: Mutex::new(Bounded::new(REMEMBERED)),
        }
    }

    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) fn key(&self) -> &TokenKey {
        &self.key
    }

    pub(super) fn source(&self) -> &dyn Source {
        &*self.source
    }

    /// The audiences that the API server itself answers to.
    pub fn audiences(&self) -> &[String] {
        &self.audiences
    }

    /// Makes a token; returns it with its id.
    pub(super) fn issue(&self, grant: Grant, now: SystemTime) -> Result<(String, String), tiphys_pki::Error> {
        let iat = unix(now);
        let id = Uuid::new_v4().to_string();
        let claims = Claims {
            sub: service_account_user(&grant.claims.namespace, &grant.claims.serviceaccount.name),
            aud: grant.audiences,
            exp: iat.saturating_add(grant.lifetime.as_secs()),
            iat,
            nbf: iat,
            iss: self.issuer.clone(),
            jti: id.clone(),
            kubernetes: grant.claims,
        };
        let header = Header { alg: "ES256".to_owned(), kid: self.key.id().to_owned() };
        let mut token = encode(&header);
        token.push('.');
        token.push_str(&encode(&claims));
        let signature = self.key.sign(token.as_bytes())?;
        token.push('.');
        token.push_str(&URL_SAFE_NO_PAD.encode(signature));
        Ok((token, id))
    }

    /// Who holds `token`, as far as the API server itself is concerned.
    pub fn authenticate(&self, token: &str, now: SystemTime) -> Result<Identity, InvalidToken> {
        self.authenticate_for(token, &self.audiences, now).map(|(identity, _)| identity)
    }

    /// Who holds `token`, and for which of `audiences` it is meant: at least one.
    pub fn authenticate_for(
        &self,
        token: &str,
        audiences: &[String],
        now: SystemTime,
    ) -> Result<(Identity, Vec<String>), InvalidToken> {
        let claims = self.verified(token)?;
        let now_seconds = unix(now);
        if now_seconds >= claims.exp {
            return Err(InvalidToken::Expired);
        }
        if now_seconds.saturating_add(CLOCK_SKEW) < claims.nbf {
            return Err(InvalidToken::NotYetValid);
        }
        let meant: Vec<String> = audiences.iter().filter(|a| claims.aud.contains(a)).cloned().collect();
        if meant.is_empty() {
            return Err(InvalidToken::Audience(claims.aud.clone()));
        }
        self.bound_objects_exist(&claims.kubernetes, now)?;
        Ok((identity(&claims), meant))
    }

    /// The claims of a token that this cluster has signed.
    fn verified(&self, token: &str) -> Result<Arc<Claims>, InvalidToken> {
        if token.len() > MAX_LENGTH {
            return Err(InvalidToken::Malformed);
        }
        let digest: [u8; 32] = Sha256::digest(token).into();
        let remembered = || self.verified.lock();
        if let Some(claims) = remembered().get(&digest) {
            return Ok(claims);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(InvalidToken::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(InvalidToken::Malformed)?;
        let header: Header = decode(header)?;
        let claims: Claims = decode(payload)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| InvalidToken::Malformed)?;
        if claims.iss != self.issuer {
            return Err(InvalidToken::Issuer(claims.iss));
        }
        if header.alg != "ES256" || !self.key.verify(signed.as_bytes(), &signature) {
            return Err(InvalidToken::Signature);
        }
        let account = &claims.kubernetes;
        if claims.sub != service_account_user(&account.namespace, &account.serviceaccount.name) {
            return Err(InvalidToken::Malformed);
        }
        let claims = Arc::new(claims);
        remembered().insert(digest, Arc::clone(&claims));
        Ok(claims)
    }

    /// A token ends with its account, and with the pod, secret or node that it is bound to.
    fn bound_objects_exist(&self, claims: &Private, now: SystemTime) -> Result<(), InvalidToken> {
        let namespace = claims.namespace.as_str();
        // The node of a pod is told for information; only a token bound to nothing else is bound to it.
        let node = if claims.pod.is_none() && claims.secret.is_none() { &claims.node } else { &None };
        let bound = [
            ("service account", "serviceaccounts", namespace, Some(&claims.serviceaccount)),
            ("pod", "pods", namespace, claims.pod.as_ref()),
            ("secret", "secrets", namespace, claims.secret.as_ref()),
            ("node", "nodes", "", node.as_ref()),
        ];
        for (kind, resource, namespace, reference) in bound {
            let Some(reference) = reference else { continue };
            let entry = self.source.get("", resource, namespace, &reference.name);
            if !entry.is_some_and(|entry| is_alive(&entry, &reference.uid, now)) {
                return Err(InvalidToken::Gone { kind });
            }
        }
        Ok(())
    }
}

fn is_alive(entry: &Entry, uid: &str, now: SystemTime) -> bool {
    let Some(WithMeta { metadata }) = entry.read() else { return false };
    let gone = metadata.deletion_timestamp.is_some_and(|at| SystemTime::from(at) + DELETION_LEEWAY < now);
    metadata.uid == uid && !gone
}

fn identity(claims: &Claims) -> Identity {
    let mut extra = BTreeMap::new();
    let mut note = |key: &str, value: &str| {
        if !value.is_empty() {
            extra.insert(format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]);
        }
    };
    let Private { namespace, node, pod, serviceaccount, .. } = &claims.kubernetes;
    for (reference, name_key, uid_key) in [(pod, "pod-name", "pod-uid"), (node, "node-name", "node-uid")] {
        if let Some(Reference { name, uid }) = reference {
            note(name_key, name);
            note(uid_key, uid);
        }
    }
    if !claims.jti.is_empty() {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={}", claims.jti)]);
    }
    Identity::service_account(namespace, &serviceaccount.name, &serviceaccount.uid, extra)
}

fn encode(part: &impl serde::Serialize) -> String {
    // Structs of strings and numbers always have a JSON form.
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(part).unwrap_or_default())
}

fn decode<T: serde::de::DeserializeOwned>(part: &str) -> Result<T, InvalidToken> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| InvalidToken::Malformed)?;
    serde_json::from_slice(&bytes).map_err(|_| InvalidToken::Malformed)
}

fn unix(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
