//! The Node authorizer: a kubelet may read what its own pods refer to, and nothing of other nodes.
//!
//! What a pod refers to is derived when a kubelet asks, from the pods that are bound to its node, and remembered
//! for each pod until the pod changes. So nothing must be kept up to date for kubelets that don't ask.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;
use tiphys_api::{meta, selector::FieldSelector};
use tiphys_store::Revision;

use super::{Attributes, Authorizer, Decision, Target, UserRules, rule::Rule};
use crate::{identity::Identity, source::Source};

/// Nodes whose pods' references are remembered.
const REMEMBERED: usize = 1024;

/// Decides about members of `system:nodes`; has no opinion on others.
pub struct NodeAuthorizer {
    source: Arc<dyn Source>,
    /// What all kubelets may do alike: the rules of the ClusterRole `system:node`.
    rules: Vec<Rule>,
    known: Mutex<HashMap<String, KnownPods>>,
}

/// What is known of a node's pods, by namespace and name.
type KnownPods = HashMap<(String, String), Known>;

struct Known {
    revision: Revision,
    references: Arc<References>,
}

/// The names of what one pod uses in its namespace.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    pub(crate) secrets: HashSet<String>,
    pub(crate) config_maps: HashSet<String>,
    pub(crate) claims: HashSet<String>,
    pub(crate) resource_claims: HashSet<String>,
    pub(crate) service_account: String,
}

impl NodeAuthorizer {
    pub fn new(source: Arc<dyn Source>, rules: Vec<Rule>) -> Self {
        Self { source, rules, known: Mutex::default() }
    }

    /// Whether a pod on `node`, in `namespace` if that is given, refers to what `test` looks for.
    fn refers(&self, node: &str, namespace: Option<&str>, test: impl Fn(&str, &References) -> bool) -> bool {
        let pods = self.source.pods_on(node);
        let mut known = self.known.lock();
        if known.len() >= REMEMBERED && !known.contains_key(node) {
            known.clear();
        }
        let of_node = known.entry(node.to_owned()).or_default();
        let mut before = std::mem::take(of_node);
        let mut found = false;
        for pod in pods {
            let revision = pod.revision;
            let place = (pod.namespace.clone(), pod.name.clone());
            let references = match before.remove(&place) {
                Some(known) if known.revision == revision => known.references,
                _ => Arc::new(opened_by(&pod.tree())),
            };
            found = found
                || (namespace.is_none_or(|namespace| namespace == pod.namespace)
                    && test(&pod.namespace, &references));
            of_node.insert(place, Known { revision, references });
        }
        found
    }

