//! Policies through the whole server.

use serde_json::{Value, json};

use crate::ApiServer;
use crate::testing::{ask, json as send, server};

const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";

fn policy(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn about(group: &str, resource: &str) -> Value {
    json!({"resourceRules": [{
        "apiGroups": [group], "apiVersions": ["*"], "operations": ["CREATE", "UPDATE"], "resources": [resource],
    }]})
}

async fn create(server: &ApiServer, path: &str, object: Value) {
    let (code, answer) = send(server, "POST", path, object).await;
    assert_eq!(code, 201, "{answer}");
}

/// Makes a validating policy for ConfigMaps with a binding.
async fn validating(server: &ApiServer, name: &str, mut spec: Value, binding: Value) {
    spec["matchConstraints"] = about("", "configmaps");
    let path = format!("{GROUP}/validatingadmissionpolicies");
    create(server, &path, policy("ValidatingAdmissionPolicy", name, &spec)).await;
    let mut bound = json!({"policyName": name, "validationActions": ["Deny"]});
    bound.as_object_mut().unwrap().extend(binding.as_object().unwrap().clone());
    let path = format!("{GROUP}/validatingadmissionpolicybindings");
    create(server, &path, policy("ValidatingAdmissionPolicyBinding", &format!("{name}-all"), &bound)).await;
}

fn config_map(name: &str, data: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The answer to the create of a ConfigMap, waiting until the cache has told of the policies.
async fn try_create(server: &ApiServer, name: &str, data: Value) -> (u16, Value, Vec<String>) {
    server.registry().cache().wait_newest().await.unwrap();
    let headers = [("content-type", "application/json")];
    let answer = ask(server, "POST", CONFIG_MAPS, &headers, config_map(name, &data).to_string()).await;
    let warnings = answer.headers.get_all("warning").iter();
    let warnings = warnings.map(|w| w.to_str().unwrap().to_owned()).collect();
    (answer.code, answer.json(), warnings)
}

#[tokio::test]
async fn a_policy_refuses_with_upstreams_words() {
    let server = server().await;
    let spec = json!({
        "variables": [{"name": "count", "expression": "size(object.data)"}],
        "matchConditions": [{"name": "not-exempt", "expression": "!object.metadata.name.startsWith('free-')"}],
        "validations": [
            {"expression": "variables.count <= 1"},
            {"expression": "object.data.all(k, k != 'x')", "message": "x is taken", "reason": "Forbidden"},
            {
                "expression": "request.userInfo.username == 'system:apiserver' && has(object.data.a)",
                "messageExpression": "'no a in ' + request.namespace + '/' + object.metadata.name",
            },
            {"expression": "authorizer.group('').resource('nodes').check('delete').allowed()"},
            {"expression": "namespaceObject.metadata.name == 'default'"},
        ],
    });
    validating(&server, "small", spec, json!({})).await;

    let (code, answer, _) = try_create(&server, "big", json!({"a": "1", "b": "2"})).await;
    let denied = "ValidatingAdmissionPolicy 'small' with binding 'small-all' denied request: ";
    assert_eq!(code, 422);
    assert_eq!(answer["reason"], "Invalid");
    let why = format!("{denied}failed expression: variables.count <= 1");
    assert_eq!(answer["message"], format!("configmaps \"big\" is forbidden: {why}"));
    assert_eq!(answer["details"]["causes"], json!([{"message": why}]));

    let (code, answer, _) = try_create(&server, "taken", json!({"x": "1"})).await;
    assert_eq!((code, answer["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(answer["message"], format!("configmaps \"taken\" is forbidden: {denied}x is taken"));

    let (_, answer, _) = try_create(&server, "none", json!({"b": "1"})).await;
    assert_eq!(answer["message"], format!("configmaps \"none\" is forbidden: {denied}no a in default/none"));

    assert_eq!(try_create(&server, "good", json!({"a": "1"})).await.0, 201);
    assert_eq!(try_create(&server, "free-big", json!({"x": "1", "b": "2"})).await.0, 201);
    // An expression that fails refuses, too.
    let (_, answer, _) = try_create(&server, "empty", Value::Null).await;
    let why = "expression 'variables.count <= 1' resulted in error: composited variable \"count\" fails to evaluate: \
               no such key: data";
    assert_eq!(answer["message"], format!("configmaps \"empty\" is forbidden: {denied}{why}"));
}

#[tokio::test]
async fn actions_and_failure_policies_decide_what_a_failure_means() {
    let server = server().await;
    let spec = json!({"validations": [{"expression": "has(object.data.a)", "message": "no a"}]});
    validating(&server, "warns", spec, json!({"validationActions": ["Warn", "Audit"]})).await;
    let spec = json!({"failurePolicy": "Ignore", "validations": [{"expression": "object.data.nope == 'x'"}]});
    validating(&server, "ignores", spec, json!({})).await;

    let (code, _, warnings) = try_create(&server, "one", json!({"b": "1"})).await;
    assert_eq!(code, 201);
    let warning = "Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-all': no a";
    assert_eq!(warnings, [format!("299 - \"{warning}\"")]);
}

#[tokio::test]
async fn parameters_come_from_the_objects_that_a_binding_names() {
    let server = server().await;
    let spec = |failure: &str| {
        json!({
            "failurePolicy": failure,
            "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
            "validations": [{
                "expression": "size(object.data) <= int(params.data.most) || object.metadata.name == params.metadata.name",
                "messageExpression": "'at most ' + params.data.most",
            }],
        })
    };
    create(&server, CONFIG_MAPS, config_map("limits", &json!({"most": "1"}))).await;
    let reference = json!({"paramRef": {"name": "limits", "parameterNotFoundAction": "Deny"}});
    validating(&server, "limited", spec("Fail"), reference).await;
    let missing = json!({
        "paramRef": {"selector": {"matchLabels": {"no": "such"}}, "parameterNotFoundAction": "Allow"},
    });
    validating(&server, "unlimited", spec("Fail"), missing).await;

    assert_eq!(try_create(&server, "small", json!({"a": "1"})).await.0, 201);
    let (_, answer, _) = try_create(&server, "large", json!({"a": "1", "b": "2"})).await;
    let denied = "ValidatingAdmissionPolicy 'limited' with binding 'limited-all' denied request";
    assert_eq!(answer["message"], format!("configmaps \"large\" is forbidden: {denied}: at most 1"));

    let (code, answer) = send(&server, "DELETE", &format!("{CONFIG_MAPS}/limits"), Value::Null).await;
    assert_eq!(code, 200, "{answer}");
    let (_, answer, _) = try_create(&server, "later", json!({"a": "1"})).await;
    let why =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    assert_eq!(answer["message"], format!("configmaps \"later\" is forbidden: {denied}: {why}"));
}

#[tokio::test]
async fn a_policy_whose_expressions_mean_nothing_is_refused() {
    let server = server().await;
    let mut spec = json!({
        "variables": [{"name": "v", "expression": "object.x +"}],
        "validations": [
            {"expression": "request.nope == 1"},
            {"expression": "'a'", "messageExpression": "authorizer.path('/').check('get').reason()"},
        ],
    });
    spec["matchConstraints"] = about("", "configmaps");
    let bad = policy("ValidatingAdmissionPolicy", "bad", &spec);
    let (code, answer) = send(&server, "POST", &format!("{GROUP}/validatingadmissionpolicies"), bad).await;
    assert_eq!(code, 422, "{answer}");
    let causes = answer["details"]["causes"].as_array().unwrap();
    let told: Vec<(&str, bool)> = causes
        .iter()
        .zip([
            "compilation failed: ERROR: <input>:1:11: Syntax error",
            "compilation failed: ERROR: <input>:1:8: undefined field 'nope'",
            "must evaluate to bool but got string",
            "undeclared reference to 'authorizer'",
        ])
        .map(|(cause, wanted)| {
            (cause["field"].as_str().unwrap(), cause["message"].as_str().unwrap().contains(wanted))
        })
        .collect();
    assert_eq!(
        told,
        [
            ("spec.variables[0].expression", true),
            ("spec.validations[0].expression", true),
            ("spec.validations[1].expression", true),
            ("spec.validations[1].messageExpression", true),
        ],
        "{answer}"
    );
}

/// Makes a mutating policy with a binding.
async fn mutating(server: &ApiServer, name: &str, spec: Value) {
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    create(server, &path, policy("MutatingAdmissionPolicy", name, &spec)).await;
    let path = format!("{GROUP}/mutatingadmissionpolicybindings");
    let bound = json!({"policyName": name});
    create(server, &path, policy("MutatingAdmissionPolicyBinding", &format!("{name}-all"), &bound)).await;
    server.registry().cache().wait_newest().await.unwrap();
}

fn apply(expression: &str) -> Value {
    json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}})
}

