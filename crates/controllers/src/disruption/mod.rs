//! PodDisruptionBudgets are told how many of their pods can be spared; evictions are counted against that.

mod owners;
mod plan;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use kube::{
    Api, Client,
    api::Patch,
    core::{Selector, SelectorExt},
};
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::{
    owners::Owners,
    plan::{Plan, failed, needs_scale, plan},
};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::Pod,
};

pub(crate) struct Disruption {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    budgets: Reader<PodDisruptionBudget>,
    pods: Reader<Pod>,
    owners: Owners,
}

/// What the budget is over: nothing without a selector, all with an empty one.
fn selector(budget: &PodDisruptionBudget) -> Option<Selector> {
    Selector::try_from(budget.spec.as_ref()?.selector.clone()?).ok()
}

fn covers(selector: &Selector, pod: &Pod) -> bool {
    match &pod.metadata.labels {
        Some(labels) => selector.matches(labels),
        None => selector.matches(&std::collections::BTreeMap::new()),
    }
}

impl Disruption {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        informers.disruption_budgets.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        let budgets = informers.disruption_budgets.reader();
        informers.pods.on_change({
            let (queue, budgets) = (queue.clone(), budgets.clone());
            move |change| {
                for budget in budgets.list_in(&change.key.namespace) {
                    let Some(selector) = selector(&budget) else { continue };
                    let mut pods = [&change.old, &change.new].into_iter().flatten();
                    if pods.any(|pod| covers(&selector, pod)) {
                        queue.add(budget.key());
                    }
                }
            }
        });
        let owners = Owners::new(client.clone(), informers);
        Self { client, events, queue, budgets, pods: informers.pods.reader(), owners }
    }
}

impl Controller for Disruption {
    const NAME: &'static str = "controllermanager";
    const SWITCH: &'static str = "disruption-controller";
    const ACCOUNT: &'static str = "disruption-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.budgets.synced().await;
        self.pods.synced().await;
        self.owners.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(budget) = self.budgets.get(key) else { return Ok(Verdict::Done) };
        let selector = selector(&budget);
        let covered = |pod: &Arc<Pod>| selector.as_ref().is_some_and(|s| covers(s, pod));
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(covered);
        let about = budget.as_reference();
        let now = Timestamp::now();
        let expected = if needs_scale(&budget) {
            match self.owners.expected(&pods).await? {
                Ok(expected) => expected,
                Err(why) => {
                    self.events.warning(&about, why.reason(), why.to_string());
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    self.events.warning(&about, "CalculateExpectedPodCountFailed", message);
                    self.write(&budget, failed(&budget, &why.to_string(), now)).await?;
                    return Ok(Verdict::Again);
                }
            }
        } else {
            owners::Expected::default()
        };
        let Plan { status, look_again, stayed, spared } = plan(&budget, &pods, expected.pods, now);
        let news = self.write(&budget, status).await?;
        if news && pods.is_empty() {
            self.events.normal(&about, "NoPods", "No matching pods found");
        }
        if news && expected.unmanaged {
            let over = selector.map(|s| s.to_string()).unwrap_or_default();
            self.events.warning(&about, "UnmanagedPods", unmanaged(&over));
        }
        for pod in stayed {
            let message = format!("Pod was expected by PDB {key} to be deleted but it wasn't");
            self.events.warning(&pod.as_reference(), "NotDeleted", message);
        }
        for pod in spared {
            self.spare(&pod, now).await?;
        }
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}

fn unmanaged(selector: &str) -> String {
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, the \
         status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account for these \
         pods please set \".spec.minAvailable\" field of the PDB to an integer value."
    )
}

impl Disruption {
    /// Writes the status, if it is another. What evictions have taken from the budget meanwhile is never given back: the
    /// budget must be the one that was read.
    async fn write(
        &self,
        budget: &PodDisruptionBudget,
        status: PodDisruptionBudgetStatus,
    ) -> Result<bool, kube::Error> {
        if budget.status.as_ref() == Some(&status) {
            return Ok(false);
        }
        let mut patch = json!({
            "metadata": {"uid": budget.uid(), "resourceVersion": budget.metadata.resource_version},
            "status": status,
        });
        // A merge patch keeps what it does not name.
        let promised = budget.status.as_ref().and_then(|s| s.disrupted_pods.as_ref());
        for pod in promised.into_iter().flatten().map(|(pod, _)| pod) {
            if !status.disrupted_pods.as_ref().is_some_and(|pods| pods.contains_key(pod)) {
                patch["status"]["disruptedPods"][pod] = Value::Null;
            }
        }
        let budgets: Api<PodDisruptionBudget> = Api::namespaced(self.client.clone(), budget.namespace());
        match budgets.patch_status(budget.name(), &Default::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            result => result.map(|_| true),
        }
    }

    /// Says that a pod is not being disrupted after all.
    async fn spare(&self, pod: &Pod, now: Timestamp) -> Result<(), kube::Error> {
        let condition = json!({"type": "DisruptionTarget", "status": "False", "lastTransitionTime":
            k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now)});
        let patch = json!({
            "metadata": {"uid": pod.uid(), "resourceVersion": pod.metadata.resource_version},
            "status": {"conditions": [condition]},
        });
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), pod.namespace());
        gone_is_fine(pods.patch_status(pod.name(), &Default::default(), &Patch::Strategic(patch)).await)
            .map(drop)
    }
}
