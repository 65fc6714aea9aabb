use serde_json::{Value, json};
use tokio::time::Instant;

use super::*;
use crate::{
    Config,
    devices::kinds::{Class, Slice},
    plugins::{self, args::Args},
    pod::SharedPod,
    state::{Outcome, State},
};

/// Nodes a and b with two devices each, and a class of all devices.
fn state() -> State {
    state_with(&Config::default())
}

fn state_with(config: &Config) -> State {
    let mut state = State::new(config);
    for name in ["a", "b"] {
        let node = json!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": "8", "pods": "9"}}});
        let node = Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")));
        state.node_changed(None, Some(&node), Instant::now());
        offer(&mut state, name, &["0", "1"]);
    }
    let class = json!({"metadata": {"name": "gpu"}, "spec": {}});
    let class = Arc::new(Class::new(serde_json::from_value(class).expect("a class")));
    let change = &mut |all: &mut Snapshot| all.set_device_class("gpu", Some(class.clone()));
    state.take(Some(&Event::DeviceClassChanged), change, Instant::now());
    state
}

fn offer(state: &mut State, node: &str, names: &[&str]) {
    let devices: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
    let slice = json!({"metadata": {"name": node}, "spec": {"driver": "d.io", "nodeName": node, "devices": devices,
        "pool": {"name": node, "generation": 1, "resourceSliceCount": 1}}});
    let slice = Arc::new(Slice::new(serde_json::from_value(slice).expect("a slice")));
    let change = &mut |all: &mut Snapshot| all.devices().set_slice(node, None, Some(&slice));
    state.take(Some(&Event::DevicesChanged), change, Instant::now());
}

fn claim(name: &str, change: impl Fn(&mut Value)) -> Arc<Claim> {
    let mut claim = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"devices": {
        "requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]}}});
    change(&mut claim);
    Arc::new(Claim::new(serde_json::from_value(claim).expect("a claim")))
}

/// The API's word on a claim.
fn say(state: &mut State, name: &str, claim: Option<Arc<Claim>>) {
    let key = ObjectKey::new("ns", name);
    let had = state.snapshot.surroundings().devices.claim(&key).is_some_and(|c| c.allocation.is_some());
    let frees = had && claim.as_ref().is_none_or(|claim| claim.allocation.is_none());
    let event = Event::DeviceClaimChanged { claim: &key, frees };
    let change = &mut |all: &mut Snapshot| all.devices().set_claim(&key, claim.clone());
    state.take(Some(&event), change, Instant::now());
}

fn pod(name: &str, claims: &[&str]) -> SharedPod {
    let claims: Vec<Value> = claims.iter().map(|c| json!({"name": c, "resourceClaimName": c})).collect();
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name},
        "spec": {"containers": [{"name": "c"}], "resourceClaims": claims}});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn come(state: &mut State, pod: &SharedPod) {
    state.pod_changed(None, Some(pod), Instant::now());
}

/// The next pod's node and errands, or why it has none.
fn turn(state: &mut State) -> Result<(String, Vec<Errand>), String> {
    let pod = state.next(Instant::now()).ok_or("nobody's turn")?;
    let (_, outcome) = state.decide(&pod, Instant::now()).remove(0);
    match outcome {
        Outcome::Bind(node, errands) => Ok((node.into(), errands)),
        Outcome::Refuse(refusal) => Err(refusal.message),
    }
}

/// The devices that the errands give away.
fn given(errands: &[Errand]) -> Vec<String> {
    let given = errands.iter().flat_map(|errand| match errand {
        Errand::UseDevices { allocation: Some(allocation), .. } => {
            let devices = allocation.devices.clone().expect("devices");
            devices
                .results
                .expect("results")
                .into_iter()
                .map(|r| format!("{}/{}", r.pool, r.device))
                .collect()
        }
        _ => Vec::new(),
    });
    given.collect()
}

const FULL: &str = "0/2 nodes are available: 2 cannot allocate all claims. still not schedulable, \
    preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";

