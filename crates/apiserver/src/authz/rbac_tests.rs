use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::source::fake::Table;

fn role(namespace: &str, name: &str, verbs: &[&str]) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name },
        "rules": [{ "apiGroups": [""], "resources": ["pods"], "verbs": verbs }],
    })
}

fn binding(namespace: &str, name: &str, role: (&str, &str), subject: Value) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name },
        "roleRef": { "apiGroup": GROUP, "kind": role.0, "name": role.1 },
        "subjects": [subject],
    })
}

fn user(name: &str, groups: &[&str]) -> Identity {
    Identity::authenticated(name, "", groups.iter().map(|g| (*g).to_owned()).collect(), BTreeMap::new())
}

fn ask(rbac: &Rbac, user: &Identity, verb: &str, namespace: &str) -> Decision {
    let target = Target::Resource {
        group: "",
        version: "v1",
        resource: "pods",
        subresource: "",
        namespace,
        name: "",
        field_selector: "",
        label_selector: "",
    };
    rbac.authorize(&Attributes { user, verb, target })
}

fn allowed(rbac: &Rbac, user: &Identity, verb: &str, namespace: &str) -> bool {
    matches!(ask(rbac, user, verb, namespace), Decision::Allow { .. })
}

#[test]
fn users_groups_and_accounts_have_what_is_bound_to_them() {
    let account = |namespace: &str| json!({ "kind": "ServiceAccount", "name": "sa", "namespace": namespace });
    let table = Arc::new(Table::with(&[
        (GROUP, "clusterroles", role("", "reader", &["get"])),
        (GROUP, "roles", role("a", "writer", &["create"])),
        (
            GROUP,
            "clusterrolebindings",
            binding("", "all", ("ClusterRole", "reader"), json!({ "kind": "Group", "name": "dev" })),
        ),
        (
            GROUP,
            "rolebindings",
            binding("a", "jane", ("Role", "writer"), json!({ "kind": "User", "name": "jane" })),
        ),
        (GROUP, "rolebindings", binding("b", "sa", ("ClusterRole", "reader"), account("a"))),
        (GROUP, "rolebindings", binding("c", "own", ("ClusterRole", "reader"), account(""))),
    ]));
    let rbac = Rbac::new(table);
    let cases = [
        (user("joe", &["dev"]), "get", "x", true),
        (user("joe", &["dev"]), "get", "", true),
        (user("joe", &["dev"]), "create", "x", false),
        (user("joe", &[]), "get", "x", false),
        (user("dev", &[]), "get", "x", false),
        (user("jane", &[]), "create", "a", true),
        (user("jane", &[]), "create", "b", false),
        (user("jane", &[]), "create", "", false),
        (user("system:serviceaccount:a:sa", &[]), "get", "b", true),
        (user("system:serviceaccount:a:sa", &[]), "get", "a", false),
        (user("system:serviceaccount:c:sa", &[]), "get", "c", true),
        (user("system:serviceaccount:c:sa", &[]), "get", "b", false),
    ];
    for (user, verb, namespace, want) in cases {
        assert_eq!(allowed(&rbac, &user, verb, namespace), want, "{} {verb} {namespace}", user.name());
    }
    assert_eq!(
        ask(&rbac, &user("jane", &[]), "create", "a"),
        Decision::Allow {
            reason: r#"RBAC: allowed by RoleBinding "jane/a" of Role "writer" to User "jane""#.to_owned()
        }
    );
    assert_eq!(
        ask(&rbac, &user("joe", &["dev"]), "get", "a"),
        Decision::Allow {
            reason: r#"RBAC: allowed by ClusterRoleBinding "all" of ClusterRole "reader" to Group "dev""#
                .to_owned()
        }
    );
}

#[test]
fn changes_count_at_once() {
    let jane = user("jane", &[]);
    let subject = json!({ "kind": "User", "name": "jane" });
    let table = Arc::new(Table::default());
    let rbac = Rbac::new(Arc::clone(&table) as Arc<dyn Source>);
    assert_eq!(ask(&rbac, &jane, "get", "a"), Decision::NoOpinion { reason: String::new() });

    table.put(GROUP, "clusterrolebindings", binding("", "b", ("ClusterRole", "reader"), subject));
    let missing = r#"RBAC: clusterrole.rbac.authorization.k8s.io "reader" not found"#;
    assert_eq!(ask(&rbac, &jane, "get", "a"), Decision::NoOpinion { reason: missing.to_owned() });

    table.put(GROUP, "clusterroles", role("", "reader", &["get"]));
    assert!(allowed(&rbac, &jane, "get", "a"));
    table.put(GROUP, "clusterroles", role("", "reader", &["list"]));
    assert!(!allowed(&rbac, &jane, "get", "a") && allowed(&rbac, &jane, "list", "a"));
    table.remove(GROUP, "clusterrolebindings", "", "b");
    assert!(!allowed(&rbac, &jane, "list", "a"));
}

#[test]
fn what_does_not_parse_grants_nothing_and_harms_nothing() {
    let subject = json!({ "kind": "User", "name": "jane" });
    let table = Arc::new(Table::with(&[
        (GROUP, "clusterroles", role("", "reader", &["get"])),
        (GROUP, "clusterroles", json!({ "metadata": { "name": "odd" }, "rules": "x" })),
        (GROUP, "clusterroles", json!({ "metadata": { "name": "none" }, "rules": null })),
        (GROUP, "clusterrolebindings", json!({ "metadata": { "name": "odd" }, "roleRef": 7 })),
        (
            GROUP,
            "clusterrolebindings",
            json!({ "metadata": { "name": "null" }, "subjects": null,
            "roleRef": { "kind": "ClusterRole", "name": "reader" } }),
        ),
        (GROUP, "clusterrolebindings", binding("", "kind", ("Odd", "reader"), subject.clone())),
        (GROUP, "clusterrolebindings", binding("", "to-odd", ("ClusterRole", "odd"), subject.clone())),
        (GROUP, "clusterrolebindings", binding("", "z", ("ClusterRole", "reader"), subject)),
    ]));
    let rbac = Rbac::new(table);
    assert!(allowed(&rbac, &user("jane", &[]), "get", "a"));
    let found = rbac.rules_for(&user("jane", &[]), "a");
    assert_eq!(found.rules.len(), 1);
    assert_eq!(found.errors.len(), 2, "{:?}", found.errors);
}

#[test]
fn a_source_that_has_ended_takes_no_permission_away() {
    let subject = json!({ "kind": "User", "name": "jane" });
    let table = Arc::new(Table::with(&[
        (GROUP, "clusterroles", role("", "reader", &["get"])),
        (GROUP, "clusterrolebindings", binding("", "b", ("ClusterRole", "reader"), subject)),
    ]));
    let rbac = Rbac::new(Arc::clone(&table) as Arc<dyn Source>);
    assert!(allowed(&rbac, &user("jane", &[]), "get", "a"));
    table.end();
    assert!(allowed(&rbac, &user("jane", &[]), "get", "a"));
}
