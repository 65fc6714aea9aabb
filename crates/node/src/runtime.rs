//! Asks the runtime about one pod.

use std::collections::HashMap;
use std::io;
use std::path::Path;

use tiphys_cri::v1;
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::key::PodUid;
use crate::labels;
use crate::observed::{Container, ContainerId, Observed, Sandbox, SandboxId, State};

/// The most of its last words that a container is quoted with, and of its log where that stands in.
const MAX_WORDS: u64 = 4096;
const MAX_LOG_WORDS: usize = 2048;
const MAX_LOG_LINES: usize = 80;

/// A call to the runtime failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {}", .status.message())]
pub struct RuntimeError {
    /// The call.
    pub call: &'static str,
    /// What it answered.
    pub status: tonic::Status,
}

impl RuntimeError {
    /// For `map_err`.
    pub fn of(call: &'static str) -> impl FnOnce(tonic::Status) -> Self {
        move |status| Self { call, status }
    }
}

/// Reads what the runtime has of one pod. Containers that ended never change again, so that they are asked about
/// once.
#[derive(Debug, Default)]
pub struct Lens {
    ended: HashMap<ContainerId, Container>,
}

impl Lens {
    /// Looks.
    pub async fn look(
        &mut self,
        cri: &tiphys_cri::Client,
        uid: &PodUid,
        words: &Words<'_>,
    ) -> Result<Observed, RuntimeError> {
        let selector: HashMap<String, String> =
            HashMap::from([(labels::POD_UID.to_owned(), uid.to_string())]);
        let filter =
            v1::PodSandboxFilter { label_selector: selector.clone(), ..v1::PodSandboxFilter::default() };
        let list = cri.runtime().list_pod_sandbox(v1::ListPodSandboxRequest { filter: Some(filter) }).await;
        let list = list.map_err(RuntimeError::of("ListPodSandbox"))?.into_inner().items;
        let mut sandboxes = Vec::with_capacity(list.len());
        for item in list {
            let request = v1::PodSandboxStatusRequest { pod_sandbox_id: item.id, verbose: false };
            match cri.runtime().pod_sandbox_status(request).await {
                Ok(response) => {
                    sandboxes.extend(response.into_inner().status.as_ref().map(Sandbox::from_cri))
                }
                Err(status) if status.code() == tonic::Code::NotFound => {}
                Err(status) => return Err(RuntimeError { call: "PodSandboxStatus", status }),
            }
        }
        let filter = v1::ContainerFilter { label_selector: selector, ..v1::ContainerFilter::default() };
        let list = cri.runtime().list_containers(v1::ListContainersRequest { filter: Some(filter) }).await;
        let list = list.map_err(RuntimeError::of("ListContainers"))?.into_inner().containers;
        let mut containers = Vec::with_capacity(list.len());
        let mut ended = HashMap::new();
        for item in list {
            let id = ContainerId(item.id.clone());
            let known = self.ended.remove(&id);
            let container = match known {
                Some(container) => container,
                None => match status_of(cri, &item).await? {
                    Some(mut container) => {
                        words.add(&mut container).await;
                        container
                    }
                    None => continue,
                },
            };
            if container.exit().is_some() {
                ended.insert(id, container.clone());
            }
            containers.push(container);
        }
        self.ended = ended;
        Ok(Observed::new(sandboxes, containers))
    }
}

async fn status_of(
    cri: &tiphys_cri::Client,
    item: &v1::Container,
) -> Result<Option<Container>, RuntimeError> {
    let request = v1::ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
    match cri.runtime().container_status(request).await {
        Ok(response) => {
            Ok(response.into_inner().status.map(|s| Container::from_cri(&item.pod_sandbox_id, &s)))
        }
        Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
        Err(status) => Err(RuntimeError { call: "ContainerStatus", status }),
    }
}

/// Where containers of a pod leave their last words.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    /// The pod's directory.
    pub dir: &'a crate::volumes::PodDir,
}

