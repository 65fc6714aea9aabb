use serde_json::json;

use super::*;
use crate::prepare;

fn told(errors: Errors) -> Vec<String> {
    errors.iter().map(ToString::to_string).collect()
}

fn asked(change: impl FnOnce(&mut Value)) -> Vec<String> {
    let mut object = json!({"spec": {"request": "x", "signerName": "example.com/a.b", "usages": ["client auth"],
        "expirationSeconds": 600}});
    change(&mut object["spec"]);
    told(request(&object))
}

#[test]
fn requests_name_usages_and_a_signer() {
    assert_eq!(asked(|_| ()), [""; 0]);
    assert_eq!(
        asked(|spec| spec["usages"] = json!([])),
        ["spec.usages: Required value: usages must be provided"]
    );
    let unknown = asked(|spec| spec["usages"] = json!(["flying"]));
    assert!(
        unknown[0].starts_with("spec.usages[0]: Unsupported value: \"flying\": supported values: \"any\"")
    );
    assert_eq!(
        asked(|spec| spec["usages"] = json!(["any", "any"])),
        ["spec.usages[1]: Duplicate value: \"any\""]
    );
    for (name, want) in [
        ("", "signerName must be provided"),
        ("kubernetes.io/legacy-unknown", "the legacy signerName is not allowed via this API version"),
        ("example.com", "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        ("a.b/c/d", "must be a fully qualified domain and path of the form 'example.com/signer-name'"),
        ("example/a", "should be a domain with at least two segments separated by dots"),
        ("exa_mple.com/a", "validating label \"exa_mple\": "),
        ("example.com/A", "validating label \"A\": "),
    ] {
        let errors = asked(|spec| spec["signerName"] = name.into());
        assert!(errors.len() == 1 && errors[0].contains(want), "{name} {errors:?}");
    }
    assert_eq!(asked(|spec| spec["signerName"] = format!("example.com/{}", "a".repeat(400)).into()).len(), 1);
    let short = asked(|spec| spec["expirationSeconds"] = 599.into());
    assert!(short[0].ends_with("may not specify a duration less than 600 seconds (10 minutes)"), "{short:?}");
}

fn condition(kind: &str, status: &str) -> Value {
    json!({"type": kind, "status": status})
}

fn with(conditions: Value, certificate: &str) -> Value {
    json!({"spec": {"a": 1}, "status": {"conditions": conditions, "certificate": certificate}})
}

#[test]
fn only_an_approval_approves_and_only_a_status_signs() {
    let (empty, approved) = (with(json!([]), ""), with(json!([condition("Approved", "True")]), ""));
    assert_eq!(approval_update(&approved, &empty), Vec::new());
    let add = "status.conditions: Forbidden: updates may not add a condition of type \"Approved\"";
    assert_eq!(told(status_update(&approved, &empty)), [add]);
    assert_eq!(
        told(approval_update(&empty, &approved)),
        ["status.conditions: Forbidden: updates may not remove a condition of type \"Approved\""]
    );
    let both = with(json!([condition("Approved", "True"), condition("Denied", "True")]), "");
    let errors = told(approval_update(&both, &empty));
    assert!(errors[0].ends_with("Approved and Denied conditions are mutually exclusive"), "{errors:?}");
    assert_eq!(told(approval_update(&with(json!([condition("Denied", "False")]), ""), &empty)).len(), 1);
    assert_eq!(told(approval_update(&with(json!([condition("x", "")]), ""), &empty)).len(), 1);

    let signed = with(json!([condition("Approved", "True")]), "PEM");
    assert_eq!(status_update(&signed, &approved), Vec::new());
    assert_eq!(
        told(approval_update(&signed, &approved)),
        ["status.certificate: Forbidden: updates may not set certificate content"]
    );
    let other = with(json!([condition("Approved", "True")]), "other");
    assert_eq!(
        told(status_update(&other, &signed)),
        ["status.certificate: Forbidden: updates may not modify existing certificate content"]
    );
}

#[test]
fn each_way_of_updating_writes_its_part() {
    let old = with(json!([{"type": "Approved", "status": "True", "message": "old"}]), "");
    let wish = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"a": 2}, "status": {"certificate": "PEM",
        "conditions": [{"type": "Approved", "status": "True", "message": "new"}, condition("Failed", "True")]}});
    let after = |prepare: fn(&mut Value, &Value)| {
        let mut new = wish.clone();
        prepare(&mut new, &old);
        new
    };
    let whole = after(prepare::update_signing_request);
    assert_eq!((&whole["spec"], &whole["status"]), (&old["spec"], &old["status"]));
    let approval = after(prepare::update_approval);
    assert_eq!((&approval["spec"], &approval["status"]["certificate"]), (&old["spec"], &json!("")));
    assert_eq!(approval["status"]["conditions"], wish["status"]["conditions"]);
    let status = after(prepare::update_signing_status);
    assert_eq!((&status["spec"], &status["status"]["certificate"]), (&old["spec"], &json!("PEM")));
    assert_eq!(status["status"]["conditions"][0]["message"], "old");
    assert_eq!(status["status"]["conditions"][1], condition("Failed", "True"));
}
