//! Claims to devices (dynamic resource allocation): made for pods of templates, shared by who uses them, and gone with
//! their pods.

mod plan;
mod unused;

use std::sync::Arc;

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use kube::{Api, Client, api::Patch};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::plan::Need;
pub(crate) use self::unused::UnusedResourceClaims;
use crate::{
    claim::{exists, gone_is_fine, namespace_goes, said},
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, BY_RESOURCE_CLAIM, BY_RESOURCE_TEMPLATE, Informers},
    object::Object,
    pod::Pod,
};

/// How many names are tried for a claim.
const ATTEMPTS: u8 = 4;

/// The groups of a pod in the index by claim to devices.
pub(crate) fn by_claim(pod: &Pod) -> Vec<String> {
    plan::names(pod).map(|name| format!("{}/{name}", pod.namespace())).collect()
}

/// The claims to devices that a pod names, or that were made for it.
pub(crate) fn claim_keys(pod: &Pod) -> impl Iterator<Item = ObjectKey> {
    plan::names(pod).map(|name| ObjectKey::new(pod.namespace(), name))
}

/// The groups of a pod in the index by template.
pub(crate) fn by_template(pod: &Pod) -> Vec<String> {
    plan::templates(pod).map(|name| format!("{}/{name}", pod.namespace())).collect()
}

/// Gives pods the claims that they ask for.
pub(crate) struct ResourceClaims {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    pods: Reader<Pod>,
    claims: Reader<ResourceClaim>,
    templates: Reader<ResourceClaimTemplate>,
}

impl ResourceClaims {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let pods = informers.pods.reader();
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                let claims =
                    |pod: &Arc<Pod>| pod.spec.as_ref().is_some_and(|s| !s.resource_claims.is_empty());
                if change.new.as_ref().is_some_and(claims) {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.resource_claims.on_change({
            let (queue, pods) = (queue.clone(), pods.clone());
            move |change| {
                let users = pods.indexed(BY_RESOURCE_CLAIM, &change.key.to_string());
                users.iter().for_each(|pod| queue.add(pod.key()));
            }
        });
        informers.resource_templates.on_change({
            let (queue, pods) = (queue.clone(), pods.clone());
            move |change| {
                let users = pods.indexed(BY_RESOURCE_TEMPLATE, &change.key.to_string());
                users.iter().for_each(|pod| queue.add(pod.key()));
            }
        });
        Self {
            client: tools.client,
            events: tools.events,
            queue,
            pods,
            claims: informers.resource_claims.reader(),
            templates: informers.resource_templates.reader(),
        }
    }

    fn api(&self, pod: &Pod) -> Api<ResourceClaim> {
        Api::namespaced(self.client.clone(), pod.namespace())
    }

    fn fails(&self, pod: &Pod, of: &str, why: &str) {
        let message = format!("PodResourceClaim {of}: {why}");
        self.events.warning(&pod.as_reference(), "FailedResourceClaimCreation", message);
    }

    /// Makes a claim of a template, and returns its name; `None`: not now.
    async fn make(&self, pod: &Pod, of: &str, template: &str) -> Result<Option<String>, kube::Error> {
        let Some(found) = self.templates.get(&ObjectKey::new(pod.namespace(), template)) else {
            // When it comes, the pod is looked at again.
            let missing = format!("resourceclaimtemplate.resource.k8s.io {template:?} not found");
            self.fails(pod, of, &format!("resource claim template {template:?}: {missing}"));
            return Ok(None);
        };
        let spec = found.spec.clone().unwrap_or_default();
        let meta = spec.metadata.unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(plan::POD_CLAIM.to_owned(), of.to_owned());
        for attempt in 0..ATTEMPTS {
            let name = plan::name_for(pod, of, attempt);
            let claim = json!({
                "metadata": {
                    "name": name, "labels": meta.labels, "annotations": annotations,
                    "ownerReferences": [pod.as_controller()],
                },
                "spec": spec.spec,
            });
            let claim = serde_json::from_value(claim).map_err(kube::Error::SerdeError)?;
            match self.api(pod).create(&Default::default(), &claim).await {
                Ok(_) => return Ok(Some(name)),
                Err(error) if namespace_goes(&error) => return Ok(None),
                Err(error) if exists(&error) => match self.api(pod).get_opt(&name).await? {
                    // An earlier look has made it.
                    Some(made) if plan::is_made_for(&made, pod, of) && !made.is_going() => {
                        return Ok(Some(name));
                    }
                    Some(_) | None => {}
                },
                Err(error) => {
                    self.fails(pod, of, &format!("create ResourceClaim {name}: {}", said(&error)));
                    return Err(error);
                }
            }
        }
        self.fails(pod, of, "no name for a ResourceClaim is free");
        Ok(None)
    }

    async fn reserve(&self, pod: &Pod, claim: &ResourceClaim) -> Result<(), kube::Error> {
        let mut users = claim.status.as_ref().and_then(|s| s.reserved_for.clone()).unwrap_or_default();
        users.push(ResourceClaimConsumerReference {
            api_group: None,
            name: pod.name().to_owned(),
            resource: "pods".to_owned(),
            uid: pod.uid().to_owned(),
        });
        let version = &claim.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version}, "status": {"reservedFor": users}});
        // What was changed meanwhile is seen again when the change arrives.
        let told = self.api(pod).patch_status(claim.name(), &Default::default(), &Patch::Merge(patch)).await;
        gone_is_fine(told).map(drop)
    }
}

impl Controller for ResourceClaims {
    const NAME: &'static str = "resource-claim-controller";
    const SWITCH: &'static str = "resourceclaim-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.claims.synced().await;
        self.templates.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(pod) = self.pods.get(key) else { return Ok(Verdict::Done) };
        let get = |name: &str| self.claims.get(&ObjectKey::new(pod.namespace(), name));
        let own = self.claims.indexed(BY_CONTROLLER, pod.uid());
        let mut noted = Vec::new();
        for need in plan::needs(&pod, get, &own) {
            match need {
                Need::Claim { of, template } => {
                    let made = self.make(&pod, of, template).await?;
                    noted.extend(made.map(|name| json!({"name": of, "resourceClaimName": name})));
                }
                Need::Note { of, name } => noted.push(json!({"name": of, "resourceClaimName": name})),
                Need::Reservation(claim) => self.reserve(&pod, &claim).await?,
                Need::Unknown { of } => {
                    self.fails(
                        &pod,
                        of,
                        "checking for claim before creating it: pod claim of unsupported type",
                    );
                }
            }
        }
        if !noted.is_empty() {
            let pods: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
            let status = json!({"resourceClaimStatuses": noted});
            let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid()}, "status": status}));
            gone_is_fine(pods.patch_status(pod.name(), &Default::default(), &patch).await)?;
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
#[path = "resource_claims_tests.rs"]
mod tests;
