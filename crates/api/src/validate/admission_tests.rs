use serde_json::{Value, json};

use crate::validate::tests::{check, created, updated, with};

const GROUP: &str = "admissionregistration.k8s.io";

fn hook(change: &Value) -> Value {
    let good = json!({"name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": "https://hook.example.com/x"},
        "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]});
    json!({"webhooks": [with(&good, change)]})
}

fn policy(change: &Value) -> Value {
    let good = json!({"spec": {
        "matchConstraints": {"resourceRules": [
            {"operations": ["*"], "apiGroups": ["apps"], "apiVersions": ["*"], "resources": ["*/*"]}]},
        "validations": [{"expression": "true"}],
    }});
    with(&good, &json!({"spec": change}))
}

#[test]
fn good_ones_pass() {
    for kind in ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"] {
        let service = json!({"clientConfig": {"url": null, "service":
            {"name": "s", "namespace": "n", "path": "/a/b/"}},
            "matchConditions": [{"name": "a.b/c", "expression": "true"}]});
        for object in [hook(&json!({})), hook(&service), json!({})] {
            assert_eq!(created(GROUP, kind, &object), [""; 0], "{kind} {object}");
        }
    }
    let validating = policy(&json!({"paramKind": {"apiVersion": "rules.example.com/v1", "kind": "Limit"},
        "variables": [{"name": "_x1", "expression": "1"}],
        "auditAnnotations": [{"key": "k", "valueExpression": "'v'"}]}));
    assert_eq!(created(GROUP, "ValidatingAdmissionPolicy", &validating), [""; 0]);
    let mutating = policy(&json!({"validations": null, "reinvocationPolicy": "Never", "mutations": [
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}}]}));
    assert_eq!(created(GROUP, "MutatingAdmissionPolicy", &mutating), [""; 0]);
    let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Audit"],
        "paramRef": {"name": "x", "parameterNotFoundAction": "Deny"}}});
    assert_eq!(created(GROUP, "ValidatingAdmissionPolicyBinding", &binding), [""; 0]);
    let binding = json!({"spec": {"policyName": "p", "matchResources": {}}});
    assert_eq!(created(GROUP, "MutatingAdmissionPolicyBinding", &binding), [""; 0]);
}

#[test]
fn webhooks_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (
            json!({"name": "example.com"}),
            &[
                "webhooks[0].name: Invalid value: \"example.com\": should be a domain with at least three segments separated by dots",
            ],
        ),
        (
            json!({"sideEffects": null}),
            &["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"],
        ),
        (
            json!({"sideEffects": "Some"}),
            &[
                "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
            ],
        ),
        (
            json!({"admissionReviewVersions": ["v2", "v2"]}),
            &[
                "webhooks[0].admissionReviewVersions[1]: Invalid value: \"v2\": duplicate version",
                "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\",\"v2\"]: must include at least one of v1, v1beta1",
            ],
        ),
        (
            json!({"admissionReviewVersions": []}),
            &["webhooks[0].admissionReviewVersions: Required value: must specify one of v1, v1beta1"],
        ),
        (
            json!({"timeoutSeconds": 31}),
            &[
                "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
            ],
        ),
        (
            json!({"failurePolicy": "No"}),
            &["webhooks[0].failurePolicy: Unsupported value: \"No\": supported values: \"Fail\", \"Ignore\""],
        ),
        (
            json!({"clientConfig": {"url": null}}),
            &["webhooks[0].clientConfig: Required value: exactly one of url or service is required"],
        ),
        (
            json!({"clientConfig": {"url": "http://u@h/?q#f"}}),
            &[
                "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
                "webhooks[0].clientConfig.url: Invalid value: \"u\": user information is not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"f\": fragments are not permitted in the URL",
                "webhooks[0].clientConfig.url: Invalid value: \"q\": query parameters are not permitted in the URL",
            ],
        ),
        (
            json!({"clientConfig": {"url": null, "service": {"port": 70000, "path": "/a//b"}}}),
            &[
                "webhooks[0].clientConfig.service.name: Required value",
                "webhooks[0].clientConfig.service.namespace: Required value",
                "webhooks[0].clientConfig.service.port: Invalid value: 70000: port is not valid: must be between 1 and 65535, inclusive",
                "webhooks[0].clientConfig.service.path: Invalid value: \"/a//b\": segment[1] may not be empty",
            ],
        ),
        (
            json!({"rules": [{"operations": ["*", "CREATE"], "apiGroups": ["*", "a"], "apiVersions": [""],
                "resources": ["pods/*", "pods/log", "*", "nodes"]}]}),
            &[
                "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
                "webhooks[0].rules[0].apiGroups: Invalid value: [\"*\",\"a\"]: if '*' is present, must not specify other API groups",
                "webhooks[0].rules[0].apiVersions[0]: Required value",
                "webhooks[0].rules[0].resources[1]: Invalid value: \"pods/log\": if 'pods/*' is present, must not specify pods/log",
                "webhooks[0].rules[0].resources: Invalid value: [\"pods/*\",\"pods/log\",\"*\",\"nodes\"]: if '*' is present, must not specify other resources without subresources",
            ],
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": " "}, {"name": "a", "expression": "true"}]}),
            &[
                "webhooks[0].matchConditions[0].expression: Required value",
                "webhooks[0].matchConditions[1].name: Duplicate value: \"a\"",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(GROUP, "ValidatingWebhookConfiguration", hook(&change), wanted)]);
    }
    check(&[(
        GROUP,
        "MutatingWebhookConfiguration",
        hook(&json!({"reinvocationPolicy": "Often"})),
        &[
            "webhooks[0].reinvocationPolicy: Unsupported value: \"Often\": supported values: \"IfNeeded\", \"Never\"",
        ],
    )]);
}

