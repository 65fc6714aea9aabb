//! Addresses of load balancers in the node's own link, as other hosts of the link find them.

use serde_json::{Value, json};
use tiphys_network::{Proxy, proxy};

use crate::{
    api::Api,
    bridge::outside,
    live::{node, proxy_config, until},
    proxy::pods,
    support::{Netns, ip, on_a_host},
};

/// A service with this address of a load balancer.
fn balanced(name: &str, cluster_ip: &str, address: &str, policy: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"type": "LoadBalancer", "clusterIP": cluster_ip, "clusterIPs": [cluster_ip],
                 "externalTrafficPolicy": policy, "ports": [{"port": 80, "protocol": "TCP"}]},
        "status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}},
    })
}

fn slice(service: &str, node: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": format!("{service}-1"), "namespace": "default",
                     "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.244.0.2"], "nodeName": node, "conditions": {"ready": true}}],
    })
}

/// Who has the address, as the kernel of another host knows: asked for now, as far as it has forgotten.
fn owner(world: &Netns, address: &'static str) -> impl Fn() -> String + Clone + Send + 'static + use<> {
    let world = world.clone();
    move || {
        world.run(move || {
            let shown = ip(&format!("neigh show {address} dev far"));
            shown
                .split_whitespace()
                .skip_while(|word| *word != "lladdr")
                .nth(1)
                .unwrap_or_default()
                .to_owned()
        })
    }
}

#[test]
fn an_address_in_the_link_is_found_by_its_hosts() {
    on_a_host(|_| async move {
        let world = outside();
        let shown = ip("-o link show wire");
        let hardware =
            shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap().to_owned();
        let dir = tempfile::tempdir().unwrap();
        let network = pods(dir.path()).await;
        let a = Netns::new();
        network.attach(&a.path(), "a", &[]).await.unwrap();
        a.serve(8080, "a");
        // Somebody else had this one before, and the world remembers.
        world.run(|| ip("neigh replace 192.0.2.51 lladdr 02:00:00:00:00:99 dev far nud stale"));

        let api = Api::new();
        api.put("nodes", node("here", "192.0.2.1", "z"));
        api.put("services", balanced("web", "10.96.0.7", "192.0.2.50", "Cluster"));
        api.put("endpointslices", slice("web", "here"));
        let config = proxy::Config {
            announced: vec!["192.0.2.50".parse().unwrap()..="192.0.2.59".parse().unwrap()],
            ..proxy_config()
        };
        let _proxy = tokio::spawn(Proxy::run(api.client(), config, std::future::pending()));
        let ask = |address: &'static str| {
            let world = world.clone();
            move || world.ask(address).map_or_else(|e| e.kind().to_string(), |(name, _)| name)
        };
        until("a".to_owned(), ask("192.0.2.50:80")).await;
        assert_eq!(owner(&world, "192.0.2.50")(), hardware);
        // What no service has of it is refused, by the node: there is nobody to pass it on to.
        until("connection refused".to_owned(), ask("192.0.2.50:81")).await;

        // Without being asked, so that nobody goes on asking whoever had it.
        api.put("services", balanced("moved", "10.96.0.8", "192.0.2.51", "Local"));
        api.put("endpointslices", slice("moved", "here"));
        until(hardware.clone(), owner(&world, "192.0.2.51")).await;
        until("a".to_owned(), ask("192.0.2.51:80")).await;

        // The endpoints are on another node, whose turn it is to answer. An address beyond the ranges is nobody's.
        api.put("endpointslices", slice("moved", "there"));
        api.put("services", balanced("beyond", "10.96.0.9", "192.0.2.60", "Cluster"));
        api.put("endpointslices", slice("beyond", "here"));
        let silent = {
            let world = world.clone();
            move || {
                world.run(|| ip("neigh flush dev far"));
                ["192.0.2.51:80", "192.0.2.60:80"].map(|to| world.hears_nothing_from(to))
            }
        };
        until([true; 2], silent).await;
        assert_eq!(["192.0.2.51", "192.0.2.60"].map(|address| owner(&world, address)()), ["", ""]);
        // The world has forgotten this one, too, and asks anew.
        until("a".to_owned(), ask("192.0.2.50:80")).await;

        // The link goes and comes back under another hardware address.
        ip("link set wire down");
        ip("link set wire address 02:00:00:00:00:07");
        ip("link set wire up");
        until("a".to_owned(), ask("192.0.2.50:80")).await;
        assert_eq!(owner(&world, "192.0.2.50")(), "02:00:00:00:00:07");
    });
}
