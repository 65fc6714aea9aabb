//! From a pod's spec to the runtime's configuration of its sandbox and containers.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, VolumeMount};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use tiphys_client::placement;
use tiphys_cri::v1;

use crate::cgroups;
use crate::config::Config;
use crate::config_hash;
use crate::env::{self, Environment};
use crate::expand::expand_strict;
use crate::key::PodKey;
use crate::labels;
use crate::names::{self, Resolver};
use crate::pod::{self, ContainerSpec};
use crate::qos;
use crate::security;
use crate::volumes::{self, PodDir, Source, VolumeError};

/// Where the logs of a pod lie.
pub fn log_dir(root: &Path, key: &PodKey) -> PathBuf {
    root.join(format!("{}_{}_{}", key.namespace, key.name, key.uid))
}

/// A host name is longer than the kernel takes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long ({MAX_HOST_NAME} characters is the max, {} characters requested)",
    name.len()
)]
pub struct LongName {
    name: String,
}

/// The most bytes that the kernel's host name has.
const MAX_HOST_NAME: usize = 64;

/// Configures a sandbox.
///
/// # Errors
/// Where the pod asks for a host name that the kernel does not take.
pub fn sandbox(
    config: &Config,
    key: &PodKey,
    pod: &Pod,
    attempt: u32,
    cgroup_parent: String,
    host: &Resolver,
) -> Result<v1::PodSandboxConfig, LongName> {
    let spec = pod::spec(pod);
    let mut own_labels: HashMap<String, String> =
        pod.metadata.labels.clone().unwrap_or_default().into_iter().collect();
    own_labels.extend(identity(key));
    let annotations = pod.metadata.annotations.clone().unwrap_or_default().into_iter().collect();
    let sysctls = spec.security_context.as_ref().and_then(|c| c.sysctls.as_ref());
    Ok(v1::PodSandboxConfig {
        metadata: Some(v1::PodSandboxMetadata {
            name: key.name.clone(),
            uid: key.uid.to_string(),
            namespace: key.namespace.clone(),
            attempt,
        }),
        hostname: hostname(config, pod)?,
        log_directory: log_dir(&config.log_dir, key).to_string_lossy().into_owned(),
        dns_config: Some(names::resolver(pod, &config.dns, host).into()),
        port_mappings: if pod::host_network(pod) {
            vec![]
        } else {
            placement::ports(pod::spec(pod)).filter_map(mapping).collect()
        },
        labels: own_labels,
        annotations,
        linux: Some(v1::LinuxPodSandboxConfig {
            cgroup_parent,
            security_context: Some(security::of_sandbox(pod)),
            sysctls: sysctls.into_iter().flatten().map(|s| (s.name.clone(), s.value.clone())).collect(),
            overhead: Some(v1::LinuxContainerResources::default()),
            resources: Some(pod_resources(pod)),
        }),
    })
}

/// What the pod calls its host: its own name, its full name where it asks for that, the host's in its network.
pub fn hostname(config: &Config, pod: &Pod) -> Result<String, LongName> {
    if pod::host_network(pod) && pod::spec(pod).hostname_override.is_none() {
        return Ok(config.hostname.clone());
    }
    let (host, domain) = pod::hostname_and_domain(pod, &config.dns.domain);
    if !pod::spec(pod).set_hostname_as_fqdn.unwrap_or(false) || domain.is_empty() {
        return Ok(host);
    }
    let full = format!("{host}.{domain}");
    if full.len() > MAX_HOST_NAME { Err(LongName { name: full }) } else { Ok(full) }
}

fn identity(key: &PodKey) -> [(String, String); 3] {
    [
        (labels::POD_NAME.to_owned(), key.name.clone()),
        (labels::POD_NAMESPACE.to_owned(), key.namespace.clone()),
        (labels::POD_UID.to_owned(), key.uid.to_string()),
    ]
}

