//! Services, as packets find them.

use std::{collections::BTreeMap, net::UdpSocket, path::Path};

use tiphys_network::{
    Instance, PodNetwork, Proxy,
    bridge::Protocol,
    proxy::{
        Config,
        plan::{Frontend, Route},
    },
};

use crate::{
    bridge::outside,
    support::{Netns, ask_from, ip, nft, on_a_host},
};

pub(crate) const INSTANCE: Instance = Instance::new(0xcafe_f00d);

pub(crate) fn proxy() -> Proxy {
    Proxy::new(Config {
        instance: INSTANCE,
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        pod_cidr: "10.244.0.0/16".parse().unwrap(),
        node: "here".to_owned(),
        announced: Vec::new(),
    })
    .unwrap()
}

pub(crate) async fn pods(dir: &Path) -> PodNetwork {
    PodNetwork::new(crate::bridge::config(INSTANCE, dir)).await.unwrap()
}

fn frontend(address: &str, protocol: Protocol) -> Frontend {
    let address: std::net::SocketAddrV4 = address.parse().unwrap();
    Frontend { address: *address.ip(), protocol, port: address.port() }
}

fn tcp(address: &str) -> Frontend {
    frontend(address, Protocol::Tcp)
}

fn udp(address: &str) -> Frontend {
    frontend(address, Protocol::Udp)
}

pub(crate) fn to(endpoints: &[&str]) -> Route {
    let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    Route::Endpoints { endpoints, affinity: None, masquerade: false, sources: None }
}

fn masqueraded(endpoints: &[&str]) -> Route {
    let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    Route::Endpoints { endpoints, affinity: None, masquerade: true, sources: None }
}

fn sticky(endpoints: &[&str], seconds: u32) -> Route {
    let endpoints = endpoints.iter().map(|e| e.parse().unwrap()).collect();
    Route::Endpoints { endpoints, affinity: Some(seconds), masquerade: false, sources: None }
}

pub(crate) fn service<const N: usize>(
    name: &str,
    routes: [(Frontend, Route); N],
) -> tiphys_network::proxy::Update {
    (tiphys_client::ObjectKey::new("default", name), BTreeMap::from(routes))
}

const A: &str = "10.244.0.2:8080";
const B: &str = "10.244.0.3:8080";
const VIP: &str = "10.96.0.10:80";

/// Two pods that serve, `a` and `b`, and one that asks.
async fn three_pods(dir: &Path) -> (PodNetwork, Netns, Netns, Netns) {
    let network = pods(dir).await;
    let (a, b, client) = (Netns::new(), Netns::new(), Netns::new());
    for (id, netns) in [("a", &a), ("b", &b), ("client", &client)] {
        network.attach(&netns.path(), id, &[]).await.unwrap();
    }
    a.serve(8080, "a");
    b.serve(8080, "b");
    (network, a, b, client)
}

fn names(from: &Netns, to: &str, times: usize) -> Vec<String> {
    (0..times).map(|_| from.ask(to).unwrap().0).collect()
}

/// What the bridge itself does to packets that it passes, where the kernel has `br_netfilter`.
const BRIDGE_CALLS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";

