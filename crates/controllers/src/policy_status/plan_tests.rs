use serde_json::{Value, json};
use tiphys_api::kind::Kinds;

use super::{Warning, warnings};

fn policy(resources: &Value, validations: &Value) -> Value {
    json!({"spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [{
            "apiGroups": ["apps", ""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": resources,
        }]},
        "variables": [{"name": "replicas", "expression": "object.spec.replicas"}],
        "validations": validations,
    }})
}

#[test]
fn mistakes_are_told_for_each_kind_that_they_are_made_about() {
    let validations = json!([
        {"expression": "object.spec.replicas > 1 && params.data['a'] == 'b' && object.metadata.name != ''"},
        {"expression": "object.foo == 'a'", "messageExpression": "object.spec.template.nope"},
        {"expression": "variables.replicas == 'a'"},
    ]);
    let found = warnings(
        &policy(&json!(["deployments", "deployments/scale", "nope"]), &validations),
        &Kinds::builtin(),
    );
    let kind = "apps/v1, Kind=Deployment: ERROR: <input>";
    let wanted = [
        (
            "spec.validations[1].expression",
            format!("{kind}:1:7: undefined field 'foo'\n | object.foo == 'a'\n | ......^\n"),
        ),
        (
            "spec.validations[1].messageExpression",
            format!(
                "{kind}:1:21: undefined field 'nope'\n | object.spec.template.nope\n | ....................^\n"
            ),
        ),
        (
            "spec.validations[2].expression",
            format!(
                "{kind}:1:20: found no matching overload for '_==_' applied to '(int, string)'\n | variables.replicas == \
                 'a'\n | ...................^\n"
            ),
        ),
    ];
    let wanted = wanted.map(|(field, warning)| Warning { field: field.to_owned(), warning });
    assert_eq!(found, wanted);

    let two = policy(&json!(["deployments", "pods"]), &json!([{"expression": "object.spec.replicas > 1"}]));
    let found = warnings(&two, &Kinds::builtin());
    assert_eq!(found.len(), 1);
    assert!(found[0].warning.starts_with("/v1, Kind=Pod: ERROR"), "{found:?}");
}

#[test]
fn rules_about_everything_are_not_checked() {
    let all = policy(&json!(["*"]), &json!([{"expression": "object.foo == 1"}]));
    assert_eq!(warnings(&all, &Kinds::builtin()), []);
}
