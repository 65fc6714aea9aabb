//! A kubelet over containerd with the plug-ins of CNI, all of it removable.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use nix::mount::{MntFlags, umount2};
use tiphys_cri::v1::{ListPodSandboxRequest, RemovePodSandboxRequest, StopPodSandboxRequest};
use tiphys_testkit::{free_port, image::Image, text};

use super::wait_for;
use crate::side::{Processes, all};

pub(super) const NAME: &str = "reference";
/// The bridge of its pods, and the cgroup that they are below.
const BRIDGE: &str = "tiphys-ref0";
const GROUP: &str = "/tiphys-reference";
const PAUSE_IMAGE: &str = "tiphys.local/pause:1";
/// Told from what pods run by its number.
const PAUSE: [&str; 2] = ["sleep", "2000000000"];
/// What a kubelet sets for the whole host, to be put back.
const SYSCTLS: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];

/// The image of the processes that hold pods' namespaces.
pub(super) fn pause_image() -> Image {
    Image::busybox(&[PAUSE_IMAGE], &PAUSE)
}

pub(super) struct Node {
    dir: PathBuf,
    port: u16,
    sysctls: Vec<(PathBuf, String)>,
}

impl Node {
    /// Writes the settings of containerd and of the network.
    pub(super) fn new(dir: &Path, plug_ins: &Path) -> Result<Self> {
        let sysctls = SYSCTLS.iter().filter_map(|name| {
            let path = Path::new("/proc/sys").join(name);
            fs::read_to_string(&path).ok().map(|value| (path, value))
        });
        let node = Self { dir: dir.to_owned(), port: free_port()?, sysctls: sysctls.collect() };
        let at = |name: &str| dir.join(name).display().to_string();
        let containerd = format!(
            "version = 2\nroot = {root:?}\nstate = {state:?}\n[debug]\nlevel = \"error\"\n[grpc]\naddress = {socket:?}\n\
             [plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = {PAUSE_IMAGE:?}\nrestrict_oom_score_adj = true\n\
             [plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = {plug_ins:?}\nconf_dir = {network:?}\n",
            root = at("containerd"),
            state = at("run"),
            socket = node.socket(),
            network = at("cni"),
        );
        fs::write(dir.join("containerd.toml"), containerd)?;
        fs::create_dir(dir.join("cni"))?;
        let network = serde_json::json!({
            "cniVersion": "0.4.0", "name": "tiphys-reference", "type": "bridge", "bridge": BRIDGE, "isGateway": true,
            "ipam": {"type": "host-local", "subnet": "10.91.0.0/17", "dataDir": at("cni-addresses")},
        });
        fs::write(dir.join("cni/10-bridge.conf"), network.to_string())?;
        Ok(node)
    }

    fn socket(&self) -> PathBuf {
        self.dir.join("containerd.sock")
    }

    fn endpoint(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    pub(super) fn containerd_arguments(&self) -> Vec<String> {
        vec![format!("--config={}", self.dir.join("containerd.toml").display())]
    }

    pub(super) fn wait_for_containerd(&self) -> Result<()> {
        wait_for("containerd", || UnixStream::connect(self.socket()).is_ok())
    }

    /// Also makes the cgroups that the kubelet wants to find.
    pub(super) fn kubelet_arguments(&self, kubeconfig: &Path) -> Result<Vec<String>> {
        for group in groups()? {
            fs::create_dir_all(&group).with_context(|| format!("making {}", group.display()))?;
            // A new cpuset has no processors, and can hold nothing until it has.
            for name in ["cpuset.cpus", "cpuset.mems"] {
                if let Some(value) = group.parent().and_then(|top| fs::read_to_string(top.join(name)).ok()) {
                    fs::write(group.join(name), value.trim()).with_context(|| format!("setting {name}"))?;
                }
            }
        }
        Ok(vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            "--container-runtime=remote".to_owned(),
            format!("--container-runtime-endpoint={}", self.endpoint()),
            format!("--root-dir={}", self.dir.join("kubelet").display()),
            format!("--cert-dir={}", self.dir.join("kubelet/pki").display()),
            format!("--hostname-override={NAME}"),
            "--address=127.0.0.1".to_owned(),
            format!("--port={}", self.port),
            "--read-only-port=0".to_owned(),
            "--healthz-port=0".to_owned(),
            format!("--cgroup-root={GROUP}"),
            "--enforce-node-allocatable=pods".to_owned(),
            "--oom-score-adj=0".to_owned(),
            "--fail-swap-on=false".to_owned(),
            "--make-iptables-util-chains=false".to_owned(),
            "--eviction-hard=memory.available<1Mi".to_owned(),
        ])
    }

