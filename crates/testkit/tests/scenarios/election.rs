//! The control loops as processes of their own, of which one leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::BufReader,
    process::{Command, Stdio},
    sync::mpsc,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tiphys_testkit::{Cluster, Running, image::Image, program};

use crate::field;

/// A component beside a cluster, as its own process. It ends with this value.
fn component(cluster: &Cluster, name: &str, arguments: &[String]) -> Result<Running> {
    let file = cluster.data_dir().join(format!("{name}.kubeconfig"));
    let log = std::fs::File::options().append(true).create(true).open(cluster.dir().join(name))?;
    let mut command = Command::new(program("TIPHYS_BINARY")?);
    command.arg(name).arg("--kubeconfig").arg(file).args(arguments);
    command.env("TIPHYS_LOG", "info").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    Ok(Running(command.spawn().with_context(|| format!("starting {name}"))?))
}

fn controller_manager(cluster: &Cluster) -> Result<Running> {
    let key = |name: &str| cluster.data_dir().join("pki").join(name).display().to_string();
    let arguments = [
        format!("--cluster-signing-cert-file={}", key("ca.crt")),
        format!("--cluster-signing-key-file={}", key("ca.key")),
        format!("--root-ca-file={}", key("ca.crt")),
        "--leader-elect-lease-duration=3s".to_owned(),
        "--leader-elect-renew-deadline=2s".to_owned(),
        "--leader-elect-retry-period=500ms".to_owned(),
    ];
    component(cluster, "controller-manager", &arguments)
}

/// Who runs the controllers.
pub(crate) fn holder(cluster: &Cluster) -> Result<String> {
    let holder = field(".spec.holderIdentity");
    cluster.kubectl(["get", "lease", "kube-controller-manager", "-n", "kube-system", &holder])
}

/// All that was written of a kind since it was begun.
struct Journal {
    watch: Running,
    events: mpsc::Receiver<Value>,
}

impl Journal {
    fn begin(cluster: &Cluster, kind: &str) -> Result<Self> {
        let mut watch = cluster.spawn_kubectl(["get", kind, "-w", "--output-watch-events", "-o", "json"])?;
        let out = BufReader::new(watch.0.stdout.take().context("what the watch prints")?);
        let (told, events) = mpsc::channel();
        std::thread::spawn(move || {
            for event in serde_json::Deserializer::from_reader(out).into_iter::<Value>() {
                // It ends in the middle of a word when kubectl is killed.
                if event.is_ok_and(|event| told.send(event).is_err()) {
                    return;
                }
            }
        });
        Ok(Self { watch, events })
    }

    /// Reads on until the object of this name is seen to be made.
    fn until(self, name: &str) -> Vec<Value> {
        let is_last = |event: &Value| event["object"]["metadata"]["name"] == name;
        let events = self.events.iter().take_while(|event| !is_last(event)).collect();
        drop(self.watch);
        events
    }
}

/// What there is to do on a node.
const WORK: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 6
  strategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 1}}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      nodeSelector: {kubernetes.io/hostname: NODE}
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: 'web:1'}]
---
apiVersion: batch/v1
kind: Job
metadata: {name: count}
spec:
  completions: 8
  parallelism: 2
  completionMode: Indexed
  template:
    spec:
      nodeSelector: {kubernetes.io/hostname: NODE}
      restartPolicy: Never
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: 'web:1', command: [sleep, '0.7']}]
";

