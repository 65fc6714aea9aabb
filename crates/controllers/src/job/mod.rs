//! Jobs run pods until enough of them have succeeded.

mod indexes;
mod plan;
mod ttl;

use std::sync::Arc;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod},
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PostParams, Preconditions},
};
use serde_json::json;
use tiphys_client::{Expectations, ObjectKey, Queue, Reader, Verdict, events::Recorder, key::controller_of};

use self::plan::{INDEX, Plan, TRACKING, plan};
use crate::{
    claim::{self, Owns, claim, gone_is_fine},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pods::{from_template, name_prefix},
};

pub(crate) use self::ttl::TtlAfterFinished;

pub(crate) struct Jobs {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    expectations: Arc<Expectations>,
    jobs: Reader<Job>,
    pods: Reader<Pod>,
}

impl Jobs {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        let expectations = Arc::new(Expectations::new());
        informers.jobs.on_change({
            let (queue, expectations) = (queue.clone(), expectations.clone());
            move |change| {
                if change.new.is_none() {
                    expectations.forget(&change.key);
                }
                queue.add(change.key.clone());
            }
        });
        informers.pods.on_change({
            let (queue, expectations) = (queue.clone(), expectations.clone());
            move |change| {
                let owner = |pod: &Arc<Pod>| {
                    let controller = controller_of(&pod.metadata).filter(|o| o.kind == "Job")?;
                    Some(ObjectKey::new(pod.namespace(), &controller.name))
                };
                let (old, new) = (change.old.as_ref(), change.new.as_ref());
                if old.is_none()
                    && let Some(owner) = new.and_then(owner)
                {
                    expectations.created(&owner);
                }
                if new.is_none_or(|p| p.is_going())
                    && let Some((pod, owner)) = old.or(new).and_then(|p| Some((p, owner(p)?)))
                {
                    expectations.deleted(&owner, pod.uid());
                }
                for owner in [old.and_then(owner), new.and_then(owner)].into_iter().flatten() {
                    queue.add(owner);
                }
            }
        });
        let (jobs, pods) = (informers.jobs.reader(), informers.pods.reader());
        Self { client, events, queue, expectations, jobs, pods }
    }
}

impl Controller for Jobs {
    const NAME: &'static str = "job-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.jobs.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(job) = self.jobs.get(key) else { return Ok(Verdict::Done) };
        let managed_elsewhere = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
        if managed_elsewhere.is_some_and(|m| m != "kubernetes.io/job-controller") {
            return Ok(Verdict::Done);
        }
        let jobs: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let selector = job.spec.as_ref().and_then(|s| s.selector.clone()).unwrap_or_default();
        let caught_up = self.expectations.satisfied(key);
        let claims = claim(job.uid(), job.is_going(), &Owns::new(&selector), claim::near(&self.pods, &*job));
        let owned = claim::settle(&jobs, &pods, &*job, claims).await?;
        let Plan { status, free, delete, create, look_again, ended } =
            plan(&job, &owned, caught_up, Timestamp::now());
        if job.status.as_ref() != Some(&status) {
            // Counting relies on the status that was read: a newer one must not be overwritten.
            let patch = json!({
                "metadata": {"uid": job.uid(), "resourceVersion": job.metadata.resource_version},
                "status": with_nulls(&status),
            });
            jobs.patch_status(job.name(), &Default::default(), &Patch::Merge(patch)).await?;
        }
        if let Some(condition) = ended {
            let (reason, message) = if condition.type_ == "Complete" {
                ("Completed", "Job completed".to_owned())
            } else {
                (
                    condition.reason.as_deref().unwrap_or("Failed"),
                    condition.message.clone().unwrap_or_default(),
                )
            };
            let tell = if condition.type_ == "Complete" { Recorder::normal } else { Recorder::warning };
            tell(&self.events, &job.as_reference(), reason, message);
        }
        for result in join_all(free.iter().map(|pod| release(&pods, pod))).await {
            result?;
        }
        self.delete(&job, &pods, delete).await?;
        self.create(&job, &pods, create).await?;
        Ok(look_again.map_or(Verdict::Done, Verdict::After))
    }
}

/// Fields that are gone must be said to be so in a merge patch.
fn with_nulls(status: &k8s_openapi::api::batch::v1::JobStatus) -> serde_json::Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for name in ["uncountedTerminatedPods", "startTime", "completedIndexes"] {
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

impl Jobs {
    async fn create(&self, job: &Job, pods: &Api<Pod>, wanted: Vec<Option<u32>>) -> Result<(), kube::Error> {
        let Some(spec) = &job.spec else { return Ok(()) };
        let key = job.key();
        self.expectations.expect_creations(&key, wanted.len());
        let (mut rest, mut batch) = (wanted.as_slice(), 1);
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            rest = later;
            let mut failed = None;
            let results = join_all(now.iter().map(|index| async move {
                let pod = pod_of(job, &spec.template, *index);
                pods.create(&PostParams::default(), &pod).await
            }));
            for result in results.await {
                match result {
                    Ok(made) => {
                        let message = format!("Created pod: {}", made.name());
                        self.events.normal(&job.as_reference(), "SuccessfulCreate", message);
                    }
                    Err(error) => {
                        self.expectations.created(&key);
                        let message = format!("Error creating: {error}");
                        self.events.warning(&job.as_reference(), "FailedCreate", message);
                        failed = Some(error);
                    }
                }
            }
            if let Some(error) = failed {
                rest.iter().for_each(|_| self.expectations.created(&key));
                return Err(error);
            }
            batch *= 2;
        }
        Ok(())
    }

    async fn delete(&self, job: &Job, pods: &Api<Pod>, doomed: Vec<Arc<Pod>>) -> Result<(), kube::Error> {
        let key = job.key();
        self.expectations.expect_deletions(&key, doomed.iter().map(|p| p.uid().to_owned()));
        let mut failed = None;
        for pod in doomed {
            let precondition = Preconditions { uid: Some(pod.uid().to_owned()), resource_version: None };
            let params = DeleteParams { preconditions: Some(precondition), ..Default::default() };
            match pods.delete(pod.name(), &params).await {
                Ok(_) => {
                    let message = format!("Deleted pod: {}", pod.name());
                    self.events.normal(&job.as_reference(), "SuccessfulDelete", message);
                }
                Err(error) => {
                    self.expectations.deleted(&key, pod.uid());
                    failed = gone_is_fine(Err::<(), _>(error)).err().or(failed);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// A pod of the Job, tracked; in an indexed Job it learns its index by annotation, label, host name and
/// environment.
fn pod_of(job: &Job, template: &k8s_openapi::api::core::v1::PodTemplateSpec, index: Option<u32>) -> Pod {
    let prefix = match index {
        Some(index) => format!("{}-{index}-", job.name()),
        None => name_prefix(job.name()),
    };
    let mut pod = from_template(template, &prefix, job.namespace(), job.as_controller());
    pod.metadata.finalizers.get_or_insert_default().push(TRACKING.to_owned());
    let Some(index) = index else { return pod };
    pod.metadata.annotations.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    pod.metadata.labels.get_or_insert_default().insert(INDEX.to_owned(), index.to_string());
    if let Some(spec) = &mut pod.spec {
        spec.hostname.get_or_insert_with(|| format!("{}-{index}", job.name()));
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
