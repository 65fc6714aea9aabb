//! ServiceAccount: every pod has an account, and finds its token where clients look for it.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use rand::Rng;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::{authz::pod_references, kept::Kept, source::Source};

const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Asked for where nothing else is: upstream's number, which tells such tokens from others.
const TOKEN_SECONDS: u32 = 3607;
/// The default account is made by a controller after its namespace; a pod that comes at once waits for it.
const DEFAULT_ACCOUNT_WAIT: Duration = Duration::from_secs(2);

pub struct ServiceAccount {
    source: Arc<dyn Source>,
    accounts: Kept<Account>,
}

/// What a pod takes from its account.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Account {
    automount_service_account_token: Option<bool>,
    #[serde(default)]
    image_pull_secrets: Vec<Value>,
}

impl ServiceAccount {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source, accounts: Kept::of("", "serviceaccounts") }
    }

    async fn account(&self, namespace: &str, name: &str) -> Option<Arc<Account>> {
        let get = || self.accounts.get(&*self.source, namespace, name);
        if let Some(account) = get() {
            return Some(account);
        }
        self.source.settle().await;
        if name != "default" {
            return get();
        }
        let made = async {
            loop {
                let version = self.source.version("", "serviceaccounts");
                if let Some(account) = get() {
                    return account;
                }
                self.source.changed("", "serviceaccounts", version).await;
            }
        };
        tokio::time::timeout(DEFAULT_ACCOUNT_WAIT, made).await.ok()
    }
}

fn is_mirror(pod: &Value) -> bool {
    meta::annotation(pod, "kubernetes.io/config.mirror").is_some()
}

fn lists<'a>(pod: &'a Value, path: &'a [&'a str]) -> impl Iterator<Item = &'a Value> {
    meta::items(pod, path).iter()
}

/// Whether a pod of this account gets the token; the pod's own word counts most.
fn automounts(account: &Account, pod: &Value) -> bool {
    let own = pod["spec"]["automountServiceAccountToken"].as_bool();
    own.or(account.automount_service_account_token).unwrap_or(true)
}

/// Mounts token, authority and namespace into every container that has nothing of its own there.
fn mount_token(pod: &mut Value) {
    let existing = lists(pod, &["spec", "volumes"])
        .map(|volume| meta::text(volume, &["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let is_new = existing.is_none();
    let volume = existing
        .unwrap_or_else(|| meta::generated_name(VOLUME_PREFIX, |below| rand::rng().random_range(0..below)));
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        let containers = super::spec_mut(pod).get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = meta::items(container, &["volumeMounts"]);
            if !container.is_object() || mounts.iter().any(|mount| mount["mountPath"] == MOUNT_PATH) {
                continue;
            }
            super::list_mut(container, &["volumeMounts"]).push(json!({
                "name": volume, "readOnly": true, "mountPath": MOUNT_PATH,
            }));
            needed = true;
        }
    }
    if needed && is_new {
        super::list_mut(pod, &["spec", "volumes"]).push(json!({
            "name": volume,
            "projected": {
                "defaultMode": 0o644,
                "sources": [
                    { "serviceAccountToken": { "path": "token", "expirationSeconds": TOKEN_SECONDS } },
                    { "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{ "key": "ca.crt", "path": "ca.crt" }],
                    } },
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }] } },
                ],
            },
        }));
    }
}

/// A mirror pod shows what a node runs from a file; it must not open the way to anything in the cluster.
fn check_mirror(request: &Attributes<'_>, pod: &Value) -> Result<(), Status> {
    let token = lists(pod, &["spec", "volumes"])
        .flat_map(|volume| lists(volume, &["projected", "sources"]))
        .any(|source| !source["serviceAccountToken"].is_null());
    let wrong = if !meta::text(pod, &["spec", "serviceAccountName"]).is_empty() {
        "a mirror pod may not reference service accounts"
    } else if !pod_references(pod).secrets.is_empty() {
        "a mirror pod may not reference secrets"
    } else if token {
        "a mirror pod may not use ServiceAccountToken volume projections"
    } else {
        return Ok(());
    };
    Err(request.forbidden(pod, wrong))
}

#[async_trait]
impl Plugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "pods")
    }

    async fn admit(&self, request: &Attributes<'_>, pod: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) || !pod["spec"].is_object() || is_mirror(pod) {
            return Ok(());
        }
        let name = match meta::text(pod, &["spec", "serviceAccountName"]) {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        let account = self.account(request.namespace, &name).await.ok_or_else(|| {
            let why = format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                request.namespace
            );
            request.forbidden(pod, &why)
        })?;
        let spec = super::spec_mut(pod);
        spec.insert("serviceAccountName".to_owned(), name.as_str().into());
        // The old name of the field, which is still shown.
        spec.insert("serviceAccount".to_owned(), name.into());
        if automounts(&account, pod) {
            mount_token(pod);
        }
        let secrets = &account.image_pull_secrets;
        if meta::items(pod, &["spec", "imagePullSecrets"]).is_empty() && !secrets.is_empty() {
            super::spec_mut(pod).insert("imagePullSecrets".to_owned(), secrets.clone().into());
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, pod: &Value, _: &Value) -> Result<(), Status> {
        if self.handles(request) && is_mirror(pod) {
            return check_mirror(request, pod);
        }
        Ok(())
    }
}
