//! Tells in the status of validating admission policies what their expressions get wrong about the kinds that they
//! are about (KEP-3488). A policy works all the same: an expression may know better.

mod plan;

use http::{Request, header::ACCEPT};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
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
        match judge(&self.client, &self.kinds, &policy).await {
            // It is gone as soon as the watch says so, and then there is nothing left to look at.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Verdict::Again),
            // Whatever else came in between, another look finds out; nobody else tells the status.
            result => result.map(|()| Verdict::Done),
        }
    }
}

/// Tells in a policy's status what is wrong with it, unless that is told already.
async fn judge(
    client: &Client,
    kinds: &Kinds,
    policy: &ValidatingAdmissionPolicy,
) -> Result<(), kube::Error> {
    let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
    if observed == policy.metadata.generation {
        return Ok(());
    }
    let tree = serde_json::to_value(policy).map_err(kube::Error::SerdeError)?;
    let mut others = plan::Others::default();
    for gv in plan::unknown(&tree, kinds) {
        let path = format!("/apis/{}/{}", gv.0, gv.1);
        let Some(resources) = read(client, &path).await? else { continue };
        let Some(document) = read(client, &format!("/openapi/v3{path}")).await? else { continue };
        others.learn(&gv, &resources, &document);
    }
    let warnings: Vec<_> = plan::warnings(&tree, &plan::Known { kinds, others })
        .into_iter()
        .map(|plan::Warning { field, warning }| json!({"fieldRef": field, "warning": warning}))
        .collect();
    let checked = if warnings.is_empty() { json!({}) } else { json!({"expressionWarnings": warnings}) };
    let patch = json!({
        "metadata": {"uid": policy.metadata.uid},
        "status": {"observedGeneration": policy.metadata.generation, "typeChecking": checked},
    });
    let api: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let name = policy.metadata.name.as_deref().unwrap_or_default();
    api.patch_status(name, &PatchParams::default(), &Patch::Merge(patch)).await.map(|_| ())
}

/// A document of the server; `None` where it has none.
async fn read(client: &Client, path: &str) -> Result<Option<Value>, kube::Error> {
    let request = Request::get(path).header(ACCEPT, "application/json").body(Vec::new());
    let request = request.map_err(kube::Error::HttpError)?;
    match client.request(request).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        result => result.map(Some),
    }
}

#[cfg(test)]
#[path = "policy_status_tests.rs"]
mod tests;
