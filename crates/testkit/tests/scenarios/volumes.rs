//! Claims and their volumes: what a pod writes is there for the next one, and goes with the claim.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

#[test]
fn claims_outlive_pods_and_volumes_go_with_claims() -> Result<()> {
    let cluster = Cluster::start(97)?;
    cluster.import(&Image::busybox(&["box:1"], &["sh"]))?;
    cluster.eventually("the class is there", || {
        Ok(cluster.kubectl(["get", "storageclass"])?.contains("local-path (default)"))
    })?;
    cluster.apply(CLAIM)?;
    let of = |path: &str| cluster.kubectl(["get", "pvc", "data", &field(path)]);
    cluster.eventually("the claim waits for a pod", || {
        Ok(cluster.kubectl(["describe", "pvc", "data"])?.contains("WaitForFirstConsumer"))
    })?;
    cluster.apply(&pod("writer", "echo kept > /data/file; ls /scratch"))?;
    let over = ["wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s"];
    cluster.kubectl([over[0], over[1], over[2], "pod/writer"])?;
    ensure!(of(".status.phase")? == "Bound" && of(".status.capacity.storage")? == "16Mi");
    let volume = of(".spec.volumeName")?;
    let path = cluster.kubectl(["get", "pv", &volume, &field(".spec.local.path")])?;
    ensure!(std::fs::read_to_string(format!("{path}/file"))? == "kept\n");

    // A claim that asks for more gets it.
    let more = r#"{"spec": {"resources": {"requests": {"storage": "32Mi"}}}}"#;
    cluster.kubectl(["patch", "pvc", "data", "-p", more])?;
    cluster.kubectl([
        "wait",
        "--for=jsonpath={.status.capacity.storage}=32Mi",
        "pvc/data",
        "--timeout=60s",
    ])?;

    // A pod that is there keeps its claim, however often somebody deletes it.
    cluster.apply(&pod("reader", "cat /data/file; sleep 600"))?;
    cluster.ready(&["pod/reader"])?;
    ensure!(cluster.kubectl(["logs", "reader"])? == "kept\n");
    cluster.kubectl(["delete", "pvc", "data", "--wait=false"])?;
    ensure!(!of(".metadata.deletionTimestamp")?.is_empty() && of(".status.phase")? == "Bound");
    cluster.kubectl(["delete", "pod", "reader", "writer", "--grace-period=1"])?;
    cluster.kubectl(["wait", "--for=delete", "pvc/data", "--timeout=60s"])?;
    cluster.kubectl(["wait", "--for=delete", &format!("pv/{volume}"), "--timeout=60s"])?;
    ensure!(!std::path::Path::new(&path).exists(), "the claim's directory is gone");
    cluster.eventually("ephemeral claims have gone with their pods", || {
        Ok(cluster.kubectl(["get", "pvc", "-o", "name"])?.is_empty())
    })
}

/// A volume that somebody made by hand is found by size, and stays when its claim goes.
#[test]
fn volumes_made_by_hand_are_found_and_retained() -> Result<()> {
    let cluster = Cluster::start(98)?;
    let dir = tempfile::tempdir()?;
    cluster.apply(&BY_HAND.replace("PATH", &dir.path().join("small").to_string_lossy()))?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Bound", "pvc/found", "--timeout=60s"])?;
    ensure!(cluster.kubectl(["get", "pvc", "found", &field(".spec.volumeName")])? == "small");
    cluster.kubectl(["delete", "pvc", "found"])?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Released", "pv/small", "--timeout=60s"])?;
    // Whoever frees it makes it available again.
    cluster.kubectl([
        "patch",
        "pv",
        "small",
        "--type=json",
        "-p",
        r#"[{"op":"remove","path":"/spec/claimRef"}]"#,
    ])?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Available", "pv/small", "--timeout=60s"])?;

    // One that is to be recycled is emptied, and free again.
    let scrubber = "registry.k8s.io/build-image/debian-base:bookworm-v1.0.2";
    cluster.import(&Image::busybox(&[scrubber], &["sh"]))?;
    let full = dir.path().join("full");
    std::fs::create_dir_all(full.join("a/b"))?;
    std::fs::write(full.join("a/.hidden"), "old")?;
    cluster.apply(&RECYCLED.replace("PATH", &full.to_string_lossy()))?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Bound", "pvc/again", "--timeout=60s"])?;
    cluster.kubectl(["delete", "pvc", "again"])?;
    cluster.kubectl(["wait", "--for=jsonpath={.status.phase}=Available", "pv/full", "--timeout=60s"])?;
    ensure!(std::fs::read_dir(&full)?.next().is_none(), "it is empty");
    Ok(())
}

const CLAIM: &str = "
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 16Mi}}}
";

fn pod(name: &str, script: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  restartPolicy: Never
  volumes:
  - {{name: data, persistentVolumeClaim: {{claimName: data}}}}
  - name: scratch
    ephemeral: {{volumeClaimTemplate: {{spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Mi}}}}}}}}}}
  containers:
  - name: c
    image: 'box:1'
    command: [sh, -c, '{script}']
    volumeMounts: [{{name: data, mountPath: /data}}, {{name: scratch, mountPath: /scratch}}]
"
    )
}

const BY_HAND: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: small}
spec: {storageClassName: hand, capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], hostPath: {path: PATH}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: large}
spec: {storageClassName: hand, capacity: {storage: 9Gi}, accessModes: [ReadWriteOnce], hostPath: {path: PATH}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: found}
spec: {storageClassName: hand, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";

const RECYCLED: &str = "
apiVersion: v1
kind: PersistentVolume
metadata: {name: full}
spec:
  storageClassName: recycled
  persistentVolumeReclaimPolicy: Recycle
  capacity: {storage: 1Gi}
  accessModes: [ReadWriteOnce]
  hostPath: {path: PATH}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: again}
spec: {storageClassName: recycled, accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
