//! Finished Jobs go when their time is over.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::{
    Api, Client,
    api::{DeleteParams, Preconditions, PropagationPolicy},
};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use super::plan::ended;
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

pub(crate) struct TtlAfterFinished {
    client: Client,
    queue: Queue<ObjectKey>,
    jobs: Reader<Job>,
}

impl TtlAfterFinished {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.jobs.on_change({
            let queue = queue.clone();
            move |change| {
                if change.new.as_ref().is_some_and(|j| left(j, Timestamp::now()).is_some()) {
                    queue.add(change.key.clone());
                }
            }
        });
        Self { client: tools.client, queue, jobs: informers.jobs.reader() }
    }
}

/// How long a finished Job may stay; `None` for one that stays for ever or has not finished.
fn left(job: &Job, now: Timestamp) -> Option<Duration> {
    let ttl = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let end = ended(job)?.last_transition_time.as_ref()?.0;
    let been = Duration::try_from(now.duration_since(end)).unwrap_or_default();
    Some(Duration::from_secs(u64::try_from(ttl).unwrap_or(0)).saturating_sub(been))
}

impl Controller for TtlAfterFinished {
    const NAME: &'static str = "ttl-after-finished-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.jobs.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(job) = self.jobs.get(key).filter(|j| !j.is_going()) else { return Ok(Verdict::Done) };
        match left(&job, Timestamp::now()) {
            None => Ok(Verdict::Done),
            Some(left) if !left.is_zero() => Ok(Verdict::After(left)),
            Some(_) => {
                let params = DeleteParams {
                    propagation_policy: Some(PropagationPolicy::Foreground),
                    preconditions: Some(Preconditions {
                        uid: Some(job.uid().to_owned()),
                        resource_version: job.metadata.resource_version.clone(),
                    }),
                    ..Default::default()
                };
                let jobs: Api<Job> = Api::namespaced(self.client.clone(), &key.namespace);
                gone_is_fine(jobs.delete(&key.name, &params).await)?;
                Ok(Verdict::Done)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_finished_job_stays_for_its_time() {
        let now: Timestamp = "2026-01-01T00:01:00Z".parse().expect("a time");
        let job = |ttl: Option<i32>, kind: &str| -> Job {
            serde_json::from_value(json!({
                "metadata": {"name": "j"},
                "spec": {"ttlSecondsAfterFinished": ttl, "template": {}},
                "status": {"conditions": [{"type": kind, "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]},
            }))
            .expect("a job")
        };
        assert_eq!(left(&job(Some(90), "Complete"), now), Some(Duration::from_secs(30)));
        assert_eq!(left(&job(Some(30), "Failed"), now), Some(Duration::ZERO));
        assert_eq!(left(&job(None, "Complete"), now), None);
        assert_eq!(left(&job(Some(0), "Suspended"), now), None);
    }
}
