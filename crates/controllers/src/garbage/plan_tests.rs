use std::sync::Arc;

use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::{super::graph::KindId, *};
use crate::discovery::Served;

/// Kind `Space` is cluster-scoped, kind `Thing` is not.
fn catalogue() -> Catalogue {
    let served = |kind: &str, namespaced| Served {
        also_in: Vec::new(),
        resource: kube::discovery::ApiResource {
            group: "x".to_owned(),
            version: "v1".to_owned(),
            api_version: "x/v1".to_owned(),
            kind: kind.to_owned(),
            plural: kind.to_lowercase(),
        },
        namespaced,
        verbs: Vec::new(),
    };
    Catalogue::new(vec![served("Thing", true), served("Space", false)])
}

fn thing() -> KindId {
    catalogue().kinds().next().expect("the first kind")
}

/// A Thing of namespace `n` whose UID is its name; each owner is a Thing, `!` in front: and it is blocked.
fn node(name: &str, owners: &[&str], finalizer: Option<&str>) -> Node {
    let owners: Vec<Value> = owners
        .iter()
        .map(|owner| {
            let uid = owner.trim_start_matches('!');
            json!({"apiVersion": "x/v2", "kind": "Thing", "name": uid, "uid": uid, "blockOwnerDeletion": uid != *owner})
        })
        .collect();
    let mut meta = json!({"namespace": "n", "name": name, "uid": name, "ownerReferences": owners});
    if let Some(finalizer) = finalizer {
        meta["finalizers"] = json!([finalizer]);
        meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    }
    of(meta)
}

fn of(meta: Value) -> Node {
    let meta: ObjectMeta = serde_json::from_value(meta).expect("metadata");
    Node::of(&catalogue(), thing(), &meta).expect("a UID")
}

fn graph(nodes: &[Node]) -> Graph {
    let mut graph = Graph::default();
    for node in nodes {
        graph.apply(node.clone());
    }
    graph
}

fn uids(uids: &[&str]) -> Vec<Uid> {
    uids.iter().map(|uid| Arc::from(*uid)).collect()
}

#[test]
fn owners_decide_what_becomes_of_an_object() {
    use Standing::{Absent, Solid, Waiting};
    let delete = |policy| Step::Delete { policy, unblock: false };
    let table = [
        (vec![Solid], Step::Nothing),
        (vec![Absent], delete(Policy::Background)),
        (vec![Absent, Absent], delete(Policy::Background)),
        (vec![Solid, Absent], Step::Disown(uids(&["b"]))),
        (vec![Waiting, Solid], Step::Disown(uids(&["a"]))),
        (vec![Waiting], delete(Policy::Background)),
        (vec![Waiting, Absent], delete(Policy::Background)),
    ];
    for (owners, step) in table {
        let object = node("o", &["a", "b"][..owners.len()], None);
        assert_eq!(for_owners(&graph(&[]), &object, &owners, Policy::Background), step, "{owners:?}");
    }
    assert_eq!(for_owners(&graph(&[]), &node("o", &[], None), &[], Policy::Background), Step::Nothing);
    let going = node("o", &["a"], Some("x/y"));
    assert_eq!(for_owners(&graph(&[]), &going, &[Absent], Policy::Background), Step::Nothing);
    let orphaning = for_owners(&graph(&[]), &node("o", &["a"], None), &[Absent], Policy::Orphan);
    assert_eq!(orphaning, delete(Policy::Orphan));
}

#[test]
fn who_has_dependents_passes_a_foreground_deletion_on() {
    let object = node("o", &["!a"], None);
    let below = graph(&[node("below", &["!o"], None)]);
    let step = for_owners(&below, &object, &[Standing::Waiting], Policy::Background);
    assert_eq!(step, Step::Delete { policy: Policy::Foreground, unblock: false });
    // An owner that is gone waits for nobody.
    let step = for_owners(&below, &object, &[Standing::Absent], Policy::Background);
    assert_eq!(step, Step::Delete { policy: Policy::Background, unblock: false });
}

#[test]
fn a_circle_is_broken() {
    let circle = graph(&[node("a", &["!o"], Some("foregroundDeletion"))]);
    let step = for_owners(&circle, &node("o", &["!a"], None), &[Standing::Waiting], Policy::Background);
    assert_eq!(step, Step::Delete { policy: Policy::Foreground, unblock: true });
    let alone = node("a", &["!a"], Some("foregroundDeletion"));
    assert_eq!(for_dependents(&graph(std::slice::from_ref(&alone)), &alone), Step::Release);
}

#[test]
fn an_owner_waits_for_those_that_block_it() {
    let owner = node("a", &[], Some("foregroundDeletion"));
    let table: [(&[Node], Step); 4] = [
        (&[], Step::Release),
        (&[node("free", &["a"], None)], Step::Release),
        (&[node("going", &["!a"], Some("x/y"))], Step::Push(Vec::new())),
        (&[node("free", &["a"], None), node("held", &["!a"], None)], Step::Push(uids(&["free", "held"]))),
    ];
    for (dependents, step) in table {
        assert_eq!(for_dependents(&graph(dependents), &owner), step);
    }
}

#[test]
fn orphans_are_told_before_their_owner_goes() {
    let dependent = node("d", &["!a"], None);
    let orphan = Step::Orphan(vec![dependent.identity.clone()]);
    assert_eq!(for_dependents(&graph(&[dependent]), &node("a", &[], Some("orphan"))), orphan);
    assert_eq!(for_dependents(&graph(&[]), &node("a", &[], Some("x/y"))), Step::Nothing);
}

#[test]
fn an_owner_is_known_by_everything_that_identifies_it() {
    let catalogue = catalogue();
    let mut graph = graph(&[node("a", &[], None), node("w", &[], Some("foregroundDeletion"))]);
    graph.apply(node("gone", &[], None));
    graph.remove("gone");
    let reference = |kind: &str, name: &str, uid: &str| json!({"apiVersion": "x/v1", "kind": kind, "name": name, "uid": uid});
    let ask = |graph: &Graph, namespace: &str, owner: Value| {
        let object = of(json!({"namespace": namespace, "name": "o", "uid": "o", "ownerReferences": [owner]}));
        known(graph, &catalogue, &object, &object.owners[0])
    };
    let table = [
        ("n", reference("Thing", "a", "a"), "Yes(Solid)"),
        ("n", reference("Thing", "w", "w"), "Yes(Waiting)"),
        ("n", reference("Thing", "gone", "gone"), "Yes(Absent)"),
        ("n", reference("Unheard", "a", "a"), "Yes(Solid)"),
        ("n", reference("Thing", "b", "a"), "Ask(Identity { kind: KindId(0), key: n/b, uid: \"a\" })"),
        ("m", reference("Thing", "a", "a"), "Ask(Identity { kind: KindId(0), key: m/a, uid: \"a\" })"),
        ("n", reference("Space", "s", "s"), "Ask(Identity { kind: KindId(1), key: s, uid: \"s\" })"),
        ("", reference("Thing", "a", "a"), "Invalid"),
    ];
    for (namespace, owner, answer) in table {
        assert_eq!(format!("{:?}", ask(&graph, namespace, owner.clone())), answer, "{namespace} {owner}");
    }
}
