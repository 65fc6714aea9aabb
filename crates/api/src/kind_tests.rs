use serde_json::json;

use super::*;

#[test]
fn a_served_kind_is_found_by_resource_and_by_kind() {
    let kinds = Kinds::builtin();
    let pods = kinds.resource("", "v1", "pods").unwrap();
    assert_eq!(pods.kind, "Pod");
    assert_eq!(kinds.kind("apps", "v1", "Deployment").unwrap().resource, "deployments");
    assert!(kinds.resource("apps", "v1beta9", "deployments").is_none());
    assert!(kinds.resource("", "v1", "deployments").is_none());
}

#[test]
fn both_groups_of_events_share_one_storage() {
    let kinds = Kinds::builtin();
    let core = kinds.resource("", "v1", "events").unwrap();
    let newer = kinds.resource("events.k8s.io", "v1", "events").unwrap();
    assert_eq!(core.storage, newer.storage);
    let event = json!({"involvedObject": {"name": "web"}, "source": {"component": "kubelet"}});
    let read = |kind: &Kind, label: &str| {
        kind.fields.iter().find(|f| f.label == label).map(|f| f.read(&event).into_owned())
    };
    assert_eq!(read(core, "involvedObject.name").as_deref(), Some("web"));
    assert_eq!(read(newer, "regarding.name").as_deref(), Some("web"));
    assert_eq!(read(core, "source").as_deref(), Some("kubelet"));
    assert_eq!(read(core, "type").as_deref(), Some(""));
}

#[test]
fn rows_come_and_go() {
    let mut kinds = Kinds::builtin();
    let mut widget = (**kinds.resource("", "v1", "configmaps").unwrap()).clone();
    widget.group = "example.com".into();
    widget.kind = "Widget".to_owned().into();
    widget.resource = "widgets".to_owned().into();
    kinds.insert(widget.clone()).unwrap();
    assert_eq!(kinds.insert(widget).unwrap_err().name, "widgets");
    assert!(kinds.kind("example.com", "v1", "Widget").is_some());
    assert!(kinds.remove("example.com", "widgets").is_some());
    assert!(kinds.kind("example.com", "v1", "Widget").is_none());
    assert_eq!(kinds.resource("discovery.k8s.io", "v1", "endpointslices").unwrap().kind, "EndpointSlice");
}

#[test]
fn groups_list_the_core_first_and_stable_versions_first() {
    let kinds = Kinds::builtin();
    let groups = kinds.groups();
    assert_eq!(groups[0].name, "");
    assert_eq!(groups[1].name, "apiregistration.k8s.io");
    let mut versions = ["v1alpha1", "v1", "v2beta1", "v2", "foo", "v10beta3"];
    versions.sort_by_key(|v| meta::version_rank(v));
    assert_eq!(versions, ["v2", "v1", "v10beta3", "v2beta1", "v1alpha1", "foo"]);
}

#[test]
fn verbs_read_as_discovery_writes_them() {
    let verbs = Verbs::GET.and(Verbs::UPDATE).and(Verbs::PATCH);
    assert_eq!(verbs.names().collect::<Vec<_>>(), ["get", "patch", "update"]);
    assert_eq!(Verbs::ALL.names().count(), 8);
    assert!(!Verbs::ALL.without(Verbs::WATCH).contains(Verbs::WATCH));
}
