//! `kubectl logs`, in all its forms.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: talk, labels: {talk: much}}
spec:
  containers:
  - {name: a, image: 'busybox:1', command: [sh, -c, 'for i in 1 2 3 4 5; do echo a$i; done; sleep 3600']}
  - {name: b, image: 'busybox:1', command: [sh, -c, 'for i in 1 2 3 4 5; do echo b$i >&2; done; sleep 3600']}
---
apiVersion: v1
kind: Pod
metadata: {name: again}
spec:
  containers:
  - name: c
    image: busybox:1
    command: [sh, -c, 'echo x >> /seen/runs; echo run $(wc -l < /seen/runs); test $(wc -l < /seen/runs) -gt 1 && sleep 3600']
    volumeMounts: [{name: seen, mountPath: /seen}]
  volumes: [{name: seen, emptyDir: {}}]
---
apiVersion: v1
kind: Pod
metadata: {name: ends}
spec:
  restartPolicy: Never
  containers:
  - {name: c, image: 'busybox:1', command: [sh, -c, 'echo one; while ! test -e /tmp/go; do sleep 0.1; done; echo two']}
";

#[test]
fn logs_show_what_is_asked_for() -> Result<()> {
    let cluster = Cluster::start(67)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    cluster.apply(PODS)?;
    cluster.ready(&["pod/talk", "pod/ends"])?;
    cluster.eventually("everything is said", || {
        Ok(cluster.kubectl(["logs", "talk", "--all-containers"])?.lines().count() == 10)
    })?;
    let logs = |arguments: &[&str]| cluster.kubectl(["logs"].iter().chain(arguments));
    ensure!(logs(&["talk"])? == "a1\na2\na3\na4\na5\n", "the first container is the default");
    ensure!(logs(&["talk", "-c", "b", "--tail=2"])? == "b4\nb5\n");
    ensure!(logs(&["talk", "--tail=0"])?.is_empty());
    ensure!(logs(&["talk", "--limit-bytes=4"])?.starts_with("a1\na"));
    ensure!(logs(&["talk", "--since=1h"])?.lines().count() == 5);
    ensure!(logs(&["talk", "--since-time=2099-01-01T00:00:00Z"])?.is_empty());
    ensure!(logs(&["talk", "--since-time=2000-01-01T00:00:00Z"])?.lines().count() == 5);
    let both = logs(&["-l", "talk=much", "--all-containers", "--prefix", "--tail=1"])?;
    ensure!(both.contains("[pod/talk/a] a5\n") && both.contains("[pod/talk/b] b5\n"), "{both}");
    let stamped = logs(&["talk", "--timestamps", "--tail=1"])?;
    let (time, text) = stamped.trim_end().split_once(' ').context("a time and a text")?;
    ensure!(time.ends_with('Z') && time.contains('T') && text == "a5", "{stamped}");

    let mut following = cluster.spawn_kubectl(["logs", "-f", "ends"])?;
    let mut out = BufReader::new(following.0.stdout.take().context("kubectl's standard output")?);
    let mut followed = String::new();
    out.read_line(&mut followed)?;
    ensure!(followed == "one\n", "{followed}");
    cluster.kubectl(["exec", "ends", "--", "touch", "/tmp/go"])?;
    out.read_to_string(&mut followed)?;
    ensure!(followed == "one\ntwo\n", "{followed}");
    ensure!(following.0.wait()?.success(), "following ends with the container");

    let restarts = field(".status.containerStatuses[0].restartCount");
    cluster.eventually("the container runs again", || {
        Ok(cluster.kubectl(["get", "pod", "again", &restarts])? == "1"
            && cluster.kubectl(["logs", "again"])? == "run 2\n")
    })?;
    ensure!(logs(&["again", "--previous"])? == "run 1\n");
    for (arguments, why) in [
        (["logs", "talk", "--previous"], "previous terminated container \"a\" in pod \"talk\" not found"),
        (["logs", "talk", "-c=none"], "container none is not valid for pod talk"),
        (["logs", "none", "-c=a"], "pods \"none\" not found"),
    ] {
        let said = cluster.refused(arguments)?;
        ensure!(said.contains(why), "{said}");
    }
    Ok(())
}
