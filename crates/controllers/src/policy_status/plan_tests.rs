use serde_json::{Value, json};
use tiphys_api::kind::Kinds;

use super::{Known, Others, Warning, unknown, warnings as judged};

fn warnings(policy: &Value, kinds: &Kinds) -> Vec<Warning> {
    judged(policy, &Known { kinds, others: Others::default() })
}

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

#[test]
fn custom_kinds_are_known_by_what_the_server_tells_of_them() {
    let mut policy = policy(
        &json!(["foos"]),
        &json!([
            {"expression": "object.spec.size > 1 && object.metadata.labels['a'] == 'b' && object.kind == 'Foo'"},
            {"expression": "object.spec.size == 'big'"},
            {"expression": "object.metadata.nope == ''"},
            {"expression": "params.spec.nope"},
        ]),
    );
    policy["spec"]["variables"] = json!([]);
    policy["spec"]["paramKind"] = json!({"apiVersion": "x.io/v1", "kind": "Bar"});
    policy["spec"]["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["x.io"]);
    let kinds = Kinds::builtin();
    let of = ("x.io".to_owned(), "v1".to_owned());
    assert_eq!(Vec::from_iter(unknown(&policy, &kinds)), std::slice::from_ref(&of));

    let resources =
        json!({"resources": [{"name": "foos", "kind": "Foo"}, {"name": "foos/status", "kind": "Foo"}]});
    let schema = |kind: &str| {
        json!({"type": "object", "x-kubernetes-group-version-kind": [{"group": "x.io", "version": "v1", "kind": kind}],
            "properties": {"metadata": {"allOf": [{"$ref": "#/components/schemas/ObjectMeta"}]},
                "spec": {"type": "object", "properties": {"size": {"type": "integer"}}}}})
    };
    let document =
        json!({"components": {"schemas": {"io.x.v1.Foo": schema("Foo"), "io.x.v1.Bar": schema("Bar")}}});
    let mut others = Others::default();
    others.learn(&of, &resources, &document);
    let found = judged(&policy, &Known { kinds: &kinds, others });
    let told: Vec<_> = found.iter().map(|w| (&*w.field, w.warning.lines().next().unwrap())).collect();
    let kind = "x.io/v1, Kind=Foo: ERROR: <input>";
    assert_eq!(
        told,
        [
            (
                "spec.validations[1].expression",
                &*format!("{kind}:1:18: found no matching overload for '_==_' applied to '(int, string)'")
            ),
            ("spec.validations[2].expression", &*format!("{kind}:1:16: undefined field 'nope'")),
            ("spec.validations[3].expression", &*format!("{kind}:1:12: undefined field 'nope'")),
        ]
    );
}
