//! Tokens of OpenID Connect issuers: JSON web tokens, verified by the keys that the issuer publishes.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, Uri};
use parking_lot::{Mutex, RwLock};
use ring::signature as sig;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_cel::{Bindings, Budget, RUNTIME_BUDGET};
use tiphys_pki::es512_verifies;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Bearers, CREDENTIAL_ID, user_info};
use crate::{
    expressions::Expression,
    identity::Identity,
    outgoing::{Outgoing, Place, Proof, Spec, Trust},
};

mod config;

use config::{CLAIMS, CLAIMS_TYPE, USER, USER_TYPE};
pub use config::{Config, ConfigError, Derived, Issuer, Mapping, Rule, parse};

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

/// The issuers that are believed; others can be put in their place.
pub(crate) struct Issuers {
    outgoing: Arc<Outgoing>,
    all: RwLock<Arc<[Oidc]>>,
}

impl Issuers {
    pub(crate) fn new(issuers: Vec<Issuer>, outgoing: Arc<Outgoing>) -> Self {
        let own = Self { outgoing, all: RwLock::new(Arc::new([])) };
        own.replace(issuers);
        own
    }

    /// From now on believes these. What is known of their keys is learned anew.
    pub(crate) fn replace(&self, issuers: Vec<Issuer>) {
        let all = issuers.into_iter().map(|issuer| Oidc::new(issuer, Arc::clone(&self.outgoing)));
        *self.all.write() = all.collect();
    }
}

#[async_trait]
impl Bearers for Issuers {
    async fn holder(&self, token: &str, now: SystemTime) -> Option<Identity> {
        let all = Arc::clone(&self.all.read());
        for issuer in &*all {
            if let Some(user) = issuer.holder(token, now).await {
                return Some(user);
            }
        }
        None
    }
}

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
            "ES512" => {
                let is_it = self.kty == "EC" && self.crv == "P-521";
                return is_it && es512_verifies(&part(&self.x), &part(&self.y), message, signature);
            }
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
    claims: Value,
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

/// Why claims are not accepted. What they say stays out of the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Unaccepted {
    #[error("it has expired")]
    Expired,
    #[error("it is not yet valid")]
    Early,
    #[error("it is for somebody else")]
    Audience,
    #[error("the required claim {0} is not there, or another")]
    Required(String),
    #[error("it names no user")]
    Nobody,
    #[error("its email is not verified")]
    Unverified,
    #[error("its {0} are no texts")]
    NoTexts(&'static str),
    #[error("validation expression '{expression}' failed: {message}")]
    Rule { expression: String, message: String },
    #[error("{0}")]
    Evaluation(String),
}

/// What an expression gives; everything about one token is paid for from one budget.
struct Evaluated<'a> {
    bindings: Bindings<'a>,
    budget: Budget,
}

impl<'a> Evaluated<'a> {
    fn new(name: &'a str, value: tiphys_cel::Value<'a>) -> Self {
        Self { bindings: Bindings::new().with(name, value), budget: Budget::new(RUNTIME_BUDGET) }
    }

