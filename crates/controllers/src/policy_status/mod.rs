//! Tells in the status of validating admission policies what their expressions get wrong about the kinds that they
//! are about (KEP-3488). A policy works all the same: an expression may know better.

mod plan;

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tiphys_api::kind::Kinds;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    controller::{Controller, Tools},
    informers::Informers,
};

pub(crate) struct PolicyStatus {
    client: Client,
    queue: Queue<ObjectKey>,
    policies: Reader<ValidatingAdmissionPolicy>,
    kinds: Kinds,
}

impl PolicyStatus {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.validating_policies.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        let policies = informers.validating_policies.reader();
        Self { client: tools.client, queue, policies, kinds: Kinds::current() }
    }
}

impl Controller for PolicyStatus {
    const NAME: &'static str = "validatingadmissionpolicy-status-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.policies.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(policy) = self.policies.get(key) else { return Ok(Verdict::Done) };
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
        if observed == policy.metadata.generation {
            return Ok(Verdict::Done);
        }
        // What the server sent can be written again.
        let Ok(tree) = serde_json::to_value(&*policy) else { return Ok(Verdict::Done) };
        let warnings: Vec<_> = plan::warnings(&tree, &self.kinds)
            .into_iter()
            .map(|plan::Warning { field, warning }| json!({"fieldRef": field, "warning": warning}))
            .collect();
        let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
        let patch = json!({
            "metadata": {"uid": policy.metadata.uid},
            "status": {"observedGeneration": policy.metadata.generation, "typeChecking": checked},
        });
        let api: Api<ValidatingAdmissionPolicy> = Api::all(self.client.clone());
        match api.patch_status(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Verdict::Done),
            // Whatever else came in between, another look finds out; nobody else tells the status.
            result => result.map(|_| Verdict::Done),
        }
    }
}