#[test]
fn pods_share_what_there_is_and_the_next_waits_for_what_comes_free() {
    let mut state = state();
    let mut had = Vec::new();
    for name in ["p0", "p1", "p2", "p3"] {
        say(&mut state, name, Some(claim(name, |_| {})));
        come(&mut state, &pod(name, &[name]));
        let (node, errands) = turn(&mut state).expect("a node");
        let devices = given(&errands);
        assert!(devices[0].starts_with(&node) && devices.len() == 1, "{devices:?} on {node}");
        had.extend(devices);
    }
    had.sort();
    assert_eq!(had, ["a/0", "a/1", "b/0", "b/1"]);
    say(&mut state, "late", Some(claim("late", |_| {})));
    come(&mut state, &pod("late", &["late"]));
    assert_eq!(turn(&mut state).unwrap_err(), FULL);
    // Another claim that has nothing is no news to it.
    say(&mut state, "other", Some(claim("other", |_| {})));
    assert!(state.next(Instant::now() + std::time::Duration::from_secs(20)).is_none());
    // The first pod does not get there after all, and is gone.
    state.forget(&pod("p0", &["p0"]), true, Instant::now());
    let later = Instant::now() + std::time::Duration::from_secs(20);
    let next = state.next(later).expect("the pod that waits");
    assert_eq!(&*next.key().name, "late");
    let (_, outcome) = state.decide(&next, later).remove(0);
    assert!(matches!(outcome, Outcome::Bind(..)));
}

