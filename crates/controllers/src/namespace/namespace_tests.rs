use k8s_openapi::api::core::v1::NamespaceCondition;
use kube::discovery::ApiResource;
use serde_json::json;

use super::*;

fn served(group: &str, plural: &str) -> Served {
    Served {
        also_in: Vec::new(),
        resource: ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: String::new(),
            kind: String::new(),
            plural: plural.to_owned(),
        },
        namespaced: true,
        verbs: Vec::new(),
    }
}

fn metas(metas: serde_json::Value) -> Vec<ObjectMeta> {
    serde_json::from_value(metas).expect("metadata")
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn only_what_has_no_excuse_to_stay_is_an_error() {
    let table = [
        (json!([]), 0, 0),
        (json!([{"finalizers": ["x/y"]}]), 1, 0),
        (json!([{"deletionGracePeriodSeconds": 30}]), 1, 0),
        (json!([{"deletionGracePeriodSeconds": 10}]), 1, 1),
        (json!([{}, {"finalizers": []}]), 1, 1),
        (json!([{}, {"deletionGracePeriodSeconds": 30}]), 1, 0),
    ];
    for (left, remaining, errors) in table {
        let mut findings = Findings::default();
        findings.count("n", &served("", "pods"), &metas(left.clone()), seconds(20));
        assert_eq!((findings.remaining.len(), findings.errors.len()), (remaining, errors), "{left}");
        assert_eq!(findings.is_clean(), remaining == 0);
    }
    let mut findings = Findings::default();
    findings.count("n", &served("apps", "deployments"), &metas(json!([{}])), seconds(0));
    let error = "unexpected items still remain in namespace: n for gvr: apps/v1, Resource=deployments";
    assert_eq!(findings.errors, [error]);
}

#[test]
fn conditions_name_who_holds_it_up() {
    let mut findings = Findings::default();
    let held = metas(json!([{"finalizers": ["x/y", "a/b"]}, {"finalizers": ["x/y"]}]));
    findings.count("n", &served("", "pods"), &held, seconds(0));
    findings.count("n", &served("apps", "deployments"), &held[..1], seconds(0));
    findings.errors = vec!["late".to_owned(), "early".to_owned()];
    findings.undiscovered = BTreeMap::from([("x/v1".to_owned(), "down".to_owned())]);
    let mut conditions = Vec::new();
    update(&mut conditions, &findings, Timestamp::UNIX_EPOCH);
    let said: Vec<_> = conditions
        .iter()
        .map(|c| (c.type_.as_str(), c.status.as_str(), c.message.as_deref().unwrap_or("")))
        .collect();
    assert_eq!(
        said,
        [
            (
                "NamespaceDeletionDiscoveryFailure",
                "True",
                "Discovery failed for some groups, 1 failing: unable to retrieve the complete list of server APIs: x/v1: down"
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                "False",
                "All legacy kube types successfully parsed"
            ),
            (
                "NamespaceDeletionContentFailure",
                "True",
                "Failed to delete all resource types, 2 remaining: early, late"
            ),
            (
                "NamespaceContentRemaining",
                "True",
                "Some resources are remaining: deployments.apps has 1 resource instances, pods. has 2 resource instances"
            ),
            (
                "NamespaceFinalizersRemaining",
                "True",
                "Some content in the namespace has finalizers remaining: a/b in 2 resource instances, x/y in 3 resource instances"
            ),
        ]
    );
}

#[test]
fn a_condition_remembers_when_it_came_true() {
    let condition = |kind: &str| NamespaceCondition {
        type_: kind.to_owned(),
        status: "True".to_owned(),
        ..Default::default()
    };
    let mut conditions = vec![condition("Others"), condition("NamespaceContentRemaining")];
    update(&mut conditions, &Findings::default(), Timestamp::UNIX_EPOCH);
    assert_eq!(conditions.len(), 6);
    assert_eq!(conditions[0], condition("Others"));
    assert_eq!(conditions[1].status, "False");
    let settled = conditions.clone();
    let later = Timestamp::from_second(60).expect("a time");
    update(&mut conditions, &Findings::default(), later);
    assert_eq!(conditions, settled);
}

#[test]
fn waits_grow_with_the_time_it_takes() {
    assert_eq!(
        [wait(seconds(0)), wait(seconds(20)), wait(seconds(600))],
        [seconds(1), seconds(5), seconds(15)]
    );
}

#[test]
fn only_its_own_finalizer_concerns_the_controller() {
    let with = |finalizers: &[&str]| -> Namespace {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": {"finalizers": finalizers}}))
            .expect("a namespace")
    };
    assert!(holds(&with(&["x/y", "kubernetes"])));
    assert!(!holds(&with(&["x/y"])));
}