fn mapping(port: &ContainerPort) -> Option<v1::PortMapping> {
    let host_port = port.host_port.filter(|p| *p > 0)?;
    let protocol = match port.protocol.as_deref() {
        Some("UDP") => v1::Protocol::Udp,
        Some("SCTP") => v1::Protocol::Sctp,
        _ => v1::Protocol::Tcp,
    };
    Some(v1::PortMapping {
        protocol: protocol as i32,
        container_port: port.container_port,
        host_port,
        host_ip: port.host_ip.clone().unwrap_or_default(),
    })
}

fn pod_resources(pod: &Pod) -> v1::LinuxContainerResources {
    let sums = qos::pod_resources(pod);
    v1::LinuxContainerResources {
        cpu_period: cgroups::period(),
        cpu_quota: sums.cpu_limit.map_or(0, cgroups::quota),
        cpu_shares: cgroups::shares(sums.cpu_request),
        memory_limit_in_bytes: sums.memory_limit.unwrap_or(0),
        ..v1::LinuxContainerResources::default()
    }
}

/// A container's limits. A request that is missing is the limit's; without either the container gets the least.
pub fn resources(pod: &Pod, c: &ContainerSpec<'_>, node_memory: i64) -> v1::LinuxContainerResources {
    let of = |list: Option<&BTreeMap<String, Quantity>>, name: &str| list.and_then(|l| l.get(name)).cloned();
    let r = c.spec.resources.as_ref();
    let limit = |name: &str| of(r.and_then(|r| r.limits.as_ref()), name);
    let request = |name: &str| of(r.and_then(|r| r.requests.as_ref()), name).or_else(|| limit(name));
    let cpu_limit = limit("cpu").and_then(|q| placement::milli(&q)).filter(|m| *m > 0);
    let memory_limit = limit("memory").and_then(|q| placement::units(&q)).unwrap_or(0);
    v1::LinuxContainerResources {
        cpu_period: cgroups::period(),
        cpu_quota: cpu_limit.map_or(0, cgroups::quota),
        cpu_shares: cgroups::shares(request("cpu").and_then(|q| placement::milli(&q)).unwrap_or(0)),
        memory_limit_in_bytes: memory_limit,
        memory_swap_limit_in_bytes: memory_limit,
        oom_score_adj: qos::oom_score_adj(pod, &c.spec, c.role, node_memory),
        ..v1::LinuxContainerResources::default()
    }
}

/// What a container is made from beside its spec.
#[derive(Debug)]
pub struct Parts {
    /// Its number.
    pub attempt: u32,
    /// How the runtime wants its image named.
    pub image: String,
    /// Its environment.
    pub environment: Environment,
    /// Its mounts.
    pub mounts: Vec<v1::Mount>,
    /// The container whose processes it sees, for debugging.
    pub target: Option<String>,
    /// Bytes of memory of the node.
    pub node_memory: i64,
    /// Where the node's own seccomp profiles lie.
    pub seccomp_dir: PathBuf,
}

