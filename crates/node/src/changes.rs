//! Tells workers that the runtime has news of their pods.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tiphys_cri::v1;
use tokio_stream::StreamExt;

use crate::labels;
use crate::registry::Registry;
use crate::runtime::{self, RuntimeError};

/// How often everything is compared although the runtime tells its events.
const SAFETY: Duration = Duration::from_secs(60);
/// How often it is where the runtime does not.
const FALLBACK: Duration = Duration::from_secs(1);

/// Follows the runtime until it is dropped.
pub(crate) async fn follow(cri: tiphys_cri::Client, registry: Arc<Registry>) {
    let mut seen = Snapshot::default();
    loop {
        // What happened while nobody listened is found by comparing.
        seen.compare(&cri, &registry).await;
        match cri.runtime().get_container_events(v1::GetEventsRequest {}).await {
            Ok(response) => {
                seen.compare(&cri, &registry).await;
                let mut events = response.into_inner();
                loop {
                    match tokio::time::timeout(SAFETY, events.next()).await {
                        Ok(Some(Ok(event))) => registry.runtime_changed(uid_of(&event)),
                        Ok(Some(Err(status))) => {
                            tracing::debug!(error = status.message(), "the runtime's events broke off");
                            break;
                        }
                        Ok(None) => break,
                        Err(_) => seen.compare(&cri, &registry).await,
                    }
                }
            }
            Err(status) => tracing::trace!(error = status.message(), "the runtime tells no events"),
        }
        tokio::time::sleep(FALLBACK).await;
    }
}

fn uid_of(event: &v1::ContainerEventResponse) -> &str {
    let sandbox = event.pod_sandbox_status.as_ref();
    let of_sandbox = sandbox.and_then(|s| s.metadata.as_ref()).map(|m| m.uid.as_str());
    let of_container = || event.containers_statuses.iter().find_map(|c| c.labels.get(labels::POD_UID));
    of_sandbox.or_else(|| of_container().map(String::as_str)).unwrap_or_default()
}

/// What the runtime had when it was last compared: states by pod UID.
#[derive(Default)]
struct Snapshot(BTreeMap<String, BTreeMap<String, i32>>);

impl Snapshot {
    async fn compare(&mut self, cri: &tiphys_cri::Client, registry: &Registry) {
        match read(cri).await {
            Ok(new) => {
                let uids = new.keys().chain(self.0.keys());
                for uid in uids.filter(|uid| new.get(*uid) != self.0.get(*uid)) {
                    registry.runtime_changed(uid);
                }
                self.0 = new;
            }
            Err(error) => tracing::debug!(%error, "the runtime was not compared"),
        }
    }
}

async fn read(cri: &tiphys_cri::Client) -> Result<BTreeMap<String, BTreeMap<String, i32>>, RuntimeError> {
    let mut all: BTreeMap<String, BTreeMap<String, i32>> = BTreeMap::new();
    for sandbox in runtime::all_sandboxes(cri).await? {
        let uid = sandbox.metadata.map(|m| m.uid).unwrap_or_default();
        all.entry(uid).or_default().insert(sandbox.id, sandbox.state);
    }
    let list = cri.runtime().list_containers(v1::ListContainersRequest { filter: None }).await;
    for container in list.map_err(RuntimeError::of("ListContainers"))?.into_inner().containers {
        let uid = container.labels.get(labels::POD_UID).cloned().unwrap_or_default();
        all.entry(uid).or_default().insert(container.id, container.state);
    }
    Ok(all)
}
