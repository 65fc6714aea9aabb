//! What every cluster has from its first start on.
//!
//! Each start looks for what is missing and makes it; what users have changed stays. Several servers may do this
//! at the same time: who comes second finds the object there.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use ipnet::IpNet;
use serde_json::{Value, json};
use tiphys_api::{
    kind::{Kind, Update},
    meta,
    status::{Reason, Status},
};
use tiphys_pki::Pki;

use crate::{
    admission::system_classes,
    authz::policy::Change,
    fairness,
    registry::{Call, DeleteOptions, Registry, Updating, objectmeta::time},
    security::Security,
};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const RBAC: &str = "rbac.authorization.k8s.io";
/// Writes in flight; the store commits them in groups.
const AT_ONCE: usize = 64;

/// Why a server could not make what every cluster has.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("making {what}: {source}")]
    Write { what: String, source: Status },
    #[error("reading what there is: {0}")]
    Read(#[source] crate::cache::Error),
}

/// Makes the namespaces, the default policy, the system's priority classes, and the ConfigMap that tells
/// aggregated API servers whom to trust. What was made is in the cache when this returns.
///
/// # Errors
/// A write failed for another reason than that somebody else was faster.
pub async fn run(
    registry: &Registry,
    security: &Security,
    pki: &Pki,
    service_range: IpNet,
) -> Result<(), Error> {
    let boot = Boot { registry };
    boot.each(NAMESPACES.map(namespace).map(|object| ("", "namespaces", object))).await?;
    registry.cache().wait_newest().await.map_err(Error::Read)?;

    let classes = system_classes().map(|object| ("scheduling.k8s.io", "priorityclasses", object));
    boot.each(classes).await?;
    boot.each(fairness::bootstrap()).await?;
    boot.publish(request_header_trust(pki)).await?;
    boot.tell_range(service_range).await?;
    let changes = security.policy();
    stream::iter(changes)
        .map(|change| boot.apply(change))
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    registry.cache().wait_newest().await.map_err(Error::Read)
}

fn namespace(name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } })
}

/// `kube-system/extension-apiserver-authentication`: the authorities of clients, and of this server where it
/// vouches for a user in request headers.
fn request_header_trust(pki: &Pki) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": { "namespace": "kube-system", "name": "extension-apiserver-authentication" },
        "data": {
            "client-ca-file": pki.cluster.pem(),
            "requestheader-client-ca-file": pki.front_proxy.pem(),
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
        },
    })
}

struct Boot<'a> {
    registry: &'a Registry,
}

