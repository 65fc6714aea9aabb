use std::sync::Arc;

use tiphys_api::kind::Kinds;

use super::*;
use crate::admission::Operation;
use crate::admission::tests::Case;
use crate::registry::DeleteOptions;
use crate::registry::Propagation;

fn matched(group: &str, resource: &str) -> Matched {
    let row = Arc::clone(Kinds::builtin().group_resource(group, resource).unwrap());
    Matched { row, version: "v1".to_owned() }
}

fn asked(attributes: &Attributes<'_>, matched: &Matched, object: Value, old: Value) -> Value {
    let body = request(Reviews::V1, "u-1", attributes, matched, [&object, &old]);
    serde_json::from_slice(&body).unwrap()
}

#[test]
fn a_review_tells_the_request_and_how_it_was_matched() {
    let case = Case { group: "", ..Case::new(Operation::Create, "events", "e") };
    let mut attributes = case.attributes();
    attributes.dry_run = true;
    let review = asked(&attributes, &matched("events.k8s.io", "events"), json!({"a": 1}), Value::Null);
    assert_eq!(
        (&review["kind"], &review["apiVersion"]),
        (&json!("AdmissionReview"), &json!("admission.k8s.io/v1"))
    );
    let request = &review["request"];
    assert_eq!(request["kind"], json!({"group": "events.k8s.io", "version": "v1", "kind": "Event"}));
    assert_eq!(request["resource"]["group"], "events.k8s.io");
    assert_eq!(request["requestResource"], json!({"group": "", "version": "v1", "resource": "events"}));
    assert_eq!(request["requestKind"]["group"], "");
    assert_eq!(request["userInfo"]["username"], case.user.name());
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"],
                         "fieldManager": "test"});
    assert_eq!((&request["dryRun"], &request["options"]), (&json!(true), &options));
    assert_eq!((&request["object"], &request["oldObject"]), (&json!({"a": 1}), &Value::Null));
    assert_eq!(
        (&request["uid"], &request["name"], &request["namespace"]),
        (&json!("u-1"), &json!("e"), &json!("ns"))
    );
    assert!(request.get("subResource").is_none());
}

#[test]
fn deletes_connections_and_namespaces_are_told_as_upstream_does() {
    let options = DeleteOptions {
        grace: Some(0),
        propagation: Some(Propagation::Orphan),
        uid: Some("u".to_owned()),
        resource_version: None,
        orphans: false,
    };
    let case = Case { namespace: "", ..Case::new(Operation::Delete, "namespaces", "n") };
    let attributes = Attributes { delete: Some(&options), ..case.attributes() };
    let request = asked(&attributes, &matched("", "namespaces"), Value::Null, json!({}))["request"].take();
    assert_eq!(request["namespace"], "n");
    let expected = json!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "gracePeriodSeconds": 0,
                          "propagationPolicy": "Orphan", "preconditions": {"uid": "u"}});
    assert_eq!(request["options"], expected);

    let case = Case::new(Operation::Connect, "pods/exec", "p");
    let request = asked(&case.attributes(), &matched("", "pods"), json!({}), Value::Null)["request"].take();
    assert_eq!((&request["subResource"], &request["options"]), (&json!("exec"), &Value::Null));
    assert_eq!(
        (&request["kind"]["kind"], &request["resource"]["resource"]),
        (&json!("PodExecOptions"), &json!("pods"))
    );
}

fn answered(reviews: Reviews, mutating: bool, response: Value) -> Result<Answer, Error> {
    let review =
        json!({"apiVersion": reviews.api_version(), "kind": "AdmissionReview", "response": response});
    answer(reviews, "u", mutating, review)
}

#[test]
fn an_answer_must_be_to_this_question() {
    let allowed = |uid| json!({"uid": uid, "allowed": true});
    let told = answered(
        Reviews::V1,
        true,
        json!({"uid": "u", "allowed": true, "warnings": ["w"],
                                                  "auditAnnotations": {"k": "v"}}),
    )
    .unwrap();
    assert_eq!((told.rejected, told.warnings, &*told.annotations["k"]), (None, vec!["w".to_owned()], "v"));
    let error = answered(Reviews::V1, true, allowed("x")).unwrap_err();
    assert_eq!(error.to_string(), r#"expected response.uid="u", got "x""#);
    assert!(answered(Reviews::V1Beta1, true, allowed("x")).is_ok(), "v1beta1 never had to say");
    assert_eq!(answer(Reviews::V1, "u", true, json!({})), Err(Error::Absent));
    let other = json!({"apiVersion": "admission.k8s.io/v1beta1", "kind": "AdmissionReview", "response": allowed("u")});
    let error = answer(Reviews::V1, "u", true, other).unwrap_err().to_string();
    assert_eq!(
        error,
        "expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, \
         got admission.k8s.io/v1beta1, Kind=AdmissionReview"
    );
    assert_eq!(answered(Reviews::V1, true, json!({"uid": "u"})).unwrap().rejected, Some(Rejected::default()));
}

#[test]
fn patches_come_from_mutating_webhooks_with_their_type() {
    let patch = BASE64_STANDARD.encode(r#"[{"op": "remove", "path": "/a"}]"#);
    let with =
        |patch: Value, ty: Value| json!({"uid": "u", "allowed": true, "patch": patch, "patchType": ty});
    let both = with(patch.clone().into(), "JSONPatch".into());
    let alone = with(patch.into(), Value::Null);
    let expected = Some(json!([{"op": "remove", "path": "/a"}]));
    assert_eq!(answered(Reviews::V1, true, both.clone()).unwrap().patch, expected);
    assert_eq!(answered(Reviews::V1, true, alone.clone()), Err(Error::NoPatchType));
    assert_eq!(answered(Reviews::V1Beta1, true, alone.clone()).unwrap().patch, expected);
    assert_eq!(answered(Reviews::V1, true, with(Value::Null, "JSONPatch".into())), Err(Error::NoPatch));
    let other = with("e30=".into(), "Other".into());
    assert_eq!(answered(Reviews::V1, true, other), Err(Error::PatchType("Other".to_owned())));
    assert_eq!(answered(Reviews::V1, false, both), Err(Error::ValidatingPatch));
    assert_eq!(
        answered(Reviews::V1, false, with(Value::Null, "JSONPatch".into())),
        Err(Error::ValidatingPatchType)
    );
    assert_eq!(answered(Reviews::V1Beta1, false, alone).unwrap().patch, None);
    let broken = with("no base64!".into(), "JSONPatch".into());
    assert!(matches!(answered(Reviews::V1, true, broken), Err(Error::Patch(_))));
}
