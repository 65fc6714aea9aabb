use serde_json::json;

use super::super::objects;
use super::*;
use crate::identity::Component;

fn resource<'a>(group: &'a str, resource: &'a str, namespace: &'a str) -> Target<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Target::Resource {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name: "",
        field_selector: "",
        label_selector: "",
    }
}

fn level(name: &str) -> Arc<Level> {
    let object = json!({"metadata": {"name": name, "uid": "u"}, "spec": {"type": "Exempt"}});
    let mut pool = super::super::level::Pool::new(1, Arc::default());
    pool.configure(vec![settings::Settings::read(&object).unwrap()], 0);
    pool.level(name).unwrap()
}

fn read(object: &Value) -> Option<Schema> {
    Schema::read(object, |name| Some(level(name)), &Flows::new())
}

/// A schema of one rule.
fn rule(rule: Value) -> Schema {
    let spec = json!({"priorityLevelConfiguration": {"name": "l"}, "rules": [rule]});
    read(&json!({"metadata": {"name": "s"}, "spec": spec})).unwrap()
}

#[test]
fn upstreams_schemas_sort_upstreams_clients() {
    let mut schemas: Vec<Schema> = objects::schemas().iter().map(|schema| read(schema).unwrap()).collect();
    schemas.sort_by(|a, b| a.order().cmp(&b.order()));
    let of = |user: &Identity, verb: &str, target: Target<'_>| {
        schemas.iter().find(|s| s.fits(user, verb, &target)).map(|s| s.name().to_owned()).unwrap()
    };
    let account = Identity::service_account("ns", "a", "", Default::default());
    let user = Identity::authenticated("jane", "", Vec::new(), Default::default());
    let node = Component::Node("n".to_owned()).identity();
    let job = Component::Controller("job-controller").identity();
    let pods = || resource("", "pods", "ns");
    let lease = || resource("coordination.k8s.io", "leases", "kube-system");
    assert_eq!(of(&Component::ApiServer.identity(), "get", pods()), "exempt");
    assert_eq!(of(&user, "get", Target::Path("/healthz")), "probes");
    assert_eq!(of(&user, "get", Target::Path("/metrics")), "global-default");
    assert_eq!(of(&Component::Scheduler.identity(), "update", lease()), "system-leader-election");
    assert_eq!(of(&Component::Scheduler.identity(), "watch", pods()), "kube-scheduler");
    assert_eq!(of(&job, "update", lease()), "system-leader-election");
    assert_eq!(of(&job, "create", pods()), "kube-system-service-accounts");
    assert_eq!(of(&node, "patch", resource("", "nodes/status", "")), "system-node-high");
    assert_eq!(of(&node, "update", lease()), "system-node-high");
    assert_eq!(of(&node, "get", pods()), "system-nodes");
    assert_eq!(of(&Component::ControllerManager.identity(), "list", pods()), "kube-controller-manager");
    assert_eq!(of(&account, "get", pods()), "service-accounts");
    assert_eq!(of(&user, "get", pods()), "global-default");
    assert_eq!(of(&Identity::anonymous(), "get", pods()), "global-default");
}

#[test]
fn rules_name_verbs_groups_resources_and_namespaces() {
    let everybody = json!([{"kind": "Group", "group": {"name": "*"}}]);
    let schema = rule(json!({"subjects": everybody, "resourceRules": [
        {"verbs": ["get"], "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"], "namespaces": ["a"]},
        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["nodes"], "clusterScope": true}]}));
    let user = Identity::anonymous();
    for (verb, target, fits) in [
        ("get", resource("apps", "deployments", "a"), true),
        ("list", resource("apps", "deployments", "a"), false),
        ("get", resource("apps", "deployments", "b"), false),
        ("get", resource("apps", "deployments", ""), false),
        ("get", resource("", "deployments", "a"), false),
        ("get", resource("apps", "deployments/scale", "a"), true),
        ("get", resource("apps", "deployments/status", "a"), false),
        ("patch", resource("", "nodes", ""), true),
        ("patch", resource("", "nodes", "a"), false),
        ("get", Target::Path("/a"), false),
    ] {
        assert_eq!(schema.fits(&user, verb, &target), fits, "{verb} {target:?}");
    }
    let schema = rule(json!({"subjects": everybody, "nonResourceRules": [
        {"verbs": ["get"], "nonResourceURLs": ["/a", "/b/*"]}]}));
    for (verb, path, fits) in [
        ("get", "/a", true),
        ("get", "/a/x", false),
        ("get", "/b/x", true),
        ("post", "/a", false),
        ("get", "/b", false),
    ] {
        assert_eq!(schema.fits(&user, verb, &Target::Path(path)), fits, "{verb} {path}");
    }
}

#[test]
fn subjects_are_users_groups_and_accounts() {
    let path = json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let fits = |subject: Value, user: &Identity| {
        rule(json!({"subjects": [subject], "nonResourceRules": path.clone()})).fits(
            user,
            "get",
            &Target::Path("/"),
        )
    };
    let account = Identity::service_account("ns", "a", "", Default::default());
    let user = Identity::authenticated("jane", "", vec!["g".to_owned()], Default::default());
    let of = |namespace, name| json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": namespace, "name": name}});
    assert!(fits(of("ns", "a"), &account) && fits(of("ns", "*"), &account));
    assert!(!fits(of("ns", "b"), &account) && !fits(of("other", "*"), &account));
    let named = |name| json!({"kind": "User", "user": {"name": name}});
    assert!(fits(named("jane"), &user) && fits(named("*"), &user) && !fits(named("joe"), &user));
    let group = |name| json!({"kind": "Group", "group": {"name": name}});
    assert!(fits(group("g"), &user) && fits(group("*"), &account) && !fits(group("g"), &account));
}

#[test]
fn flows_are_told_apart_by_user_or_namespace() {
    let user = Identity::authenticated("jane", "", Vec::new(), Default::default());
    let by = |method: Option<&str>| {
        let mut spec = json!({"priorityLevelConfiguration": {"name": "l"}});
        if let Some(method) = method {
            spec["distinguisherMethod"] = json!({"type": method});
        }
        let schema = read(&json!({"metadata": {"name": "s"}, "spec": spec})).unwrap();
        let of = |target: Target<'_>| schema.distinguisher(&user, &target).to_owned();
        (of(resource("", "pods", "ns")), of(Target::Path("/")))
    };
    let (jane, ns, none) = ("jane".to_owned(), "ns".to_owned(), String::new());
    assert_eq!(by(Some("ByUser")), (jane.clone(), jane));
    assert_eq!(by(Some("ByNamespace")), (ns, none.clone()));
    assert_eq!(by(None), (none.clone(), none));
}

#[test]
fn a_schema_without_its_level_is_left_out() {
    assert!(Schema::read(&objects::schemas()[0], |_| None, &Flows::new()).is_none());
}
