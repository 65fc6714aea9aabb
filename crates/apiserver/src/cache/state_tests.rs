use std::collections::BTreeMap;

use proptest::prelude::*;
use tiphys_api::selector::{FieldSelector, LabelSelector};

use super::*;
use crate::cache::projection::Projection;

fn spec() -> Spec {
    let kinds = tiphys_api::kind::Kinds::builtin();
    let pods = kinds.iter().find(|kind| kind.resource == "pods").unwrap();
    Spec::of(pods).unwrap()
}

/// One change: which object, and its label and node, or nothing.
type Op = (u8, Option<(u8, u8)>);

fn op() -> impl Strategy<Value = Op> {
    (0..24_u8, proptest::option::weighted(0.7, (0..3_u8, 0..3_u8)))
}

fn key(n: u8) -> Arc<str> {
    format!("{}/{}", ["a", "a-b", "b"][usize::from(n % 3)], n / 3).into()
}

fn revision(number: usize) -> Revision {
    Revision::parse(&number.to_string()).unwrap()
}

fn filters() -> Vec<Filter> {
    let labels = |text| Filter { labels: Arc::new(LabelSelector::parse(text).unwrap()), ..Filter::default() };
    let fields = |text| Filter { fields: Arc::new(FieldSelector::parse(text).unwrap()), ..Filter::default() };
    let namespace = Some(Arc::from("a"));
    vec![
        Filter::default(),
        Filter { namespace: namespace.clone(), ..Filter::default() },
        labels("l=1"),
        labels("l!=1"),
        fields("spec.nodeName=n1"),
        Filter { namespace, ..fields("spec.nodeName=n1") },
        fields("spec.nodeName!=n1,metadata.namespace=b"),
        fields("metadata.name=1"),
        Filter { namespace: Some("b".into()), ..fields("metadata.name=1") },
    ]
}

/// What a filter lets through, the slow way.
fn naive(objects: &BTreeMap<Arc<str>, Arc<Object>>, filter: &Filter, start: &str) -> Vec<(String, Revision)> {
    let matching = objects.iter().filter(|(key, o)| ***key >= *start && filter.matches(o));
    matching.map(|(key, o)| (key.to_string(), o.revision())).collect()
}

fn shown(objects: impl Iterator<Item = Arc<Object>>) -> Vec<(String, Revision)> {
    objects.map(|o| (o.key().to_string(), o.revision())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// At every revision: listing with each filter is the slow way's answer, and who has followed the notices
    /// of a filter from any revision has just that.
    #[test]
    fn lists_and_watches_agree(ops in prop::collection::vec(op(), 1..60), start in 0..30_u8, from in 0..60_usize) {
        let spec = spec();
        let projection = Arc::new(Projection::new(&spec.fields));
        let (mut root, mut ring) = (Root::new(&spec), Ring::new(Revision::ZERO));
        let mut history = vec![BTreeMap::new()];
        for (i, (n, change)) in ops.iter().enumerate() {
            let revision = revision(i + 1);
            let object = change.map(|(label, node)| {
                let stored = format!(
                    r#"{{"kind":"Pod","apiVersion":"v1","metadata":{{"labels":{{"l":"{label}"}}}},"spec":{{"nodeName":"n{node}"}}}}"#
                );
                Arc::new(Object::read(&projection, key(*n), revision, stored.as_bytes()).unwrap())
            });
            let before = root.set(&key(*n), object.as_ref());
            let mut objects: BTreeMap<_, _> = history.last().unwrap().clone();
            prop_assert_eq!(before.as_ref().map(|o| o.revision()), objects.get(&key(*n)).map(|o: &Arc<Object>| o.revision()));
            match &object {
                Some(object) => drop(objects.insert(key(*n), Arc::clone(object))),
                None => drop(objects.remove(&key(*n))),
            }
            history.push(objects);
            let event = Happened::new(revision, key(*n), before, object, Instant::now());
            ring.push(Arc::new(event), usize::MAX, usize::MAX);
        }
        let start = key(start % 24);
        let from = from.min(history.len() - 1);
        for (at, objects) in history.iter().enumerate() {
            let root = ring.rewind(&root, revision(at));
            for filter in filters() {
                prop_assert_eq!(shown(root.matching(filter.clone(), "", usize::MAX)), naive(objects, &filter, ""));
                prop_assert_eq!(shown(root.matching(filter.clone(), &start, usize::MAX)), naive(objects, &filter, &start));
                prop_assert_eq!(shown(root.matching(filter.clone(), &start, 2)).len(), naive(objects, &filter, &start).len().min(2));
            }
            for prefix in ["", "a/", "b/"] {
                let count = objects.keys().filter(|k| k.starts_with(prefix) && ***k >= *start).count();
                prop_assert_eq!(root.count(prefix, &start), count);
            }
        }
        for filter in filters() {
            let mut followed: BTreeMap<String, Revision> = naive(&history[from], &filter, "").into_iter().collect();
            for (step, event) in ring.after(revision(from)).enumerate() {
                if let Some(Notice::Object { change, object, .. }) = event.notice(&filter, &Shared::default()) {
                    prop_assert_eq!(object.revision(), event.revision);
                    let before = match change {
                        Change::Deleted => followed.remove(&**object.key()),
                        _ => followed.insert(object.key().to_string(), object.revision()),
                    };
                    prop_assert_eq!(before.is_some(), change != Change::Added);
                }
                let now: BTreeMap<_, _> = naive(&history[from + step + 1], &filter, "").into_iter().collect();
                prop_assert_eq!(&followed, &now);
            }
        }
    }
}

#[test]
fn a_ring_is_bounded_by_number_and_size() {
    let projection = Arc::new(Projection::new(&[]));
    let stored = br#"{"kind":"Pod","apiVersion":"v1","metadata":{}}"#;
    let event = |n: usize| {
        let object = Object::read(&projection, key(0), revision(n), stored).unwrap();
        Arc::new(Happened::new(revision(n), key(0), None, Some(Arc::new(object)), Instant::now()))
    };
    let size = event(1).size();
    let mut ring = Ring::new(Revision::ZERO);
    for n in 1..=9 {
        ring.push(event(n), 5, usize::MAX);
    }
    assert_eq!((ring.after(Revision::ZERO).count(), ring.floor()), (5, revision(4)));
    ring.push(event(10), 5, 3 * size + 2);
    assert_eq!((ring.after(Revision::ZERO).count(), ring.floor()), (3, revision(7)));
    ring.push(event(11), 5, 1);
    assert_eq!((ring.after(Revision::ZERO).count(), ring.floor()), (0, revision(11)));
}
