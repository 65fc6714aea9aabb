//! The binary, real kubectl, real containers. Run with `cargo xtask test --only scenario`.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, Programs, examples, image::Image, text};

/// Prints one field of the objects that a selection gives.
fn field(path: &str) -> String {
    format!("-o=jsonpath={{{path}}}")
}

#[test]
fn quickstart_shows_a_cluster_and_leaves_nothing_behind() -> Result<()> {
    let programs = Programs::find()?;
    let dir = tempfile::Builder::new().prefix("tiphys-quickstart-").tempdir_in("/var/tmp")?;
    let data = dir.path().join("data");
    let said = text(Command::new(&programs.tiphys).args(["quickstart", "--data-dir"]).arg(&data).args([
        "--service-cidr",
        "10.61.0.0/17",
        "--pod-cidr",
        "10.61.128.0/17",
    ]))?;
    // Two replicas through the cluster IP, two through the name, and the Job's own visits.
    let answers = said.matches("x Ahoy from the Argo (from web-").count();
    ensure!(answers >= 5, "{said}");
    ensure!(said.contains("job visitor: complete"), "{said}");
    ensure!(!data.exists(), "the data directory is still there");
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    ensure!(!mounts.contains(&*data.to_string_lossy()), "mounts are left: {mounts}");
    Ok(())
}

#[test]
fn users_manifests_reach_their_goal() -> Result<()> {
    let cluster = Cluster::start(62)?;
    cluster.import(&Image::web(&["nginx:1.7.9", "nginx:1.8"]))?;
    cluster.import(&Image::busybox(&["busybox:latest", "resouer/ubuntu-bc:latest"], &["sh"]))?;
    // The Deployment would adopt the ReplicaSet, whose labels it selects.
    cluster.kubectl(["create", "namespace", "sets"])?;
    cluster.eventually("pods can be made in the new namespace", || {
        Ok(cluster.try_kubectl(["-n", "sets", "get", "serviceaccount", "default"])?.status.success())
    })?;
    cluster.apply_example("sets", "replicaset-nginx.yaml")?;
    for manifest in [
        "deployment-nginx.yaml",
        "job-pi.yaml",
        "pod-myapp.yaml",
        "pod-hostaliases.yaml",
        "service-externalname.yaml",
    ] {
        cluster.apply_example("default", manifest)?;
    }
    let template = std::fs::read_to_string(examples().join("manifests/job-template.yaml"))?;
    for item in ["apple", "banana", "cherry"] {
        cluster.apply(&template.replace("$ITEM", item))?;
    }
    cluster.kubectl(["rollout", "status", "deployment/nginx-deployment", "--timeout=120s"])?;
    let all_ready = "--for=jsonpath={.status.readyReplicas}=3";
    cluster.kubectl(["-n", "sets", "wait", all_ready, "replicaset/nginx-set", "--timeout=120s"])?;
    cluster.kubectl(["wait", "--for=condition=Complete", "jobs", "--all", "--timeout=120s"])?;
    cluster.kubectl(["wait", "--for=condition=Ready", "pod/myapp-pod", "--timeout=120s"])?;
    let log = cluster.kubectl(["logs", "-l", "jobgroup=jobexample"])?;
    for item in ["apple", "banana", "cherry"] {
        ensure!(log.contains(&format!("Processing item {item}")), "{log}");
    }
    let pi = cluster.kubectl(["logs", "job/pi"])?;
    ensure!(pi.contains("3.14159265358979"), "{pi}");
    ensure!(cluster.kubectl(["logs", "hostaliases-pod"])?.contains("10.1.2.3\tfoo.remote\tbar.remote"));
    ensure!(cluster.kubectl(["logs", "myapp-pod"])?.contains("Hello Kubernetes!"));
    // The second manifest of the same name rolls the Deployment over.
    cluster.apply_example("default", "deployment-volume.yaml")?;
    cluster.kubectl(["rollout", "status", "deployment/nginx-deployment", "--timeout=120s"])?;
    let image = cluster.kubectl([
        "get",
        "deployment",
        "nginx-deployment",
        &field(".spec.template.spec.containers[0].image"),
    ])?;
    ensure!(image == "nginx:1.8", "{image}");
    Ok(())
}

