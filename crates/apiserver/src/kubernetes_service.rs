//! The Service `default/kubernetes`, by which pods reach the API server, and what stands behind it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use serde_json::{Value, json};
use tiphys_api::meta;
use tiphys_api::status::{Reason, Status};

use crate::audit::Annotations;
use crate::identity::Component;
use crate::registry::{Call, Registry, Updating, Warnings};

/// The Service or its endpoints could not be written.
#[derive(Debug, thiserror::Error)]
#[error("making {resource} default/kubernetes: {status}")]
pub struct Error {
    resource: &'static str,
    status: Status,
}

/// Where the API server is reached from inside the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// The cluster IP of the Service.
    pub service: IpAddr,
    /// What stands behind it.
    pub server: SocketAddr,
}

/// Makes the Service unless it exists, and its endpoints what they shall be.
///
/// # Errors
/// A write failed.
pub async fn publish(registry: &Registry, place: Place) -> Result<(), Error> {
    set(registry, "", "services", service(place), false).await?;
    if place.server.ip().is_loopback() {
        // Nothing in the cluster could reach it there, and no endpoint may say so.
        return Ok(());
    }
    set(registry, "", "endpoints", endpoints(place), true).await?;
    set(registry, "discovery.k8s.io", "endpointslices", slice(place), true).await
}

/// Writes an object; one that exists keeps its metadata, and is left alone unless `replace`.
async fn set(
    registry: &Registry,
    group: &str,
    resource: &'static str,
    mut object: Value,
    replace: bool,
) -> Result<(), Error> {
    let failed = |status| Error { resource, status };
    let kinds = registry.kinds();
    let kind = kinds
        .group_resource(group, resource)
        .ok_or_else(|| failed(Status::new(Reason::NotFound, "the kind is not served")))?;
    let call = Call {
        user: Component::ApiServer.identity(),
        kind: Arc::clone(kind),
        version: "v1".to_owned(),
        namespace: "default".to_owned(),
        name: "kubernetes".to_owned(),
        subresource: String::new(),
        uninitialized: true,
        dry_run: false,
        field_manager: "kube-apiserver".to_owned(),
        warnings: Arc::new(Warnings::default()),
        annotations: Annotations::default(),
    };
    object["kind"] = kind.kind.as_ref().into();
    (kind.hooks.default)("v1", &mut object);
    let mut make = |live: Option<&Value>| {
        let Some(live) = live else { return Ok(object.clone()) };
        if !replace {
            return Ok(live.clone());
        }
        let mut new = object.clone();
        new["metadata"] = live["metadata"].clone();
        for (key, value) in meta::labels(&object).into_iter().flatten() {
            new["metadata"]["labels"][key] = value.clone();
        }
        Ok(new)
    };
    let updating = Updating { rules: kind.hooks.update, create: true, make: &mut make };
    registry.update(&call, updating).await.map(|_| ()).map_err(failed)
}

fn service(place: Place) -> Value {
    json!({
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"component": "apiserver", "provider": "kubernetes"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": place.service.to_string(),
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": place.server.port()}],
        },
    })
}

fn endpoints(place: Place) -> Value {
    json!({
        "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{
            "addresses": [{"ip": place.server.ip().to_string()}],
            "ports": [{"name": "https", "protocol": "TCP", "port": place.server.port()}],
        }],
    })
}

fn slice(place: Place) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": if place.server.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": [{"addresses": [place.server.ip().to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "protocol": "TCP", "port": place.server.port()}],
    })
}

#[cfg(test)]
#[path = "kubernetes_service_tests.rs"]
mod tests;
