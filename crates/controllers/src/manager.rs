//! All controllers of a cluster, together.

use kube::Client;
use tiphys_client::events::Recorder;
use tokio::task::JoinSet;

use crate::{deployment, endpoints, informers::Informers, replica_set};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller ended, which none does by itself.
    #[error("a controller stopped: {0}")]
    Stopped(String),
}

/// Runs every controller. Reads are shared; each controller writes with a client of its own.
pub struct ControllerManager {
    tasks: JoinSet<()>,
}

impl ControllerManager {
    /// `reads` is the identity of the shared informers. `client_for` is asked once for each controller, by
    /// the name of its service account in `kube-system`.
    pub fn start(reads: &Client, client_for: impl Fn(&'static str) -> Client) -> Self {
        let mut tasks = JoinSet::new();
        let mut informers = Informers::new(reads);
        let own = |name: &'static str, tasks: &mut JoinSet<()>| {
            let client = client_for(name);
            let (events, sink) = Recorder::new(client.clone(), name, "");
            tasks.spawn(sink.run());
            (client, events)
        };
        let (client, events) = own(replica_set::NAME, &mut tasks);
        let replica_sets = replica_set::ReplicaSets::new(client, events, &mut informers);
        let (client, events) = own(deployment::NAME, &mut tasks);
        let deployments = deployment::Deployments::new(client, events, &mut informers);
        let (client, events) = own(endpoints::SLICES, &mut tasks);
        let endpoint_slices = endpoints::EndpointSlices::new(client, events, &mut informers);
        let (client, _) = own(endpoints::LEGACY, &mut tasks);
        let legacy_endpoints = endpoints::LegacyEndpoints::new(client, &mut informers);
        tasks.spawn(replica_sets.run());
        tasks.spawn(endpoint_slices.run());
        tasks.spawn(legacy_endpoints.run());
        tasks.spawn(deployments.run());
        informers.start(&mut tasks);
        Self { tasks }
    }

    /// Waits for as long as all controllers run, which is until this is dropped unless one panics.
    pub async fn wait(mut self) -> Result<(), Error> {
        match self.tasks.join_next().await {
            Some(Err(error)) => Err(Error::Stopped(error.to_string())),
            Some(Ok(())) | None => Err(Error::Stopped("its work came to an end".to_owned())),
        }
    }
}
