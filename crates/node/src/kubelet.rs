//! Starts a node and keeps its parts running.

use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod, Service};
use kube::Api;
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use tiphys_client::{Informer, Recorder};
use tiphys_cri::v1;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bundles::Bundles;
use crate::cgroups::{CgroupError, Cgroups};
use crate::config::Config;
use crate::content::ContentStore;
use crate::context::Context;
use crate::features::Features;
use crate::images::Images;
use crate::key::PodKey;
use crate::machine::Machine;
use crate::names::Resolver;
use crate::pod;
use crate::registration::Registrar;
use crate::registry::Registry;
use crate::services::ServiceFacts;
use crate::userns::Ranges;
use crate::volumes::mounts;
use crate::{changes, gc, lease, logs, registration, static_pods, sysctls};

/// Why a node can't run on this host.
#[derive(Debug, thiserror::Error)]
pub enum KubeletError {
    /// Its directories can't be made.
    #[error("{step} {path}: {source}")]
    Directory {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Its cgroups can't be made.
    #[error(transparent)]
    Cgroups(#[from] CgroupError),
}

/// A node. Cloning gives another handle of the same one.
#[derive(Clone)]
pub struct Kubelet {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) kube: kube::Client,
    pub(crate) cri: tiphys_cri::Client,
    pub(crate) registry: Arc<Registry>,
    pub(crate) cgroups: OnceLock<Cgroups>,
    registered: CancellationToken,
    stop: CancellationToken,
}

impl Kubelet {
    /// A node that speaks to the API by `kube`, which must carry the identity `system:node:<name>`, and to its
    /// runtime by `cri`. Nothing happens before [`Kubelet::run`].
    pub fn new(config: Config, kube: kube::Client, cri: tiphys_cri::Client) -> Self {
        let stop = CancellationToken::new();
        let registry = Arc::new(Registry::new(stop.clone()));
        let machine = Machine::read();
        let registered = CancellationToken::new();
        let inner =
            Inner { config, machine, kube, cri, registry, cgroups: OnceLock::new(), registered, stop };
        Self { inner: Arc::new(inner) }
    }

    /// Waits until the API knows of the node as it is now.
    pub fn registered(&self) -> impl Future<Output = ()> + Send + use<> {
        self.inner.registered.clone().cancelled_owned()
    }

    /// Runs the node until `shutdown`. Pods go on running after that; the next run adopts them.
    ///
    /// # Errors
    /// When the host lacks what a node needs. Failures of the API and the runtime are waited out.
    pub async fn run(&self, shutdown: impl Future<Output = ()>) -> Result<(), KubeletError> {
        let mut tasks = JoinSet::new();
        let stop = self.inner.stop.clone().drop_guard();
        tokio::select! {
            result = self.serve_pods(&mut tasks) => result?,
            () = shutdown => {}
        }
        drop(stop);
        tasks.shutdown().await;
        Ok(())
    }

