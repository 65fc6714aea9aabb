//! A runtime that only remembers. What a container does is in its image's name: `run:…` runs until it is stopped,
//! `exit-N:…` ends with code N, `stubborn:…` lives until the last moment of its grace, `polite:…` ends with code 0 when it
//! is stopped; `missing/…` can't be pulled and `unmade/…` can't be created.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use tiphys_cri::v1::image_service_server::{ImageService, ImageServiceServer};
use tiphys_cri::v1::runtime_service_server::{RuntimeService, RuntimeServiceServer};
use tiphys_cri::v1::{self, ContainerState, PodSandboxState};
use tokio::sync::broadcast;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

#[derive(Default)]
struct State {
    sandboxes: BTreeMap<String, (v1::PodSandboxConfig, bool, i64)>,
    containers: BTreeMap<String, (String, v1::ContainerStatus, v1::ContainerConfig)>,
    images: BTreeSet<String>,
    calls: Vec<String>,
    commands: BTreeMap<String, i32>,
    stream_url: String,
    count: u64,
    clock: i64,
}

/// The runtime; clones are the same one.
#[derive(Clone)]
pub(crate) struct FakeRuntime {
    state: Arc<Mutex<State>>,
    events: broadcast::Sender<v1::ContainerEventResponse>,
}

impl Default for FakeRuntime {
    fn default() -> Self {
        Self { state: Arc::default(), events: broadcast::channel(1024).0 }
    }
}

fn now() -> i64 {
    i64::try_from(jiff::Timestamp::now().as_nanosecond()).expect("a time")
}

impl FakeRuntime {
    pub(crate) fn client(&self) -> tiphys_cri::Client {
        tiphys_cri::Client::in_process(
            RuntimeServiceServer::new(self.clone()),
            ImageServiceServer::new(self.clone()),
        )
    }

    /// What was asked for, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.state.lock().calls.clone()
    }

    /// The configuration of the newest container of that name.
    pub(crate) fn config(&self, name: &str) -> v1::ContainerConfig {
        let state = self.state.lock();
        let mut found: Vec<_> =
            state.containers.values().filter(|(_, _, c)| c.metadata.as_ref().unwrap().name == name).collect();
        found.sort_by_key(|(_, s, _)| s.created_at);
        found.last().expect("the container was made").2.clone()
    }

    /// The configuration of the newest sandbox.
    pub(crate) fn sandbox(&self) -> v1::PodSandboxConfig {
        let state = self.state.lock();
        state.sandboxes.values().max_by_key(|(_, _, at)| *at).expect("a sandbox was made").0.clone()
    }

    /// Ends a running container.
    pub(crate) fn exit(&self, name: &str, code: i32) {
        let id = {
            let state = self.state.lock();
            let running = |s: &v1::ContainerStatus| s.state == ContainerState::ContainerRunning as i32;
            let found = state
                .containers
                .iter()
                .find(|(_, (_, s, c))| running(s) && c.metadata.as_ref().unwrap().name == name);
            found.map(|(id, _)| id.clone()).expect("the container runs")
        };
        self.end(&id, code);
    }

    /// Makes a sandbox vanish as a crash of its holder would.
    pub(crate) fn lose_sandbox(&self) {
        let ids: Vec<String> = {
            let mut state = self.state.lock();
            for (_, ready, _) in state.sandboxes.values_mut() {
                *ready = false;
            }
            state.containers.keys().cloned().collect()
        };
        for id in ids {
            self.end(&id, 137);
        }
    }

    /// What a command answers when it is run in any container.
    pub(crate) fn command(&self, command: &str, code: i32) {
        self.state.lock().commands.insert(command.to_owned(), code);
    }

    /// Where streams of commands are served.
    pub(crate) fn stream_at(&self, url: String) {
        self.state.lock().stream_url = url;
    }

    /// Puts an image where it needs no pull.
    pub(crate) fn add_image(&self, name: &str) {
        self.state.lock().images.insert(name.to_owned());
    }

    pub(crate) fn remaining(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.sandboxes.len(), state.containers.len())
    }

    fn call(&self, text: String) {
        self.state.lock().calls.push(text);
    }

    fn end(&self, id: &str, code: i32) {
        {
            let mut state = self.state.lock();
            let Some((_, status, _)) = state.containers.get_mut(id) else { return };
            if status.state != ContainerState::ContainerRunning as i32 {
                return;
            }
            status.state = ContainerState::ContainerExited as i32;
            status.exit_code = code;
            status.finished_at = now();
            status.reason = if code == 0 { "Completed" } else { "Error" }.into();
        }
        self.tell(id);
    }

    fn tell(&self, id: &str) {
        let state = self.state.lock();
        let Some((_, status, _)) = state.containers.get(id) else { return };
        let event = v1::ContainerEventResponse {
            container_id: id.to_owned(),
            containers_statuses: vec![status.clone()],
            ..v1::ContainerEventResponse::default()
        };
        // Nobody may be listening.
        self.events.send(event).ok();
    }

    fn sandbox_status(
        id: &str,
        (config, ready, created_at): &(v1::PodSandboxConfig, bool, i64),
    ) -> v1::PodSandboxStatus {
        let state = if *ready { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready };
        v1::PodSandboxStatus {
            id: id.to_owned(),
            metadata: config.metadata.clone(),
            state: state as i32,
            created_at: *created_at,
            network: Some(v1::PodSandboxNetworkStatus { ip: "10.244.0.7".into(), additional_ips: vec![] }),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            ..v1::PodSandboxStatus::default()
        }
    }
}

