use serde_json::{Value, json};

use super::{
    allocate::tests::{claim, devices, four, node},
    *,
};

fn slice(spec: Value) -> Arc<Slice> {
    let slice = json!({"metadata": {"name": "s"}, "spec": spec});
    Arc::new(Slice::new(serde_json::from_value(slice).expect("a slice")))
}

fn part(generation: i64, of: usize, device: &str, reach: (&str, Value)) -> Value {
    let mut part = json!({"driver": "d.io", "devices": [{"name": device}],
        "pool": {"name": "p", "generation": generation, "resourceSliceCount": of}});
    part[reach.0] = reach.1;
    part
}

/// The devices that the node can use, and the state of the first of its pools.
fn seen(all: &Devices) -> (Vec<String>, Option<PoolState>) {
    let facts = node();
    let room = all.room(&facts);
    let names = room.offers.iter().map(|offer| offer.device.id.name.to_string());
    (names.collect(), room.pools.first().map(|pool| pool.state))
}

fn known(names: &[&str], state: PoolState) -> (Vec<String>, Option<PoolState>) {
    (names.iter().map(|name| (*name).to_owned()).collect(), Some(state))
}

fn nowhere() -> (Vec<String>, Option<PoolState>) {
    (Vec::new(), None)
}

#[test]
fn a_node_has_its_own_devices_and_those_that_reach_it() {
    let zone = |zone: &str| json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]});
    for (reach, is_seen) in [
        (("nodeName", json!("n")), true),
        (("nodeName", json!("m")), false),
        (("allNodes", json!(true)), true),
        (("nodeSelector", zone("z")), true),
        (("nodeSelector", zone("y")), false),
        (("perDeviceNodeSelection", json!(true)), false),
    ] {
        let all = devices(&[part(1, 1, "g", reach.clone())]);
        let wanted = if is_seen { known(&["g"], PoolState::Whole) } else { nowhere() };
        assert_eq!(seen(&all), wanted, "{reach:?}");
    }
    let mut by_device = part(1, 1, "here", ("perDeviceNodeSelection", json!(true)));
    by_device["devices"] = json!([{"name": "here", "nodeName": "n"}, {"name": "there", "nodeName": "m"}]);
    assert_eq!(seen(&devices(&[by_device])), known(&["here"], PoolState::Whole));
}

#[test]
fn only_the_newest_slices_count_and_only_all_of_them() {
    let here = || ("nodeName", json!("n"));
    let all = devices(&[part(1, 1, "old", here()), part(2, 1, "new", here())]);
    assert_eq!(seen(&all), known(&["new"], PoolState::Whole));
    let all = devices(&[part(2, 2, "new", here())]);
    assert_eq!(seen(&all), known(&["new"], PoolState::Incomplete));
    let all = devices(&[part(2, 2, "new", here()), part(2, 2, "new", here())]);
    assert_eq!(seen(&all), known(&["new", "new"], PoolState::Invalid));
    let all = devices(&[part(1, 1, "old", here()), part(2, 1, "new", ("nodeName", json!("m")))]);
    assert_eq!(seen(&all), nowhere(), "the pool has moved away");
}

#[test]
fn slices_that_change_or_go_take_their_devices_along() {
    let mut all = Devices::default();
    let old = slice(part(1, 1, "old", ("nodeName", json!("n"))));
    let there = slice(part(2, 1, "new", ("nodeName", json!("m"))));
    all.set_slice("s", None, Some(&old));
    assert_eq!(seen(&all), known(&["old"], PoolState::Whole));
    all.set_slice("s", Some(&old), Some(&there));
    assert_eq!(seen(&all), nowhere());
    all.set_slice("s", Some(&there), Some(&old));
    assert_eq!(seen(&all), known(&["old"], PoolState::Whole));
    all.set_slice("s", Some(&old), None);
    assert_eq!(seen(&all), nowhere());
    assert!(all.pools.is_empty() && all.of_node.is_empty() && all.shared.is_empty());
}

fn gives(device: &str) -> AllocationResult {
    let result = json!({"request": "r", "driver": "d.io", "pool": "p", "device": device});
    serde_json::from_value(json!({"devices": {"results": [result]}})).expect("an allocation")
}

/// The devices that somebody has.
fn held(all: &Devices) -> Vec<String> {
    let facts = node();
    let room = all.room(&facts);
    let taken = room.offers.iter().filter(|offer| offer.taken.is_some());
    taken.map(|offer| offer.device.id.name.to_string()).collect()
}

