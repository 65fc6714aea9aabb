use std::io::Write;

use super::*;
use crate::outgoing::Place;

/// A configuration with these authorizers, in YAML's flow style.
fn parsed(authorizers: &str) -> Result<Config, ConfigError> {
    let text = format!(
        "{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthorizationConfiguration, authorizers: {authorizers}}}"
    );
    let policies = super::abac::parse("{\"user\": \"a\"}").unwrap();
    parse(text.as_bytes(), Some(&policies))
}

/// A kubeconfig that leads nowhere, and the fields of a webhook that names it.
fn webhook(rest: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"clusters: [{name: a, cluster: {server: 'https://h/p'}}]").unwrap();
    let text = format!(
        "timeout: 3s, subjectAccessReviewVersion: v1, failurePolicy: Deny, \
         connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {:?}}}{rest}",
        file.path()
    );
    (file, text)
}

#[test]
fn authorizers_come_in_any_order() {
    let (_file, webhook) = webhook(
        ", authorizedTTL: 1m0s, cacheUnauthorizedRequests: false, \
         matchConditionSubjectAccessReviewVersion: v1, \
         matchConditions: [{expression: \"request.user != 'a' && has(request.resourceAttributes)\"}]",
    );
    let config = parsed(&format!(
        "[{{type: RBAC, name: r}}, {{type: Webhook, name: w1, webhook: {{{webhook}}}}}, {{type: Node, name: own}}, \
         {{type: ABAC, name: b}}, {{type: Webhook, name: w2, webhook: {{{webhook}}}}}, {{type: AlwaysDeny, name: d}}, \
         {{type: AlwaysAllow, name: a}}]"
    ));
    let Config(modes) = config.unwrap();
    let kinds: Vec<_> = modes.iter().map(|(name, mode)| (name.as_str(), mode.kind())).collect();
    assert_eq!(
        kinds,
        [
            ("r", "RBAC"),
            ("w1", "Webhook"),
            ("own", "Node"),
            ("b", "ABAC"),
            ("w2", "Webhook"),
            ("d", "AlwaysDeny"),
            ("a", "AlwaysAllow")
        ]
    );
    let Mode::Webhook(webhook) = &modes[1].1 else { panic!("{modes:?}") };
    assert_eq!(webhook.endpoint.place, Place::Url("https://h/p".to_owned()));
    assert_eq!((webhook.timeout, webhook.version), (Duration::from_secs(3), ReviewVersion::V1));
    assert_eq!((webhook.remember_allowed, webhook.remember_others), (Some(Duration::from_secs(60)), None));
    assert!(webhook.denies_on_failure && !webhook.conditions.is_empty());
}

#[test]
fn what_is_wrong_is_told_by_its_field() {
    let (_file, good) = webhook("");
    let with = |text: &str| format!("[{{type: Webhook, name: w, webhook: {{{text}}}}}]");
    let replaced = |from: &str, to: &str| with(&good.replace(from, to));
    for (authorizers, wanted) in [
        ("[]".to_owned(), "authorizers: Required value: at least one authorization mode must be defined"),
        ("[{name: a}]".to_owned(), "authorizers[0].type: Required value"),
        (
            "[{type: Other, name: a}]".to_owned(),
            "authorizers[0].type: Unsupported value: \"Other\": supported values: \"ABAC\", \"AlwaysAllow\", \
             \"AlwaysDeny\", \"Node\", \"RBAC\", \"Webhook\"",
        ),
        (
            "[{type: Node, name: a}, {type: Node, name: b}]".to_owned(),
            "authorizers[1].type: Duplicate value: \"Node\"",
        ),
        (
            "[{type: Node, name: a}, {type: RBAC, name: a}]".to_owned(),
            "authorizers[1].name: Duplicate value: \"a\"",
        ),
        ("[{type: Node}]".to_owned(), "authorizers[0].name: Required value"),
        (
            "[{type: Webhook, name: w}]".to_owned(),
            "authorizers[0].webhook: Required value: required when type=Webhook",
        ),
        (
            format!("[{{type: RBAC, name: w, webhook: {{{good}}}}}]"),
            "authorizers[0].webhook: Invalid value: \"non-null\": may only be specified when type=Webhook",
        ),
        (replaced("timeout: 3s, ", ""), "authorizers[0].webhook.timeout: Required value"),
        (
            replaced("3s", "31s"),
            "authorizers[0].webhook.timeout: Invalid value: \"31s\": must be > 0s and <= 30s",
        ),
        (
            replaced("3s", "-3s"),
            "authorizers[0].webhook.timeout: Invalid value: \"-3s\": must be a duration > 0s",
        ),
        (
            replaced("Version: v1", "Version: v2"),
            "authorizers[0].webhook.subjectAccessReviewVersion: Unsupported value",
        ),
        (
            replaced("failurePolicy: Deny", "failurePolicy: Fail"),
            "authorizers[0].webhook.failurePolicy: Unsupported value",
        ),
        (
            replaced("KubeConfigFile,", "InClusterConfig,"),
            "authorizers[0].webhook.connectionInfo.type: Invalid value",
        ),
        (
            with(&format!("{good}, matchConditions: [{{expression: 'true'}}]")),
            "matchConditionSubjectAccessReviewVersion: Required value: required if match conditions are specified",
        ),
        (
            with(&format!(
                "{good}, matchConditionSubjectAccessReviewVersion: v1, \
                 matchConditions: [{{expression: 'true'}}, {{expression: 'request.nothing'}}]"
            )),
            "authorizers[0].webhook.matchConditions[1].expression: Invalid value: \"request.nothing\": compilation \
             failed: ERROR: <input>:1:8: undefined field 'nothing'",
        ),
        (
            with(&format!(
                "{good}, matchConditionSubjectAccessReviewVersion: v1, matchConditions: [{{expression: 'request.user'}}]"
            )),
            "must evaluate to bool but got string",
        ),
        ("[{type: Node, name: a, odd: 1}]".to_owned(), "unknown field `odd`"),
    ] {
        let error = parsed(&authorizers).unwrap_err().to_string();
        assert!(error.contains(wanted), "{authorizers}: {error}");
    }
    let nowhere = replaced("kubeConfigFile: \"/", "kubeConfigFile: \"/nowhere/");
    assert!(parsed(&nowhere).unwrap_err().to_string().contains("connectionInfo.kubeConfigFile"));
    for text in ["", "[", "{apiVersion: v1, kind: AuthorizationConfiguration}"] {
        assert!(parse(text.as_bytes(), None).is_err(), "{text}");
    }
}
