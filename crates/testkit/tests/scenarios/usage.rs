//! What pods use, and how many there are because of it, in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

const BUSY: [&str; 3] = ["sh", "-c", "trap exit TERM; while true; do :; done"];

#[test]
fn pods_are_as_many_as_their_use_asks_for() -> Result<()> {
    let cluster = Cluster::start(93)?;
    cluster.import(&Image::busybox(&["busy:1"], &BUSY))?;
    cluster.apply(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {name: busy}
spec:
  selector: {matchLabels: {app: busy}}
  template:
    metadata: {labels: {app: busy}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: c
        image: 'busy:1'
        resources: {requests: {cpu: 10m, memory: 8Mi}, limits: {cpu: 50m, memory: 64Mi}}
",
    )?;
    cluster.kubectl(["rollout", "status", "deployment/busy", "--timeout=60s"])?;
    let nodes = cluster.kubectl(["top", "node", "--no-headers"])?;
    let node: Vec<&str> = nodes.split_whitespace().collect();
    ensure!(node.len() == 5 && node[0] == "scenario" && node[1].ends_with('m'), "{nodes}");
    let pods = cluster.kubectl(["top", "pod", "--containers", "--no-headers", "-l", "app=busy"])?;
    let pod: Vec<&str> = pods.split_whitespace().collect();
    ensure!(pod.len() == 4 && pod[1] == "c" && pod[2] != "0m" && pod[3].ends_with("Mi"), "{pods}");
    let service = cluster.kubectl(["get", "apiservice", "v1beta1.metrics.k8s.io", "--no-headers"])?;
    ensure!(service.contains("Local") && service.contains("True"), "{service}");

    cluster.kubectl(["autoscale", "deployment", "busy", "--min=1", "--max=3", "--cpu=50%"])?;
    let get = |path: &str| cluster.kubectl(["get", "hpa", "busy", &field(path)]);
    cluster.eventually("the autoscaler has told the Deployment", || {
        Ok(get(".status.desiredReplicas")? == "3")
    })?;
    cluster.kubectl(["rollout", "status", "deployment/busy", "--timeout=60s"])?;
    ensure!(cluster.kubectl(["get", "deployment", "busy", &field(".status.replicas")])? == "3");
    ensure!(get(".status.conditions[?(@.type=='ScalingActive')].reason")? == "ValidMetricFound");
    ensure!(get(".status.conditions[?(@.type=='ScalingLimited')].reason")? == "TooManyReplicas");
    let told = cluster.kubectl(["describe", "hpa", "busy"])?;
    let event = "New size: 3; reason: cpu resource utilization (percentage of request) above target";
    ensure!(told.contains("SuccessfulRescale") && told.contains(event), "{told}");
    Ok(())
}
