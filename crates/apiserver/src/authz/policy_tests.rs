use std::{collections::BTreeSet, sync::Arc};

use tiphys_api::meta;

use super::*;
use crate::{
    authz::{Attributes, Chain, Decision, NodeAuthorizer, Rbac, Target},
    identity::{Component, Identity},
    source::fake::Table,
    testing::wait,
};

fn apply(table: &Table, plan: Vec<Change>) {
    for change in plan {
        let (Change::Create { resource, object }
        | Change::Update { resource, object }
        | Change::Replace { resource, object }) = change;
        table.put(GROUP, resource, object);
    }
}

fn booted() -> Arc<Table> {
    let table = Arc::new(Table::default());
    apply(&table, plan(&*table));
    table
}

fn rules_of(table: &Table, name: &str) -> Vec<Rule> {
    let role = table.get(GROUP, "clusterroles", "", name).unwrap().tree();
    serde_json::from_value(role["rules"].clone()).unwrap()
}

#[test]
fn a_second_start_changes_nothing() {
    assert_eq!(plan(&*booted()), []);
}

#[test]
fn tables_name_nothing_twice_and_every_role_is_well_formed() {
    let mut seen = BTreeSet::new();
    for change in plan(&Table::default()) {
        let Change::Create { resource, object } = change else { panic!("{change:?}") };
        let place = (resource, meta::namespace(&object).to_owned(), meta::name(&object).to_owned());
        assert!(seen.insert(place.clone()), "{place:?} twice");
        for rule in object["rules"].as_array().into_iter().flatten() {
            let rule: Rule = serde_json::from_value(rule.clone()).unwrap();
            assert!(!rule.verbs.is_empty(), "{place:?}");
            let resources = !rule.api_groups.is_empty() && !rule.resources.is_empty();
            assert!(resources == rule.non_resource_urls.is_empty(), "{place:?}: {rule:?}");
        }
    }
    assert!(seen.len() > 100, "{}", seen.len());
}

#[test]
fn every_binding_binds_a_role_that_is_there() {
    let table = booted();
    for resource in ["clusterrolebindings", "rolebindings"] {
        for entry in table.list(GROUP, resource, None) {
            let role = entry.tree()["roleRef"].clone();
            let cluster = role["kind"] == "ClusterRole";
            let (resource, namespace) =
                if cluster { ("clusterroles", "") } else { ("roles", entry.namespace.as_str()) };
            assert!(
                table.get(GROUP, resource, namespace, role["name"].as_str().unwrap()).is_some(),
                "{}",
                entry.name
            );
        }
    }
}

#[test]
fn admin_edit_and_view_are_made_of_their_parts() {
    let table = booted();
    let covers = |big: &str, small: &str| {
        super::super::rule::not_covered(&rules_of(&table, big), &rules_of(&table, small)).is_empty()
    };
    assert!(covers("admin", "edit") && covers("edit", "view") && covers("view", "system:aggregate-to-view"));
    assert!(!covers("edit", "admin") && !covers("view", "edit"));

    let mut own = role("ClusterRole", "", "widgets-view", &rules(&[on(READ, "example.org", "widgets")]));
    own["metadata"]["labels"] = json!({ aggregation_label("view"): "true" });
    table.put(GROUP, "clusterroles", own);
    apply(&table, plan(&*table));
    assert!(covers("view", "widgets-view") && covers("admin", "widgets-view"));
    assert_eq!(plan(&*table), []);
}

