use serde_json::{Value, json};

use super::*;

fn service(name: &str, spec: Value) -> Service {
    let mut whole = json!({"type": "LoadBalancer", "ports": [{"port": 80, "protocol": "TCP"}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        whole[key] = value.clone();
    }
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "ns", "uid": name}, "spec": whole}))
        .expect("a service")
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| ip(text)).collect()
}

struct Case {
    pool: Pool,
    others: Vec<(Service, Vec<IpAddr>)>,
    nodes: BTreeMap<String, Vec<IpAddr>>,
    endpoints: Option<BTreeSet<String>>,
}

impl Case {
    fn new(pool: &str) -> Self {
        let nodes = [("a", ips(&["192.0.2.1", "2001:db8::1"])), ("b", ips(&["192.0.2.2"]))];
        Self {
            pool: pool.parse().expect("a pool"),
            others: Vec::new(),
            nodes: nodes.into_iter().map(|(name, all)| (name.to_owned(), all)).collect(),
            endpoints: None,
        }
    }

    fn other(mut self, spec: Value, addresses: &[&str]) -> Self {
        self.others.push((service("other", spec), ips(addresses)));
        self
    }

    fn plan(&self, spec: Value, now: &[&str]) -> Result<Vec<String>, String> {
        let others: Vec<_> = self.others.iter().map(|(s, all)| (s, all.clone())).collect();
        let around = Surroundings {
            others: &others,
            nodes: &self.nodes,
            endpoints: self.endpoints.clone(),
            reserved: &[6443],
        };
        plan(&self.pool, &service("web", spec), &ips(now), &around)
            .map(|all| all.iter().map(IpAddr::to_string).collect())
            .map_err(|refusal| refusal.to_string())
    }
}

fn got(addresses: &[&str]) -> Result<Vec<String>, String> {
    Ok(addresses.iter().map(|a| (*a).to_owned()).collect())
}

fn refused(text: &str) -> Result<Vec<String>, String> {
    Err(text.to_owned())
}

#[test]
fn a_load_balancer_is_wanted_by_type_and_class() {
    let wanted = |spec: Value| is_wanted(&service("web", spec));
    assert!(wanted(json!({})));
    assert!(wanted(json!({"loadBalancerClass": CLASS})));
    assert!(!wanted(json!({"loadBalancerClass": "example.com/other"})));
    assert!(!wanted(json!({"type": "NodePort"})));
}

#[test]
fn nodes_that_are_ready_lend_their_addresses() {
    let node = |ready: &str, labels: Value, addresses: Value| -> Vec<IpAddr> {
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n", "labels": labels},
            "status": {"conditions": [{"type": "Ready", "status": ready}], "addresses": addresses}}))
        .expect("a node");
        reached(&node)
    };
    let internal = json!({"type": "InternalIP", "address": "192.0.2.1"});
    let external = json!({"type": "ExternalIP", "address": "198.51.100.1"});
    let name = json!({"type": "Hostname", "address": "n"});
    let both = json!([name, internal, external]);
    assert_eq!(node("True", json!({}), json!([name, internal])), ips(&["192.0.2.1"]));
    assert_eq!(node("True", json!({}), both.clone()), ips(&["198.51.100.1"]));
    assert_eq!(node("Unknown", json!({}), both.clone()), ips(&[]));
    assert_eq!(node("True", json!({EXCLUDED: ""}), both), ips(&[]));
}

