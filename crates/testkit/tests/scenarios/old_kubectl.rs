//! A kubectl that is seventeen releases older than the server, with the versions of its time.

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, image::Image, page, program};

use crate::field;

const MANIFEST: &str = "
apiVersion: extensions/v1beta1
kind: Deployment
metadata: {name: web, labels: {app: web}}
spec:
  replicas: 2
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: 'web:1', ports: [{containerPort: 80}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 8080, targetPort: 80}]}
---
apiVersion: extensions/v1beta1
kind: Ingress
metadata: {name: web}
spec: {rules: [{host: web.example.com, http: {paths: [{path: /, backend: {serviceName: web, servicePort: 8080}}]}}]}
---
apiVersion: batch/v1beta1
kind: CronJob
metadata: {name: tick}
spec:
  schedule: '0 0 1 1 *'
  jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: 'web:1'}]}}}}
---
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
---
apiVersion: rbac.authorization.k8s.io/v1beta1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]
";

/// A command and what it says, among other things.
type Case<'a> = (&'a [&'a str], &'a [&'a str]);

fn says(cluster: &Cluster, cases: &[Case<'_>]) -> Result<()> {
    for (arguments, parts) in cases {
        let said = cluster.kubectl(*arguments)?;
        for part in *parts {
            ensure!(said.contains(part), "{arguments:?} does not say {part:?}: {said}");
        }
    }
    Ok(())
}

#[test]
fn kubectl_of_1_20_does_real_work() -> Result<()> {
    let mut cluster = Cluster::start(89)?;
    cluster.import(&Image::web(&["web:1", "web:2"]))?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    cluster.use_kubectl(program("KUBECTL_OLD")?);
    let path = cluster.dir().join("old.yaml");
    std::fs::write(&path, MANIFEST)?;
    let manifest = path.to_str().context("a path in UTF-8")?;
    says(
        &cluster,
        &[
            (&["version", "--short"], &["Client Version: v1.20", "Server Version: v1.37"]),
            (
                &["apply", "-f", manifest],
                &["deployment.extensions/web created", "cronjob.batch/tick created"],
            ),
            (&["rollout", "status", "deployment/web", "--timeout=120s"], &["successfully rolled out"]),
        ],
    )?;
    reads(&cluster)?;
    streams(&cluster)?;
    changes(&cluster, manifest)?;
    deletes(&cluster, manifest)
}

fn reads(cluster: &Cluster) -> Result<()> {
    says(
        cluster,
        &[
            (
                &["get", "all,ing,pdb,cj", "-o", "wide"],
                &["deployment.apps/web", "web.example.com", "0 0 1 1 *"],
            ),
            (&["get", "ingress", "web", "-o", "yaml"], &["apiVersion: networking.k8s.io/v1", "number: 8080"]),
            (
                &["get", "ingresses.v1beta1.extensions", "web", "-o", "json"],
                &["\"serviceName\": \"web\"", "\"servicePort\": 8080"],
            ),
            (&["get", "deployments.v1beta1.apps", "web", "-o", "name"], &["deployment.apps/web"]),
            (&["get", "pods", "-l", "app=web", "--field-selector=status.phase=Running"], &["1/1", "web-"]),
            (&["get", "nodes", "-o", "custom-columns=N:.metadata.name"], &["scenario"]),
            (&["describe", "deployment", "web"], &["2 desired | 2 updated", "ScalingReplicaSet"]),
            (&["describe", "ingress", "web"], &["web.example.com", "web:8080 (10.89."]),
            (&["describe", "cronjob", "tick"], &["0 0 1 1 *"]),
            (&["describe", "pdb", "web"], &["Min available:  1"]),
            (&["describe", "pods", "-l", "app=web"], &["Started container c", "10.89."]),
            (&["describe", "node", "scenario"], &["Non-terminated Pods:", "KubeletReady"]),
            (&["explain", "deployment.spec.replicas"], &["VERSION:  apps/v1", "replicas <integer>"]),
            (
                &["explain", "ingress.spec.backend", "--api-version=extensions/v1beta1"],
                &["serviceName", "servicePort"],
            ),
            (
                &["api-resources", "-o", "wide"],
                &["networkpolicies", "extensions/v1beta1", "deletecollection"],
            ),
            (&["api-versions"], &["apps/v1\n", "extensions/v1beta1", "policy/v1beta1"]),
            (&["auth", "can-i", "create", "deployments.apps"], &["yes"]),
            (&["auth", "can-i", "--list"], &["*.*"]),
            (&["get", "componentstatuses"], &["Healthy"]),
            (&["cluster-info"], &["is running at"]),
            (&["get", "--raw", "/readyz?verbose"], &["readyz check passed"]),
        ],
    )?;
    let no = cluster.try_kubectl(["auth", "can-i", "get", "pods", "--as=nobody"])?;
    ensure!(no.stdout == b"no\n" && no.status.code() == Some(1), "{no:?}");
    Ok(())
}

/// What streams goes over SPDY: this kubectl knows nothing else.
fn streams(cluster: &Cluster) -> Result<()> {
    let pods = cluster.kubectl(["get", "pods", "-l", "app=web", "-o", "name"])?;
    let pod = pods.lines().next().context("a pod")?;
    let name = pod.trim_start_matches("pod/");
    ensure!(cluster.kubectl(["exec", pod, "--", "hostname"])?.trim() == name);
    let run = ["exec", "-i", pod, "--", "sh", "-c", "cat; echo bad >&2; exit 4"];
    let output = cluster.feed(b"typed", run)?;
    ensure!(output.stdout == b"typed" && output.stderr.starts_with(b"bad\n"), "{output:?}");
    ensure!(!output.status.success(), "{output:?}");
    for target in ["service/web", "deployment/web"] {
        let (_forwarding, port) = cluster.forward(target, if target.starts_with('s') { 8080 } else { 80 })?;
        ensure!(page(port)?.starts_with("web-"), "{target}");
    }
    let (dir, there) = (tempfile::tempdir()?, format!("{name}:/tmp/there"));
    let (here, back) = (dir.path().join("here"), dir.path().join("back"));
    std::fs::write(&here, "content")?;
    cluster.kubectl(["cp".as_ref(), here.as_os_str(), there.as_ref()])?;
    cluster.kubectl(["cp".as_ref(), there.as_ref(), back.as_os_str()])?;
    ensure!(std::fs::read_to_string(back)? == "content");
    let mut terminal = cluster.terminal(["exec", "-it", name, "--", "sh"])?;
    terminal.type_in("stty size; echo seen-$((6*7))\n")?;
    ensure!(terminal.shows("seen-42")?.contains("33 101"));
    terminal.type_in("exit\n")?;
    terminal.code()?;
    let once = ["run", "once", "--restart=Never", "--image=busybox:1", "--", "echo", "once"];
    cluster.kubectl(once)?;
    cluster.eventually("the log of a pod that has ended", || {
        Ok(cluster.kubectl(["logs", "once", "--timestamps=false"])? == "once\n")
    })
}

fn changes(cluster: &Cluster, manifest: &str) -> Result<()> {
    let strategic =
        r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","env":[{"name":"A","value":"b"}]}]}}}}"#;
    let json = r#"[{"op":"test","path":"/metadata/labels/x","value":"y"},{"op":"remove","path":"/metadata/labels/x"}]"#;
    says(
        cluster,
        &[
            (&["patch", "deployment", "web", "-p", strategic], &["patched"]),
            (
                &["patch", "deployment", "web", "--type=merge", "-p", r#"{"metadata":{"labels":{"x":"y"}}}"#],
                &["patched"],
            ),
            (&["patch", "deployment", "web", "--type=json", "-p", json], &["patched"]),
            (&["set", "image", "deployment/web", "c=web:2"], &["image updated"]),
            (&["rollout", "status", "deployment/web", "--timeout=120s"], &["successfully rolled out"]),
            (&["rollout", "history", "deployment/web"], &["\n3 "]),
            (&["rollout", "undo", "deployment/web", "--to-revision=1"], &["rolled back"]),
            (&["rollout", "restart", "deployment/web"], &["restarted"]),
            (&["scale", "deployment", "web", "--replicas=3"], &["scaled"]),
            (&["autoscale", "deployment", "web", "--max=4"], &["autoscaled"]),
            (&["describe", "hpa", "web"], &["Max replicas:", "Deployment/web"]),
            (&["label", "deployment", "web", "tier=front"], &["labeled"]),
            (&["annotate", "deployment", "web", "note=read"], &["annotated"]),
            (&["taint", "nodes", "scenario", "kind=test:PreferNoSchedule"], &["tainted"]),
            (&["cordon", "scenario"], &["cordoned"]),
            (&["uncordon", "scenario"], &["uncordoned"]),
            (&["wait", "--for=condition=Available", "deployment/web", "--timeout=120s"], &["condition met"]),
            (&["create", "secret", "generic", "s", "--from-literal=a=b", "-o", "yaml"], &["a: Yg=="]),
            (&["create", "job", "now", "--image=busybox:1", "--", "true"], &["created"]),
            (&["wait", "--for=condition=Complete", "job/now", "--timeout=120s"], &["condition met"]),
            (&["apply", "-f", manifest], &["deployment.extensions/web configured", "service/web unchanged"]),
            (&["apply", "--server-side", "--force-conflicts", "-f", manifest], &["serverside-applied"]),
        ],
    )?;
    let image = field(".spec.template.spec.containers[0].image");
    ensure!(cluster.kubectl(["get", "deployment", "web", &image])? == "web:1");
    // Who wrote in one group's version owns what it wrote when others write in another's.
    let managers = field(".metadata.managedFields[*].manager");
    let managers = cluster.kubectl(["get", "deployment", "web", &managers])?;
    ensure!(managers.contains("kube-controller-manager"), "{managers}");
    Ok(())
}

fn deletes(cluster: &Cluster, manifest: &str) -> Result<()> {
    says(
        cluster,
        &[
            (&["delete", "hpa", "web"], &["deleted"]),
            (&["delete", "deployment", "web", "--cascade=orphan"], &["deleted"]),
            (&["get", "replicasets", "-l", "app=web"], &["web-"]),
            (&["delete", "replicasets", "-l", "app=web", "--cascade=foreground"], &["deleted"]),
            (&["delete", "-f", manifest, "--ignore-not-found"], &["ingress.extensions \"web\" deleted"]),
        ],
    )?;
    let left = cluster.kubectl(["get", "deployments,replicasets,ingresses,cronjobs,roles", "-o", "name"])?;
    ensure!(left.is_empty(), "{left}");
    Ok(())
}
