use std::{cell::Cell, sync::Arc};

use k8s_openapi::api::resource::v1::DeviceRequestAllocationResult;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    devices::{Devices, allocation},
    snapshot::NodeFacts,
};

/// A node `n` in zone `z`, which has these slices, and classes `any` and `big`.
pub(in crate::devices) fn devices(slices: &[Value]) -> Devices {
    let mut all = Devices::default();
    for (i, slice) in slices.iter().enumerate() {
        let slice = json!({"metadata": {"name": format!("s{i}")}, "spec": slice});
        let slice = Slice::new(serde_json::from_value(slice).expect("a slice"));
        all.set_slice(&format!("s{i}"), None, Some(&Arc::new(slice)));
    }
    for (name, spec) in [
        ("any", json!({})),
        (
            "big",
            json!({
                "selectors": [{"cel": {"expression": "device.capacity['d.io'].memory.compareTo(quantity('20Gi')) >= 0"}}],
                "config": [{"opaque": {"driver": "d.io", "parameters": {"of": "class"}}}],
            }),
        ),
    ] {
        let class = json!({"metadata": {"name": name}, "spec": spec});
        all.set_class(name, Some(Arc::new(Class::new(serde_json::from_value(class).expect("a class")))));
    }
    all
}

pub(in crate::devices) fn node() -> NodeFacts {
    let node = json!({"metadata": {"name": "n", "labels": {"zone": "z"}}});
    NodeFacts::new(serde_json::from_value(node).expect("a node"))
}

/// Four devices on the node, of two models in two halves of the machine; the later two are big.
pub(in crate::devices) fn four() -> Value {
    let device = |(i, model, memory): (usize, &str, &str)| {
        json!({
            "name": format!("g{i}"),
            "attributes": {"model": {"string": model}, "half": {"int": i % 2}, "d.io/serial": {"string": format!("x{i}")},
                "firmware": {"version": "1.2.3"}},
            "capacity": {"memory": {"value": memory}},
        })
    };
    let of = [(0, "a", "10Gi"), (1, "a", "10Gi"), (2, "b", "40Gi"), (3, "b", "40Gi")];
    json!({"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": of.map(device)})
}

pub(in crate::devices) fn claim(name: &str, spec: Value) -> Claim {
    let claim =
        json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"devices": spec}});
    Claim::new(serde_json::from_value(claim).expect("a claim"))
}

pub(in crate::devices) fn request(name: &str, more: Value) -> Value {
    let mut exactly = json!({"deviceClassName": "any"});
    for (key, value) in more.as_object().expect("an object") {
        exactly[key] = value.clone();
    }
    json!({"name": name, "exactly": exactly})
}

fn selects(expression: &str) -> Value {
    json!([{"cel": {"expression": expression}}])
}

/// `request=device` for each device, claims divided by `;`, or why there are none.
pub(in crate::devices) fn given(all: &Devices, claims: &[Value]) -> String {
    let claims: Vec<Claim> =
        claims.iter().enumerate().map(|(i, spec)| claim(&format!("c{i}"), spec.clone())).collect();
    let wants: Vec<Want<'_>> =
        claims.iter().map(|claim| Want { key: ObjectKey::new("ns", &claim.uid), claim }).collect();
    let (room, facts) = (all.room(&node()), node());
    let found = match allocate(&room, &wants, |name| all.class(name), None) {
        Ok(Some(found)) => found,
        Ok(None) => return "nothing".to_owned(),
        Err(why) => return why.to_string(),
    };
    let of_claim = |(claim, given): (&Claim, &Vec<Given<'_>>)| {
        let result = allocation(claim, given, &facts.name, |name| all.class(name));
        let results = result.devices.expect("devices").results.expect("results");
        let share = |r: &DeviceRequestAllocationResult| {
            let consumed =
                r.consumed_capacity.iter().flatten().map(|(name, amount)| format!(" {name}={}", amount.0));
            r.share_id
                .as_ref()
                .map(|_| format!("({})", consumed.collect::<String>().trim()))
                .unwrap_or_default()
        };
        let told: Vec<_> =
            results.iter().map(|r| format!("{}={}{}", r.request, r.device, share(r))).collect();
        told.join(" ")
    };
    claims.iter().zip(&found).map(of_claim).collect::<Vec<_>>().join("; ")
}

