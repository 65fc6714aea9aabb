//! Tokens of OpenID Connect issuers: JSON web tokens, verified by the keys that the issuer publishes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri};
use ring::signature as sig;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Bearers, CREDENTIAL_ID};
use crate::{
    identity::Identity,
    outgoing::{Outgoing, Place, Proof, Spec, Trust},
};

mod config;

pub use config::{ConfigError, Issuer, Mapping, parse};

/// Longer tokens are not looked at.
const MAX_LENGTH: usize = 16 * 1024;
/// An issuer has no more keys than this.
const MAX_KEYS: usize = 64;
/// An issuer's keys are asked for at most this often.
const PAUSE: Duration = Duration::from_secs(10);
/// So long keys count without being asked for again.
const FRESH: Duration = Duration::from_secs(3600);
const PATIENCE: Duration = Duration::from_secs(10);
/// By how much an issuer's clock may be ahead.
const SKEW: u64 = 300;

/// Verifies the tokens of one issuer.
pub(super) struct Oidc {
    issuer: Issuer,
    outgoing: Arc<Outgoing>,
    keys: Mutex<Keys>,
    /// Held by whoever asks for the keys.
    asking: tokio::sync::Mutex<()>,
}

#[derive(Clone, Default)]
struct Keys {
    all: Arc<Vec<Key>>,
    asked: Option<Instant>,
}

/// A key of a JSON web key set that signatures can be verified with.
#[derive(Clone, Debug, Deserialize)]
struct Key {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    alg: String,
    #[serde(default, rename = "use")]
    purpose: String,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

impl Key {
    /// Whether `signature` is the key's over `message` by this algorithm.
    fn verifies(&self, alg: &str, message: &[u8], signature: &[u8]) -> bool {
        let part = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        if (!self.alg.is_empty() && self.alg != alg) || !matches!(self.purpose.as_str(), "" | "sig") {
            return false;
        }
        let rsa: &sig::RsaParameters = match alg {
            "RS256" => &sig::RSA_PKCS1_2048_8192_SHA256,
            "RS384" => &sig::RSA_PKCS1_2048_8192_SHA384,
            "RS512" => &sig::RSA_PKCS1_2048_8192_SHA512,
            "PS256" => &sig::RSA_PSS_2048_8192_SHA256,
            "PS384" => &sig::RSA_PSS_2048_8192_SHA384,
            "PS512" => &sig::RSA_PSS_2048_8192_SHA512,
            "ES256" | "ES384" => {
                let (curve, params): (_, &'static dyn sig::VerificationAlgorithm) = match alg {
                    "ES256" => ("P-256", &sig::ECDSA_P256_SHA256_FIXED),
                    _ => ("P-384", &sig::ECDSA_P384_SHA384_FIXED),
                };
                let point = [&[4][..], &part(&self.x), &part(&self.y)].concat();
                let key = sig::UnparsedPublicKey::new(params, point);
                return self.kty == "EC" && self.crv == curve && key.verify(message, signature).is_ok();
            }
            _ => return false,
        };
        let key = sig::RsaPublicKeyComponents { n: part(&self.n), e: part(&self.e) };
        self.kty == "RSA" && key.verify(rsa, message, signature).is_ok()
    }
}

/// A token in its parts; what is signed, the header, the claims and the signature.
struct Parts<'a> {
    signed: &'a str,
    header: Header,
    claims: Map<String, Value>,
    signature: Vec<u8>,
}

fn parts(token: &str) -> Option<Parts<'_>> {
    if token.len() > MAX_LENGTH {
        return None;
    }
    let (signed, signature) = token.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    Some(Parts {
        signed,
        header: serde_json::from_slice(&decode(header)?).ok()?,
        claims: serde_json::from_slice(&decode(claims)?).ok()?,
        signature: decode(signature)?,
    })
}

