//! Secrets of the type `kubernetes.io/service-account-token`: what somebody makes for an account gets a token, and
//! goes with the account.
//!
//! The token is one that the API server gives out for the Secret (`serviceaccounts/token`), for as long as it gives any:
//! it ends with the Secret, and whoever fills Secrets in needs no key to sign with. None is made for accounts by itself.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client,
    api::{Patch, PostParams},
};
use serde_json::json;
use tiphys_api::meta::SERVICE_ACCOUNT_NAME;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::{BY_ACCOUNT, BY_SECRET, Informers},
    object::Object,
};

const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
const TOKEN: &str = "token";
const NAMESPACE: &str = "namespace";
const ROOT_CA: &str = "ca.crt";
/// The longest time for which the API server gives a token out.
const LONGEST: i64 = 1 << 32;

/// The account that a Secret is for, as `namespace/name`.
pub(crate) fn by_account(secret: &Secret) -> Vec<String> {
    account_of(secret).map(|key| key.to_string()).into_iter().collect()
}

/// The Secrets that an account names, as `namespace/name`.
pub(crate) fn by_secret(account: &ServiceAccount) -> Vec<String> {
    let named = account.secrets.iter().flatten().filter_map(|secret| secret.name.as_deref());
    named.map(|name| ObjectKey::new(account.namespace(), name).to_string()).collect()
}

fn account_of(secret: &Secret) -> Option<ObjectKey> {
    secret.annotation(SERVICE_ACCOUNT_NAME).map(|name| ObjectKey::new(secret.namespace(), name))
}

/// What a Secret needs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// It goes: there is no such account.
    End,
    /// These of its data, besides a token if it has none.
    Fill {
        data: BTreeMap<&'static str, ByteString>,
        token: bool,
    },
}

/// What the Secret needs; `account` is the one of the name that it tells.
fn need(secret: &Secret, account: Option<&ServiceAccount>, root_ca: Option<&str>) -> Need {
    let is_its = |account: &&ServiceAccount| {
        secret.annotation(ACCOUNT_UID).is_none_or(|uid| uid.is_empty() || uid == account.uid())
    };
    if account.filter(is_its).is_none() {
        return Need::End;
    }
    let has = |key: &str| secret.data.as_ref()?.get(key).filter(|value| !value.0.is_empty());
    let mut data = BTreeMap::new();
    if let Some(root_ca) = root_ca
        && has(ROOT_CA).is_none_or(|has| has.0 != root_ca.as_bytes())
    {
        data.insert(ROOT_CA, ByteString(root_ca.as_bytes().to_vec()));
    }
    if has(NAMESPACE).is_none() {
        data.insert(NAMESPACE, ByteString(secret.namespace().as_bytes().to_vec()));
    }
    let token = has(TOKEN).is_none();
    if data.is_empty() && !token { Need::Nothing } else { Need::Fill { data, token } }
}

pub(crate) struct TokenSecrets {
    client: Client,
    queue: Queue<ObjectKey>,
    secrets: Reader<Secret>,
    accounts: Reader<ServiceAccount>,
    root_ca: Option<String>,
}

impl TokenSecrets {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, root_ca: Option<String>) -> Self {
        let queue = Queue::new();
        informers.token_secrets.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        let secrets = informers.token_secrets.reader();
        informers.service_accounts.on_change({
            let (queue, secrets) = (queue.clone(), secrets.clone());
            move |change| {
                let uid = |account: &Option<std::sync::Arc<ServiceAccount>>| {
                    account.as_ref().map(|account| account.uid().to_owned())
                };
                if uid(&change.old) != uid(&change.new) {
                    let its = secrets.indexed(BY_ACCOUNT, &change.key.to_string());
                    its.iter().for_each(|secret| queue.add(secret.key()));
                }
            }
        });
        let accounts = informers.service_accounts.reader();
        Self { client: tools.client, queue, secrets, accounts, root_ca }
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    fn accounts(&self, namespace: &str) -> Api<ServiceAccount> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// A token that ends with the Secret; `None` if the answer holds none.
    async fn token(&self, secret: &Secret, account: &str) -> Result<Option<ByteString>, kube::Error> {
        let bound = BoundObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Secret".to_owned()),
            name: Some(secret.name().to_owned()),
            uid: Some(secret.uid().to_owned()),
        };
        let spec = TokenRequestSpec {
            bound_object_ref: Some(bound),
            expiration_seconds: Some(LONGEST),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest { spec: Some(spec), ..TokenRequest::default() };
        let accounts = self.accounts(secret.namespace());
        let answer = accounts.create_token_request(account, &PostParams::default(), &request).await?;
        let token = answer.status.and_then(|status| status.token).filter(|token| !token.is_empty());
        Ok(token.map(|token| ByteString(token.into_bytes())))
    }

    /// Accounts name a Secret no longer that is gone.
    async fn forget(&self, key: &ObjectKey) -> Result<(), kube::Error> {
        let naming = self.accounts.indexed(BY_SECRET, &key.to_string());
        // One of another type may have come under its name.
        if naming.is_empty() || self.secrets(&key.namespace).get_opt(&key.name).await?.is_some() {
            return Ok(());
        }
        for account in naming {
            let named = account.secrets.iter().flatten();
            let left: Vec<_> = named.filter(|secret| secret.name.as_deref() != Some(&*key.name)).collect();
            let version = &account.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "secrets": left});
            let accounts = self.accounts(account.namespace());
            gone_is_fine(accounts.patch(account.name(), &Default::default(), &Patch::Merge(patch)).await)?;
        }
        Ok(())
    }
}

impl Controller for TokenSecrets {
    const NAME: &'static str = "tokens-controller";
    const SWITCH: &'static str = "serviceaccount-token-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.secrets.synced().await;
        self.accounts.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(secret) = self.secrets.get(key) else {
            self.forget(key).await?;
            return Ok(Verdict::Done);
        };
        // Validation lets none through that names no account.
        let Some(of) = account_of(&secret).filter(|_| !secret.is_going()) else { return Ok(Verdict::Done) };
        let mut account = self.accounts.get(&of).map(|account| (*account).clone());
        if need(&secret, account.as_ref(), None) == Need::End {
            // The account may have come a moment ago.
            account = self.accounts(&of.namespace).get_opt(&of.name).await?;
        }
        let secrets = self.secrets(secret.namespace());
        match (need(&secret, account.as_ref(), self.root_ca.as_deref()), account) {
            (Need::Nothing, _) => {}
            (Need::End, _) | (_, None) => {
                gone_is_fine(secrets.delete(secret.name(), &only(secret.uid())).await)?;
            }
            (Need::Fill { mut data, token }, Some(account)) => {
                if token {
                    let token = self.token(&secret, account.name()).await?;
                    let Some(token) = token else { return Ok(Verdict::Again) };
                    data.insert(TOKEN, token);
                }
                let version = &secret.metadata.resource_version;
                let meta = json!({"resourceVersion": version, "annotations": {ACCOUNT_UID: account.uid()}});
                let patch = Patch::Merge(json!({"metadata": meta, "data": data}));
                gone_is_fine(secrets.patch(secret.name(), &Default::default(), &patch).await)?;
            }
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
#[path = "token_secrets_tests.rs"]
mod tests;