#[test]
fn requests_get_the_first_devices_that_do() {
    let all = devices(&[four()]);
    let one = |request: Value| json!({"requests": [request]});
    for (claim, wanted) in [
        (one(request("r", json!({}))), "r=g0"),
        (one(request("r", json!({"count": 3}))), "r=g0 r=g1 r=g2"),
        (one(request("r", json!({"count": 5}))), "nothing"),
        (one(request("r", json!({"deviceClassName": "big"}))), "r=g2"),
        (one(request("r", json!({"allocationMode": "All"}))), "r=g0 r=g1 r=g2 r=g3"),
        (one(request("r", json!({"allocationMode": "All", "deviceClassName": "big"}))), "r=g2 r=g3"),
        (one(request("r", json!({"allocationMode": "All", "selectors": selects("false")}))), "nothing"),
        (
            one(request("r", json!({"selectors": selects("device.attributes['d.io'].serial == 'x3'")}))),
            "r=g3",
        ),
        (
            one(request(
                "r",
                json!({"selectors": selects("device.attributes['d.io'].firmware.isLessThan(semver('1.2.0'))")}),
            )),
            "nothing",
        ),
        (
            one(request("r", json!({"selectors": selects("device.attributes['x.io'].serial == 'x3'")}))),
            "claim ns/c0: selector #0 on device d.io/p/g0: CEL runtime error: no such key: serial",
        ),
        (
            one(request("r", json!({"deviceClassName": "none"}))),
            "claim ns/c0, request r: could not retrieve device class none",
        ),
        (one(request("r", json!({"capacity": {"requests": {"memory": "1Gi"}}}))), "r=g0"),
        (
            // All of a device that is not shared, if it is large enough.
            one(request("r", json!({"capacity": {"requests": {"memory": "11Gi"}}}))),
            "r=g2",
        ),
        (one(request("r", json!({"capacity": {"requests": {"bandwidth": "1"}}}))), "nothing"),
        (
            json!({"requests": [
                request("all", json!({"selectors": selects("device.attributes['d.io'].model == 'a'"), "count": 2})),
                request("rest", json!({"count": 2})),
            ]}),
            "all=g0 all=g1 rest=g2 rest=g3",
        ),
        (
            // What comes first has to leave the others what only they can use.
            json!({"requests": [request("any", json!({"count": 2})),
                request("a", json!({"count": 2, "selectors": selects("device.attributes['d.io'].model == 'a'")}))]}),
            "any=g2 any=g3 a=g0 a=g1",
        ),
    ] {
        assert_eq!(given(&all, std::slice::from_ref(&claim)), wanted, "{claim}");
    }
}

#[test]
fn the_first_way_that_leads_to_an_end_is_taken() {
    let all = devices(&[four()]);
    let choice = |count: usize| {
        json!({"name": "r", "firstAvailable": [
            {"name": "many", "deviceClassName": "big", "count": count},
            {"name": "few", "deviceClassName": "any", "count": 1}]})
    };
    let rest = request("rest", json!({"count": 3}));
    for (requests, wanted) in [
        (json!([choice(2)]), "r/many=g2 r/many=g3"),
        (json!([choice(3)]), "r/few=g0"),
        (json!([choice(2), rest]), "r/few=g0 rest=g1 rest=g2 rest=g3"),
    ] {
        assert_eq!(given(&all, &[json!({"requests": requests})]), wanted);
    }
}

#[test]
fn constraints_hold_between_the_requests_that_they_name() {
    let all = devices(&[four()]);
    let with = |constraint: Value| json!({"requests": [request("a", json!({})), request("b", json!({}))], "constraints": [constraint]});
    for (constraint, wanted) in [
        (json!({"matchAttribute": "d.io/half"}), "a=g0 b=g2"),
        (json!({"matchAttribute": "d.io/model"}), "a=g0 b=g1"),
        (json!({"matchAttribute": "d.io/serial"}), "nothing"),
        (json!({"matchAttribute": "d.io/none"}), "nothing"),
        (json!({"requests": ["a"], "matchAttribute": "d.io/serial"}), "a=g0 b=g1"),
        (json!({"distinctAttribute": "d.io/model"}), "a=g0 b=g2"),
        (json!({"distinctAttribute": "d.io/half"}), "a=g0 b=g1"),
        (json!({"distinctAttribute": "d.io/firmware"}), "nothing"),
        (json!({}), "claim ns/c0, constraint #0: empty constraint (unsupported constraint type?)"),
    ] {
        assert_eq!(given(&all, &[with(constraint.clone())]), wanted, "{constraint}");
    }
    // Between claims nothing is asked.
    let alone =
        json!({"requests": [request("a", json!({}))], "constraints": [{"matchAttribute": "d.io/serial"}]});
    assert_eq!(given(&all, &[alone.clone(), alone]), "a=g0; a=g1");
}

