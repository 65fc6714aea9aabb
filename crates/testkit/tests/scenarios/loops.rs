//! Workloads beside Deployments: StatefulSets, DaemonSets, disruption budgets and CronJobs, in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

const SLEEP: [&str; 3] = ["sh", "-c", "trap exit TERM; while true; do sleep 0.2; done"];

#[test]
fn workloads_have_names_nodes_budgets_and_times() -> Result<()> {
    let cluster = Cluster::start(91)?;
    cluster.import(&Image::busybox(&["web:1", "web:2"], &SLEEP))?;
    names(&cluster)?;
    every_node(&cluster)?;
    budgets(&cluster)?;
    times(&cluster)
}

fn image(cluster: &Cluster, pod: &str) -> Result<String> {
    cluster.kubectl(["get", "pod", pod, &field(".spec.containers[0].image")])
}

fn names(cluster: &Cluster) -> Result<()> {
    cluster.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: db}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 2
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{name: c, image: 'web:1'}]
",
    )?;
    let rolled_out = || cluster.kubectl(["rollout", "status", "statefulset/db", "--timeout=60s"]);
    rolled_out()?;
    let who = cluster.kubectl(["exec", "db-1", "--", "hostname", "-f"])?;
    ensure!(who.trim() == "db-1.db.default.svc.cluster.local", "{who}");
    let uid = || cluster.kubectl(["get", "pod", "db-0", &field(".metadata.uid")]);
    let before = uid()?;
    cluster.kubectl(["delete", "pod", "db-0"])?;
    cluster.eventually("the pod is back under its name", || Ok(uid().is_ok_and(|now| now != before)))?;
    rolled_out()?;

    // A canary, the rest, and back.
    let partition = |from: u8| {
        let patch = format!(r#"{{"spec":{{"updateStrategy":{{"rollingUpdate":{{"partition":{from}}}}}}}}}"#);
        cluster.kubectl(["patch", "statefulset", "db", "--type=merge", "-p", &patch])
    };
    partition(1)?;
    cluster.kubectl(["set", "image", "statefulset/db", "c=web:2"])?;
    let told = rolled_out()?;
    ensure!(told.contains("partitioned roll out complete: 1 new pods have been updated"), "{told}");
    ensure!(image(cluster, "db-0")? == "web:1" && image(cluster, "db-1")? == "web:2");
    partition(0)?;
    rolled_out()?;
    ensure!(image(cluster, "db-0")? == "web:2");
    let history = cluster.kubectl(["rollout", "history", "statefulset/db"])?;
    ensure!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    cluster.kubectl(["rollout", "undo", "statefulset/db"])?;
    rolled_out()?;
    ensure!(image(cluster, "db-0")? == "web:1");
    cluster.kubectl(["scale", "statefulset/db", "--replicas=1"])?;
    cluster.kubectl(["wait", "--for=delete", "pod/db-1", "--timeout=60s"])?;
    cluster.kubectl(["delete", "statefulset", "db", "--cascade=foreground", "--timeout=60s"])?;
    Ok(())
}

fn every_node(cluster: &Cluster) -> Result<()> {
    let node = "scenario";
    cluster.apply(
        "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: agent}
spec:
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec:
      terminationGracePeriodSeconds: 1
      nodeSelector: {agent: wanted}
      containers: [{name: c, image: 'web:1'}]
",
    )?;
    let rolled_out = || cluster.kubectl(["rollout", "status", "daemonset/agent", "--timeout=60s"]);
    let desired = || cluster.kubectl(["get", "daemonset", "agent", &field(".status.desiredNumberScheduled")]);
    rolled_out()?;
    ensure!(desired()? == "0");
    cluster.kubectl(["label", "node", node, "agent=wanted"])?;
    cluster.eventually("the node is wanted", || Ok(desired()? == "1"))?;
    rolled_out()?;
    let running = || cluster.kubectl(["get", "pods", "-l", "app=agent", &field(".items[*].spec.nodeName")]);
    ensure!(running()? == node, "{}", running()?);
    cluster.kubectl(["set", "image", "daemonset/agent", "c=web:2"])?;
    rolled_out()?;
    cluster.kubectl(["rollout", "undo", "daemonset/agent"])?;
    rolled_out()?;
    let images =
        cluster.kubectl(["get", "pods", "-l", "app=agent", &field(".items[*].spec.containers[0].image")])?;
    ensure!(images.ends_with("web:1"), "{images}");
    cluster.kubectl(["label", "node", node, "agent-"])?;
    cluster.kubectl(["wait", "--for=delete", "pods", "-l", "app=agent", "--timeout=60s"])?;
    cluster.kubectl(["delete", "daemonset", "agent"])?;
    Ok(())
}

