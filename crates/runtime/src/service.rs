//! The two CRI services. Each method reads its request, does one thing, and writes its response.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use tiphys_cri::v1::image_service_server::ImageService;
use tiphys_cri::v1::runtime_service_server::RuntimeService;
use tiphys_cri::v1::*;
use tokio_stream::wrappers::BroadcastStream;
use tonic::{Request, Response, Status};

use crate::error::Error;
use crate::image::{Credentials, ImageRecord, Pull};
use crate::runtime::Runtime;
use crate::sandbox::blocking;
use crate::{clock, exec};

/// What this runtime is called.
const NAME: &str = "tiphys";
/// The version of the CRI package that is spoken.
const API_VERSION: &str = "v1";
/// The version field that the kubelet has always sent and expected.
const KUBELET_API_VERSION: &str = "0.1.0";

type Answer<T> = Result<Response<T>, Status>;

fn required<T>(value: Option<T>, what: &str) -> Result<T, Status> {
    value.ok_or_else(|| Status::invalid_argument(format!("{what} is required")))
}

/// Sees work through that a caller who goes away must not leave half done.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = crate::Result<T>> + Send + 'static,
) -> Result<T, Status> {
    match tokio::spawn(work).await {
        Ok(done) => done.map_err(Status::from),
        Err(error) => Err(Status::internal(error.to_string())),
    }
}

fn has_labels(labels: &HashMap<String, String>, selector: &HashMap<String, String>) -> bool {
    selector.iter().all(|(name, value)| labels.get(name) == Some(value))
}

#[tonic::async_trait]
impl RuntimeService for Runtime {
    async fn version(&self, _: Request<VersionRequest>) -> Answer<VersionResponse> {
        Ok(Response::new(VersionResponse {
            version: KUBELET_API_VERSION.into(),
            runtime_name: NAME.into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: API_VERSION.into(),
        }))
    }

    async fn run_pod_sandbox(&self, request: Request<RunPodSandboxRequest>) -> Answer<RunPodSandboxResponse> {
        let request = request.into_inner();
        if !request.runtime_handler.is_empty() {
            let text = format!("no runtime for {:?} is configured", request.runtime_handler);
            return Err(Status::invalid_argument(text));
        }
        let (runtime, config) = (self.clone(), required(request.config, "config")?);
        let pod_sandbox_id = to_its_end(async move { runtime.run_sandbox(config).await }).await?;
        Ok(Response::new(RunPodSandboxResponse { pod_sandbox_id }))
    }

    async fn stop_pod_sandbox(
        &self,
        request: Request<StopPodSandboxRequest>,
    ) -> Answer<StopPodSandboxResponse> {
        let (runtime, id) = (self.clone(), request.into_inner().pod_sandbox_id);
        to_its_end(async move { runtime.stop_sandbox(&id).await }).await?;
        Ok(Response::new(StopPodSandboxResponse {}))
    }

    async fn remove_pod_sandbox(
        &self,
        request: Request<RemovePodSandboxRequest>,
    ) -> Answer<RemovePodSandboxResponse> {
        let (runtime, id) = (self.clone(), request.into_inner().pod_sandbox_id);
        to_its_end(async move { runtime.remove_sandbox(&id).await }).await?;
        Ok(Response::new(RemovePodSandboxResponse {}))
    }

    async fn pod_sandbox_status(
        &self,
        request: Request<PodSandboxStatusRequest>,
    ) -> Answer<PodSandboxStatusResponse> {
        let sandbox = self.inner.sandbox(&request.into_inner().pod_sandbox_id)?;
        let containers = self.inner.containers_of(&sandbox.id);
        Ok(Response::new(PodSandboxStatusResponse {
            status: Some(sandbox.status()),
            info: HashMap::new(),
            containers_statuses: containers
                .iter()
                .map(|container| container.status(&self.inner.images))
                .collect(),
            timestamp: clock::now_nanos(),
        }))
    }

