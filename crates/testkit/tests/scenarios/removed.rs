//! Manifests of any age.

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, Programs, example, examples, image::Image};

use crate::field;

/// Every manifest, in an order that makes sense: what others name comes before them.
const MANIFESTS: [&str; 14] = [
    "crd-network-v1beta1.yaml",
    "network-example.yaml",
    "cronjob-v1beta1.yaml",
    "daemonset-fluentd.yaml",
    "deployment-nginx.yaml",
    "deployment-volume.yaml",
    "job-pi.yaml",
    "job-workqueue-fixed.yaml",
    "job-workqueue-open.yaml",
    "pod-hostaliases.yaml",
    "pod-myapp.yaml",
    "replicaset-nginx.yaml",
    "service-externalname.yaml",
    "statefulset-web.yaml",
];

#[test]
fn every_manifest_applies_in_any_order() -> Result<()> {
    let cluster = Cluster::start(84)?;
    let apply = |manifest: &str| -> Result<String> {
        let yaml = example(manifest)?;
        let applied = cluster.feed(yaml.as_bytes(), ["apply", "-f", "-"])?;
        ensure!(applied.status.success(), "{manifest}: {applied:?}");
        Ok(String::from_utf8_lossy(&applied.stderr).into_owned())
    };
    let established = || {
        let wait = ["wait", "--for=condition=Established", "crd/networks.samplecrd.k8s.io", "--timeout=30s"];
        cluster.kubectl(wait)
    };
    for manifest in MANIFESTS {
        let warned = apply(manifest)?;
        let old = manifest.ends_with("-v1beta1.yaml");
        ensure!(warned.contains("unavailable in v1.2") == old, "{manifest}: {warned}");
        if manifest.starts_with("crd") {
            established()?;
        }
    }
    let cidr = cluster.kubectl(["get", "networks", "example-network", &field(".spec.cidr")])?;
    ensure!(cidr == "192.168.0.0/16", "{cidr}");
    let schedule = cluster.kubectl(["get", "cronjobs.v1.batch", "hello", &field(".spec.schedule")])?;
    ensure!(schedule == "*/1 * * * *", "{schedule}");
    cluster.kubectl(["delete", "crd/networks.samplecrd.k8s.io", "--timeout=60s"])?;
    // The other way round, but for the kind that must be there before its objects.
    apply("crd-network-v1beta1.yaml")?;
    established()?;
    for manifest in MANIFESTS.into_iter().rev() {
        apply(manifest)?;
    }
    // Clients that map kinds by discovery still find the current versions first.
    let found = cluster.kubectl([
        "get",
        "deployments,ingresses,cronjobs",
        "-o",
        "jsonpath={.items[*].apiVersion}",
    ])?;
    ensure!(found == "apps/v1 batch/v1", "{found}");
    Ok(())
}

#[test]
fn an_initializer_gives_every_pod_a_sidecar() -> Result<()> {
    let cluster = Cluster::start_for_pods(82)?;
    let program = Programs::find()?.tiphys;
    let entry = ["/tiphys", "demo", "initialize"];
    cluster.import(&Image::program(&["envoy-initializer:0.0.1"], &program, &entry))?;
    cluster.import(&Image::busybox(&["busybox:latest"], &["sleep", "3600"]))?;
    let permissions = examples().join("initializer-permissions.yaml");
    cluster.kubectl(["apply", "-f", permissions.to_str().context("a path in UTF-8")?])?;
    // As it is: its own pod is new, too, and does not wait for itself.
    cluster.apply(&example("initializer-envoy.yaml")?)?;
    cluster.ready(&["pod/envoy-initializer"])?;
    // kubectl waits until the pod is initialized, as every client does.
    cluster.kubectl(["run", "web", "--image=busybox:latest", "--image-pull-policy=IfNotPresent"])?;
    let containers = cluster.kubectl(["get", "pod", "web", &field(".spec.containers[*].name")])?;
    ensure!(containers == "web envoy", "{containers}");
    let volumes = cluster.kubectl(["get", "pod", "web", &field(".spec.volumes[*].name")])?;
    ensure!(volumes.split(' ').any(|name| name == "envoy-conf"), "{volumes}");
    let left = cluster.kubectl(["get", "pod", "web", &field(".metadata.initializers")])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}
