//! What is wrong is told plainly, and harms nothing.

use std::{
    net::{Ipv4Addr, TcpListener},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use tiphys_pki::{Kubeconfig, Leaf, Pki};
use tiphys_testkit::{Cluster, Programs, free_port, image::Image};

use crate::field;

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
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a\ndata: [\n",
        "error converting YAML to JSON",
    )?;
    refused(
        "apiVersion: example.com/v1\nkind: Nothing\nmetadata: {name: a}\n",
        "no matches for kind \"Nothing\"",
    )?;
    let lax = |policy: &str| {
        let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: lax}\nspec: {}\n";
        cluster.feed(map.as_bytes(), ["create", "--dry-run=server", policy, "-f", "-"])
    };
    let warned = lax("--validate=warn")?;
    let said = String::from_utf8_lossy(&warned.stderr);
    ensure!(warned.status.success() && said.contains("Warning: unknown field \"spec\""), "{warned:?}");
    let ignored = lax("--validate=ignore")?;
    ensure!(ignored.status.success() && ignored.stderr.is_empty(), "{ignored:?}");
    // kubectl merges duplicates and refuses what is broken itself, unless it is to send a file as it is.
    for (sent, why) in [
        (r#"{"kind": "ConfigMap", "metadata": {"#, "couldn't get version/kind; json parse error"),
        (
            r#"{"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": "a"}, "data": {}, "data": {}}"#,
            "strict decoding error: duplicate field \"data\"",
        ),
    ] {
        let url = "/api/v1/namespaces/default/configmaps?fieldValidation=Strict";
        let output = cluster.feed(sent.as_bytes(), ["create", "--raw", url, "-f", "-"])?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(!output.status.success() && said.contains(why), "{output:?}");
    }
    let large = "x".repeat(4 << 20);
    refused(
        &format!(
            r#"{{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {{"name": "a"}}, "data": {{"k": "{large}"}}}}"#
        ),
        "Request entity too large: limit is 3145728",
    )?;
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

    let pki = Pki::open(&cluster.data_dir().join("pki"))?;
    let hour = Leaf { lifetime: Duration::from_secs(3600), ..Leaf::admin() };
    let expired = pki.cluster.issue(&hour, SystemTime::now() - Duration::from_secs(2 * 24 * 3600))?;
    let config = Kubeconfig { cluster: "tiphys", user: "late", server: &cluster.url() };
    let path = cluster.data_dir().join("expired.kubeconfig");
    std::fs::write(&path, config.render(&pki.cluster, &expired))?;
    let said =
        cluster.refused(["--kubeconfig".as_ref(), path.as_os_str(), "get".as_ref(), "pods".as_ref()])?;
    ensure!(said.contains("certificate has expired"), "{said}");

    cluster.apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: no-image}\nspec:\n  containers: [{name: c, image: 'localhost:1/none:1'}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: no-command}\nspec:\n  restartPolicy: Never\n  \
         containers: [{name: c, image: 'busybox:1', command: [/none]}]\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: greedy}\nspec:\n  restartPolicy: Never\n  \
         containers: [{name: c, image: 'busybox:1', command: [sh, -c, 'head -c 200m /dev/zero | tail'], \
         resources: {limits: {memory: 20Mi}}}]\n",
    )?;
    let ended = |pod: &str| {
        let end = ".status.containerStatuses[0].state.terminated";
        cluster.kubectl(["get", "pod", pod, &format!("-o=jsonpath={{{end}.reason}} {{{end}.exitCode}}")])
    };
    cluster.eventually("the missing image is told", || {
        let reason = cluster.kubectl([
            "get",
            "pod",
            "no-image",
            &field(".status.containerStatuses[0].state.waiting.reason"),
        ])?;
        Ok(matches!(&*reason, "ErrImagePull" | "ImagePullBackOff"))
    })?;
    cluster.eventually("the missing command is told", || Ok(ended("no-command")? == "StartError 128"))?;
    let why = field(".status.containerStatuses[0].state.terminated.message");
    let told = cluster.kubectl(["get", "pod", "no-command", &why])?;
    ensure!(told.contains("/none") && told.contains("no such file"), "{told}");
    cluster.eventually("the container over its limit is told", || Ok(ended("greedy")? == "OOMKilled 137"))?;
    cluster.kubectl(["get", "nodes"]).context("the cluster is unharmed")?;
    Ok(())
}

/// Also when everything else of the cluster runs already.
#[test]
fn a_start_that_fails_tells_one_error() -> Result<()> {
    let cluster = Cluster::new(75)?;
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let taken = other.local_addr()?.port().to_string();
    let output = Command::new(Programs::find()?.tiphys)
        .args(["up", "--bind-address", "127.0.0.1", "--secure-port", &free_port()?.to_string()])
        .args(["--service-cidr", "10.75.0.0/17", "--pod-cidr", "10.75.128.0/17", "--kubelet-port", &taken])
        .arg("--data-dir")
        .arg(cluster.data_dir())
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    let told = said.starts_with(&format!("tiphys: listening on 127.0.0.1:{taken}; if another program"));
    ensure!(!output.status.success() && told && said.lines().count() == 1, "{said}");
    Ok(())
}
