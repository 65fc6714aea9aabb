//! A cluster over etcd, and a second API server beside it.

use std::{
    io::{BufRead, BufReader},
    net::Ipv4Addr,
};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, etcd::Etcd};

use crate::field;

#[test]
fn two_servers_share_an_etcd() -> Result<()> {
    let Some(mut etcd) = Etcd::start(Ipv4Addr::LOCALHOST)? else { return Ok(()) };
    let mut cluster = Cluster::new(95)?;
    cluster.tell_server([etcd.argument()]);
    cluster.up()?;
    let mut other = cluster.beside()?;
    other.serve()?;

    let mut watch = other.spawn_kubectl(["get", "secrets", "-w", "-o=jsonpath={.data.k} "])?;
    cluster.kubectl(["create", "secret", "generic", "s", "--from-literal=k=first"])?;
    other.kubectl(["patch", "secret", "s", "--type=merge", "-p", r#"{"stringData":{"k":"second"}}"#])?;
    let mut seen = BufReader::new(watch.0.stdout.take().context("what the watch prints")?);
    for value in ["Zmlyc3Q= ", "c2Vjb25k "] {
        let mut told = Vec::new();
        seen.read_until(b' ', &mut told)?;
        ensure!(told == value.as_bytes(), "{value}: {}", String::from_utf8_lossy(&told));
    }
    let servers = ["get", "endpoints", "kubernetes", &field(".subsets[*].ports[*].port")].map(str::to_owned);
    let is_there = |server: &Cluster, of: &Cluster| {
        let port = server.url().rsplit(':').next().map(str::to_owned).unwrap_or_default();
        Ok(of.kubectl(&servers)?.split(' ').any(|there| there == port))
    };
    for server in [&cluster, &other] {
        cluster.eventually("both stand behind the Service", || is_there(server, &cluster))?;
    }

    // One goes, the other goes on; then etcd goes, too.
    cluster.kill()?;
    other.eventually("the other is missed", || Ok(!is_there(&cluster, &other)?))?;
    other.kubectl(["delete", "secret", "s"])?;
    etcd.restart()?;
    cluster.up()?;
    other.eventually("etcd is there again", || {
        Ok(other.try_kubectl(["create", "configmap", "after"])?.status.success())
    })?;
    for server in [&cluster, &other] {
        let history = server.kubectl(["get", "secret", "s", "--subresource=history"])?;
        let verbs: Vec<_> = history.lines().skip(1).filter_map(|row| row.split_whitespace().nth(3)).collect();
        ensure!(verbs == ["delete", "update", "create"], "{history}");
        server.kubectl(["get", "configmap", "after"])?;
    }
    Ok(())
}