fn matches(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(k, v)| labels.get(k) == Some(v))
}

type Answer<T> = Result<Response<T>, Status>;

#[async_trait]
impl RuntimeService for FakeRuntime {
    async fn run_pod_sandbox(
        &self,
        request: Request<v1::RunPodSandboxRequest>,
    ) -> Answer<v1::RunPodSandboxResponse> {
        let config = request.into_inner().config.unwrap_or_default();
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut state = self.state.lock();
        state.count += 1;
        let id = format!("sandbox{}", state.count);
        state.calls.push(format!("sandbox {} {}", metadata.name, metadata.attempt));
        state.sandboxes.insert(id.clone(), (config, true, now()));
        Ok(Response::new(v1::RunPodSandboxResponse { pod_sandbox_id: id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<v1::StopPodSandboxRequest>,
    ) -> Answer<v1::StopPodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let inside: Vec<String> = {
            let mut state = self.state.lock();
            if let Some((config, ready, _)) = state.sandboxes.get_mut(&id) {
                *ready = false;
                let name = config.metadata.clone().unwrap_or_default().name;
                state.calls.push(format!("stop sandbox {name}"));
            }
            state.containers.iter().filter(|(_, (s, _, _))| *s == id).map(|(c, _)| c.clone()).collect()
        };
        for container in inside {
            self.end(&container, 137);
        }
        Ok(Response::new(Default::default()))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<v1::RemovePodSandboxRequest>,
    ) -> Answer<v1::RemovePodSandboxResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let mut state = self.state.lock();
        if let Some((config, _, _)) = state.sandboxes.remove(&id) {
            state.calls.push(format!("remove sandbox {}", config.metadata.unwrap_or_default().name));
        }
        state.containers.retain(|_, (s, _, _)| *s != id);
        Ok(Response::new(Default::default()))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<v1::PodSandboxStatusRequest>,
    ) -> Answer<v1::PodSandboxStatusResponse> {
        let id = request.into_inner().pod_sandbox_id;
        let state = self.state.lock();
        let sandbox = state.sandboxes.get(&id).ok_or_else(|| Status::not_found(id.clone()))?;
        let status = Some(Self::sandbox_status(&id, sandbox));
        Ok(Response::new(v1::PodSandboxStatusResponse { status, ..v1::PodSandboxStatusResponse::default() }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<v1::ListPodSandboxRequest>,
    ) -> Answer<v1::ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.state.lock();
        let all = state.sandboxes.iter().map(|(id, s)| Self::sandbox_status(id, s));
        let items = all.filter(|s| matches(&s.labels, &filter.label_selector)).map(|s| v1::PodSandbox {
            id: s.id,
            metadata: s.metadata,
            state: s.state,
            created_at: s.created_at,
            labels: s.labels,
            annotations: s.annotations,
            runtime_handler: String::new(),
        });
        Ok(Response::new(v1::ListPodSandboxResponse { items: items.collect() }))
    }

    async fn create_container(
        &self,
        request: Request<v1::CreateContainerRequest>,
    ) -> Answer<v1::CreateContainerResponse> {
        let request = request.into_inner();
        let config = request.config.unwrap_or_default();
        let image = config.image.clone().unwrap_or_default();
        if image.image.starts_with("unmade/") {
            return Err(Status::internal("no such thing"));
        }
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut state = self.state.lock();
        state.count += 1;
        state.clock += 1;
        let id = format!("container{}", state.count);
        state.calls.push(format!("create {} {}", metadata.name, metadata.attempt));
        let logs = request.sandbox_config.unwrap_or_default().log_directory;
        let status = v1::ContainerStatus {
            id: id.clone(),
            metadata: config.metadata.clone(),
            state: ContainerState::ContainerCreated as i32,
            created_at: now() + state.clock,
            image_ref: format!("{}@sha256:0", image.image),
            image: Some(image),
            labels: config.labels.clone(),
            annotations: config.annotations.clone(),
            log_path: format!("{logs}/{}", config.log_path),
            stop_signal: config.stop_signal,
            resources: Some(v1::ContainerResources {
                linux: config.linux.as_ref().and_then(|linux| linux.resources.clone()),
            }),
            ..v1::ContainerStatus::default()
        };
        state.containers.insert(id.clone(), (request.pod_sandbox_id, status, config));
        Ok(Response::new(v1::CreateContainerResponse { container_id: id }))
    }

    async fn start_container(
        &self,
        request: Request<v1::StartContainerRequest>,
    ) -> Answer<v1::StartContainerResponse> {
        let id = request.into_inner().container_id;
        let image = {
            let mut state = self.state.lock();
            let (_, status, config) =
                state.containers.get_mut(&id).ok_or_else(|| Status::not_found("container"))?;
            status.state = ContainerState::ContainerRunning as i32;
            status.started_at = now();
            let text = format!("start {}", config.metadata.clone().unwrap_or_default().name);
            let image = config.image.clone().unwrap_or_default().image;
            state.calls.push(text);
            image
        };
        self.tell(&id);
        let code = image.strip_prefix("exit-").and_then(|rest| rest.split(':').next()?.parse().ok());
        if let Some(code) = code {
            self.end(&id, code);
        }
        Ok(Response::new(Default::default()))
    }

    async fn stop_container(
        &self,
        request: Request<v1::StopContainerRequest>,
    ) -> Answer<v1::StopContainerResponse> {
        let request = request.into_inner();
        let (name, image) = {
            let mut state = self.state.lock();
            let (_, _, config) =
                state.containers.get(&request.container_id).ok_or_else(|| Status::not_found("container"))?;
            let name = config.metadata.clone().unwrap_or_default().name;
            let image = config.image.clone().unwrap_or_default().image;
            state.calls.push(format!("stop {name} {}", request.timeout));
            (name, image)
        };
        let (stubborn, polite) = (image.starts_with("stubborn"), image.starts_with("polite"));
        if stubborn {
            tokio::time::sleep(Duration::from_secs(request.timeout.unsigned_abs())).await;
            self.call(format!("killed {name}"));
        }
        let code = if polite { 0 } else { 143 };
        self.end(&request.container_id, if stubborn { 137 } else { code });
        Ok(Response::new(Default::default()))
    }

    async fn update_container_resources(
        &self,
        request: Request<v1::UpdateContainerResourcesRequest>,
    ) -> Answer<v1::UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        let found = state.containers.get_mut(&request.container_id);
        let (_, status, config) = found.ok_or_else(|| Status::not_found("container"))?;
        status.resources = Some(v1::ContainerResources { linux: request.linux });
        let text = format!("resize {}", config.metadata.clone().unwrap_or_default().name);
        state.calls.push(text);
        Ok(Response::new(Default::default()))
    }

    async fn remove_container(
        &self,
        request: Request<v1::RemoveContainerRequest>,
    ) -> Answer<v1::RemoveContainerResponse> {
        self.state.lock().containers.remove(&request.into_inner().container_id);
        Ok(Response::new(Default::default()))
    }

    async fn list_containers(
        &self,
        request: Request<v1::ListContainersRequest>,
    ) -> Answer<v1::ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let state = self.state.lock();
        let wanted = |s: &v1::ContainerStatus| filter.state.is_none_or(|f| f.state == s.state);
        let containers = state
            .containers
            .values()
            .filter(|(_, s, _)| matches(&s.labels, &filter.label_selector) && wanted(s))
            .map(|(sandbox, s, _)| v1::Container {
                id: s.id.clone(),
                pod_sandbox_id: sandbox.clone(),
                metadata: s.metadata.clone(),
                image: s.image.clone(),
                image_ref: s.image_ref.clone(),
                state: s.state,
                created_at: s.created_at,
                labels: s.labels.clone(),
                annotations: s.annotations.clone(),
                image_id: String::new(),
            })
            .collect();
        Ok(Response::new(v1::ListContainersResponse { containers }))
    }

