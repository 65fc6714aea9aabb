use super::*;
use crate::kind::{Action, Kinds};

#[test]
fn events_are_one_collection_under_two_names() {
    let kinds = Kinds::builtin();
    let row = kinds.kind("events.k8s.io", "v1", "Event").unwrap();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z", "regarding": {"kind": "Pod"}, "note": "hello", "reason": "R",
        "reportingController": "c", "deprecatedSource": {"component": "k"}, "deprecatedCount": 3, "type": "Normal"});
    let mut stored = event.clone();
    to_storage(row, "v1", &mut stored);
    assert_eq!(
        stored,
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"},
               "eventTime": "2026-01-01T00:00:00.000000Z", "involvedObject": {"kind": "Pod"}, "message": "hello",
               "reason": "R", "reportingComponent": "c", "source": {"component": "k"}, "count": 3, "type": "Normal"})
    );
    from_storage(row, "v1", &mut stored);
    assert_eq!(stored, event);
    let core = kinds.kind("", "v1", "Event").unwrap();
    assert!(is_stored_as(core, "v1"));
    assert!(!is_stored_as(row, "v1"));
    let mut untouched = json!({"count": 1});
    to_storage(core, "v1", &mut untouched);
    assert_eq!(untouched, json!({"count": 1}));
}

fn scale(group: &str, kind: &str) -> Scale {
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, "v1", kind).unwrap();
    match &row.subresource("scale").unwrap().action {
        Action::Scale(scale) => scale.clone(),
        other => panic!("{kind}/scale is {other:?}"),
    }
}

#[test]
fn a_scale_shows_and_changes_replicas() {
    let at = scale("apps", "Deployment");
    let mut deployment = json!({"metadata": {"name": "a", "namespace": "n", "resourceVersion": "5", "labels": {}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}}, "status": {"replicas": 2}});
    let mut shown = scale_of(&at, &deployment);
    assert_eq!(
        shown,
        json!({"kind": "Scale", "apiVersion": "autoscaling/v1",
               "metadata": {"name": "a", "namespace": "n", "resourceVersion": "5"},
               "spec": {"replicas": 3}, "status": {"replicas": 2, "selector": "a=b"}})
    );
    shown["spec"] = json!({});
    apply_scale(&at, &shown, &mut deployment);
    assert_eq!(deployment["spec"]["replicas"], 0);
    let controller = json!({"spec": {"replicas": 1, "selector": {"x": "y"}}});
    let shown = scale_of(&scale("", "ReplicationController"), &controller);
    assert_eq!(shown["status"], json!({"replicas": 0, "selector": "x=y"}));
    assert_eq!(validate_scale(&json!({"spec": {"replicas": -1}})).len(), 1);
    assert_eq!(validate_scale(&json!({"spec": {}})), []);
}