#[test]
fn what_somebody_has_only_an_administrator_gets_too() {
    let mut all = devices(&[four()]);
    let has = json!({"metadata": {"namespace": "ns", "name": "x", "uid": "x"}, "spec": {},
        "status": {"allocation": {"devices": {"results": [
            {"request": "r", "driver": "d.io", "pool": "p", "device": "g0"},
            {"request": "r", "driver": "d.io", "pool": "p", "device": "g1", "adminAccess": true}]}}}});
    let has = Arc::new(Claim::new(serde_json::from_value(has).expect("a claim")));
    all.set_claim(&ObjectKey::new("ns", "x"), Some(has));
    let many = |more: Value| json!({"requests": [request("r", more)]});
    assert_eq!(given(&all, &[many(json!({"count": 3}))]), "r=g1 r=g2 r=g3");
    assert_eq!(given(&all, &[many(json!({"count": 4}))]), "nothing");
    assert_eq!(given(&all, &[many(json!({"allocationMode": "All"}))]), "nothing");
    let admin = many(json!({"allocationMode": "All", "adminAccess": true}));
    assert_eq!(given(&all, &[admin.clone(), admin]), "r=g0 r=g1 r=g2 r=g3; r=g0 r=g1 r=g2 r=g3");
    all.set_claim(&ObjectKey::new("ns", "x"), None);
    assert_eq!(given(&all, &[many(json!({"count": 4}))]), "r=g0 r=g1 r=g2 r=g3");
}

#[test]
fn tainted_devices_go_to_those_who_tolerate_it() {
    let mut slice = four();
    for (i, effect) in ["NoSchedule", "NoExecute", "None"].iter().enumerate() {
        slice["devices"][i]["taints"] = json!([{"key": "ill", "value": "very", "effect": effect}]);
    }
    let mut all = devices(&[slice]);
    let rule = |all: &mut Devices, selector: Value| {
        let rule =
            json!({"spec": {"deviceSelector": selector, "taint": {"key": "off", "effect": "NoSchedule"}}});
        all.rules.insert("r".into(), Arc::new(Rule::new(serde_json::from_value(rule).expect("a rule"))));
    };
    let asks = |tolerations: Value| json!({"requests": [request("r", json!({"count": 2, "tolerations": tolerations}))]});
    let first = |all: &Devices, tolerations: Value| given(all, &[asks(tolerations)]);
    assert_eq!(first(&all, json!([])), "r=g2 r=g3");
    assert_eq!(first(&all, json!([{"key": "ill", "operator": "Exists"}])), "r=g0 r=g1");
    assert_eq!(first(&all, json!([{"key": "ill", "value": "very", "effect": "NoExecute"}])), "r=g1 r=g2");
    assert_eq!(first(&all, json!([{"key": "ill", "value": "little"}])), "r=g2 r=g3");
    rule(&mut all, json!({"driver": "d.io", "device": "g3"}));
    assert_eq!(first(&all, json!([])), "nothing");
    assert_eq!(first(&all, json!([{"key": "off", "operator": "Exists"}])), "r=g2 r=g3");
    rule(&mut all, json!({"driver": "other.io"}));
    assert_eq!(first(&all, json!([])), "r=g2 r=g3");
    rule(&mut all, json!({}));
    assert_eq!(first(&all, json!([{"key": "ill", "operator": "Exists"}])), "nothing");
}

