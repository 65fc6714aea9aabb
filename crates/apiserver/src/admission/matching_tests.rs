use serde_json::json;

use super::super::tests::Case;
use super::*;
use crate::source::fake::Table;

fn source() -> Table {
    Table::with(&[
        ("", "namespaces", json!({"metadata": {"name": "ns", "labels": {"env": "test"}}})),
        ("", "namespaces", json!({"metadata": {"name": "bare"}})),
    ])
}

fn rule(extra: Value) -> Value {
    let mut rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    rule.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    rule
}

fn ask(webhook: Value, case: &Case<'_>, object: Value, old: Value) -> Result<Option<(String, String)>, u16> {
    let (kinds, source, attributes) = (Kinds::builtin(), source(), case.attributes());
    let candidate = Candidate::new(&attributes, &kinds, &source);
    let matched = Matcher::webhook(&webhook).unwrap().matches(&candidate, &object, &old);
    let named = |m: Matched| (m.row.qualified_resource(), m.version);
    matched.map(|m| m.map(named)).map_err(|status| status.code())
}

fn matches(extra: Value, case: &Case<'_>) -> bool {
    ask(json!({"rules": [rule(extra)]}), case, json!({}), Value::Null).unwrap().is_some()
}

#[test]
fn a_rule_is_about_operations_groups_versions_and_resources() {
    let pods = Case::new(Operation::Create, "pods", "p");
    for (extra, expected) in [
        (json!({}), true),
        (json!({"operations": ["UPDATE", "CREATE"]}), true),
        (json!({"operations": ["UPDATE"]}), false),
        (json!({"apiGroups": [""]}), true),
        (json!({"apiGroups": ["apps"]}), false),
        (json!({"apiVersions": ["v1"]}), true),
        (json!({"apiVersions": ["v2"]}), false),
        (json!({"resources": ["services", "pods"]}), true),
        (json!({"resources": ["pods/*"]}), true),
        (json!({"resources": ["*/*"]}), true),
        (json!({"resources": ["pods/status"]}), false),
        (json!({"resources": ["services"]}), false),
        (json!({"resourceNames": ["p"]}), true),
        (json!({"resourceNames": ["q"]}), false),
        (json!({"scope": "Namespaced"}), true),
        (json!({"scope": "Cluster"}), false),
        (json!({"scope": "*"}), true),
    ] {
        assert_eq!(matches(extra.clone(), &pods), expected, "{extra}");
    }
    let status = Case::new(Operation::Update, "pods/status", "p");
    for (resource, expected) in
        [("pods", false), ("*", false), ("pods/*", true), ("*/status", true), ("pods/status", true)]
    {
        assert_eq!(matches(json!({"resources": [resource]}), &status), expected, "{resource}");
    }
    let namespace = Case::new(Operation::Update, "namespaces", "ns");
    assert!(matches(json!({"scope": "Cluster"}), &namespace));
    assert!(!matches(json!({"scope": "Namespaced"}), &namespace));
    assert_eq!(ask(json!({}), &pods, json!({}), Value::Null), Ok(None), "no rules match nothing");
}

