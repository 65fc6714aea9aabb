use super::*;

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn given(ranges: &[(&str, u8)], taken: &[&str]) -> Given {
    let ranges = ranges.iter().map(|(whole, length)| Parted::new(net(whole), *length).expect("a range"));
    Given::new(ranges.collect(), &taken.iter().map(|t| net(t)).collect::<Vec<_>>())
}

fn key(node: &str) -> ObjectKey {
    ObjectKey::new("", node)
}

fn promised(given: &mut Given, node: &str) -> Option<String> {
    let nets = given.promise(&key(node))?;
    Some(nets.iter().map(IpNet::to_string).collect::<Vec<_>>().join(","))
}

#[test]
fn each_node_gets_a_part_of_its_own() {
    let mut given = given(&[("10.244.0.0/22", 24), ("fd00:1::/48", 64)], &["10.244.0.0/24"]);
    assert_eq!(promised(&mut given, "a").as_deref(), Some("10.244.1.0/24,fd00:1::/64"));
    assert_eq!(
        promised(&mut given, "a").as_deref(),
        Some("10.244.1.0/24,fd00:1::/64"),
        "it is promised once"
    );
    assert_eq!(promised(&mut given, "b").as_deref(), Some("10.244.2.0/24,fd00:1:0:1::/64"));
    given.see(&key("c"), vec![net("10.244.3.0/24")]);
    assert_eq!(promised(&mut given, "d"), None);
    assert!(given.forget(&key("a")) && !given.forget(&key("a")));
    assert_eq!(promised(&mut given, "d").as_deref(), Some("10.244.1.0/24,fd00:1:0:2::/64"));
}

#[test]
fn what_was_let_go_is_given_last() {
    let mut given = given(&[("10.0.0.0/22", 24)], &[]);
    assert_eq!(promised(&mut given, "a").as_deref(), Some("10.0.0.0/24"));
    given.forget(&key("a"));
    assert_eq!(promised(&mut given, "b").as_deref(), Some("10.0.1.0/24"));
}

#[test]
fn networks_of_any_size_are_respected() {
    let of = |net: &str| {
        let mut given = given(&[("10.0.0.0/22", 24)], &[net]);
        promised(&mut given, "a")
    };
    assert_eq!(of("10.0.0.128/25").as_deref(), Some("10.0.1.0/24"));
    assert_eq!(of("10.0.0.0/23").as_deref(), Some("10.0.2.0/24"));
    assert_eq!(of("10.0.0.0/8"), None);
    assert_eq!(of("10.0.4.0/24").as_deref(), Some("10.0.0.0/24"));
    assert_eq!(of("fd00::/8").as_deref(), Some("10.0.0.0/24"));
}

#[test]
fn a_part_that_two_nodes_claim_is_free_when_both_are_gone() {
    let mut given = given(&[("10.0.0.0/24", 24)], &[]);
    given.see(&key("a"), vec![net("10.0.0.0/24")]);
    given.see(&key("b"), vec![net("10.0.0.0/24")]);
    given.forget(&key("a"));
    assert_eq!(promised(&mut given, "c"), None);
    given.forget(&key("b"));
    assert_eq!(promised(&mut given, "c").as_deref(), Some("10.0.0.0/24"));
    // Somebody else has said what the node has: the promise is void.
    given.see(&key("c"), vec![net("192.0.2.0/24")]);
    assert_eq!(promised(&mut given, "d").as_deref(), Some("10.0.0.0/24"));
}

#[test]
fn ranges_have_bounds() {
    let part = |whole: &str, length| Parted::new(net(whole), length).map(|parted| parted.parts());
    assert_eq!(part("10.0.0.0/8", 24), Ok(65_536));
    assert_eq!(part("10.0.0.0/8", 25), Err(RangeError::Fine(net("10.0.0.0/8"), 25)));
    assert_eq!(part("10.0.0.0/24", 23), Err(RangeError::Length(net("10.0.0.0/24"), 23)));
    assert_eq!(part("10.0.0.0/24", 33), Err(RangeError::Length(net("10.0.0.0/24"), 33)));
    assert_eq!(part("::/0", 16), Ok(65_536));
    assert_eq!(part("0.0.0.0/0", 0), Ok(1));
}