#[test]
fn what_an_older_webhook_got_away_with_stays_allowed() {
    let old = hook(&json!({"sideEffects": "Some", "admissionReviewVersions": ["v2"]}));
    let changed = with(&old, &json!({"metadata": {"labels": {"a": "b"}}}));
    assert_eq!(updated(GROUP, "ValidatingWebhookConfiguration", &old, &changed), [""; 0]);
    assert_eq!(updated(GROUP, "ValidatingWebhookConfiguration", &hook(&json!({})), &changed).len(), 2);
}

#[test]
fn policies_are_refused_with_reasons() {
    let cases: Vec<(Value, &[&str])> = vec![
        (json!({"matchConstraints": null}), &["spec.matchConstraints: Required value"]),
        (
            json!({"matchConstraints": {"resourceRules": []}}),
            &["spec.matchConstraints.resourceRules: Required value"],
        ),
        (
            json!({"validations": []}),
            &[
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            json!({"validations": [{"expression": "", "message": "a\nb", "messageExpression": " ", "reason": "Gone"}]}),
            &[
                "spec.validations[0].expression: Required value: expression is not specified",
                "spec.validations[0].messageExpression: Invalid value: \" \": must be non-empty if specified",
                "spec.validations[0].message: Invalid value: \"a\\nb\": message must not contain line breaks",
                "spec.validations[0].reason: Unsupported value: \"Gone\"",
            ],
        ),
        (
            json!({"paramKind": {"apiVersion": "a/b/c", "kind": "No.Kind"}}),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.paramKind.kind: Invalid value: \"No.Kind\": may have mixed case, but should otherwise match: a DNS-1035 label",
            ],
        ),
        (
            json!({"variables": [{"name": "in", "expression": "1"}, {"name": "1a"}]}),
            &[
                "spec.variables[0].name: Invalid value: \"in\": name is not a valid CEL identifier",
                "spec.variables[1].name: Invalid value: \"1a\": name is not a valid CEL identifier",
                "spec.variables[1].expression: Required value: expression is not specified",
            ],
        ),
        (
            json!({"auditAnnotations": [{"key": "a", "valueExpression": "x"}, {"key": "a", "valueExpression": "y"}, {"key": "b/c"}]}),
            &[
                "spec.auditAnnotations[1].key: Duplicate value: \"a\"",
                "spec.auditAnnotations[2].key: Invalid value: \"it/b/c\": a valid label key must consist of",
                "spec.auditAnnotations[2].valueExpression: Required value: valueExpression is not specified",
            ],
        ),
    ];
    for (change, wanted) in cases {
        check(&[(GROUP, "ValidatingAdmissionPolicy", policy(&change), wanted)]);
    }
    check(&[
        (
            GROUP,
            "MutatingAdmissionPolicy",
            policy(
                &json!({"validations": null, "reinvocationPolicy": "Never", "mutations": [{}, {"patchType": "Merge"},
                {"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}]}),
            ),
            &[
                "spec.mutations[0].patchType: Required value",
                "spec.mutations[1].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \"JSONPatch\"",
                "spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "spec.mutations[2].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when patchType is JSONPatch",
            ],
        ),
        (
            GROUP,
            "ValidatingAdmissionPolicyBinding",
            json!({"spec": {"policyName": "", "validationActions": ["Deny", "Warn", "Warn", "Cry"],
                "paramRef": {"name": "a", "selector": {}}}}),
            &[
                "spec.policyName: Required value",
                "spec.paramRef.name: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.selector: Forbidden: name and selector are mutually exclusive",
                "spec.paramRef.parameterNotFoundAction: Required value",
                "spec.validationActions[2]: Duplicate value: \"Warn\"",
                "spec.validationActions[3]: Unsupported value: \"Cry\": supported values: \"Audit\", \"Deny\", \"Warn\"",
                "spec.validationActions: Invalid value: [\"Deny\",\"Warn\",\"Warn\",\"Cry\"]: must not contain both Deny and Warn",
            ],
        ),
    ]);
}