#[test]
fn selectors_ask_for_labels_of_the_namespace_and_of_both_objects() {
    let pods = Case::new(Operation::Update, "pods", "p");
    let elsewhere = |namespace| Case { namespace, ..Case::new(Operation::Update, "pods", "p") };
    let in_test = json!({"rules": [rule(json!({}))], "namespaceSelector": {"matchLabels": {"env": "test"}}});
    let found = |r: Result<Option<_>, u16>| r.map(|m| m.is_some());
    assert_eq!(found(ask(in_test.clone(), &pods, json!({}), json!({}))), Ok(true));
    assert_eq!(found(ask(in_test.clone(), &elsewhere("bare"), json!({}), json!({}))), Ok(false));
    assert_eq!(found(ask(in_test.clone(), &elsewhere("gone"), json!({}), json!({}))), Err(404));
    assert_eq!(
        found(ask(in_test.clone(), &elsewhere(""), json!({}), json!({}))),
        Ok(true),
        "in no namespace"
    );
    let none = json!({"rules": [], "namespaceSelector": {"matchLabels": {"env": "test"}}});
    assert_eq!(found(ask(none, &elsewhere("gone"), json!({}), json!({}))), Ok(false));

    let namespace = Case { namespace: "", ..Case::new(Operation::Update, "namespaces", "bare") };
    let labelled = json!({"metadata": {"labels": {"env": "test"}}});
    assert_eq!(
        found(ask(in_test.clone(), &namespace, labelled.clone(), json!({}))),
        Ok(true),
        "as it will be"
    );
    let deleted = Case { namespace: "", ..Case::new(Operation::Delete, "namespaces", "bare") };
    assert_eq!(found(ask(in_test, &deleted, Value::Null, labelled.clone())), Ok(false), "as it is");

    let objects = json!({"rules": [rule(json!({}))], "objectSelector": {"matchLabels": {"env": "test"}}});
    assert_eq!(found(ask(objects.clone(), &pods, labelled.clone(), json!({}))), Ok(true));
    assert_eq!(found(ask(objects.clone(), &pods, json!({}), labelled)), Ok(true));
    assert_eq!(found(ask(objects, &pods, json!({}), json!({}))), Ok(false));
    let absent = json!({"rules": [rule(json!({}))],
                        "objectSelector": {"matchExpressions": [{"key": "env", "operator": "DoesNotExist"}]}});
    assert_eq!(found(ask(absent, &pods, json!({}), Value::Null)), Ok(true));
}

#[test]
fn equivalent_resources_match_unless_the_policy_is_exact() {
    let event = Case::new(Operation::Create, "events", "e");
    let mut webhook = json!({"rules": [rule(json!({"apiGroups": ["events.k8s.io"]}))]});
    let expected = ("events.events.k8s.io".to_owned(), "v1".to_owned());
    assert_eq!(ask(webhook.clone(), &event, json!({}), Value::Null), Ok(Some(expected)));
    webhook["matchPolicy"] = "Exact".into();
    assert_eq!(ask(webhook, &event, json!({}), Value::Null), Ok(None));
}

/// What is the same object matches under whatever name it is written, and its own name alone where that is asked for.
#[test]
fn equivalent_resources_are_found_across_groups_and_versions() {
    let (kinds, source) = (Kinds::builtin(), source());
    for (written, ruled) in [
        (("extensions", "v1beta1", "deployments"), ("apps", "v1", "deployments")),
        (("apps", "v1", "deployments"), ("extensions", "v1beta1", "deployments")),
        (("apps", "v1beta2", "deployments"), ("extensions", "v1beta1", "deployments")),
        (("extensions", "v1beta1", "daemonsets"), ("apps", "v1", "daemonsets")),
        (("extensions", "v1beta1", "replicasets"), ("apps", "v1", "replicasets")),
        (("extensions", "v1beta1", "ingresses"), ("networking.k8s.io", "v1", "ingresses")),
        (("networking.k8s.io", "v1", "ingresses"), ("extensions", "v1beta1", "ingresses")),
        (("extensions", "v1beta1", "networkpolicies"), ("networking.k8s.io", "v1", "networkpolicies")),
        (("", "v1", "events"), ("events.k8s.io", "v1", "events")),
        (("events.k8s.io", "v1", "events"), ("", "v1", "events")),
        (
            ("autoscaling", "v1", "horizontalpodautoscalers"),
            ("autoscaling", "v2", "horizontalpodautoscalers"),
        ),
        (("batch", "v1beta1", "cronjobs"), ("batch", "v1", "cronjobs")),
    ] {
        let case = Case { group: written.0, ..Case::new(Operation::Create, written.2, "x") };
        let attributes = Attributes { version: written.1, ..case.attributes() };
        let candidate = Candidate::new(&attributes, &kinds, &source);
        let about = |policy: &str, (group, version, resource): (&str, &str, &str)| {
            let rule = rule(json!({"apiGroups": [group], "apiVersions": [version], "resources": [resource]}));
            let webhook = Matcher::webhook(&json!({"rules": [rule], "matchPolicy": policy})).unwrap();
            let policy =
                Matcher::resources(&json!({"resourceRules": [rule], "matchPolicy": policy})).unwrap();
            let found = [webhook, policy].map(|m| m.matches(&candidate, &json!({}), &Value::Null).unwrap());
            let [webhook, policy] = found.map(|m| m.map(|m| (m.row.group.to_string(), m.version)));
            assert_eq!(webhook, policy);
            webhook
        };
        let (group, version, _) = ruled;
        let found = about("Equivalent", ruled);
        assert_eq!(found, Some((group.to_owned(), version.to_owned())), "{written:?} for {ruled:?}");
        assert_eq!(about("Exact", ruled), None, "{written:?} for {ruled:?}");
        let itself = Some((written.0.to_owned(), written.1.to_owned()));
        assert_eq!([about("Equivalent", written), about("Exact", written)], [itself.clone(), itself]);
        assert_eq!(about("Equivalent", ("policy", "v1", "poddisruptionbudgets")), None);
    }
    let case = Case { group: "extensions", ..Case::new(Operation::Update, "deployments/scale", "x") };
    let attributes = Attributes { version: "v1beta1", ..case.attributes() };
    let candidate = Candidate::new(&attributes, &kinds, &source);
    let scale =
        rule(json!({"apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments/scale"]}));
    let found = Matcher::webhook(&json!({"rules": [scale]})).unwrap();
    let found = found.matches(&candidate, &json!({}), &Value::Null).unwrap().unwrap();
    assert_eq!(found.kind("scale"), ("autoscaling", "v1", "Scale"), "shown as the rule's version has it");
}

