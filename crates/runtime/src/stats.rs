//! What containers and sandboxes use, read from their control groups and network namespaces.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use tiphys_cri::v1::{
    ContainerAttributes, ContainerStats, CpuUsage, FilesystemIdentifier, FilesystemUsage,
    LinuxPodSandboxStats, MemoryUsage, NetworkInterfaceUsage, NetworkUsage, PodSandboxAttributes,
    PodSandboxStats, ProcessUsage, UInt64Value,
};

use crate::container::Container;
use crate::error::Result;
use crate::runtime::Runtime;
use crate::sandbox::Sandbox;
use crate::{cgroup, clock, netns};

/// Earlier readings of processor time, from which a rate comes: group, then when and how much.
#[derive(Default)]
pub(crate) struct Usage(HashMap<String, (i64, u64, Option<u64>)>);

/// Readings closer together than this give the rate of the reading before.
const SHORTEST_INTERVAL: i64 = 1_000_000_000;

impl Usage {
    /// Remembers the reading and says the rate in nanoseconds of processor time a second, once there are two.
    fn rate(&mut self, group: &str, now: i64, total: u64) -> Option<u64> {
        let before = self.0.get(group).copied();
        let rate = match before {
            Some((at, _, rate)) if now - at < SHORTEST_INTERVAL => return rate,
            Some((at, used, _)) => {
                let passed = u128::try_from(now - at).unwrap_or(1).max(1);
                let rate = u128::from(total.saturating_sub(used)) * 1_000_000_000 / passed;
                Some(u64::try_from(rate).unwrap_or(u64::MAX))
            }
            None => None,
        };
        self.0.insert(group.to_owned(), (now, total, rate));
        rate
    }

    fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|group, _| wanted(group));
    }
}

fn value(value: u64) -> Option<UInt64Value> {
    Some(UInt64Value { value })
}

impl Runtime {
    /// What one container uses.
    pub(crate) fn stats_of(&self, container: &Arc<Container>) -> Result<ContainerStats> {
        let now = clock::now_nanos();
        let usage = cgroup::usage(&self.inner.host, &container.group());
        Ok(ContainerStats {
            attributes: Some(ContainerAttributes {
                id: container.id.clone(),
                metadata: Some(container.metadata()),
                labels: container.config.labels.clone(),
                annotations: container.config.annotations.clone(),
            }),
            cpu: Some(self.cpu(&container.group(), now, &usage)),
            memory: Some(memory(now, &usage)),
            writable_layer: Some(writable_layer(now, &container.dir.join("upper"))),
            swap: None,
            io: None,
        })
    }

    fn cpu(&self, group: &str, now: i64, usage: &cgroup::Reading) -> CpuUsage {
        let mut rates = self.inner.usage.lock();
        CpuUsage {
            timestamp: now,
            usage_core_nano_seconds: value(usage.cpu_nanos),
            usage_nano_cores: rates.rate(group, now, usage.cpu_nanos).and_then(value),
            psi: None,
        }
    }

    /// What a sandbox and its containers use.
    pub(crate) fn stats_of_sandbox(&self, sandbox: &Arc<Sandbox>) -> Result<PodSandboxStats> {
        let now = clock::now_nanos();
        let containers = self.inner.containers_of(&sandbox.id);
        let running = containers.iter().filter(|container| container.pid().is_some());
        let containers: Vec<ContainerStats> =
            running.map(|container| self.stats_of(container)).collect::<Result<_>>()?;
        let groups: Vec<String> =
            self.inner.containers.lock().values().map(|container| container.group()).collect();
        let group = sandbox.group(&self.inner.config.instance);
        let usage = cgroup::usage(&self.inner.host, &group);
        let cpu = self.cpu(&group, now, &usage);
        let pods: Vec<String> = {
            let sandboxes = self.inner.sandboxes.lock();
            sandboxes.values().map(|sandbox| sandbox.group(&self.inner.config.instance)).collect()
        };
        let mut rates = self.inner.usage.lock();
        rates.keep(|known| groups.iter().chain(&pods).any(|group| group == known));
        drop(rates);
        Ok(PodSandboxStats {
            attributes: Some(PodSandboxAttributes {
                id: sandbox.id.clone(),
                metadata: Some(sandbox.metadata()),
                labels: sandbox.config.labels.clone(),
                annotations: sandbox.config.annotations.clone(),
            }),
            linux: Some(LinuxPodSandboxStats {
                cpu: Some(cpu),
                memory: Some(memory(now, &usage)),
                network: sandbox.network().and_then(|path| network(now, &path)),
                process: Some(ProcessUsage { timestamp: now, process_count: value(usage.processes) }),
                containers,
                io: None,
            }),
        })
    }
}

fn memory(now: i64, usage: &cgroup::Reading) -> MemoryUsage {
    let working = usage.memory_bytes.saturating_sub(usage.inactive_file_bytes);
    MemoryUsage {
        timestamp: now,
        working_set_bytes: value(working),
        available_bytes: usage.memory_limit.map(|value| UInt64Value { value: value.saturating_sub(working) }),
        usage_bytes: value(usage.memory_bytes),
        rss_bytes: value(usage.rss_bytes),
        page_faults: value(usage.page_faults),
        major_page_faults: value(usage.major_page_faults),
        psi: None,
    }
}

fn network(now: i64, namespace: &Path) -> Option<NetworkUsage> {
    // A pod that is being stopped may have lost it already.
    let mut interfaces = netns::interfaces(namespace).ok()?.into_iter().map(|(name, counters)| {
        let [rx_bytes, rx_errors, tx_bytes, tx_errors] = counters.map(value);
        NetworkInterfaceUsage { name, rx_bytes, rx_errors, tx_bytes, tx_errors }
    });
    Some(NetworkUsage {
        timestamp: now,
        default_interface: interfaces.next(),
        interfaces: interfaces.collect(),
    })
}

/// Bytes and inodes below a container's writable directory.
fn writable_layer(now: i64, upper: &Path) -> FilesystemUsage {
    let (mut bytes, mut inodes) = (0, 0);
    measure(upper, &mut bytes, &mut inodes);
    FilesystemUsage {
        timestamp: now,
        fs_id: Some(FilesystemIdentifier { mountpoint: upper.display().to_string() }),
        used_bytes: value(bytes),
        inodes_used: value(inodes),
    }
}

/// The container may change the tree meanwhile; what is gone counts as nothing.
fn measure(dir: &Path, bytes: &mut u64, inodes: &mut u64) {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let Ok(metadata) = entry.path().symlink_metadata() else { continue };
        *inodes += 1;
        *bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            measure(&entry.path(), bytes, inodes);
        }
    }
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
