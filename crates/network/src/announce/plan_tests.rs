use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

fn ip(text: &str) -> Ipv4Addr {
    text.parse().unwrap()
}

fn link(index: u32, addresses: &[&str]) -> Link {
    Link { index, hardware: MAC, addresses: addresses.iter().map(|a| a.parse().unwrap()).collect() }
}

fn node(name: &str, address: &str) -> Arc<Node> {
    let addresses = vec![ip(address)];
    Arc::new(Node { name: name.into(), zone: None, in_service: true, addresses })
}

fn names(names: &[&str]) -> BTreeSet<Box<str>> {
    names.iter().map(|name| (*name).into()).collect()
}

fn wanted(addresses: &[(&str, Option<&[&str]>)]) -> Wanted {
    let mut wanted = Wanted::new();
    for (address, only) in addresses {
        want(&mut wanted, ip(address), only.map(names).as_ref());
    }
    wanted
}

/// The links in which `me` answers, by the last number of the address.
fn answered(wanted: &Wanted, nodes: &[Arc<Node>], me: &str, links: &[Link]) -> Vec<(u8, u32)> {
    let stations = stations(wanted, nodes, me, links.iter());
    assert!(stations.values().all(|station| station.hardware == MAC));
    stations.iter().map(|(address, station)| (address.octets()[3], station.link)).collect()
}

#[test]
fn an_address_is_answered_for_in_the_link_that_it_is_of() {
    let links = [link(2, &["192.0.2.1/24"]), link(3, &["198.51.100.1/24", "192.0.2.33/28"])];
    let nodes = [node("a", "192.0.2.1")];
    let wanted = wanted(&[
        ("192.0.2.50", None),
        ("198.51.100.9", None),
        ("203.0.113.4", None),
        // The kernel answers for this one.
        ("192.0.2.1", None),
        // Of two networks, the narrower one.
        ("192.0.2.40", None),
    ]);
    assert_eq!(answered(&wanted, &nodes, "a", &links), [(40, 3), (50, 2), (9, 3)]);
    assert_eq!(answered(&wanted, &nodes, "a", &[]), []);
}

#[test]
fn one_node_answers_for_an_address_and_all_agree_which() {
    let nodes: Vec<_> =
        ["a", "b", "c"].iter().zip(1..).map(|(n, i)| node(n, &format!("192.0.2.{i}"))).collect();
    let addresses: Vec<String> = (100..160).map(|n| format!("192.0.2.{n}")).collect();
    let wanted = wanted(&addresses.iter().map(|a| (a.as_str(), None)).collect::<Vec<_>>());
    let of = |nodes: &[Arc<Node>], n: usize| -> BTreeSet<u8> {
        let links = [link(2, &[&format!("{}/24", nodes[n].addresses[0])])];
        answered(&wanted, nodes, &nodes[n].name, &links).into_iter().map(|(last, _)| last).collect()
    };
    let shares: Vec<BTreeSet<u8>> = (0..3).map(|n| of(&nodes, n)).collect();
    assert_eq!(shares.iter().map(BTreeSet::len).sum::<usize>(), 60, "{shares:?}");
    assert_eq!(shares.iter().flatten().collect::<BTreeSet<_>>().len(), 60, "{shares:?}");
    assert!(shares.iter().all(|share| share.len() > 10), "{shares:?}");

    // Who is left keeps what it has, and gets some more.
    let mut fewer = nodes.clone();
    let gone = Node { in_service: false, ..(*fewer[0]).clone() };
    fewer[0] = Arc::new(gone);
    assert_eq!(of(&fewer, 0), BTreeSet::new());
    assert!(of(&fewer, 1).is_superset(&shares[1]) && of(&fewer, 2).is_superset(&shares[2]));
    assert_eq!(of(&fewer, 1).len() + of(&fewer, 2).len(), 60);
}

#[test]
fn who_is_not_in_the_link_cannot_be_elected() {
    let links = [link(2, &["192.0.2.1/24"])];
    let addresses: Vec<String> = (100..120).map(|n| format!("192.0.2.{n}")).collect();
    let wanted = wanted(&addresses.iter().map(|a| (a.as_str(), None)).collect::<Vec<_>>());
    let far = [node("a", "192.0.2.1"), node("far", "198.51.100.1")];
    assert_eq!(answered(&wanted, &far, "a", &links).len(), 20);
    // What a node tells of itself may be another address than the one that it has in the link.
    assert_eq!(answered(&wanted, &[node("a", "203.0.113.1")], "a", &links).len(), 20);
    assert_eq!(answered(&wanted, &[], "a", &links), [], "nobody knows this node");
}

#[test]
fn where_the_policy_is_local_a_node_with_endpoints_answers() {
    let links = [link(2, &["192.0.2.1/24"])];
    let nodes = [node("a", "192.0.2.1"), node("b", "192.0.2.2")];
    let last = |only: &[(&str, Option<&[&str]>)]| answered(&wanted(only), &nodes, "a", &links);
    assert_eq!(last(&[("192.0.2.50", Some(&["a"])), ("192.0.2.51", Some(&["a"]))]), [(50, 2), (51, 2)]);
    assert_eq!(last(&[("192.0.2.50", Some(&["b"])), ("192.0.2.51", Some(&[]))]), []);
    // Two services of one address.
    assert_eq!(
        last(&[("192.0.2.50", Some(&["a", "b"])), ("192.0.2.50", None), ("192.0.2.50", Some(&["a"]))]),
        [(50, 2)]
    );
    assert_eq!(last(&[("192.0.2.50", Some(&["a"])), ("192.0.2.50", Some(&["b"]))]), []);
}