/// One text or several.
fn texts(value: Option<&Value>) -> Option<Vec<String>> {
    match value? {
        Value::String(one) => Some(vec![one.clone()]),
        Value::Array(many) => many.iter().map(|v| v.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

/// Whom claims name, by the issuer's mappings; `Err` tells why they are not accepted.
fn identity(issuer: &Issuer, claims: &Map<String, Value>, now: u64) -> Result<Identity, &'static str> {
    let time = |name: &str| claims.get(name).and_then(Value::as_f64);
    // Seconds need no more precision than a float has.
    #[allow(clippy::cast_precision_loss)]
    let (now, soon) = (now as f64, now.saturating_add(SKEW) as f64);
    if time("exp").is_none_or(|end| end <= now) {
        return Err("it has expired");
    }
    if time("nbf").is_some_and(|start| start > soon) {
        return Err("it is not yet valid");
    }
    let audiences = texts(claims.get("aud")).unwrap_or_default();
    if !audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
        return Err("it is for somebody else");
    }
    for (claim, wanted) in &issuer.required {
        if claims.get(claim).and_then(Value::as_str) != Some(wanted) {
            return Err("a required claim is not there, or another");
        }
    }
    let username = &issuer.username;
    let name = claims.get(&username.claim).and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err("it names no user");
    }
    if username.claim == "email" && claims.get("email_verified").is_some_and(|verified| verified != true) {
        return Err("its email is not verified");
    }
    let groups = match &issuer.groups {
        Some(Mapping { claim, prefix }) => match claims.get(claim) {
            None | Some(Value::Null) => Vec::new(),
            some => {
                let groups = texts(some).ok_or("its groups are no texts")?;
                groups.into_iter().map(|group| format!("{prefix}{group}")).collect()
            }
        },
        None => Vec::new(),
    };
    let uid = match &issuer.uid {
        Some(claim) => claims.get(claim).and_then(Value::as_str).ok_or("its uid is no text")?,
        None => "",
    };
    let mut extra = BTreeMap::new();
    if let Some(id) = claims.get("jti").and_then(Value::as_str) {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    Ok(Identity::authenticated(format!("{}{name}", username.prefix), uid, groups, extra))
}

impl Oidc {
    pub(super) fn new(issuer: Issuer, outgoing: Arc<Outgoing>) -> Self {
        Self { issuer, outgoing, keys: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> Keys {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    async fn fetch(&self, url: &str) -> Result<Value, String> {
        let trust = self.issuer.authority.clone().map_or(Trust::System, Trust::Bundle);
        let spec = Spec { place: Place::Url(url.to_owned()), trust, proof: Proof::None };
        let endpoint = self.outgoing.endpoint(&spec).map_err(|e| e.to_string())?;
        let uri: Uri = url.parse().map_err(|_| format!("{url:?} is no URL"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        endpoint.get(path, HeaderMap::new(), PATIENCE).await.map_err(|e| e.to_string())
    }

    /// Asks the issuer for its keys, and keeps those that can be used.
    async fn ask(&self) -> Result<Vec<Key>, String> {
        let document = self.fetch(&self.issuer.discovery()).await?;
        if document["issuer"] != self.issuer.url.as_str() {
            return Err(format!("it says that it is {}", document["issuer"]));
        }
        let keys = document["jwks_uri"].as_str().filter(|url| url.starts_with("https://"));
        let set = self.fetch(keys.ok_or("it does not say where its keys are")?).await?;
        let listed = set["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        Ok(listed.iter().filter_map(|key| Key::deserialize(key).ok()).take(MAX_KEYS).collect())
    }

    /// Keys that are newer than `than`, if they are to be had now.
    async fn refresh(&self, than: Option<Instant>) -> Keys {
        let _turn = self.asking.lock().await;
        let known = self.known();
        if known.asked != than || known.asked.is_some_and(|at| at.elapsed() < PAUSE) {
            return known;
        }
        let all = match self.ask().await {
            Ok(all) => Arc::new(all),
            Err(error) => {
                warn!(issuer = self.issuer.url, error, "cannot learn the keys of an issuer of tokens");
                known.all
            }
        };
        let keys = Keys { all, asked: Some(Instant::now()) };
        *self.keys.lock().unwrap_or_else(PoisonError::into_inner) = keys.clone();
        keys
    }

    /// Whether the token is signed with one of the issuer's keys; these are asked for where none of those known fits.
    async fn is_signed(&self, token: &Parts<'_>) -> bool {
        let fits = |keys: &Keys| {
            let named = |key: &&Key| token.header.kid.is_empty() || key.kid == token.header.kid;
            keys.all
                .iter()
                .filter(named)
                .any(|key| key.verifies(&token.header.alg, token.signed.as_bytes(), &token.signature))
        };
        let known = self.known();
        let fresh = known.asked.is_some_and(|at| at.elapsed() < FRESH);
        (fresh && fits(&known)) || fits(&self.refresh(known.asked).await)
    }
}

#[async_trait]
impl Bearers for Oidc {
    async fn holder(&self, token: &str, now: SystemTime) -> Option<Identity> {
        let token = parts(token)?;
        if token.claims.get("iss").and_then(Value::as_str) != Some(&self.issuer.url) {
            return None;
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // What would not be accepted is not worth asking for keys.
        match identity(&self.issuer, &token.claims, now) {
            Ok(user) => self.is_signed(&token).await.then_some(user),
            Err(why) => {
                debug!(issuer = self.issuer.url, why, "a token is not accepted");
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;
