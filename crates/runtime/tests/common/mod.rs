//! A server in a process of its own, images made on the spot, and everything taken down at the end.

// Each test file uses its part of this.
#![allow(dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tiphys_cri::Client;
use tiphys_cri::v1::*;

pub const HARNESS: &str = env!("CARGO_BIN_EXE_runtime-harness");
pub const BUSYBOX: &str = "busybox:test";

/// One server with a directory of its own. Dropping it removes all that it made.
pub struct Rig {
    pub dir: tempfile::TempDir,
    pub instance: String,
    pub client: Client,
    server: Child,
    numbers: AtomicU32,
}

/// Says why the test can't run here, or nothing.
pub fn unable() -> bool {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: containers need root");
        return true;
    }
    if !Path::new("/bin/busybox").exists() {
        eprintln!("skipped: /bin/busybox (Debian's busybox-static) isn't installed");
        return true;
    }
    false
}

fn start(root: &Path, instance: &str) -> Child {
    Command::new(HARNESS)
        .arg("serve")
        .arg(root)
        .arg(instance)
        .stdin(Stdio::null())
        .spawn()
        .expect("server starts")
}

pub async fn status(client: &Client, id: &str) -> ContainerStatus {
    let request = ContainerStatusRequest { container_id: id.into(), verbose: false };
    let answer = client.runtime().container_status(request).await.expect("status");
    answer.into_inner().status.expect("status")
}

