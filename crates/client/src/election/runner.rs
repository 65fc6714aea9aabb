//! A candidate at work.

use std::{
    future::Future,
    pin::{Pin, pin},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{coordination::v1::Lease, core::v1::ObjectReference};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout, timeout_at},
};
use tracing::{debug, info, warn};

use super::{Candidate, Fence, Step, Tenure, Timing, candidate::JITTER};
use crate::events::Recorder;

/// Where upstream's components have their leases.
pub const NAMESPACE: &str = "kube-system";
/// The reason of events.
const REASON: &str = "LeaderElection";
/// How long the last writes of one who stops may take, and then the event that tells of it.
const FAREWELL: Duration = Duration::from_secs(2);

/// One lease, and one who wants it.
pub struct Election {
    /// May get, create and update the lease, and create events. It passes no fence.
    pub client: Client,
    pub namespace: String,
    /// The lease's name; the source of events is called the same.
    pub name: String,
    /// Who wants it; see [`Candidate::new`].
    pub identity: String,
    pub tenure: Tenure,
}

/// Why one does not lead any more.
enum End<T> {
    Lost,
    /// The work came to an end by itself.
    Done(T),
    Stopped,
}

impl Election {
    /// Does `work` whenever this candidate leads, and ends it when it does not; until `stop`, or until the work ends by
    /// itself: then that is the answer.
    ///
    /// What the work writes has to go through the fence that it is given, and what it starts has to end when its future
    /// is dropped. After `stop`, its writes under way are waited for, and the lease is let go.
    ///
    /// # Panics
    /// If the work does.
    pub async fn run<W, T>(
        self,
        stop: impl Future<Output = ()>,
        mut work: impl FnMut(Fence) -> W,
    ) -> Option<T>
    where
        W: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let (events, sink) = Recorder::new(self.client.clone(), &self.name, "");
        let mut telling = JoinSet::new();
        telling.spawn(sink.run());
        let candidate = Candidate::new(&*self.identity, self.tenure);
        let api = Api::namespaced(self.client.clone(), &self.namespace);
        let mut runner = Runner { election: self, api, events, candidate, told: None };
        let mut stop = pin!(stop);
        let result = loop {
            tokio::select! {
                () = runner.acquire() => {}
                () = &mut stop => break None,
            }
            match runner.lead(&mut work, stop.as_mut()).await {
                End::Lost => warn!(lease = runner.election.name, "the lease is lost; its work has ended"),
                End::Done(result) => break Some(result),
                End::Stopped => break None,
            }
        };
        // Without a recorder there is an end to what the sink has to write. It is a courtesy.
        drop(runner);
        if timeout(FAREWELL, telling.join_next()).await.is_err() {
            debug!("events of the election were not written in time");
        }
        result
    }
}

impl Election {
    /// Lets a lease go that stands in this name, for one who does not want it any more.
    ///
    /// # Errors
    /// The API refuses, or another writes at the same time.
    pub async fn leave(self) -> Result<(), kube::Error> {
        let api: Api<Lease> = Api::namespaced(self.client, &self.namespace);
        let mut candidate = Candidate::new(self.identity, self.tenure);
        candidate.see(api.get_opt(&self.name).await?, Instant::now());
        if let Some(lease) = candidate.release(Timestamp::now()) {
            api.replace(&self.name, &PostParams::default(), &lease).await?;
        }
        Ok(())
    }
}

struct Runner {
    election: Election,
    api: Api<Lease>,
    events: Recorder,
    candidate: Candidate,
    /// Whose turn has been logged.
    told: Option<String>,
}

impl Runner {
    /// The times of an election, also of one that is won for good.
    fn timing(&self) -> Timing {
        match self.election.tenure {
            Tenure::Renewed(timing) => timing,
            Tenure::Standing => Timing::default(),
        }
    }

    /// Waits until the lease is this candidate's.
    async fn acquire(&mut self) {
        let Timing { renew_deadline, retry_period, .. } = self.timing();
        loop {
            match timeout(renew_deadline / 2, self.attempt()).await {
                Ok(Ok(true)) => return,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => warn!(lease = self.election.name, %error, "could not get the lease"),
                Err(_) => warn!(lease = self.election.name, "getting the lease takes too long"),
            }
            self.notice();
            sleep(retry_period.mul_f64(1.0 + JITTER * rand::random::<f64>())).await;
        }
    }