/// Configures a container.
pub fn container(key: &PodKey, pod: &Pod, c: &ContainerSpec<'_>, parts: Parts) -> v1::ContainerConfig {
    let spec: &Container = &c.spec;
    let (command, args) = env::command(spec, &parts.environment);
    let mut own_labels: HashMap<String, String> = identity(key).into_iter().collect();
    own_labels.insert(labels::CONTAINER_NAME.to_owned(), spec.name.clone());
    let annotations = HashMap::from([
        (labels::CONTAINER_HASH.to_owned(), config_hash::of(spec)),
        (labels::RESTART_COUNT.to_owned(), parts.attempt.to_string()),
        (labels::TERMINATION_PATH.to_owned(), termination_path(spec).to_owned()),
        (
            labels::TERMINATION_POLICY.to_owned(),
            spec.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
        ),
        (labels::POD_GRACE.to_owned(), pod::grace_seconds(pod).to_string()),
    ]);
    let envs = parts.environment.into_vec();
    v1::ContainerConfig {
        metadata: Some(v1::ContainerMetadata { name: spec.name.clone(), attempt: parts.attempt }),
        image: Some(v1::ImageSpec {
            image: parts.image,
            user_specified_image: spec.image.clone().unwrap_or_default(),
            ..v1::ImageSpec::default()
        }),
        command,
        args,
        working_dir: spec.working_dir.clone().unwrap_or_default(),
        envs: envs.into_iter().map(|(key, value)| v1::KeyValue { key, value: value.into_bytes() }).collect(),
        mounts: parts.mounts,
        labels: own_labels,
        annotations,
        log_path: format!("{}/{}.log", spec.name, parts.attempt),
        stdin: spec.stdin.unwrap_or(false),
        stdin_once: spec.stdin_once.unwrap_or(false),
        tty: spec.tty.unwrap_or(false),
        stop_signal: stop_signal(spec) as i32,
        linux: Some(v1::LinuxContainerConfig {
            resources: Some(resources(pod, c, parts.node_memory)),
            security_context: Some(security::of_container(pod, spec, parts.target, &parts.seccomp_dir)),
        }),
        ..v1::ContainerConfig::default()
    }
}

/// The signal that ends the container; its image's where the spec names none (KEP-4960).
fn stop_signal(spec: &Container) -> v1::Signal {
    let name = spec.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_deref());
    let number = name.and_then(|name| {
        v1::Signal::from_str_name(&format!("SIGNAL_{}", name.replace('+', "PLUS").replace('-', "MINUS")))
    });
    number.unwrap_or(v1::Signal::RuntimeDefault)
}

fn termination_path(spec: &Container) -> &str {
    spec.termination_message_path.as_deref().filter(|p| !p.is_empty()).unwrap_or("/dev/termination-log")
}

/// The text of a pod's hosts file beside what is needed to mount it.
#[derive(Clone, Copy, Debug)]
pub struct MountInputs<'a> {
    /// The pod's directory.
    pub dir: &'a PodDir,
    /// Addresses of its sandbox.
    pub ips: &'a [String],
    /// The cluster's domain.
    pub domain: &'a str,
    /// The container's number.
    pub attempt: u32,
    /// Whether the runtime can make mounts read-only with all below them.
    pub recursive_read_only: bool,
    /// The images that the container mounts, by the name of their volume.
    pub images: &'a BTreeMap<String, v1::ImageSpec>,
}

/// Makes what a container mounts beyond the volumes themselves, and lists its mounts. Does file operations.
pub fn mounts(
    pod: &Pod,
    spec: &Container,
    environment: &Environment,
    with: &MountInputs<'_>,
) -> Result<Vec<v1::Mount>, VolumeError> {
    let mut mounts = Vec::new();
    let declared = spec.volume_mounts.as_deref().unwrap_or_default();
    for (index, mount) in declared.iter().enumerate() {
        mounts.push(volume_mount(pod, spec, environment, with, index, mount)?);
    }
    let taken = |path: &str| declared.iter().any(|m| m.mount_path.trim_end_matches('/') == path);
    if !taken("/etc/hosts") && (pod::host_network(pod) || !with.ips.is_empty()) {
        let path = with.dir.hosts_file();
        let of_host = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
        let text = names::hosts_file(pod, with.ips, with.domain, &of_host);
        std::fs::write(&path, text).map_err(VolumeError::io("write", &path))?;
        mounts.push(plain_mount("/etc/hosts", &path));
    }
    let words = with.dir.last_words(&spec.name, with.attempt);
    if let Some(parent) = words.parent() {
        std::fs::create_dir_all(parent).map_err(VolumeError::io("create", parent))?;
    }
    std::fs::write(&words, "").map_err(VolumeError::io("create", &words))?;
    let everybody = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(&words, everybody).map_err(VolumeError::io("chmod", &words))?;
    mounts.push(plain_mount(termination_path(spec), &words));
    Ok(mounts)
}

