//! The control loops and the scheduler: one at a time of all processes that could run them.

use std::{future::Future, path::PathBuf, sync::Arc};

use anyhow::{Context, Result};
use kube::Client;
use tiphys_apiserver::identity::Component;
use tiphys_client::election::{Election, Fence};
use tiphys_controllers::ControllerManager;
use tiphys_scheduler::Scheduler;

use crate::files;

/// Gives clients with the identity of a component. What they write passes the fence.
pub(crate) type Connect = Arc<dyn Fn(&Component, &Fence) -> Client + Send + Sync>;

/// The leases, under upstream's names.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";
pub(crate) const SCHEDULER: &str = "kube-scheduler";

/// How pods are scheduled: what a KubeSchedulerConfiguration says. It is kept as text, as each term begins with it anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scheduling(Option<(PathBuf, Arc<str>)>);

impl Scheduling {
    /// Reads the file, and makes sure that it can be used.
    pub(crate) fn read(file: Option<&PathBuf>) -> Result<Self> {
        let Some(file) = file else { return Ok(Self(None)) };
        let text = files::read_text(file)?;
        let scheduling = Self(Some((file.clone(), text.into())));
        scheduling.config()?;
        Ok(scheduling)
    }

    pub(crate) fn text(&self) -> Option<&str> {
        self.0.as_ref().map(|(_, text)| &**text)
    }

    fn config(&self) -> Result<tiphys_scheduler::Config> {
        let Some((file, text)) = &self.0 else { return Ok(tiphys_scheduler::Config::default()) };
        tiphys_scheduler::Config::read(text)
            .with_context(|| format!("the scheduler's configuration {}", file.display()))
    }
}

/// Runs the controllers whenever this process leads, until `stop`; without an election always.
pub(crate) async fn controllers(
    election: Option<Election>,
    connect: Connect,
    config: tiphys_controllers::Config,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    lead(election, stop, move |fence| {
        let (connect, config) = (Arc::clone(&connect), config.clone());
        async move {
            let reads = connect(&Component::ControllerManager, &fence);
            let client_for = |name| connect(&Component::Controller(name), &fence);
            let controllers = ControllerManager::start(config, &reads, client_for);
            controllers.wait().await.context("running controllers")
        }
    })
    .await
}

/// The same for the scheduler.
pub(crate) async fn scheduler(
    election: Option<Election>,
    connect: Connect,
    scheduling: Scheduling,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    lead(election, stop, move |fence| {
        let (connect, scheduling) = (Arc::clone(&connect), scheduling.clone());
        async move {
            let scheduler = Scheduler::new(connect(&Component::Scheduler, &fence), scheduling.config()?);
            scheduler.run().await;
            Ok(())
        }
    })
    .await
}

async fn lead<W>(
    election: Option<Election>,
    stop: impl Future<Output = ()>,
    mut work: impl FnMut(Fence) -> W,
) -> Result<()>
where
    W: Future<Output = Result<()>> + Send + 'static,
{
    match election {
        Some(election) => election.run(stop, work).await.unwrap_or(Ok(())),
        None => tokio::select! { result = work(Fence::new(None)) => result, () = stop => Ok(()) },
    }
}