#[test]
fn a_claim_with_devices_takes_pods_where_they_are() {
    let held = |users: usize| {
        claim("c", move |c| {
            let users: Vec<Value> = (0..users)
                .map(|i| json!({"resource": "pods", "name": "u", "uid": format!("u{i}")}))
                .collect();
            let nodes = json!({"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["b"]}]}]});
            c["status"] = json!({"reservedFor": users, "allocation": {"nodeSelector": nodes, "devices": {"results": [
                {"request": "r", "driver": "d.io", "pool": "b", "device": "0"}]}}});
        })
    };
    let mut all = state();
    say(&mut all, "c", Some(held(1)));
    come(&mut all, &pod("p", &["c"]));
    let (node, errands) = turn(&mut all).expect("a node");
    assert_eq!(node, "b");
    let uses = Errand::UseDevices { claim: ObjectKey::new("ns", "c"), uid: "c".into(), allocation: None };
    assert_eq!(errands, [uses]);
    let mut all = state();
    say(&mut all, "c", Some(held(MOST_USERS)));
    come(&mut all, &pod("p", &["c"]));
    let told = turn(&mut all).unwrap_err();
    assert!(told.starts_with("0/2 nodes are available: resourceclaim in use."), "{told}");
}

#[test]
fn idle_devices_that_only_keep_a_pod_away_are_let_go_of() {
    for (user, release) in [(None, true), (Some("p"), true), (Some("q"), false)] {
        let mut all = state();
        let held = claim("c", |c| {
            let users: Vec<Value> =
                user.iter().map(|uid| json!({"resource": "pods", "name": uid, "uid": uid})).collect();
            let nodes = json!({"nodeSelectorTerms": [{"matchFields": [
                {"key": "metadata.name", "operator": "In", "values": ["gone"]}]}]});
            c["status"] = json!({"reservedFor": users, "allocation": {"nodeSelector": nodes}});
        });
        say(&mut all, "c", Some(held));
        come(&mut all, &pod("p", &["c"]));
        let next = all.next(Instant::now()).expect("the pod");
        let (_, outcome) = all.decide(&next, Instant::now()).remove(0);
        let Outcome::Refuse(refusal) = outcome else { panic!("it has no node") };
        assert!(
            refusal.message.contains("2 resourceclaim not available on the node."),
            "{}",
            refusal.message
        );
        let released = release.then(|| Release::Devices(ObjectKey::new("ns", "c")));
        assert_eq!(refusal.release, released, "{user:?}");
    }
}

#[test]
fn what_keeps_a_pod_from_every_node_is_told() {
    let mut all = state();
    say(
        &mut all,
        "classless",
        Some(claim("classless", |c| {
            c["spec"]["devices"]["requests"][0]["exactly"]["deviceClassName"] = json!("none")
        })),
    );
    say(&mut all, "shared", Some(claim("shared", |_| {})));
    come(&mut all, &pod("first", &["shared"]));
    turn(&mut all).expect("a node");
    for (name, wanted) in [
        ("classless", "request r: device class none does not exist"),
        ("shared", "resource claim ns/shared is in the process of being allocated"),
    ] {
        let pod = pod(name, &[name]);
        come(&mut all, &pod);
        let told = turn(&mut all).unwrap_err();
        assert!(told.starts_with(&format!("0/2 nodes are available: {wanted}.")), "{told}");
        state_forgets(&mut all, &pod);
    }
}

#[test]
fn a_pod_is_not_considered_before_its_claims_are_there() {
    let mut all = state();
    let gate = |all: &State, pod: &PodInfo| {
        DynamicResources::default().pre_enqueue(pod, all.snapshot.surroundings())
    };
    let of_template = |status: Value| {
        let pod = json!({"metadata": {"namespace": "ns", "name": "t", "uid": "t"}, "status": status,
            "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "x"}]}});
        Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
    };
    let waits = of_template(json!({}));
    come(&mut all, &waits);
    assert!(turn(&mut all).is_err_and(|why| why == "nobody's turn"));
    let told = "waiting for the resourceclaim of the pod's claim \"gpu\" to be made";
    assert_eq!(gate(&all, &waits), Err(told.to_owned()));
    let named =
        of_template(json!({"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": "t-gpu"}]}));
    all.pod_changed(Some(&waits), Some(&named), Instant::now());
    let made = |owner: &'static str, going: bool| {
        claim("t-gpu", move |c| {
            let owner =
                json!({"apiVersion": "v1", "kind": "Pod", "name": "t", "uid": owner, "controller": true});
            c["metadata"]["ownerReferences"] = json!([owner]);
            c["metadata"]["deletionTimestamp"] =
                if going { json!("2026-01-01T00:00:00Z") } else { Value::Null };
        })
    };
    assert_eq!(gate(&all, &named), Err("resourceclaim \"t-gpu\" not found".to_owned()));
    // One of another pod, one that goes, one of this pod.
    for (made, wanted) in [
        (made("o", false), "ResourceClaim ns/t-gpu was not created for Pod ns/t (Pod is not owner)"),
        (made("t", true), "resourceclaim \"t-gpu\" is being deleted"),
    ] {
        say(&mut all, "t-gpu", Some(made));
        assert_eq!(gate(&all, &named), Err(wanted.to_owned()));
        assert!(turn(&mut all).is_err_and(|why| why == "nobody's turn"));
    }
    say(&mut all, "t-gpu", Some(made("t", false)));
    turn(&mut all).expect("a node");
}

/// A node that has so many `x.io/gpu` of its own.
fn node_with(state: &mut State, name: &str, gpus: &str) {
    let allocatable = json!({"cpu": "8", "pods": "9", "x.io/gpu": gpus});
    let node = json!({"metadata": {"name": name}, "status": {"allocatable": allocatable}});
    let node = Arc::new(NodeFacts::new(serde_json::from_value(node).expect("a node")));
    let old = state.snapshot.find(name).map(|node| node.facts.clone());
    state.node_changed(old.as_deref(), Some(&node), Instant::now());
}

fn asks(name: &str, gpus: &str) -> SharedPod {
    let pod = json!({"metadata": {"namespace": "ns", "name": name, "uid": name}, "spec": {"containers": [
        {"name": "c", "resources": {"requests": {"cpu": "1", "x.io/gpu": gpus}}}]}});
    Arc::new(PodInfo::new(serde_json::from_value(pod).expect("a pod")))
}

fn class_for(state: &mut State, resource: Option<&str>) {
    let class = json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": resource}});
    let class = Arc::new(Class::new(serde_json::from_value(class).expect("a class")));
    let change = &mut |all: &mut Snapshot| all.set_device_class("gpu", Some(class.clone()));
    state.take(Some(&Event::DeviceClassChanged), change, Instant::now());
}

/// The devices that a claim for extended resources is made with.
fn claimed(errands: &[Errand]) -> Vec<String> {
    let claimed = errands.iter().filter_map(|errand| match errand {
        Errand::ClaimDevices { claiming, allocation } => {
            assert_eq!(claiming.mappings.len(), 1);
            let devices = allocation
                .as_ref()
                .and_then(|a| a.devices.clone())
                .expect("devices")
                .results
                .expect("results");
            Some(devices.into_iter().map(|r| format!("{}={}/{}", r.request, r.pool, r.device)))
        }
        _ => None,
    });
    claimed.flatten().collect()
}

#[test]
fn resources_of_a_class_are_claimed_where_the_node_has_none_itself() {
    let mut all = state();
    come(&mut all, &asks("p", "2"));
    let told = turn(&mut all).unwrap_err();
    assert!(told.starts_with("0/2 nodes are available: 2 Insufficient x.io/gpu."), "{told}");
    // What a class stands for is news to whoever asks for it.
    class_for(&mut all, Some("x.io/gpu"));
    let later = || Instant::now() + std::time::Duration::from_secs(60);
    let next = all.next(later()).expect("the pod that waits");
    let (_, outcome) = all.decide(&next, later()).remove(0);
    let Outcome::Bind(node, errands) = outcome else { panic!("it has a node") };
    let of = |node: &str| ["0", "1"].map(|device| format!("container-0-request-1={node}/{device}"));
    assert_eq!(claimed(&errands), of(&node));
    // Nobody else gets them, not before the claim is there and not when it is.
    let other = if &*node == "a" { "b" } else { "a" };
    let claim_of = |node: &str, allocated: bool| {
        let node = node.to_owned();
        claim("p-extended-resources-x", move |c| {
            c["metadata"]["annotations"] = json!({"resource.kubernetes.io/extended-resource-claim": "true"});
            c["metadata"]["ownerReferences"] =
                json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true}]);
            let results = ["0", "1"]
                .map(|device| json!({"request": "r", "driver": "d.io", "pool": node, "device": device}));
            if allocated {
                c["status"] = json!({"allocation": {"devices": {"results": results}}});
            }
        })
    };
    for allocated in [false, true] {
        say(&mut all, "p-extended-resources-x", Some(claim_of(&node, allocated)));
        let pod = asks(&format!("q{allocated}"), "2");
        come(&mut all, &pod);
        let (second, errands) = turn(&mut all).expect("the other node");
        assert_eq!((&*second, claimed(&errands)), (other, of(other).to_vec()));
        all.forget(&pod, true, Instant::now());
        state_forgets(&mut all, &pod);
    }
    say(&mut all, "p-extended-resources-x", None);
    for name in ["r", "s"] {
        come(&mut all, &asks(name, "2"));
        turn(&mut all).expect("a node");
    }
    // A node that has them itself gives those.
    let mut all = state();
    class_for(&mut all, Some("x.io/gpu"));
    node_with(&mut all, "a", "1");
    node_with(&mut all, "b", "4");
    come(&mut all, &asks("p", "3"));
    let (node, errands) = turn(&mut all).expect("a node");
    assert_eq!((&*node, errands), ("b", Vec::new()));
}