impl Boot<'_> {
    /// The kind's row, in its storage version; `None` if this server does not have the kind.
    fn kind(&self, group: &str, resource: &str) -> Option<(Arc<Kind>, String)> {
        let kinds = self.registry.kinds();
        let kind = kinds.iter().find(|kind| kind.group == group && kind.resource == resource)?;
        let version = kind.storage.as_ref()?.version.to_string();
        Some((Arc::clone(kind), version))
    }

    fn call(&self, group: &str, resource: &str, object: &Value) -> Option<Call> {
        let (kind, version) = self.kind(group, resource)?;
        Some(Call::own(&kind, &version, meta::namespace(object), meta::name(object)))
    }

    /// Makes those of the objects that are not there.
    async fn each<'o>(
        &self,
        objects: impl IntoIterator<Item = (&'o str, &'o str, Value)>,
    ) -> Result<(), Error> {
        let makes = objects.into_iter().map(|(group, resource, object)| self.create(group, resource, object));
        stream::iter(makes).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn create(&self, group: &str, resource: &str, mut object: Value) -> Result<(), Error> {
        let Some(call) = self.call(group, resource, &object) else { return Ok(()) };
        let there =
            self.registry.collection(&call.kind).is_ok_and(|c| c.get(&call.namespace, &call.name).is_some());
        if there {
            return Ok(());
        }
        call.kind.fill_defaults(&call.version, &mut object);
        match self.registry.create(&Call { name: String::new(), ..call.clone() }, object).await {
            Ok(_) => Ok(()),
            Err(status) if status.reason == Reason::AlreadyExists => Ok(()),
            Err(source) => Err(failed(&call, source)),
        }
    }

    /// Makes a ConfigMap, or brings its data up to date.
    async fn publish(&self, wanted: Value) -> Result<(), Error> {
        let Some(call) = self.call("", "configmaps", &wanted) else { return Ok(()) };
        let current =
            self.registry.collection(&call.kind).ok().and_then(|c| c.get(&call.namespace, &call.name));
        let Some(current) = current else { return self.create("", "configmaps", wanted).await };
        let current: Value = serde_json::from_slice(current.json()).unwrap_or_default();
        if current["data"] == wanted["data"] {
            return Ok(());
        }
        let mut make = |current: Option<&Value>| {
            let mut object = current.unwrap_or(&wanted).clone();
            meta::as_map(&mut object).insert("data".to_owned(), wanted["data"].clone());
            Ok(object)
        };
        let rules = call.kind.hooks.update;
        let updating = Updating { rules, create: false, make: &mut make };
        self.registry.update(&call, updating).await.map(|_| ()).map_err(|source| failed(&call, source))
    }

    /// Makes the ServiceCIDR `kubernetes`, which tells where Services' addresses come from (KEP-1880). It is there to be
    /// read: the range is the server's own, and no other ServiceCIDR adds to it.
    async fn tell_range(&self, range: IpNet) -> Result<(), Error> {
        let object = json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "ServiceCIDR",
            "metadata": { "name": "kubernetes" },
            "spec": { "cidrs": [range.to_string()] },
        });
        let Some(call) = self.call("networking.k8s.io", "servicecidrs", &object) else { return Ok(()) };
        self.create("networking.k8s.io", "servicecidrs", object).await?;
        self.registry.cache().wait_newest().await.map_err(Error::Read)?;
        let there = self.registry.collection(&call.kind).ok().and_then(|c| c.get("", &call.name));
        let there = there.and_then(|there| serde_json::from_slice::<Value>(there.json()).ok());
        if there.is_some_and(|there| !there["status"]["conditions"].is_null()) {
            return Ok(());
        }
        let call = Call { subresource: "status".to_owned(), ..call };
        let condition = json!({
            "type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": time(self.registry.now()),
        });
        let mut make = |live: Option<&Value>| {
            let mut live = live.ok_or_else(|| call.not_found())?.clone();
            live["status"]["conditions"] = json!([condition]);
            Ok(live)
        };
        let updating = Updating { rules: Update::PLAIN, create: false, make: &mut make };
        self.registry.update(&call, updating).await.map(|_| ()).map_err(|source| failed(&call, source))
    }

    async fn apply(&self, change: Change) -> Result<(), Error> {
        match change {
            Change::Create { resource, object } => self.create(RBAC, resource, object).await,
            Change::Update { resource, object } => {
                let Some(call) = self.call(RBAC, resource, &object) else { return Ok(()) };
                let mut make = |_: Option<&Value>| Ok(object.clone());
                let rules = call.kind.hooks.update;
                let updating = Updating { rules, create: false, make: &mut make };
                match self.registry.update(&call, updating).await {
                    Ok(_) => Ok(()),
                    // Somebody has changed or deleted it since it was read: the next start looks at it again.
                    Err(status) if [Reason::Conflict, Reason::NotFound].contains(&status.reason) => {
                        tracing::warn!(%status, "a default role or binding was changed meanwhile");
                        Ok(())
                    }
                    Err(source) => Err(failed(&call, source)),
                }
            }
            Change::Replace { resource, object } => {
                let Some(call) = self.call(RBAC, resource, &object) else { return Ok(()) };
                match self.registry.delete(&call, &DeleteOptions::default()).await {
                    Err(status) if status.reason != Reason::NotFound => Err(failed(&call, status)),
                    _ => {
                        self.registry.cache().wait_newest().await.map_err(Error::Read)?;
                        self.create(RBAC, resource, object).await
                    }
                }
            }
        }
    }
}

fn failed(call: &Call, source: Status) -> Error {
    let place = if call.namespace.is_empty() { String::new() } else { format!("{}/", call.namespace) };
    Error::Write { what: format!("{} {place}{}", call.kind.qualified_resource(), call.name), source }
}

#[cfg(test)]
#[path = "bootstrap_tests.rs"]
mod tests;
