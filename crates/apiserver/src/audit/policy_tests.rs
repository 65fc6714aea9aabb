use super::*;
use crate::identity::Component;

fn resource<'a>(group: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Target<'a> {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    Target::Resource {
        group,
        version: "v1",
        resource,
        subresource,
        namespace,
        name,
        field_selector: "",
        label_selector: "",
    }
}

fn policy(rules: &str) -> Policy {
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n{rules}");
    Policy::parse(text.as_bytes()).unwrap()
}

/// The level of a request by the scheduler.
fn level(policy: &Policy, verb: &str, target: &Target<'_>) -> Level {
    policy.decide(Some(&Component::Scheduler.identity()), verb, target).level
}

#[test]
fn the_first_rule_that_fits_decides() {
    let policy = policy(
        "- {level: None, users: [nobody]}\n\
         - {level: Request, verbs: [create], resources: [{group: apps}]}\n\
         - {level: RequestResponse, namespaces: [a, ''], resources: [{group: '', resources: [pods/log, configmaps, 'services/*'], resourceNames: [x]}]}\n\
         - {level: Metadata, nonResourceURLs: [/healthz*, /version]}\n\
         - {level: Metadata, userGroups: ['system:authenticated'], resources: [{group: '*', resources: ['*/scale']}]}\n",
    );
    for (verb, target, expected) in [
        ("create", resource("apps", "deployments", "a", ""), Level::Request),
        ("update", resource("apps", "deployments", "a", "x"), Level::None),
        ("update", resource("apps", "deployments/scale", "a", "x"), Level::Metadata),
        ("get", resource("", "pods/log", "a", "x"), Level::RequestResponse),
        ("get", resource("", "pods/log", "b", "x"), Level::None),
        ("get", resource("", "pods/log", "a", "y"), Level::None),
        ("get", resource("", "pods", "a", "x"), Level::None),
        ("get", resource("", "configmaps", "", "x"), Level::RequestResponse),
        ("get", resource("", "services/proxy", "a", "x"), Level::RequestResponse),
        ("get", Target::Path("/healthz/etcd"), Level::Metadata),
        ("get", Target::Path("/version"), Level::Metadata),
        ("get", Target::Path("/versions"), Level::None),
    ] {
        assert_eq!(level(&policy, verb, &target), expected, "{verb} {target:?}");
    }
    assert_eq!(
        policy.decide(None, "update", &resource("apps", "deployments/scale", "a", "x")).level,
        Level::None
    );
    assert_eq!(policy.decide(None, "get", &Target::Path("/version")).level, Level::Metadata);
}

#[test]
fn stages_and_managed_fields_are_left_out_by_policy_and_by_rule() {
    let text = "{apiVersion: audit.k8s.io/v1, kind: Policy, omitStages: [RequestReceived], omitManagedFields: true, \
                rules: [{level: Metadata, verbs: [get], omitStages: [Panic], omitManagedFields: false}, {level: Metadata}]}";
    let policy = Policy::parse(text.as_bytes()).unwrap();
    let get = policy.decide(None, "get", &Target::Path("/"));
    assert!(
        !get.tells(Stage::RequestReceived) && !get.tells(Stage::Panic) && get.tells(Stage::ResponseComplete)
    );
    assert!(!get.omit_managed_fields);
    let put = policy.decide(None, "put", &Target::Path("/"));
    assert!(put.tells(Stage::Panic) && put.omit_managed_fields);
    assert!(!Decision::default().tells(Stage::ResponseComplete));
}

#[test]
fn what_is_no_policy_is_refused_with_the_reason() {
    let refused = |text: &str| Policy::parse(text.as_bytes()).unwrap_err().to_string();
    let rule =
        |rule: &str| refused(&format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: [{rule}]}}"));
    assert!(refused("{apiVersion: audit.k8s.io/v1beta1, kind: Policy, rules: []}").contains("v1beta1"));
    assert_eq!(refused("{apiVersion: audit.k8s.io/v1, kind: Policy}"), "it has no rules");
    assert!(rule("{level: Everything}").contains("Everything"));
    assert!(rule("{level: None, user: [a]}").contains("user"));
    assert!(rule("{level: None, resources: [{group: a}], nonResourceURLs: ['*']}").starts_with("rules[0]: "));
    assert!(rule("{level: None, nonResourceURLs: ['/a*b']}").contains("only at their end"));
    assert!(rule("{level: None, nonResourceURLs: [a]}").contains("slash"));
    assert!(rule("{level: None, resources: [{group: a, resourceNames: [b]}]}").contains("need resources"));
}

#[test]
fn by_default_writes_are_recorded_but_no_bodies_and_no_noise() {
    let policy = Policy::parse(Policy::DEFAULT.as_bytes()).unwrap();
    let (scheduler, node) = (Component::Scheduler.identity(), Component::Node("n".to_owned()).identity());
    let controller = Component::Controller("job-controller").identity();
    let at = |user, verb, target| policy.decide(Some(user), verb, &target).level;
    assert_eq!(at(&scheduler, "create", resource("", "secrets", "a", "")), Level::Metadata);
    assert_eq!(at(&scheduler, "get", resource("", "secrets", "a", "x")), Level::Metadata);
    assert_eq!(at(&scheduler, "create", resource("", "pods/exec", "a", "x")), Level::Metadata);
    assert_eq!(at(&controller, "create", resource("", "pods", "a", "")), Level::Metadata);
    assert_eq!(at(&node, "get", resource("", "secrets", "a", "x")), Level::None);
    assert_eq!(at(&node, "patch", resource("", "pods/status", "a", "x")), Level::None);
    assert_eq!(at(&node, "create", resource("", "serviceaccounts/token", "a", "x")), Level::Metadata);
    assert_eq!(at(&scheduler, "list", resource("", "pods", "", "")), Level::None);
    assert_eq!(at(&scheduler, "create", resource("", "events", "a", "")), Level::None);
    assert_eq!(at(&scheduler, "update", resource("coordination.k8s.io", "leases", "a", "x")), Level::None);
    assert_eq!(at(&scheduler, "get", Target::Path("/metrics")), Level::None);
    let decision = policy.decide(Some(&scheduler), "delete", &resource("", "pods", "a", "x"));
    assert!(!decision.tells(Stage::RequestReceived) && decision.tells(Stage::ResponseComplete));
}
