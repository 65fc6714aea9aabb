//! What the scheduler writes: bindings and what goes before them, refusals, and the end of those that make room.

use k8s_openapi::api::{
    core::v1::{Binding, ObjectReference, PersistentVolume, PersistentVolumeClaim},
    scheduling::v1beta1::PodGroup,
};
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
    core::Status,
};
use serde_json::{Value, json};
use tiphys_client::{
    ObjectKey, ObjectRef,
    storage::{BOUND_BY_CONTROLLER, SELECTED_NODE},
};
use tracing::debug;

use crate::{
    claiming::{ClaimingError, NotReady},
    cycle::Refusal,
    extender::ExtenderError,
    framework::{Errand, Point},
    gang::SCHEDULED,
    metrics::{self, Laps, Tried},
    pod::{Pod, PodInfo, SharedPod},
    preemption::{Plan, Release},
    runner::Shared,
    snapshot::claims,
};

/// Why a pod that had a node did not get there.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("writing the binding: {0}")]
    Binding(#[source] kube::Error),
    #[error("preparing the volumes: {0}")]
    Volumes(#[source] kube::Error),
    #[error(transparent)]
    Claiming(#[from] ClaimingError),
    #[error(transparent)]
    Extender(#[from] ExtenderError),
    #[error("the volumes of the pod were not bound in time")]
    Late,
    #[error(transparent)]
    Devices(#[from] NotReady),
}

fn now() -> String {
    jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Shared {
    fn pods(&self, pod: &PodInfo) -> Api<Pod> {
        Api::namespaced(self.client.clone(), &pod.key().namespace)
    }

    fn say(&self, pod: &PodInfo, is_normal: bool, reason: &str, message: String) {
        let Some(events) = self.events(&pod.scheduler) else { return };
        if is_normal {
            events.normal(&reference(pod), reason, message);
        } else {
            events.warning(&reference(pod), reason, message);
        }
    }

    /// PreBind and Bind.
    pub(crate) async fn bind(&self, pod: &SharedPod, node: &str, errands: Vec<Errand>, tried: Tried) {
        let mut made = None;
        match self.try_bind(pod, node, &errands, &mut made).await {
            Ok(()) => {
                tried.scheduled(&pod.scheduler);
                let message = format!("Successfully assigned {} to {node}", pod.key());
                self.say(pod, true, "Scheduled", message);
            }
            Err(error) => {
                tried.ended("error", &pod.scheduler);
                debug!(pod = %pod.key(), node, %error, "not bound");
                let gone = matches!(&error, Failed::Binding(kube::Error::Api(status)) if status.code == 404);
                if !gone {
                    self.say(pod, false, "FailedScheduling", format!("Binding rejected: {error}"));
                }
                self.return_devices(pod, &errands, made).await;
                self.forget(pod, gone);
            }
        }
    }

    /// `made`: the claim that had to be made for it, once it is there.
    async fn try_bind(
        &self,
        pod: &SharedPod,
        node: &str,
        errands: &[Errand],
        made: &mut Option<ObjectKey>,
    ) -> Result<(), Failed> {
        let mut laps = Laps::begin(&pod.scheduler);
        let mut lap = |point, done: bool| laps.end(point, if done { "Success" } else { "Error" });
        if !errands.is_empty() {
            let done = self.pre_bind(pod, node, errands, made).await;
            lap(Point::PreBind, done.is_ok());
            done?;
        }
        let bound = self.write_binding(pod, node).await;
        lap(Point::Bind, bound.is_ok());
        bound
    }

    /// What plugins want to have done before.
    async fn pre_bind(
        &self,
        pod: &SharedPod,
        node: &str,
        errands: &[Errand],
        made: &mut Option<ObjectKey>,
    ) -> Result<(), Failed> {
        // Only pods of a profile come here.
        let times = self.profile(&pod.scheduler).map(|profile| (profile.binding, profile.devices));
        let (time, of_devices) = times.unwrap_or_default();
        for errand in errands {
            match errand {
                Errand::ClaimDevices { claiming, allocation } => {
                    self.claim_devices(pod, claiming, allocation.as_deref(), made).await?;
                }
                Errand::AwaitDevices => {
                    let message = format!("waiting for binding conditions for device on node {node}");
                    self.say(pod, true, "BindingConditionsPending", message);
                    self.until_ready(pod, made.as_ref(), of_devices).await?;
                }
                errand => self.run(pod, errand).await?,
            }
        }
        let bound = tokio::time::timeout(time, self.until_bound(pod));
        bound.await.map_err(|_| Failed::Late)
    }

    async fn write_binding(&self, pod: &SharedPod, node: &str) -> Result<(), Failed> {
        if let Some(extender) = self.extenders.iter().find(|e| e.binds() && e.minds(pod)) {
            return Ok(extender.bind(pod, node).await?);
        }
        let key = pod.key();
        let binding = Binding {
            metadata: ObjectMeta {
                name: Some(key.name.to_string()),
                namespace: Some(key.namespace.to_string()),
                uid: Some(pod.reference.uid.to_string()),
                ..ObjectMeta::default()
            },
            target: ObjectReference {
                api_version: Some("v1".to_owned()),
                kind: Some("Node".to_owned()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let written: Result<Value, _> =
            self.pods(pod).create_subresource("binding", &key.name, &PostParams::default(), &binding).await;
        written.map(drop).map_err(Failed::Binding)
    }

    async fn run(&self, pod: &PodInfo, errand: &Errand) -> Result<(), Failed> {
        match errand {
            Errand::BindVolume { volume, claim, uid } => {
                self.bind_volume(volume, claim, uid).await.map_err(Failed::Volumes)
            }
            Errand::Provision { claim, node } => {
                let patch = json!({"metadata": {"annotations": {SELECTED_NODE: node}}});
                let claims: Api<PersistentVolumeClaim> =
                    Api::namespaced(self.client.clone(), &claim.namespace);
                let told = claims.patch(&claim.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
                told.map(drop).map_err(Failed::Volumes)
            }
            Errand::UseDevices { claim, uid, allocation } => {
                Ok(self.use_devices(pod, claim, uid, allocation.as_deref()).await?)
            }
            // What is done with them depends on what was done before.
            Errand::ClaimDevices { .. } | Errand::AwaitDevices => Ok(()),
        }
    }

    async fn bind_volume(&self, volume: &str, claim: &ObjectKey, uid: &str) -> kube::Result<()> {
        let volumes: Api<PersistentVolume> = Api::all(self.client.clone());
        let seen = volumes.get(volume).await?;
        if !is_free_for(&seen, claim, uid) {
            let taken = format!("volume {volume:?} already bound to a different claim.");
            return Err(kube::Error::Api(Status::failure(&taken, "Conflict").with_code(409).boxed()));
        }
        // Nobody else's claim may have got it meanwhile.
        let patch = json!({
            "metadata": {"resourceVersion": seen.metadata.resource_version,
                "annotations": {BOUND_BY_CONTROLLER: "yes"}},
            "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": &*claim.namespace, "name": &*claim.name, "uid": uid}},
        });
        volumes.patch(volume, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }

    /// Waits until every claim of the pod is bound.
    async fn until_bound(&self, pod: &PodInfo) {
        let mut changes = self.storage.subscribe();
        loop {
            let bound = {
                let state = self.lock();
                let known = &state.snapshot.surroundings().storage.claims;
                claims(pod).all(|key| known.get(&key).is_some_and(|claim| claim.is_bound))
            };
            // The sender lives as long as `self`.
            if bound || changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Says why the pod has no node, once for each new answer, and makes room if that is the plan.
    pub(crate) async fn refuse(&self, pod: &SharedPod, refusal: Refusal) {
        let Refusal { message, plugins, plan, gives_up, release, .. } = refusal;
        self.say(pod, false, "FailedScheduling", message.clone());
        let mut status = json!({});
        if pod.told.as_deref() != Some(&*message) {
            status["conditions"] = json!([{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
                "message": message, "lastProbeTime": null, "lastTransitionTime": now()}]);
        }
        if let Some(plan) = &plan {
            status["nominatedNodeName"] = json!(plan.node);
        } else if gives_up && !pod.nominated.is_empty() {
            status["nominatedNodeName"] = Value::Null;
        }
        if status.as_object().is_some_and(|fields| !fields.is_empty()) {
            self.patch_status(pod, status).await;
        }
        if let Some(plan) = plan {
            self.make_room(pod, plan, plugins).await;
        }
        match release {
            Some(Release::Devices(claim)) => self.release_devices(pod, &claim).await,
            Some(Release::Claim(claim)) => self.delete_claim(&claim).await,
            None => {}
        }
    }

    /// Tells each node's answer.
    pub(crate) async fn report(&self, pod: &PodInfo, report: Value) {
        let told: Result<Value, _> =
            self.pods(pod).create_subresource("why", &pod.key().name, &PostParams::default(), &report).await;
        // Only a Tiphys server takes reports; the condition tells the same of all nodes together.
        if let Err(error) = told {
            debug!(pod = %pod.key(), %error, "reporting each node's answer");
        }
    }

    /// Says of a PodGroup whether it has been placed.
    pub(crate) async fn tell_group(&self, group: &ObjectKey, placed: Result<(), String>) {
        let (status, reason, message) = match placed {
            Ok(()) => ("True", "Scheduled", "All required pods have been successfully scheduled".to_owned()),
            Err(why) => ("False", "Unschedulable", why),
        };
        let condition = json!({"type": SCHEDULED, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": now()});
        let patch = json!({"status": {"conditions": [condition]}});
        let groups: Api<PodGroup> = Api::namespaced(self.client.clone(), &group.namespace);
        let written =
            groups.patch_status(&group.name, &PatchParams::default(), &Patch::Strategic(patch)).await;
        if let Err(error) = written {
            debug!(%group, %error, "writing the group's status");
        }
    }

    pub(crate) async fn write_status(&self, pod: &PodInfo, status: Value) -> kube::Result<()> {
        let patch = json!({"metadata": {"uid": &*pod.reference.uid}, "status": status});
        let (pods, how) = (self.pods(pod), PatchParams::default());
        pods.patch_status(&pod.key().name, &how, &Patch::Strategic(patch)).await.map(drop)
    }

    async fn patch_status(&self, pod: &PodInfo, status: Value) {
        if let Err(error) = self.write_status(pod, status).await {
            debug!(pod = %pod.key(), %error, "writing the pod's status");
        }
    }

    /// Deletes the victims, and lets those look elsewhere that the room was meant for before.
    async fn make_room(&self, pod: &SharedPod, plan: Plan, plugins: Vec<&'static str>) {
        metrics::victims(plan.victims.len());
        let victims = plan.victims.iter().filter(|victim| !victim.going).map(async |victim: &SharedPod| {
            let message = format!("{}: preempting to accommodate a higher priority pod", pod.scheduler);
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": message, "lastTransitionTime": now()});
            self.patch_status(victim, json!({"conditions": [condition]})).await;
            let precondition =
                Preconditions { uid: Some(victim.reference.uid.to_string()), resource_version: None };
            let how = DeleteParams { preconditions: Some(precondition), ..DeleteParams::default() };
            match self.pods(victim).delete(&victim.key().name, &how).await {
                Ok(_) => {
                    let message = format!("Preempted by pod {} on node {}", pod.reference.uid, plan.node);
                    if let Some(events) = self.events(&pod.scheduler) {
                        events.normal(&reference(victim), "Preempted", message);
                    }
                    None
                }
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                // The next attempt of the pod finds it again.
                Err(error) => {
                    debug!(victim = %victim.key(), %error, "deleting a victim");
                    Some(victim.clone())
                }
            }
        });
        let spared: Vec<SharedPod> = futures::future::join_all(victims).await.into_iter().flatten().collect();
        for other in &plan.displaced {
            self.patch_status(other, json!({"nominatedNodeName": null})).await;
        }
        self.made_room(pod, plugins, &spared);
    }
}

fn reference(pod: &PodInfo) -> ObjectReference {
    let ObjectRef { key, uid } = &pod.reference;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(key.namespace.to_string()),
        name: Some(key.name.to_string()),
        uid: Some(uid.to_string()),
        resource_version: Some(pod.resource_version.to_string()),
        ..ObjectReference::default()
    }
}

/// Whether a volume is nobody's, or this claim's.
fn is_free_for(volume: &PersistentVolume, claim: &ObjectKey, uid: &str) -> bool {
    let Some(named) = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()) else { return true };
    let is = |named: &Option<String>, one: &str| named.as_deref().unwrap_or_default() == one;
    is(&named.namespace, &claim.namespace)
        && is(&named.name, &claim.name)
        && (is(&named.uid, "") || is(&named.uid, uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_volume_that_somebody_has_is_not_taken_away() {
        let key = ObjectKey::new("ns", "data");
        let free = |claim: Value| {
            let volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": claim}});
            is_free_for(&serde_json::from_value(volume).expect("a volume"), &key, "u")
        };
        assert!(free(Value::Null));
        assert!(free(json!({"namespace": "ns", "name": "data"})));
        assert!(free(json!({"namespace": "ns", "name": "data", "uid": "u"})));
        assert!(!free(json!({"namespace": "ns", "name": "data", "uid": "before"})));
        assert!(!free(json!({"namespace": "ns", "name": "other", "uid": "u"})));
        assert!(!free(json!({"namespace": "else", "name": "data"})));
    }
}
