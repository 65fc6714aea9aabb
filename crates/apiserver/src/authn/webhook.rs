//! Tokens that another server knows: it is asked by a `TokenReview` and what it says is remembered for a while.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use tracing::warn;

use super::Bearers;
use crate::{bounded::Bounded, identity::Identity, outgoing::Endpoint};

/// Answers that are remembered.
const REMEMBERED: usize = 4096;
/// Longer tokens are nobody's.
const MAX_LENGTH: usize = 16 * 1024;
/// Who has not answered by then has not answered.
const PATIENCE: Duration = Duration::from_secs(10);

/// The form of the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReviewVersion {
    V1,
    V1Beta1,
}

impl ReviewVersion {
    /// The `apiVersion` in a group.
    pub(crate) fn of(self, group: &str) -> String {
        match self {
            Self::V1 => format!("{group}/v1"),
            Self::V1Beta1 => format!("{group}/v1beta1"),
        }
    }
}

/// Asks one endpoint.
pub(super) struct TokenWebhook {
    endpoint: Arc<Endpoint>,
    version: ReviewVersion,
    audiences: Vec<String>,
    remember: Duration,
    known: Mutex<Bounded<[u8; 32], Known>>,
}

/// Until when an answer counts, and whom it named.
type Known = (Instant, Option<Identity>);

#[derive(Default, Deserialize)]
#[serde(default)]
struct Answer {
    status: Status,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    authenticated: bool,
    user: User,
    audiences: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct User {
    username: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

impl TokenWebhook {
    /// `audiences` are this server's; an answer counts for `remember`.
    pub(super) fn new(
        endpoint: Arc<Endpoint>,
        version: ReviewVersion,
        audiences: Vec<String>,
        remember: Duration,
    ) -> Self {
        Self { endpoint, version, audiences, remember, known: Mutex::new(Bounded::new(REMEMBERED)) }
    }

    fn judge(&self, answer: Answer) -> Option<Identity> {
        let Status { authenticated, user, audiences } = answer.status;
        // A server that knows nothing of audiences names none.
        let for_us = audiences.is_empty() || audiences.iter().any(|a| self.audiences.contains(a));
        (authenticated && for_us && !user.username.is_empty())
            .then(|| Identity::authenticated(user.username, user.uid, user.groups, user.extra))
    }
}

#[async_trait]
impl Bearers for TokenWebhook {
    async fn holder(&self, token: &str, _: SystemTime) -> Option<Identity> {
        if token.len() > MAX_LENGTH {
            return None;
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let known = self.known.lock().get(&digest);
        if let Some((until, user)) = known
            && Instant::now() < until
        {
            return user;
        }
        let review = json!({
            "kind": "TokenReview",
            "apiVersion": self.version.of("authentication.k8s.io"),
            "metadata": {},
            "spec": { "token": token, "audiences": self.audiences },
        });
        let answer = self.endpoint.ask("", Bytes::from(review.to_string()), PATIENCE).await;
        let answer = answer.map_err(|e| e.to_string());
        // What cannot be asked now is not remembered.
        let user = match answer.and_then(|a| serde_json::from_value(a).map_err(|e| e.to_string())) {
            Ok(answer) => self.judge(answer),
            Err(error) => {
                warn!(%error, "the webhook for tokens did not answer");
                return None;
            }
        };
        let entry = (Instant::now() + self.remember, user.clone());
        self.known.lock().insert(digest, entry);
        user
    }
}

#[cfg(test)]
#[path = "webhook_tests.rs"]
mod tests;