    fn value(&mut self, expression: &'a Expression) -> Result<tiphys_cel::Value<'a>, Unaccepted> {
        let value = expression.evaluate(&self.bindings, &mut self.budget);
        value.and_then(|result| result).map_err(Unaccepted::Evaluation)
    }

    fn text(&mut self, what: &'static str, expression: &'a Expression) -> Result<String, Unaccepted> {
        let value = self.value(expression)?;
        value.as_str().map(str::to_owned).ok_or(Unaccepted::NoTexts(what))
    }

    /// One text, several or none; those that are empty do not count.
    fn texts(&mut self, what: &'static str, expression: &'a Expression) -> Result<Vec<String>, Unaccepted> {
        let json = self.value(expression)?.to_json().ok_or(Unaccepted::NoTexts(what))?;
        let mut all = match &json {
            Value::Null => Vec::new(),
            json => texts(Some(json)).ok_or(Unaccepted::NoTexts(what))?,
        };
        all.retain(|text| !text.is_empty());
        Ok(all)
    }

    fn holds(&mut self, rules: &'a [Rule]) -> Result<(), Unaccepted> {
        for Rule { expression, message } in rules {
            if !matches!(self.value(expression)?, tiphys_cel::Value::Bool(true)) {
                let (expression, message) = (expression.source.clone(), message.clone());
                return Err(Unaccepted::Rule { expression, message });
            }
        }
        Ok(())
    }
}

/// Whom claims name, by the issuer's mappings.
fn identity(issuer: &Issuer, claims: &Value, now: u64) -> Result<Identity, Unaccepted> {
    let time = |name: &str| claims[name].as_f64();
    // Seconds need no more precision than a float has.
    #[allow(clippy::cast_precision_loss)]
    let (now, soon) = (now as f64, now.saturating_add(SKEW) as f64);
    if time("exp").is_none_or(|end| end <= now) {
        return Err(Unaccepted::Expired);
    }
    if time("nbf").is_some_and(|start| start > soon) {
        return Err(Unaccepted::Early);
    }
    let audiences = texts(claims.get("aud")).unwrap_or_default();
    if !audiences.iter().any(|audience| issuer.audiences.contains(audience)) {
        return Err(Unaccepted::Audience);
    }
    for (claim, wanted) in &issuer.required {
        if claims[claim].as_str() != Some(wanted) {
            return Err(Unaccepted::Required(claim.clone()));
        }
    }
    let mut evaluated = Evaluated::new(CLAIMS, tiphys_cel::Value::from_json(claims, &CLAIMS_TYPE));
    let name = match &issuer.username {
        Mapping::Claim { claim, prefix } => match claims[claim].as_str().unwrap_or_default() {
            "" => String::new(),
            _ if claim == "email" && claims.get("email_verified").is_some_and(|v| *v != true) => {
                return Err(Unaccepted::Unverified);
            }
            name => format!("{prefix}{name}"),
        },
        Mapping::Expression(Derived(expression)) => evaluated.text("username", expression)?,
    };
    if name.is_empty() {
        return Err(Unaccepted::Nobody);
    }
    let groups = match &issuer.groups {
        Some(Mapping::Claim { claim, prefix }) => match claims.get(claim) {
            None | Some(Value::Null) => Vec::new(),
            some => {
                let groups = texts(some).ok_or(Unaccepted::NoTexts("groups"))?;
                groups.into_iter().map(|group| format!("{prefix}{group}")).collect()
            }
        },
        Some(Mapping::Expression(Derived(expression))) => evaluated.texts("groups", expression)?,
        None => Vec::new(),
    };
    let uid = match &issuer.uid {
        Some(Mapping::Claim { claim, .. }) => {
            claims[claim].as_str().ok_or(Unaccepted::NoTexts("uid"))?.to_owned()
        }
        Some(Mapping::Expression(Derived(expression))) => evaluated.text("uid", expression)?,
        None => String::new(),
    };
    let mut extra = BTreeMap::new();
    if let Some(id) = claims["jti"].as_str() {
        extra.insert(CREDENTIAL_ID.to_owned(), vec![format!("JTI={id}")]);
    }
    for (key, Derived(expression)) in &issuer.extra {
        let values = evaluated.texts("extra", expression)?;
        if !values.is_empty() {
            extra.insert(key.clone(), values);
        }
    }
    evaluated.holds(&issuer.claim_rules)?;
    if !issuer.user_rules.is_empty() {
        // As the claims have it: nobody has been told yet that this user is authenticated.
        let user = Identity::impersonated(name.clone(), uid.clone(), groups.clone(), extra.clone());
        let mut shown = json!({ "uid": "", "extra": {} });
        if let (Some(shown), Value::Object(info)) = (shown.as_object_mut(), user_info(&user)) {
            shown.extend(info);
        }
        let user = tiphys_cel::Value::from_json(&shown, &USER_TYPE);
        Evaluated::new(USER, user).holds(&issuer.user_rules)?;
    }
    Ok(Identity::authenticated(name, uid, groups, extra))
}

impl Oidc {
    pub(super) fn new(issuer: Issuer, outgoing: Arc<Outgoing>) -> Self {
        Self { issuer, outgoing, keys: Mutex::default(), asking: tokio::sync::Mutex::default() }
    }

    fn known(&self) -> Keys {
        self.keys.lock().clone()
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
        *self.keys.lock() = keys.clone();
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
                debug!(issuer = self.issuer.url, %why, "a token is not accepted");
                None
            }
        }
    }
}

#[cfg(test)]
#[path = "oidc_tests.rs"]
mod tests;