#[test]
fn kubectl_does_what_its_users_know() -> Result<()> {
    let cluster = Cluster::start(63)?;
    cluster.import(&Image::web(&["web:1", "web:2"]))?;
    cluster.kubectl(["version"])?;
    cluster.kubectl(["cluster-info"])?;
    ensure!(cluster.kubectl(["api-resources"])?.contains("deployments"));
    ensure!(cluster.kubectl(["api-versions"])?.contains("apps/v1"));
    ensure!(cluster.kubectl(["explain", "pod.spec.containers"])?.contains("image"));
    ensure!(cluster.kubectl(["auth", "can-i", "create", "pods"])?.trim() == "yes");

    cluster.kubectl(["create", "deployment", "web", "--image=web:1", "--replicas=2"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    cluster.kubectl(["expose", "deployment", "web", "--port=80"])?;
    cluster.kubectl(["scale", "deployment", "web", "--replicas=3"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    cluster.kubectl(["set", "image", "deployment/web", "web=web:2"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let history = cluster.kubectl(["rollout", "history", "deployment/web"])?;
    ensure!(history.contains('1') && history.contains('2'), "{history}");
    cluster.kubectl(["rollout", "undo", "deployment/web"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let image =
        cluster.kubectl(["get", "deployment", "web", &field(".spec.template.spec.containers[0].image")])?;
    ensure!(image == "web:1", "{image}");

    cluster.kubectl(["label", "deployment", "web", "tier=front"])?;
    cluster.kubectl(["annotate", "deployment", "web", "note=hello"])?;
    for (kind, patch) in [
        ("merge", r#"{"metadata":{"labels":{"patched":"merge"}}}"#),
        ("strategic", r#"{"metadata":{"labels":{"patched":"strategic"}}}"#),
        ("json", r#"[{"op":"replace","path":"/metadata/labels/patched","value":"json"}]"#),
    ] {
        cluster.kubectl(["patch", "deployment", "web", "--type", kind, "-p", patch])?;
        let label = cluster.kubectl(["get", "deployment", "web", &field(".metadata.labels.patched")])?;
        ensure!(label == kind, "{label}");
    }
    ensure!(
        cluster
            .kubectl(["get", "deployments", "-l", "tier=front", "-o", "name"])?
            .contains("deployment.apps/web")
    );
    ensure!(cluster.kubectl(["describe", "deployment", "web"])?.contains("Replicas"));

    let pod = cluster.kubectl(["get", "pods", "-l", "app=web", &field(".items[0].metadata.name")])?;
    let told = cluster.kubectl(["exec", &pod, "--", "hostname"])?;
    ensure!(told.trim() == pod, "{told}");
    let failed = cluster.try_kubectl(["exec", &pod, "--", "sh", "-c", "exit 7"])?;
    ensure!(failed.status.code() == Some(7), "{failed:?}");
    let page =
        cluster.kubectl(["exec", &pod, "--", "wget", "-qO-", "http://web.default.svc.cluster.local/"])?;
    ensure!(page.starts_with("web-"), "{page}");

    let file = cluster.data_dir().join("settings.yaml");
    for (manager, data) in [("painter", "colour: blue"), ("carver", "shape: round")] {
        std::fs::write(
            &file,
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: settings}}\ndata: {{{data}}}\n"),
        )?;
        let manager = format!("--field-manager={manager}");
        cluster.kubectl([
            "apply".as_ref(),
            "--server-side".as_ref(),
            manager.as_ref(),
            "-f".as_ref(),
            file.as_os_str(),
        ])?;
    }
    let data = cluster.kubectl(["get", "configmap", "settings", &field(".data")])?;
    ensure!(data.contains("blue") && data.contains("round"), "{data}");
    cluster.kubectl(["delete", "configmap", "settings"])?;
    Ok(())
}

#[test]
fn pods_outlive_the_server() -> Result<()> {
    let mut cluster = Cluster::start(64)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: stays}\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n    \
         command: [sh, -c, 'echo begun; sleep 3600']\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: ends}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1\n    \
         command: [sh, -c, 'sleep 6; echo over; exit 3']\n",
    )?;
    cluster.kubectl(["wait", "--for=condition=Ready", "pod/stays", "pod/ends", "--timeout=120s"])?;
    let started = field(".status.containerStatuses[0].state.running.startedAt");
    let before = cluster.kubectl(["get", "pod", "stays", &started])?;
    cluster.kill()?;
    std::thread::sleep(std::time::Duration::from_secs(8));
    cluster.up()?;
    cluster.eventually("the pod that ended meanwhile has its exit code", || {
        let code = field(".status.containerStatuses[0].state.terminated.exitCode");
        Ok(cluster.kubectl(["get", "pod", "ends", &code])? == "3")
    })?;
    ensure!(cluster.kubectl(["logs", "ends"])?.contains("over"));
    ensure!(cluster.kubectl(["get", "pod", "stays", &started])? == before, "the container was restarted");
    let restarts =
        cluster.kubectl(["get", "pod", "stays", &field(".status.containerStatuses[0].restartCount")])?;
    ensure!(restarts == "0", "{restarts}");
    ensure!(cluster.kubectl(["logs", "stays"])?.contains("begun"));
    ensure!(cluster.kubectl(["exec", "stays", "--", "echo", "alive"])?.contains("alive"));

    cluster.interrupt()?;
    ensure!(!cluster.leftovers()?.is_empty(), "an interrupted server leaves its pods running");
    cluster.tiphys(["down"])?;
    let left = cluster.leftovers()?;
    ensure!(left.is_empty(), "`down` has left {left:?}");
    Ok(())
}

#[test]
fn bad_input_gets_a_clear_answer() -> Result<()> {
    let cluster = Cluster::start(65)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    let refused = |yaml: &str, why: &str| -> Result<()> {
        let file = cluster.data_dir().join("bad.yaml");
        std::fs::write(&file, yaml)?;
        let output = cluster.try_kubectl(["create".as_ref(), "-f".as_ref(), file.as_os_str()])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(why), "{yaml}: {said}");
        Ok(())
    };
    refused("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\nspec: {}\n", "unknown field \"spec\"")?;
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: A_b}\n",
        "metadata.name: Invalid value: \"A_b\"",
    )?;
    refused(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: []}\n",
        "spec.containers: Required value",
    )?;
    refused(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: none}\n",
        "namespaces \"none\" not found",
    )?;

    let denied = cluster.try_kubectl_with_token("wrong", ["get", "pods"])?;
    let said = String::from_utf8_lossy(&denied.stderr);
    ensure!(!denied.status.success() && said.contains("Unauthorized"), "{denied:?}");

    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: no-image}\nspec:\n  containers: [{name: c, image: 'localhost:1/none:1'}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: no-command}\nspec:\n  restartPolicy: Never\n  \
         containers: [{name: c, image: 'busybox:1', command: [/none]}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: greedy}\nspec:\n  restartPolicy: Never\n  \
         containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'head -c 200m /dev/zero | tail'], \
         resources: {limits: {memory: 20Mi}}}]\n",
    )?;
    cluster.eventually("the missing image is told", || {
        let reason = cluster.kubectl([
            "get",
            "pod",
            "no-image",
            &field(".status.containerStatuses[0].state.waiting.reason"),
        ])?;
        Ok(matches!(&*reason, "ErrImagePull" | "ImagePullBackOff"))
    })?;
    cluster.eventually("the missing command is told", || {
        let state =
            cluster.kubectl(["get", "pod", "no-command", &field(".status.containerStatuses[0].state")])?;
        Ok(state.contains("StartError")
            || state.contains("ContainerCannotRun")
            || state.contains("RunContainerError"))
    })?;
    cluster.eventually("the container over its limit is told", || {
        let end = field(".status.containerStatuses[0].state.terminated.reason");
        Ok(cluster.kubectl(["get", "pod", "greedy", &end])? == "OOMKilled")
    })?;
    cluster.kubectl(["get", "nodes"]).context("the cluster is unharmed")?;
    Ok(())
}
