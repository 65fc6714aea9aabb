use serde_json::{Value, json};

use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn merged(mut to: Value, change: &Value) -> Value {
    to = tiphys_api::patch::merge::patch(&to, change).expect("a merge");
    to
}

/// A pod with a claim `gpu` of the template `big`, and with what `more` says.
fn pod(more: Value) -> Pod {
    let pod = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "p1"},
        "spec": {"containers": [], "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "big"}]},
        "status": {"phase": "Pending"},
    });
    read(merged(pod, &more))
}

/// A claim that was made for the pod's `gpu`.
fn made(more: Value) -> Arc<ResourceClaim> {
    let claim = json!({
        "metadata": {"name": "web-gpu-x", "namespace": "a", "uid": "c1", "annotations": {POD_CLAIM: "gpu"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "p1", "controller": true}]},
        "spec": {},
    });
    Arc::new(read(merged(claim, &more)))
}

fn noted(name: Option<&str>) -> Value {
    json!({"status": {"resourceClaimStatuses": [{"name": "gpu", "resourceClaimName": name}]}})
}

fn user(uid: &str) -> Value {
    json!({"resource": "pods", "name": "web", "uid": uid})
}

fn allocated(users: &[Value]) -> Value {
    json!({"metadata": {"finalizers": ["other", FINALIZER]},
        "status": {"allocation": {"devices": {}}, "reservedFor": users}})
}

/// What a pod needs when there are these claims.
fn need(pod: &Pod, there: &[Arc<ResourceClaim>]) -> Vec<String> {
    let get = |name: &str| there.iter().find(|claim| claim.name() == name).cloned();
    let own: Vec<_> = there.iter().filter(|claim| is_for(claim, pod)).cloned().collect();
    let text = |need| match need {
        Need::Claim { of, template } => format!("make {of} of {template}"),
        Need::Note { of, name } => format!("note {of} {name}"),
        Need::Reservation(claim) => format!("reserve {}", claim.name()),
        Need::Unknown { of } => format!("unknown {of}"),
    };
    needs(pod, get, &own).into_iter().map(text).collect()
}

#[test]
fn a_pod_gets_the_claims_of_its_templates_once() {
    assert_eq!(need(&pod(json!({})), &[]), ["make gpu of big"]);
    // Made, and then somebody was cut short.
    assert_eq!(need(&pod(json!({})), &[made(json!({}))]), ["note gpu web-gpu-x"]);
    let strangers = made(json!({"metadata": {"ownerReferences": []}}));
    assert_eq!(need(&pod(json!({})), &[strangers]), ["make gpu of big"]);
    let another = made(json!({"metadata": {"annotations": {POD_CLAIM: "nic"}}}));
    assert_eq!(need(&pod(json!({})), &[another]), ["make gpu of big"]);
    assert_eq!(need(&pod(noted(Some("web-gpu-x"))), &[made(json!({}))]), Vec::<String>::new());
    // Somebody deleted it.
    assert_eq!(need(&pod(noted(Some("web-gpu-x"))), &[]), ["make gpu of big"]);
    assert_eq!(need(&pod(noted(None)), &[]), Vec::<String>::new());
}

#[test]
fn who_goes_or_has_ended_needs_nothing() {
    for more in [
        json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}),
        json!({"status": {"phase": "Succeeded"}}),
        json!({"status": {"phase": "Failed"}}),
    ] {
        assert_eq!(need(&pod(more.clone()), &[]), Vec::<String>::new(), "{more}");
    }
}

#[test]
fn a_claim_of_an_unknown_sort_is_told() {
    let pod = pod(json!({"spec": {"resourceClaims": [{"name": "gpu"}]}}));
    assert_eq!(need(&pod, &[]), ["unknown gpu"]);
}

#[test]
fn a_pod_that_was_placed_by_hand_is_counted_among_the_users() {
    let users = |count: usize| (0..count).map(|n| user(&format!("u{n}"))).collect::<Vec<_>>();
    let cases: [(Option<&str>, Value, &[&str]); 5] = [
        (Some("n"), allocated(&[]), &["reserve web-gpu-x"]),
        (Some("n"), allocated(&[user("p1")]), &[]),
        (None, allocated(&[]), &[]),
        (Some("n"), json!({}), &[]),
        (Some("n"), allocated(&users(256)), &[]),
    ];
    for (node, claim, want) in cases {
        let pod = pod(merged(noted(Some("web-gpu-x")), &json!({"spec": {"nodeName": node}})));
        assert_eq!(need(&pod, &[made(claim.clone())]), want, "{node:?} {claim}");
    }
    let shared =
        json!({"spec": {"nodeName": "n", "resourceClaims": [{"name": "gpu", "resourceClaimName": "all"}]}});
    let all = made(merged(allocated(&[]), &json!({"metadata": {"name": "all", "ownerReferences": null}})));
    assert_eq!(need(&pod(shared), &[all]), ["reserve all"]);
}