#[test]
fn a_claim_of_an_attempt_that_failed_goes_before_the_next_one() {
    let mut all = state();
    class_for(&mut all, Some("x.io/gpu"));
    let stale = claim("p-extended-resources-x", |c| {
        c["metadata"]["annotations"] = json!({"resource.kubernetes.io/extended-resource-claim": "true"});
        c["metadata"]["ownerReferences"] =
            json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "p", "controller": true}]);
    });
    say(&mut all, "p-extended-resources-x", Some(stale.clone()));
    come(&mut all, &asks("p", "1"));
    let next = all.next(Instant::now()).expect("the pod");
    let (_, outcome) = all.decide(&next, Instant::now()).remove(0);
    let Outcome::Refuse(refusal) = outcome else { panic!("it has no node") };
    assert!(refusal.message.contains("deletion of ResourceClaim completed"), "{}", refusal.message);
    assert_eq!(refusal.release, Some(Release::Claim(ObjectKey::new("ns", "p-extended-resources-x"))));
    // When it has gone, the pod is tried again.
    let key = ObjectKey::new("ns", "p-extended-resources-x");
    let event = Event::DeviceClaimChanged { claim: &key, frees: true };
    all.take(Some(&event), &mut |all: &mut Snapshot| all.devices().set_claim(&key, None), Instant::now());
    let later = Instant::now() + std::time::Duration::from_secs(60);
    let next = all.next(later).expect("the pod that waits");
    assert!(matches!(all.decide(&next, later).remove(0).1, Outcome::Bind(..)));
}

