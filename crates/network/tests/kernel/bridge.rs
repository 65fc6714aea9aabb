//! The built-in pod network.

use std::{collections::BTreeSet, path::Path};

use tiphys_network::{
    Instance, PodNetwork,
    bridge::{self, Config, PortMapping, Protocol},
};

use crate::support::{Netns, ip, nft, on_a_host};

const INSTANCE: Instance = Instance::new(0xb01d_face);

pub(crate) fn config(instance: Instance, dir: &Path) -> Config {
    Config {
        instance,
        pod_cidr: "10.244.0.0/24".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/16".parse().unwrap(),
        state_dir: dir.join("pods"),
        mtu: None,
    }
}

/// Another machine: a namespace behind a wire that this thread's namespace routes to by default.
pub(crate) fn outside() -> Netns {
    let outside = Netns::new();
    ip("link add wire type veth peer name far");
    let path = outside.path();
    // iproute2 wants a name or a process; a thread in the namespace has one.
    let (tell, told) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let holder = outside.spawn(move || {
        tell.send(nix::unistd::gettid()).unwrap();
        wait.recv().unwrap();
        ip("addr add 192.0.2.2/24 dev far");
        ip("link set far up");
        ip("link set lo up");
    });
    let tid = told.recv().unwrap();
    ip(&format!("link set far netns {tid}"));
    ip("link set wire mtu 1400 up");
    ip("addr add 192.0.2.1/24 dev wire");
    done.send(()).unwrap();
    holder.join().unwrap();
    ip("route add default via 192.0.2.2");
    drop(path);
    outside
}

#[test]
fn pods_reach_each_other_the_node_and_the_world() {
    on_a_host(|host| async move {
        let world = outside();
        world.serve(80, "world");
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let of_a = network.attach(&a.path(), "a", &[]).await.unwrap();
        let of_b = network.attach(&b.path(), "b", &[]).await.unwrap();
        assert_eq!(of_a, ["10.244.0.2".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(of_b, ["10.244.0.3".parse::<std::net::IpAddr>().unwrap()]);
        a.serve(80, "a");
        b.serve(80, "b");
        host.serve(81, "host");

        let seen = |name: &str, peer: &str| (name.to_owned(), peer.to_owned());
        assert_eq!(a.ask("10.244.0.3:80").unwrap(), seen("b", "10.244.0.2"), "pods keep their addresses");
        assert_eq!(a.ask("127.0.0.1:80").unwrap(), seen("a", "127.0.0.1"), "lo is up");
        assert_eq!(host.ask("10.244.0.2:80").unwrap(), seen("a", "10.244.0.1"));
        assert_eq!(a.ask("10.244.0.1:81").unwrap(), seen("host", "10.244.0.2"));
        assert_eq!(a.ask("192.0.2.2:80").unwrap(), seen("world", "192.0.2.1"), "the world sees the node");

        let inside = a.run(|| ip("-o link show eth0"));
        assert!(inside.contains("mtu 1400"), "the default route's MTU: {inside}");
        assert!(inside.contains("0a:58:0a:f4:00:02"), "the address makes the MAC: {inside}");
    });
}

#[test]
fn attach_and_detach_are_idempotent_and_survive_the_process() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let first = network.attach(&a.path(), "a", &[]).await.unwrap();
        assert_eq!(network.attach(&a.path(), "a", &[]).await.unwrap(), first);
        a.serve(80, "a");

        // The next process finds the pod, its address, and a network that still works.
        drop(network);
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        assert_eq!(network.attach(&a.path(), "a", &[]).await.unwrap(), first);
        network.attach(&b.path(), "b", &[]).await.unwrap();
        assert_eq!(b.ask("10.244.0.2:80").unwrap().0, "a");

        // Somebody removed the bridge: the next attachment brings it back, for old pods as they are repaired too.
        ip(&format!("link del {}", INSTANCE.bridge()));
        network.detach("b").await.unwrap();
        network.attach(&b.path(), "b", &[]).await.unwrap();
        ip(&format!("link del {}", "vb01dface2"));
        assert_eq!(network.attach(&a.path(), "a", &[]).await.unwrap(), first);
        assert_eq!(b.ask("10.244.0.2:80").unwrap().0, "a");

        network.detach("a").await.unwrap();
        network.detach("a").await.unwrap();
        drop(b);
        network.detach("b").await.unwrap();
        assert!(!ip("-o link").contains("vb01dface"), "{}", ip("-o link"));
    });
}

#[test]
fn a_failed_attachment_leaves_nothing() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let error = network.attach(Path::new("/nonexistent"), "a", &[]).await.unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        let a = Netns::new();
        a.run(|| ip("link add eth0 type veth peer name other"));
        network.attach(&a.path(), "a", &[]).await.unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path().join("pods")).unwrap().count(), 0);
        assert!(!ip("-o link").contains("vb01dface"));
    });
}

