use super::*;

struct Case {
    settings: Settings,
    zones: Zones,
    now: Instant,
}

impl Case {
    fn new() -> Self {
        Self { settings: Settings::default(), zones: Zones::default(), now: Instant::now() }
    }

    fn see(&mut self, zone: &str, node: usize, ready: bool) -> Concerned {
        let of = Zone(Box::default(), zone.into());
        self.zones.see(&self.settings, &key(zone, node), Some((of, ready)), self.now)
    }

    /// A zone of nodes of which the first so many are not ready.
    fn zone(&mut self, zone: &str, nodes: usize, unready: usize) {
        (0..nodes).rev().for_each(|node| drop(self.see(zone, node, node >= unready)));
    }

    fn turn(&mut self, zone: &str, node: usize) -> Turn {
        self.zones.turn(&key(zone, node), self.now)
    }

    fn disruption(&self, zone: &str) -> Disruption {
        self.zones.zones[&Zone(Box::default(), zone.into())].disruption
    }
}

fn key(zone: &str, node: usize) -> ObjectKey {
    ObjectKey::new("", &format!("{zone}{node:03}"))
}

#[test]
fn a_zone_is_disturbed_by_the_share_of_its_nodes() {
    let cases = [
        (5, 0, Disruption::Normal),
        (5, 2, Disruption::Normal),
        (3, 2, Disruption::Normal),
        (5, 3, Disruption::Partial),
        (6, 3, Disruption::Normal),
        (5, 5, Disruption::Full),
        (1, 1, Disruption::Full),
    ];
    for (nodes, unready, want) in cases {
        let mut case = Case::new();
        case.zone("other", 1, 0);
        case.zone("z", nodes, unready);
        assert_eq!(case.disruption("z"), want, "{unready} of {nodes}");
        assert!(!case.zones.cut_off());
    }
}

#[test]
fn nodes_are_given_up_one_after_the_other() {
    let mut case = Case::new();
    case.zone("z", 10, 3);
    assert_eq!(case.turn("z", 0), Turn::Now);
    assert_eq!(case.turn("z", 0), Turn::Now, "leave that was given stays");
    assert_eq!(case.turn("z", 1), Turn::After(Duration::from_secs(10)));
    case.now += Duration::from_secs(4);
    assert_eq!(case.turn("z", 1), Turn::After(Duration::from_secs(6)));
    case.now += Duration::from_secs(6);
    assert_eq!(case.turn("z", 2), Turn::Now);
    assert_eq!(case.turn("z", 1), Turn::After(Duration::from_secs(10)));
    // It comes back and dies again: it has to ask again.
    case.see("z", 0, true);
    case.see("z", 0, false);
    assert_eq!(case.turn("z", 0), Turn::After(Duration::from_secs(10)));
}

#[test]
fn each_zone_has_its_own_turns() {
    let mut case = Case::new();
    case.zone("a", 4, 1);
    case.zone("b", 1, 1);
    assert_eq!((case.turn("a", 0), case.turn("b", 0)), (Turn::Now, Turn::Now));
}

#[test]
fn a_disturbed_zone_gives_up_none_or_few() {
    let mut small = Case::new();
    small.zone("z", 50, 28);
    assert_eq!(small.turn("z", 0), Turn::Held);
    // 27 of 50 are fewer than the share that disturbs: those that wait are told.
    let concerned = small.see("z", 27, true);
    assert_eq!((concerned.nodes.len(), concerned.back), (27, false));
    assert_eq!(small.turn("z", 0), Turn::Now);

    let mut large = Case::new();
    large.zone("z", 51, 30);
    assert_eq!(large.turn("z", 0), Turn::Now);
    assert_eq!(large.turn("z", 1), Turn::After(Duration::from_secs(100)));
    // A better time shortens the wait.
    (20..30).for_each(|node| drop(large.see("z", node, true)));
    assert_eq!(large.turn("z", 1), Turn::After(Duration::from_secs(10)));
}

#[test]
fn who_sees_no_node_at_all_gives_none_up() {
    let mut case = Case::new();
    case.zone("a", 2, 1);
    case.zone("b", 1, 1);
    assert_eq!(case.turn("b", 0), Turn::Now);
    let concerned = case.see("a", 1, false);
    assert_eq!((concerned.nodes.len(), concerned.back, case.zones.cut_off()), (3, false, true));
    assert_eq!(case.turn("b", 0), Turn::Held, "leave that was given is taken back");
    let concerned = case.see("a", 1, true);
    assert_eq!((concerned.nodes.len(), concerned.back, case.zones.cut_off()), (3, true, false));
    case.now += Duration::from_secs(10);
    assert_eq!(case.turn("b", 0), Turn::Now);
}

#[test]
fn nothing_stays_of_nodes_that_are_gone() {
    let mut case = Case::new();
    case.zone("z", 1, 1);
    assert!(case.zones.cut_off());
    let concerned = case.zones.see(&case.settings, &key("z", 0), None, case.now);
    assert!(case.zones.zones.is_empty() && case.zones.of.is_empty() && !case.zones.cut_off());
    assert_eq!(concerned.nodes, []);
    assert_eq!(case.turn("z", 0), Turn::Held);
}

#[test]
fn labels_tell_the_zone() {
    let node = |labels: serde_json::Value| -> Node {
        serde_json::from_value(serde_json::json!({"metadata": {"name": "n", "labels": labels}}))
            .expect("a node")
    };
    let zone = Zone::of(&node(
        serde_json::json!({"topology.kubernetes.io/region": "r", "topology.kubernetes.io/zone": "z"}),
    ));
    assert_eq!(zone, Zone("r".into(), "z".into()));
    let old = serde_json::json!({"failure-domain.beta.kubernetes.io/zone": "z"});
    assert_eq!(Zone::of(&node(old)), Zone(Box::default(), "z".into()));
}