#[test]
fn devices_that_have_to_be_made_ready_are_waited_for() {
    let held = |told: &'static str| {
        claim("c", move |c| {
            let result = json!({"request": "r", "driver": "d.io", "pool": "b", "device": "0",
                "bindingConditions": ["Attached"], "bindingFailureConditions": ["Broken"]});
            let condition = json!({"type": told, "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
            c["status"] = json!({"allocation": {"devices": {"results": [result]}}, "devices": [
                {"driver": "d.io", "pool": "b", "device": "0", "conditions": [condition]}]});
        })
    };
    for (told, waits) in [("Warm", true), ("Attached", false)] {
        let mut all = state();
        say(&mut all, "c", Some(held(told)));
        come(&mut all, &pod("p", &["c"]));
        let (_, errands) = turn(&mut all).expect("a node");
        assert_eq!(errands.last() == Some(&Errand::AwaitDevices), waits, "{told}");
    }
    // Those that never will be ready are of no use.
    let mut all = state();
    say(&mut all, "c", Some(held("Broken")));
    come(&mut all, &pod("p", &["c"]));
    let told = turn(&mut all).unwrap_err();
    assert!(told.contains("deallocation of ResourceClaim completed"), "{told}");
    // Nor are new ones ready.
    let mut all = state();
    let slice = json!({"metadata": {"name": "c"}, "spec": {"driver": "d.io", "nodeName": "a", "pool":
        {"name": "c", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "x", "bindingConditions": ["Attached"]}]}});
    let slice = Arc::new(Slice::new(serde_json::from_value(slice).expect("a slice")));
    let change = &mut |all: &mut Snapshot| all.devices().set_slice("c", None, Some(&slice));
    all.take(Some(&Event::DevicesChanged), change, Instant::now());
    let three = |c: &mut Value| c["spec"]["devices"]["requests"][0]["exactly"]["count"] = json!(3);
    say(&mut all, "c", Some(claim("c", three)));
    come(&mut all, &pod("p", &["c"]));
    let (node, errands) = turn(&mut all).expect("a node");
    assert_eq!((&*node, errands.last()), ("a", Some(&Errand::AwaitDevices)));
}

fn state_forgets(state: &mut State, pod: &SharedPod) {
    state.pod_changed(Some(pod), None, Instant::now());
}

#[test]
fn nodes_that_serve_requests_in_better_ways_are_better() {
    let mut all = state();
    offer(&mut all, "b", &["0", "1", "2"]);
    let choice = claim("c", |c| {
        c["spec"]["devices"]["requests"] = json!([{"name": "r", "firstAvailable": [
            {"name": "three", "deviceClassName": "gpu", "count": 3},
            {"name": "one", "deviceClassName": "gpu", "count": 1}]}]);
    });
    say(&mut all, "c", Some(choice));
    come(&mut all, &pod("p", &["c"]));
    let (node, errands) = turn(&mut all).expect("a node");
    assert_eq!((&*node, given(&errands)), ("b", vec!["b/0".to_owned(), "b/1".to_owned(), "b/2".to_owned()]));
}

/// Two nodes, of which b serves a choice in its first way and a in its second; the claim held has one, too.
#[test]
fn what_a_claim_has_already_brings_nodes_closer_together() {
    let choice = |name: &'static str, ways: Value, status: Value| {
        claim(name, move |c| {
            c["spec"]["devices"]["requests"] = json!([{"name": "r", "firstAvailable": ways}]);
            c["status"] = status.clone();
        })
    };
    let ways = json!([{"name": "three", "deviceClassName": "gpu", "count": 3},
        {"name": "one", "deviceClassName": "gpu", "count": 1}]);
    let has = json!({"allocation": {"devices": {"results": [
        {"request": "r/one", "driver": "d.io", "pool": "elsewhere", "device": "9"}]}}});
    for (held, wanted) in [(false, [87, 100]), (true, [93, 100])] {
        let mut all = state();
        offer(&mut all, "b", &["0", "1", "2"]);
        say(&mut all, "c", Some(choice("c", ways.clone(), json!({}))));
        say(&mut all, "h", Some(choice("h", ways.clone(), has.clone())));
        let pod = pod("p", if held { &["c", "h"] } else { &["c"] });
        let found = plugins::tests::scores(NAME, &Args::default(), &pod, &mut all.snapshot);
        assert_eq!(found, Some(wanted.to_vec()), "{held}");
    }
}