#[test]
fn partitions_take_no_more_than_their_pool_has() {
    let part = |name: &str, slices: u32| json!({"name": name, "consumesCounters": [{"counterSet": "gpu", "counters": {"slices": {"value": slices.to_string()}}}]});
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 2});
    let counters = json!({"driver": "d.io", "nodeName": "n", "pool": pool,
        "sharedCounters": [{"name": "gpu", "counters": {"slices": {"value": "4"}}}]});
    let parts = json!({"driver": "d.io", "nodeName": "n", "pool": pool,
        "devices": [part("whole", 4), part("half0", 2), part("half1", 2), part("quarter", 1)]});
    let mut all = devices(&[counters, parts]);
    let asks = |count: usize| json!({"requests": [request("r", json!({"count": count}))]});
    assert_eq!(given(&all, &[asks(1)]), "r=whole");
    assert_eq!(given(&all, &[asks(2)]), "r=half0 r=half1");
    assert_eq!(given(&all, &[asks(3)]), "nothing");
    let has = json!({"metadata": {"namespace": "ns", "name": "x", "uid": "x"}, "spec": {},
        "status": {"allocation": {"devices": {"results": [
            {"request": "r", "driver": "d.io", "pool": "p", "device": "half1"}]}}}});
    let has = Arc::new(Claim::new(serde_json::from_value(has).expect("a claim")));
    all.set_claim(&ObjectKey::new("ns", "x"), Some(has));
    assert_eq!(given(&all, &[asks(1)]), "r=half0");
    assert_eq!(given(&all, &[asks(1), asks(1)]), "nothing");
}

#[test]
fn a_search_that_leads_nowhere_ends() {
    let device = |i: usize| json!({"name": format!("g{i}"), "attributes": {"index": {"int": i}}});
    let slice = json!({"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "devices": (0..64).map(device).collect::<Vec<_>>()});
    let all = devices(&[slice]);
    let claim = json!({"requests": [request("a", json!({"count": 31})),
        request("b", json!({"selectors": selects("false")}))]});
    assert_eq!(given(&all, &[claim]), "nothing");
}

/// What is told of a device in the property: model, half, counters, taint, whether it is taken.
type Told = (u8, u8, u8, bool, bool);
/// Of each request of a claim: the model that is wanted (2: any), how many (0: all), and whether it tolerates taints.
type Asked = Vec<(u8, u8, bool)>;

fn arbitrary() -> impl Strategy<Value = (Vec<Told>, Vec<Asked>, Vec<bool>)> {
    let device = (0..2_u8, 0..2_u8, 0..3_u8, prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    let request = (0..3_u8, 0..3_u8, any::<bool>());
    let claim = prop::collection::vec(request, 1..3);
    (
        prop::collection::vec(device, 0..5),
        prop::collection::vec(claim, 1..3),
        prop::collection::vec(any::<bool>(), 2),
    )
}

/// The slices, claims and constraints that the numbers stand for.
fn world(told: &[Told], claims: &[Asked], same: &[bool]) -> (Devices, Vec<Claim>) {
    let device = |(i, (model, half, parts, tainted, _)): (usize, &Told)| {
        let taints = if *tainted { json!([{"key": "k", "effect": "NoSchedule"}]) } else { json!([]) };
        json!({"name": format!("g{i}"), "taints": taints,
            "attributes": {"model": {"int": model}, "half": {"int": half}},
            "consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": parts.to_string()}}}]})
    };
    let slice = json!({"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1},
        "sharedCounters": [{"name": "s", "counters": {"c": {"value": "4"}}}],
        "devices": told.iter().enumerate().map(device).collect::<Vec<_>>()});
    let mut all = devices(&[slice]);
    let taken = told
        .iter()
        .enumerate()
        .filter(|(_, t)| t.4)
        .map(|(i, _)| json!({"request": "r", "driver": "d.io", "pool": "p", "device": format!("g{i}")}));
    let has = json!({"metadata": {"namespace": "ns", "name": "x", "uid": "x"}, "spec": {},
        "status": {"allocation": {"devices": {"results": taken.collect::<Vec<_>>()}}}});
    let has = Arc::new(Claim::new(serde_json::from_value(has).expect("a claim")));
    all.set_claim(&ObjectKey::new("ns", "x"), Some(has));
    let claims = claims.iter().zip(same).enumerate().map(|(c, (requests, same))| {
        let requests = requests.iter().enumerate().map(|(r, (model, count, tolerates))| {
            let mut asked = json!({});
            if *count == 0 {
                asked["allocationMode"] = json!("All");
            } else {
                asked["count"] = json!(count);
            }
            if *model < 2 {
                asked["selectors"] = selects(&format!("device.attributes['d.io'].model == {model}"));
            }
            if *tolerates {
                asked["tolerations"] = json!([{"operator": "Exists"}]);
            }
            request(&format!("r{r}"), asked)
        });
        let constraints = if *same { json!([{"matchAttribute": "d.io/half"}]) } else { json!([]) };
        claim(&format!("c{c}"), json!({"requests": requests.collect::<Vec<_>>(), "constraints": constraints}))
    });
    (all, claims.collect())
}