fn budgets(cluster: &Cluster) -> Result<()> {
    cluster.kubectl(["create", "deployment", "web", "--image=web:1", "--replicas=2"])?;
    cluster.kubectl([
        "create",
        "poddisruptionbudget",
        "web",
        "--selector=app=web",
        "--max-unavailable=50%",
    ])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=60s"])?;
    let status = |path: &str| cluster.kubectl(["get", "poddisruptionbudget", "web", &field(path)]);
    cluster.eventually("one pod can be spared", || Ok(status(".status.disruptionsAllowed")? == "1"))?;
    ensure!(status(".status.expectedPods")? == "2");
    cluster.kubectl(["patch", "pdb", "web", "--type=merge", "-p", r#"{"spec":{"maxUnavailable":0}}"#])?;
    let pods = cluster.kubectl(["get", "pods", "-l", "app=web", &field(".items[*].metadata.name")])?;
    let pod = pods.split(' ').next().unwrap_or_default().to_owned();
    let eviction = format!(
        r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}","namespace":"default"}}}}"#
    );
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    let evict = || cluster.feed(eviction.as_bytes(), ["create", "--raw", &path, "-f", "-"]);
    cluster.eventually("none can be spared any more", || Ok(status(".status.disruptionsAllowed")? == "0"))?;
    let refused = evict()?;
    let said = String::from_utf8_lossy(&refused.stderr);
    ensure!(said.contains("Cannot evict pod as it would violate the pod's disruption budget."), "{said}");
    cluster.kubectl(["patch", "pdb", "web", "--type=merge", "-p", r#"{"spec":{"maxUnavailable":2}}"#])?;
    cluster.eventually("both can be spared", || Ok(status(".status.disruptionsAllowed")? == "2"))?;
    // Whoever drains the node goes by what the budget allows.
    cluster.kubectl(["drain", "scenario", "--grace-period=1", "--timeout=60s"])?;
    cluster.kubectl(["uncordon", "scenario"])?;
    cluster.kubectl(["delete", "deployment/web", "pdb/web"])?;
    Ok(())
}

fn times(cluster: &Cluster) -> Result<()> {
    let schedule =
        ["create", "cronjob", "tick", "--image=web:1", "--schedule=@every 1s", "--", "echo", "tock"];
    cluster.kubectl(schedule)?;
    let said = cluster.refused(["create", "cronjob", "x", "--image=web:1", "--schedule=TZ=UTC * * * * *"])?;
    ensure!(said.contains("cannot use TZ or CRON_TZ in schedule, use timeZone field instead"), "{said}");
    let get = |path: &str| cluster.kubectl(["get", "cronjob", "tick", &field(path)]);
    cluster.eventually("a job has succeeded", || Ok(!get(".status.lastSuccessfulTime")?.is_empty()))?;
    ensure!(!get(".status.lastScheduleTime")?.is_empty());
    let logs = cluster.kubectl(["get", "jobs", "-o", "name"])?;
    let job = logs.lines().find(|name| name.starts_with("job.batch/tick-")).unwrap_or_default().to_owned();
    ensure!(cluster.kubectl(["logs", &job])? == "tock\n", "{logs}");
    cluster.kubectl(["patch", "cronjob", "tick", "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#])?;
    cluster.kubectl(["delete", "cronjob", "tick"])?;
    Ok(())
}
