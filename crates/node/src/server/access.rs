//! Who may ask the node for what. The API server decides; its decisions are remembered for a while.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use super::Refusal;

/// How long a decision is remembered, and how many are.
const KNOWN_FOR: Duration = Duration::from_secs(120);
const ALLOWED_FOR: Duration = Duration::from_secs(300);
const DENIED_FOR: Duration = Duration::from_secs(30);
const REMEMBERED: usize = 1024;

/// A user with groups.
type User = (String, Vec<String>);

/// Who is at the other end of a connection, as far as TLS has shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub(super) peer: Option<User>,
}

/// How requests of a connection are judged.
pub(super) enum Access {
    /// They come from within.
    Trusted,
    /// The API server is asked.
    Delegated {
        kube: kube::Client,
        node: String,
        tokens: Mutex<Memory<[u8; 32], Option<User>>>,
        decisions: Mutex<Memory<(User, &'static str, &'static str), bool>>,
    },
}

/// Answers by question, each good until its time.
pub(super) struct Memory<K, V>(BTreeMap<K, (Instant, V)>);

impl<K: Ord + Clone, V: Clone> Memory<K, V> {
    fn new() -> Mutex<Self> {
        Mutex::new(Self(BTreeMap::new()))
    }

    fn get(&self, key: &K) -> Option<V> {
        self.0.get(key).filter(|(until, _)| Instant::now() < *until).map(|(_, v)| v.clone())
    }

    fn put(&mut self, key: K, value: V, good_for: Duration) {
        let now = Instant::now();
        if self.0.len() >= REMEMBERED {
            self.0.retain(|_, (until, _)| now < *until);
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(key, (now + good_for, value));
    }
}

/// The verb of a method.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes`, any of which allows a path; the narrow one first (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    match first {
        "stats" => &["stats"],
        "metrics" => &["metrics"],
        "logs" => &["log"],
        "checkpoint" => &["checkpoint"],
        "healthz" | "livez" | "readyz" => &["healthz", "proxy"],
        "pods" | "runningpods" => &["pods", "proxy"],
        "configz" => &["configz", "proxy"],
        _ => &["proxy"],
    }
}

impl Access {
    pub(super) fn delegated(kube: kube::Client, node: String) -> Self {
        Self::Delegated { kube, node, tokens: Memory::new(), decisions: Memory::new() }
    }

    /// Lets a request through or refuses it.
    pub(super) async fn check<B>(&self, caller: &Caller, request: &Request<B>) -> Result<(), Refusal> {
        let Self::Delegated { node, .. } = self else { return Ok(()) };
        let unauthorized = || Refusal(StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let header = request.headers().get(http::header::AUTHORIZATION);
        let bearer = header.and_then(|h| h.to_str().ok()?.strip_prefix("Bearer ").map(str::to_owned));
        let user = match (&caller.peer, bearer) {
            (Some(peer), _) => peer.clone(),
            (None, Some(token)) => self.review_token(&token).await?.ok_or_else(unauthorized)?,
            (None, None) => return Err(unauthorized()),
        };
        let verb = verb(request.method());
        let subresources = subresources(request.uri().path());
        for subresource in subresources {
            if self.review_access(&user, verb, subresource).await? {
                return Ok(());
            }
        }
        let resource = subresources.join(", ");
        let message = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{resource}]) on node {node}",
            user.0
        );
        Err(Refusal(StatusCode::FORBIDDEN, message))
    }

    async fn review_token(&self, token: &str) -> Result<Option<User>, Refusal> {
        let Self::Delegated { kube, tokens, .. } = self else { return Ok(None) };
        // Only the hash is kept.
        let key: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(known) = tokens.lock().get(&key) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec { token: token.to_owned(), audiences: None },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(kube.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(Refusal::internal)?;
        let status = answer.status.unwrap_or_default();
        let user = status.user.filter(|_| status.authenticated == Some(true));
        let user = user.map(|u| (u.username.unwrap_or_default(), u.groups.unwrap_or_default()));
        let good_for = if user.is_some() { KNOWN_FOR } else { DENIED_FOR };
        tokens.lock().put(key, user.clone(), good_for);
        Ok(user)
    }

    async fn review_access(
        &self,
        user: &User,
        verb: &'static str,
        subresource: &'static str,
    ) -> Result<bool, Refusal> {
        let Self::Delegated { kube, node, decisions, .. } = self else { return Ok(true) };
        let key = (user.clone(), verb, subresource);
        if let Some(known) = decisions.lock().get(&key) {
            return Ok(known);
        }
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.0.clone()),
                groups: Some(user.1.clone()),
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    version: Some("v1".to_owned()),
                    resource: Some("nodes".to_owned()),
                    subresource: Some(subresource.to_owned()),
                    name: Some(node.clone()),
                    ..ResourceAttributes::default()
                }),
                ..SubjectAccessReviewSpec::default()
            },
            ..SubjectAccessReview::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(kube.clone());
        let answer = api.create(&PostParams::default(), &review).await.map_err(Refusal::internal)?;
        let allowed = answer.status.is_some_and(|s| s.allowed);
        let good_for = if allowed { ALLOWED_FOR } else { DENIED_FOR };
        decisions.lock().put(key, allowed, good_for);
        Ok(allowed)
    }
}
