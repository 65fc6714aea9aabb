use serde_json::json;

use super::*;

fn set() -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "set"},
        "spec": {"replicas": 2, "serviceName": "nginx", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [], "hostname": "x",
                "volumes": [{"name": "data", "emptyDir": {}}, {"name": "other", "emptyDir": {}}]}},
            "volumeClaimTemplates": [{"metadata": {"name": "data", "labels": {"app": "db", "tier": "1"}}, "spec": {}}]},
    }))
    .expect("a set")
}

#[test]
fn only_names_that_the_set_gives_are_its_pods() {
    for (name, want) in [
        ("web-0", Some(0)),
        ("web-12", Some(12)),
        ("web-01", None),
        ("web--1", None),
        ("web-+1", None),
        ("web-", None),
        ("web", None),
        ("web-1-2", None),
        ("other-1", None),
        ("web-99999999999", None),
    ] {
        assert_eq!(ordinal(&set(), name), want, "{name}");
    }
}

#[test]
fn a_pod_has_its_names_and_its_own_claim_in_place_of_a_volume() {
    let set = set();
    let pod = serde_json::to_value(pod(&set, &set.spec.template, "web-5", 1)).expect("a pod");
    assert_eq!(pod["metadata"]["name"], "web-1");
    assert_eq!(pod["metadata"]["generateName"], json!(null));
    assert_eq!(
        pod["metadata"]["labels"],
        json!({"app": "web", "statefulset.kubernetes.io/pod-name": "web-1",
            "apps.kubernetes.io/pod-index": "1", "controller-revision-hash": "web-5"})
    );
    assert_eq!(pod["metadata"]["ownerReferences"][0]["uid"], "set");
    assert_eq!((&pod["spec"]["hostname"], &pod["spec"]["subdomain"]), (&json!("web-1"), &json!("nginx")));
    assert_eq!(
        pod["spec"]["volumes"],
        json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data-web-1"}},
            {"name": "other", "emptyDir": {}}])
    );
}

#[test]
fn a_claim_is_named_after_its_pod_and_found_by_the_sets_labels() {
    let claims: Vec<_> = claims(&set(), 3).collect();
    assert_eq!(claims.len(), 1);
    assert_eq!(claims[0].name(), "data-web-3");
    let labels = claims[0].metadata.labels.clone().expect("labels");
    assert_eq!(labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["app=web", "tier=1"]);
}
