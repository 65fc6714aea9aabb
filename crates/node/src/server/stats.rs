//! What the node and its pods use.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_cri::v1;

use crate::kubelet::Inner;
use crate::labels;
use crate::machine;
use crate::qos;

pub(super) struct ContainerUse {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) cpu: u64,
    pub(super) memory: u64,
    pub(super) working_set: u64,
}

/// Usage of containers as the runtime tells it, by pod UID.
pub(super) async fn containers(inner: &Inner) -> BTreeMap<String, Vec<ContainerUse>> {
    let list = inner.cri.runtime().list_container_stats(v1::ListContainerStatsRequest { filter: None }).await;
    let mut all: BTreeMap<String, Vec<ContainerUse>> = BTreeMap::new();
    for stats in list.map(|r| r.into_inner().stats).unwrap_or_default() {
        let Some(attributes) = stats.attributes else { continue };
        let Some(uid) = attributes.labels.get(labels::POD_UID).cloned() else { continue };
        let memory = stats.memory.unwrap_or_default();
        let value = |v: Option<v1::UInt64Value>| v.map_or(0, |v| v.value);
        all.entry(uid).or_default().push(ContainerUse {
            id: attributes.id,
            name: attributes.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
            cpu: value(stats.cpu.and_then(|c| c.usage_core_nano_seconds)),
            memory: value(memory.usage_bytes),
            working_set: value(memory.working_set_bytes),
        });
    }
    all
}

/// Processor time of the whole host in nanoseconds, from `/proc/stat`, whose ticks are hundredths.
pub(super) fn host_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let numbers: Vec<u64> = fields.filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: u64 =
        numbers.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4) && *i < 8).map(|(_, n)| n).sum();
    busy.saturating_mul(10_000_000)
}

pub(super) fn host_memory(inner: &Inner) -> (u64, u64) {
    let available = machine::meminfo("MemAvailable").unwrap_or(0).unsigned_abs();
    (inner.machine.memory.unsigned_abs().saturating_sub(available), available)
}

/// `/stats/summary` in upstream's form.
pub(super) async fn summary(inner: &Inner) -> Value {
    let now = Timestamp::now().to_string();
    let (used, available) = host_memory(inner);
    let disk = machine::disk(&inner.config.data_dir);
    let by_uid = containers(inner).await;
    let pods: Vec<Value> = inner
        .registry
        .pods()
        .into_iter()
        .map(|(key, pod)| {
            let path = inner.cgroups.get().map(|c| c.usage(&c.pod_path(&key.uid, qos::class(&pod)))).unwrap_or_default();
            let own = by_uid.get(key.uid.as_str()).map(Vec::as_slice).unwrap_or_default();
            let list: Vec<Value> = own
                .iter()
                .map(|c| {
                    json!({"name": c.name,
                        "cpu": {"time": now, "usageCoreNanoSeconds": c.cpu},
                        "memory": {"time": now, "usageBytes": c.memory, "workingSetBytes": c.working_set}})
                })
                .collect();
            json!({"podRef": {"name": key.name, "namespace": key.namespace, "uid": key.uid.as_str()},
                "startTime": pod.status.as_ref().and_then(|s| s.start_time.clone()),
                "containers": list,
                "cpu": {"time": now, "usageCoreNanoSeconds": path.cpu_nanoseconds},
                "memory": {"time": now, "usageBytes": path.memory_bytes, "workingSetBytes": path.working_set_bytes}})
        })
        .collect();
    json!({
        "node": {
            "nodeName": inner.config.node_name,
            "cpu": {"time": now, "usageCoreNanoSeconds": host_cpu()},
            "memory": {"time": now, "availableBytes": available, "usageBytes": used, "workingSetBytes": used},
            "fs": {"time": now, "availableBytes": disk.available, "capacityBytes": disk.total,
                "usedBytes": disk.total.saturating_sub(disk.available),
                "inodes": disk.inodes, "inodesFree": disk.inodes_free},
        },
        "pods": pods,
    })
}
