use std::sync::Arc;

use serde_json::{Value, json};
use tiphys_client::ObjectKey;

use super::{
    allocate::tests::{claim, devices, given, request},
    kinds::Claim,
    *,
};

/// Two devices of 10 that are given in shares, in steps of 2, 4 if nobody says how much; the second one takes a counter
/// of which there is one.
fn shared() -> Devices {
    let pool = json!({"name": "p", "generation": 1, "resourceSliceCount": 2});
    let device = |name: &str, more: Value| {
        let mut device = json!({"name": name, "allowMultipleAllocations": true, "attributes": {"id": {"string": name}},
            "capacity": {"m": {"value": "10", "requestPolicy":
                {"default": "4", "validRange": {"min": "2", "step": "2"}}}}});
        for (key, value) in more.as_object().expect("an object") {
            device[key] = value.clone();
        }
        device
    };
    let part = json!({"consumesCounters": [{"counterSet": "s", "counters": {"c": {"value": "1"}}}]});
    let counters = json!({"driver": "d.io", "nodeName": "n", "pool": pool,
        "sharedCounters": [{"name": "s", "counters": {"c": {"value": "1"}}}]});
    let slice = json!({"driver": "d.io", "nodeName": "n", "pool": pool,
        "devices": [device("a", json!({})), device("b", part.clone()), device("c", part)]});
    devices(&[counters, slice])
}

fn asks(name: &str, amount: &str) -> Value {
    request(name, json!({"capacity": {"requests": {"m": amount}}}))
}

fn has(all: &mut Devices, name: &str, results: Value) {
    let claim = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {},
        "status": {"allocation": {"devices": {"results": results}}}});
    let claim = Arc::new(Claim::new(serde_json::from_value(claim).expect("a claim")));
    all.set_claim(&ObjectKey::new("ns", name), Some(claim));
}

fn share(device: &str, id: &str, amount: &str) -> Value {
    json!({"request": "r", "driver": "d.io", "pool": "p", "device": device, "shareID": id, "consumedCapacity": {"m": amount}})
}

#[test]
fn a_device_is_shared_until_it_is_full() {
    let all = shared();
    let one = |requests: Value| json!({"requests": requests});
    for (claims, wanted) in [
        (vec![one(json!([request("r", json!({}))]))], "r=a(m=4)"),
        (vec![one(json!([asks("x", "5"), asks("y", "4")]))], "x=a(m=6) y=a(m=4)"),
        (vec![one(json!([asks("x", "6")])), one(json!([asks("y", "3")]))], "x=a(m=6); y=a(m=4)"),
        (vec![one(json!([asks("x", "6")])), one(json!([asks("y", "6")]))], "x=a(m=6); y=b(m=6)"),
        // The third takes the counter that the second has taken, but the second is there for all.
        (vec![one(json!([asks("x", "10"), asks("y", "4"), asks("z", "6")]))], "x=a(m=10) y=b(m=4) z=b(m=6)"),
        (vec![one(json!([asks("x", "10"), asks("y", "10"), asks("z", "2")]))], "nothing"),
        (vec![one(json!([asks("x", "11")]))], "nothing"),
        // Of one request each device is another one.
        (vec![one(json!([request("r", json!({"count": 2}))]))], "r=a(m=4) r=b(m=4)"),
    ] {
        assert_eq!(given(&all, &claims), wanted, "{claims:?}");
    }
    let apart = json!({"requests": [asks("x", "2"), asks("y", "2")], "constraints": [{"distinctAttribute": "d.io/id"}]});
    assert_eq!(given(&all, &[apart]), "x=a(m=2) y=b(m=2)");
}

