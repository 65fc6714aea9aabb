//! What streams between a client and a container, over WebSocket and over SPDY.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image, page};

use crate::field;

const PODS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: tools}
spec:
  containers: [{name: c, image: 'busybox:1', command: [sleep, '3600']}]
---
apiVersion: v1
kind: Pod
metadata: {name: listener}
spec:
  containers:
  - {name: c, image: 'busybox:1', stdin: true, command: [sh, -c, 'while read line; do echo got $line; done']}
---
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  containers: [{name: c, image: 'busybox:1', stdin: true, tty: true, command: [sh]}]
";

#[test]
fn streams_reach_containers_over_websocket_and_spdy() -> Result<()> {
    let mut cluster = Cluster::start(66)?;
    cluster.import(&Image::busybox(&["busybox:1"], &["sh"]))?;
    cluster.import(&Image::web(&["web:1"]))?;
    cluster.apply(PODS)?;
    cluster.kubectl(["create", "deployment", "web", "--image=web:1"])?;
    cluster.kubectl(["expose", "deployment", "web", "--port=8080", "--target-port=80"])?;
    cluster.ready(&["pod/tools", "pod/listener", "pod/shell"])?;
    cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    for websockets in ["true", "false"] {
        cluster.tell_kubectl(&[
            ("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", websockets),
            ("KUBECTL_PORT_FORWARD_WEBSOCKETS", websockets),
        ]);
        exec(&cluster)?;
        attach(&cluster)?;
        copy(&cluster)?;
        forward(&cluster)?;
        run(&cluster)?;
    }
    debug(&cluster)
}

fn exec(cluster: &Cluster) -> Result<()> {
    let output =
        cluster.feed(b"typed", ["exec", "-i", "tools", "--", "sh", "-c", "cat; echo bad >&2; exit 4"])?;
    ensure!(output.status.code() == Some(4) && output.stdout == b"typed", "{output:?}");
    ensure!(output.stderr.starts_with(b"bad\n"), "{output:?}");
    let much = vec![b'x'; 3 << 20];
    let output = cluster.feed(&much, ["exec", "-i", "tools", "--", "cat"])?;
    ensure!(output.status.success() && output.stdout == much, "{} bytes came back", output.stdout.len());
    let said = cluster.refused(["exec", "tools", "--", "nonexistent"])?;
    ensure!(said.contains("\"nonexistent\": executable file not found in $PATH"), "{said}");
    let said = cluster.refused(["exec", "tools", "-c", "other", "--", "true"])?;
    ensure!(said.contains("container other is not valid for pod tools"), "{said}");
    let name = cluster.kubectl(["exec", "service/web", "--", "hostname"])?;
    ensure!(name.starts_with("web-"), "{name}");

    let mut terminal = cluster.terminal(["exec", "-it", "tools", "--", "sh"])?;
    terminal.type_in("stty size; tty; echo seen-$((6*7))\n")?;
    let screen = terminal.shows("seen-42")?;
    ensure!(screen.contains("33 101") && screen.contains("/dev/pts/"), "{screen}");
    terminal.type_in("exit 5\n")?;
    ensure!(terminal.code()? == Some(5));
    Ok(())
}

fn attach(cluster: &Cluster) -> Result<()> {
    let mut terminal = cluster.terminal(["attach", "-i", "listener"])?;
    terminal.type_in("one\n")?;
    terminal.shows("got one")?;
    drop(terminal);
    let mut terminal = cluster.terminal(["attach", "-it", "shell"])?;
    // kubectl makes the terminal larger first, so that a program that is attached to draws itself anew.
    terminal.type_in("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo seen-$((6*7))\n")?;
    terminal.shows("seen-42")?;
    drop(terminal);
    let restarts = field(".status.containerStatuses[0].restartCount");
    ensure!(
        cluster.kubectl(["get", "pod", "shell", &restarts])? == "0",
        "leaving must not end the container"
    );
    Ok(())
}

fn copy(cluster: &Cluster) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (here, back) = (dir.path().join("here"), dir.path().join("back"));
    std::fs::create_dir_all(here.join("sub"))?;
    std::fs::write(here.join("sub/file"), "content")?;
    cluster.kubectl(["exec", "tools", "--", "rm", "-rf", "/tmp/there"])?;
    cluster.kubectl(["cp".as_ref(), here.as_os_str(), "tools:/tmp/there".as_ref()])?;
    ensure!(cluster.kubectl(["exec", "tools", "--", "cat", "/tmp/there/sub/file"])? == "content");
    cluster.kubectl(["cp".as_ref(), "tools:/tmp/there".as_ref(), back.as_os_str()])?;
    ensure!(std::fs::read_to_string(back.join("sub/file"))? == "content");
    // The other side ends before it has read much.
    std::fs::write(here.join("large"), vec![b'x'; 8 << 20])?;
    let said = cluster.refused(["cp".as_ref(), here.as_os_str(), "tools:/proc/there".as_ref()])?;
    ensure!(said.contains("command terminated with exit code 1"), "{said}");
    Ok(())
}

fn forward(cluster: &Cluster) -> Result<()> {
    let pod = cluster.kubectl(["get", "pods", "-l", "app=web", "-o", "name"])?;
    for (target, port) in [("deployment/web", 80), ("service/web", 8080), (pod.trim(), 80)] {
        let (_forwarding, port) = cluster.forward(target, port)?;
        std::thread::scope(|scope| {
            let visits: Vec<_> = (0..8).map(|_| scope.spawn(|| page(port))).collect();
            for visit in visits {
                let page = visit.join().map_err(|_| anyhow::anyhow!("a visitor panicked"))??;
                ensure!(page.starts_with("web-"), "{target}: {page}");
            }
            Ok(())
        })?;
    }
    let (mut forwarding, port) = cluster.forward(pod.trim(), 81)?;
    ensure!(page(port).is_err(), "nobody serves there");
    ensure!(!forwarding.0.wait()?.success(), "kubectl ends when a port refuses");
    Ok(())
}

fn run(cluster: &Cluster) -> Result<()> {
    let once = ["run", "once", "-i", "--rm", "--restart=Never", "--image=busybox:1", "--"];
    let output = cluster.feed(b"typed", once.into_iter().chain(["sh", "-c", "cat; exit 3"]))?;
    ensure!(output.status.code() == Some(3), "{output:?}");
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(said.matches("typed").count() == 1, "{output:?}");

    let at_once = ["run", "person", "-it", "--rm", "--restart=Never", "--image=busybox:1", "--", "sh"];
    let mut terminal = cluster.terminal(at_once)?;
    terminal.type_in("echo seen-$((6*7))\n")?;
    terminal.shows("seen-42")?;
    terminal.type_in("exit 6\n")?;
    ensure!(terminal.code()? == Some(6));
    ensure!(cluster.refused(["get", "pod", "person"])?.contains("NotFound"));
    Ok(())
}

/// A container joins a running pod.
fn debug(cluster: &Cluster) -> Result<()> {
    let mut terminal =
        cluster.terminal(["debug", "-it", "tools", "--image=busybox:1", "--target=c", "--", "sh"])?;
    terminal.type_in("ps; echo seen-$((6*7))\n")?;
    let screen = terminal.shows("seen-42")?;
    ensure!(screen.contains("sleep 3600"), "it shares the processes of its target: {screen}");
    terminal.type_in("exit 7\n")?;
    terminal.code()?;
    let code = field(".status.ephemeralContainerStatuses[0].state.terminated.exitCode");
    cluster.eventually("the end of the container for debugging is told", || {
        Ok(cluster.kubectl(["get", "pod", "tools", &code])? == "7")
    })
}
