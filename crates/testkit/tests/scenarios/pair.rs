//! Two whole servers over one etcd, each a node in a network namespace of its own.

use std::io::{BufRead, BufReader};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, Pair, image::Image};

use crate::{
    election::{holder, outlives},
    field,
};

const WEB: &str = "
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: page}
spec:
  selector: {matchLabels: {app: page}}
  template:
    metadata: {labels: {app: page}}
    spec: {containers: [{name: c, image: 'page:1'}]}
---
apiVersion: v1
kind: Service
metadata: {name: page}
spec: {selector: {app: page}, ports: [{port: 80}]}
";

/// What stands in one field of objects, separated by blanks.
fn fields(server: &Cluster, kind: &str, path: &str) -> Result<Vec<String>> {
    let told = server.kubectl(["get", kind, "--sort-by=.metadata.name", &field(path)])?;
    Ok(told.split(' ').map(str::to_owned).collect())
}

/// Each of the pods, told by the server that is not its node's, asks for the pages of all of them, and who they are.
fn reach_each_other(pair: &Pair) -> Result<()> {
    let Pair { first, second, .. } = pair;
    let of_pods = |path: &str| {
        let path = field(&format!(".items[*]{path}"));
        let told =
            second.kubectl(["get", "pods", "--selector=app=page", "--sort-by=.spec.nodeName", &path])?;
        anyhow::Ok(told.split(' ').map(str::to_owned).collect::<Vec<_>>())
    };
    let (names, addresses) = (of_pods(".metadata.name")?, of_pods(".status.podIP")?);
    ensure!(of_pods(".spec.nodeName")? == ["scenario", "second"]);
    let service = second.kubectl(["get", "service", "page", &field(".spec.clusterIP")])?;
    for (name, server) in names.iter().zip([second, first]) {
        let within = |command: &str| server.kubectl(["exec", name, "--", "sh", "-c", command]);
        // Of a static busybox, wget may not be able to look a host up.
        let ask = |host: &str| within(&format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {host} 80"));
        for (address, page) in addresses.iter().zip(&names) {
            server.eventually("a pod is reached by its address", || Ok(ask(address)?.contains(page)))?;
            server.eventually("it answers for the Service", || Ok(ask(&service)?.contains(page)))?;
        }
        server.eventually("the name of the Service is known", || {
            Ok(within("nslookup page.default.svc.cluster.local")?.contains(&service))
        })?;
    }
    Ok(())
}

/// What one of them acknowledges, the other has.
fn show_what_is_written(pair: &Pair) -> Result<()> {
    for (writer, reader) in [(&pair.first, &pair.second), (&pair.second, &pair.first)] {
        let mut watch = reader.spawn_kubectl(["get", "secrets", "-w", "-o=jsonpath={.data.k} "])?;
        let mut seen = BufReader::new(watch.0.stdout.take().context("what the watch prints")?);
        for number in 0..10 {
            let (name, pair) = (format!("written-{number}"), format!("--from-literal=k={number}"));
            writer.kubectl(["create", "secret", "generic", &name, &pair])?;
            let listed = fields(reader, "secrets", ".items[*].metadata.name")?;
            ensure!(listed.contains(&name), "{name} is not among {listed:?}");
            let mut told = Vec::new();
            seen.read_until(b' ', &mut told)?;
            let data = reader.kubectl(["get", "secret", &name, &field(".data.k")])?;
            ensure!(told.trim_ascii_end() == data.as_bytes(), "{}, {data}", String::from_utf8_lossy(&told));
        }
        writer.kubectl(["delete", "secrets", "--all"])?;
        ensure!(fields(reader, "secrets", ".items[*].metadata.name")? == [""]);
    }
    Ok(())
}

/// What one of them vouches for, the other believes.
fn believe_each_other(pair: &Pair) -> Result<()> {
    for (one, other) in [(&pair.first, &pair.second), (&pair.second, &pair.first)] {
        let token = one.kubectl(["create", "token", "default"])?;
        let told = other.try_kubectl_with_token(token.trim(), ["auth", "whoami"])?;
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        ensure!(told.contains("system:serviceaccount:default:default"), "{told}");
        // By certificates of one authority, in both directions.
        let told = one.kubectl(["--server", &other.url(), "auth", "whoami"])?;
        ensure!(told.contains("system:masters"), "{told}");
    }
    Ok(())
}

#[test]
fn two_nodes_are_one_cluster_and_either_may_lead() -> Result<()> {
    let Some(mut pair) = Pair::start(85)? else { return Ok(()) };
    let leads = |server: &Cluster, node: &str| Ok(holder(server)?.starts_with(&format!("{node}_")));
    let ranges = fields(&pair.first, "nodes", ".items[*].spec.podCIDR")?;
    ensure!(ranges == ["10.85.128.0/24", "10.85.129.0/24"], "{ranges:?}");
    let servers = fields(&pair.second, "endpointslices", ".items[*].endpoints[*].addresses[*]")?;
    ensure!(servers == ["192.0.2.1", "192.0.2.2"], "{servers:?}");
    show_what_is_written(&pair)?;
    believe_each_other(&pair)?;

    let page = Image::web(&["page:1"]);
    pair.first.import(&page)?;
    pair.second.import(&page)?;
    pair.first.apply(WEB)?;
    pair.second.kubectl(["rollout", "status", "daemonset/page", "--timeout=120s"])?;
    reach_each_other(&pair)?;

    let Pair { first, second, .. } = &mut pair;
    ensure!(leads(second, "scenario")?, "{}", holder(second)?);
    outlives(second, "second", || {
        first.kill()?;
        second.eventually("the second leads", || leads(second, "second"))
    })?;

    // Back again, the first has its range and its pods, and leads no more.
    pair.first.up()?;
    ensure!(fields(&pair.first, "nodes", ".items[*].spec.podCIDR")? == ranges);
    ensure!(leads(&pair.first, "second")?, "{}", holder(&pair.first)?);
    reach_each_other(&pair)
}