#[test]
fn reconcile_keeps_the_living() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let (a, b, c) = (Netns::new(), Netns::new(), Netns::new());
        for (netns, id) in [(&a, "a"), (&b, "b"), (&c, "c")] {
            network.attach(&netns.path(), id, &[]).await.unwrap();
        }
        // The record of c is lost, its link is not.
        std::fs::remove_file(dir.path().join("pods/c")).unwrap();
        drop(network);
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        network.reconcile(&BTreeSet::from(["a".to_owned()])).await.unwrap();
        let links = ip("-o link");
        assert!(links.contains("vb01dface2"), "{links}");
        assert!(!links.contains("vb01dface3") && !links.contains("vb01dface4"), "{links}");
    });
}

#[test]
fn host_ports_answer_everywhere_but_pods_never_reach_the_hosts_loopback() {
    on_a_host(|host| async move {
        let world = outside();
        let dir = tempfile::tempdir().unwrap();
        let network = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        let port = |host_ip: Option<&str>, host_port| PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
        };
        let ports = [port(None, 8080), port(Some("192.0.2.1"), 8081)];
        network.attach(&a.path(), "a", &ports).await.unwrap();
        network.attach(&b.path(), "b", &[]).await.unwrap();
        a.serve(80, "a");

        assert_eq!(world.ask("192.0.2.1:8080").unwrap(), ("a".into(), "192.0.2.2".into()));
        assert_eq!(world.ask("192.0.2.1:8081").unwrap(), ("a".into(), "192.0.2.2".into()));
        assert_eq!(host.ask("192.0.2.1:8080").unwrap().0, "a");
        assert_eq!(host.ask("127.0.0.1:8080").unwrap().0, "a");
        assert_eq!(b.ask("192.0.2.1:8080").unwrap().0, "a");
        assert_eq!(a.ask("192.0.2.1:8080").unwrap().0, "a", "a pod reaches itself");
        assert!(host.ask("127.0.0.1:8081").is_err(), "bound to one address");

        // A pod that claims the way to 127.0.0.1 leads through the host.
        host.serve(99, "host");
        b.run(|| {
            ip("addr flush dev lo");
            ip("link set lo down");
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            ip("route add 127.0.0.1 via 10.244.0.1")
        });
        assert!(b.hears_nothing_from("127.0.0.1:99"));

        // Somebody flushes all rules of the host. What was ours comes back, as soon as its absence is noticed.
        nft("flush ruleset");
        tokio::select! {
            () = network.keep() => {}
            () = async { while nft("list tables").is_empty() { tokio::task::yield_now().await } } => {}
        }
        assert_eq!(world.ask("192.0.2.1:8080").unwrap().0, "a");

        network.detach("a").await.unwrap();
        assert!(host.ask("192.0.2.1:8080").is_err());
    });
}

#[test]
fn the_preflight_finds_what_these_tests_use_and_leaves_no_trace() {
    on_a_host(|_| async {
        assert_eq!(tiphys_network::preflight().await.unwrap(), []);
        assert_eq!(nft("list tables"), "");
        assert_eq!(ip("-o link").lines().count(), 1);
    });
}

#[test]
fn a_range_that_is_in_use_is_refused_before_anything_is_made() {
    on_a_host(|_| async {
        let _world = outside();
        let dir = tempfile::tempdir().unwrap();
        ip("route add 10.96.7.0/24 via 192.0.2.2");
        let error = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "10.96.0.0/16 is in use: the host routes 10.96.7.0/24 to wire; choose another range"
        );
        assert!(!ip("-o link").contains("b01dface"));
        ip("route del 10.96.7.0/24");
        ip("route add 10.0.0.0/8 via 192.0.2.2");
        let _first = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let _again = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let other = Config { instance: Instance::new(1), ..config(INSTANCE, dir.path()) };
        assert!(PodNetwork::new(other).await.unwrap_err().to_string().contains("to tpb01dface"));
    });
}

#[test]
fn cleanup_removes_this_instance_and_no_other() {
    on_a_host(|_| async {
        let dir = tempfile::tempdir().unwrap();
        let other = Config {
            instance: Instance::new(0x00dd_ba11),
            pod_cidr: "10.245.0.0/24".parse().unwrap(),
            cluster_cidr: "10.245.0.0/16".parse().unwrap(),
            service_cidr: "10.97.0.0/16".parse().unwrap(),
            state_dir: dir.path().join("other"),
            mtu: None,
        };
        let ours = PodNetwork::new(config(INSTANCE, dir.path())).await.unwrap();
        let other = PodNetwork::new(other).await.unwrap();
        let (a, b) = (Netns::new(), Netns::new());
        ours.attach(&a.path(), "a", &[]).await.unwrap();
        other.attach(&b.path(), "b", &[]).await.unwrap();
        b.serve(80, "b");
        assert_eq!(a.ask("10.245.0.2:80").unwrap().0, "b", "clusters on one host reach each other");

        bridge::cleanup(INSTANCE).await.unwrap();
        bridge::cleanup(INSTANCE).await.unwrap();
        assert!(!ip("-o link").contains("b01dface"));
        assert!(!nft("list tables").contains("b01dface"));
        assert!(ip("-o link").contains("00ddba11") && nft("list tables").contains("00ddba11"));
    });
}
