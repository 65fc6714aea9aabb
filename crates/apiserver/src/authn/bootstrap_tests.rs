use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::source::fake::Table;

const TOKEN: &str = "abcdef.0123456789abcdef";

/// Who holds the token, where its Secret has been changed so.
async fn holder(token: &str, change: impl FnOnce(&mut Value)) -> Option<Identity> {
    let mut secret = json!({"metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"}, "type": TYPE,
        "data": {"token-id": "abcdef", "token-secret": "0123456789abcdef", "usage-bootstrap-authentication": "true",
            "expiration": "1970-01-01T01:00:00Z", "auth-extra-groups": "system:bootstrappers:a,system:bootstrappers:b:c"}});
    change(&mut secret);
    for value in secret["data"].as_object_mut().unwrap().values_mut() {
        *value = STANDARD.encode(value.as_str().unwrap()).into();
    }
    let tokens = BootstrapTokens::new(Arc::new(Table::with(&[("", "secrets", secret)])));
    tokens.holder(token, UNIX_EPOCH + Duration::from_secs(3599)).await
}

#[tokio::test]
async fn a_token_gives_its_groups() {
    let user = holder(TOKEN, |_| ()).await.unwrap();
    assert_eq!(user.name(), "system:bootstrap:abcdef");
    assert_eq!(
        user.groups(),
        [
            "system:bootstrappers",
            "system:bootstrappers:a",
            "system:bootstrappers:b:c",
            "system:authenticated"
        ]
    );
}

#[tokio::test]
async fn a_token_is_good_only_as_its_secret_says() {
    for token in [
        "abcdef.0123456789abcdeg",
        "abcdef.0123456789abcde",
        "abcdeg.0123456789abcdef",
        "abcdef",
        "ABCDEF.0123456789abcdef",
    ] {
        assert_eq!(holder(token, |_| ()).await, None, "{token}");
    }
    for (key, value) in [
        ("usage-bootstrap-authentication", "false"),
        ("token-secret", ""),
        ("token-id", "abcdeg"),
        ("expiration", "1970-01-01T00:59:59Z"),
        ("expiration", "tomorrow"),
        ("auth-extra-groups", "system:masters"),
        ("auth-extra-groups", "system:bootstrappers:a,system:bootstrappers:"),
        ("auth-extra-groups", "system:bootstrappers:a-"),
    ] {
        assert_eq!(holder(TOKEN, |secret| secret["data"][key] = value.into()).await, None, "{key} {value}");
    }
    assert_eq!(holder(TOKEN, |secret| secret["type"] = "Opaque".into()).await, None);
    let going = |secret: &mut Value| secret["metadata"]["deletionTimestamp"] = "1970-01-01T00:00:00Z".into();
    assert_eq!(holder(TOKEN, going).await, None);
}