    async fn container_status(
        &self,
        request: Request<v1::ContainerStatusRequest>,
    ) -> Answer<v1::ContainerStatusResponse> {
        let id = request.into_inner().container_id;
        let state = self.state.lock();
        let (_, status, _) = state.containers.get(&id).ok_or_else(|| Status::not_found(id.clone()))?;
        Ok(Response::new(v1::ContainerStatusResponse { status: Some(status.clone()), info: HashMap::new() }))
    }

    async fn exec_sync(&self, request: Request<v1::ExecSyncRequest>) -> Answer<v1::ExecSyncResponse> {
        let command = request.into_inner().cmd.join(" ");
        let mut state = self.state.lock();
        state.calls.push(format!("exec {command}"));
        let exit_code = state.commands.get(&command).copied().unwrap_or(0);
        Ok(Response::new(v1::ExecSyncResponse { exit_code, ..v1::ExecSyncResponse::default() }))
    }

    async fn exec(&self, request: Request<v1::ExecRequest>) -> Answer<v1::ExecResponse> {
        let request = request.into_inner();
        let mut state = self.state.lock();
        state.calls.push(format!(
            "stream {} tty={} stdin={}",
            request.cmd.join(" "),
            request.tty,
            request.stdin
        ));
        Ok(Response::new(v1::ExecResponse { url: state.stream_url.clone() }))
    }