fn patch(expression: &str) -> Value {
    json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}})
}

#[tokio::test]
async fn policies_mutate_in_order_and_again_where_they_want_it() {
    let server = server().await;
    let constraints = about("", "configmaps");
    let spec = json!({
        "matchConstraints": constraints,
        "failurePolicy": "Fail",
        "reinvocationPolicy": "IfNeeded",
        "mutations": [patch(
            "[JSONPatch{op: 'add', path: '/metadata/annotations', value: {'seen/all': string(size(object.data))}}]",
        )],
    });
    mutating(&server, "a-first", spec).await;
    let spec = json!({
        "matchConstraints": constraints,
        "failurePolicy": "Fail",
        "reinvocationPolicy": "Never",
        "matchConditions": [{"name": "once", "expression": "!has(object.metadata.labels)"}],
        "mutations": [
            apply("Object{metadata: Object.metadata{labels: {'team': object.metadata.name}}}"),
            apply("Object{data: {'added': object.metadata.labels['team']}}"),
        ],
    });
    mutating(&server, "b-second", spec).await;
    let (code, answer, _) = try_create(&server, "web", json!({"own": "1"})).await;
    assert_eq!(code, 201, "{answer}");
    assert_eq!(answer["metadata"]["labels"], json!({"team": "web"}));
    assert_eq!(answer["data"], json!({"own": "1", "added": "web"}));
    // In its second round, the first policy has seen what the second added.
    assert_eq!(answer["metadata"]["annotations"], json!({"seen/all": "2"}));
}