#[test]
fn services_share_the_nodes_addresses_by_their_ports() {
    let free = Case::new("nodes");
    assert_eq!(free.plan(json!({}), &[]), got(&["192.0.2.1", "192.0.2.2"]));
    let both = json!({"ipFamilies": ["IPv6", "IPv4"]});
    assert_eq!(free.plan(both, &[]), got(&["2001:db8::1", "192.0.2.1", "192.0.2.2"]));
    assert_eq!(free.plan(json!({"loadBalancerIP": "192.0.2.2"}), &[]), got(&["192.0.2.2"]));

    let shared = Case::new("nodes")
        .other(json!({"ports": [{"port": 81, "nodePort": 30081}]}), &["192.0.2.1", "192.0.2.2"]);
    assert_eq!(shared.plan(json!({}), &[]), got(&["192.0.2.1", "192.0.2.2"]));
    let taken = refused("port 81/TCP of 192.0.2.1 is taken by service ns/other");
    assert_eq!(shared.plan(json!({"ports": [{"port": 80}, {"port": 81}]}), &[]), taken);
    let udp = json!({"ports": [{"port": 81, "protocol": "UDP"}]});
    assert_eq!(shared.plan(udp, &[]), got(&["192.0.2.1", "192.0.2.2"]));
    let node_port = refused("port 30081/TCP is the node port of service ns/other");
    assert_eq!(shared.plan(json!({"ports": [{"port": 30081}]}), &[]), node_port);
}

#[test]
fn what_the_cluster_needs_itself_nobody_gets() {
    let case = Case::new("nodes");
    assert_eq!(
        case.plan(json!({"ports": [{"port": 6443}]}), &[]),
        refused("port 6443/TCP is the node's own")
    );
    assert!(case.plan(json!({"ports": [{"port": 6443, "protocol": "UDP"}]}), &[]).is_ok());
    let foreign = "loadBalancerIP 198.51.100.1 is not among the addresses that load balancers may have";
    assert_eq!(case.plan(json!({"loadBalancerIP": "198.51.100.1"}), &[]), refused(foreign));
    assert_eq!(case.plan(json!({"loadBalancerIP": "x"}), &[]), refused("loadBalancerIP x is no address"));
}

#[test]
fn a_local_service_has_the_addresses_of_nodes_with_endpoints() {
    let mut case = Case::new("nodes");
    case.endpoints = Some(BTreeSet::from(["b".to_owned()]));
    assert_eq!(case.plan(json!({}), &[]), got(&["192.0.2.2"]));
    case.endpoints = Some(BTreeSet::new());
    assert_eq!(case.plan(json!({}), &["192.0.2.2"]), got(&[]));
}

#[test]
fn addresses_outlive_a_time_without_nodes() {
    let mut case = Case::new("nodes");
    case.nodes.clear();
    assert_eq!(case.plan(json!({}), &["192.0.2.1"]), got(&["192.0.2.1"]));
    assert_eq!(case.plan(json!({}), &[]), refused("there are no available nodes for LoadBalancer"));
}

#[test]
fn a_pool_gives_each_service_an_address_of_its_own() {
    let case = Case::new("198.51.100.1-198.51.100.2,2001:db8:1::/64").other(json!({}), &["198.51.100.1"]);
    assert_eq!(case.plan(json!({}), &[]), got(&["198.51.100.2"]));
    let both = json!({"ipFamilies": ["IPv4", "IPv6"]});
    assert_eq!(case.plan(both, &[]), got(&["198.51.100.2", "2001:db8:1::"]));
    assert_eq!(case.plan(json!({}), &["198.51.100.2"]), got(&["198.51.100.2"]), "it keeps what it has");
    assert_eq!(case.plan(json!({}), &["192.0.2.1"]), got(&["198.51.100.2"]), "the pool has changed");

    let full = case.other(json!({"ports": [{"port": 81}]}), &["198.51.100.2"]);
    assert_eq!(full.plan(json!({}), &[]), refused("no IPv4 address of the pool is free"));
    // By its name an address can be shared.
    assert_eq!(full.plan(json!({"loadBalancerIP": "198.51.100.2"}), &[]), got(&["198.51.100.2"]));
    let taken = refused("port 80/TCP of 198.51.100.1 is taken by service ns/other");
    assert_eq!(full.plan(json!({"loadBalancerIP": "198.51.100.1"}), &[]), taken);
    let prefers = json!({"ipFamilies": ["IPv6", "IPv4"], "ipFamilyPolicy": "PreferDualStack"});
    assert_eq!(full.plan(prefers, &[]), got(&["2001:db8:1::"]));
}
