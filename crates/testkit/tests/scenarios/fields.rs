//! The younger fields of pods: variables from files, rules of restart, images as volumes, other resources while a
//! container runs.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

#[test]
fn what_pods_ask_for_is_acted_on() -> Result<()> {
    let cluster = Cluster::start(96)?;
    cluster.import(&Image::busybox(&["box:1"], &["sh"]))?;
    cluster.apply(POD)?;
    cluster.ready(&["pod/young"])?;
    let of = |path: &str| cluster.kubectl(["get", "pod", "young", &field(path)]);
    // The first instance ended with 42, which one of its rules restarts.
    ensure!(of(".status.containerStatuses[0].restartCount")? == "1", "it was restarted once");
    ensure!(of(".status.containerStatuses[0].stopSignal")? == "SIGUSR1");
    ensure!(cluster.kubectl(["logs", "young"])? == "from a file\nsh\n");

    let limit = || cluster.kubectl(["exec", "young", "--", "sh", "-c", QUOTA]);
    ensure!(limit()?.starts_with("20000"), "{}", limit()?);
    let more = r#"{"spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}}}]}}"#;
    cluster.kubectl(["patch", "pod", "young", "--subresource=resize", "-p", more])?;
    let given = "--for=jsonpath={.status.containerStatuses[0].resources.limits.cpu}=300m";
    cluster.kubectl(["wait", given, "pod/young", "--timeout=60s"])?;
    ensure!(limit()?.starts_with("30000"), "{}", limit()?);
    ensure!(of(".status.containerStatuses[0].restartCount")? == "1", "it runs on");

    // The signal that it names ends it at once.
    cluster.kubectl(["delete", "pod", "young"])?;
    Ok(())
}

/// The container's own quota, on either version of control groups.
const QUOTA: &str = "cat /sys/fs/cgroup/cpu.max 2>/dev/null || cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us";

const POD: &str = r#"
apiVersion: v1
kind: Pod
metadata: {name: young}
spec:
  os: {name: linux}
  restartPolicy: Never
  terminationGracePeriodSeconds: 600
  volumes:
  - {name: work, emptyDir: {}}
  - {name: files, image: {reference: "box:1", pullPolicy: IfNotPresent}}
  initContainers:
  - name: writer
    image: box:1
    command: [sh, -c, "echo \"GREETING='from a file'\" > /work/env"]
    volumeMounts: [{name: work, mountPath: /work}]
  containers:
  - name: c
    image: box:1
    command: [sh, -c, "[ -e /work/again ] || { touch /work/again; exit 42; }; trap 'exit 0' USR1; echo $GREETING; ls /files/bin | grep -x sh; while :; do sleep 0.05; done"]
    env: [{name: GREETING, valueFrom: {fileKeyRef: {volumeName: work, path: env, key: GREETING}}}]
    restartPolicy: Never
    restartPolicyRules: [{action: Restart, exitCodes: {operator: In, values: [42]}}]
    lifecycle: {stopSignal: SIGUSR1}
    resources: {requests: {cpu: 100m}, limits: {cpu: 200m}}
    volumeMounts:
    - {name: work, mountPath: /work}
    - {name: files, mountPath: /files}
"#;