#[test]
fn what_others_have_of_a_device_is_not_left() {
    let mut all = shared();
    has(&mut all, "x", json!([share("a", "1", "6"), share("b", "2", "8")]));
    let one = |amount: &str| json!({"requests": [asks("r", amount)]});
    assert_eq!(given(&all, &[one("4")]), "r=a(m=4)");
    assert_eq!(given(&all, &[one("6")]), "nothing");
    assert_eq!(given(&all, &[one("4"), one("2")]), "r=a(m=4); r=b(m=2)");
    has(&mut all, "y", json!([share("a", "3", "4")]));
    assert_eq!(given(&all, &[one("2"), one("2")]), "r=b(m=2); nothing".split("; ").nth(1).expect("two"));
    has(&mut all, "x", json!([]));
    assert_eq!(given(&all, &[one("6")]), "r=a(m=6)");
}

#[test]
fn whoever_has_all_of_a_device_shares_it_with_nobody() {
    let mut all = shared();
    has(&mut all, "x", json!([{"request": "r", "driver": "d.io", "pool": "p", "device": "a"}]));
    let one = json!({"requests": [asks("r", "2")]});
    assert_eq!(given(&all, std::slice::from_ref(&one)), "r=b(m=2)");
    // An administrator has nothing that would be another's.
    has(
        &mut all,
        "x",
        json!([{"request": "r", "driver": "d.io", "pool": "p", "device": "a", "adminAccess": true}]),
    );
    assert_eq!(given(&all, &[one]), "r=a(m=2)");
}

#[test]
fn devices_to_be_made_ready_come_last() {
    let slice = |pool: &str, conditions: Value| {
        json!({"driver": "d.io", "nodeName": "n", "pool": {"name": pool, "generation": 1, "resourceSliceCount": 1},
            "devices": [{"name": pool, "bindingConditions": conditions, "bindingFailureConditions": ["Broken"]}]})
    };
    let all = devices(&[slice("a", json!(["Attached"])), slice("b", json!([]))]);
    let two = json!({"requests": [request("r", json!({"count": 2}))]});
    assert_eq!(given(&all, std::slice::from_ref(&two)), "r=b r=a");
    let room = all.room(&allocate::tests::node());
    let claim = claim("c", two);
    let found = allocate::allocate(
        &room,
        &[allocate::Want { key: ObjectKey::new("ns", "c"), claim: &claim }],
        |name| all.class(name),
        None,
    );
    let found = found.expect("nothing is wrong").expect("two devices");
    let result = allocation(&claim, &found[0], "n", |name| all.class(name));
    let told = result.devices.expect("devices").results.expect("results");
    let conditions =
        told.iter().map(|r| (r.binding_conditions.clone(), r.binding_failure_conditions.clone()));
    let names = |name: &str| Some(vec![name.to_owned()]);
    let wanted = [(None, names("Broken")), (names("Attached"), names("Broken"))];
    assert_eq!(conditions.collect::<Vec<_>>(), wanted);
}

#[test]
fn the_latest_class_stands_for_a_resource() {
    let mut all = Devices::default();
    let mut set = |name: &str, class: Option<(&str, &str)>| {
        let class = class.map(|(resource, created)| {
            let class = json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-01T00:00:{created}Z")},
                "spec": {"extendedResourceName": resource}});
            Arc::new(Class::new(serde_json::from_value(class).expect("a class")))
        });
        let news = all.set_class(name, class);
        let of = |resource: &str| all.class_of(resource).map(str::to_owned).unwrap_or_default();
        (news, of("x.io/gpu"), of("deviceclass.resource.kubernetes.io/b"))
    };
    let told = |news: bool, of: &str, named: &str| (news, of.to_owned(), named.to_owned());
    assert_eq!(set("b", Some(("x.io/gpu", "05"))), told(true, "b", "b"));
    assert_eq!(set("b", Some(("x.io/gpu", "05"))), told(false, "b", "b"));
    assert_eq!(set("c", Some(("x.io/gpu", "05"))), told(true, "b", "b"));
    assert_eq!(set("d", Some(("x.io/gpu", "06"))), told(true, "d", "b"));
    assert_eq!(set("d", Some(("x.io/npu", "06"))), told(true, "b", "b"));
    assert_eq!(set("b", None), told(true, "c", ""));
}
