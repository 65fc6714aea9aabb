//! Pods outlive the server.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

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
