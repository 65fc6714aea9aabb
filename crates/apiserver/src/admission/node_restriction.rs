//! NodeRestriction: a kubelet writes its own Node, its own pods and its own lease.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use serde_json::Value;
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::{authz::pod_references, source::Source};

/// Labels that a kubelet may set on its node, of those that belong to Kubernetes.
const KUBELET_LABELS: [&str; 13] = [
    "kubernetes.io/hostname",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type",
    "beta.kubernetes.io/instance-type",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
    "node.kubernetes.io/exclude-from-external-load-balancers",
];
const KUBELET_LABEL_SPACES: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

pub struct NodeRestriction {
    source: Arc<dyn Source>,
}

/// A check's result: why the request is refused, or another failure.
enum Refusal {
    Because(String),
    With(Status),
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self::Because(why)
    }
}

type Checked = Result<(), Refusal>;

fn refuse(why: impl Into<String>) -> Checked {
    Err(Refusal::Because(why.into()))
}

fn operation(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "CREATE",
        Operation::Update => "UPDATE",
        Operation::Delete => "DELETE",
        Operation::Connect => "CONNECT",
    }
}

impl NodeRestriction {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }

    fn check(&self, node: &str, request: &Attributes<'_>, object: &Value, old: &Value) -> Checked {
        match (request.group, request.resource, request.subresource) {
            ("", "pods", "") => self.pod(node, request, object),
            ("", "pods", "status") => pod_status(node, request, object, old),
            ("", "pods", "eviction") => {
                let name = if request.name.is_empty() { meta::name(object) } else { request.name };
                let pod = self.get_pod(request.namespace, name)?;
                if meta::text(&pod, &["spec", "nodeName"]) != node {
                    return refuse(format!(
                        "node {node} can only evict pods with spec.nodeName set to itself"
                    ));
                }
                Ok(())
            }
            ("", "pods", other) => refuse(format!(
                "unexpected pod subresource {other:?}, only 'status' and 'eviction' are allowed"
            )),
            ("", "nodes", _) => check_node(node, request, object, old),
            ("", "persistentvolumeclaims", "status") => claim_status(node, request, object, old),
            ("", "persistentvolumeclaims", _) => refuse("may only update PVC status"),
            ("", "serviceaccounts", "token") if request.operation == Operation::Create => {
                self.token(node, request, object)
            }
            ("certificates.k8s.io", "podcertificaterequests", "") => {
                self.pod_certificate(node, request, object)
            }
            ("coordination.k8s.io", "leases", _) => {
                if request.namespace != "kube-node-lease" {
                    return refuse("can only access leases in the \"kube-node-lease\" system namespace");
                }
                own(node, request, object, "node lease")
            }
            ("storage.k8s.io", "csinodes", _) => own(node, request, object, "CSINode"),
            ("resource.k8s.io", "resourceslices", _) => {
                let slice = if request.operation == Operation::Delete { old } else { object };
                if meta::text(slice, &["spec", "nodeName"]) != node {
                    return refuse(
                        "can only access ResourceSlices with the same node name as the requesting node",
                    );
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn get_pod(&self, namespace: &str, name: &str) -> Result<Value, Refusal> {
        let pod = self.source.get("", "pods", namespace, name);
        pod.map(|entry| entry.tree()).ok_or_else(|| Refusal::With(Status::not_found("", "pods", name)))
    }

    fn pod(&self, node: &str, request: &Attributes<'_>, pod: &Value) -> Checked {
        match request.operation {
            Operation::Create => self.mirror_pod(node, pod),
            Operation::Delete => {
                let pod = self.get_pod(request.namespace, request.name)?;
                if meta::text(&pod, &["spec", "nodeName"]) != node {
                    return refuse(format!(
                        "node {node:?} can only delete pods with spec.nodeName set to itself"
                    ));
                }
                Ok(())
            }
            other => refuse(format!(
                "unexpected operation {:?}, node {node:?} can only create and delete mirror pods",
                operation(other)
            )),
        }
    }

    fn mirror_pod(&self, node: &str, pod: &Value) -> Checked {
        let only = |what: &str| refuse(format!("node {node:?} can only create pods with {what}"));
        let not = |what: &str| refuse(format!("node {node:?} can not create pods that reference {what}"));
        let mirror = "kubernetes.io/config.mirror";
        if meta::annotation(pod, mirror).is_none() {
            return refuse(format!(
                "pod does not have {mirror:?} annotation, node {node:?} can only create mirror pods"
            ));
        }
        if meta::text(pod, &["spec", "nodeName"]) != node {
            return only("spec.nodeName set to itself");
        }
        let owner = match meta::items(pod, &["metadata", "ownerReferences"]) {
            [owner] => owner,
            [] => return only("an owner reference set to itself"),
            _ => return only("a single owner reference set to itself"),
        };
        if owner["apiVersion"] != "v1" || owner["kind"] != "Node" || owner["name"] != node {
            return only("an owner reference set to itself");
        }
        if owner["controller"] != true {
            return only("a controller owner reference set to itself");
        }
        if owner["blockOwnerDeletion"] == true {
            return refuse(format!("node {node:?} must not set blockOwnerDeletion on an owner reference"));
        }
        let Some(object) = self.source.get("", "nodes", "", node) else {
            return Err(Refusal::With(Status::not_found("", "nodes", node)));
        };
        let (given, real) = (meta::text(owner, &["uid"]), object.tree());
        if given != meta::uid(&real) {
            return refuse(format!("node {node} UID mismatch: expected {given} got {}", meta::uid(&real)));
        }
        let references = pod_references(pod);
        if !references.service_account.is_empty() {
            return not("a service account");
        }
        if !references.secrets.is_empty() {
            return not("secrets");
        }
        if !references.config_maps.is_empty() {
            return not("configmaps");
        }
        if !references.claims.is_empty() {
            return not("persistentvolumeclaims");
        }
        if !references.resource_claims.is_empty() {
            return not("resourceclaims");
        }
        Ok(())
    }

    fn token(&self, node: &str, request: &Attributes<'_>, asked: &Value) -> Checked {
        let bound = &asked["spec"]["boundObjectRef"];
        let text = |key: &str| bound[key].as_str().unwrap_or_default();
        if text("apiVersion") != "v1" || text("kind") != "Pod" || text("name").is_empty() {
            return refuse("node requested token not bound to a pod");
        }
        if text("uid").is_empty() {
            return refuse("node requested token with a pod binding without a uid");
        }
        let pod = self.get_pod(request.namespace, text("name"))?;
        if text("uid") != meta::uid(&pod) {
            return refuse(format!(
                "the UID in the bound object reference ({}) does not match the UID in record ({}). The object \
                 might have been deleted and then recreated",
                text("uid"),
                meta::uid(&pod)
            ));
        }
        if meta::text(&pod, &["spec", "nodeName"]) != node {
            return refuse("node requested token bound to a pod scheduled on a different node");
        }
        let projected: BTreeSet<&str> = meta::items(&pod, &["spec", "volumes"])
            .iter()
            .flat_map(|volume| meta::items(volume, &["projected", "sources"]))
            .map(|source| meta::text(source, &["serviceAccountToken", "audience"]))
            .collect();
        for audience in meta::items(asked, &["spec", "audiences"]).iter().filter_map(Value::as_str) {
            if !projected.contains(audience) {
                return refuse(format!("audience {audience:?} not found in pod spec volume"));
            }
        }
        Ok(())
    }

    /// A certificate is asked for by the node of the pod that it is for, under the pod's own account (KEP-4317). What may be
    /// known only later is no refusal, so that it is tried again.
    fn pod_certificate(&self, node: &str, request: &Attributes<'_>, asked: &Value) -> Checked {
        if request.operation != Operation::Create {
            return refuse(format!("unexpected operation {}", operation(request.operation)));
        }
        let text = |key: &str| meta::text(asked, &["spec", key]);
        let later = |why: String| Err(Refusal::With(Status::internal(why)));
        let namespace = request.namespace;
        let found = |resource: &str, namespace: &str, kind: &str, name: &str| {
            let found = self.source.get("", resource, namespace, name).map(|entry| entry.tree());
            let place = if namespace.is_empty() { name.to_owned() } else { format!("{namespace}/{name}") };
            found.ok_or_else(|| {
                let missing = format!("{resource} {name:?} not found");
                let why = format!(
                    "while retrieving {kind} {place:?} named in the PodCertificateRequest: {missing}"
                );
                Refusal::With(Status::internal(why))
            })
        };
        if text("nodeName") != node {
            let named = text("nodeName");
            return refuse(format!(
                "PodCertificateRequest.Spec.NodeName={named:?}, which is not the requesting node {node:?}"
            ));
        }
        let pod_name = format!("{namespace}/{}", text("podName"));
        let own = found("nodes", "", "node", node)?;
        if meta::uid(&own) != text("nodeUID") {
            return later(format!(
                "PodCertificateRequest for pod {pod_name:?} names node UID {:?}, inconsistent with the running node ({:?})",
                text("nodeUID"),
                meta::uid(&own)
            ));
        }
        let pod = found("pods", namespace, "pod", text("podName"))?;
        if meta::uid(&pod) != text("podUID") {
            return later(format!(
                "PodCertificateRequest for pod {pod_name:?} contains pod UID ({:?}) which differs from running pod {:?}",
                text("podUID"),
                meta::uid(&pod)
            ));
        }
        if meta::text(&pod, &["spec", "nodeName"]) != node {
            return refuse(format!(
                "pod {pod_name:?} is not running on node {node:?} named in the PodCertificateRequest"
            ));
        }
        if meta::annotation(&pod, "kubernetes.io/config.mirror").is_some() {
            return refuse(format!("pod {pod_name:?} is a mirror pod"));
        }
        let (account, of_pod) =
            (text("serviceAccountName"), meta::text(&pod, &["spec", "serviceAccountName"]));
        if account != of_pod {
            return refuse(format!(
                "PodCertificateRequest for pod {pod_name:?} contains serviceAccountName ({account:?}) that differs \
                 from running pod ({of_pod:?})"
            ));
        }
        let account = found("serviceaccounts", namespace, "service account", account)?;
        if meta::uid(&account) != text("serviceAccountUID") {
            return later(format!(
                "PodCertificateRequest for pod {pod_name:?} names service account UID {:?}, which differs from the \
                 running service account ({:?})",
                text("serviceAccountUID"),
                meta::uid(&account)
            ));
        }
        Ok(())
    }
}

fn pod_status(node: &str, request: &Attributes<'_>, pod: &Value, old: &Value) -> Checked {
    if request.operation != Operation::Update {
        return refuse(format!("unexpected operation {:?}", operation(request.operation)));
    }
    if meta::text(old, &["spec", "nodeName"]) != node {
        return refuse(format!(
            "node {node:?} can only update pod status for pods with spec.nodeName set to itself"
        ));
    }
    if !modified(meta::labels(pod), meta::labels(old)).is_empty() {
        return refuse(format!("node {node:?} cannot update labels through pod status"));
    }
    // They open claims to the node.
    for (field, what) in [
        ("resourceClaimStatuses", "resource claim statuses"),
        ("extendedResourceClaimStatus", "extended resource claim status"),
    ] {
        if pod["status"][field] != old["status"][field] {
            return refuse(format!("node {node:?} cannot update {what}"));
        }
    }
    Ok(())
}

fn claim_status(node: &str, request: &Attributes<'_>, claim: &Value, old: &Value) -> Checked {
    if request.operation != Operation::Update {
        return refuse(format!("unexpected operation {:?}", operation(request.operation)));
    }
    let rest = |claim: &Value| {
        let mut rest = claim.clone();
        if let Some(status) = rest.get_mut("status").and_then(Value::as_object_mut) {
            let own = ["capacity", "conditions", "allocatedResources", "allocatedResourceStatuses"];
            status.retain(|key, _| !own.contains(&key.as_str()));
        }
        for field in ["resourceVersion", "managedFields"] {
            meta::set(&mut rest, field, None);
        }
        rest
    };
    if rest(claim) != rest(old) {
        return refuse(format!(
            "node {node:?} is not allowed to update fields other than status.capacity and status.conditions"
        ));
    }
    Ok(())
}

fn check_node(node: &str, request: &Attributes<'_>, object: &Value, old: &Value) -> Checked {
    let name = if request.name.is_empty() { meta::name(object) } else { request.name };
    if name != node {
        return refuse(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let changed = modified(meta::labels(object), meta::labels(old));
    let forbidden: Vec<&str> = changed.into_iter().filter(|label| is_forbidden(label)).collect();
    match request.operation {
        Operation::Create if !forbidden.is_empty() => refuse(format!(
            "node {node:?} is not allowed to set the following labels: {}",
            forbidden.join(", ")
        )),
        Operation::Update => {
            // A kubelet that could change its taints could draw pods to itself.
            if meta::items(object, &["spec", "taints"]) != meta::items(old, &["spec", "taints"]) {
                return refuse(format!("node {node:?} is not allowed to modify taints"));
            }
            if !forbidden.is_empty() {
                return refuse(format!("is not allowed to modify labels: {}", forbidden.join(", ")));
            }
            let owners = ["metadata", "ownerReferences"];
            if meta::items(object, &owners) != meta::items(old, &owners) {
                return refuse(format!("node {node:?} is not allowed to modify ownerReferences"));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// An object that carries its node's name.
fn own(node: &str, request: &Attributes<'_>, object: &Value, what: &str) -> Checked {
    let name = match request.operation {
        Operation::Create => meta::name(object),
        _ => request.name,
    };
    if name != node {
        return refuse(format!("can only access {what} with the same name as the requesting node"));
    }
    Ok(())
}

type Labels = serde_json::Map<String, Value>;

/// The keys of labels that differ, in order.
fn modified<'a>(new: Option<&'a Labels>, old: Option<&'a Labels>) -> BTreeSet<&'a str> {
    let value = |labels: Option<&'a Labels>, key: &str| labels.and_then(|labels| labels.get(key)).cloned();
    let keys = new.into_iter().chain(old).flat_map(Labels::keys);
    keys.filter(|key| value(new, key) != value(old, key)).map(String::as_str).collect()
}

fn is_forbidden(label: &str) -> bool {
    let Some((space, _)) = label.split_once('/') else { return false };
    let within =
        |parent: &str| space.strip_suffix(parent).is_some_and(|head| head.is_empty() || head.ends_with('.'));
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let allowed = KUBELET_LABELS.contains(&label) || KUBELET_LABEL_SPACES.iter().any(|s| within(s));
    (within("kubernetes.io") || within("k8s.io")) && !allowed
}

#[async_trait]
impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.user.node_name().is_some()
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let Some(node) = request.user.node_name() else { return Ok(()) };
        if node.is_empty() {
            let why = format!("could not determine node from user {:?}", request.user.name());
            return Err(request.forbidden(object, &why));
        }
        self.check(node, request, object, old).map_err(|refusal| match refusal {
            Refusal::Because(why) => request.forbidden(object, &why),
            Refusal::With(status) => status,
        })
    }
}

#[cfg(test)]
#[path = "node_restriction_tests.rs"]
mod tests;
