//! What all controllers are to those who run them.

use std::{future::Future, sync::Arc};

use kube::Client;
use tiphys_client::{ObjectKey, Queue, Verdict, events::Recorder};

/// What a controller writes with: a client of its own identity, and its events.
pub(crate) struct Tools {
    pub(crate) client: Client,
    pub(crate) events: Recorder,
}

/// A loop over the keys of its queue.
pub(crate) trait Controller: Sized + Send + Sync + 'static {
    /// The source of its events.
    const NAME: &'static str;
    /// What upstream calls it where single controllers are switched on and off.
    const SWITCH: &'static str = Self::NAME;
    /// The service account that it works as.
    const ACCOUNT: &'static str = Self::NAME;
    const WORKERS: usize = 2;

    fn queue(&self) -> Queue<ObjectKey>;

    /// Waits until everything that a look reads has been listed.
    fn synced(&self) -> impl Future<Output = ()> + Send;

    /// Looks at one object and does what it needs.
    fn look(&self, key: &ObjectKey) -> impl Future<Output = Result<Verdict, kube::Error>> + Send;

    /// Works until the future is dropped.
    fn run(self) -> impl Future<Output = ()> + Send {
        async move {
            self.synced().await;
            let queue = self.queue();
            let this = Arc::new(self);
            let look = move |key: ObjectKey| {
                let this = this.clone();
                async move { this.look(&key).await }
            };
            queue.run(Self::NAME, Self::WORKERS, look).await;
        }
    }
}
