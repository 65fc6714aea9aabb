use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::schema::Schema;

static NOTHING: LazyLock<Set> = LazyLock::new(Set::default);
static STATUS: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["status"]]));
static SPEC: LazyLock<Set> = LazyLock::new(|| Set::of_fields(&[&["spec"]]));

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn writer(manager: &'static str) -> Writer<'static> {
    Writer { manager, api_version: "apps/v1", subresource: "", now: at(1_000), ignored: &NOTHING }
}

fn types() -> Types<'static, 'static> {
    Types { ty: Schema::of("apps", "v1", "Deployment").unwrap(), convert: &|_, _| None }
}

fn apply(live: Option<&Value>, config: &Value, manager: &'static str, force: bool) -> Result<Value, Error> {
    applied(live.cloned(), config, &writer(manager), force, &types())
}

/// A Deployment that sets `spec`.
fn deployment(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}, "spec": spec})
}

fn containers(items: Value) -> Value {
    json!({"template": {"spec": {"containers": items}}})
}

/// What the manager owns, or null.
fn owned(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.into_iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

/// Stores an object as a server would.
fn stored(mut object: Value) -> Value {
    object["metadata"]["uid"] = "u".into();
    object["metadata"]["resourceVersion"] = "7".into();
    object
}

#[test]
fn an_update_owns_what_it_changed() {
    let mut created = deployment(json!({"replicas": 1, "selector": {"matchLabels": {"a": "b"}}}));
    let late_in_the_second = Timestamp::from_millisecond(1_000_999).unwrap();
    updated(None, &mut created, &Writer { now: late_in_the_second, ..writer("one") }, &types());
    assert_eq!(
        created["metadata"]["managedFields"],
        json!([{
            "manager": "one", "operation": "Update", "apiVersion": "apps/v1", "time": "1970-01-01T00:16:40Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}, "f:selector": {}}},
        }])
    );
    let live = stored(created);
    let mut new = live.clone();
    new["spec"]["replicas"] = 2.into();
    updated(Some(&live), &mut new, &Writer { now: at(2_000), ..writer("two") }, &types());
    assert_eq!(owned(&new, "one"), json!({"f:spec": {"f:selector": {}}}));
    assert_eq!(owned(&new, "two"), json!({"f:spec": {"f:replicas": {}}}));
    // What is removed is nobody's, and who owns nothing is forgotten.
    let live = new;
    let mut new = live.clone();
    new["spec"].as_object_mut().unwrap().remove("replicas");
    updated(Some(&live), &mut new, &writer("three"), &types());
    assert_eq!(owned(&new, "two"), Value::Null);
    assert_eq!(owned(&new, "three"), Value::Null);
}

#[test]
fn an_update_without_a_change_changes_nothing() {
    let mut live = deployment(json!({"replicas": 1}));
    updated(None, &mut live, &writer("one"), &types());
    let live = stored(live);
    for drop_fields in [false, true] {
        let mut new = live.clone();
        if drop_fields {
            new["metadata"].as_object_mut().unwrap().remove("managedFields");
        }
        new["metadata"]["resourceVersion"] = "8".into();
        updated(Some(&live), &mut new, &Writer { now: at(9_000), ..writer("one") }, &types());
        new["metadata"]["resourceVersion"] = "7".into();
        assert_eq!(new, live);
    }
}

#[test]
fn clients_may_rewrite_or_reset_managed_fields() {
    let mut live = deployment(json!({"replicas": 1}));
    updated(None, &mut live, &writer("one"), &types());
    let live = stored(live);
    let with = |fields: Value, subresource: &'static str| {
        let mut new = live.clone();
        new["metadata"]["managedFields"] = fields;
        updated(Some(&live), &mut new, &Writer { subresource, ..writer("two") }, &types());
        new["metadata"]["managedFields"].clone()
    };
    for reset in [json!([]), json!([{}])] {
        assert_eq!(with(reset, ""), Value::Null);
    }
    let entry = json!([{"manager": "x", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    assert_eq!(with(entry.clone(), ""), entry);
    let kept = live["metadata"]["managedFields"].clone();
    assert_eq!(with(entry, "status"), kept);
    assert_eq!(with(json!([{"manager": "x", "operation": "Explode"}]), ""), kept);
    assert_eq!(with(json!("nonsense"), ""), kept);
    let many = |n: usize| -> Value {
        let entry = |i| json!({"manager": format!("m{i}"), "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}});
        (0..n).map(entry).collect()
    };
    assert_eq!(with(many(MAX_SENT), "").as_array().unwrap().len(), MAX_SENT);
    assert_eq!(with(many(MAX_SENT + 1), ""), kept);
}

#[test]
fn objects_without_managers_stay_so_until_they_are_applied() {
    let live = stored(deployment(json!({"replicas": 1, "paused": true})));
    let mut new = live.clone();
    new["spec"]["replicas"] = 2.into();
    updated(Some(&live), &mut new, &writer("one"), &types());
    assert_eq!(new["metadata"].get("managedFields"), None);
    let error = apply(Some(&live), &deployment(json!({"replicas": 3})), "two", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using apps/v1: .spec.replicas"
    );
    let forced = apply(Some(&live), &deployment(json!({"replicas": 3})), "two", true).unwrap();
    assert_eq!(owned(&forced, "before-first-apply"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn the_status_endpoint_owns_only_status() {
    let mut live = deployment(json!({"replicas": 1}));
    live["status"] = json!({"replicas": 9});
    updated(None, &mut live, &Writer { ignored: &STATUS, ..writer("one") }, &types());
    assert_eq!(owned(&live, "one"), json!({"f:spec": {"f:replicas": {}}}));
    let live = stored(live);
    let mut new = live.clone();
    new["spec"]["replicas"] = 7.into();
    new["status"] = json!({"conditions": [{"type": "Available", "status": "True"}]});
    let status = Writer { ignored: &SPEC, subresource: "status", ..writer("two") };
    updated(Some(&live), &mut new, &status, &types());
    assert_eq!(owned(&new, "one"), json!({"f:spec": {"f:replicas": {}}}));
    let condition = json!({".": {}, "f:type": {}, "f:status": {}});
    assert_eq!(
        owned(&new, "two"),
        json!({"f:status": {"f:conditions": {".": {}, "k:{\"type\":\"Available\"}": condition}}})
    );
    assert_eq!(new["metadata"]["managedFields"][1]["subresource"], "status");
}

#[test]
fn the_oldest_updaters_become_one() {
    let names = ["m0", "m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11"];
    let mut live = stored(deployment(json!({"replicas": 1})));
    live["metadata"]["managedFields"] = json!([{"manager": "applier", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
    for (index, name) in names.into_iter().enumerate() {
        let mut new = live.clone();
        new["metadata"]["labels"][name] = "x".into();
        updated(Some(&live), &mut new, &Writer { now: at(1_000 + index as i64), ..writer(name) }, &types());
        live = new;
    }
    let managers: Vec<_> = live["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|e| e["manager"].as_str().unwrap())
        .collect();
    assert_eq!(
        managers,
        ["applier", "ancient-changes", "m3", "m4", "m5", "m6", "m7", "m8", "m9", "m10", "m11"]
    );
    assert_eq!(
        owned(&live, "ancient-changes"),
        json!({"f:metadata": {"f:labels": {".": {}, "f:m0": {}, "f:m1": {}, "f:m2": {}}}})
    );
}

#[test]
fn an_apply_creates_and_owns() {
    let object =
        apply(None, &deployment(containers(json!([{"name": "a", "image": "i"}]))), "one", false).unwrap();
    assert_eq!(object["spec"], containers(json!([{"name": "a", "image": "i"}])));
    let item = json!({".": {}, "f:name": {}, "f:image": {}});
    assert_eq!(
        object["metadata"]["managedFields"],
        json!([{
            "manager": "one", "operation": "Apply", "apiVersion": "apps/v1", "time": "1970-01-01T00:16:40Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": item}}}}},
        }])
    );
}

#[test]
fn reading_a_configuration_does_not_make_it_say_more_or_less() {
    let sent = deployment(
        json!({"replicas": 0, "paused": false, "nothing": null, "template": {"spec": {"containers": [
            {"name": "a", "stdin": false, "command": [], "resources": {"limits": {"cpu": "1000m"}}, "unknown": 1},
            {"name": "b"},
        ]}}}),
    );
    let (read, _) = crate::decode::from_value(types().ty, sent.clone()).unwrap();
    assert_ne!(read["spec"]["template"]["spec"]["containers"][1].get("resources"), None);
    let wanted = deployment(json!({"replicas": 0, "paused": false, "template": {"spec": {"containers": [
        {"name": "a", "stdin": false, "command": [], "resources": {"limits": {"cpu": "1"}}},
        {"name": "b"},
    ]}}}));
    assert_eq!(configuration(&sent, Value::Object(read)), wanted);
}

#[test]
fn what_is_not_applied_any_more_goes_unless_others_own_it() {
    let first = deployment(json!({
        "replicas": 1, "paused": true, "strategy": {"type": "Recreate"},
        "template": {"metadata": {"labels": {"a": "1", "b": "1"}}, "spec": {"containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]}},
    }));
    let live = stored(apply(None, &first, "one", false).unwrap());
    // Another applier shares `paused`; an updater sets a field in a's sibling.
    let live = apply(Some(&live), &deployment(json!({"paused": true})), "two", false).unwrap();
    let second = deployment(json!({
        "template": {"metadata": {"labels": {"b": "1"}}, "spec": {"containers": [{"name": "b"}]}},
    }));
    let after = apply(Some(&live), &second, "one", false).unwrap();
    assert_eq!(
        after["spec"],
        json!({
            "paused": true,
            "template": {"metadata": {"labels": {"b": "1"}}, "spec": {"containers": [{"name": "b"}]}},
        })
    );
    assert_eq!(after["metadata"]["uid"], "u");
    assert_eq!(owned(&after, "two"), json!({"f:spec": {"f:paused": {}}}));
}

#[test]
fn what_nobody_owns_stays_where_its_parent_stays() {
    let live =
        apply(None, &deployment(containers(json!([{"name": "a", "image": "i"}]))), "one", false).unwrap();
    let mut live = stored(live);
    // As defaulting would.
    live["spec"]["template"]["spec"]["containers"][0]["terminationMessagePath"] = "/x".into();
    live["spec"]["template"]["spec"]["dnsPolicy"] = "Default".into();
    let after = apply(Some(&live), &deployment(containers(json!([{"name": "a"}]))), "one", false).unwrap();
    assert_eq!(
        after["spec"]["template"]["spec"],
        json!({"containers": [{"name": "a", "terminationMessagePath": "/x"}], "dnsPolicy": "Default"})
    );
}

#[test]
fn conflicts_name_the_managers_and_the_fields() {
    let mut live = deployment(json!({"replicas": 1, "paused": true, "minReadySeconds": 1}));
    updated(None, &mut live, &writer("updater"), &types());
    let live = stored(live);
    let live = apply(Some(&live), &deployment(json!({"paused": true})), "applier", false).unwrap();
    let config = deployment(json!({"replicas": 2, "paused": false, "minReadySeconds": 1}));
    let error = apply(Some(&live), &config, "new", false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 3 conflicts: conflicts with \"applier\":\n- .spec.paused\n\
         conflicts with \"updater\" using apps/v1:\n- .spec.paused\n- .spec.replicas"
    );
    let status = Status::from(error).to_value();
    assert_eq!((&status["code"], &status["reason"]), (&json!(409), &json!("Conflict")));
    assert_eq!(
        status["details"]["causes"][2],
        json!({"reason": "FieldManagerConflict", "message": "conflict with \"updater\" using apps/v1", "field": ".spec.replicas"})
    );
    let forced = apply(Some(&live), &config, "new", true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(owned(&forced, "updater"), json!({"f:spec": {"f:minReadySeconds": {}}}));
    assert_eq!(owned(&forced, "applier"), Value::Null);
}

#[test]
fn what_cannot_be_applied_is_refused() {
    let mut managed = deployment(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    let duplicate = deployment(containers(json!([{"name": "a"}, {"name": "a"}])));
    for (config, message) in [
        (managed, "metadata.managedFields must be nil"),
        (
            duplicate,
            "failed to create typed patch object (n/d; apps/v1, Kind=Deployment): \
             .spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ] {
        assert_eq!(apply(None, &config, "one", false), Err(Error::Config(message.to_owned())));
    }
}

#[test]
fn kubectl_takes_over_from_client_side_apply() {
    let noted = deployment(json!({"replicas": 1, "paused": true}));
    let mut live = noted.clone();
    live["metadata"]["annotations"] = json!({LAST_APPLIED: noted.to_string()});
    updated(None, &mut live, &writer("kubectl-client-side-apply"), &types());
    let live = stored(live);
    let config = deployment(json!({"replicas": 5, "paused": true}));
    assert!(matches!(apply(Some(&live), &config, "someone", false), Err(Error::Conflicts(_))));
    let after = apply(Some(&live), &config, "kubectl", false).unwrap();
    assert_eq!(after["spec"]["replicas"], 5);
    let annotation = after["metadata"]["annotations"][LAST_APPLIED].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(annotation).unwrap(), config);
    // A field that someone changed since then is a conflict as ever.
    let mut changed = live.clone();
    changed["spec"]["replicas"] = 3.into();
    updated(Some(&live), &mut changed, &writer("hpa"), &types());
    let error = apply(Some(&changed), &config, "kubectl", false).unwrap_err();
    assert!(error.to_string().contains("conflict with \"hpa\" using apps/v1: .spec.replicas"), "{error}");
}

/// Objects whose managers speak of another version: there, `replicas` is called `scale`.
#[test]
fn ownership_crosses_versions() {
    fn convert(object: &Value, version: &str) -> Option<(Value, TypeRef<'static>)> {
        let ty = Schema::of("apps", "v1", "Deployment")?;
        let (from, to) = match version {
            "apps/v9" => ("replicas", "paused"),
            "apps/v1" => ("paused", "replicas"),
            _ => return None,
        };
        let mut object = object.clone();
        object["apiVersion"] = version.into();
        if let Some(value) = object["spec"].as_object_mut()?.remove(from) {
            object["spec"][to] = value;
        }
        Some((object, ty))
    }
    let types = Types { convert: &convert, ..types() };
    let mut live = stored(deployment(json!({"replicas": 1})));
    let entry = |manager: &str, version: &str| json!({"manager": manager, "operation": "Update", "apiVersion": version, "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:paused": {}}}});
    live["metadata"]["managedFields"] = json!([entry("other", "apps/v9"), entry("lost", "apps/v3")]);
    let config = deployment(json!({"replicas": 2}));
    let error = applied(Some(live.clone()), &config, &writer("one"), false, &types).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"other\" using apps/v9: .spec.paused"
    );
    let forced = applied(Some(live.clone()), &config, &writer("one"), true, &types).unwrap();
    assert_eq!((owned(&forced, "other"), owned(&forced, "lost")), (Value::Null, Value::Null));
}

/// Some spec made of fields of every sort.
fn any_spec() -> impl Strategy<Value = Value> {
    let container = (
        prop::sample::select(vec!["a", "b", "c"]),
        prop::option::of(0..3u8),
        prop::collection::btree_map(prop::sample::select(vec!["X", "Y"]), 0..3u8, 0..3),
    )
        .prop_map(|(name, image, env)| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = image.to_string().into();
            }
            if !env.is_empty() {
                let env = env.into_iter().map(|(k, v)| json!({"name": k, "value": v.to_string()}));
                container["env"] = env.collect();
            }
            container
        });
    let containers = prop::collection::vec(container, 0..4).prop_map(|mut containers| {
        let mut seen = std::collections::HashSet::new();
        containers.retain(|c| seen.insert(c["name"].clone()));
        containers
    });
    (
        prop::option::of(0..3u8),
        prop::collection::btree_map(prop::sample::select(vec!["a", "b", "c"]), 0..2u8, 0..3),
        prop::collection::btree_map(prop::sample::select(vec!["a", "b"]), 0..2u8, 0..3),
        containers,
    )
        .prop_map(|(replicas, labels, selector, containers)| {
            let text = |map: std::collections::BTreeMap<&str, u8>| -> Value {
                map.into_iter()
                    .map(|(k, v)| (k.to_owned(), Value::from(v.to_string())))
                    .collect::<Map<_, _>>()
                    .into()
            };
            let mut spec = json!({});
            if let Some(replicas) = replicas {
                spec["replicas"] = replicas.into();
            }
            if !labels.is_empty() {
                spec["template"]["metadata"]["labels"] = text(labels);
            }
            if !selector.is_empty() {
                spec["selector"]["matchLabels"] = text(selector);
            }
            if !containers.is_empty() {
                spec["template"]["spec"]["containers"] = containers.into();
            }
            spec
        })
}

proptest! {
    #[test]
    fn apply_is_idempotent(before in any_spec(), config in any_spec()) {
        let live = stored(apply(None, &deployment(before), "one", false).unwrap());
        let once = apply(Some(&live), &deployment(config.clone()), "two", true).unwrap();
        let later = Writer { now: at(5_000), ..writer("two") };
        let twice = applied(Some(once.clone()), &deployment(config), &later, false, &types()).unwrap();
        prop_assert_eq!(once, twice);
    }

    #[test]
    fn the_last_apply_of_an_only_owner_is_the_object(first in any_spec(), second in any_spec()) {
        let live = apply(None, &deployment(first), "one", false).unwrap();
        let after = apply(Some(&stored(live)), &deployment(second.clone()), "one", false).unwrap();
        let fresh = apply(None, &deployment(second), "one", false).unwrap();
        let left = after.get("spec").cloned().unwrap_or_else(|| json!({}));
        prop_assert_eq!(&left, &fresh["spec"]);
        prop_assert_eq!(owned(&after, "one"), owned(&fresh, "one"));
    }

    #[test]
    fn a_forced_apply_gets_and_owns_what_it_asked_for(before in any_spec(), config in any_spec()) {
        let mut live = deployment(before);
        updated(None, &mut live, &writer("one"), &types());
        let config = deployment(config);
        let after = apply(Some(&stored(live)), &config, "two", true).unwrap();
        let wanted = Set(walk::fields(&config, types().ty).unwrap());
        let kept = compare(&after, &{ let mut merged = after.clone(); walk::merge(&mut merged, &config, Some(types().ty.into())); merged }, types().ty);
        prop_assert!(kept.is_empty());
        let mut wanted = wanted;
        wanted.subtract(&NOT_OWNED);
        prop_assert_eq!(owned(&after, "two"), if wanted.is_empty() { Value::Null } else { wanted.encode() });
    }

    #[test]
    fn an_unforced_apply_never_changes_what_another_owns(mine in any_spec(), theirs in any_spec()) {
        let live = stored(apply(None, &deployment(theirs.clone()), "one", false).unwrap());
        if let Ok(after) = apply(Some(&live), &deployment(mine), "two", false) {
            let mut again = after.clone();
            walk::merge(&mut again, &deployment(theirs), Some(types().ty.into()));
            prop_assert!(compare(&after, &again, types().ty).is_empty());
            prop_assert_eq!(owned(&after, "one"), owned(&live, "one"));
        }
    }

    #[test]
    fn every_field_of_a_created_object_is_owned(spec in any_spec()) {
        let mut object = deployment(spec);
        updated(None, &mut object, &writer("one"), &types());
        let bare = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "n"}});
        let mut wanted = compare(&bare, &object, types().ty).written;
        wanted.subtract(&NOT_OWNED);
        let owned = owned(&object, "one");
        prop_assert_eq!(if owned.is_null() { json!({}) } else { owned }, wanted.encode());
    }
}
