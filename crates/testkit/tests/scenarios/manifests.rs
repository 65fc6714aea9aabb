//! Users' manifests, as they are.

use std::path::Path;

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, example, image::Image};

use crate::field;

/// Images under the names that the manifests use.
pub(crate) fn images() -> [(Image, [&'static str; 2]); 2] {
    [
        (Image::web(&["nginx:1.7.9", "nginx:1.8"]), ["nginx:1.7.9", "nginx:1.8"]),
        (
            Image::busybox(&["busybox:latest", "resouer/ubuntu-bc:latest"], &["sh"]),
            ["busybox:latest", "resouer/ubuntu-bc:latest"],
        ),
    ]
}

/// Applies all manifests, with `from` before the names of their images, and waits for what they promise.
pub(crate) fn reach_their_goal(cluster: &Cluster, from: &str) -> Result<()> {
    let apply = |namespace: &str, yaml: &str| {
        let yaml = yaml.replace("image: ", &format!("image: {from}"));
        let applied = cluster.feed(yaml.as_bytes(), ["-n", namespace, "apply", "-f", "-"])?;
        ensure!(applied.status.success(), "{yaml}: {applied:?}");
        Ok(())
    };
    // The Deployment would adopt the ReplicaSet, whose labels it selects.
    apply("sets", &example("replicaset-nginx.yaml")?)?;
    for manifest in [
        "deployment-nginx.yaml",
        "job-pi.yaml",
        "pod-myapp.yaml",
        "pod-hostaliases.yaml",
        "service-externalname.yaml",
    ] {
        apply("default", &example(manifest)?)?;
    }
    let template = example("job-template.yaml")?;
    for item in ["apple", "banana", "cherry"] {
        apply("default", &template.replace("$ITEM", item))?;
    }
    cluster.kubectl(["rollout", "status", "deployment/nginx-deployment", "--timeout=120s"])?;
    let all_ready = "--for=jsonpath={.status.readyReplicas}=3";
    cluster.kubectl(["-n", "sets", "wait", all_ready, "replicaset/nginx-set", "--timeout=120s"])?;
    cluster.kubectl(["wait", "--for=condition=Complete", "jobs", "--all", "--timeout=120s"])?;
    cluster.ready(&["pod/myapp-pod"])?;
    let log = cluster.kubectl(["logs", "-l", "jobgroup=jobexample"])?;
    for item in ["apple", "banana", "cherry"] {
        ensure!(log.contains(&format!("Processing item {item}")), "{log}");
    }
    let pi = cluster.kubectl(["logs", "job/pi"])?;
    ensure!(pi.contains("3.14159265358979"), "{pi}");
    ensure!(cluster.kubectl(["logs", "hostaliases-pod"])?.contains("10.1.2.3\tfoo.remote\tbar.remote"));
    ensure!(cluster.kubectl(["logs", "myapp-pod"])?.contains("Hello Kubernetes!"));
    // The second manifest of the same name rolls the Deployment over.
    apply("default", &example("deployment-volume.yaml")?)?;
    cluster.kubectl(["rollout", "status", "deployment/nginx-deployment", "--timeout=120s"])?;
    let image = field(".spec.template.spec.containers[0].image");
    let image = cluster.kubectl(["get", "deployment", "nginx-deployment", &image])?;
    ensure!(image == format!("{from}nginx:1.8"), "{image}");
    Ok(())
}

/// Makes the namespace for what must stand alone.
pub(crate) fn make_room(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(["create", "namespace", "sets"])?;
    cluster.kubectl(["-n", "sets", "wait", "--for=create", "serviceaccount/default", "--timeout=60s"])?;
    Ok(())
}

/// Directories of the host that a manifest's volumes name, and that would be made: to be removed again.
struct Made(Vec<&'static Path>);

impl Made {
    fn of(paths: &[&'static str]) -> Self {
        Self(paths.iter().copied().map(Path::new).filter(|path| !path.exists()).collect())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        for path in &self.0 {
            // Only an empty one is nobody's; whatever else happens, it is a directory too many and no more.
            let _ = std::fs::remove_dir(path);
        }
    }
}

#[test]
fn users_manifests_reach_their_goal() -> Result<()> {
    let _made = Made::of(&["/var/lib/docker/containers", "/var/lib/docker"]);
    let cluster = Cluster::start(62)?;
    for (image, _) in images() {
        cluster.import(&image)?;
    }
    cluster.import(&Image::busybox(&["k8s.gcr.io/fluentd-elasticsearch:1.20"], &["sleep", "3600"]))?;
    cluster.import(&Image::web(&["nginx:1.9.1"]))?;
    make_room(&cluster)?;
    // It runs at the next full minute.
    cluster.apply(&example("cronjob-v1beta1.yaml")?)?;
    cluster.apply(&example("daemonset-fluentd.yaml")?)?;
    reach_their_goal(&cluster, "")?;
    // Its claims name no class and nobody has made volumes for them.
    cluster.apply(&example("statefulset-web.yaml")?)?;
    cluster.kubectl(["rollout", "status", "statefulset/web", "--timeout=60s"])?;
    let bound =
        cluster.kubectl(["get", "pvc", "www-web-0", "www-web-1", &field(".items[*].status.phase")])?;
    ensure!(bound == "Bound Bound", "{bound}");
    let daemons =
        ["-n", "kube-system", "rollout", "status", "daemonset/fluentd-elasticsearch", "--timeout=60s"];
    cluster.kubectl(daemons)?;
    let job = || cluster.kubectl(["get", "jobs", &field(".items[?(@.status.succeeded==1)].metadata.name")]);
    let hello = || -> Result<Option<String>> {
        Ok(job()?.split(' ').find(|name| name.starts_with("hello-")).map(str::to_owned))
    };
    cluster.eventually("the CronJob's first Job is done", || Ok(hello()?.is_some()))?;
    let log = cluster.kubectl(["logs", &format!("job/{}", hello()?.unwrap_or_default())])?;
    ensure!(log.contains("Hello from the Kubernetes cluster"), "{log}");
    Ok(())
}
