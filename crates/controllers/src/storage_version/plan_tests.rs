use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().expect("a time")
}

fn migration(group: &str, resource: &str, conditions: &[(&str, &str)]) -> StorageVersionMigration {
    let conditions = conditions.iter().map(|(kind, status)| {
        json!({"type": kind, "status": status, "reason": "r", "message": "", "lastTransitionTime": "2025-01-01T00:00:00Z"})
    });
    serde_json::from_value(json!({"metadata": {"name": "m"},
        "spec": {"resource": {"group": group, "resource": resource}},
        "status": {"conditions": conditions.collect::<Vec<_>>()}}))
    .expect("a migration")
}

#[test]
fn what_has_ended_is_left_alone() {
    let over = |conditions: &[_]| is_over(&migration("", "pods", conditions));
    assert!(!over(&[]));
    assert!(!over(&[("Running", "True")]));
    assert!(!over(&[("Succeeded", "False")]));
    assert!(over(&[("Running", "False"), ("Succeeded", "True")]));
    assert!(over(&[("Failed", "True")]));
}

#[test]
fn what_ends_runs_no_more() {
    let told = |conditions: &[_], state| {
        let all = come_to(&migration("", "pods", conditions), state, "why", now())?;
        Some(all.iter().map(|c| format!("{}={} {}", c.type_, c.status, c.message)).collect::<Vec<_>>())
    };
    let want = |texts: &[&str]| Some(texts.iter().map(|&text| text.to_owned()).collect());
    assert_eq!(told(&[], State::Running), want(&["Running=True why"]));
    assert_eq!(told(&[("Running", "True")], State::Running), None);
    assert_eq!(
        told(&[("Running", "True")], State::Succeeded),
        want(&["Running=False ", "Succeeded=True why"])
    );
    assert_eq!(told(&[("Running", "True")], State::Failed), want(&["Running=False ", "Failed=True why"]));
    assert_eq!(told(&[], State::Failed), want(&["Failed=True why"]));
}

#[test]
fn a_migration_is_of_what_can_be_listed_and_patched() {
    let found: Discovered = {
        let mut found = Discovered::default();
        let resource = |name: &str, verbs: &[&str]| json!({"name": name, "singularName": "", "namespaced": true, "kind": "K", "verbs": verbs});
        let list = json!([resource("pods", &["list", "patch"]), resource("bindings", &["create"])]);
        found.take("", "v1", Ok(serde_json::from_value(list).expect("resources")));
        found.take("dead.example.com", "v1", Err(kube::Error::LinesCodecMaxLineLengthExceeded));
        found
    };
    let of = |group, resource| match target(&migration(group, resource, &[]), &found) {
        Target::Collection(resource) => resource.plural.clone(),
        other => format!("{other:?}"),
    };
    assert_eq!(of("", "pods"), "pods");
    assert_eq!(of("", "bindings"), "Nothing");
    assert_eq!(of("apps", "pods"), "Nothing");
    assert_eq!(of("dead.example.com", "things"), "Unknown");
}

#[test]
fn only_what_the_server_will_never_have_is_a_failure() {
    let of = |code: u16| {
        let status = kube::core::Status { code, ..kube::core::Status::default() };
        outcome::<()>(&Err(kube::Error::Api(Box::new(status))))
    };
    let cases = [
        (&[404, 409][..], Outcome::Migrated),
        (&[401, 403, 429, 500, 503], Outcome::Later),
        (&[400, 405, 422], Outcome::Refused),
    ];
    for (codes, want) in cases {
        for code in codes {
            assert_eq!(of(*code), want, "{code}");
        }
    }
    assert_eq!(outcome(&Ok(())), Outcome::Migrated);
    assert_eq!(outcome::<()>(&Err(kube::Error::LinesCodecMaxLineLengthExceeded)), Outcome::Later);
}