#[test]
fn what_is_promised_is_taken_until_the_api_says_who_has_what() {
    let key = ObjectKey::new("ns", "c");
    let bare = Arc::new(claim("c", json!({})));
    let with =
        |device: &str| Arc::new(Claim { allocation: Some(Arc::new(gives(device))), ..(*bare).clone() });
    let mut all = devices(&[four()]);
    all.set_claim(&key, Some(bare.clone()));
    all.promise(&key, bare.uid.clone(), Arc::new(gives("g1")));
    assert_eq!((held(&all), all.is_promised(&key)), (vec!["g1".to_owned()], true));
    // Somebody wrote something else of it.
    all.set_claim(&key, Some(bare.clone()));
    assert!(all.is_promised(&key));
    all.set_claim(&key, Some(with("g1")));
    assert_eq!((held(&all), all.is_promised(&key)), (vec!["g1".to_owned()], false));
    all.set_claim(&key, Some(with("g2")));
    assert_eq!(held(&all), ["g2"]);
    all.set_claim(&key, None);
    assert!(held(&all).is_empty());
    // Nothing comes of it; the claim goes; another comes under its name.
    let other = Arc::new(Claim { uid: "other".into(), ..(*bare).clone() });
    for after in [None, Some(other), Some(bare.clone())] {
        all.set_claim(&key, Some(bare.clone()));
        all.promise(&key, bare.uid.clone(), Arc::new(gives("g1")));
        if after == Some(bare.clone()) {
            all.withdraw(&key);
        }
        all.set_claim(&key, after);
        assert!(held(&all).is_empty() && !all.is_promised(&key));
        assert!(all.taken.is_empty());
    }
}

#[test]
fn an_allocation_tells_where_it_holds_and_what_drivers_are_told() {
    let facts = node();
    let written = |slice: Value, spec: Value| {
        let (all, claim) = (devices(&[slice]), claim("c", spec));
        let wants = [allocate::Want { key: ObjectKey::new("ns", "c"), claim: &claim }];
        let room = all.room(&facts);
        let found =
            allocate::allocate(&room, &wants, |name| all.class(name), None).expect("nothing is wrong");
        let given = &found.expect("devices")[0];
        serde_json::to_value(allocation(&claim, given, "n", |name| all.class(name))).expect("JSON")
    };
    let big = |name: &str| {
        json!({"name": name, "exactly": {"deviceClassName": "big", "adminAccess": true,
        "tolerations": [{"key": "k", "operator": "Exists"}]}})
    };
    let any = |name: &str| json!({"name": name, "exactly": {"deviceClassName": "any"}});
    let of = |whom: &str| json!({"opaque": {"driver": "d.io", "parameters": {"of": whom}}});
    let with = |mut of: Value, key: &str, value: Value| {
        of[key] = value;
        of
    };
    let config = json!([
        of("all"),
        with(of("b"), "requests", json!(["b"])),
        with(of("none"), "requests", json!(["x"]))
    ]);
    let told = written(four(), json!({"requests": [any("a"), big("b")], "config": config}));
    let result = |request: &str, device: &str| json!({"request": request, "driver": "d.io", "pool": "p", "device": device});
    let b = with(result("b", "g2"), "adminAccess", json!(true));
    let b = with(b, "tolerations", json!([{"key": "k", "operator": "Exists"}]));
    let here = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]});
    let class = with(with(of("class"), "requests", json!(["b"])), "source", json!("FromClass"));
    let claims = |mut of: Value| {
        of["source"] = json!("FromClaim");
        of
    };
    assert_eq!(
        told,
        json!({"devices": {"results": [result("a", "g0"), b],
            "config": [class, claims(of("all")), claims(with(of("b"), "requests", json!(["b"])))]},
            "nodeSelector": here})
    );
    let one = json!({"requests": [any("a")]});
    let everywhere = part(1, 1, "g", ("allNodes", json!(true)));
    assert_eq!(written(everywhere.clone(), one.clone())["nodeSelector"], Value::Null);
    let mut binds = everywhere;
    binds["devices"][0]["bindsToNode"] = json!(true);
    assert_eq!(written(binds, one.clone())["nodeSelector"], here);
    let zone = json!({"nodeSelectorTerms": [{"matchExpressions": [{"key": "zone", "operator": "In", "values": ["z"]}]}]});
    assert_eq!(written(part(1, 1, "g", ("nodeSelector", zone.clone())), one)["nodeSelector"], zone);
}

#[test]
fn what_is_known_of_a_device_is_what_asking_again_tells() {
    let all = devices(&[four()]);
    let (facts, sources) = (node(), (0..20).map(|i| format!("device.attributes['d.io'].half == {}", i % 3)));
    let selectors: Vec<_> = sources.map(|source| selector::Selector::read(&source)).collect();
    let room = all.room(&facts);
    for selector in selectors.iter().chain(&selectors) {
        for offer in &room.offers {
            let fresh = kinds::Device::clone(offer.device);
            assert_eq!(selector.selects(offer.device), selector.selects(&fresh));
        }
    }
}
