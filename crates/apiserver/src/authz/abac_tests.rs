use std::collections::BTreeMap;

use super::*;

fn user(name: &str, groups: &[&str]) -> Identity {
    let groups = groups.iter().map(|&group| group.to_owned()).collect();
    Identity::authenticated(name, "", groups, BTreeMap::new())
}

fn resource<'a>(namespace: &'a str, group: &'a str, resource: &'a str) -> Target<'a> {
    Target::Resource {
        group,
        version: "v1",
        resource,
        subresource: "",
        namespace,
        name: "",
        field_selector: "",
        label_selector: "",
    }
}

fn allows(policies: &str, user: &Identity, verb: &str, target: Target<'_>) -> bool {
    let decision = Abac(parse(policies).unwrap()).authorize(&Attributes { user, verb, target });
    assert!(
        matches!(&decision, Decision::Allow { .. })
            || decision == Decision::NoOpinion { reason: "No policy matched.".to_owned() }
    );
    matches!(decision, Decision::Allow { .. })
}

/// The documentation's own examples, and a few around them.
const FILE: &str = r#"
# comments and empty lines are passed over

{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "alice", "namespace": "*", "resource": "*", "apiGroup": "*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "bob", "namespace": "projectCaribou", "resource": "pods", "readonly": true}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"group": "*", "readonly": true, "nonResourcePath": "/healthz*"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"user": "carol", "group": "dev", "namespace": "n", "resource": "jobs", "apiGroup": "batch"}}
{"apiVersion": "abac.authorization.kubernetes.io/v1beta1", "kind": "Policy", "spec": {"namespace": "*", "resource": "*", "apiGroup": "*"}}
"#;

#[test]
fn policies_permit_what_they_name() {
    let (alice, bob) = (user("alice", &[]), user("bob", &[]));
    let (carol, other_carol) = (user("carol", &["dev"]), user("carol", &["ops"]));
    let cases = [
        (&alice, "delete", resource("n", "apps", "deployments"), true),
        (&alice, "get", Target::Path("/metrics"), false),
        (&bob, "list", resource("projectCaribou", "", "pods"), true),
        (&bob, "create", resource("projectCaribou", "", "pods"), false),
        (&bob, "list", resource("other", "", "pods"), false),
        (&bob, "list", resource("projectCaribou", "apps", "pods"), false),
        (&bob, "get", Target::Path("/healthz/ping"), true),
        (&bob, "post", Target::Path("/healthz"), false),
        (&bob, "get", Target::Path("/metrics"), false),
        (&carol, "create", resource("n", "batch", "jobs"), true),
        (&other_carol, "create", resource("n", "batch", "jobs"), false),
        (&user("dora", &["dev"]), "create", resource("n", "batch", "jobs"), false),
    ];
    for (user, verb, target, wanted) in cases {
        assert_eq!(allows(FILE, user, verb, target.clone()), wanted, "{} {verb} {target:?}", user.name());
    }
}

#[test]
fn lines_without_a_version_leave_out_what_is_everything() {
    let somebody = user("x", &[]);
    assert!(allows("{}", &somebody, "delete", resource("n", "apps", "deployments")));
    assert!(allows("{}", &somebody, "get", Target::Path("/metrics")));
    assert!(!allows("{}", &Identity::anonymous(), "get", Target::Path("/metrics")));
    let pods = r#"{"user": "x", "resource": "pods", "readonly": true, "nonResourcePath": "/metrics"}"#;
    assert!(allows(pods, &somebody, "get", resource("n", "any", "pods")));
    assert!(!allows(pods, &somebody, "get", Target::Path("/metrics")));
    assert!(!allows(pods, &user("y", &[]), "get", resource("n", "", "pods")));
}

#[test]
fn reviews_are_told_the_rules() {
    let abac = Abac(parse(FILE).unwrap());
    let told = |namespace: &str| abac.rules(&user("bob", &[]), namespace).rules;
    let [pods] = &*told("projectCaribou") else { panic!("one rule in the namespace") };
    assert_eq!(
        (&pods.resources[..], &pods.verbs[..]),
        (&["pods".to_owned()][..], &READS.map(str::to_owned)[..])
    );
    assert_eq!(told("other"), []);
}

#[test]
fn wrong_lines_are_named() {
    for (text, why) in [
        ("{}\nnonsense", "line 2: "),
        (r#"{"apiVersion": "v1", "kind": "Policy"}"#, "line 1: v1 Policy is no Policy of abac"),
        (r#"{"user": 7}"#, "line 1: invalid type"),
        ("[]", "line 1: the policy is no object"),
    ] {
        let error = parse(text).unwrap_err().to_string();
        assert!(error.starts_with(why), "{text}: {error}");
    }
}