    async fn serve_pods(&self, tasks: &mut JoinSet<()>) -> Result<(), KubeletError> {
        let inner = &self.inner;
        let config = &inner.config;
        self.make_directories()?;
        let cgroups = Cgroups::discover(&config.cgroup_root, config.pod_pids_limit)?;
        let milli = inner.machine.cpu_milli - config.reserved_cpu_milli;
        let memory =
            if config.reserved_memory > 0 { inner.machine.memory - config.reserved_memory } else { 0 };
        cgroups.prepare(milli, memory)?;
        let cgroups = inner.cgroups.get_or_init(|| cgroups).clone();
        let version = self.runtime_version().await;
        let features = self.features().await;

        let registrar = Registrar {
            config: config.clone(),
            machine: inner.machine.clone(),
            kube: inner.kube.clone(),
            cri: inner.cri.clone(),
            runtime: format!("{}://{}", version.runtime_name, version.runtime_version),
            features: features.clone(),
        };
        let registered = registrar.register().await;
        inner.registered.cancel();
        let node = registered.node.clone();
        let (events, sink) = Recorder::new(inner.kube.clone(), "kubelet", &config.node_name);
        tasks.spawn(sink.run());
        tasks.spawn(lease::run(inner.kube.clone(), config.node_name.clone(), node.metadata.uid.clone()));
        let (seen, own_node) = watch::channel(Some(Arc::new(node)));
        let doubted = Arc::new(Notify::new());
        tasks.spawn(watch_node(inner.kube.clone(), config.node_name.clone(), seen, doubted.clone()));
        tasks.spawn(async move { registrar.keep(registered, &doubted).await });

        let services: Informer<Service, ServiceFacts> =
            Informer::new(Api::all(inner.kube.clone()), watcher::Config::default(), ServiceFacts::of);
        let service_reader = services.reader();
        tasks.spawn(services.run());
        service_reader.synced().await;

        let registry = inner.registry.clone();
        let notify = {
            let registry = registry.clone();
            Arc::new(move |key: &PodKey| registry.content_changed(key))
        };
        let bundles_changed = {
            let registry = registry.clone();
            Arc::new(move || registry.bundles_changed())
        };
        let ctx = Arc::new(Context {
            config: config.clone(),
            machine: inner.machine.clone(),
            allocatable: inner.machine.allocatable(config),
            kube: inner.kube.clone(),
            cri: inner.cri.clone(),
            runtime: version.runtime_name,
            features,
            images: Images::new(inner.cri.clone(), events.clone()),
            events,
            ranges: Ranges::default(),
            bundles: Bundles::new(inner.kube.clone(), bundles_changed),
            contents: ContentStore::new(inner.kube.clone(), notify),
            services: service_reader,
            cgroups,
            resolver: host_resolver(),
            node: own_node,
        });
        registry.begin(ctx.clone());

        let only_mine = watcher::Config::default().fields(&format!("spec.nodeName={}", config.node_name));
        let mut pods: Informer<Pod, Pod> =
            Informer::new(Api::all(inner.kube.clone()), only_mine, without_noise);
        let to = registry.clone();
        pods.on_change(move |change| deliver(&to, change.old.as_ref(), change.new.as_ref()));
        let pod_reader = pods.reader();
        tasks.spawn(pods.run());
        pod_reader.synced().await;
        if let Some(directory) = config.static_pods.clone() {
            let mut running = static_pods::Running::new();
            // Before anything can be taken for left behind.
            static_pods::apply(&directory, &config.node_name, &registry, &mut running);
            tasks.spawn(static_pods::follow(directory, config.node_name.clone(), registry.clone(), running));
        }
        registry.settle();
        tasks.spawn(changes::follow(inner.cri.clone(), registry.clone()));
        tasks.spawn(gc::run(ctx.clone(), registry));
        tasks.spawn(logs::rotate(ctx));
        std::future::pending().await
    }

    fn make_directories(&self) -> Result<(), KubeletError> {
        use std::os::unix::fs::DirBuilderExt;
        let config = &self.inner.config;
        let pods = config.data_dir.join("pods");
        for path in [&config.data_dir, &pods, &config.log_dir] {
            let made = std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path);
            made.map_err(|source| KubeletError::Directory { step: "create", path: path.clone(), source })?;
        }
        mounts::make_shared(&pods).map_err(|source| KubeletError::Directory {
            step: "share the mounts of",
            path: pods,
            source,
        })
    }

    /// What the runtime, which answers by now, can do.
    async fn features(&self) -> Features {
        let answer = self.inner.cri.runtime().status(v1::StatusRequest { verbose: false }).await;
        let status = answer.map(tonic::Response::into_inner).unwrap_or_else(|status| {
            tracing::warn!(error = status.message(), "the runtime did not say what it can do");
            v1::StatusResponse::default()
        });
        let sysctls = sysctls::allowed(&self.inner.machine.kernel, &self.inner.config.sysctls);
        Features::of(status, sysctls)
    }

