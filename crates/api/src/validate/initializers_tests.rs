use serde_json::{Value, json};

use super::*;

fn errors(name: &str, rule: Value) -> Vec<String> {
    let object = json!({"initializers": [{"name": name, "rules": [rule]}]});
    configuration(&object).iter().map(ToString::to_string).collect()
}

#[test]
fn a_configuration_names_domains_and_resources() {
    let good = json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let name = "envoy.initializer.kubernetes.io";
    assert_eq!(errors(name, good.clone()), Vec::<String>::new());
    assert_eq!(
        errors(name, json!({"apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*/*"]})),
        [""; 0]
    );
    let short = errors("envoy.io", good);
    assert_eq!(
        short,
        [
            "initializers[0].name: Invalid value: \"envoy.io\": should be a domain with at least three segments \
          separated by dots"
        ]
    );
    for (rule, field) in [
        (json!({"apiVersions": ["v1"], "resources": ["pods"]}), "apiGroups"),
        (json!({"apiGroups": ["", "*"], "apiVersions": ["v1"], "resources": ["pods"]}), "apiGroups"),
        (json!({"apiGroups": [""], "apiVersions": [], "resources": ["pods"]}), "apiVersions"),
        (json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods/status"]}), "resources[0]"),
        (json!({"apiGroups": [""], "apiVersions": ["v1"], "resources": ["*", "pods"]}), "resources"),
    ] {
        let found = errors(name, rule);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with(&format!("initializers[0].rules[0].{field}: ")), "{found:?}");
    }
}