#[test]
fn names_are_the_same_each_time_short_enough_and_valid() {
    let named = |name: &str, of: &str, attempt| {
        let pod: Pod = read(json!({"metadata": {"name": name, "uid": "u"}}));
        name_for(&pod, of, attempt)
    };
    assert_eq!(named("web", "gpu", 0), named("web", "gpu", 0));
    assert_ne!(named("web", "gpu", 0), named("web", "gpu", 1));
    assert_ne!(named("web", "gpu", 0), named("web", "nic", 0));
    assert!(named("web", "gpu", 0).starts_with("web-gpu-"));
    for (name, of) in [("p".repeat(253), "c".repeat(63)), ("p.".repeat(100), "c".to_owned())] {
        let name = named(&name, &of, 0);
        assert!(name.len() <= LONGEST_NAME, "{name}");
        assert!(name.contains('c') && !name.contains(".-"), "{name}");
    }
}

#[test]
fn a_user_stays_until_it_is_sure_that_it_has_gone() {
    let by = |more| read::<ResourceClaimConsumerReference>(merged(user("p1"), &more));
    let gone = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let runs = merged(gone.clone(), &json!({"spec": {"nodeName": "n"}, "status": {"phase": "Running"}}));
    assert_eq!(usage(&by(json!({})), Some(&pod(json!({})))), Use::Stays);
    assert_eq!(usage(&by(json!({})), Some(&pod(runs))), Use::Stays);
    assert_eq!(usage(&by(json!({})), None), Use::Ask);
    assert_eq!(usage(&by(json!({"uid": "p0"})), Some(&pod(json!({})))), Use::Goes);
    assert_eq!(usage(&by(json!({})), Some(&pod(json!({"status": {"phase": "Failed"}})))), Use::Goes);
    assert_eq!(usage(&by(json!({})), Some(&pod(gone))), Use::Goes);
    assert_eq!(
        usage(&by(json!({"resource": "podgroups", "apiGroup": "scheduling.k8s.io"})), None),
        Use::Stays
    );
}

#[test]
fn devices_are_free_when_the_last_user_has_gone() {
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let ours = |more: &Value| made(merged(allocated(&[user("p1"), user("p2")]), more));
    let kept = |uids: &[&str]| uids.iter().map(|uid| read(user(uid))).collect::<Vec<_>>();
    let others = Some(vec!["other".to_owned()]);

    assert_eq!(tidy(&ours(&json!({})), kept(&["p1", "p2"]), None), Tidy::default());
    let one_left = Tidy { users: Some(kept(&["p2"])), ..Tidy::default() };
    assert_eq!(tidy(&ours(&json!({})), kept(&["p2"]), None), one_left);
    let free =
        Tidy { users: Some(Vec::new()), deallocate: true, finalizers: others.clone(), ..Tidy::default() };
    assert_eq!(tidy(&ours(&json!({})), Vec::new(), None), free);
    // Allocated by somebody else's hand.
    let foreign = made(json!({"status": {"allocation": {"devices": {}}, "reservedFor": [user("p1")]}}));
    let no_user = Tidy { users: Some(Vec::new()), ..Tidy::default() };
    assert_eq!(tidy(&foreign, Vec::new(), None), no_user);
    // Nobody has used it yet.
    let fresh = |more: &Value| made(merged(allocated(&[]), more));
    assert_eq!(tidy(&fresh(&json!({})), Vec::new(), None), Tidy::default());
    let ended = Tidy { deallocate: true, finalizers: others, ..Tidy::default() };
    assert_eq!(tidy(&fresh(&going), Vec::new(), None), ended);
    assert_eq!(tidy(&ours(&going), kept(&["p1", "p2"]), None), Tidy::default(), "it is used still");
}

#[test]
fn a_claim_goes_with_the_pod_that_it_was_made_for() {
    let goes = |users: &[&str], owner: Option<Value>| {
        let users = users.iter().map(|uid| read(user(uid))).collect();
        tidy(&made(json!({})), users, owner.map(pod).as_ref()).delete
    };
    let done = || json!({"status": {"phase": "Succeeded"}});
    assert!(goes(&[], Some(done())));
    assert!(goes(&[], Some(json!({"metadata": {"uid": "p2"}}))));
    assert!(!goes(&["p9"], Some(done())));
    assert!(!goes(&[], Some(json!({}))));
    assert!(!goes(&[], None), "the garbage collector sees to that");
    assert_eq!(owning_pod(&made(json!({}))), Some("web"));
    assert_eq!(owning_pod(&made(json!({"metadata": {"ownerReferences": []}}))), None);
}