    async fn list_pod_sandbox(
        &self,
        request: Request<ListPodSandboxRequest>,
    ) -> Answer<ListPodSandboxResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let sandboxes: Vec<_> =
            self.inner.sandboxes.lock().values().map(|sandbox| sandbox.summary()).collect();
        let items = sandboxes.into_iter().filter(|sandbox| {
            sandbox.id.starts_with(&filter.id)
                && filter.state.as_ref().is_none_or(|state| state.state == sandbox.state)
                && has_labels(&sandbox.labels, &filter.label_selector)
        });
        Ok(Response::new(ListPodSandboxResponse { items: items.collect() }))
    }

    async fn create_container(
        &self,
        request: Request<CreateContainerRequest>,
    ) -> Answer<CreateContainerResponse> {
        let request = request.into_inner();
        let config = required(request.config, "config")?;
        let (runtime, sandbox) = (self.clone(), request.pod_sandbox_id);
        let creating = async move { Runtime::create_container(&runtime, &sandbox, config).await };
        let container_id = to_its_end(creating).await?;
        Ok(Response::new(CreateContainerResponse { container_id }))
    }

    async fn start_container(
        &self,
        request: Request<StartContainerRequest>,
    ) -> Answer<StartContainerResponse> {
        let (runtime, id) = (self.clone(), request.into_inner().container_id);
        to_its_end(async move { Runtime::start_container(&runtime, &id).await }).await?;
        Ok(Response::new(StartContainerResponse {}))
    }

    async fn stop_container(&self, request: Request<StopContainerRequest>) -> Answer<StopContainerResponse> {
        let request = request.into_inner();
        let timeout = Duration::from_secs(u64::try_from(request.timeout).unwrap_or(0));
        Runtime::stop_container(self, &request.container_id, timeout).await?;
        Ok(Response::new(StopContainerResponse {}))
    }

    async fn remove_container(
        &self,
        request: Request<RemoveContainerRequest>,
    ) -> Answer<RemoveContainerResponse> {
        let (runtime, id) = (self.clone(), request.into_inner().container_id);
        to_its_end(async move { Runtime::remove_container(&runtime, &id).await }).await?;
        Ok(Response::new(RemoveContainerResponse {}))
    }

    async fn list_containers(
        &self,
        request: Request<ListContainersRequest>,
    ) -> Answer<ListContainersResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let all: Vec<_> = self.inner.containers.lock().values().cloned().collect();
        let containers =
            all.iter().map(|container| container.summary(&self.inner.images)).filter(|container| {
                container.id.starts_with(&filter.id)
                    && container.pod_sandbox_id.starts_with(&filter.pod_sandbox_id)
                    && filter.state.as_ref().is_none_or(|state| state.state == container.state)
                    && has_labels(&container.labels, &filter.label_selector)
            });
        Ok(Response::new(ListContainersResponse { containers: containers.collect() }))
    }

    async fn container_status(
        &self,
        request: Request<ContainerStatusRequest>,
    ) -> Answer<ContainerStatusResponse> {
        let request = request.into_inner();
        let container = self.inner.container(&request.container_id)?;
        let mut info = HashMap::new();
        if request.verbose {
            let details = serde_json::json!({ "sandboxID": container.sandbox.id, "pid": container.pid() });
            info.insert("info".to_owned(), details.to_string());
        }
        Ok(Response::new(ContainerStatusResponse {
            status: Some(container.status(&self.inner.images)),
            info,
        }))
    }

    async fn update_container_resources(
        &self,
        request: Request<UpdateContainerResourcesRequest>,
    ) -> Answer<UpdateContainerResourcesResponse> {
        let request = request.into_inner();
        self.update_resources(&request.container_id, request.linux.unwrap_or_default()).await?;
        Ok(Response::new(UpdateContainerResourcesResponse {}))
    }

    async fn reopen_container_log(
        &self,
        request: Request<ReopenContainerLogRequest>,
    ) -> Answer<ReopenContainerLogResponse> {
        self.reopen_log(&request.into_inner().container_id).await?;
        Ok(Response::new(ReopenContainerLogResponse {}))
    }

    async fn exec_sync(&self, request: Request<ExecSyncRequest>) -> Answer<ExecSyncResponse> {
        let request = request.into_inner();
        let container = self.inner.container(&request.container_id)?;
        let timeout =
            u64::try_from(request.timeout).ok().filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let (exit_code, stdout, stderr) = exec::run_to_end(self, &container, &request.cmd, timeout).await?;
        Ok(Response::new(ExecSyncResponse { stdout, stderr, exit_code }))
    }

    async fn exec(&self, request: Request<ExecRequest>) -> Answer<ExecResponse> {
        let request = request.into_inner();
        let container = self.inner.container(&request.container_id)?;
        let command = tiphys_streaming::Command {
            container: container.id.clone(),
            command: Some(request.cmd),
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr && !request.tty,
            tty: request.tty,
        };
        Ok(Response::new(ExecResponse { url: self.streaming().await?.command_url(command) }))
    }

    async fn attach(&self, request: Request<AttachRequest>) -> Answer<AttachResponse> {
        let request = request.into_inner();
        let container = self.inner.container(&request.container_id)?;
        let command = tiphys_streaming::Command {
            container: container.id.clone(),
            command: None,
            stdin: request.stdin,
            stdout: request.stdout,
            stderr: request.stderr && !request.tty,
            tty: request.tty,
        };
        Ok(Response::new(AttachResponse { url: self.streaming().await?.command_url(command) }))
    }

    async fn port_forward(&self, request: Request<PortForwardRequest>) -> Answer<PortForwardResponse> {
        let request = request.into_inner();
        let sandbox = self.inner.sandbox(&request.pod_sandbox_id)?;
        let mut ports = Vec::new();
        for port in request.port {
            let text = format!("port {port} is out of range");
            ports.push(u16::try_from(port).map_err(|_| Status::invalid_argument(text))?);
        }
        let url = self.streaming().await?.port_forward_url(sandbox.id.clone(), ports);
        Ok(Response::new(PortForwardResponse { url }))
    }

    async fn container_stats(
        &self,
        request: Request<ContainerStatsRequest>,
    ) -> Answer<ContainerStatsResponse> {
        let container = self.inner.container(&request.into_inner().container_id)?;
        let runtime = self.clone();
        let stats = blocking(move || runtime.stats_of(&container)).await?;
        Ok(Response::new(ContainerStatsResponse { stats: Some(stats) }))
    }

    async fn list_container_stats(
        &self,
        request: Request<ListContainerStatsRequest>,
    ) -> Answer<ListContainerStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut containers: Vec<_> = self.inner.containers.lock().values().cloned().collect();
        containers.retain(|container| {
            container.pid().is_some()
                && container.id.starts_with(&filter.id)
                && container.sandbox.id.starts_with(&filter.pod_sandbox_id)
                && has_labels(&container.config.labels, &filter.label_selector)
        });
        let runtime = self.clone();
        let stats = blocking(move || {
            // One that ends meanwhile is left out.
            Ok(containers.iter().filter_map(|container| runtime.stats_of(container).ok()).collect())
        });
        Ok(Response::new(ListContainerStatsResponse { stats: stats.await? }))
    }

    async fn pod_sandbox_stats(
        &self,
        request: Request<PodSandboxStatsRequest>,
    ) -> Answer<PodSandboxStatsResponse> {
        let sandbox = self.inner.sandbox(&request.into_inner().pod_sandbox_id)?;
        let runtime = self.clone();
        let stats = blocking(move || runtime.stats_of_sandbox(&sandbox)).await?;
        Ok(Response::new(PodSandboxStatsResponse { stats: Some(stats) }))
    }

    async fn list_pod_sandbox_stats(
        &self,
        request: Request<ListPodSandboxStatsRequest>,
    ) -> Answer<ListPodSandboxStatsResponse> {
        let filter = request.into_inner().filter.unwrap_or_default();
        let mut sandboxes: Vec<_> = self.inner.sandboxes.lock().values().cloned().collect();
        sandboxes.retain(|sandbox| {
            sandbox.is_ready()
                && sandbox.id.starts_with(&filter.id)
                && has_labels(&sandbox.config.labels, &filter.label_selector)
        });
        let runtime = self.clone();
        let stats = blocking(move || {
            // One that ends meanwhile is left out.
            Ok(sandboxes.iter().filter_map(|sandbox| runtime.stats_of_sandbox(sandbox).ok()).collect())
        });
        Ok(Response::new(ListPodSandboxStatsResponse { stats: stats.await? }))
    }

    /// The pod range is the network's affair, which learns it elsewhere.
    async fn update_runtime_config(
        &self,
        _: Request<UpdateRuntimeConfigRequest>,
    ) -> Answer<UpdateRuntimeConfigResponse> {
        Ok(Response::new(UpdateRuntimeConfigResponse {}))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Answer<StatusResponse> {
        let ready = |kind: &str, problem: Option<String>| RuntimeCondition {
            r#type: kind.into(),
            status: problem.is_none(),
            reason: if problem.is_some() { format!("{kind}Problem") } else { String::new() },
            message: problem.unwrap_or_default(),
        };
        let conditions =
            vec![ready("RuntimeReady", None), ready("NetworkReady", self.inner.config.network.problem())];
        Ok(Response::new(StatusResponse {
            status: Some(RuntimeStatus { conditions }),
            info: HashMap::new(),
            runtime_handlers: vec![RuntimeHandler {
                name: String::new(),
                features: Some(RuntimeHandlerFeatures {
                    recursive_read_only_mounts: true,
                    user_namespaces: false,
                }),
            }],
            features: Some(RuntimeFeatures {
                supplemental_groups_policy: true,
                ..RuntimeFeatures::default()
            }),
        }))
    }

    type GetContainerEventsStream = BoxStream<'static, Result<ContainerEventResponse, Status>>;

    /// Every change from now on. A listener that falls too far behind gets `DATA_LOSS` and must list anew.
    async fn get_container_events(
        &self,
        _: Request<GetEventsRequest>,
    ) -> Answer<Self::GetContainerEventsStream> {
        let inner = self.inner.clone();
        let changes = BroadcastStream::new(inner.changes.subscribe()).map(move |change| match change {
            Ok(change) => Ok(inner.describe(change)),
            Err(lost) => Err(Status::data_loss(lost.to_string())),
        });
        Ok(Response::new(changes.boxed()))
    }

    async fn list_metric_descriptors(
        &self,
        _: Request<ListMetricDescriptorsRequest>,
    ) -> Answer<ListMetricDescriptorsResponse> {
        Ok(Response::new(ListMetricDescriptorsResponse { descriptors: Vec::new() }))
    }

    async fn list_pod_sandbox_metrics(
        &self,
        _: Request<ListPodSandboxMetricsRequest>,
    ) -> Answer<ListPodSandboxMetricsResponse> {
        Ok(Response::new(ListPodSandboxMetricsResponse { pod_metrics: Vec::new() }))
    }

    async fn runtime_config(&self, _: Request<RuntimeConfigRequest>) -> Answer<RuntimeConfigResponse> {
        let linux = LinuxRuntimeConfiguration { cgroup_driver: CgroupDriver::Cgroupfs as i32 };
        Ok(Response::new(RuntimeConfigResponse { linux: Some(linux) }))
    }

    /// The pod's own group is the kubelet's; there is nothing here that would have to follow it.
    async fn update_pod_sandbox_resources(
        &self,
        request: Request<UpdatePodSandboxResourcesRequest>,
    ) -> Answer<UpdatePodSandboxResourcesResponse> {
        self.inner.sandbox(&request.into_inner().pod_sandbox_id)?;
        Ok(Response::new(UpdatePodSandboxResourcesResponse {}))
    }
}

