use serde_json::json;

use super::*;
use crate::kind::Kinds;

fn warning(group: &str, version: &str, kind: &str) -> String {
    let kinds = Kinds::builtin();
    let row = kinds.kind(group, version, kind).unwrap_or_else(|| panic!("{group}/{version} {kind}"));
    row.version(version).unwrap().warning.as_deref().unwrap().to_owned()
}

#[test]
fn every_removed_version_is_served_with_its_warning_and_only_behind_the_switch() {
    let (all, current) = (Kinds::builtin(), Kinds::current());
    for removed in VERSIONS.iter().chain(EXTENSIONS.iter().map(|(removed, _)| removed)) {
        let Removed { group, version, kind, .. } = removed;
        let row = all.kind(group, version, kind).unwrap_or_else(|| panic!("{group}/{version} {kind}"));
        assert_eq!(row.version(version).unwrap().warning.as_deref(), Some(&*removed.warning()));
        assert!(current.kind(group, version, kind).is_none(), "{group}/{version} {kind}");
    }
}

#[test]
fn warnings_are_upstreams() {
    assert_eq!(
        warning("extensions", "v1beta1", "Ingress"),
        "extensions/v1beta1 Ingress is deprecated in v1.14+, unavailable in v1.22+; use networking.k8s.io/v1 Ingress"
    );
    assert_eq!(
        warning("node.k8s.io", "v1beta1", "RuntimeClass"),
        "node.k8s.io/v1beta1 RuntimeClass is deprecated in v1.22+, unavailable in v1.25+"
    );
    assert_eq!(
        warning("", "v1", "Endpoints"),
        "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"
    );
}

#[test]
fn clients_find_the_current_version_first() {
    let kinds = Kinds::builtin();
    let groups = kinds.groups();
    let versions = |name: &str| groups.iter().find(|g| g.name == name).unwrap().versions.clone();
    assert_eq!(versions("apps"), ["v1", "v1beta2", "v1beta1"]);
    assert_eq!(versions("batch"), ["v1", "v1beta1", "v2alpha1"]);
    assert_eq!(versions("rbac.authorization.k8s.io"), ["v1", "v1beta1", "v1alpha1"]);
    assert_eq!(versions("autoscaling")[0], "v2");
    let place = |name: &str| groups.iter().position(|g| g.name == name).unwrap();
    assert!(place("apps") < place("extensions"));
    assert_eq!(place("networking.k8s.io") + 1, place("extensions"));
}

#[test]
fn a_kind_in_two_groups_is_one_collection() {
    let kinds = Kinds::builtin();
    for (removed, group) in EXTENSIONS {
        let old = kinds.kind(removed.group, removed.version, removed.kind).unwrap();
        let now = kinds.kind(group, "v1", removed.kind).unwrap();
        assert_eq!(old.storage, now.storage, "{}", removed.kind);
        assert!(old.short_names.is_empty() && old.categories.is_empty(), "{}", removed.kind);
    }
}

#[test]
fn a_selector_of_extensions_may_change() {
    let kinds = Kinds::builtin();
    for (group, allowed) in [("extensions", true), ("apps", false)] {
        for kind in ["DaemonSet", "Deployment", "ReplicaSet"] {
            let row = kinds.iter().find(|k| k.group == group && k.kind == kind).unwrap();
            let of = |app: &str| {
                let mut object = json!({"metadata": {"name": "a"}, "spec": {
                    "selector": {"matchLabels": {"app": app}},
                    "template": {"metadata": {"labels": {"app": app}},
                                 "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
                (row.hooks.default)("v1", &mut object);
                object
            };
            let errors = (row.hooks.update.validate)(&of("new"), &of("old"));
            assert_eq!(errors.is_empty(), allowed, "{group} {kind}: {errors:?}");
        }
    }
}

#[test]
fn workloads_of_old_versions_leave_their_dependents() {
    let kinds = Kinds::builtin();
    for (group, version, kind, orphans) in [
        ("batch", "v1beta1", "CronJob", true),
        ("batch", "v1", "CronJob", false),
        ("batch", "v1", "Job", true),
        ("apps", "v1beta2", "Deployment", true),
        ("apps", "v1", "Deployment", false),
        ("extensions", "v1beta1", "ReplicaSet", true),
        ("extensions", "v1beta1", "Ingress", false),
    ] {
        let row = kinds.kind(group, version, kind).unwrap();
        assert_eq!(row.orphans_by_default(version), orphans, "{group}/{version} {kind}");
    }
}
