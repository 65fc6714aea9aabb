//! Sandboxes: what the containers of a pod share.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::mount::{MsFlags, mount};
use parking_lot::Mutex;
use tiphys_cri::v1::{
    self, ContainerEventType, LinuxPodSandboxStatus, Namespace, NamespaceMode, PodIp, PodSandboxConfig,
    PodSandboxMetadata, PodSandboxNetworkStatus, PodSandboxState,
};

use crate::container::Container;
use crate::error::{Error, Result};
use crate::network::{Attachment, host_ports};
use crate::record::{Phase, SandboxRecord, new_id, read_message, write_message};
use crate::runtime::{Runtime, group_of};
use crate::shim::client::{self, Connection};
use crate::shim::protocol::{self, PodSpec, Reply, Request};
use crate::spec::namespaces_of;
use crate::{cgroup, clock, files, netns};

pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) dir: PathBuf,
    pub(crate) config: PodSandboxConfig,
    record: Mutex<SandboxRecord>,
    /// Calls that change the sandbox or make containers in it come one after the other.
    pub(crate) changing: tokio::sync::Mutex<()>,
}

impl Sandbox {
    pub(crate) fn is_ready(&self) -> bool {
        self.record.lock().phase == Phase::Ready
    }

    pub(crate) fn pause(&self) -> i32 {
        self.record.lock().pause
    }

    pub(crate) fn created_at(&self) -> i64 {
        self.record.lock().created_at
    }

    /// The file that holds the sandbox's network namespace; none is the host's.
    pub(crate) fn network(&self) -> Option<PathBuf> {
        (!self.record.lock().host_network).then(|| self.dir.join("netns"))
    }

    pub(crate) fn metadata(&self) -> PodSandboxMetadata {
        self.config.metadata.clone().unwrap_or_default()
    }

    /// The group that the pod's containers go into, absolute in each hierarchy.
    pub(crate) fn group(&self, instance: &str) -> String {
        let parent = self.config.linux.as_ref().map(|linux| linux.cgroup_parent.as_str()).unwrap_or_default();
        let parent = parent.trim_end_matches('/');
        if parent.is_empty() { format!("{}-pods/{}", group_of(instance), self.id) } else { parent.to_owned() }
    }

    /// Changes the record, in memory and on disk.
    fn update(&self, change: impl FnOnce(&mut SandboxRecord)) -> Result<()> {
        let mut record = self.record.lock();
        change(&mut record);
        files::write_json(&self.dir.join("sandbox.json"), &*record)
    }

    fn state(&self) -> PodSandboxState {
        if self.is_ready() { PodSandboxState::SandboxReady } else { PodSandboxState::SandboxNotready }
    }

    pub(crate) fn status(&self) -> v1::PodSandboxStatus {
        let record = self.record.lock().clone();
        let mut addresses = record.addresses.iter().map(IpAddr::to_string);
        let network = PodSandboxNetworkStatus {
            ip: addresses.next().unwrap_or_default(),
            additional_ips: addresses.map(|ip| PodIp { ip }).collect(),
        };
        v1::PodSandboxStatus {
            id: self.id.clone(),
            metadata: Some(self.metadata()),
            state: self.state() as i32,
            created_at: record.created_at,
            network: Some(network),
            linux: Some(LinuxPodSandboxStatus {
                namespaces: Some(Namespace { options: Some(namespaces_of(&self.config)) }),
            }),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: String::new(),
        }
    }

    pub(crate) fn summary(&self) -> v1::PodSandbox {
        v1::PodSandbox {
            id: self.id.clone(),
            metadata: Some(self.metadata()),
            state: self.state() as i32,
            created_at: self.created_at(),
            labels: self.config.labels.clone(),
            annotations: self.config.annotations.clone(),
            runtime_handler: String::new(),
        }
    }