impl Rig {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir_in("/var/tmp").expect("temporary directory");
        let instance = new_instance();
        let root = dir.path().join("root");
        import_busybox(&root);
        let server = start(&root, &instance);
        let client =
            Client::connect(&format!("unix://{}", root.with_extension("sock").display())).expect("endpoint");
        let rig = Self { dir, instance, client, server, numbers: AtomicU32::new(0) };
        rig.wait_for_server().await;
        rig
    }

    /// A runtime with one sandbox, and what that was made from.
    pub async fn with_sandbox() -> (Self, PodSandboxConfig, String) {
        let rig = Self::new().await;
        let pod = rig.sandbox_config();
        let sandbox = rig.sandbox(&pod).await;
        (rig, pod, sandbox)
    }

    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    async fn wait_for_server(&self) {
        for _ in 0..600 {
            if self.client.runtime().version(VersionRequest::default()).await.is_ok() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the server doesn't answer");
    }

    /// Ends the server as a crash does.
    pub fn kill_server(&mut self) {
        self.server.kill().expect("kill");
        self.server.wait().expect("wait");
    }

    pub async fn start_server(&mut self) {
        self.server = start(&self.root(), &self.instance);
        self.wait_for_server().await;
    }

    pub fn sandbox_config(&self) -> PodSandboxConfig {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: format!("pod{number}"),
                uid: format!("uid{number}"),
                namespace: "default".into(),
                attempt: 0,
            }),
            hostname: format!("host{number}"),
            log_directory: self.dir.path().join(format!("logs{number}")).display().to_string(),
            dns_config: Some(DnsConfig {
                servers: vec!["10.96.0.10".into()],
                searches: vec!["default.svc.cluster.local".into(), "cluster.local".into()],
                options: vec!["ndots:5".into()],
            }),
            linux: Some(LinuxPodSandboxConfig {
                security_context: Some(LinuxSandboxSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container as i32,
                        ..NamespaceOption::default()
                    }),
                    ..LinuxSandboxSecurityContext::default()
                }),
                ..LinuxPodSandboxConfig::default()
            }),
            ..PodSandboxConfig::default()
        }
    }

    pub async fn sandbox(&self, config: &PodSandboxConfig) -> String {
        let request =
            RunPodSandboxRequest { config: Some(config.clone()), ..RunPodSandboxRequest::default() };
        self.client
            .runtime()
            .run_pod_sandbox(request)
            .await
            .expect("sandbox runs")
            .into_inner()
            .pod_sandbox_id
    }

    /// A container of busybox that runs a script.
    pub fn container_config(&self, script: &str) -> ContainerConfig {
        let name = format!("c{}", self.numbers.fetch_add(1, Ordering::Relaxed));
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.clone(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX.into(), ..ImageSpec::default() }),
            command: vec!["/bin/sh".into(), "-c".into(), script.into()],
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext {
                    namespace_options: Some(NamespaceOption {
                        pid: NamespaceMode::Container as i32,
                        ..NamespaceOption::default()
                    }),
                    seccomp: Some(SecurityProfile::default()),
                    ..LinuxContainerSecurityContext::default()
                }),
                ..LinuxContainerConfig::default()
            }),
            ..ContainerConfig::default()
        }
    }

    pub async fn create(
        &self,
        sandbox: &str,
        pod: &PodSandboxConfig,
        config: &ContainerConfig,
    ) -> Result<String, tonic::Status> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config.clone()),
            sandbox_config: Some(pod.clone()),
        };
        Ok(self.client.runtime().create_container(request).await?.into_inner().container_id)
    }

    pub async fn start(&self, id: &str) -> Result<(), tonic::Status> {
        self.client
            .runtime()
            .start_container(StartContainerRequest { container_id: id.into() })
            .await
            .map(drop)
    }

    /// Creates and starts.
    pub async fn run(&self, sandbox: &str, pod: &PodSandboxConfig, config: &ContainerConfig) -> String {
        let id = self.create(sandbox, pod, config).await.expect("container is created");
        self.start(&id).await.expect("container starts");
        id
    }

    pub async fn status(&self, id: &str) -> ContainerStatus {
        status(&self.client, id).await
    }

    /// Waits until the container has ended.
    pub async fn ended(&self, id: &str) -> ContainerStatus {
        for _ in 0..1200 {
            let status = self.status(id).await;
            if status.state == ContainerState::ContainerExited as i32 {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("container {id} doesn't end");
    }

    /// Runs a script in a sandbox of its own to its end: exit code and log.
    pub async fn script(
        &self,
        change: impl FnOnce(&mut ContainerConfig),
        script: &str,
    ) -> (ContainerStatus, String) {
        let pod = self.sandbox_config();
        let sandbox = self.sandbox(&pod).await;
        let mut config = self.container_config(script);
        change(&mut config);
        let id = self.run(&sandbox, &pod, &config).await;
        let status = self.ended(&id).await;
        let log = log_of(&status);
        self.remove_sandbox(&sandbox).await;
        (status, log)
    }

    pub async fn exec(&self, id: &str, script: &str) -> ExecSyncResponse {
        let cmd = vec!["/bin/sh".into(), "-c".into(), script.into()];
        let request = ExecSyncRequest { container_id: id.into(), cmd, timeout: 20 };
        self.client.runtime().exec_sync(request).await.expect("exec").into_inner()
    }

    pub async fn remove_sandbox(&self, id: &str) {
        let pod_sandbox_id = id.to_owned();
        let mut runtime = self.client.runtime();
        let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
        runtime.stop_pod_sandbox(stop).await.expect("sandbox stops");
        runtime.remove_pod_sandbox(RemovePodSandboxRequest { pod_sandbox_id }).await.expect("sandbox goes");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // It may be killed already.
        let _ = self.server.kill();
        let _ = self.server.wait();
        cleanup(&self.root(), &self.instance);
    }
}

/// The text of a container's log, without times.
pub fn log_of(status: &ContainerStatus) -> String {
    let text = std::fs::read_to_string(&status.log_path).unwrap_or_default();
    let records = text.lines().map(|line| line.split_once(' ').map_or(line, |(_, rest)| rest));
    records.map(|record| format!("{record}\n")).collect()
}

pub fn new_instance() -> String {
    uuid::Uuid::new_v4().simple().to_string()[..8].to_owned()
}

pub fn import_busybox(root: &Path) {
    let store = tiphys_runtime::image::Store::open(root).expect("store opens");
    store.import(busybox_archive().as_slice(), &mut |_| {}).expect("image is imported");
}

/// Removes all that a runtime made below `root`.
pub fn cleanup(root: &Path, instance: &str) {
    let cleaned = Command::new(HARNESS).arg("cleanup").arg(root).arg(instance).status();
    if !std::thread::panicking() {
        assert!(cleaned.is_ok_and(|status| status.success()), "cleanup failed");
    }
}

/// A docker-archive with one image: busybox, its links, and two users.
pub fn busybox_archive() -> Vec<u8> {
    use sha2::Digest;
    let mut layer = tar::Builder::new(Vec::new());
    let entry = |kind, mode, size| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(size);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header
    };
    for (path, mode) in
        [("bin/", 0o755), ("etc/", 0o755), ("tmp/", 0o1777), ("proc/", 0o555), ("sys/", 0o555)]
    {
        layer
            .append_data(&mut entry(tar::EntryType::Directory, mode, 0), path, std::io::empty())
            .expect("layer");
    }
    let busybox = std::fs::read("/bin/busybox").expect("busybox");
    let size = busybox.len() as u64;
    layer
        .append_data(&mut entry(tar::EntryType::Regular, 0o755, size), "bin/busybox", busybox.as_slice())
        .expect("layer");
    for name in [
        "sh", "sleep", "cat", "ls", "id", "echo", "hostname", "env", "mount", "grep", "touch", "yes", "head",
        "tail", "dd", "kill", "ps", "wc", "stty", "unshare", "mkdir", "ln", "test", "seq", "nc", "wget",
        "tty",
    ] {
        let mut header = entry(tar::EntryType::Symlink, 0o777, 0);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox").expect("layer");
    }
    let passwd = b"root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:Ann:/home/ann:/bin/sh\n";
    layer
        .append_data(
            &mut entry(tar::EntryType::Regular, 0o644, passwd.len() as u64),
            "etc/passwd",
            passwd.as_slice(),
        )
        .expect("layer");
    let group = b"root:x:0:\nann:x:1000:\nstaff:x:50:ann\n";
    layer
        .append_data(
            &mut entry(tar::EntryType::Regular, 0o644, group.len() as u64),
            "etc/group",
            group.as_slice(),
        )
        .expect("layer");
    let layer = layer.into_inner().expect("layer");

    let diff = format!("sha256:{:x}", sha2::Sha256::digest(&layer));
    let config = serde_json::json!({
        "architecture": "amd64", "os": "linux",
        "config": { "Env": ["PATH=/bin", "FROM_IMAGE=yes"], "Cmd": ["sh"], "WorkingDir": "/work/here" },
        "rootfs": { "type": "layers", "diff_ids": [diff] },
    })
    .to_string();
    let manifest =
        serde_json::json!([{ "Config": "config.json", "RepoTags": [BUSYBOX], "Layers": ["layer.tar"] }])
            .to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in [
        ("config.json", config.as_bytes()),
        ("layer.tar", layer.as_slice()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = entry(tar::EntryType::Regular, 0o644, content.len() as u64);
        archive.append_data(&mut header, name, content).expect("archive");
    }
    archive.into_inner().expect("archive")
}