/// Whether devices, each for a place among the requests of all claims, keep every law.
fn is_right(told: &[Told], claims: &[Asked], same: &[bool], chosen: &[(usize, usize, usize)]) -> bool {
    let devices: Vec<usize> = chosen.iter().map(|(.., device)| *device).collect();
    let is_once = (1..devices.len()).all(|i| !devices[..i].contains(&devices[i]));
    let parts: u8 = devices.iter().map(|d| told[*d].2).sum();
    let before: u8 = told.iter().filter(|t| t.4).map(|t| t.2).sum();
    let suits = chosen.iter().all(|(c, r, d)| {
        let ((model, _, tolerates), device) = (claims[*c][*r], told[*d]);
        (model > 1 || model == device.0) && (tolerates || !device.3) && !device.4
    });
    let are_same = claims.iter().enumerate().all(|(c, _)| {
        let mut halves = chosen.iter().filter(|(of, ..)| *of == c).map(|(.., d)| told[*d].1);
        let first = halves.next();
        !same[c] || halves.all(|half| Some(half) == first)
    });
    let are_enough = claims.iter().enumerate().all(|(c, requests)| {
        requests.iter().enumerate().all(|(r, (model, count, _))| {
            let has = chosen.iter().filter(|(a, b, _)| (*a, *b) == (c, r)).count();
            let all = told.iter().filter(|t| *model > 1 || *model == t.0).count();
            if *count == 0 { has == all && all > 0 } else { has == usize::from(*count) }
        })
    });
    is_once && suits && are_same && are_enough && parts + before <= 4
}

/// Whether any way to give devices away keeps every law: each device goes to one of the places or to none.
fn can_be_served(told: &[Told], claims: &[Asked], same: &[bool]) -> bool {
    let places: Vec<(usize, usize)> = claims
        .iter()
        .enumerate()
        .flat_map(|(c, requests)| (0..requests.len()).map(move |r| (c, r)))
        .collect();
    let ways = (places.len() + 1).pow(u32::try_from(told.len()).expect("few"));
    (0..ways).any(|way| {
        let rest = Cell::new(way);
        let chosen = (0..told.len()).filter_map(|device| {
            let place = rest.get() % (places.len() + 1);
            rest.set(rest.get() / (places.len() + 1));
            places.get(place).map(|(c, r)| (*c, *r, device))
        });
        let chosen: Vec<_> = chosen.collect();
        is_right(told, claims, same, &chosen)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn devices_are_found_when_there_are_some_and_every_law_is_kept((told, claims, same) in arbitrary()) {
        let (all, read) = world(&told, &claims, &same);
        let wants: Vec<Want<'_>> =
            read.iter().map(|claim| Want { key: ObjectKey::new("ns", &claim.uid), claim }).collect();
        let (facts, find) = (node(), |room: &Room<'_>| {
            let found = allocate(room, &wants, |name| all.class(name), None).expect("nothing is wrong");
            found.map(|found| {
                let of_claim = |(c, given): (usize, &Vec<Given<'_>>)| {
                    let place = |g: &Given<'_>| (c, g.request, g.offer.device.id.name[1..].parse::<usize>().expect("a number"));
                    given.iter().map(place).collect::<Vec<_>>()
                };
                found.iter().enumerate().flat_map(of_claim).collect::<Vec<_>>()
            })
        });
        let room = all.room(&facts);
        let found = find(&room);
        prop_assert_eq!(&found, &find(&room), "the same for the same input");
        match found {
            Some(found) => prop_assert!(is_right(&told, &claims, &same, &found), "{:?}", found),
            None => prop_assert!(!can_be_served(&told, &claims, &same)),
        }
    }
}
