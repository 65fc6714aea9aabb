//! Deployments and Jobs in the hands of kubectl.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, image::Image};

use crate::field;

const IMAGE: &str = ".spec.template.spec.containers[0].image";

fn rolled_out(cluster: &Cluster) -> Result<()> {
    let told = cluster.kubectl(["rollout", "status", "deployment/web", "--timeout=120s"])?;
    ensure!(told.contains("successfully rolled out"), "{told}");
    Ok(())
}

#[test]
fn rollouts_go_forth_and_back() -> Result<()> {
    let cluster = Cluster::start(68)?;
    cluster.import(&Image::busybox(
        &["web:1", "web:2"],
        &["sh", "-c", "trap exit TERM; while true; do sleep 0.2; done"],
    ))?;
    let get = |path: &str| cluster.kubectl(["get", "deployment", "web", &field(path)]);
    cluster.kubectl(["create", "deployment", "web", "--image=web:1", "--replicas=2"])?;
    rolled_out(&cluster)?;

    let said = cluster.refused(["scale", "deployment/web", "--current-replicas=5", "--replicas=1"])?;
    ensure!(said.contains("Expected replicas to be 5, was 2"), "{said}");
    cluster.kubectl(["scale", "deployment/web", "--current-replicas=2", "--replicas=3"])?;
    rolled_out(&cluster)?;
    ensure!(get(".status.readyReplicas")? == "3");
    cluster.kubectl([
        "patch",
        "deployment",
        "web",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":1}}"#,
    ])?;
    rolled_out(&cluster)?;

    cluster.kubectl(["set", "image", "deployment/web", "web=web:2"])?;
    cluster.kubectl(["annotate", "deployment", "web", "kubernetes.io/change-cause=a newer image"])?;
    rolled_out(&cluster)?;
    let history = cluster.kubectl(["rollout", "history", "deployment/web"])?;
    ensure!(history.contains("1         <none>") && history.contains("2         a newer image"), "{history}");
    let revision = cluster.kubectl(["rollout", "history", "deployment/web", "--revision=1"])?;
    ensure!(revision.contains("Image:\tweb:1"), "{revision}");
    cluster.kubectl(["rollout", "undo", "deployment/web", "--to-revision=1"])?;
    rolled_out(&cluster)?;
    ensure!(get(IMAGE)? == "web:1");
    cluster.kubectl(["rollout", "undo", "deployment/web"])?;
    rolled_out(&cluster)?;
    ensure!(get(IMAGE)? == "web:2");
    let said = cluster.refused(["rollout", "undo", "deployment/web", "--to-revision=99"])?;
    ensure!(said.contains("unable to find specified revision 99"), "{said}");

    cluster.kubectl(["rollout", "pause", "deployment/web"])?;
    cluster.kubectl(["set", "env", "deployment/web", "COLOUR=blue"])?;
    cluster.kubectl(["set", "resources", "deployment/web", "--requests=cpu=10m", "--limits=memory=64Mi"])?;
    cluster.eventually("the changes are seen", || {
        Ok(get(".status.observedGeneration")? == get(".metadata.generation")?)
    })?;
    let blue = |cluster: &Cluster| {
        let colour = field(".items[*].spec.containers[0].env[0].value");
        cluster.kubectl(["get", "pods", "-l", "app=web", &colour])
    };
    ensure!(blue(&cluster)?.is_empty(), "a paused Deployment makes no new pods");
    cluster.kubectl(["rollout", "resume", "deployment/web"])?;
    rolled_out(&cluster)?;
    ensure!(blue(&cluster)?.contains("blue"));
    cluster.kubectl(["rollout", "restart", "deployment/web"])?;
    rolled_out(&cluster)?;
    ensure!(get(".spec.template.metadata.annotations")?.contains("restartedAt"));

    // Who deletes the owner decides what becomes of what it owns.
    cluster.kubectl(["delete", "deployment", "web", "--cascade=orphan"])?;
    let sets = cluster.kubectl(["get", "replicasets", "-l", "app=web", "-o", "name"])?;
    ensure!(sets.lines().count() >= 2, "{sets}");
    cluster.kubectl(["delete", "replicasets", "-l", "app=web", "--cascade=foreground", "--timeout=60s"])?;
    ensure!(cluster.kubectl(["get", "pods", "-l", "app=web", "-o", "name"])?.is_empty(), "pods go first");

    cluster.kubectl(["create", "deployment", "web", "--image=web:1"])?;
    rolled_out(&cluster)?;
    cluster.kubectl(["delete", "deployment", "web", "--cascade=background"])?;
    cluster.kubectl(["wait", "--for=delete", "replicasets,pods", "-l", "app=web", "--timeout=60s"])?;

    cluster.kubectl([
        "create",
        "cronjob",
        "tick",
        "--image=web:1",
        "--schedule=0 0 1 1 *",
        "--",
        "echo",
        "tock",
    ])?;
    cluster.kubectl(["create", "job", "now", "--from=cronjob/tick"])?;
    cluster.kubectl(["wait", "--for=condition=Complete", "job/now", "--timeout=60s"])?;
    ensure!(cluster.kubectl(["logs", "job/now"])? == "tock\n");
    Ok(())
}
