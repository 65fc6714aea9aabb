//! The Node object: made once, then kept true.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
    NodeStatus, NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tiphys_cri::v1;
use tokio::sync::Notify;

use crate::config::Config;
use crate::features::Features;
use crate::machine::{self, Machine};
use crate::status::whole_second;

/// How often the status is looked at, and how often it is sent although nothing has changed.
const LOOK: Duration = Duration::from_secs(10);
/// From there on, twice as long each time up to [`LOOK`], while the node has something to make up for: it is not
/// ready, or the API was not told.
const SOON: Duration = Duration::from_millis(10);
const REPORT: Duration = Duration::from_secs(300);
/// The most images that the status lists.
const MAX_IMAGES: usize = 50;
/// On the node: the control plane attaches its volumes.
const MANAGED_ATTACH: &str = "volumes.kubernetes.io/controller-managed-attach-detach";
/// Below that many bytes of memory, and that share of inodes in percent, the node is under pressure.
const MEMORY_FLOOR: i64 = 100 * 1024 * 1024;
const INODE_FLOOR: u64 = 5;

/// Keeps a node registered.
pub(crate) struct Registrar {
    pub(crate) config: Config,
    pub(crate) machine: Machine,
    pub(crate) kube: kube::Client,
    pub(crate) cri: tiphys_cri::Client,
    /// `name://version` of the runtime.
    pub(crate) runtime: String,
    pub(crate) features: Features,
}

/// What the host says about itself at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Pulse {
    /// Why the runtime is not ready, if it is not.
    not_ready: Option<String>,
    memory_pressure: bool,
    disk_pressure: bool,
    pid_pressure: bool,
    images: Vec<ContainerImage>,
}

/// A Node object that is there, and what it was told last.
pub(crate) struct Registered {
    pub(crate) node: Node,
    pulse: Pulse,
}