fn plain_mount(inside: &str, outside: &Path) -> v1::Mount {
    v1::Mount {
        container_path: inside.to_owned(),
        host_path: outside.to_string_lossy().into_owned(),
        ..v1::Mount::default()
    }
}

fn volume_mount(
    pod: &Pod,
    spec: &Container,
    environment: &Environment,
    with: &MountInputs<'_>,
    index: usize,
    mount: &VolumeMount,
) -> Result<v1::Mount, VolumeError> {
    let dir = with.dir;
    let volume = pod::spec(pod).volumes.iter().flatten().find(|v| v.name == mount.name);
    let unsupported = || VolumeError::Unsupported(mount.name.clone());
    let volume = volume.ok_or_else(unsupported)?;
    let source = volumes::source(pod, volume).ok_or_else(unsupported)?;
    let mut path = volumes::host_path(dir, volume, &source);
    let shown = matches!(source, Source::Projection(_));
    let claimed_to_read = matches!(source, Source::Claim { read_only: true });
    let sub = match (mount.sub_path.as_deref(), mount.sub_path_expr.as_deref()) {
        (_, Some(expression)) if !expression.is_empty() => {
            let lookup = |name: &str| environment.get(name).map(str::to_owned);
            let text = expand_strict(expression, lookup).map_err(|name| VolumeError::SubPath {
                mount: mount.name.clone(),
                source: std::io::Error::new(
                    std::io::ErrorKind::NotFound,
                    format!("missing value for {name:?}"),
                ),
            })?;
            Some(text)
        }
        (Some(sub), _) if !sub.is_empty() => Some(sub.to_owned()),
        _ => None,
    };
    if let Source::Image(_) = source {
        return Ok(v1::Mount {
            container_path: absolute(&mount.mount_path),
            readonly: true,
            image: Some(with.images.get(&mount.name).cloned().ok_or_else(unsupported)?),
            image_sub_path: sub.unwrap_or_default(),
            ..v1::Mount::default()
        });
    }
    if let Some(sub) = sub {
        let target = dir.subpath(&volume.name, &spec.name, index);
        path = volumes::subpath::bind(&path, &sub, &target, !shown && !claimed_to_read)
            .map_err(|source| VolumeError::SubPath { mount: mount.name.clone(), source })?;
    }
    let propagation = match mount.mount_propagation.as_deref() {
        Some("Bidirectional") => v1::MountPropagation::PropagationBidirectional,
        Some("HostToContainer") => v1::MountPropagation::PropagationHostToContainer,
        _ => v1::MountPropagation::PropagationPrivate,
    };
    let read_only = shown || claimed_to_read || mount.read_only.unwrap_or(false);
    Ok(v1::Mount {
        container_path: absolute(&mount.mount_path),
        host_path: path.to_string_lossy().into_owned(),
        readonly: read_only,
        propagation: propagation as i32,
        recursive_read_only: recursive_read_only(mount, with.recursive_read_only)
            .ok_or_else(|| VolumeError::RecursiveReadOnly(mount.name.clone()))?,
        ..v1::Mount::default()
    })
}

/// Whether what is mounted below a mount becomes read-only with it (KEP-3857); `None` where that is asked for and the
/// runtime can't.
pub fn recursive_read_only(mount: &VolumeMount, supported: bool) -> Option<bool> {
    match mount.recursive_read_only.as_deref().filter(|_| mount.read_only.unwrap_or(false)) {
        Some("Enabled") => supported.then_some(true),
        Some("IfPossible") => Some(supported),
        _ => Some(false),
    }
}

fn absolute(path: &str) -> String {
    if path.starts_with('/') { path.to_owned() } else { format!("/{path}") }
}

#[cfg(test)]
#[path = "make_tests.rs"]
mod tests;
