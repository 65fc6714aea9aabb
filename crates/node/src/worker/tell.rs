//! What a worker tells the API.

use std::time::Duration;

use jiff::Timestamp;

use super::operations::Done;
use super::{Life, Worker, publish};
use crate::labels;
use crate::pod;
use crate::status::{self, Facts};

/// From an instance's end to that being told where another follows it at once. Upstream's kubelet looks no more often.
const UNTOLD: Duration = Duration::from_secs(1);

impl Worker {
    /// Computes the status and has the API told when it has changed.
    pub(super) fn tell(&mut self, now: Timestamp) {
        if !self.looked || matches!(self.life, Life::Removing | Life::Deleting | Life::Gone) {
            return;
        }
        let finished = matches!(self.life, Life::Cleaning | Life::Ended);
        let host_ips = self.ctx.config.host_ips();
        let status = status::compute(&Facts {
            pod: &self.pod,
            last: self.status.as_ref().or(self.mirror.as_ref().and_then(|m| m.status.as_ref())),
            observed: &self.observed,
            waiting: &self.waiting,
            health: &self.health,
            verdict: self.verdict.as_ref(),
            finished,
            host_ips: &host_ips,
            runtime: &self.ctx.runtime,
            features: &self.ctx.features,
            resize: status::Resize {
                pending: self.pending.as_ref(),
                under_way: self.resizing,
                error: self.resize_failure.as_ref().map(|failure| failure.message.as_str()),
            },
            now,
        });
        self.status = Some(status.clone());
        if self.publishing.is_some() || self.retry_at.is_some() {
            return;
        }
        let Some(uid) = self.uid_in_api() else { return };
        let old = self.published.clone().unwrap_or_default();
        if self.gone || publish::same(&old, &status) {
            return;
        }
        if let Some(later) = self.replaced_until(now) {
            return self.wake(later);
        }
        self.publishing = Some(status.clone());
        self.spawn(publish::publish(self.job(), uid, old, status), Done::Published);
    }

    /// Until when nothing is told because an instance ended to make room for its next, which takes milliseconds: who asks
    /// meanwhile need not take the pod for one that is not ready.
    fn replaced_until(&self, now: Timestamp) -> Option<Timestamp> {
        let replaced = self.observed.containers.iter().filter(|c| {
            self.life == Life::Running
                && c.again
                && self.observed.newest(&c.name).is_some_and(|n| n.id == c.id)
        });
        let until = replaced.filter_map(|c| c.exit()?.finished_at.saturating_add(UNTOLD).ok());
        until.filter(|until| now < *until).max()
    }

    /// The UID under which the API knows the pod. A static pod's mirror is made on the way.
    fn uid_in_api(&mut self) -> Option<String> {
        if !pod::is_static(&self.pod) {
            return Some(self.key.uid.to_string());
        }
        let mirror = self.mirror.as_ref();
        let current =
            mirror.filter(|m| pod::annotation(m, labels::CONFIG_MIRROR) == Some(self.key.uid.as_str()));
        let current = current.filter(|m| m.metadata.deletion_timestamp.is_none());
        if let Some(current) = current {
            return current.metadata.uid.clone();
        }
        if !self.mirroring && !self.gone && self.life == Life::Running {
            self.mirroring = true;
            let stale = mirror.and_then(|m| m.metadata.uid.clone());
            self.spawn(publish::mirror(self.job(), stale), Done::Mirrored);
        }
        None
    }
}
