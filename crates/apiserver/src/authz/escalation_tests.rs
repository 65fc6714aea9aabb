use std::collections::BTreeMap;

use serde_json::json;

use super::*;
use crate::{identity::Identity, source::fake::Table};

fn role(name: &str, resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "metadata": { "name": name },
        "rules": [{ "apiGroups": [""], "resources": resources, "verbs": verbs }] })
}

fn binding(name: &str, role: &str, user: &str) -> Value {
    json!({ "metadata": { "name": name },
        "roleRef": { "apiGroup": GROUP, "kind": "ClusterRole", "name": role },
        "subjects": [{ "kind": "User", "name": user }] })
}

fn plugin() -> Escalation {
    let special = |name: &str, verb: &str| {
        json!({ "metadata": { "name": name },
            "rules": [{ "apiGroups": [GROUP], "resources": ["clusterroles"], "verbs": [verb] }] })
    };
    let table = Arc::new(Table::with(&[
        (GROUP, "clusterroles", role("reader", &["pods"], &["get", "list"])),
        (GROUP, "clusterroles", role("writer", &["pods"], &["create"])),
        (GROUP, "clusterroles", special("escalator", "escalate")),
        (GROUP, "clusterroles", special("binder", "bind")),
        (GROUP, "clusterrolebindings", binding("jane", "reader", "jane")),
        (GROUP, "clusterrolebindings", binding("esc", "escalator", "esc")),
        (GROUP, "clusterrolebindings", binding("bin", "binder", "bin")),
    ]));
    let rbac = Arc::new(Rbac::new(table));
    Escalation::new(Arc::clone(&rbac), Arc::new(Chain::new(vec![rbac])))
}

async fn write(
    resource: &str,
    user: &str,
    groups: &[&str],
    object: &Value,
    old: &Value,
) -> Result<(), String> {
    let groups = groups.iter().map(|g| (*g).to_owned()).collect();
    let user = Identity::authenticated(user, "", groups, BTreeMap::new());
    let operation = if old.is_null() { Operation::Create } else { Operation::Update };
    let attributes = Attributes {
        user: &user,
        operation,
        group: GROUP,
        version: "v1",
        resource,
        subresource: "",
        kind: "",
        namespace: "",
        name: "new",
        dry_run: false,
        is_patch: false,
        annotations: crate::audit::Annotations::silent(),
        warnings: Box::leak(Box::default()),
        field_manager: "test",
        delete: None,
        round: crate::admission::Round::default(),
    };
    plugin().validate(&attributes, object, old).await.map_err(|status| {
        assert!([403, 404].contains(&status.code()));
        status.message
    })
}

#[tokio::test]
async fn nobody_writes_a_role_that_says_more_than_he_may() {
    let (less, more) =
        (role("new", &["pods"], &["get"]), role("new", &["pods", "secrets"], &["get", "list"]));
    let none = Value::Null;
    assert_eq!(write("clusterroles", "jane", &[], &less, &none).await, Ok(()));
    assert_eq!(
        write("clusterroles", "jane", &["dev"], &more, &none).await,
        Err("clusterroles.rbac.authorization.k8s.io \"new\" is forbidden: user \"jane\" (groups=[\"dev\" \
             \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
             {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
            .to_owned())
    );
    assert!(write("clusterroles", "jane", &[], &more, &less).await.is_err(), "nor changes one to");
    assert_eq!(write("clusterroles", "esc", &[], &more, &none).await, Ok(()));
    assert_eq!(write("clusterroles", "root", &[MASTERS], &more, &none).await, Ok(()));
    let aggregated =
        json!({ "metadata": { "name": "new" }, "aggregationRule": { "clusterRoleSelectors": [] } });
    assert!(write("clusterroles", "jane", &[], &aggregated, &none).await.is_err());
    let mut owned = more.clone();
    owned["metadata"]["finalizers"] = json!(["x"]);
    assert_eq!(write("clusterroles", "jane", &[], &owned, &more).await, Ok(()), "what collectors write");
}

#[tokio::test]
async fn nobody_binds_a_role_that_says_more_than_he_may() {
    let none = Value::Null;
    let bind = |role: &str| binding("new", role, "joe");
    assert_eq!(write("clusterrolebindings", "jane", &[], &bind("reader"), &none).await, Ok(()));
    let refused = write("clusterrolebindings", "jane", &[], &bind("writer"), &none).await.unwrap_err();
    assert!(refused.contains(r#"{APIGroups:[""], Resources:["pods"], Verbs:["create"]}"#), "{refused}");
    assert_eq!(write("clusterrolebindings", "bin", &[], &bind("writer"), &none).await, Ok(()));
    assert_eq!(
        write("clusterrolebindings", "jane", &[], &bind("absent"), &none).await,
        Err("clusterroles.rbac.authorization.k8s.io \"absent\" not found".to_owned())
    );
}
