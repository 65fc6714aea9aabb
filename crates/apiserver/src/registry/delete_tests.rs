use tiphys_api::kind::Kinds;

use super::*;

fn kind(group: &str, resource: &str) -> std::sync::Arc<Kind> {
    Kinds::builtin().group_resource(group, resource).unwrap().clone()
}

/// Pods, which live on for as long as they or the caller ask, once they are on a node.
fn pods() -> Kind {
    let mut pods = Kind::clone(&kind("", "pods"));
    pods.hooks.grace = Some(|pod, wish| {
        if meta::text(pod, &["spec", "nodeName"]).is_empty() {
            return 0;
        }
        wish.or(pod["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(0)
    });
    pods
}

fn now() -> Timestamp {
    "2026-01-01T00:01:00Z".parse().unwrap()
}

fn marked(plan: Plan) -> Value {
    match plan {
        Plan::Mark(object) => object["metadata"].clone(),
        other => panic!("not marked: {other:?}"),
    }
}

fn running_pod() -> Value {
    json!({"metadata": {"name": "p", "generation": 1},
           "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}, "status": {"phase": "Running"}})
}

#[test]
fn what_nobody_holds_goes_at_once() {
    let object = json!({"metadata": {"name": "a"}});
    assert_eq!(plan(&kind("", "configmaps"), &object, &DeleteOptions::default(), now()), Plan::Remove(None));
}

#[test]
fn finalizers_hold_an_object() {
    let object = json!({"metadata": {"name": "a", "generation": 3, "finalizers": ["x/y"]}});
    let options = DeleteOptions { grace: Some(7), ..DeleteOptions::default() };
    let metadata = marked(plan(&kind("", "configmaps"), &object, &options, now()));
    assert_eq!(
        metadata,
        json!({"name": "a", "generation": 4, "finalizers": ["x/y"],
               "deletionTimestamp": "2026-01-01T00:01:00Z", "deletionGracePeriodSeconds": 0})
    );
    let again = json!({"metadata": metadata});
    assert_eq!(plan(&kind("", "configmaps"), &again, &options, now()), Plan::Wait);
}

#[test]
fn the_policy_is_a_finalizer() {
    let with = |policy, finalizers: Value| {
        let object = json!({"metadata": {"name": "a", "finalizers": finalizers}});
        let options = DeleteOptions { propagation: policy, ..DeleteOptions::default() };
        match plan(&kind("apps", "deployments"), &object, &options, now()) {
            Plan::Mark(object) => object["metadata"]["finalizers"].clone(),
            Plan::Remove(_) => Value::Null,
            Plan::Wait => json!("wait"),
        }
    };
    assert_eq!(with(Some(Propagation::Foreground), json!([])), json!(["foregroundDeletion"]));
    assert_eq!(with(Some(Propagation::Orphan), json!(["a/b"])), json!(["a/b", "orphan"]));
    assert_eq!(with(Some(Propagation::Background), json!(["orphan"])), Value::Null);
    assert_eq!(with(None, json!(["orphan"])), json!(["orphan"]));
    assert_eq!(with(None, json!([])), Value::Null);
}

#[test]
fn a_running_pod_is_given_time() {
    let pods = pods();
    let metadata = marked(plan(&pods, &running_pod(), &DeleteOptions::default(), now()));
    assert_eq!(metadata["deletionTimestamp"], "2026-01-01T00:01:30Z");
    assert_eq!(metadata["deletionGracePeriodSeconds"], 30);
    assert_eq!(metadata["generation"], 2);

    let forced = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
    let Plan::Remove(Some(shown)) = plan(&pods, &running_pod(), &forced, now()) else { panic!("it stays") };
    assert_eq!(shown["metadata"]["deletionTimestamp"], "2026-01-01T00:01:00Z");
    assert_eq!(shown["metadata"]["deletionGracePeriodSeconds"], 0);

    let mut unscheduled = running_pod();
    unscheduled["spec"]["nodeName"] = "".into();
    let planned = plan(&pods, &unscheduled, &DeleteOptions::default(), now());
    assert!(matches!(planned, Plan::Remove(Some(_))), "{planned:?}");
}

#[test]
fn a_grace_period_can_only_be_shortened() {
    let pods = pods();
    let mut pod = running_pod();
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:20Z".into();
    pod["metadata"]["deletionGracePeriodSeconds"] = 30.into();
    let asked = |grace| plan(&pods, &pod, &DeleteOptions { grace, ..DeleteOptions::default() }, now());

    assert_eq!(asked(None), Plan::Wait);
    assert_eq!(asked(Some(30)), Plan::Wait);
    let Plan::Remove(Some(shown)) = asked(Some(0)) else { panic!("it stays") };
    assert_eq!(shown["metadata"]["deletionGracePeriodSeconds"], 0);
    let metadata = marked(asked(Some(20)));
    assert_eq!(metadata["deletionTimestamp"], "2026-01-01T00:01:10Z");
    assert_eq!(metadata["deletionGracePeriodSeconds"], 20);
    // Five seconds from the first request would have ended before now.
    let metadata = marked(asked(Some(5)));
    assert_eq!(metadata["deletionTimestamp"], "2026-01-01T00:01:00Z");
    assert_eq!(metadata["deletionGracePeriodSeconds"], 1);
}

#[test]
fn a_held_pod_stays_after_its_grace() {
    let mut pod = running_pod();
    pod["metadata"]["finalizers"] = json!(["x/y"]);
    let forced = DeleteOptions { grace: Some(0), ..DeleteOptions::default() };
    let metadata = marked(plan(&pods(), &pod, &forced, now()));
    assert_eq!(metadata["deletionGracePeriodSeconds"], 0);
    assert_eq!(metadata["finalizers"], json!(["x/y"]));
}

#[test]
fn a_namespace_is_emptied_first() {
    let namespaces = kind("", "namespaces");
    let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
    let Plan::Mark(terminating) = plan(&namespaces, &namespace, &DeleteOptions::default(), now()) else {
        panic!("not marked")
    };
    assert_eq!(terminating["status"]["phase"], "Terminating");
    assert!(terminating["metadata"].get("deletionGracePeriodSeconds").is_none());

    let mut finalized = terminating.clone();
    finalized["spec"]["finalizers"] = json!([]);
    assert!(is_due(&namespaces, &finalized, &terminating));
    assert!(!is_due(&namespaces, &terminating, &terminating));
    assert!(!is_due(&namespaces, &finalized, &namespace));
}

#[test]
fn what_is_emptied_first_says_only_that_it_is_being_deleted() {
    let foreground = DeleteOptions { propagation: Some(Propagation::Foreground), ..DeleteOptions::default() };
    let definition = json!({"metadata": {"name": "as.x.y", "generation": 1}});
    let definitions = kind("apiextensions.k8s.io", "customresourcedefinitions");
    let metadata = marked(plan(&definitions, &definition, &foreground, now()));
    assert_eq!(metadata["generation"], 1);
    assert_eq!(metadata["finalizers"], json!(["customresourcecleanup.apiextensions.k8s.io"]));
    assert_eq!(metadata.get("deletionGracePeriodSeconds"), None);

    let namespaces = kind("", "namespaces");
    let namespace = json!({"metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
    let Plan::Mark(going) = plan(&namespaces, &namespace, &DeleteOptions::default(), now()) else {
        panic!("it has to be emptied")
    };
    assert_eq!(plan(&namespaces, &going, &foreground, now()), Plan::Wait);
}

#[test]
fn events_have_no_dependents_to_wait_for() {
    let event = json!({"metadata": {"name": "e"}});
    for propagation in [Propagation::Foreground, Propagation::Orphan] {
        let options = DeleteOptions { propagation: Some(propagation), ..DeleteOptions::default() };
        for group in ["", "events.k8s.io"] {
            assert_eq!(plan(&kind(group, "events"), &event, &options, now()), Plan::Remove(None));
        }
    }
}
