//! Bootstrap tokens: they go when their time is over, and each that may sign vouches for `kube-public/cluster-info`,
//! so that who has nothing but a token knows that it reads the right cluster's.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, api::Patch};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};
use tiphys_pki::detached_signature;

use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

const PREFIX: &str = "bootstrap-token-";
const CLUSTER_INFO: &str = "cluster-info";
const KUBECONFIG: &str = "kubeconfig";
const SIGNATURE: &str = "jws-kubeconfig-";

fn text<'a>(token: &'a Secret, key: &str) -> Option<&'a str> {
    std::str::from_utf8(&token.data.as_ref()?.get(key)?.0).ok()
}

/// How long the token is still good; `None`: without an end. What is no time has passed.
fn left(token: &Secret, now: Timestamp) -> Option<SignedDuration> {
    let end = text(token, "expiration")?;
    Some(end.parse::<Timestamp>().map_or(SignedDuration::ZERO, |end| end.duration_since(now)))
}

pub(crate) struct TokenCleaner {
    client: Client,
    queue: Queue<ObjectKey>,
    tokens: Reader<Secret>,
}

impl TokenCleaner {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.bootstrap_tokens.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        Self { client: tools.client, queue, tokens: informers.bootstrap_tokens.reader() }
    }
}

impl Controller for TokenCleaner {
    const NAME: &'static str = "token-cleaner";
    const SWITCH: &'static str = "token-cleaner-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.tokens.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(token) = self.tokens.get(key) else { return Ok(Verdict::Done) };
        match left(&token, Timestamp::now()) {
            None => Ok(Verdict::Done),
            Some(left) if left.is_positive() => {
                Ok(Verdict::After(left.unsigned_abs() + Duration::from_millis(1)))
            }
            Some(_) => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), token.namespace());
                gone_is_fine(api.delete(token.name(), &only(token.uid())).await)?;
                Ok(Verdict::Done)
            }
        }
    }
}

pub(crate) struct BootstrapSigner {
    client: Client,
    queue: Queue<ObjectKey>,
    tokens: Reader<Secret>,
    info: Reader<ConfigMap>,
}

/// The one thing to look at.
fn info_key() -> ObjectKey {
    ObjectKey::new("kube-public", CLUSTER_INFO)
}

impl BootstrapSigner {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.bootstrap_tokens.on_change({
            let queue = queue.clone();
            move |_| queue.add(info_key())
        });
        informers.cluster_info.on_change({
            let queue = queue.clone();
            move |_| queue.add(info_key())
        });
        let (tokens, info) = (informers.bootstrap_tokens.reader(), informers.cluster_info.reader());
        Self { client: tools.client, queue, tokens, info }
    }
}

/// The id and the secret of a token that may sign.
fn signer(token: &Secret, now: Timestamp) -> Option<(&str, &str)> {
    let (id, secret) = (text(token, "token-id")?, text(token, "token-secret")?);
    let good = |part: &str, length| {
        part.len() == length && part.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase())
    };
    let fits = good(id, 6) && good(secret, 16) && token.name().strip_prefix(PREFIX) == Some(id);
    let lives = left(token, now).is_none_or(|left| left.is_positive());
    (fits && lives && text(token, "usage-bootstrap-signing") == Some("true")).then_some((id, secret))
}

/// What must change in the map's data: signatures to set, and those to take away as `None`.
fn changes(info: &ConfigMap, tokens: &[Arc<Secret>], now: Timestamp) -> BTreeMap<String, Option<String>> {
    let data = info.data.clone().unwrap_or_default();
    let payload = data.get(KUBECONFIG).map(String::as_str).unwrap_or_default();
    let mut wanted: BTreeMap<String, String> = BTreeMap::new();
    if !payload.is_empty() {
        for (id, secret) in tokens.iter().filter_map(|token| signer(token, now)) {
            let signature = detached_signature(id, secret, payload.as_bytes());
            wanted.insert(format!("{SIGNATURE}{id}"), signature);
        }
    }
    let old = data.keys().filter(|key| key.starts_with(SIGNATURE) && !wanted.contains_key(*key));
    let gone: Vec<_> = old.map(|key| (key.clone(), None)).collect();
    let new = wanted.into_iter().filter(|(key, signature)| data.get(key) != Some(signature));
    new.map(|(key, signature)| (key, Some(signature))).chain(gone).collect()
}

impl Controller for BootstrapSigner {
    const NAME: &'static str = "bootstrap-signer";
    const SWITCH: &'static str = "bootstrap-signer-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.tokens.synced().await;
        self.info.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(info) = self.info.get(key) else { return Ok(Verdict::Done) };
        let changes = changes(&info, &self.tokens.list(), Timestamp::now());
        if !changes.is_empty() {
            let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), info.namespace());
            let patch = Patch::Merge(json!({"metadata": {"uid": info.uid()}, "data": changes}));
            gone_is_fine(api.patch(info.name(), &Default::default(), &patch).await)?;
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use serde_json::Value;

    use super::*;

    fn token(id: &str, more: &[(&str, &str)]) -> Arc<Secret> {
        let pairs =
            [("token-id", id), ("token-secret", "0123456789abcdef"), ("usage-bootstrap-signing", "true")];
        let data =
            pairs.iter().chain(more).map(|(k, v)| ((*k).to_owned(), ByteString(v.as_bytes().to_vec())));
        let mut secret = Secret { data: Some(data.collect()), ..Default::default() };
        secret.metadata.name = Some(format!("{PREFIX}{id}"));
        Arc::new(secret)
    }

    fn now() -> Timestamp {
        "2026-05-01T00:00:00Z".parse().expect("a time")
    }

    #[test]
    fn a_token_has_its_time() {
        let left = |end: &str| left(&token("abcdef", &[("expiration", end)]), now());
        assert_eq!(left("2026-05-01T00:01:00Z"), Some(SignedDuration::from_secs(60)));
        assert_eq!(left("2026-05-01T02:01:00+02:00"), Some(SignedDuration::from_secs(60)));
        assert!(!left("2026-05-01T00:00:00Z").expect("an end").is_positive());
        assert!(!left("never").expect("an end").is_positive());
        assert_eq!(super::left(&token("abcdef", &[]), now()), None);
    }

    #[test]
    fn signatures_are_those_of_the_tokens_there_are() {
        let info = |data: Value| -> ConfigMap {
            serde_json::from_value(json!({"metadata": {"name": CLUSTER_INFO}, "data": data})).expect("a map")
        };
        let tokens = [
            token("aaaaaa", &[]),
            token("bbbbbb", &[("usage-bootstrap-signing", "false")]),
            token("cccccc", &[("expiration", "2026-05-01T00:00:00Z")]),
            token("dddddd", &[("token-secret", "short")]),
        ];
        let signature = detached_signature("aaaaaa", "0123456789abcdef", b"x");
        let before = info(json!({KUBECONFIG: "x", "jws-kubeconfig-bbbbbb": "old", "other": "stays"}));
        let want = BTreeMap::from([
            ("jws-kubeconfig-aaaaaa".to_owned(), Some(signature.clone())),
            ("jws-kubeconfig-bbbbbb".to_owned(), None),
        ]);
        assert_eq!(changes(&before, &tokens, now()), want);
        let settled = info(json!({KUBECONFIG: "x", "jws-kubeconfig-aaaaaa": signature}));
        assert_eq!(changes(&settled, &tokens, now()), BTreeMap::new());
        assert_eq!(changes(&info(json!({})), &tokens, now()), BTreeMap::new(), "nothing to sign");
    }
}
