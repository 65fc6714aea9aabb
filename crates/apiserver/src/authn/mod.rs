//! Who a request comes from.
//!
//! A client certificate or a bearer token proves an identity. A request without either is anonymous, and that
//! is enough for health and version only, if nothing else is configured. Credentials that prove nothing are an error even there.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderMap, header::AUTHORIZATION};
use parking_lot::RwLock;
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tiphys_api::{
    meta,
    status::{Reason, Status},
};
use tiphys_pki::{ClientTrust, Clock, Peer, Rejected};

use crate::{
    identity::Identity,
    outgoing::{Outgoing, Spec, SpecError},
    source::Source,
};

mod bootstrap;
mod claims;
mod impersonation;
mod issuer_documents;
mod oidc;
mod request_header;
mod review;
mod token_request;
mod tokens;
mod webhook;

pub use self::{
    bootstrap::BootstrapTokens,
    impersonation::{impersonate, strip as strip_impersonation},
    issuer_documents::{JWKS_PATH, OPENID_CONFIGURATION_PATH, jwks, openid_configuration},
    oidc::{Config as IssuersConfig, ConfigError, Derived, Issuer, Mapping, Rule, parse as parse_config},
    request_header::FrontProxy,
    review::token_review,
    token_request::token_request,
    tokens::{InvalidToken, Tokens},
    webhook::ReviewVersion,
};

pub(crate) use self::{oidc::Issuers, review::user_info};

/// Names the credential in an identity's extra.
const CREDENTIAL_ID: &str = "authentication.kubernetes.io/credential-id";

/// Who needs no credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anonymous {
    /// Everybody; permissions decide.
    Everywhere,
    /// Who asks for one of these, compared with the whole path.
    At(Vec<String>),
}

/// By default health and version are all that one gets without credentials.
impl Default for Anonymous {
    fn default() -> Self {
        Self::At(["/healthz", "/livez", "/readyz", "/version"].map(str::to_owned).into())
    }
}

impl Anonymous {
    fn lets(&self, path: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::At(paths) => paths.iter().any(|allowed| allowed == path),
        }
    }
}

/// What a TLS connection proves about its client. Made once a connection; clones are the same.
#[derive(Clone, Debug)]
pub struct Connection(Arc<Proven>);

#[derive(Debug)]
struct Proven {
    /// Whose certificate it is, and until when.
    peer: Result<(Identity, SystemTime), Rejected>,
    /// It is a front proxy's until then.
    proxy: Option<SystemTime>,
}

/// A way to tell who holds a bearer token that is no service account's.
#[async_trait]
pub trait Bearers: Send + Sync + 'static {
    /// `None`: it does not know the token, or does not accept it.
    async fn holder(&self, token: &str, now: SystemTime) -> Option<Identity>;
}

/// Who else than this cluster tells who somebody is. Issuers are asked before the webhook.
#[derive(Clone, Debug, Default)]
pub struct Others {
    /// OpenID Connect.
    pub issuers: Vec<Issuer>,
    pub anonymous: Anonymous,
    pub webhook: Option<WebhookOptions>,
}

/// A server that is asked who holds a token.
#[derive(Clone, Debug)]
pub struct WebhookOptions {
    pub endpoint: Spec,
    pub version: ReviewVersion,
    /// For how long an answer counts.
    pub remember: Duration,
}

impl Others {
    /// All ways to tell who holds a token that is no service account's; `audiences` are this server's.
    ///
    /// # Errors
    /// The webhook's endpoint can be none.
    pub(crate) fn bearers(
        self,
        source: &Arc<dyn Source>,
        outgoing: &Arc<Outgoing>,
        issuers: &Arc<Issuers>,
        audiences: &[String],
    ) -> Result<Vec<Arc<dyn Bearers>>, SpecError> {
        let mut all: Vec<Arc<dyn Bearers>> = vec![Arc::new(BootstrapTokens::new(Arc::clone(source)))];
        all.push(Arc::clone(issuers) as _);
        if let Some(WebhookOptions { endpoint, version, remember }) = self.webhook {
            let endpoint = outgoing.endpoint(&endpoint)?;
            all.push(Arc::new(webhook::TokenWebhook::new(endpoint, version, audiences.to_vec(), remember)));
        }
        Ok(all)
    }
}

/// Turns credentials into identities.
pub struct Authenticator {
    trust: ClientTrust,
    tokens: Arc<Tokens>,
    front_proxy: Option<FrontProxy>,
    /// Asked in order for tokens that `tokens` does not know.
    bearers: Vec<Arc<dyn Bearers>>,
    anonymous: RwLock<Arc<Anonymous>>,
    clock: Clock,
}