#[tonic::async_trait]
impl ImageService for Runtime {
    async fn list_images(&self, request: Request<ListImagesRequest>) -> Answer<ListImagesResponse> {
        let wanted = request.into_inner().filter.and_then(|filter| filter.image).unwrap_or_default().image;
        let images = if wanted.is_empty() {
            self.inner.images.list()?
        } else {
            self.inner.images.find(&wanted).into_iter().collect()
        };
        Ok(Response::new(ListImagesResponse {
            images: images.iter().map(|image| self.image(image)).collect(),
        }))
    }

    /// An image that isn't there is no error, but an answer without one.
    async fn image_status(&self, request: Request<ImageStatusRequest>) -> Answer<ImageStatusResponse> {
        let wanted = required(request.into_inner().image, "image")?.image;
        let image = match self.inner.images.find(&wanted) {
            Ok(image) => Some(self.image(&image)),
            Err(Error::NotFound { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(Response::new(ImageStatusResponse { image, info: HashMap::new() }))
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Answer<PullImageResponse> {
        let request = request.into_inner();
        let name = required(request.image, "image")?.image;
        // An image that was imported, or is this program itself, can be had from nowhere else.
        if let Ok(image) = self.inner.images.find(&name)
            && image.pinned
        {
            return Ok(Response::new(PullImageResponse { image_ref: image.id }));
        }
        let credentials = request.auth.map(Credentials::from_cri).transpose()?.unwrap_or_default();
        let pull = Pull::new(self.inner.images.clone(), &name, credentials)?;
        let image = pull.run(&|_| {}).await?;
        let image_ref = image.digests.first().unwrap_or(&image.id).clone();
        Ok(Response::new(PullImageResponse { image_ref }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answer<RemoveImageResponse> {
        let name = required(request.into_inner().image, "image")?.image;
        let inner = self.inner.clone();
        blocking(move || inner.images.remove(&name, &inner.layers_in_use())).await?;
        Ok(Response::new(RemoveImageResponse {}))
    }

    async fn image_fs_info(&self, _: Request<ImageFsInfoRequest>) -> Answer<ImageFsInfoResponse> {
        let images: Arc<_> = self.inner.images.clone();
        let (bytes, inodes) = blocking(move || images.usage()).await?;
        let usage = FilesystemUsage {
            timestamp: clock::now_nanos(),
            fs_id: Some(FilesystemIdentifier { mountpoint: self.inner.config.root.display().to_string() }),
            used_bytes: Some(UInt64Value { value: bytes }),
            inodes_used: Some(UInt64Value { value: inodes }),
        };
        Ok(Response::new(ImageFsInfoResponse {
            image_filesystems: vec![usage.clone()],
            container_filesystems: vec![usage],
        }))
    }
}

impl Runtime {
    fn image(&self, record: &ImageRecord) -> Image {
        let user = self.inner.images.config(record).ok().and_then(|config| config.user).unwrap_or_default();
        let user = user.split(':').next().unwrap_or_default().to_owned();
        let uid = if user.is_empty() { Some(0) } else { user.parse().ok() };
        Image {
            id: record.id.clone(),
            repo_tags: record.names.iter().cloned().collect(),
            repo_digests: record.digests.iter().cloned().collect(),
            size: record.size,
            username: if uid.is_some() { String::new() } else { user },
            uid: uid.map(|value| Int64Value { value }),
            spec: Some(ImageSpec { image: record.id.clone(), ..ImageSpec::default() }),
            pinned: record.pinned,
        }
    }
}