#[test]
fn who_runs_out_of_time_looking_for_devices_tries_again_soon() {
    let text = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, profiles: \
        [{pluginConfig: [{name: DynamicResources, args: {filterTimeout: TIME}}]}]}";
    for (time, late) in [("1ns", true), ("0s", false), ("10m", false)] {
        let mut all = state_with(&Config::read(&text.replace("TIME", time)).expect("a configuration"));
        say(&mut all, "c", Some(claim("c", |_| {})));
        come(&mut all, &pod("p", &["c"]));
        let turn = turn(&mut all);
        if !late {
            turn.expect("a node");
            continue;
        }
        let told = turn.unwrap_err();
        assert!(
            told.starts_with("0/2 nodes are available: 2 timed out trying to allocate devices."),
            "{told}"
        );
        assert!(all.next(Instant::now()).is_none(), "it waits for its back-off");
        let later = Instant::now() + Duration::from_secs(2);
        assert_eq!(all.next(later).map(|pod| pod.key().name.clone()), Some("p".into()));
    }
}

#[test]
fn devices_for_resources_count_where_nodes_are_scored_by_how_full_they_are() {
    let args = |strategy: &str| {
        let mut args = Args::default();
        let resources = json!([{"name": "x.io/gpu"}]);
        args.set("NodeResourcesFit", json!({"scoringStrategy": {"type": strategy, "resources": resources}}))
            .expect("arguments");
        args.set("NodeResourcesBalancedAllocation", json!({"resources": resources})).expect("arguments");
        args
    };
    let mut all = state();
    offer(&mut all, "b", &["0", "1", "2", "3"]);
    class_for(&mut all, Some("x.io/gpu"));
    let taken = claim("taken", |c| {
        c["status"] = json!({"allocation": {"devices": {"results": [
            {"request": "r", "driver": "d.io", "pool": "b", "device": "0"}]}}});
    });
    let score = |all: &mut State, name: &str, strategy: &str| {
        plugins::tests::scores(name, &args(strategy), &asks("p", "1"), &mut all.snapshot)
    };
    // One of two, and one of four.
    assert_eq!(score(&mut all, "NodeResourcesFit", "LeastAllocated"), Some(vec![50, 75]));
    say(&mut all, "taken", Some(taken));
    assert_eq!(score(&mut all, "NodeResourcesFit", "LeastAllocated"), Some(vec![50, 50]));
    assert_eq!(score(&mut all, "NodeResourcesFit", "MostAllocated"), Some(vec![50, 50]));
    assert_eq!(score(&mut all, "NodeResourcesBalancedAllocation", "MostAllocated"), Some(vec![100, 100]));
}

#[test]
fn scores_by_devices_are_not_remembered_with_the_nodes() {
    let config = "{apiVersion: kubescheduler.config.k8s.io/v1, kind: KubeSchedulerConfiguration, profiles: \
        [{plugins: {score: {disabled: [{name: '*'}], enabled: [{name: NodeResourcesFit}]}}, pluginConfig: [{name: \
        NodeResourcesFit, args: {scoringStrategy: {resources: [{name: x.io/gpu}]}}}]}]}";
    let mut all = state_with(&Config::read(config).expect("a configuration"));
    class_for(&mut all, Some("x.io/gpu"));
    let (profiles, pod) = (all.profiles.clone(), asks("p", "1"));
    for (pool, wanted) in [("a", [0, 50]), ("b", [50, 0])] {
        let taken = claim("taken", |c| {
            c["status"] = json!({"allocation": {"devices": {"results": [
                {"request": "r", "driver": "d.io", "pool": pool, "device": "0"}]}}});
        });
        say(&mut all, "taken", Some(taken));
        all.prepare(&profiles[0], &pod);
        let State { search, snapshot, .. } = &mut all;
        let (_, mut sifted) = search.sift(&profiles[0], &pod, snapshot);
        sifted.fit.sort_by_key(|id| snapshot.node(*id).name().to_owned());
        assert_eq!(search.scores(&profiles[0], &pod, snapshot, &sifted.fit), wanted, "{pool}");
    }
}
