//! Lets go of claims whose users are gone, and of the devices that they held.

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference};
use kube::{Api, Client, api::Patch};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use super::plan::{self, Use};
use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::Pod,
};

pub(crate) struct UnusedResourceClaims {
    client: Client,
    queue: Queue<ObjectKey>,
    pods: Reader<Pod>,
    claims: Reader<ResourceClaim>,
}

impl UnusedResourceClaims {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.resource_claims.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.pods.on_change({
            let queue = queue.clone();
            move |change| {
                let ended = change.new.as_ref().is_none_or(|pod| plan::is_done(pod));
                for pod in [&change.old, &change.new].into_iter().flatten().filter(|_| ended) {
                    plan::names(pod).for_each(|name| queue.add(ObjectKey::new(pod.namespace(), name)));
                }
            }
        });
        let (pods, claims) = (informers.pods.reader(), informers.resource_claims.reader());
        Self { client: tools.client, queue, pods, claims }
    }

    /// Those who use the claim still. To take devices from a pod that an informer has not heard of yet would be worse
    /// than to ask once too often.
    async fn users(&self, claim: &ResourceClaim) -> Result<Vec<ResourceClaimConsumerReference>, kube::Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), claim.namespace());
        let mut users = Vec::new();
        for user in claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten()) {
            let pod = self.pods.get(&ObjectKey::new(claim.namespace(), &user.name));
            let stays = match plan::usage(user, pod.as_deref()) {
                Use::Stays => true,
                Use::Goes => false,
                Use::Ask => pods.get_opt(&user.name).await?.is_some_and(|pod| pod.uid() == user.uid),
            };
            if stays {
                users.push(user.clone());
            }
        }
        Ok(users)
    }
}

impl Controller for UnusedResourceClaims {
    const NAME: &'static str = "resource-claim-cleaner";
    const SWITCH: &'static str = "resourceclaim-controller";
    const ACCOUNT: &'static str = "resource-claim-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.claims.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(claim) = self.claims.get(key) else { return Ok(Verdict::Done) };
        let owner =
            plan::owning_pod(&claim).and_then(|name| self.pods.get(&ObjectKey::new(&key.namespace, name)));
        let tidy = plan::tidy(&claim, self.users(&claim).await?, owner.as_deref());
        let api: Api<ResourceClaim> = Api::namespaced(self.client.clone(), claim.namespace());
        let mut version = claim.metadata.resource_version.clone();
        if tidy.users.is_some() || tidy.deallocate {
            let mut status = json!({});
            if let Some(users) = &tidy.users {
                status["reservedFor"] = json!(Some(users).filter(|users| !users.is_empty()));
            }
            if tidy.deallocate {
                status["allocation"] = json!(null);
            }
            let patch = Patch::Merge(json!({"metadata": {"resourceVersion": version}, "status": status}));
            let told = api.patch_status(claim.name(), &Default::default(), &patch).await;
            let Some(told) = gone_is_fine(told)? else { return Ok(Verdict::Done) };
            version = told.metadata.resource_version;
        }
        if let Some(finalizers) = tidy.finalizers {
            let meta = json!({"finalizers": finalizers, "resourceVersion": version});
            let patch = Patch::Merge(json!({"metadata": meta}));
            gone_is_fine(api.patch(claim.name(), &Default::default(), &patch).await)?;
        }
        if tidy.delete {
            gone_is_fine(api.delete(claim.name(), &only(claim.uid())).await)?;
        }
        Ok(Verdict::Done)
    }
}