/// Has the cluster work on one of its nodes, and another lead in the midst of it. Makes sure that the work is done, once.
pub(crate) fn outlives<T>(cluster: &Cluster, node: &str, follow: impl FnOnce() -> Result<T>) -> Result<T> {
    cluster.import(&Image::busybox(
        &["web:1", "web:2"],
        &["sh", "-c", "trap exit TERM; while true; do sleep 0.2; done"],
    ))?;
    cluster.apply(&WORK.replace("NODE", node))?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let pods = Journal::begin(cluster, "pods")?;
    let sets = Journal::begin(cluster, "replicasets")?;
    cluster.kubectl(["set", "image", "deployment/web", "c=web:2"])?;
    let updated = || cluster.kubectl(["get", "deployment", "web", &field(".status.updatedReplicas")]);
    cluster.eventually("the rollout is under way", || Ok(!matches!(&*updated()?, "" | "0" | "6")))?;
    let followed = follow()?;
    let told = cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    ensure!(told.contains("successfully rolled out"), "{told}");
    cluster.kubectl(["wait", "--for=condition=Complete", "job/count", "--timeout=120s"])?;

    // No more pods at once than surge allows, a ReplicaSet for each template, and each index of the Job once.
    cluster.kubectl(["run", "last", "--image=web:1", "--restart=Never"])?;
    let (mut running, mut indexes) = (BTreeMap::new(), BTreeMap::new());
    for event in pods.until("last") {
        let meta = &event["object"]["metadata"];
        let name = meta["name"].as_str().unwrap_or_default().to_owned();
        match meta["labels"]["batch.kubernetes.io/job-completion-index"].as_str() {
            Some(index) => {
                let first = indexes.entry(index.to_owned()).or_insert_with(|| name.clone());
                ensure!(*first == name, "index {index} has run twice");
            }
            None if !name.starts_with("web-") => {}
            None => {
                running.insert(name, event["type"] != "DELETED" && meta["deletionTimestamp"].is_null());
                ensure!(
                    running.values().filter(|runs| **runs).count() <= 7,
                    "more than surge allows: {running:?}"
                );
            }
        }
    }
    ensure!(indexes.len() == 8, "{indexes:?}");
    cluster.apply(
        "{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: last}, \
         spec: {replicas: 0, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, \
         spec: {containers: [{name: c, image: 'web:1'}]}}}}",
    )?;
    let sets = sets.until("last");
    let names: BTreeSet<_> =
        sets.iter().filter_map(|event| event["object"]["metadata"]["name"].as_str()).collect();
    ensure!(names.len() == 2, "{names:?}");
    Ok(followed)
}

#[test]
fn a_rollout_outlives_the_leader_of_the_controllers() -> Result<()> {
    let mut cluster = Cluster::new(94)?;
    cluster.tell_server(["--disable-controller-manager", "--disable-scheduler"].map(str::to_owned));
    cluster.serve()?;
    let _scheduler = component(&cluster, "scheduler", &[])?;
    let first = controller_manager(&cluster)?;
    cluster.eventually("the first leads", || Ok(!holder(&cluster)?.is_empty()))?;
    let mut second = controller_manager(&cluster)?;
    cluster.eventually("there is a node, and an account", || {
        let ready = field(".items[*].status.conditions[?(@.type==\"Ready\")].status");
        Ok(cluster.kubectl(["get", "nodes", &ready])?.trim() == "True"
            && cluster.try_kubectl(["get", "serviceaccount", "default"])?.status.success())
    })?;
    let led = holder(&cluster)?;
    let _third = outlives(&cluster, "scenario", || {
        // As `kill -9` does.
        drop(first);
        cluster.eventually("the second leads", || Ok(holder(&cluster)? != led))?;
        // Only now, or it might be the one that follows.
        controller_manager(&cluster)
    })?;
    let told = cluster.kubectl(["get", "events", "-n", "kube-system", &field(".items[*].message")])?;
    ensure!(told.matches("became leader").count() >= 2, "{told}");

    // One that is asked to stop lets go: the other leads at once.
    let lease =
        || cluster.kubectl(["get", "lease", "kube-controller-manager", "-n", "kube-system", &field(".spec")]);
    let pid = i32::try_from(second.0.id())?;
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)?;
    ensure!(second.0.wait()?.success(), "it did not end well");
    cluster.eventually("the third leads", || Ok(lease()?.contains("\"leaseTransitions\":2")))
}
