//! Jobs run pods until enough of them have succeeded.

mod indexes;
mod orphans;
mod plan;
mod policy;
mod ttl;

use std::time::Instant;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::{Job, JobCondition},
    core::v1::{self, EnvVar, EnvVarSource, ObjectFieldSelector, PodTemplateSpec},
};
use kube::{Api, api::Patch};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Verdict, informer::LOST_AFTER};

use self::plan::{NewPod, Plan, TRACKING, plan};
use crate::{
    controller::{Controller, Tools},
    informers::Informers,
    metrics,
    object::Object,
    pod::Pod,
    pod_control::PodControl,
    pods::{from_template, name_prefix},
};

pub(crate) use self::{
    orphans::OrphanedPods,
    plan::{FAILURES, IGNORED_FAILURES, INDEX},
    ttl::TtlAfterFinished,
};

pub(crate) struct Jobs(PodControl<Job>);

impl Jobs {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        Self(PodControl::new(tools, &mut informers.jobs, &mut informers.pods))
    }
}

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.0.queue.clone()
    }

    async fn synced(&self) {
        self.0.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(job) = self.0.owners.get(key) else { return Ok(Verdict::Done) };
        if self.0.owners.is_behind(key) {
            return Ok(Verdict::After(LOST_AFTER));
        }
        let managed_elsewhere = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
        if managed_elsewhere.is_some_and(|m| m != "kubernetes.io/job-controller") {
            return Ok(Verdict::Done);
        }
        let (begun, mut action) = (Instant::now(), "reconciling");
        let done = self.sync(key, &job, &mut action).await;
        metrics::job_looked_at(&job, done.is_ok(), action, begun.elapsed());
        done
    }
}

impl Jobs {
    /// Does what the Job needs; `action` becomes what metrics call that.
    async fn sync(
        &self,
        key: &ObjectKey,
        job: &Job,
        action: &mut &'static str,
    ) -> Result<Verdict, kube::Error> {
        let jobs: Api<Job> = Api::namespaced(self.0.client.clone(), &key.namespace);
        let (owned, caught_up) = self.0.owned(&jobs, job).await?;
        let Plan { status, free, delete, create, look_again, news, handled } =
            plan(job, &owned, caught_up, Timestamp::now());
        *action = match (create.is_empty(), delete.is_empty()) {
            (false, _) => "pods_created",
            (_, false) => "pods_deleted",
            _ if caught_up => "tracking",
            _ => "reconciling",
        };
        if job.status.as_ref() != Some(&status) {
            // Counting relies on the status that was read: a newer one must not be overwritten.
            let patch = json!({
                "metadata": {"uid": job.uid(), "resourceVersion": job.metadata.resource_version},
                "status": with_nulls(&status),
            });
            let written = jobs.patch_status(job.name(), &Default::default(), &Patch::Merge(patch)).await?;
            self.0.owners.wrote(&written.metadata);
            metrics::job_pods_counted(job, &status);
            handled.into_iter().for_each(metrics::job_policy_applied);
        }
        for condition in news {
            if matches!(condition.type_.as_str(), "Complete" | "Failed") {
                metrics::job_finished(job, &condition);
            }
            self.tell(job, &condition);
        }
        let pods = self.0.api(job);
        for result in join_all(free.iter().map(|pod| release(&pods, pod))).await {
            result?;
        }
        self.0.delete(job, &delete).await?;
        if let Some(spec) = &job.spec {
            self.0.create(job, &create, |wanted| pod_of(job, &spec.template, wanted)).await?;
        }
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }

    /// Says in an event what a condition, just set, says of the Job.
    fn tell(&self, job: &Job, condition: &JobCondition) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let about = job.as_reference();
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("Complete", _) => self.0.events.normal(&about, "Completed", "Job completed"),
            ("Suspended", "True") => self.0.events.normal(&about, "Suspended", "Job suspended"),
            ("Suspended", _) => self.0.events.normal(&about, "Resumed", "Job resumed"),
            _ => self.0.events.warning(&about, &text(&condition.reason), text(&condition.message)),
        }
    }
}

