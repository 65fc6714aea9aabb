//! CronJobs start Jobs at set times.

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        batch::v1::{CronJob, CronJobStatus, Job},
        core::v1::ObjectReference,
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PostParams},
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder, key::controller_of};

use self::plan::{News, Plan, Start, job_name, plan};
use crate::{
    claim::{exists, gone_is_fine, namespace_goes, said},
    controller::{Controller, Tools},
    informers::{BY_CONTROLLER, Informers},
    metrics,
    object::Object,
};

const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

/// Waits are measured by another clock than the one that schedules go by, and that may be set.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

pub(crate) struct CronJobs {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    crons: Reader<CronJob>,
    jobs: Reader<Job>,
    /// The version of each CronJob that its last status was written over: while it is what is seen, the write is not.
    overwritten: Mutex<BTreeMap<ObjectKey, String>>,
}

impl CronJobs {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        informers.cron_jobs.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.jobs.on_change({
            let queue = queue.clone();
            move |change| {
                for job in [&change.old, &change.new].into_iter().flatten() {
                    let owner = controller_of(&job.metadata).filter(|o| o.kind == "CronJob");
                    if let Some(owner) = owner {
                        queue.add(ObjectKey::new(job.namespace(), &owner.name));
                    }
                }
            }
        });
        let (crons, jobs) = (informers.cron_jobs.reader(), informers.jobs.reader());
        Self { client, events, queue, crons, jobs, overwritten: Mutex::default() }
    }

    /// Whether the CronJob is still as it was before the last status was written.
    fn is_behind(&self, key: &ObjectKey, cron: Option<&CronJob>) -> bool {
        let mut all = self.overwritten.lock();
        let seen = cron.and_then(|c| c.metadata.resource_version.as_deref());
        let behind = seen.is_some() && all.get(key).map(String::as_str) == seen;
        if !behind {
            all.remove(key);
        }
        behind
    }

    async fn write(&self, cron: &CronJob, status: &CronJobStatus) -> Result<(), kube::Error> {
        if cron.status.as_ref().unwrap_or(&CronJobStatus::default()) == status {
            return Ok(());
        }
        let mut patch = json!({
            "metadata": {"uid": cron.uid(), "resourceVersion": cron.metadata.resource_version},
            "status": status,
        });
        // A merge patch keeps what it does not name.
        if status.active.is_none() {
            patch["status"]["active"] = Value::Null;
        }
        let crons: Api<CronJob> = Api::namespaced(self.client.clone(), cron.namespace());
        match crons.patch_status(cron.name(), &Default::default(), &Patch::Merge(patch)).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => {
                result?;
                let mut all = self.overwritten.lock();
                all.insert(cron.key(), cron.metadata.resource_version.clone().unwrap_or_default());
                Ok(())
            }
        }
    }

    fn tell(&self, cron: &CronJob, News { warning, reason, message }: &News) {
        let tell = if *warning { Recorder::warning } else { Recorder::normal };
        tell(&self.events, &cron.as_reference(), reason, message.as_str());
    }

    /// Those that the CronJob believes to run, that are not seen, and that the API does not have either.
    async fn lost(
        &self,
        api: &Api<Job>,
        cron: &CronJob,
        seen: &[Arc<Job>],
    ) -> Result<BTreeSet<String>, kube::Error> {
        let mut lost = BTreeSet::new();
        let active = cron.status.as_ref().and_then(|s| s.active.as_deref()).unwrap_or_default();
        for job in active {
            let (Some(name), Some(uid)) = (&job.name, &job.uid) else { continue };
            if seen.iter().all(|s| s.uid() != uid)
                && api.get_opt(name).await?.is_none_or(|there| there.uid() != uid)
            {
                lost.insert(uid.clone());
            }
        }
        Ok(lost)
    }

    /// Deletes a Job with its pods.
    async fn delete(&self, api: &Api<Job>, cron: &CronJob, name: &str) -> Result<(), kube::Error> {
        let about = cron.as_reference();
        match gone_is_fine(api.delete(name, &DeleteParams::background()).await) {
            Ok(Some(_)) => self.events.normal(&about, "SuccessfulDelete", format!("Deleted job {name}")),
            Ok(None) => {}
            Err(error) => {
                let message = format!("Deleted job: {}", said(&error));
                self.events.warning(&about, "FailedDelete", message);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Starts what is due, and says in the plan's status that it runs.
    async fn start(&self, api: &Api<Job>, cron: &CronJob, plan: &mut Plan) -> Result<(), kube::Error> {
        let Some(Start { due, shown, replaced }) = plan.start.take() else { return Ok(()) };
        for old in replaced {
            self.delete(api, cron, old.name.as_deref().unwrap_or_default()).await?;
            plan.gave_way(old.uid.as_deref());
        }
        let job = job_of(cron, due, shown);
        let about = cron.as_reference();
        let made = match api.create(&PostParams::default(), &job).await {
            Ok(made) => {
                let late = Timestamp::now().duration_since(due);
                metrics::cron_job_started(Duration::try_from(late).unwrap_or_default());
                self.events.normal(&about, "SuccessfulCreate", format!("Created job {}", made.name()));
                made
            }
            Err(error) if exists(&error) => match api.get_opt(job.name()).await? {
                // It was made before, and the status that says so was not written.
                Some(made) if controller_of(&made.metadata).is_some_and(|o| o.uid == cron.uid()) => made,
                _ => return Ok(()),
            },
            Err(error) => {
                if !namespace_goes(&error) {
                    let message = format!("Error creating job: {}", said(&error));
                    self.events.warning(&about, "FailedCreate", message);
                }
                return Err(error);
            }
        };
        plan.started(due, ObjectReference { field_path: None, ..made.as_reference() });
        Ok(())
    }
}

/// The Job for one time.
fn job_of(cron: &CronJob, due: Timestamp, shown: String) -> Job {
    let template = &cron.spec.job_template;
    let meta = template.metadata.clone().unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(SCHEDULED.to_owned(), shown);
    Job {
        metadata: ObjectMeta {
            name: Some(job_name(cron, due)),
            namespace: cron.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![cron.as_controller()]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

impl Controller for CronJobs {
    const NAME: &'static str = "cronjob-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.crons.synced().await;
        self.jobs.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let cron = self.crons.get(key);
        // What is written comes back here as a change.
        if self.is_behind(key, cron.as_deref()) {
            return Ok(Verdict::Done);
        }
        let Some(cron) = cron else { return Ok(Verdict::Done) };
        let api: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
        let mut jobs = self.jobs.indexed(BY_CONTROLLER, cron.uid());
        jobs.retain(|job| job.namespace() == cron.namespace());
        let lost = self.lost(&api, &cron, &jobs).await?;
        let mut plan = plan(&cron, &jobs, &lost, Timestamp::now());
        for news in &plan.news {
            self.tell(&cron, news);
        }
        let started = self.start(&api, &cron, &mut plan).await;
        self.write(&cron, &plan.status).await?;
        started?;
        for job in &plan.delete {
            self.delete(&api, &cron, job.name()).await?;
        }
        Ok(plan.look_again.map_or(Verdict::Done, |wait| Verdict::After(wait.min(LONGEST_WAIT))))
    }
}