    pub(super) fn import(&self, ctr: &Path, archive: &Path) -> Result<()> {
        let mut command = Command::new(ctr);
        command
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io", "images", "import"])
            .arg(archive);
        text(&mut command).map(drop)
    }

    pub(super) fn processes(&self) -> Result<Processes> {
        let socket = self.socket().display().to_string();
        let all = all()?;
        let shims =
            all.iter().filter(|p| p.command.contains("containerd-shim") && p.command.contains(&socket));
        let shims: Vec<u32> = shims.map(|p| p.pid).collect();
        let pause = format!("{} ", PAUSE.join(" "));
        let pauses = all.iter().filter(|p| p.command == pause && shims.contains(&p.parent));
        Ok(Processes { servers: Vec::new(), pauses: pauses.map(|p| p.pid).collect(), shims })
    }

    /// Stops and removes every pod through the runtime.
    pub(super) fn remove_pods(&self) -> Result<()> {
        self.wait_for_containerd()?;
        let endpoint = self.endpoint();
        // The caller may be a task, which must not wait for another; a thread may.
        let work = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(remove_pods(&endpoint))
        });
        work.join().unwrap_or_else(|_| anyhow::bail!("removing pods panicked"))
    }

    /// Removes what servers that were killed have left in the kernel.
    pub(super) fn remove_leftovers(&self) -> Result<()> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("listing mounts")?;
        let inside =
            |line: &str| line.split(' ').nth(1).map(PathBuf::from).filter(|at| at.starts_with(&self.dir));
        for mount in mounts.lines().rev().filter_map(inside) {
            umount2(&mount, MntFlags::MNT_DETACH)
                .with_context(|| format!("unmounting {}", mount.display()))?;
        }
        for group in groups()?.into_iter().filter(|group| group.exists()) {
            remove_group(&group)?;
        }
        for (path, value) in &self.sysctls {
            if fs::read_to_string(path).is_ok_and(|now| now != *value) {
                fs::write(path, value).with_context(|| format!("putting {} back", path.display()))?;
            }
        }
        if Path::new("/sys/class/net").join(BRIDGE).exists() {
            text(Command::new("ip").args(["link", "delete", BRIDGE]))?;
        }
        Ok(())
    }
}

/// A runtime that has just started may not answer yet, and what was killed in the middle of its work leaves pods
/// that go only at a later attempt.
async fn remove_pods(endpoint: &str) -> Result<()> {
    const ATTEMPTS: usize = 50;
    let client = tiphys_cri::Client::connect(endpoint)?;
    let mut failure = None;
    for _ in 0..ATTEMPTS {
        match client.runtime().list_pod_sandbox(ListPodSandboxRequest::default()).await {
            Ok(pods) if pods.get_ref().items.is_empty() => return Ok(()),
            Ok(pods) => {
                for pod in pods.into_inner().items {
                    failure = remove_pod(&client, pod.id).await.err().or(failure);
                }
            }
            Err(error) => failure = Some(error.into()),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(failure.unwrap_or_else(|| anyhow!("pods of the reference stay")))
}

async fn remove_pod(client: &tiphys_cri::Client, pod_sandbox_id: String) -> Result<()> {
    let stop = StopPodSandboxRequest { pod_sandbox_id: pod_sandbox_id.clone() };
    client.runtime().stop_pod_sandbox(stop).await.context("stopping a pod of the reference")?;
    let remove = RemovePodSandboxRequest { pod_sandbox_id };
    client.runtime().remove_pod_sandbox(remove).await.context("removing a pod of the reference")?;
    Ok(())
}

/// The reference's group in each hierarchy.
fn groups() -> Result<Vec<PathBuf>> {
    let top = Path::new("/sys/fs/cgroup");
    if top.join("cgroup.controllers").exists() {
        return Ok(vec![top.join(&GROUP[1..])]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(top).context("listing cgroups")? {
        let path = entry.context("listing cgroups")?.path();
        if path.join("cgroup.procs").exists() && path.file_name().is_some_and(|name| name != "unified") {
            found.push(path.join(&GROUP[1..]));
        }
    }
    Ok(found)
}

fn remove_group(group: &Path) -> Result<()> {
    for entry in fs::read_dir(group).context("listing cgroups")? {
        let path = entry.context("listing cgroups")?.path();
        if path.is_dir() {
            remove_group(&path)?;
        }
    }
    fs::remove_dir(group).with_context(|| format!("removing {}", group.display()))
}