    fn decide(&self, node: &str, attributes: &Attributes<'_>) -> Result<(), String> {
        let Target::Resource { group, resource, subresource, namespace, name, field_selector, .. } =
            attributes.target
        else {
            return self.by_rules(attributes);
        };
        let verb = attributes.verb;
        // A list or watch of one object names it in a selector.
        let from_selector = selected(field_selector, "metadata.name");
        let name = if name.is_empty() { from_selector.as_str() } else { name };
        let related = |ok: bool| {
            if name.is_empty() {
                return Err("No Object name found".to_owned());
            }
            ok.then_some(())
                .ok_or_else(|| format!("no relationship found between node '{node}' and this object"))
        };
        let here = Some(namespace);
        match (group, resource) {
            ("", "secrets" | "configmaps") => {
                if !["get", "list", "watch"].contains(&verb) {
                    return Err("can only read resources of this type".to_owned());
                }
                if !subresource.is_empty() {
                    return Err("cannot read subresource".to_owned());
                }
                if namespace.is_empty() {
                    return Err("can only read namespaced object of this type".to_owned());
                }
                related(match resource {
                    "secrets" => {
                        self.refers(node, here, |_, pod| pod.secrets.contains(name))
                            || self.volume_secret(node, namespace, name)
                    }
                    _ => self.refers(node, here, |_, pod| pod.config_maps.contains(name)),
                })
            }
            ("", "persistentvolumeclaims") => {
                if subresource == "status" {
                    if !["get", "update", "patch"].contains(&verb) {
                        return Err("can only get/update/patch this type".to_owned());
                    }
                } else {
                    only_get(verb, subresource)?;
                }
                related(self.refers(node, here, |_, pod| pod.claims.contains(name)))
            }
            ("", "persistentvolumes") => {
                only_get(verb, subresource)?;
                related(self.refers(node, None, |namespace, pod| {
                    pod.claims.iter().any(|claim| self.volume_of(namespace, claim).as_deref() == Some(name))
                }))
            }
            ("resource.k8s.io", "resourceclaims") => {
                only_get(verb, subresource)?;
                related(self.refers(node, here, |_, pod| pod.resource_claims.contains(name)))
            }
            ("storage.k8s.io", "volumeattachments") => {
                only_get(verb, subresource)?;
                let attachment = self.source.get(group, resource, "", name);
                related(attachment.is_some_and(|a| meta::text(&a.tree(), &["spec", "nodeName"]) == node))
            }
            ("", "serviceaccounts") => {
                if verb == "get" && subresource.is_empty() {
                    return related(self.refers(node, here, |_, pod| pod.service_account == name));
                }
                if verb != "create" || name.is_empty() {
                    return Err("can only create tokens for individual service accounts".to_owned());
                }
                if subresource != "token" {
                    return Err("can only create token subresource of serviceaccount".to_owned());
                }
                related(self.refers(node, here, |_, pod| pod.service_account == name))
            }
            ("coordination.k8s.io", "leases") => {
                if namespace != "kube-node-lease" {
                    return Err(
                        "can only access leases in the \"kube-node-lease\" system namespace".to_owned()
                    );
                }
                own(verb, name, node, "a node lease", "node lease")
            }
            ("storage.k8s.io", "csinodes") => {
                if !subresource.is_empty() {
                    return Err("cannot authorize CSINode subresources".to_owned());
                }
                own(verb, name, node, "a CSINode", "CSINode")
            }
            ("resource.k8s.io", "resourceslices") => match verb {
                "get" | "create" | "update" | "patch" | "delete" if subresource.is_empty() => Ok(()),
                "list" | "watch" | "deletecollection"
                    if selected(field_selector, "spec.nodeName") == node =>
                {
                    Ok(())
                }
                _ => Err("can only access resource slices of the requesting node".to_owned()),
            },
            ("certificates.k8s.io", "podcertificaterequests") => match verb {
                _ if !subresource.is_empty() => {
                    Err("nodes may not access the status subresource of PodCertificateRequests".to_owned())
                }
                // Admission looks whose pod it is for.
                "create" => Ok(()),
                "get" => {
                    let request = self.source.get(group, resource, namespace, name);
                    related(request.is_some_and(|r| meta::text(&r.tree(), &["spec", "nodeName"]) == node))
                }
                "list" | "watch" if selected(field_selector, "spec.nodeName") == node => Ok(()),
                "list" | "watch" => {
                    Err("can only list/watch podcertificaterequests with nodeName field selector".to_owned())
                }
                _ => Err(format!("nodes may not {verb} podcertificaterequests")),
            },
            ("", "nodes") if ["list", "watch", "get"].contains(&verb) && subresource.is_empty() => {
                if name == node {
                    return Ok(());
                }
                Err(format!("node '{node}' cannot read '{name}', only its own Node object"))
            }
            ("", "pods") if ["list", "watch"].contains(&verb) => {
                if selected(field_selector, "spec.nodeName") == node {
                    return Ok(());
                }
                // One pod by its name is as good as a get.
                if !name.is_empty() {
                    return related(self.bound(node, namespace, name));
                }
                Err("can only list/watch pods with spec.nodeName field selector".to_owned())
            }
            ("", "pods") if verb == "get" && subresource.is_empty() => {
                related(self.bound(node, namespace, name))
            }
            _ => self.by_rules(attributes),
        }
    }

    fn by_rules(&self, attributes: &Attributes<'_>) -> Result<(), String> {
        let allowed = self.rules.iter().any(|rule| rule.allows(attributes.verb, &attributes.target));
        allowed.then_some(()).ok_or_else(String::new)
    }

    fn bound(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.source
            .get("", "pods", namespace, name)
            .is_some_and(|pod| meta::text(&pod.tree(), &["spec", "nodeName"]) == node)
    }

    /// The name of the volume that a claim is bound to.
    fn volume_of(&self, namespace: &str, claim: &str) -> Option<String> {
        let claim = self.source.get("", "persistentvolumeclaims", namespace, claim)?.tree();
        let volume = meta::text(&claim, &["spec", "volumeName"]);
        (!volume.is_empty()).then(|| volume.to_owned())
    }

    /// Whether a volume that a pod of the node uses names the secret.
    fn volume_secret(&self, node: &str, namespace: &str, name: &str) -> bool {
        self.refers(node, None, |place, pod| {
            pod.claims.iter().filter_map(|claim| self.volume_of(place, claim)).any(|volume| {
                let Some(volume) = self.source.get("", "persistentvolumes", "", &volume) else {
                    return false;
                };
                let mut named = false;
                each_reference(&volume.tree()["spec"], &mut |key, reference| {
                    let secret = key == "secretRef" || key.ends_with("SecretRef");
                    let space = match meta::text(reference, &["namespace"]) {
                        "" => place,
                        given => given,
                    };
                    named |= secret && space == namespace && meta::text(reference, &["name"]) == name;
                });
                named
            })
        })
    }
}