    fn pod_spec(&self, shim_group: Option<&Path>) -> Result<PodSpec> {
        let options = namespaces_of(&self.config);
        let host_network = options.network() == NamespaceMode::Node;
        let own_ipc = options.ipc() != NamespaceMode::Node;
        let mut sysctls = vec![];
        if !host_network {
            // A pod's ports and pings are its own affair, whoever its processes run as.
            sysctls.push(("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned()));
            sysctls.push(("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned()));
        }
        for (name, value) in self.config.linux.iter().flat_map(|linux| &linux.sysctls) {
            check_sysctl(name, host_network, own_ipc)?;
            sysctls.push((name.clone(), value.clone()));
        }
        Ok(PodSpec {
            version: protocol::VERSION,
            hostname: self.config.hostname.clone(),
            network: self.network(),
            own_ipc,
            own_uts: !host_network,
            shared_pids: options.pid() == NamespaceMode::Pod,
            sysctls,
            cgroup_procs: shim_group.map(|dir| dir.join("cgroup.procs")),
        })
    }

    fn attachment(&self) -> Result<Attachment> {
        let metadata = self.metadata();
        Ok(Attachment {
            sandbox: self.id.clone(),
            netns: self.dir.join("netns"),
            pod_namespace: metadata.namespace,
            pod_name: metadata.name,
            pod_uid: metadata.uid,
            ports: host_ports(&self.config.port_mappings)?,
            annotations: self.config.annotations.clone(),
        })
    }

    /// Writes the files that all containers of the pod see.
    fn write_shared_files(&self) -> Result<()> {
        if let Some(dns) = &self.config.dns_config {
            let mut text = String::new();
            let mut line = |keyword: &str, words: &[String]| {
                if !words.is_empty() {
                    text.push_str(&format!("{keyword} {}\n", words.join(" ")));
                }
            };
            line("search", &dns.searches);
            for server in &dns.servers {
                line("nameserver", std::slice::from_ref(server));
            }
            line("options", &dns.options);
            files::write_atomically(&self.dir.join("resolv.conf"), text.as_bytes())?;
        }
        if !self.config.hostname.is_empty() {
            let text = format!("{}\n", self.config.hostname);
            files::write_atomically(&self.dir.join("hostname"), text.as_bytes())?;
        }
        if namespaces_of(&self.config).ipc() != NamespaceMode::Node {
            let shm = self.dir.join("shm");
            files::create_dir(&shm)?;
            let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
            mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=65536k"))
                .map_err(Error::io("mount shared memory on", &shm))?;
        }
        Ok(())
    }
}

/// Only what the kernel keeps per namespace may be set, and only where the pod has that namespace for itself.
fn check_sysctl(name: &str, host_network: bool, own_ipc: bool) -> Result<()> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let refused = |why: &str| Err(Error::Invalid(format!("sysctl {name:?} {why}")));
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte));
    if !plain || name.contains("..") || name.starts_with('/') {
        return refused("isn't a valid name");
    }
    if name.starts_with("net.") || name.starts_with("net/") {
        return if host_network { refused("can't be set on the host's network") } else { Ok(()) };
    }
    if IPC.contains(&name) || name.starts_with("fs.mqueue.") {
        return if own_ipc { Ok(()) } else { refused("can't be set on the host's IPC namespace") };
    }
    refused("isn't the pod's own")
}

impl Runtime {
    pub(crate) async fn run_sandbox(&self, config: PodSandboxConfig) -> Result<String> {
        let inner = &self.inner;
        if config.metadata.as_ref().is_none_or(|metadata| metadata.name.is_empty() || metadata.uid.is_empty())
        {
            return Err(Error::Invalid("a sandbox needs a name and a UID".into()));
        }
        let id = new_id();
        let dir = inner.config.root.join("pods").join(&id);
        files::create_dir(&dir.join("c"))?;
        let host_network = namespaces_of(&config).network() == NamespaceMode::Node;
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            dir,
            config,
            record: Mutex::new(SandboxRecord {
                phase: Phase::Making,
                created_at: clock::now_nanos(),
                boot: inner.boot.clone(),
                pause: 0,
                host_network,
                addresses: Vec::new(),
            }),
            changing: tokio::sync::Mutex::new(()),
        });
        write_message(&sandbox.dir.join("sandbox.pb"), &sandbox.config)?;
        // From here on a crash leaves something that the next start finds and takes down.
        sandbox.update(|_| {})?;
        if let Err(error) = self.make_sandbox(&sandbox).await {
            if let Err(left) = self.take_down(&sandbox).await {
                tracing::error!(sandbox = %id, error = %left, "what a failed sandbox left can't be removed");
            } else {
                files::remove_dir(&sandbox.dir)?;
            }
            return Err(error);
        }
        inner.sandboxes.lock().insert(id.clone(), sandbox.clone());
        inner.announce(ContainerEventType::ContainerCreatedEvent, &id, &id);
        inner.announce(ContainerEventType::ContainerStartedEvent, &id, &id);
        Ok(id)
    }

    async fn make_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let inner = &self.inner;
        if let Some(dir) = Some(&sandbox.config.log_directory).filter(|dir| !dir.is_empty()) {
            files::create_dir(Path::new(dir))?;
        }
        let network = sandbox.network();
        if let Some(path) = &network {
            let path = path.clone();
            blocking(move || netns::create(&path)).await?;
        }
        sandbox.write_shared_files()?;
        let groups = inner.host.tracking(&inner.shim_group(&sandbox.id));
        for group in &groups {
            cgroup::create(group)?;
        }
        let spec = sandbox.pod_spec(groups.first().map(PathBuf::as_path))?;
        let attach = async {
            if network.is_none() {
                return Ok(Vec::new());
            }
            let attachment = sandbox.attachment()?;
            inner.config.network.attach(&attachment).await.map_err(|error| Error::Network(error.to_string()))
        };
        let spawn = client::spawn(&inner.exe, &inner.config.shim_arguments, &sandbox.dir, &spec);
        let (ready, addresses) = tokio::join!(spawn, attach);
        let (ready, addresses) = (ready?, addresses?);
        sandbox.update(|record| {
            record.pause = ready.pause;
            record.addresses = addresses;
            record.phase = Phase::Ready;
        })?;
        self.listen(sandbox).await
    }

    /// Connects to the sandbox's shim, learns how its containers are, and goes on listening in a task.
    async fn listen(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let connection = Connection::open(&sandbox.dir)?;
        connection.send(&Request::Watch, &[]).await?;
        loop {
            match connection.receive().await? {
                Some((Reply::Exited { container, exit }, _)) => self.inner.ended(&container, exit),
                Some((Reply::Running { container, pid }, _)) => self.inner.is_running(&container, pid),
                Some((Reply::Watching { running }, _)) => {
                    for (container, pid) in running {
                        self.inner.is_running(&container, pid);
                    }
                    break;
                }
                Some((other, _)) => return Err(Error::Shim(format!("unexpected answer {other:?}"))),
                None => return Err(Error::Shim("it is gone".into())),
            }
        }
        let (runtime, sandbox) = (Arc::downgrade(&self.inner), sandbox.clone());
        tokio::spawn(async move {
            loop {
                let news = connection.receive().await;
                let Some(inner) = runtime.upgrade() else { return };
                match news {
                    Ok(Some((Reply::Exited { container, exit }, _))) => inner.ended(&container, exit),
                    Ok(Some((Reply::Running { container, pid }, _))) => inner.is_running(&container, pid),
                    Ok(Some((Reply::PauseEnded, _))) | Ok(None) | Err(_) => {
                        if sandbox.is_ready() {
                            Runtime { inner }.lose(&sandbox);
                        }
                        return;
                    }
                    Ok(Some(_)) => {}
                }
            }
        });
        Ok(())
    }

    /// The shim or the pause process is gone: nobody can answer for the pod's processes any more.
    fn lose(&self, sandbox: &Arc<Sandbox>) {
        tracing::warn!(sandbox = %sandbox.id, "shim or pause process died; the pod's processes are killed");
        let inner = &self.inner;
        cgroup::kill_all(&inner.host.tracking(&inner.shim_group(&sandbox.id)));
        for container in inner.containers_of(&sandbox.id) {
            container.kill_group(&inner.host);
            container.settle_lost();
            inner.announce(ContainerEventType::ContainerStoppedEvent, &container.id, &sandbox.id);
        }
        if let Err(error) = sandbox.update(|record| record.phase = Phase::Stopped) {
            tracing::error!(sandbox = %sandbox.id, %error, "a lost sandbox can't be recorded");
        }
        inner.announce(ContainerEventType::ContainerStoppedEvent, &sandbox.id, &sandbox.id);
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let sandbox = match self.inner.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        let _one = sandbox.changing.lock().await;
        let was_ready = sandbox.is_ready();
        self.take_down(&sandbox).await?;
        if was_ready {
            self.inner.announce(ContainerEventType::ContainerStoppedEvent, &sandbox.id, &sandbox.id);
        }
        Ok(())
    }

    /// Ends everything in the sandbox and gives back what it held, but for its records and its containers' files.
    async fn take_down(&self, sandbox: &Arc<Sandbox>) -> Result<()> {
        let inner = &self.inner;
        for container in inner.containers_of(&sandbox.id) {
            self.stop(&container, std::time::Duration::ZERO).await?;
        }
        // The listener must not take this for a loss.
        sandbox.update(|record| record.phase = Phase::Stopped)?;
        // A shim that is gone already is what is wanted; one that doesn't listen is killed with its group.
        let _ = client::ask(&sandbox.dir, &Request::Shutdown).await;
        let groups = inner.host.tracking(&inner.shim_group(&sandbox.id));
        if let Some(path) = sandbox.network() {
            inner
                .config
                .network
                .detach(&sandbox.id)
                .await
                .map_err(|error| Error::Network(error.to_string()))?;
            let path = path.clone();
            blocking(move || netns::remove(&path)).await?;
        }
        files::unmount(&sandbox.dir.join("shm"))?;
        remove_groups(groups).await
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let sandbox = match self.inner.sandbox(id) {
            Ok(sandbox) => sandbox,
            Err(Error::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        {
            let _one = sandbox.changing.lock().await;
            self.take_down(&sandbox).await?;
        }
        for container in self.inner.containers_of(&sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        if sandbox.config.linux.as_ref().is_none_or(|linux| linux.cgroup_parent.is_empty()) {
            remove_groups(self.inner.host.directories(&sandbox.group(&self.inner.config.instance))).await?;
        }
        let dir = sandbox.dir.clone();
        blocking(move || files::remove_dir(&dir)).await?;
        self.inner.sandboxes.lock().remove(&sandbox.id);
        self.inner.announce(ContainerEventType::ContainerDeletedEvent, &sandbox.id, &sandbox.id);
        Ok(())
    }

    /// Takes over what an earlier process left in `dir`.
    pub(crate) async fn adopt_sandbox(&self, dir: &Path) -> Result<()> {
        let inner = &self.inner;
        let id = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let read = || -> Result<Option<(SandboxRecord, PodSandboxConfig)>> {
            let Some(record) = files::read_json_if_there(&dir.join("sandbox.json"))? else { return Ok(None) };
            Ok(Some((record, read_message(&dir.join("sandbox.pb"))?)))
        };
        let (record, config) = match read() {
            Ok(Some(found)) => found,
            // Nothing was done yet but to make the directory, or a loss of power took the records.
            Ok(None) | Err(Error::Parse { .. }) => {
                remove_groups(inner.host.tracking(&inner.shim_group(&id))).await?;
                inner.config.network.detach(&id).await.map_err(|error| Error::Network(error.to_string()))?;
                crate::cleanup::unmount_below(dir)?;
                return files::remove_dir(dir);
            }
            Err(error) => return Err(error),
        };
        let (phase, same_boot) = (record.phase, record.boot == inner.boot);
        let sandbox = Arc::new(Sandbox {
            id: id.clone(),
            dir: dir.to_owned(),
            config,
            record: Mutex::new(record),
            changing: tokio::sync::Mutex::new(()),
        });
        if phase == Phase::Making {
            self.take_down(&sandbox).await?;
            return files::remove_dir(dir);
        }
        for container in Container::read_all(&sandbox)? {
            inner.containers.lock().insert(container.id.clone(), container);
        }
        inner.sandboxes.lock().insert(id, sandbox.clone());
        if phase == Phase::Ready {
            let listening =
                if same_boot { self.listen(&sandbox).await } else { Err(Error::Shim("rebooted".into())) };
            if let Err(error) = listening {
                tracing::warn!(sandbox = %sandbox.id, %error, "shim doesn't answer");
                self.lose(&sandbox);
            }
        }
        if !sandbox.is_ready() {
            for container in inner.containers_of(&sandbox.id) {
                container.settle_lost();
            }
        }
        Ok(())
    }
}

/// Runs what blocks on the disk or the kernel away from the tasks.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::Call { step: "run a blocking step", source: std::io::Error::other(error) })?
}

/// Kills what is in the groups and removes them. A killed process leaves its group a little later, and version 1 has
/// no event for that.
pub(crate) async fn remove_groups(groups: Vec<PathBuf>) -> Result<()> {
    const ATTEMPTS: u32 = 200;
    for group in groups {
        let mut attempt = 0;
        loop {
            cgroup::kill_all(std::slice::from_ref(&group));
            match cgroup::remove(&group) {
                Ok(()) => break,
                Err(_) if attempt < ATTEMPTS => {
                    attempt += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                }
                Err(error) => return Err(Error::io("remove cgroup", &group)(error)),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