/// Fields that are gone must be said to be so in a merge patch.
fn with_nulls(status: &k8s_openapi::api::batch::v1::JobStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for name in ["uncountedTerminatedPods", "startTime", "completedIndexes", "failedIndexes"] {
            fields.entry(name).or_insert(serde_json::Value::Null);
        }
        // A merge patch would keep a list of the old object.
        if let Some(uncounted) = fields.get_mut("uncountedTerminatedPods").and_then(|u| u.as_object_mut()) {
            for name in ["succeeded", "failed"] {
                uncounted.entry(name).or_insert(serde_json::Value::Null);
            }
        }
    }
    value
}

async fn release(pods: &Api<Pod>, pod: &Pod) -> Result<(), kube::Error> {
    let left: Vec<_> = pod.metadata.finalizers.iter().flatten().filter(|f| *f != TRACKING).collect();
    let patch = json!({"metadata": {
        "uid": pod.uid(), "resourceVersion": pod.metadata.resource_version, "finalizers": left,
    }});
    match pods.patch(pod.name(), &Default::default(), &Patch::Merge(patch)).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        result => result.map(drop),
    }
}

/// What the API keeps of a prefix when it generates a name, in bytes.
const LONGEST_PREFIX: usize = 58;

/// The prefix of the names of an index's pods: of a long name of the Job's, rather than of the index, the end is left out.
fn indexed_prefix(job: &str, index: u32) -> String {
    let end = format!("-{index}-");
    let start = job.get(..LONGEST_PREFIX.saturating_sub(end.len())).unwrap_or(job);
    start.to_owned() + &end
}

/// A pod of the Job, tracked; in an indexed Job it learns its index by annotation, label, host name and
/// environment.
fn pod_of(job: &Job, template: &PodTemplateSpec, wanted: &NewPod) -> v1::Pod {
    let prefix = match wanted.index {
        Some(index) => indexed_prefix(job.name(), index),
        None => name_prefix(job.name()),
    };
    let mut pod = from_template(template, &prefix, job.namespace(), job.as_controller());
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    let Some(index) = wanted.index else { return pod };
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(INDEX.to_owned(), index.to_string());
    if let Some(failures) = wanted.failures {
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED_FAILURES.to_owned(), failures.ignored.to_string());
        }
    }
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname = Some(format!("{}-{index}", job.name()));
        let containers = spec.containers.iter_mut().chain(spec.init_containers.iter_mut().flatten());
        for container in containers {
            let env = container.env.get_or_insert_default();
            if env.iter().all(|e| e.name != "JOB_COMPLETION_INDEX") {
                env.push(EnvVar {
                    name: "JOB_COMPLETION_INDEX".to_owned(),
                    value: None,
                    value_from: Some(EnvVarSource {
                        field_ref: Some(ObjectFieldSelector {
                            api_version: None,
                            field_path: format!("metadata.labels['{INDEX}']"),
                        }),
                        ..Default::default()
                    }),
                });
            }
        }
    }
    pod
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_told_by_its_pods_names() {
        assert_eq!(indexed_prefix("sums", 12), "sums-12-");
        let long = indexed_prefix(&"x".repeat(60), 12);
        assert_eq!((long.len(), long.ends_with("x-12-")), (LONGEST_PREFIX, true));
    }

    #[test]
    fn an_indexed_pod_has_the_host_name_of_its_index() {
        let job: Job =
            serde_json::from_value(json!({"metadata": {"name": "sums", "namespace": "ns", "uid": "u"}}))
                .expect("a Job");
        let template: PodTemplateSpec =
            serde_json::from_value(json!({"spec": {"hostname": "all", "containers": []}}))
                .expect("a template");
        let pod = pod_of(&job, &template, &NewPod { index: Some(3), failures: None });
        assert_eq!(pod.spec.and_then(|spec| spec.hostname).as_deref(), Some("sums-3"));
    }
}
