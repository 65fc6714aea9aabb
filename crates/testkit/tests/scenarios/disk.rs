//! A full disk below the data directory.

use std::{fs::File, io::Write};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: stays}
spec:
  containers:
  - {name: c, image: 'busybox:1', command: [sh, -c, 'while true; do echo alive; sleep 0.2; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 'busybox:1', stdin: true, stdinOnce: true, command: [sh, -c, 'cat; exit 3']}
";

#[test]
fn a_full_disk_refuses_writes_and_loses_nothing() -> Result<()> {
    let mut cluster = Cluster::small(70, "640m")?;
    cluster.up()?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    cluster.apply(PODS)?;
    cluster.ready(&["pod/stays", "pod/ends"])?;
    cluster.kubectl(["create", "configmap", "before", "--from-literal=a=b"])?;
    let filler = cluster.dir().join("filler");
    let mut file = File::create(&filler)?;
    while file.write_all(&[1; 1 << 16]).is_ok() {}

    let said = cluster.refused(["create", "configmap", "during"])?;
    ensure!(said.contains("no space left for the store"), "{said}");
    let said = cluster.refused(["label", "configmap", "before", "c=d"])?;
    ensure!(said.contains("no space left for the store"), "{said}");
    ensure!(cluster.kubectl(["get", "configmap", "before", &field(".data.a")])? == "b", "reads go on");
    ensure!(cluster.kubectl(["logs", "stays", "--tail=1"])?.starts_with("alive"));
    // A container that ends meanwhile: its pod's processes must not mind that nothing can be written down.
    cluster.feed(b"over", ["attach", "-i", "ends"])?;

    std::fs::remove_file(filler).context("making room")?;
    drop(file);
    cluster.eventually("writes work again", || {
        Ok(cluster.try_kubectl(["create", "configmap", "after"])?.status.success())
    })?;
    let code = field(".status.containerStatuses[0].state.terminated.exitCode");
    cluster.eventually("the code of what ended meanwhile is told", || {
        Ok(cluster.kubectl(["get", "pod", "ends", &code])? == "3")
    })?;
    let restarts = field(".status.containerStatuses[0].restartCount");
    ensure!(cluster.kubectl(["get", "pod", "stays", &restarts])? == "0");
    let maps = ["get", "configmaps", "-o", "name", "--field-selector=metadata.name!=kube-root-ca.crt"];
    ensure!(cluster.kubectl(maps)? == "configmap/after\nconfigmap/before\n");
    // What is on disk is whole.
    cluster.kill()?;
    cluster.up()?;
    ensure!(cluster.kubectl(maps)? == "configmap/after\nconfigmap/before\n");
    ensure!(cluster.kubectl(["get", "pod", "ends", &code])? == "3");
    Ok(())
}