#[test]
fn a_cluster_ip_answers_by_turns_from_pods_and_the_node() {
    on_a_host(|host| async move {
        let dir = tempfile::tempdir().unwrap();
        let (_network, a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        proxy
            .replace(vec![service("web", [(tcp(VIP), to(&[A, B])), (udp(VIP), to(&[A, B]))])])
            .await
            .unwrap();

        for bridge_calls in ["0", "1"] {
            if Path::new(BRIDGE_CALLS).exists() {
                std::fs::write(BRIDGE_CALLS, bridge_calls).unwrap();
            }
            for from in [&client, &host, &a] {
                let mut seen = names(from, VIP, 4);
                seen.sort();
                assert_eq!(seen, ["a", "a", "b", "b"]);
                let mut seen: Vec<String> = (0..4).map(|_| from.ask_udp(VIP).unwrap().0).collect();
                seen.sort();
                assert_eq!(seen, ["a", "a", "b", "b"]);
            }
            let peers: Vec<String> = (0..2).map(|_| client.ask(VIP).unwrap().1).collect();
            assert_eq!(peers, ["10.244.0.4"; 2], "pods see who asks");
            // Itself it sees as the node, or its answer would never leave it.
            let peers: Vec<_> = (0..2).map(|_| a.ask(VIP).unwrap()).collect();
            assert!(peers.contains(&("a".into(), "10.244.0.1".into())), "{peers:?}");
        }
    });
}

#[test]
fn node_ports_and_external_addresses_answer_everywhere() {
    on_a_host(|host| async move {
        let world = outside();
        let dir = tempfile::tempdir().unwrap();
        let (_network, a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        proxy
            .replace(vec![service(
                "web",
                [
                    (tcp("0.0.0.0:30080"), masqueraded(&[A])),
                    (udp("0.0.0.0:30080"), masqueraded(&[A])),
                    (tcp("0.0.0.0:30081"), to(&[A])),
                    (tcp("198.51.100.1:80"), masqueraded(&[A])),
                ],
            )])
            .await
            .unwrap();
        world.run(|| ip("route add 198.51.100.1 via 192.0.2.1"));

        assert_eq!(world.ask("192.0.2.1:30080").unwrap(), ("a".into(), "10.244.0.1".into()));
        assert_eq!(world.ask_udp("192.0.2.1:30080").unwrap(), ("a".into(), "10.244.0.1".into()));
        assert_eq!(world.ask("192.0.2.1:30081").unwrap(), ("a".into(), "192.0.2.2".into()), "address kept");
        assert_eq!(world.ask("198.51.100.1:80").unwrap().0, "a");
        for from in [&host, &client, &a] {
            assert_eq!(from.ask("192.0.2.1:30080").unwrap().0, "a");
            assert_eq!(from.ask("10.244.0.1:30080").unwrap().0, "a");
            assert_eq!(from.ask("198.51.100.1:80").unwrap().0, "a");
        }
        assert_eq!(host.ask("127.0.0.1:30080").unwrap().0, "a");
        assert_eq!(host.ask_udp("127.0.0.1:30080").unwrap().0, "a");
    });
}

#[test]
fn only_named_sources_come_by_a_guarded_address() {
    on_a_host(|host| async move {
        let world = outside();
        let dir = tempfile::tempdir().unwrap();
        let (_network, a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        const GUARDED: &str = "198.51.100.1:80";
        let from = |nets: &[&str]| {
            let mut route = masqueraded(&[A]);
            if let Route::Endpoints { sources, .. } = &mut route {
                *sources = Some(nets.iter().map(|net| net.parse().unwrap()).collect::<Vec<_>>().into());
            }
            vec![service("web", [(tcp(GUARDED), route), (tcp("198.51.100.1:81"), masqueraded(&[A]))])]
        };
        world.run(|| ip("route add 198.51.100.1 via 192.0.2.1"));

        proxy.replace(from(&["192.0.2.2/32", "10.244.0.0/24"])).await.unwrap();
        assert_eq!(world.ask(GUARDED).unwrap().0, "a");
        assert_eq!(client.ask(GUARDED).unwrap().0, "a");
        proxy.update(from(&["192.0.2.128/25", "10.244.0.0/16"])).await.unwrap();
        assert!(world.hears_nothing_from(GUARDED));
        assert_eq!(world.ask("198.51.100.1:81").unwrap().0, "a", "another port");
        assert_eq!(a.ask(GUARDED).unwrap().0, "a");
        proxy.update(from(&[])).await.unwrap();
        assert!(client.hears_nothing_from(GUARDED));
        assert!(host.hears_nothing_from(GUARDED));
        proxy.update(from(&["0.0.0.0/0"])).await.unwrap();
        assert_eq!(world.ask(GUARDED).unwrap().0, "a");
        assert_eq!(host.ask(GUARDED).unwrap().0, "a");
    });
}

#[test]
fn a_local_policy_is_for_strangers_only() {
    on_a_host(|host| async move {
        let world = outside();
        let dir = tempfile::tempdir().unwrap();
        let (_network, a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        let local = |here: &[&str], affinity| Route::Local {
            here: here.iter().map(|e| e.parse().unwrap()).collect(),
            anywhere: vec![A.parse().unwrap(), B.parse().unwrap()],
            affinity,
            sources: None,
        };
        const NODE_PORT: &str = "192.0.2.1:30080";
        const EXTERNAL: &str = "198.51.100.1:80";
        let both = |route: Route| {
            vec![service("web", [(tcp("0.0.0.0:30080"), route.clone()), (tcp(EXTERNAL), route)])]
        };
        world.run(|| ip("route add 198.51.100.1 via 192.0.2.1"));

        proxy.replace(both(local(&[A], None))).await.unwrap();
        for to in [NODE_PORT, EXTERNAL] {
            for _ in 0..3 {
                assert_eq!(world.ask(to).unwrap(), ("a".into(), "192.0.2.2".into()), "{to}");
            }
            for from in [&client, &host, &a] {
                let mut seen = names(from, to, 4);
                seen.sort();
                assert_eq!(seen, ["a", "a", "b", "b"], "{to}");
            }
            assert_eq!(client.ask(to).unwrap().1, "10.244.0.4", "pods keep their addresses");
        }
        let mut seen = names(&host, "127.0.0.1:30080", 4);
        seen.sort();
        assert_eq!(seen, ["a", "a", "b", "b"]);

        // Nobody here: a stranger may be answered by another node.
        proxy.update(both(local(&[], None))).await.unwrap();
        for to in [NODE_PORT, EXTERNAL] {
            assert!(world.hears_nothing_from(to), "{to}");
            assert_eq!(names(&client, to, 2).len(), 2);
            assert_eq!(names(&host, to, 2).len(), 2);
        }

        proxy.update(both(local(&[B], Some(600)))).await.unwrap();
        for to in [NODE_PORT, EXTERNAL] {
            assert_eq!(world.ask(to).unwrap().0, "b", "{to}");
            let first = client.ask(to).unwrap().0;
            assert_eq!(names(&client, to, 3), vec![first; 3], "{to}");
        }
        let table = nft(&format!("list table ip {}", INSTANCE.service_table()));
        assert!(table.contains("chain inside-1-of-2"), "nft shows it all: {table}");
    });
}

#[test]
fn nobody_there_is_told_at_once() {
    on_a_host(|host| async move {
        let world = outside();
        let dir = tempfile::tempdir().unwrap();
        let (_network, _a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        proxy
            .replace(vec![service(
                "web",
                [(tcp(VIP), Route::Reject), (udp(VIP), Route::Reject), (tcp("0.0.0.0:30080"), Route::Reject)],
            )])
            .await
            .unwrap();
        host.serve(30080, "squatter");
        let refused = std::io::ErrorKind::ConnectionRefused;
        for from in [&client, &host] {
            // The last is an address that no service has.
            for to in [VIP, "192.0.2.1:30080", "10.96.1.1:443"] {
                assert_eq!(from.ask(to).unwrap_err().kind(), refused, "{to}");
            }
            // On the node itself the very send fails, before the answer to it can arrive.
            let udp = from.ask_udp(VIP).unwrap_err().kind();
            assert!(udp == refused || udp == std::io::ErrorKind::PermissionDenied, "{udp}");
        }
        assert_eq!(world.ask("192.0.2.1:30080").unwrap_err().kind(), refused);

        proxy.update(vec![service("web", [(tcp(VIP), Route::Drop)])]).await.unwrap();
        assert!(client.hears_nothing_from(VIP));
        proxy.update(vec![service("web", [(tcp(VIP), to(&[A]))])]).await.unwrap();
        assert_eq!(client.ask(VIP).unwrap().0, "a");
        assert_eq!(host.ask("192.0.2.1:30080").unwrap().0, "squatter", "given back");
        proxy.update(vec![service("web", [])]).await.unwrap();
        assert_eq!(client.ask(VIP).unwrap_err().kind(), refused);
    });
}

#[test]
fn affinity_holds_until_the_endpoint_goes() {
    on_a_host(|host| async move {
        let dir = tempfile::tempdir().unwrap();
        let (_network, _a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        proxy.replace(vec![service("web", [(tcp(VIP), sticky(&[A, B], 600))])]).await.unwrap();
        let first = client.ask(VIP).unwrap().0;
        assert_eq!(names(&client, VIP, 5), vec![first.clone(); 5]);
        assert_ne!(host.ask(VIP).unwrap().0, first, "another client has another turn");

        let (left, other) = if first == "a" { (B, "b") } else { (A, "a") };
        proxy.update(vec![service("web", [(tcp(VIP), sticky(&[left], 600))])]).await.unwrap();
        assert_eq!(names(&client, VIP, 2), [other; 2]);
        proxy.update(vec![service("web", [(tcp(VIP), sticky(&[A, B], 600))])]).await.unwrap();
        assert_eq!(names(&client, VIP, 4), [other; 4], "what it was moved to is remembered");

        proxy.update(vec![service("web", [(tcp(VIP), sticky(&[A, B], 1))])]).await.unwrap();
        let table = nft(&format!("list table ip {}", INSTANCE.service_table()));
        assert!(table.contains("sticky-1s") && !table.contains("sticky-600s"), "{table}");
    });
}

#[test]
fn a_udp_client_is_moved_off_an_endpoint_that_is_gone() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let (_network, _a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        proxy
            .replace(vec![service("dns", [(udp(VIP), to(&[A])), (udp("10.96.0.11:80"), to(&[A]))])])
            .await
            .unwrap();
        let sockets = client.run(|| [(); 2].map(|()| UdpSocket::bind("0.0.0.0:0").unwrap()));
        let ask = |which: usize, to: &str| {
            let (socket, to) = (sockets[which].try_clone().unwrap(), to.parse().unwrap());
            client.run(move || ask_from(&socket, to).unwrap().0)
        };
        assert_eq!((ask(0, VIP), ask(1, "10.96.0.11:80")), ("a".into(), "a".into()));
        proxy
            .update(vec![service("dns", [(udp(VIP), to(&[B])), (udp("10.96.0.11:80"), to(&[A, B]))])])
            .await
            .unwrap();
        assert_eq!(ask(0, VIP), "b", "the same socket");
        assert_eq!(ask(1, "10.96.0.11:80"), "a", "whose endpoint stays is left alone");
    });
}

#[test]
fn a_large_service_and_many_small_changes() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let (_network, _a, _b, client) = three_pods(dir.path()).await;
        let mut proxy = proxy();
        let many: Vec<String> = (0..1000).map(|n| format!("10.9.{}.{}:80", n / 250, n % 250 + 1)).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        proxy.replace(vec![service("large", [(tcp("10.96.1.1:80"), to(&many))])]).await.unwrap();
        for count in 1..40 {
            proxy
                .update(vec![service("large", [(tcp("10.96.1.1:80"), to(&many[..count * 25]))])])
                .await
                .unwrap();
            let moved = if count % 2 == 0 { A } else { B };
            proxy.update(vec![service("web", [(tcp(VIP), to(&[moved]))])]).await.unwrap();
            assert_eq!(client.ask(VIP).unwrap().0, if count % 2 == 0 { "a" } else { "b" });
        }
        let table = nft(&format!("list table ip {}", INSTANCE.service_table()));
        assert_eq!(table.matches("chain 1-of-").count(), 2, "only the pickers in use are left");
    });
}

#[test]
fn cleanup_takes_everything_away() {
    on_a_host(|_| async move {
        let dir = tempfile::tempdir().unwrap();
        let (_network, ..) = three_pods(dir.path()).await;
        proxy().replace(vec![service("web", [(tcp(VIP), to(&[A, B]))])]).await.unwrap();
        assert_eq!(nft("list tables").lines().count(), 2);
        tiphys_network::cleanup(INSTANCE).await.unwrap();
        tiphys_network::cleanup(INSTANCE).await.unwrap();
        assert_eq!(nft("list tables"), "");
        assert!(!ip("route").contains("10.96."));
        assert_eq!(ip("-o link").lines().count(), 1, "only lo: {}", ip("-o link"));
    });
}