#[test]
fn what_users_added_stays_and_what_is_missing_returns() {
    let table = booted();
    let own = json!({ "verbs": ["get"], "apiGroups": ["example.org"], "resources": ["widgets"] });
    let mut changed = table.get(GROUP, "clusterroles", "", "system:kube-dns").unwrap().tree();
    changed["rules"] = json!([own]);
    changed["metadata"]["labels"] = json!({ "mine": "yes" });
    table.put(GROUP, "clusterroles", changed);
    let mut binding = table.get(GROUP, "clusterrolebindings", "", "system:kube-dns").unwrap().tree();
    binding["subjects"] = json!([{ "kind": "User", "name": "jane", "apiGroup": GROUP }]);
    table.put(GROUP, "clusterrolebindings", binding);
    let mut moved = table.get(GROUP, "clusterrolebindings", "", "system:discovery").unwrap().tree();
    moved["roleRef"]["name"] = "cluster-admin".into();
    table.put(GROUP, "clusterrolebindings", moved);
    table.remove(GROUP, "clusterroles", "", "view");

    let changes = plan(&*table);
    assert!(changes.iter().any(|c| matches!(c, Change::Replace { object, .. }
        if meta::name(object) == "system:discovery" && object["roleRef"]["name"] == "system:discovery")));
    apply(&table, changes);
    let rules = rules_of(&table, "system:kube-dns");
    assert_eq!(json!(rules[0]), own);
    assert!(rules.len() > 1);
    let role = table.get(GROUP, "clusterroles", "", "system:kube-dns").unwrap().tree();
    assert_eq!(role["metadata"]["labels"]["mine"], "yes");
    assert_eq!(role["metadata"]["labels"]["kubernetes.io/bootstrapping"], "rbac-defaults");
    let binding = table.get(GROUP, "clusterrolebindings", "", "system:kube-dns").unwrap().tree();
    assert_eq!(binding["subjects"].as_array().unwrap().len(), 2);
    assert!(!rules_of(&table, "view").is_empty());
    assert_eq!(plan(&*table), []);
}

#[test]
fn what_is_protected_is_left_alone() {
    let table = booted();
    for (resource, field) in [("clusterroles", "rules"), ("clusterrolebindings", "subjects")] {
        let mut object = table.get(GROUP, resource, "", "system:kube-dns").unwrap().tree();
        object[field] = json!([]);
        object["metadata"]["annotations"][reconcile::AUTO_UPDATE] = "false".into();
        table.put(GROUP, resource, object);
    }
    assert_eq!(plan(&*table), []);
}

#[test]
fn components_may_do_their_work_and_no_more() {
    let table = booted();
    let source = Arc::clone(&table) as Arc<dyn Source>;
    let chain = Chain::new(vec![
        Arc::new(NodeAuthorizer::new(Arc::clone(&source), node_rules())),
        Arc::new(Rbac::new(source)),
    ]);
    let ask = |user: &Identity, verb: &str, group: &str, resource: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let target = Target::Resource {
            group,
            version: "v1",
            resource,
            subresource,
            namespace: "ns",
            name: "x",
            field_selector: "",
            label_selector: "",
        };
        matches!(wait(chain.authorize(&Attributes { user, verb, target })), Decision::Allow { .. })
    };
    let deployment = Component::Controller("deployment-controller").identity();
    let node = Component::Node("n1".to_owned()).identity();
    let scheduler = Component::Scheduler.identity();
    let cases = [
        (&deployment, "create", "apps", "replicasets", true),
        (&deployment, "patch", "apps", "deployments/status", true),
        (&deployment, "create", "", "secrets", false),
        (&scheduler, "create", "", "pods/binding", true),
        (&scheduler, "get", "", "secrets", false),
        (&Component::ControllerManager.identity(), "watch", "anything", "at-all", true),
        (&Component::ControllerManager.identity(), "delete", "", "pods", false),
        (&Component::Proxy.identity(), "watch", "discovery.k8s.io", "endpointslices", true),
        (&Component::Dns.identity(), "watch", "discovery.k8s.io", "endpointslices", true),
        (&node, "get", "", "secrets", false),
        (&node, "list", "", "services", true),
        (&Component::Controller("unheard-of").identity(), "get", "", "pods", false),
        (&Component::ApiServer.identity(), "delete", "", "secrets", true),
    ];
    for (user, verb, group, resource, want) in cases {
        assert_eq!(ask(user, verb, group, resource), want, "{} {verb} {resource}", user.name());
    }
}
