//! The ways to other nodes' pods.

use serde_json::{Value, json};
use tiphys_network::{cleanup, routes};

use crate::{
    api::Api,
    bridge::outside,
    live::until,
    proxy::{INSTANCE, pods},
    support::{Netns, ip, on_a_host},
};

fn node(name: &str, range: &str, address: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDR": range},
        "status": {"addresses": [{"type": "Hostname", "address": name}, {"type": "InternalIP", "address": address}]},
    })
}

#[test]
fn pods_reach_those_of_a_neighbour() {
    on_a_host(|_| async move {
        // A neighbour with a pod, and no way to ours but the one to this node.
        let neighbour = outside();
        ip("route del default");
        neighbour.run(|| {
            ip("addr add 10.244.7.2/32 dev lo");
            ip("route add 10.244.0.0/24 via 192.0.2.1");
        });
        neighbour.serve(80, "there");
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let a = Netns::new();
        network.attach(&a.path(), "a", &[]).await.unwrap();
        let ask = move || a.ask("10.244.7.2:80").map_err(|error| error.kind());
        let shown = |wanted: &'static str| move || ip("route").contains(wanted);

        // Left by an earlier run of this cluster, and by another cluster.
        ip(&format!("route add 10.244.9.0/24 via 192.0.2.2 proto static metric {}", 0xcafe_f00d_u32));
        ip("route add 10.244.8.0/24 via 192.0.2.2 metric 77");
        let api = Api::new();
        api.put("nodes", node("here", "10.244.0.0/24", "192.0.2.1"));
        api.put("nodes", node("there", "10.244.7.0/24", "192.0.2.2"));
        let config = routes::Config {
            instance: INSTANCE,
            node: "here".to_owned(),
            pod_cidr: "10.244.0.0/24".parse().unwrap(),
            cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        };
        let task = tokio::spawn(routes::run(api.client(), config));
        let answer = Ok(("there".to_owned(), "10.244.0.2".to_owned()));
        until(answer.clone(), ask.clone()).await;
        assert!(!shown("10.244.9.0")() && shown("10.244.8.0")());

        // The kernel forgets a route whose link goes down.
        ip("link set wire down");
        assert!(!shown("10.244.7.0")());
        ip("link set wire up");
        until(answer, ask).await;

        // The neighbour is another machine by now; then there is none.
        api.put("nodes", node("there", "10.244.7.0/24", "192.0.2.9"));
        until(true, shown("via 192.0.2.9")).await;
        api.delete("nodes", "there");
        until(false, shown("10.244.7.0")).await;

        api.put("nodes", node("there", "10.244.7.0/24", "192.0.2.2"));
        until(true, shown("10.244.7.0")).await;
        ip("route add 10.244.8.0/24 via 192.0.2.2 metric 77");
        task.abort();
        cleanup(INSTANCE).await.unwrap();
        assert!(!shown("10.244.7.0")() && shown("10.244.8.0")());
    });
}