    /// Asks until the runtime answers.
    async fn runtime_version(&self) -> v1::VersionResponse {
        let mut delay = Duration::from_millis(20);
        loop {
            let request = v1::VersionRequest { version: "0.1.0".to_owned() };
            match self.inner.cri.runtime().version(request).await {
                Ok(response) => return response.into_inner(),
                Err(status) => tracing::info!(error = status.message(), "the runtime does not answer yet"),
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }
}

/// Removes what a node that does not run any more left on the host: mounts below its pods' directory, and its
/// cgroups. The runtime must have removed its sandboxes before.
///
/// # Errors
/// Names the mount or cgroup that could not be removed.
pub fn remove_leftovers(config: &Config) -> Result<(), KubeletError> {
    let pods = config.data_dir.join("pods");
    mounts::unmount_below(&pods).map_err(|source| KubeletError::Directory {
        step: "unmount what is below",
        path: pods,
        source,
    })?;
    Cgroups::discover(&config.cgroup_root, None)?.remove_all()?;
    Ok(())
}

/// Who wrote which field is nothing to a node, and it is a good part of a pod's size.
fn without_noise(mut pod: Pod) -> Pod {
    pod.metadata.managed_fields = None;
    pod
}

/// Passes a change of the API's pods on to the registry.
fn deliver(registry: &Arc<Registry>, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
    let is_mirror = |p: &&Arc<Pod>| pod::is_mirror(p);
    if let Some(gone) = old.filter(|p| !is_mirror(p)) {
        let key = PodKey::of(gone);
        if let Some(key) = key.filter(|k| new.and_then(|p| PodKey::of(p)).as_ref() != Some(k)) {
            registry.gone(&key, Some(gone.clone()));
        }
    }
    if let Some(shown) = new.filter(is_mirror).or(old.filter(is_mirror)) {
        let text = |t: &Option<String>| t.clone().unwrap_or_default();
        let (namespace, name) = (text(&shown.metadata.namespace), text(&shown.metadata.name));
        registry.mirror(&namespace, &name, new.filter(is_mirror).cloned());
    }
    if let Some(pod) = new.filter(|p| !is_mirror(p)) {
        registry.set(pod.clone());
    }
}

/// Keeps the own node as the API has it, less its status. Rings when somebody wrote there that the node is lost.
async fn watch_node(
    client: kube::Client,
    name: String,
    seen: watch::Sender<Option<Arc<Node>>>,
    doubted: Arc<Notify>,
) {
    let api: Api<Node> = Api::all(client);
    let mut events = std::pin::pin!(watcher::watch_object(api.clone(), &name).default_backoff());
    while let Some(event) = events.next().await {
        match event {
            Ok(Some(mut node)) => {
                node.metadata.managed_fields = None;
                if registration::is_doubted(&node) {
                    doubted.notify_one();
                }
                if let Some(patch) = registration::lent(&node) {
                    let how = PatchParams::default();
                    if let Err(error) = api.patch_status(&name, &how, &Patch::Strategic(patch)).await {
                        tracing::debug!(%error, "resources that others lend the node were not told");
                    }
                }
                node.status = None;
                seen.send_replace(Some(Arc::new(node)));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "watch of the own node interrupted"),
        }
    }
}

/// The host's resolver. Where a stub on loopback is in the file, the one behind it is what a pod can reach.
fn host_resolver() -> Resolver {
    let read = |path: &str| std::fs::read_to_string(path).map(|t| Resolver::parse(&t)).unwrap_or_default();
    let own = read("/etc/resolv.conf");
    if own.servers.iter().all(|s| s.starts_with("127.")) {
        let behind = read("/run/systemd/resolve/resolv.conf");
        if !behind.servers.is_empty() {
            return behind;
        }
    }
    own
}