#[tokio::test]
async fn lists_are_merged_by_their_keys_and_atomic_ones_not_at_all() {
    let server = server().await;
    let spec = |expression: &str| {
        json!({
            "matchConstraints": about("apps", "deployments"),
            "failurePolicy": "Fail",
            "reinvocationPolicy": "Never",
            "mutations": [apply(expression)],
        })
    };
    let sidecar = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{containers: [
        Object.spec.template.spec.containers{name: 'sidecar', image: 'mesh:1'}]}}}}";
    mutating(&server, "sidecar", spec(sidecar)).await;
    let deployment = |name: &str| {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
            "spec": {
                "selector": {"matchLabels": {"a": "b"}},
                "template": {
                    "metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "web", "image": "web:1"}]},
                },
            },
        })
    };
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let (code, answer) = send(&server, "POST", path, deployment("web")).await;
    assert_eq!(code, 201, "{answer}");
    let containers = answer["spec"]["template"]["spec"]["containers"].as_array().unwrap();
    let names: Vec<&str> = containers.iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2);
    assert!(names.contains(&"web") && names.contains(&"sidecar"));
    // What the policy added has the defaults of its kind.
    assert!(containers.iter().all(|c| c["terminationMessagePath"] == "/dev/termination-log"));

    let wrong = "Object{spec: Object.spec{selector: Object.spec.selector{matchLabels: {'a': 'c'}}}}";
    mutating(&server, "wrong", spec(wrong)).await;
    let (code, answer) = send(&server, "POST", path, deployment("other")).await;
    // Upstream's code is that of what is forbidden, whatever the reason.
    assert_eq!((code, answer["code"].as_u64(), answer["reason"].as_str()), (403, Some(403), Some("Invalid")));
    assert_eq!(answer["details"]["causes"], json!([{"message": answer["message"]}]));
    assert_eq!(
        answer["message"],
        "policy 'wrong' with binding 'wrong-all' denied request: error applying patch: invalid ApplyConfiguration: may \
         not mutate atomic arrays, maps or structs: .spec.selector"
    );
}

