use super::*;
use crate::instance::Instance;

fn peer(name: &str, range: &str, address: &str) -> Arc<Peer> {
    let addresses = vec![address.parse().unwrap()];
    Arc::new(Peer { name: name.into(), range: range.parse().ok(), addresses })
}

fn routes(peers: &[Arc<Peer>]) -> Vec<String> {
    let config = Config {
        instance: Instance::new(1),
        node: "here".to_owned(),
        pod_cidr: "10.244.1.0/24".parse().unwrap(),
        cluster_cidr: "10.244.0.0/16".parse().unwrap(),
    };
    let networks = ["192.0.2.1/24".parse().unwrap(), "10.244.1.1/24".parse().unwrap()];
    let wanted = wanted(peers, &config, &networks);
    wanted.iter().map(|(to, gateway)| format!("{to} via {gateway}")).collect()
}

#[test]
fn a_range_is_behind_its_node() {
    let here = peer("here", "10.244.1.0/24", "192.0.2.1");
    let peers = [here, peer("a", "10.244.0.0/24", "192.0.2.2"), peer("b", "10.244.2.7/24", "192.0.2.3")];
    assert_eq!(routes(&peers), ["10.244.0.0/24 via 192.0.2.2", "10.244.2.0/24 via 192.0.2.3"]);
}

#[test]
fn what_no_neighbour_may_have_is_left_alone() {
    for (range, address, why) in [
        ("", "192.0.2.2", "no range"),
        ("10.244.2.0/24", "198.51.100.2", "in no link of ours"),
        ("10.244.2.0/24", "192.0.2.1", "our own address"),
        ("10.244.1.0/24", "192.0.2.2", "our own range"),
        ("10.244.1.128/25", "192.0.2.2", "a part of it"),
        ("10.244.0.0/16", "192.0.2.2", "a network around it"),
        ("192.0.2.128/25", "192.0.2.2", "nobody's pods"),
    ] {
        assert!(routes(&[peer("a", range, address)]).is_empty(), "{why}");
    }
    let peers = [peer("a", "10.244.2.0/24", "192.0.2.2"), peer("b", "10.244.2.0/25", "192.0.2.3")];
    assert_eq!(routes(&peers), ["10.244.2.0/24 via 192.0.2.2"], "who comes first");
}
