//! Changes of sandboxes and containers, as `GetContainerEvents` streams them.

use tiphys_cri::v1::{ContainerEventResponse, ContainerEventType};

use crate::runtime::Inner;

/// Something happened to a container, or to a sandbox (whose ID then stands for both).
#[derive(Clone, Debug)]
pub(crate) struct Change {
    pub(crate) kind: ContainerEventType,
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) at: i64,
}

impl Inner {
    pub(crate) fn announce(&self, kind: ContainerEventType, id: &str, sandbox: &str) {
        let change =
            Change { kind, id: id.to_owned(), sandbox: sandbox.to_owned(), at: crate::clock::now_nanos() };
        // Nobody listening is no failure.
        let _ = self.changes.send(change);
    }

    /// The change with the state of its pod as it is now.
    pub(crate) fn describe(&self, change: Change) -> ContainerEventResponse {
        let sandbox = self.sandbox(&change.sandbox).ok();
        let containers = self.containers_of(&change.sandbox);
        ContainerEventResponse {
            container_id: change.id,
            container_event_type: change.kind as i32,
            created_at: change.at,
            pod_sandbox_status: sandbox.map(|sandbox| sandbox.status()),
            containers_statuses: containers.iter().map(|container| container.status(&self.images)).collect(),
        }
    }
}
