//! A ReplicationController, as the ReplicaSet that would do the same.

use std::borrow::Cow;

use k8s_openapi::api::{
    apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus},
    core::v1::ReplicationController,
};

use super::Replicates;
use crate::{
    informers::{Informers, Kept},
    pod::Pod,
    pod_control::RunsPods,
};

impl Replicates for ReplicationController {
    const NAME: &'static str = "replication-controller";
    const SWITCH: &'static str = "replicationcontroller-controller";

    fn informers(all: &mut Informers) -> (&mut Kept<Self>, &mut Kept<Pod>) {
        (&mut all.replication_controllers, &mut all.pods)
    }

    fn as_set(&self) -> Cow<'_, ReplicaSet> {
        let spec = self.spec.clone().unwrap_or_default();
        let status = self.status.clone().map(|status| ReplicaSetStatus {
            replicas: status.replicas,
            fully_labeled_replicas: status.fully_labeled_replicas,
            ready_replicas: status.ready_replicas,
            available_replicas: status.available_replicas,
            terminating_replicas: None,
            observed_generation: status.observed_generation,
            conditions: status.conditions.map(|list| {
                let condition = list.into_iter().map(|c| ReplicaSetCondition {
                    type_: Some(c.type_),
                    status: Some(c.status),
                    reason: c.reason,
                    message: c.message,
                    last_transition_time: c.last_transition_time,
                });
                condition.collect()
            }),
        });
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: ReplicaSetSpec {
                min_ready_seconds: spec.min_ready_seconds,
                replicas: spec.replicas,
                selector: self.selector().unwrap_or_default().into_owned(),
                template: spec.template,
            },
            status,
        })
    }

    /// It has no word for pods that are going.
    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus {
        ReplicaSetStatus { terminating_replicas: None, ..status }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn it_asks_for_and_tells_what_a_set_would() {
        let owner: ReplicationController = serde_json::from_value(json!({
            "metadata": {"name": "rc", "namespace": "ns", "generation": 3},
            "spec": {"replicas": 2, "minReadySeconds": 4, "selector": {"app": "web"}, "template": {"spec": {"containers": []}}},
            "status": {"replicas": 1, "readyReplicas": 1, "availableReplicas": 1, "fullyLabeledReplicas": 1, "observedGeneration": 2,
                "conditions": [{"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "no",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
        }))
        .expect("a ReplicationController");
        let set = owner.as_set().into_owned();
        assert_eq!(set.spec.selector.match_labels.as_ref().expect("labels")["app"], "web");
        assert_eq!((set.spec.replicas, set.spec.min_ready_seconds), (Some(2), Some(4)));
        assert!(set.spec.template.is_some());
        let status = ReplicaSetStatus { terminating_replicas: Some(1), ..set.status.expect("a status") };
        let told: Value = serde_json::to_value(ReplicationController::told(status)).expect("a status");
        assert_eq!(told, serde_json::to_value(&owner.status).expect("a status"));
    }
}