impl Registrar {
    /// Makes the Node object, or brings the one that is there up to date. Tries until the API takes it.
    pub(crate) async fn register(&self) -> Registered {
        let api: Api<Node> = Api::all(self.kube.clone());
        let mut delay = SOON;
        loop {
            match self.try_register(&api).await {
                Ok(registered) => return registered,
                Err(error) => {
                    tracing::info!(%error, "the node is not registered yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(LOOK);
                }
            }
        }
    }

    async fn try_register(&self, api: &Api<Node>) -> kube::Result<Registered> {
        let pulse = self.pulse().await;
        let name = &self.config.node_name;
        let node = Node {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                labels: Some(self.labels()),
                annotations: Some(BTreeMap::from([(MANAGED_ATTACH.to_owned(), "true".to_owned())])),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: self.config.pod_cidr.clone(),
                pod_cidrs: self.config.pod_cidr.clone().map(|c| vec![c]),
                taints: (!self.config.taints.is_empty()).then(|| self.config.taints.clone()),
                ..NodeSpec::default()
            }),
            status: Some(self.status(&pulse, None)),
        };
        let there = match api.create(&PostParams::default(), &node).await {
            // A server may leave the status of a new object out.
            Ok(made) if made.status.as_ref().is_some_and(|s| s.conditions.is_some()) => {
                return Ok(Registered { node: made, pulse });
            }
            Ok(made) => made,
            Err(kube::Error::Api(answer)) if answer.code == 409 => {
                let annotations = json!({MANAGED_ATTACH: "true"});
                let labels = json!({"metadata": {"labels": self.labels(), "annotations": annotations}});
                api.patch(name, &PatchParams::default(), &Patch::Strategic(labels)).await?
            }
            Err(error) => return Err(error),
        };
        let node = self.send(api, &pulse, there.status.as_ref()).await?;
        Ok(Registered { node, pulse })
    }

    async fn send(&self, api: &Api<Node>, pulse: &Pulse, before: Option<&NodeStatus>) -> kube::Result<Node> {
        let patch = Patch::Strategic(status_patch(&self.status(pulse, before)));
        api.patch_status(&self.config.node_name, &PatchParams::default(), &patch).await
    }

    /// Sends the status when it changes, when it is `doubted`, and every five minutes. Runs until it is dropped.
    pub(crate) async fn keep(&self, registered: Registered, doubted: &Notify) {
        let api: Api<Node> = Api::all(self.kube.clone());
        let Registered { node, pulse: mut told } = registered;
        let mut last = node.status;
        let mut sent = tokio::time::Instant::now();
        let mut soon = SOON;
        let mut behind = false;
        loop {
            soon = if behind || told.not_ready.is_some() { (soon * 2).min(LOOK) } else { SOON };
            tokio::select! {
                () = tokio::time::sleep(if soon > SOON { soon } else { LOOK }) => {}
                () = doubted.notified() => behind = true,
            }
            let now = self.pulse().await;
            if now == told && !behind && sent.elapsed() < REPORT {
                continue;
            }
            match self.send(&api, &now, last.as_ref()).await {
                Ok(node) => {
                    (last, told, behind) = (node.status, now, false);
                    sent = tokio::time::Instant::now();
                }
                Err(kube::Error::Api(answer)) if answer.code == 404 => {
                    let again = self.register().await;
                    (last, told, behind) = (again.node.status, again.pulse, false);
                    sent = tokio::time::Instant::now();
                }
                Err(error) => {
                    tracing::debug!(%error, "the node's status was not sent");
                    behind = true;
                }
            }
        }
    }

    async fn pulse(&self) -> Pulse {
        let mut client = self.cri.runtime();
        let not_ready = match client.status(v1::StatusRequest { verbose: false }).await {
            Err(status) => Some(format!("container runtime is down: {}", status.message())),
            Ok(response) => {
                let conditions = response.into_inner().status.unwrap_or_default().conditions;
                let bad: Vec<String> = conditions
                    .into_iter()
                    .filter(|c| !c.status && matches!(c.r#type.as_str(), "RuntimeReady" | "NetworkReady"))
                    .map(|c| format!("container runtime {} not ready: {} {}", c.r#type, c.reason, c.message))
                    .collect();
                (!bad.is_empty()).then(|| bad.join(", "))
            }
        };
        let disk = machine::disk(&self.config.data_dir);
        let few_inodes = disk.inodes > 0 && disk.inodes_free.saturating_mul(100) / disk.inodes < INODE_FLOOR;
        Pulse {
            not_ready,
            memory_pressure: machine::meminfo("MemAvailable").is_some_and(|m| m < MEMORY_FLOOR),
            disk_pressure: disk.is_short_of(10, 1) || few_inodes,
            pid_pressure: machine::processes().is_some_and(|(now, most)| now >= most / 10 * 9),
            images: self.images().await,
        }
    }

    /// The largest images first.
    async fn images(&self) -> Vec<ContainerImage> {
        let list = match self.cri.images().list_images(v1::ListImagesRequest { filter: None }).await {
            Ok(response) => response.into_inner().images,
            Err(status) => {
                tracing::debug!(error = status.message(), "images not listed");
                vec![]
            }
        };
        let mut images: Vec<ContainerImage> = list
            .into_iter()
            .filter(|i| !(i.repo_digests.is_empty() && i.repo_tags.is_empty()))
            .map(|i| ContainerImage {
                names: Some(i.repo_digests.into_iter().chain(i.repo_tags).take(5).collect()),
                size_bytes: i64::try_from(i.size).ok(),
            })
            .collect();
        images.sort_by(|a, b| (b.size_bytes, &a.names).cmp(&(a.size_bytes, &b.names)));
        images.truncate(MAX_IMAGES);
        images
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.config.labels.clone();
        let arch = architecture();
        for (name, value) in [
            ("beta.kubernetes.io/arch", arch),
            ("beta.kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch),
            ("kubernetes.io/hostname", &self.config.hostname),
            ("kubernetes.io/os", "linux"),
        ] {
            labels.insert(name.to_owned(), value.to_owned());
        }
        labels
    }

    fn status(&self, pulse: &Pulse, before: Option<&NodeStatus>) -> NodeStatus {
        let config = &self.config;
        let mut addresses: Vec<NodeAddress> = config
            .addresses
            .iter()
            .map(|ip| NodeAddress { address: ip.to_string(), type_: "InternalIP".to_owned() })
            .collect();
        addresses.push(NodeAddress { address: config.hostname.clone(), type_: "Hostname".to_owned() });
        let machine = &self.machine;
        NodeStatus {
            addresses: Some(addresses),
            allocatable: Some(machine.allocatable(config)),
            capacity: Some(machine.capacity(config)),
            conditions: Some(conditions(pulse, before, Timestamp::now())),
            daemon_endpoints: Some(NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: i32::from(config.port) }),
            }),
            features: Some(self.features.of_node()),
            runtime_handlers: self.features.of_handlers(),
            images: Some(pulse.images.clone()),
            node_info: Some(NodeSystemInfo {
                architecture: architecture().to_owned(),
                boot_id: machine.boot_id.clone(),
                container_runtime_version: self.runtime.clone(),
                kernel_version: machine.kernel.clone(),
                kube_proxy_version: config.version.clone(),
                kubelet_version: config.version.clone(),
                machine_id: machine.machine_id.clone(),
                operating_system: "linux".to_owned(),
                os_image: machine.os_image.clone(),
                system_uuid: machine.system_uuid.clone(),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }
    }
}

/// Whether the API has been told that nothing is heard of the node.
pub(crate) fn is_doubted(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|c| c.type_ == "Ready" && c.status == "Unknown")
}

/// What others say that the node has (extended resources in its capacity), pods may use; and no longer, when that is
/// taken back. A patch of the status, if something has to change.
pub(crate) fn lent(node: &Node) -> Option<Value> {
    let status = node.status.as_ref()?;
    let foreign = |amounts: &Option<BTreeMap<String, Quantity>>| {
        let amounts = amounts.iter().flatten().filter(|(name, _)| name.contains('/'));
        amounts.map(|(name, amount)| (name.clone(), amount.clone())).collect::<BTreeMap<_, _>>()
    };
    let (has, gives) = (foreign(&status.capacity), foreign(&status.allocatable));
    if has == gives {
        return None;
    }
    let back = gives.keys().filter(|name| !has.contains_key(*name)).map(|name| (name.clone(), Value::Null));
    let changes: serde_json::Map<String, Value> =
        has.iter().map(|(name, amount)| (name.clone(), json!(amount))).chain(back).collect();
    Some(json!({"status": {"allocatable": changes}}))
}

/// A patch of the whole status; addresses replace those before, they are not merged.
fn status_patch(status: &NodeStatus) -> Value {
    let mut tree = serde_json::to_value(status).unwrap_or_default();
    if let Some(Value::Array(addresses)) = tree.get_mut("addresses") {
        addresses.insert(0, json!({"$patch": "replace"}));
    }
    json!({"status": tree})
}

fn conditions(pulse: &Pulse, before: Option<&NodeStatus>, now: Timestamp) -> Vec<NodeCondition> {
    let pressure = |on: bool, kind, bad: (&'static str, &'static str), good: (&'static str, &'static str)| {
        let (reason, message) = if on { bad } else { good };
        (kind, on, reason, message.to_owned())
    };
    let ready = match &pulse.not_ready {
        None => ("Ready", true, "KubeletReady", "kubelet is posting ready status".to_owned()),
        Some(why) => ("Ready", false, "KubeletNotReady", why.clone()),
    };
    let all = [
        pressure(
            pulse.memory_pressure,
            "MemoryPressure",
            ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
            ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
        ),
        pressure(
            pulse.disk_pressure,
            "DiskPressure",
            ("KubeletHasDiskPressure", "kubelet has disk pressure"),
            ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
        ),
        pressure(
            pulse.pid_pressure,
            "PIDPressure",
            ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
            ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
        ),
        ready,
    ];
    let old = before.and_then(|b| b.conditions.as_deref()).unwrap_or_default();
    let now = Time(whole_second(now));
    let condition = |(kind, on, reason, message): (&str, bool, &str, String)| {
        let status = if on { "True" } else { "False" };
        let same = old.iter().find(|c| c.type_ == kind && c.status == status);
        NodeCondition {
            last_heartbeat_time: Some(now.clone()),
            last_transition_time: same.and_then(|c| c.last_transition_time.clone()).or(Some(now.clone())),
            message: Some(message),
            reason: Some(reason.to_owned()),
            status: status.to_owned(),
            type_: kind.to_owned(),
        }
    };
    all.into_iter().map(condition).collect()
}

/// The processor's architecture by Go's name, which is the API's.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_lend_may_be_used_until_it_is_taken_back() {
        let node = |capacity: Value, allocatable: Value| {
            let node = json!({"status": {"capacity": capacity, "allocatable": allocatable}});
            lent(&serde_json::from_value(node).unwrap())
        };
        assert_eq!(node(json!({"cpu": "4"}), json!({"cpu": "3"})), None);
        let told = node(json!({"cpu": "4", "example.com/x": "3"}), json!({"cpu": "3"}));
        assert_eq!(told, Some(json!({"status": {"allocatable": {"example.com/x": "3"}}})));
        assert_eq!(node(json!({"example.com/x": "3"}), json!({"example.com/x": "3"})), None);
        let back = node(json!({"cpu": "4"}), json!({"cpu": "3", "example.com/x": "3"}));
        assert_eq!(back, Some(json!({"status": {"allocatable": {"example.com/x": null}}})));
    }

    #[test]
    fn a_condition_keeps_its_transition_time_until_it_changes() {
        let at = |s| Timestamp::from_second(s).unwrap();
        let first = conditions(&Pulse::default(), None, at(10));
        let status = NodeStatus { conditions: Some(first), ..NodeStatus::default() };
        let down = Pulse { not_ready: Some("down".into()), ..Pulse::default() };
        let second = conditions(&down, Some(&status), at(20));
        let show = |kind: &str| {
            let c = second.iter().find(|c| c.type_ == kind).unwrap();
            let time = |t: &Option<Time>| t.as_ref().unwrap().0.as_second();
            (c.status.clone(), time(&c.last_transition_time), time(&c.last_heartbeat_time))
        };
        assert_eq!(show("Ready"), ("False".into(), 20, 20));
        assert_eq!(show("DiskPressure"), ("False".into(), 10, 20));
    }
}
