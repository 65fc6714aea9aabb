//! What the node and its pods use.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use serde_json::{Value, json};
use tiphys_cri::v1;

use crate::kubelet::Inner;
use crate::labels;
use crate::machine;
use crate::qos;

struct ContainerUse {
    name: String,
    cpu: u64,
    memory: u64,
    working_set: u64,
}

/// Usage of containers as the runtime tells it, by pod UID.
async fn containers(inner: &Inner) -> BTreeMap<String, Vec<ContainerUse>> {
    let list = inner.cri.runtime().list_container_stats(v1::ListContainerStatsRequest { filter: None }).await;
    let mut all: BTreeMap<String, Vec<ContainerUse>> = BTreeMap::new();
    for stats in list.map(|r| r.into_inner().stats).unwrap_or_default() {
        let Some(attributes) = stats.attributes else { continue };
        let Some(uid) = attributes.labels.get(labels::POD_UID).cloned() else { continue };
        let memory = stats.memory.unwrap_or_default();
        let value = |v: Option<v1::UInt64Value>| v.map_or(0, |v| v.value);
        all.entry(uid).or_default().push(ContainerUse {
            name: attributes.labels.get(labels::CONTAINER_NAME).cloned().unwrap_or_default(),
            cpu: value(stats.cpu.and_then(|c| c.usage_core_nano_seconds)),
            memory: value(memory.usage_bytes),
            working_set: value(memory.working_set_bytes),
        });
    }
    all
}

/// Processor time of the whole host in nanoseconds, from `/proc/stat`, whose ticks are hundredths.
fn host_cpu() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields = text.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let numbers: Vec<u64> = fields.filter_map(|f| f.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    let busy: u64 =
        numbers.iter().enumerate().filter(|(i, _)| !matches!(i, 3 | 4) && *i < 8).map(|(_, n)| n).sum();
    busy.saturating_mul(10_000_000)
}

fn host_memory(inner: &Inner) -> (u64, u64) {
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

/// `/metrics/resource`, which the metrics server reads.
pub(super) async fn resource_metrics(inner: &Inner) -> String {
    let mut out = String::new();
    let (used, _) = host_memory(inner);
    let mut metric = |name: &str, kind: &str, lines: &[(String, f64)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(out, "# TYPE {name} {kind}");
        for (labels, value) in lines {
            // As above.
            let _ = writeln!(out, "{name}{labels} {value}");
        }
    };
    let seconds = |nanoseconds: u64| nanoseconds as f64 / 1e9;
    metric("node_cpu_usage_seconds_total", "counter", &[(String::new(), seconds(host_cpu()))]);
    metric("node_memory_working_set_bytes", "gauge", &[(String::new(), used as f64)]);
    let by_uid = containers(inner).await;
    let (mut cpu, mut memory, mut pod_cpu, mut pod_memory) = (vec![], vec![], vec![], vec![]);
    for (key, pod) in inner.registry.pods() {
        let names = format!("namespace=\"{}\",pod=\"{}\"", key.namespace, key.name);
        for c in by_uid.get(key.uid.as_str()).into_iter().flatten() {
            let labels = format!("{{container=\"{}\",{names}}}", c.name);
            cpu.push((labels.clone(), seconds(c.cpu)));
            memory.push((labels, c.working_set as f64));
        }
        if let Some(cgroups) = inner.cgroups.get() {
            let usage = cgroups.usage(&cgroups.pod_path(&key.uid, qos::class(&pod)));
            pod_cpu.push((format!("{{{names}}}"), seconds(usage.cpu_nanoseconds)));
            pod_memory.push((format!("{{{names}}}"), usage.working_set_bytes as f64));
        }
    }
    metric("container_cpu_usage_seconds_total", "counter", &cpu);
    metric("container_memory_working_set_bytes", "gauge", &memory);
    metric("pod_cpu_usage_seconds_total", "counter", &pod_cpu);
    metric("pod_memory_working_set_bytes", "gauge", &pod_memory);
    out
}

/// `/metrics`: about the node's own work.
pub(super) fn own_metrics(inner: &Inner) -> String {
    let pods = inner.registry.pods();
    let running = pods
        .iter()
        .filter(|(_, p)| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"))
        .count();
    format!(
        "# TYPE kubelet_node_name gauge\nkubelet_node_name{{node=\"{}\"}} 1\n\
         # TYPE kubelet_desired_pods gauge\nkubelet_desired_pods {}\n\
         # TYPE kubelet_running_pods gauge\nkubelet_running_pods {running}\n",
        inner.config.node_name,
        pods.len()
    )
}
