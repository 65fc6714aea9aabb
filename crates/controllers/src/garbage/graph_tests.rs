use super::*;

fn node(name: &str, owners: &[(&str, bool)]) -> Node {
    let owners = owners.iter().map(|(uid, blocks)| Owner {
        uid: (*uid).into(),
        kind: None,
        name: (*uid).into(),
        blocks: *blocks,
    });
    Node {
        identity: Identity { kind: KindId(0), key: ObjectKey::new("n", name), uid: name.into() },
        owners: owners.collect(),
        life: Life::Stays,
    }
}

fn sorted(look: Vec<Uid>) -> Vec<String> {
    let look: BTreeSet<String> = look.iter().map(ToString::to_string).collect();
    look.into_iter().collect()
}

#[test]
fn a_change_concerns_those_it_may_matter_to() {
    let mut graph = Graph::default();
    assert_eq!(sorted(graph.apply(node("d", &[("a", true), ("b", true)]))), ["d"]);
    // A dependent may be seen before its owner.
    assert_eq!(sorted(graph.apply(node("a", &[]))), [""; 0], "nobody owns it, and it stays");
    assert_eq!(graph.dependents("a").count(), 1);
    let going = Node { life: Life::Foreground, ..node("a", &[]) };
    assert_eq!(sorted(graph.apply(going.clone())), ["a"]);
    assert_eq!(sorted(graph.apply(going)), [""; 0], "it is known already");
    assert_eq!(sorted(graph.apply(node("d", &[("a", false), ("b", true)]))), ["a", "d"]);
    assert_eq!(sorted(graph.apply(node("d", &[("b", true)]))), ["a", "d"]);
    assert_eq!(graph.dependents("a").count(), 0);
    assert_eq!(sorted(graph.remove("d")), ["b"]);
    assert_eq!(sorted(graph.remove("d")), [""; 0]);
}

#[test]
fn an_owner_that_goes_concerns_its_dependents() {
    let mut graph = Graph::default();
    let owner = node("a", &[]);
    for node in [owner.clone(), node("d", &[("a", true)]), node("e", &[("a", false)])] {
        graph.apply(node);
    }
    assert!(!graph.is_absent(&owner.identity));
    assert_eq!(sorted(graph.remove("a")), ["d", "e"]);
    assert!(graph.is_absent(&owner.identity));
}

#[test]
fn a_list_takes_out_what_it_does_not_name() {
    let mut graph = Graph::default();
    let mut other = node("other", &[]);
    other.identity.kind = KindId(1);
    for node in [node("stays", &[]), node("gone", &[("stays", true)]), other] {
        graph.apply(node);
    }
    assert_eq!(sorted(graph.retain(KindId(0), &BTreeSet::from(["stays".into()]))), ["stays"]);
    assert!(graph.get("gone").is_none() && graph.get("other").is_some());
}

#[test]
fn nothing_is_left_of_what_is_gone() {
    let mut graph = Graph::default();
    for i in 0..ABSENCES + 10 {
        graph.apply(node(&i.to_string(), &[("a", true)]));
        graph.remove(&i.to_string());
    }
    assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
    assert_eq!((graph.absent.len(), graph.absent_order.len()), (ABSENCES, ABSENCES));
}

fn served(kind: &str, version: &str) -> Served {
    let resource = kube::discovery::ApiResource {
        group: "x".to_owned(),
        version: version.to_owned(),
        api_version: format!("x/{version}"),
        kind: kind.to_owned(),
        plural: kind.to_lowercase(),
    };
    Served { resource, also_in: vec!["y".to_owned()], namespaced: true, verbs: Vec::new() }
}

#[test]
fn a_kind_that_comes_later_explains_owners() {
    let catalogue = Catalogue::new(vec![served("Thing", "v1")]);
    let meta: ObjectMeta =
        serde_json::from_value(serde_json::json!({"name": "a", "uid": "a", "ownerReferences": [
            {"apiVersion": "y/v3", "kind": "Widget", "name": "w", "uid": "w"},
        ]}))
        .expect("metadata");
    let read = |catalogue: &Catalogue| Node::of(catalogue, KindId(0), &meta).expect("a UID");
    let mut graph = Graph::default();
    graph.apply(read(&catalogue));
    assert_eq!(sorted(graph.puzzling()), ["a"]);

    let widget = catalogue.add(served("Widget", "v1"));
    // It keeps its place when its version changes.
    assert_eq!(catalogue.add(served("Widget", "v2")), widget);
    assert_eq!(catalogue.served(widget).resource.api_version, "x/v2");
    assert_eq!(read(&catalogue).owners[0].kind, Some(widget));
    graph.apply(read(&catalogue));
    assert_eq!(graph.puzzling().len(), 0);
}