#[test]
fn what_is_excluded_never_matches_and_no_rules_of_a_policy_match_all() {
    let (kinds, source) = (Kinds::builtin(), source());
    let case = Case::new(Operation::Create, "pods", "p");
    let attributes = case.attributes();
    let candidate = Candidate::new(&attributes, &kinds, &source);
    for (resources, expected) in [
        (json!({}), true),
        (json!({"excludeResourceRules": [rule(json!({"resources": ["pods"]}))]}), false),
        (json!({"excludeResourceRules": [rule(json!({"resources": ["services"]}))]}), true),
        (json!({"resourceRules": [rule(json!({"resources": ["services"]}))]}), false),
    ] {
        let matcher = Matcher::resources(&resources).unwrap();
        let matched = matcher.matches(&candidate, &json!({}), &Value::Null).unwrap();
        assert_eq!(matched.is_some(), expected, "{resources}");
    }
}

#[test]
fn an_object_is_shown_and_taken_in_the_version_of_the_rule() {
    let kinds = Kinds::builtin();
    let matched = |group, resource, version: &str| Matched {
        row: Arc::clone(kinds.group_resource(group, resource).unwrap()),
        version: version.to_owned(),
    };
    let stored =
        json!({"apiVersion": "v1", "kind": "Event", "message": "hello", "involvedObject": {}, "source": {}});
    let event = matched("events.k8s.io", "events", "v1");
    let shown = event.show("", &stored);
    assert_eq!((&shown["apiVersion"], &shown["note"]), (&json!("events.k8s.io/v1"), &json!("hello")));
    assert_eq!(event.take("", shown, &stored), stored);

    let deployment = matched("apps", "deployments", "v1");
    assert_eq!(deployment.kind("scale"), ("autoscaling", "v1", "Scale"));
    let stored = json!({"metadata": {"name": "d"}, "spec": {"replicas": 2, "paused": true}});
    let mut scale = deployment.show("scale", &stored);
    scale["spec"]["replicas"] = 3.into();
    let taken = deployment.take("scale", scale, &stored);
    assert_eq!(taken["spec"], json!({"replicas": 3, "paused": true}));
    assert_eq!(matched("", "pods", "v1").kind("exec"), ("", "v1", "PodExecOptions"));
}
