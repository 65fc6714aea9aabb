//! Services that want a load balancer, on a host that has none.

use anyhow::{Result, ensure};
use tiphys_testkit::{Cluster, free_port, image::Image};

use crate::field;

const SERVE: [&str; 3] = ["sh", "-c", "echo hello > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"];

#[test]
fn a_load_balancer_answers_at_the_nodes_address() -> Result<()> {
    let cluster = Cluster::start(99)?;
    cluster.import(&Image::busybox(&["web:1"], &SERVE))?;
    cluster.kubectl(["create", "deployment", "web", "--image=web:1"])?;
    let port = free_port()?.to_string();
    let expose = |name: &str| {
        let (name, port) = (format!("--name={name}"), format!("--port={port}"));
        cluster.kubectl([
            "expose",
            "deployment",
            "web",
            &name,
            &port,
            "--target-port=8080",
            "--type=LoadBalancer",
        ])
    };
    expose("first")?;
    let addresses = |service: &str| {
        cluster.kubectl(["get", "service", service, &field(".status.loadBalancer.ingress[*].ip")])
    };
    cluster.eventually("the service has an address", || Ok(!addresses("first")?.is_empty()))?;
    let node = cluster.kubectl([
        "get",
        "nodes",
        &field(".items[0].status.addresses[?(@.type==\"InternalIP\")].address"),
    ])?;
    ensure!(addresses("first")? == node, "{}", addresses("first")?);
    // Of a static busybox, wget may not be able to look a host up.
    let ask = format!("printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 2 {node} {port}");
    let page = || cluster.kubectl(["exec", "deployment/web", "--", "sh", "-c", &ask]);
    cluster
        .eventually("the service answers there", || Ok(page().is_ok_and(|page| page.contains("hello"))))?;

    // Who comes second to a port is told, and has it when the first is gone.
    expose("second")?;
    cluster.eventually("the second is refused", || {
        let told = cluster.kubectl(["describe", "service", "second"])?;
        Ok(told.contains(&format!("port {port}/TCP of {node} is taken by service default/first")))
    })?;
    ensure!(addresses("second")?.is_empty());
    cluster.kubectl(["delete", "service", "first"])?;
    cluster.eventually("the second has the address", || Ok(addresses("second")? == node))?;
    cluster.eventually("the second answers there", || Ok(page().is_ok_and(|page| page.contains("hello"))))?;

    // Nobody but the named may come.
    let ranges = r#"{"spec":{"loadBalancerSourceRanges":["192.0.2.0/24"]}}"#;
    cluster.kubectl(["patch", "service", "second", "--type=merge", "-p", ranges])?;
    cluster.eventually("strangers are not answered", || Ok(!page().is_ok_and(|page| page.contains("hello"))))
}
