//! What reaches a pod's worker. News of one kind replaces the news before it, so that a mailbox never grows.

use std::collections::VecDeque;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::operations::Done;
use crate::probes;
use crate::resize::Pending;
use crate::status::Verdict;

/// All that has come in since the worker looked last.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    /// A newer state of the pod, with the resources that it was given.
    pub(crate) pod: Option<Arc<Pod>>,
    /// Why that is not what it wants, and the pod as it wants to be; it goes with `pod`.
    pub(crate) pending: Option<(Pending, Arc<Pod>)>,
    /// The API's image of a static pod, `None` inside when there is none.
    pub(crate) mirror: Option<Option<Arc<Pod>>>,
    /// Its source has no such pod any more.
    pub(crate) gone: bool,
    /// The node won't have it, or ends it.
    pub(crate) verdict: Option<Verdict>,
    /// The runtime has news.
    pub(crate) runtime: bool,
    /// Something that its volumes show has changed.
    pub(crate) content: bool,
    /// Operations that are through; at most one for each under way.
    pub(crate) done: VecDeque<Done>,
    /// Verdicts of probes; each probe waits for a change between two of them.
    pub(crate) probes: VecDeque<probes::News>,
}

/// A worker's mailbox.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    inbox: Mutex<Inbox>,
    ring: Notify,
}

impl Mailbox {
    /// Puts something in.
    pub(crate) fn put(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.inbox.lock());
        self.ring.notify_one();
    }

    /// Takes everything out.
    pub(crate) fn take(&self) -> Inbox {
        std::mem::take(&mut *self.inbox.lock())
    }

    /// Waits until something is put in.
    pub(crate) async fn rung(&self) {
        self.ring.notified().await;
    }
}