    async fn attach(&self, _: Request<v1::AttachRequest>) -> Answer<v1::AttachResponse> {
        Err(Status::unimplemented("attach"))
    }

    async fn port_forward(&self, _: Request<v1::PortForwardRequest>) -> Answer<v1::PortForwardResponse> {
        Err(Status::unimplemented("port_forward"))
    }

    async fn list_container_stats(
        &self,
        _: Request<v1::ListContainerStatsRequest>,
    ) -> Answer<v1::ListContainerStatsResponse> {
        // Every container uses the same.
        let value = |value| Some(v1::UInt64Value { value });
        let cpu = || v1::CpuUsage { usage_core_nano_seconds: value(2_500_000_000), ..Default::default() };
        let memory = || v1::MemoryUsage {
            usage_bytes: value(3000),
            working_set_bytes: value(2000),
            ..Default::default()
        };
        let state = self.state.lock();
        let stats = state.containers.values().map(|(_, s, _)| v1::ContainerStats {
            attributes: Some(v1::ContainerAttributes {
                id: s.id.clone(),
                metadata: s.metadata.clone(),
                labels: s.labels.clone(),
                annotations: s.annotations.clone(),
            }),
            cpu: Some(cpu()),
            memory: Some(memory()),
            ..Default::default()
        });
        Ok(Response::new(v1::ListContainerStatsResponse { stats: stats.collect() }))
    }

    async fn status(&self, _: Request<v1::StatusRequest>) -> Answer<v1::StatusResponse> {
        Ok(Response::new(Default::default()))
    }

    type GetContainerEventsStream =
        Pin<Box<dyn Stream<Item = Result<v1::ContainerEventResponse, Status>> + Send>>;

