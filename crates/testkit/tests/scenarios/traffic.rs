//! What the server tells of itself and of those who ask it.

use std::fs;

use anyhow::{Context, Result, ensure};
use tiphys_testkit::Cluster;

use crate::field;

#[test]
fn the_server_tells_how_it_is_and_who_asked() -> Result<()> {
    let cluster = Cluster::start(79)?;
    let raw = |path: &str| cluster.kubectl(["get", "--raw", path]);
    ensure!(raw("/readyz?verbose")?.contains("readyz check passed"));
    ensure!(raw("/livez/etcd")? == "ok");
    let components = cluster.kubectl(["get", "componentstatuses"])?;
    ensure!(components.lines().filter(|line| line.contains("Healthy")).count() == 3, "{components}");
    let schemas = cluster.kubectl(["get", "flowschemas", &field(".items[*].metadata.name")])?;
    ensure!(schemas.contains("catch-all") && schemas.contains("global-default"), "{schemas}");

    cluster.kubectl(["create", "secret", "generic", "told", "--from-literal=key=never-told"])?;
    let metrics = raw("/metrics")?;
    let counted = metrics.lines().find(|line| {
        let posts = line.starts_with("apiserver_request_total{verb=\"POST\"");
        posts && line.contains("resource=\"secrets\"") && line.contains("code=\"201\"")
    });
    ensure!(counted.is_some(), "{metrics}");
    let log = cluster.data_dir().join("audit/audit.log");
    cluster.eventually("the log tells of the secret", || {
        let told = fs::read_to_string(&log).context("reading the audit log")?;
        ensure!(!told.contains("never-told"), "a secret is in the log");
        Ok(told
            .lines()
            .any(|line| line.contains("\"verb\":\"create\"") && line.contains("\"name\":\"told\"")))
    })
}
