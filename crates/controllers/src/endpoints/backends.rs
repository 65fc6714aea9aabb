//! The pods behind a Service, with the ports that the Service leads to on each.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::core::v1::{ObjectReference, Service, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use crate::{
    object::Object,
    pod::Pod,
    pods::{is_finished, is_ready},
};

/// A Service's port as one pod has it: a named target may be another number on each pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) protocol: String,
    pub(super) port: i32,
    pub(super) app_protocol: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Backend {
    pub(super) ips: Vec<String>,
    pub(super) ports: Vec<Port>,
    /// Takes new connections.
    pub(super) ready: bool,
    /// Answers, though it may be on its way out.
    pub(super) serving: bool,
    pub(super) terminating: bool,
    pub(super) hostname: Option<String>,
    pub(super) node: Option<String>,
    /// The zone of its node.
    pub(super) zone: Option<String>,
    pub(super) target: Option<ObjectReference>,
}

/// Whether the Service's endpoints are made from its selector.
pub(super) fn is_selected(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| {
        s.type_.as_deref() != Some("ExternalName") && s.selector.as_ref().is_some_and(|s| !s.is_empty())
    })
}

pub(super) fn selects(service: &Service, labels: Option<&BTreeMap<String, String>>) -> bool {
    let Some(selector) = service.spec.as_ref().and_then(|s| s.selector.as_ref()) else { return false };
    is_selected(service) && selector.iter().all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
}

pub(super) fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().is_some_and(|s| s.cluster_ip.as_deref() == Some("None"))
}

/// Tells of endpoints that their Service has no address of its own.
pub(super) const HEADLESS: &str = "service.kubernetes.io/headless";

/// The labels that what is made for a Service has of the Service.
pub(super) fn labels_for(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// The backends that a Service has, in the order of their pods' names.
pub(super) fn backends(service: &Service, pods: &[Arc<Pod>]) -> Vec<Backend> {
    let spec = service.spec.clone().unwrap_or_default();
    let publish_unready = spec.publish_not_ready_addresses.unwrap_or(false);
    let chosen = pods.iter().filter(|p| selects(service, p.metadata.labels.as_ref()));
    chosen
        .filter_map(|pod| {
            let status = pod.status.as_ref()?;
            let pod_spec = pod.spec.as_ref()?;
            let mut ips: Vec<String> = status.pod_ips.iter().flatten().map(|p| p.ip.clone()).collect();
            if ips.is_empty() {
                ips.extend(status.pod_ip.clone());
            }
            ips.retain(|ip| !ip.is_empty());
            if ips.is_empty() || is_finished(pod) {
                return None;
            }
            let named = pod_spec.hostname.clone().filter(|h| !h.is_empty());
            let in_this_domain = pod_spec.subdomain.as_deref() == Some(service.name());
            let (serving, terminating) = (is_ready(pod), pod.is_going());
            Some(Backend {
                ips,
                ports: spec.ports.iter().flatten().filter_map(|p| resolve(p, pod)).collect(),
                ready: publish_unready || (serving && !terminating),
                serving,
                terminating,
                hostname: named.filter(|_| in_this_domain),
                node: pod_spec.node_name.clone().filter(|n| !n.is_empty()),
                zone: None,
                target: Some(ObjectReference {
                    kind: Some("Pod".to_owned()),
                    namespace: pod.metadata.namespace.clone(),
                    name: pod.metadata.name.clone(),
                    uid: pod.metadata.uid.clone(),
                    ..Default::default()
                }),
            })
        })
        .collect()
}

/// The port on this pod; none if the pod has no port of the target's name.
fn resolve(port: &ServicePort, pod: &Pod) -> Option<Port> {
    let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
    let number = match &port.target_port {
        None | Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) if name.is_empty() => port.port,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let found = spec.ports().find(|p| {
                p.name.as_ref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            found?.container_port
        }
    };
    Some(Port {
        name: port.name.clone().unwrap_or_default(),
        protocol,
        port: number,
        app_protocol: port.app_protocol.clone(),
    })
}
