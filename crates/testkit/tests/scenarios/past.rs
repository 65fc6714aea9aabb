//! What an object was, and why it is not what it should be.

use anyhow::{Result, ensure};
use tiphys_testkit::Cluster;

use crate::field;

/// The columns of a row, the age left out.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().skip(1).map(|line| line.split_whitespace().collect()).collect()
}

#[test]
fn the_past_is_told_and_led_back_to() -> Result<()> {
    let mut cluster = Cluster::start(77)?;
    cluster.kubectl(["create", "configmap", "map", "--from-literal=k=first"])?;
    cluster.kubectl(["patch", "configmap", "map", "--type=merge", "-p", r#"{"data":{"k":"second"}}"#])?;
    cluster.kubectl(["delete", "configmap", "map"])?;
    let history = ["get", "configmap", "map", "--subresource=history"];
    // It outlives the server.
    cluster.kill()?;
    cluster.up()?;
    let table = cluster.kubectl(history)?;
    let told: Vec<_> = rows(&table).into_iter().map(|row| [&row[2..3], &row[3..]].concat()).collect();
    let expected: [&[&str]; 3] = [
        &["kubernetes-admin", "delete"],
        &["kubernetes-admin", "update", "data.k"],
        &["kubernetes-admin", "create"],
    ];
    ensure!(told == expected, "{table}");

    let version = cluster.kubectl([&history[..], &[&field(".items[2].resourceVersion")]].concat())?;
    let dir = tempfile::tempdir()?;
    let file = dir.path().join("restore.json");
    let restore =
        format!(r#"{{"apiVersion":"history.tiphys.io/v1","kind":"Restore","resourceVersion":"{version}"}}"#);
    std::fs::write(&file, restore)?;
    let path = "/api/v1/namespaces/default/configmaps/map/history";
    cluster.kubectl(["create", "--raw", path, "-f", &file.to_string_lossy()])?;
    ensure!(cluster.kubectl(["get", "configmap", "map", &field(".data.k")])? == "first");
    Ok(())
}

#[test]
fn it_is_told_why() -> Result<()> {
    let cluster = Cluster::start(78)?;
    cluster.kubectl(["create", "deployment", "large", "--image=none:1", "--replicas=0"])?;
    cluster.kubectl(["set", "resources", "deployment/large", "--requests=cpu=500"])?;
    cluster.kubectl(["scale", "deployment/large", "--replicas=2"])?;
    let waits = "--for=condition=PodScheduled=false";
    cluster.kubectl(["wait", waits, "pods", "-l", "app=large", "--timeout=60s"])?;
    let why = |what: &str, name: &str| cluster.kubectl(["get", what, name, "--subresource=why"]);
    let pod = cluster.kubectl(["get", "pods", "-l", "app=large", &field(".items[0].metadata.name")])?;
    cluster
        .eventually("the scheduler has reported", || Ok(why("pod", &pod)?.contains("NodeResourcesFit")))?;
    let told = why("deployment", "large")?;
    ensure!(told.contains("1 Insufficient cpu") && told.contains("and 1 more"), "{told}");

    cluster.kubectl(["create", "namespace", "stuck"])?;
    cluster.kubectl(["create", "configmap", "held", "-n", "stuck"])?;
    let hold = r#"{"metadata":{"finalizers":["example.com/guard"]}}"#;
    cluster.kubectl(["patch", "configmap", "held", "-n", "stuck", "--type=merge", "-p", hold])?;
    cluster.kubectl(["delete", "namespace", "stuck", "--wait=false"])?;
    let going = "--for=jsonpath={.metadata.deletionTimestamp}";
    cluster.kubectl(["wait", going, "configmap/held", "-n", "stuck", "--timeout=60s"])?;
    let told = why("namespace", "stuck")?;
    ensure!(told.contains("configmap/held") && told.contains("example.com/guard"), "{told}");
    let free = r#"{"metadata":{"finalizers":null}}"#;
    cluster.kubectl(["patch", "configmap", "held", "-n", "stuck", "--type=merge", "-p", free])?;
    cluster.kubectl(["wait", "--for=delete", "namespace/stuck", "--timeout=60s"])?;
    Ok(())
}
