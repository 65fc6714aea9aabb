//! Jobs that take their work from a queue: a real broker of AMQP behind a Service, found by its name.

use std::{fs::File, path::Path};

use anyhow::{Result, ensure};
use serde_json::json;
use tiphys_testkit::{
    Cluster, example,
    image::{Layer, archive},
    program,
};

use crate::field;

/// Takes one item, works on it, and says to the broker that it is done.
const ONE: &str = r#"exec amqp-consume --url="$BROKER_URL" -q "$QUEUE" -c 1 -- cat"#;

/// Takes items until there are no more, which `amqp-get` tells by 2.
const ALL: &str =
    r#"while item=$(amqp-get --url="$BROKER_URL" -q "$QUEUE") || exit $(($? != 2)); do echo "$item"; done"#;

/// The broker, as its own image has it: whoever comes by the network may be its guest.
fn images(to: &Path) -> Result<()> {
    let packages = program("BROKER")?;
    let mut layer = Layer::new()?;
    layer.busybox(&[])?;
    for tool in ["amqp-consume", "amqp-declare-queue", "amqp-get", "amqp-publish"] {
        let at = format!("usr/bin/{tool}");
        layer.copy(&at, &packages.join(&at), 0o755)?;
    }
    for part in ["usr/lib/erlang", "usr/lib/rabbitmq"] {
        layer.tree(part, &packages.join(part))?;
    }
    layer.file("etc/nsswitch.conf", 0o644, b"hosts: files dns\n")?;
    layer.file("etc/rabbitmq/rabbitmq.conf", 0o644, b"loopback_users = none\n")?;
    let layer = layer.finish(Some(&packages.join("usr/lib/x86_64-linux-gnu")))?;
    let image = |name: &str, command: &[&str]| {
        let path = "PATH=/usr/lib/rabbitmq/bin:/usr/lib/erlang/bin:/usr/bin:/bin";
        let environment = [path, "HOME=/var/lib/rabbitmq"];
        (vec![format!("{name}:latest")], json!({"Cmd": command, "Env": environment}))
    };
    let images = [
        image("rabbitmq", &["sh", "-c", "mkdir -p $HOME /var/log/rabbitmq; exec rabbitmq-server"]),
        image("myrepo/job-wq-1", &["sh", "-c", ONE]),
        image("gcr.io/myproject/job-wq-2", &["sh", "-c", ALL]),
    ];
    archive(File::create(to)?, &layer, &images)
}

/// Puts items into a queue, from a pod.
fn fill(cluster: &Cluster, queue: &str, items: &[String]) -> Result<()> {
    let url = "--url=amqp://guest:guest@rabbitmq-service:5672";
    let items = items.join(" ");
    let publish = format!("amqp-publish {url} -r {queue} -p -b $item");
    let fill = format!(
        "set -e; amqp-declare-queue {url} -q {queue} -d; for item in {items}; do {publish}; done; echo filled"
    );
    let (name, image) = (format!("fill-{queue}"), "--image=myrepo/job-wq-1");
    cluster.kubectl(["run", &name, image, "--restart=Never", "--", "sh", "-c", &fill])?;
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    cluster.kubectl(["wait", done, &format!("pod/{name}"), "--timeout=60s"])?;
    ensure!(cluster.kubectl(["logs", &name])?.ends_with("filled\n"));
    Ok(())
}

/// Runs a Job over the items of its queue. Returns how many of its pods were of use.
fn work(cluster: &Cluster, manifest: &str, job: &str, queue: &str, items: &[String]) -> Result<String> {
    fill(cluster, queue, items)?;
    cluster.apply(&example(manifest)?)?;
    cluster.kubectl(["wait", "--for=condition=Complete", &format!("job/{job}"), "--timeout=120s"])?;
    let log = cluster.kubectl(["logs", "-l", &format!("job-name={job}"), "--tail=-1"])?;
    // What is taken from a queue has no line's end.
    let mut worked: Vec<&str> = log.lines().flat_map(|line| line.split_inclusive('.')).collect();
    worked.sort_unstable();
    ensure!(worked == items, "{job} worked on {worked:?} of {items:?}");
    cluster.kubectl(["get", "job", job, &field(".status.succeeded")])
}

#[test]
fn jobs_take_their_work_from_a_queue() -> Result<()> {
    let cluster = Cluster::start(95)?;
    let file = cluster.dir().join("images.tar");
    images(&file)?;
    cluster.tiphys(["image".as_ref(), "import".as_ref(), file.as_os_str()])?;
    cluster.apply(&example("rabbitmq.yaml")?)?;
    cluster.ready(&["pods", "-l", "component=rabbitmq"])?;

    let items = |count: usize| -> Vec<String> { (10..10 + count).map(|n| format!("item-{n}.")).collect() };
    // Each of eight pods takes one item, two pods at a time.
    let succeeded = work(&cluster, "job-workqueue-fixed.yaml", "job-wq-1", "job1", &items(8))?;
    ensure!(succeeded == "8", "{succeeded}");
    // Two pods take as many as there are.
    let succeeded = work(&cluster, "job-workqueue-open.yaml", "job-wq-2", "job2", &items(20))?;
    ensure!(succeeded == "2", "{succeeded}");
    Ok(())
}