/// Why a request is not let in.
#[derive(Debug, thiserror::Error)]
pub enum Unauthenticated {
    #[error("the request has no credentials")]
    NoCredentials,
    #[error("the Authorization header is malformed")]
    MalformedHeader,
    #[error("{0}")]
    Certificate(#[from] Rejected),
    #[error("the client's certificate has expired")]
    CertificateExpired,
    #[error("{0}")]
    Token(#[from] InvalidToken),
}

impl From<Unauthenticated> for Status {
    /// The 401. An expired credential is named, because its owner can do something about it; about others the
    /// answer says nothing.
    fn from(error: Unauthenticated) -> Self {
        let expired = match &error {
            Unauthenticated::CertificateExpired | Unauthenticated::Token(InvalidToken::Expired) => true,
            Unauthenticated::Certificate(rejected) => rejected.expired(),
            _ => false,
        };
        let message = match (expired, error) {
            (true, Unauthenticated::Token(_)) => "Unauthorized: the token has expired",
            (true, _) => "Unauthorized: the client certificate has expired",
            (false, _) => "Unauthorized",
        };
        Self::new(Reason::Unauthorized, message)
    }
}

impl Authenticator {
    /// `trust` verifies client certificates, `tokens` service-account tokens.
    pub fn new(trust: ClientTrust, tokens: Arc<Tokens>, clock: Clock) -> Self {
        Self { trust, tokens, front_proxy: None, bearers: Vec::new(), anonymous: RwLock::default(), clock }
    }

    /// The same, that believes a front proxy, too.
    #[must_use]
    pub fn with_front_proxy(self, front_proxy: FrontProxy) -> Self {
        Self { front_proxy: Some(front_proxy), ..self }
    }

    /// The same, that takes more sorts of tokens.
    #[must_use]
    pub fn with_bearers(self, bearers: Vec<Arc<dyn Bearers>>) -> Self {
        Self { bearers, ..self }
    }

    /// From now on lets these in without credentials.
    pub fn let_in(&self, anonymous: Anonymous) {
        *self.anonymous.write() = Arc::new(anonymous);
    }

    fn lets_in(&self, path: &str) -> bool {
        self.anonymous.read().lets(path)
    }

    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }

    /// Judges the certificates of a new connection: `chain` is what rustls' `peer_certificates()` returns.
    pub fn connection(&self, chain: Option<&[CertificateDer<'_>]>) -> Connection {
        let (chain, now) = (chain.unwrap_or_default(), (self.clock)());
        let peer = self.trust.verify(chain, now).map(|peer| (peer_identity(&peer), peer.not_after));
        let proxy =
            self.front_proxy.as_ref().filter(|_| !chain.is_empty()).and_then(|proxies| {
                proxies.trust.verify(chain, now).ok().filter(|peer| proxies.is_proxy(peer))
            });
        Connection(Arc::new(Proven { peer, proxy: proxy.map(|proxy| proxy.not_after) }))
    }

    /// Who makes a request of `path` on `connection`.
    ///
    /// What a front proxy says wins over a certificate, and that over a token. Impersonation is a step of its own: see [`impersonate`].
    pub async fn authenticate(
        &self,
        connection: &Connection,
        headers: &HeaderMap,
        path: &str,
    ) -> Result<Identity, Unauthenticated> {
        let now = (self.clock)();
        let Connection(proven) = connection;
        let vouched = proven.proxy.filter(|not_after| now <= *not_after);
        if let Some(user) = vouched.and_then(|_| request_header::named(headers)) {
            return Ok(user);
        }
        let certificate = match &proven.peer {
            Ok((user, not_after)) if now <= *not_after => return Ok(user.clone()),
            Ok(_) => Some(Unauthenticated::CertificateExpired),
            Err(Rejected::Absent) => None,
            Err(rejected) => Some(rejected.clone().into()),
        };
        match (bearer(headers)?, certificate) {
            (Some(token), _) => self.holder(token, now).await,
            (None, Some(rejected)) => Err(rejected),
            (None, None) if self.lets_in(path) => Ok(Identity::anonymous()),
            (None, None) => Err(Unauthenticated::NoCredentials),
        }
    }

    /// Who holds a token.
    async fn holder(&self, token: &str, now: SystemTime) -> Result<Identity, Unauthenticated> {
        match self.tokens.authenticate(token, now) {
            Ok(user) => Ok(user),
            Err(error) => self.other_holder(token, now).await.ok_or(Unauthenticated::Token(error)),
        }
    }

    /// Who holds a token that is no service account's.
    pub(super) async fn other_holder(&self, token: &str, now: SystemTime) -> Option<Identity> {
        for bearers in &self.bearers {
            if let Some(user) = bearers.holder(token, now).await {
                return Some(user);
            }
        }
        None
    }

    /// Where the time comes from.
    pub fn clock(&self) -> Clock {
        Arc::clone(&self.clock)
    }

    /// The time that credentials are judged at.
    pub fn now(&self) -> SystemTime {
        (self.clock)()
    }
}

fn peer_identity(peer: &Peer) -> Identity {
    let extra = BTreeMap::from([(CREDENTIAL_ID.to_owned(), vec![peer.credential_id.clone()])]);
    Identity::authenticated(peer.user.clone(), "", peer.groups.clone(), extra)
}

/// A request object with its answer.
pub(crate) fn answered(mut asked: Value, status: Value) -> Value {
    meta::as_map(&mut asked).insert("status".to_owned(), status);
    asked
}

/// The token of `Authorization: Bearer <token>`. Other schemes count as no credentials, as upstream has it.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unauthenticated> {
    let Some(value) = headers.get(AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| Unauthenticated::MalformedHeader)?.trim();
    let Some((scheme, token)) = value.split_once(' ') else { return Ok(None) };
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Ok(None);
    }
    match token.trim() {
        "" => Ok(None),
        token => Ok(Some(token)),
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