    /// Logs who leads, when it is another than before.
    fn notice(&mut self) {
        if self.candidate.holder() != self.told.as_deref() {
            self.told = self.candidate.holder().map(str::to_owned);
            info!(lease = self.election.name, holder = self.told, "there is a new leader");
        }
    }

    /// Asks for the lease and does what the candidate decides. Whether it leads now.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let known = self.api.get_opt(&self.election.name).await?;
        self.candidate.see(known, Instant::now());
        self.decided().await
    }

    /// Does what the candidate decides by what it knows.
    async fn decided(&mut self) -> Result<bool, kube::Error> {
        let params = PostParams::default();
        let sent = Instant::now();
        let written = match self.candidate.step(sent, Timestamp::now()) {
            Step::Wait => return Ok(false),
            Step::Lead => return Ok(true),
            Step::Create(mut lease) => {
                let (name, namespace) = (self.election.name.clone(), self.election.namespace.clone());
                lease.metadata =
                    ObjectMeta { name: Some(name), namespace: Some(namespace), ..ObjectMeta::default() };
                self.api.create(&params, &lease).await?
            }
            Step::Replace(lease) => self.api.replace(&self.election.name, &params, &lease).await?,
        };
        self.candidate.wrote(written, sent);
        Ok(true)
    }

    /// Has the work done for as long as the lease is held.
    async fn lead<W, T>(
        &mut self,
        work: &mut impl FnMut(Fence) -> W,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> End<T>
    where
        W: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        self.notice();
        self.tell("became leader");
        let fence = Fence::new(self.candidate.leads_until());
        let mut working = JoinSet::new();
        working.spawn(work(fence.clone()));
        let end = tokio::select! {
            () = self.renew(&fence) => End::Lost,
            () = &mut stop => End::Stopped,
            Some(ended) = working.join_next() => match ended {
                Ok(result) => End::Done(result),
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // Nobody but the end of this process cancels it.
                Err(_) => End::Stopped,
            },
        };
        fence.close();
        // Whoever comes next shall find all that was sent; one who has lost the lease has no time to wait for that.
        let lost = matches!(end, End::Lost);
        let quiet = !lost && timeout(FAREWELL, fence.idle()).await.is_ok();
        working.shutdown().await;
        self.tell("stopped leading");
        if quiet {
            self.release().await;
        } else if !lost {
            warn!(lease = self.election.name, "writes take long; the lease is kept until it ends");
        }
        end
    }

    /// Renews the lease until that fails for too long.
    async fn renew(&mut self, fence: &Fence) {
        let Tenure::Renewed(Timing { renew_deadline, retry_period, .. }) = self.election.tenure else {
            return std::future::pending().await;
        };
        while let Some(until) = self.candidate.leads_until()
            && Instant::now() < until
        {
            sleep_until(until.min(Instant::now() + retry_period)).await;
            // As upstream: an attempt that hangs leaves time for another.
            let patience = until.min(Instant::now() + renew_deadline / 2);
            let renewed = timeout_at(patience, async {
                match self.decided().await {
                    Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => self.attempt().await,
                    renewed => renewed,
                }
            });
            match renewed.await {
                Ok(Ok(true)) => fence.extend(self.candidate.leads_until()),
                // It is another's.
                Ok(Ok(false)) => return,
                Ok(Err(error)) => warn!(lease = self.election.name, %error, "could not renew the lease"),
                Err(_) => warn!(lease = self.election.name, "renewing the lease takes too long"),
            }
        }
    }

    /// Lets the lease go, so that another may lead at once. If that fails, it ends by itself.
    async fn release(&mut self) {
        if self.election.tenure == Tenure::Standing {
            return;
        }
        let Some(lease) = self.candidate.release(Timestamp::now()) else { return };
        let params = PostParams::default();
        match timeout(FAREWELL, self.api.replace(&self.election.name, &params, &lease)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => debug!(lease = self.election.name, %error, "could not let the lease go"),
            Err(_) => debug!(lease = self.election.name, "letting the lease go takes too long"),
        }
    }

    fn tell(&self, what: &str) {
        let Election { namespace, name, identity, .. } = &self.election;
        info!(lease = name, identity, "{what}");
        if self.election.tenure == Tenure::Standing {
            // Nobody was asked.
            return;
        }
        let lease = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: self.candidate.uid().map(str::to_owned),
            ..ObjectReference::default()
        };
        self.events.normal(&lease, REASON, format!("{identity} {what}"));
    }
}

#[cfg(test)]
#[path = "runner_tests.rs"]
mod tests;