    async fn get_container_events(
        &self,
        _: Request<v1::GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let events = tokio_stream::wrappers::BroadcastStream::new(self.events.subscribe());
        Ok(Response::new(Box::pin(events.map(|e| e.map_err(|_| Status::data_loss("lagged"))))))
    }

    async fn version(&self, _: Request<v1::VersionRequest>) -> Answer<v1::VersionResponse> {
        Ok(Response::new(v1::VersionResponse {
            runtime_name: "fake".into(),
            runtime_version: "1".into(),
            ..v1::VersionResponse::default()
        }))
    }

    async fn reopen_container_log(
        &self,
        _: Request<v1::ReopenContainerLogRequest>,
    ) -> Answer<v1::ReopenContainerLogResponse> {
        Err(Status::unimplemented("reopen_container_log"))
    }

    async fn container_stats(
        &self,
        _: Request<v1::ContainerStatsRequest>,
    ) -> Answer<v1::ContainerStatsResponse> {
        Err(Status::unimplemented("container_stats"))
    }

    async fn pod_sandbox_stats(
        &self,
        _: Request<v1::PodSandboxStatsRequest>,
    ) -> Answer<v1::PodSandboxStatsResponse> {
        Err(Status::unimplemented("pod_sandbox_stats"))
    }

    async fn list_pod_sandbox_stats(
        &self,
        _: Request<v1::ListPodSandboxStatsRequest>,
    ) -> Answer<v1::ListPodSandboxStatsResponse> {
        Err(Status::unimplemented("list_pod_sandbox_stats"))
    }

    async fn update_runtime_config(
        &self,
        _: Request<v1::UpdateRuntimeConfigRequest>,
    ) -> Answer<v1::UpdateRuntimeConfigResponse> {
        Err(Status::unimplemented("update_runtime_config"))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<v1::ListMetricDescriptorsRequest>,
    ) -> Answer<v1::ListMetricDescriptorsResponse> {
        Err(Status::unimplemented("list_metric_descriptors"))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<v1::ListPodSandboxMetricsRequest>,
    ) -> Answer<v1::ListPodSandboxMetricsResponse> {
        Err(Status::unimplemented("list_pod_sandbox_metrics"))
    }

    async fn runtime_config(
        &self,
        _: Request<v1::RuntimeConfigRequest>,
    ) -> Answer<v1::RuntimeConfigResponse> {
        Err(Status::unimplemented("runtime_config"))
    }

    async fn update_pod_sandbox_resources(
        &self,
        _: Request<v1::UpdatePodSandboxResourcesRequest>,
    ) -> Answer<v1::UpdatePodSandboxResourcesResponse> {
        Err(Status::unimplemented("update_pod_sandbox_resources"))
    }
}

#[async_trait]
impl ImageService for FakeRuntime {
    async fn list_images(&self, _: Request<v1::ListImagesRequest>) -> Answer<v1::ListImagesResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn image_status(
        &self,
        request: Request<v1::ImageStatusRequest>,
    ) -> Answer<v1::ImageStatusResponse> {
        let name = request.into_inner().image.unwrap_or_default().image;
        let there = self.state.lock().images.contains(&name);
        let image = there.then(|| v1::Image { id: name, size: 1, ..v1::Image::default() });
        Ok(Response::new(v1::ImageStatusResponse { image, info: HashMap::new() }))
    }

    async fn pull_image(&self, request: Request<v1::PullImageRequest>) -> Answer<v1::PullImageResponse> {
        let request = request.into_inner();
        let name = request.image.unwrap_or_default().image;
        let user = request.auth.map(|a| format!(" as {}", a.username)).unwrap_or_default();
        self.call(format!("pull {name}{user}"));
        if name.starts_with("missing/") {
            return Err(Status::not_found(format!("{name}: not found")));
        }
        self.add_image(&name);
        Ok(Response::new(v1::PullImageResponse { image_ref: name }))
    }

    async fn remove_image(&self, _: Request<v1::RemoveImageRequest>) -> Answer<v1::RemoveImageResponse> {
        Ok(Response::new(Default::default()))
    }

    async fn image_fs_info(&self, _: Request<v1::ImageFsInfoRequest>) -> Answer<v1::ImageFsInfoResponse> {
        Ok(Response::new(Default::default()))
    }
}
