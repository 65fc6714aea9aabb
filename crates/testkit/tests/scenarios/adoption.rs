//! Pods outlive the server.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

/// Whether a process has `argument` among its own.
fn runs(argument: &str) -> Result<bool> {
    for entry in std::fs::read_dir("/proc")? {
        // What is no process, or one no more, has none.
        let command = std::fs::read(entry?.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).any(|one| one == argument.as_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn pods_outlive_the_server() -> Result<()> {
    let mut cluster = Cluster::start(64)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    // The program whose end the test brings about has the name of this directory among its arguments.
    let signal = tempfile::Builder::new().prefix("tiphys-signal-").tempdir_in("/var/tmp")?;
    let signal = signal.path();
    cluster.apply(&format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: stays}}\nspec:\n  containers:\n  - name: c\n    image: busybox:1\n    \
         command: [sh, -c, 'echo begun; sleep 3600']\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {{name: ends}}\nspec:\n  restartPolicy: Never\n  containers:\n  - name: c\n    image: busybox:1\n    \
         command: [sh, -c, 'until test -e $0/go; do sleep 0.1; done; echo over; exit 3', {0}]\n    \
         volumeMounts: [{{name: signal, mountPath: {0}}}]\n  \
         volumes: [{{name: signal, hostPath: {{path: {0}}}}}]\n",
        signal.display()
    ))?;
    cluster.kubectl(["wait", "--for=condition=Ready", "pod/stays", "pod/ends", "--timeout=120s"])?;
    let started = field(".status.containerStatuses[0].state.running.startedAt");
    let before = cluster.kubectl(["get", "pod", "stays", &started])?;
    ensure!(runs(&signal.to_string_lossy())?);
    cluster.kill()?;
    std::fs::write(signal.join("go"), "")?;
    cluster.eventually("the container ends", || Ok(!runs(&signal.to_string_lossy())?))?;
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

    cluster.up()?;
    cluster.eventually("the pod that `down` ended runs again", || {
        let count = field(".status.containerStatuses[?(@.ready)].restartCount");
        Ok(cluster.kubectl(["get", "pod", "stays", &count])? == "1")
    })?;
    ensure!(cluster.kubectl(["logs", "stays", "--previous"])?.contains("begun"));
    ensure!(cluster.kubectl(["logs", "ends"])?.contains("over"), "`down` has taken a log with it");
    Ok(())
}
