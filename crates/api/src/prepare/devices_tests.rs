use serde_json::json;

use super::*;

#[test]
fn fields_of_features_that_are_off_are_dropped_unless_they_are_in_use() {
    let full = json!({"spec": {
        "driver": "d", "skipNodeOperations": ["Prepare"], "partitionTypeAttribute": "d/x",
        "devices": [{"name": "a", "nodeAllocatableResources": {"cpu": {}},
            "attributes": {"x": {"strings": ["y"]}, "z": {"bool": true}},
            "consumesCounters": [{"counterSet": "s", "compatibilityGroups": ["g"]}]}]}});
    let bare = json!({"spec": {"driver": "d", "devices": [{"name": "a", "attributes": {"x": {}, "z": {"bool": true}},
        "consumesCounters": [{"counterSet": "s"}]}]}});
    let mut slice = full.clone();
    create_slice(&mut slice);
    assert_eq!(slice["spec"], bare["spec"]);
    let mut slice = full.clone();
    update_slice(&mut slice, &bare);
    assert_eq!(slice["spec"], bare["spec"]);
    let mut slice = full.clone();
    update_slice(&mut slice, &full);
    assert_eq!(slice["spec"], full["spec"]);
    // One that has one of the features has no other.
    let mut old = bare.clone();
    old["spec"]["devices"][0]["attributes"]["other"] = json!({"ints": [1]});
    let mut wanted = bare.clone();
    wanted["spec"]["devices"][0]["attributes"]["x"] = json!({"strings": ["y"]});
    let mut slice = full;
    update_slice(&mut slice, &old);
    assert_eq!(slice["spec"], wanted["spec"]);
}

#[test]
fn requests_lose_attributes_that_are_derived() {
    let spec = |derived: Value| {
        json!({"devices": {"requests": [{"name": "r", "exactly": derived},
            {"name": "s", "firstAvailable": [derived]}]}})
    };
    let (full, bare) = (spec(json!({"derivedAttributes": [{"name": "x"}]})), spec(json!({})));
    let mut claim = json!({"spec": full});
    create_claim(&mut claim);
    assert_eq!(claim["spec"], bare);
    let mut template = json!({"spec": {"spec": full}});
    create_template(&mut template);
    assert_eq!(template["spec"]["spec"], bare);
    let mut kept = json!({"spec": {"spec": full}});
    update_template(&mut kept, &json!({"spec": {"spec": full}}));
    assert_eq!(kept["spec"]["spec"], full);
}

#[test]
fn what_drivers_said_goes_with_the_devices() {
    let device = |name: &str| json!({"driver": "d", "pool": "p", "device": name});
    let claim = |has: &[&str], told: &[&str]| {
        let results: Vec<Value> = has.iter().map(|name| device(name)).collect();
        let mut claim = json!({"spec": {}, "metadata": {}, "status": {"devices": told.iter().map(|name| device(name)).collect::<Vec<_>>()}});
        if !results.is_empty() {
            claim["status"]["allocation"] = json!({"devices": {"results": results}});
        }
        claim
    };
    for (before, after, told, left) in [
        (&["a", "b"][..], &["a", "b"][..], &["a", "b"][..], json!([device("a"), device("b")])),
        (&["a", "b"], &["b"], &["a", "b"], json!([device("b")])),
        (&["a", "b"], &[], &["a", "b"], Value::Null),
        // What the claim never had is for validation to refuse.
        (&["a"], &["a"], &["c"], json!([device("c")])),
    ] {
        let mut new = claim(after, told);
        update_claim_status(&mut new, &claim(before, told));
        assert_eq!(new["status"].get("devices").cloned().unwrap_or_default(), left, "{before:?} {after:?}");
    }
}
