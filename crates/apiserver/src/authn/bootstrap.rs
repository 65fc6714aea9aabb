//! Bootstrap tokens: `abcdef.0123456789abcdef`, each a Secret in `kube-system`. Who holds one may do little more than
//! ask for a certificate.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::Bearers;
use crate::{identity::Identity, source::Source};

const TYPE: &str = "bootstrap.kubernetes.io/token";
const NAMESPACE: &str = "kube-system";
const GROUP: &str = "system:bootstrappers";

pub struct BootstrapTokens {
    source: Arc<dyn Source>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    metadata: Metadata,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    deletion_timestamp: Option<String>,
}

impl Secret {
    fn text(&self, key: &str) -> Option<String> {
        String::from_utf8(STANDARD.decode(self.data.get(key)?).ok()?).ok()
    }
}

/// The two parts of a token: its id, and what only its holder knows.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let good = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    (good(id, 6) && good(secret, 16)).then_some((id, secret))
}

/// Whether a token may give this group.
fn is_group(group: &str) -> bool {
    let plain = |b: u8| b.is_ascii_digit() || b.is_ascii_lowercase();
    let Some(rest) = group.strip_prefix("system:bootstrappers:") else { return false };
    rest.len() <= 256
        && rest.bytes().all(|b| plain(b) || matches!(b, b':' | b'-'))
        && rest.bytes().last().is_some_and(plain)
}

/// Takes as long whatever the texts share.
fn same(a: &str, b: &str) -> bool {
    let different = a.bytes().zip(b.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    a.len() == b.len() && std::hint::black_box(different) == 0
}

impl BootstrapTokens {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    fn find(&self, token: &str, now: SystemTime) -> Option<Identity> {
        let (id, sent) = parts(token)?;
        let entry = self.source.get("", "secrets", NAMESPACE, &format!("bootstrap-token-{id}"))?;
        let secret: Secret = entry.read()?;
        let says = |key: &str| secret.text(key).unwrap_or_default();
        if secret.metadata.deletion_timestamp.is_some()
            || secret.kind != TYPE
            || !same(&says("token-secret"), sent)
            || says("token-id") != id
            || says("usage-bootstrap-authentication") != "true"
        {
            return None;
        }
        if let Some(end) = secret.text("expiration") {
            // What is no time has passed.
            let end: jiff::Timestamp = end.parse().ok()?;
            let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            if end.as_second() <= i64::try_from(now).unwrap_or(i64::MAX) {
                return None;
            }
        }
        let more = says("auth-extra-groups");
        let more: Vec<&str> = more.split(',').map(str::trim).filter(|group| !group.is_empty()).collect();
        if !more.iter().all(|group| is_group(group)) {
            return None;
        }
        let mut groups = vec![GROUP.to_owned()];
        for group in more {
            if !groups.iter().any(|known| known == group) {
                groups.push(group.to_owned());
            }
        }
        Some(Identity::authenticated(format!("system:bootstrap:{id}"), "", groups, BTreeMap::new()))
    }
}

#[async_trait]
impl Bearers for BootstrapTokens {
    async fn holder(&self, token: &str, now: SystemTime) -> Option<Identity> {
        self.find(token, now)
    }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