fn only_get(verb: &str, subresource: &str) -> Result<(), String> {
    if verb != "get" {
        return Err("can only get individual resources of this type".to_owned());
    }
    if !subresource.is_empty() {
        return Err("cannot get subresource".to_owned());
    }
    Ok(())
}

/// An object that a kubelet makes under its node's name. A create does not tell the name yet; admission checks it.
fn own(verb: &str, name: &str, node: &str, a_thing: &str, thing: &str) -> Result<(), String> {
    if !["get", "create", "update", "patch", "delete"].contains(&verb) {
        return Err(format!("can only get, create, update, patch, or delete {a_thing}"));
    }
    if verb != "create" && name != node {
        return Err(format!("can only access {thing} with the same name as the requesting node"));
    }
    Ok(())
}

/// The value that a field selector requires of `field`; empty if it requires none.
fn selected(selector: &str, field: &str) -> String {
    let selector = FieldSelector::parse(selector).ok();
    selector.as_ref().and_then(|s| s.exact(field)).unwrap_or_default().to_owned()
}

/// Every object below `value` with the key that it stands under.
fn each_reference<'a>(value: &'a Value, visit: &mut dyn FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(fields) => {
            for (key, inner) in fields {
                if inner.is_object() {
                    visit(key, inner);
                }
                each_reference(inner, visit);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_reference(item, visit)),
        _ => {}
    }
}

/// Reads what a pod refers to from its spec.
pub(crate) fn pod_references(pod: &Value) -> References {
    let mut found = References::default();
    let spec = &pod["spec"];
    found.service_account = meta::text(spec, &["serviceAccountName"]).to_owned();
    let name = |reference: &Value, key: &str| {
        reference[key].as_str().filter(|name| !name.is_empty()).map(str::to_owned)
    };
    each_reference(spec, &mut |key, reference| match key {
        // Environments, projected sources and volumes.
        "secretKeyRef" | "secretRef" | "nodePublishSecretRef" | "controllerPublishSecretRef" => {
            found.secrets.extend(name(reference, "name"));
        }
        "secret" => {
            found.secrets.extend(name(reference, "secretName").or_else(|| name(reference, "name")));
        }
        "azureFile" => found.secrets.extend(name(reference, "secretName")),
        "configMapKeyRef" | "configMapRef" | "configMap" => found.config_maps.extend(name(reference, "name")),
        "persistentVolumeClaim" => found.claims.extend(name(reference, "claimName")),
        _ => {}
    });
    for secret in meta::items(spec, &["imagePullSecrets"]) {
        found.secrets.extend(name(secret, "name"));
    }
    for volume in meta::items(spec, &["volumes"]) {
        if volume["ephemeral"].is_object() {
            found.claims.insert(format!("{}-{}", meta::name(pod), meta::text(volume, &["name"])));
        }
    }
    let statuses = meta::items(pod, &["status", "resourceClaimStatuses"]);
    for claim in meta::items(spec, &["resourceClaims"]).iter().chain(statuses) {
        found.resource_claims.extend(name(claim, "resourceClaimName"));
    }
    let extended = &pod["status"]["extendedResourceClaimStatus"];
    found.resource_claims.extend(name(extended, "resourceClaimName"));
    found
}

/// What a pod opens to its node. A mirror pod stands for a file there and must not open the way to anything.
fn opened_by(pod: &Value) -> References {
    match meta::annotation(pod, "kubernetes.io/config.mirror") {
        Some(_) => References::default(),
        None => pod_references(pod),
    }
}

impl Authorizer for NodeAuthorizer {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let Some(node) = attributes.user.node_name() else {
            return Decision::NoOpinion { reason: String::new() };
        };
        if node.is_empty() {
            let reason = format!("unknown node for user {:?}", attributes.user.name());
            return Decision::NoOpinion { reason };
        }
        match self.decide(node, attributes) {
            Ok(()) => Decision::Allow { reason: String::new() },
            Err(reason) => Decision::NoOpinion { reason },
        }
    }

    fn rules(&self, user: &Identity, _: &str) -> UserRules {
        let error = "node authorizer does not support user rule resolution".to_owned();
        let errors = user.node_name().map(|_| error).into_iter().collect();
        UserRules { rules: Vec::new(), errors }
    }
}

#[cfg(test)]
#[path = "node_tests.rs"]
mod tests;