/// Parameters are chosen by their labels, and the policy is asked once for each.
#[tokio::test]
async fn parameters_are_chosen_by_selector() {
    let server = server().await;
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "!has(params.data) || object.metadata.name != params.data.taken",
                         "messageExpression": "'taken by ' + params.metadata.name"}],
    });
    let chosen = json!({"paramRef": {"selector": {"matchLabels": {"list": "taken"}},
                                     "parameterNotFoundAction": "Deny"}});
    validating(&server, "free", spec, chosen).await;
    let (code, answer, _) = try_create(&server, "a", json!({})).await;
    assert_eq!((code, answer["reason"].as_str()), (422, Some("Invalid")));
    let none = "no params found for policy binding with `Deny` parameterNotFoundAction";
    assert!(answer["message"].as_str().unwrap().ends_with(none), "{answer}");

    // Nobody is asked about the parameters themselves: they come first.
    let policy = format!("{GROUP}/validatingadmissionpolicybindings/free-all");
    let (_, bound) = send(&server, "GET", &policy, Value::Null).await;
    assert_eq!(send(&server, "DELETE", &policy, Value::Null).await.0, 200);
    server.registry().cache().wait_newest().await.unwrap();
    for (name, taken, labels) in [
        ("one", "x", json!({"list": "taken"})),
        ("two", "y", json!({"list": "taken"})),
        ("three", "z", json!({"list": "other"})),
    ] {
        let mut map = config_map(name, &json!({"taken": taken}));
        map["metadata"]["labels"] = labels;
        create(&server, CONFIG_MAPS, map).await;
    }
    let spec = bound["spec"].clone();
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
                         "metadata": {"name": "free-all"}, "spec": spec});
    create(&server, &format!("{GROUP}/validatingadmissionpolicybindings"), binding).await;
    for (name, owner) in [("x", Some("one")), ("y", Some("two")), ("z", None), ("w", None)] {
        let (code, answer, _) = try_create(&server, name, json!({})).await;
        match owner {
            Some(owner) => {
                let wanted = format!("denied request: taken by {owner}");
                assert!(code == 422 && answer["message"].as_str().unwrap().ends_with(&wanted), "{answer}");
            }
            None => assert_eq!(code, 201, "{answer}"),
        }
    }
}

#[tokio::test]
async fn policies_without_what_they_need_forbid() {
    let server = server().await;
    let spec = json!({
        "matchConstraints": about("", "configmaps"), "failurePolicy": "Fail", "reinvocationPolicy": "Never",
        "paramKind": {"apiVersion": "v1", "kind": "Nothing"},
        "mutations": [apply("Object{}")],
    });
    let path = format!("{GROUP}/mutatingadmissionpolicies");
    create(&server, &path, policy("MutatingAdmissionPolicy", "lost", &spec)).await;
    let bound = json!({"policyName": "lost", "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}});
    let path = format!("{GROUP}/mutatingadmissionpolicybindings");
    create(&server, &path, policy("MutatingAdmissionPolicyBinding", "lost-all", &bound)).await;
    let (code, answer, _) = try_create(&server, "a", json!({})).await;
    assert_eq!((code, answer["reason"].as_str()), (403, Some("Forbidden")));
    assert_eq!(
        answer["message"],
        "policy 'lost' with binding 'lost-all' denied request: failed to configure binding: paramKind kind \
         `&ParamKind{APIVersion:v1,Kind:Nothing,}` not known"
    );
}