impl Words<'_> {
    /// Puts a container's last words into its exit, from its file or, when it failed and asked for that, its log.
    async fn add(&self, container: &mut Container) {
        let path = self.dir.last_words(&container.name, container.attempt);
        let (log, fallback) = (container.log_path.clone(), container.fallback_to_logs);
        let State::Exited(exit) = &mut container.state else { return };
        let mut words = match read_start(&path).await {
            Ok(words) => words,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => format!("Error reading termination log {}: {error}", path.display()),
        };
        if words.is_empty() && fallback && exit.code != 0 {
            words = log_end(Path::new(&log)).await.unwrap_or_default();
        }
        if !words.is_empty() {
            exit.message = words;
        }
    }
}

async fn read_start(path: &Path) -> io::Result<String> {
    let file = tokio::fs::File::open(path).await?;
    let mut bytes = Vec::new();
    file.take(MAX_WORDS).read_to_end(&mut bytes).await?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in CRI's format, without their prefixes.
async fn log_end(path: &Path) -> io::Result<String> {
    let mut file = tokio::fs::File::open(path).await?;
    let length = file.metadata().await?.len();
    let from = length.saturating_sub(16 * 1024);
    file.seek(io::SeekFrom::Start(from)).await?;
    let mut bytes = Vec::new();
    file.take(16 * 1024).read_to_end(&mut bytes).await?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines: Vec<&str> = text.lines().skip(usize::from(from > 0)).collect();
    let first = lines.len().saturating_sub(MAX_LOG_LINES);
    lines.drain(..first);
    let content: String = lines
        .iter()
        .filter_map(|l| {
            let mut parts = l.splitn(4, ' ').skip(2);
            let full = parts.next()? == "F";
            let text = parts.next().unwrap_or_default();
            Some(if full { format!("{text}\n") } else { text.to_owned() })
        })
        .collect();
    let mut start = content.len().saturating_sub(MAX_LOG_WORDS);
    while !content.is_char_boundary(start) {
        start += 1;
    }
    Ok(content[start..].to_owned())
}

/// The keys of all pods that the runtime has anything of.
pub async fn all_sandboxes(cri: &tiphys_cri::Client) -> Result<Vec<v1::PodSandbox>, RuntimeError> {
    let list = cri.runtime().list_pod_sandbox(v1::ListPodSandboxRequest { filter: None }).await;
    Ok(list.map_err(RuntimeError::of("ListPodSandbox"))?.into_inner().items)
}

/// Stops a sandbox; one that is gone counts as stopped.
pub async fn stop_sandbox(cri: &tiphys_cri::Client, id: &SandboxId) -> Result<(), RuntimeError> {
    match cri.runtime().stop_pod_sandbox(v1::StopPodSandboxRequest { pod_sandbox_id: id.0.clone() }).await {
        Err(status) if status.code() != tonic::Code::NotFound => {
            Err(RuntimeError { call: "StopPodSandbox", status })
        }
        _ => Ok(()),
    }
}

/// Removes a sandbox and every container in it; one that is gone counts as removed.
pub async fn remove_sandbox(cri: &tiphys_cri::Client, id: &SandboxId) -> Result<(), RuntimeError> {
    match cri.runtime().remove_pod_sandbox(v1::RemovePodSandboxRequest { pod_sandbox_id: id.0.clone() }).await
    {
        Err(status) if status.code() != tonic::Code::NotFound => {
            Err(RuntimeError { call: "RemovePodSandbox", status })
        }
        _ => Ok(()),
    }
}

/// Removes a container that does not run; one that is gone counts as removed.
pub async fn remove_container(cri: &tiphys_cri::Client, id: &ContainerId) -> Result<(), RuntimeError> {
    match cri.runtime().remove_container(v1::RemoveContainerRequest { container_id: id.0.clone() }).await {
        Err(status) if status.code() != tonic::Code::NotFound => {
            Err(RuntimeError { call: "RemoveContainer", status })
        }
        _ => Ok(()),
    }
}
