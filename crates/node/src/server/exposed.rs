//! What the node counts, for Prometheus: `/metrics`, `/metrics/resource` and `/metrics/cadvisor`, with the names that
//! upstream's kubelet and its cAdvisor use.

use http::header::{self, HeaderMap};
use k8s_openapi::api::core::v1::Pod;
use tiphys_metrics::{Exposition, Format, Kind, process};

use super::stats::{self, ContainerUse};
use crate::cgroups::Usage;
use crate::counts;
use crate::kubelet::Inner;
use crate::qos;

/// A text of the format that the client prefers, begun.
pub(super) fn begun(headers: &HeaderMap) -> (Format, Exposition) {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let format = Format::accept(accept);
    (format, Exposition::new(format))
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// What a pod and its containers use.
struct PodUse {
    namespace: String,
    name: String,
    pod: std::sync::Arc<Pod>,
    containers: Vec<ContainerUse>,
    /// Of the pod's control group, and what that is; unknown before it is made.
    whole: Option<(String, Usage)>,
}

async fn pods(inner: &Inner) -> Vec<PodUse> {
    let mut by_uid = stats::containers(inner).await;
    let pods = inner.registry.pods().into_iter();
    let used = pods.map(|(key, pod)| {
        let whole = inner.cgroups.get().map(|cgroups| {
            let path = cgroups.pod_path(&key.uid, qos::class(&pod));
            let usage = cgroups.usage(&path);
            (path, usage)
        });
        let containers = by_uid.remove(key.uid.as_str()).unwrap_or_default();
        PodUse { namespace: key.namespace.clone(), name: key.name.clone(), pod, containers, whole }
    });
    used.collect()
}

impl PodUse {
    fn labels(&self) -> [(&'static str, &str); 2] {
        [("namespace", &self.namespace), ("pod", &self.name)]
    }

    /// The labels of a sample: `container`, `id`, `image` and `name` besides those of the pod.
    fn cadvisor_labels<'a>(&'a self, kind: Kind, words: [&'a str; 4]) -> Vec<(&'static str, &'a str)> {
        let mut labels: Vec<_> = ["container", "id", "image", "name"].into_iter().zip(words).collect();
        if kind == Kind::Counter {
            labels.insert(1, ("cpu", "total"));
        }
        labels.extend(self.labels());
        labels
    }

    /// When a container started that runs, in seconds since 1970, as the pod's status has it.
    fn started(&self, container: &str) -> Option<f64> {
        let status = self.pod.status.as_ref()?;
        let mut all = status.container_statuses.iter().chain(&status.init_container_statuses).flatten();
        let state = all.find(|c| c.name == container)?.state.as_ref()?;
        let started = state.running.as_ref()?.started_at.as_ref()?;
        Some(started.0.as_millisecond() as f64 / 1000.0)
    }

    /// The image that a container is to run.
    fn image(&self, container: &str) -> &str {
        let spec = self.pod.spec.as_ref();
        let containers =
            spec.into_iter().flat_map(|s| s.containers.iter().chain(s.init_containers.iter().flatten()));
        let mut found = containers.filter(|c| c.name == container);
        found.next().and_then(|c| c.image.as_deref()).unwrap_or_default()
    }
}

/// `/metrics/resource`, which the metrics server reads.
pub(super) async fn resource(inner: &Inner, text: &mut Exposition) {
    let (used, _) = stats::host_memory(inner);
    let help = "Processor time of the node, in seconds.";
    text.single("node_cpu_usage_seconds_total", Kind::Counter, help, seconds(stats::host_cpu()));
    let help = "Memory of the node that is in use, in bytes.";
    text.single("node_memory_working_set_bytes", Kind::Gauge, help, used as f64);
    let pods = pods(inner).await;
    let containers = |text: &mut Exposition, value: fn(&ContainerUse) -> f64| {
        for pod in &pods {
            for container in &pod.containers {
                let [namespace, name] = pod.labels();
                text.sample(&[("container", &container.name), namespace, name], value(container));
            }
        }
    };
    let help = "Processor time of a container, in seconds.";
    text.family("container_cpu_usage_seconds_total", Kind::Counter, help);
    containers(text, |container| seconds(container.cpu));
    text.family(
        "container_memory_working_set_bytes",
        Kind::Gauge,
        "Memory that a container works with, in bytes.",
    );
    containers(text, |container| container.working_set as f64);
    let help = "When a container started, in seconds since 1970.";
    text.family("container_start_time_seconds", Kind::Gauge, help);
    for pod in &pods {
        for container in &pod.containers {
            if let Some(started) = pod.started(&container.name) {
                let [namespace, name] = pod.labels();
                text.sample(&[("container", &container.name), namespace, name], started);
            }
        }
    }
    let whole = |text: &mut Exposition, value: fn(&Usage) -> f64| {
        for pod in &pods {
            if let Some((_, usage)) = &pod.whole {
                text.sample(&pod.labels(), value(usage));
            }
        }
    };
    text.family("pod_cpu_usage_seconds_total", Kind::Counter, "Processor time of a pod, in seconds.");
    whole(text, |usage| seconds(usage.cpu_nanoseconds));
    text.family("pod_memory_working_set_bytes", Kind::Gauge, "Memory that a pod works with, in bytes.");
    whole(text, |usage| usage.working_set_bytes as f64);
    text.single("resource_scrape_error", Kind::Gauge, "1 if something could not be read.", 0.0);
}

/// `/metrics/cadvisor`: pods as control groups without a container's name, and their containers.
pub(super) async fn cadvisor(inner: &Inner, text: &mut Exposition) {
    let cores = inner.machine.cpu_milli as f64 / 1000.0;
    text.single("machine_cpu_cores", Kind::Gauge, "Processors of the machine.", cores);
    let memory = inner.machine.memory as f64;
    text.single("machine_memory_bytes", Kind::Gauge, "Memory of the machine, in bytes.", memory);
    let pods = pods(inner).await;
    type Values = (fn(&ContainerUse) -> f64, fn(&Usage) -> f64);
    let families: [(&str, Kind, &str, Values); 3] = [
        (
            "container_cpu_usage_seconds_total",
            Kind::Counter,
            "Processor time that was used, in seconds.",
            (|container| seconds(container.cpu), |usage| seconds(usage.cpu_nanoseconds)),
        ),
        (
            "container_memory_usage_bytes",
            Kind::Gauge,
            "Memory in use, in bytes.",
            (|container| container.memory as f64, |usage| usage.memory_bytes as f64),
        ),
        (
            "container_memory_working_set_bytes",
            Kind::Gauge,
            "Memory that is being worked with, in bytes.",
            (|container| container.working_set as f64, |usage| usage.working_set_bytes as f64),
        ),
    ];
    for (family, kind, help, (of_container, of_pod)) in families {
        text.family(family, kind, help);
        for pod in &pods {
            let cgroup = pod.whole.as_ref().map_or("", |(path, _)| path);
            if let Some((_, usage)) = &pod.whole {
                text.sample(&pod.cadvisor_labels(kind, ["", cgroup, "", ""]), of_pod(usage));
            }
            for container in &pod.containers {
                let id = format!("{cgroup}/{}", container.id);
                let labels = [&container.name, &id, pod.image(&container.name), &container.id];
                text.sample(&pod.cadvisor_labels(kind, labels), of_container(container));
            }
        }
    }
}

/// `/metrics`: about the node's own work.
pub(super) async fn own(inner: &Inner, text: &mut Exposition) {
    let pods = inner.registry.pods();
    let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone());
    let running = pods.iter().filter(|(_, pod)| phase(pod).as_deref() == Some("Running")).count();
    text.family("kubelet_node_name", Kind::Gauge, "The node's name, always 1.");
    text.sample(&[("node", &inner.config.node_name)], 1.0);
    text.single("kubelet_desired_pods", Kind::Gauge, "Pods that are to run here.", pods.len() as f64);
    text.single("kubelet_running_pods", Kind::Gauge, "Pods that run.", running as f64);
    let containers: usize = stats::containers(inner).await.values().map(Vec::len).sum();
    text.family("kubelet_running_containers", Kind::Gauge, "Containers by what they do.");
    text.sample(&[("container_state", "running")], containers as f64);
    counts::IMAGE_VOLUMES.expose(text);
    process(text);
}
