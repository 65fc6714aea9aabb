use serde_json::json;

use super::*;

fn file(plugins: Value) -> Vec<u8> {
    let file = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins});
    file.to_string().into_bytes()
}

fn quota(fields: Value) -> Value {
    let mut quota = json!({"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"});
    quota.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    quota
}

fn missing(_: &FilePath) -> io::Result<Vec<u8>> {
    Err(io::ErrorKind::NotFound.into())
}

#[test]
fn plug_ins_are_configured_in_place_or_in_a_file_of_their_own() {
    let limits =
        quota(json!({"limitedResources": [{"resource": "pods", "matchContains": ["gpu"], "matchScopes": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]}]}));
    let security = "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\n\
                    defaults: {enforce: baseline}\n";
    let plugins = json!([{"name": "ResourceQuota", "configuration": limits},
                         {"name": "PodSecurity", "path": "security.yaml"}]);
    let read = |path: &FilePath| match path.to_str() {
        Some("security.yaml") => Ok(security.as_bytes().to_vec()),
        _ => missing(path),
    };
    let config = parse(&file(plugins), read).unwrap();
    assert_eq!(*config.pod_security, pod_security::Config::parse(security.as_bytes()).unwrap());
    assert_ne!(*config.pod_security, pod_security::Config::default());
    let scopes = [json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high"]})];
    let wanted = Limited::new(String::new(), "pods".to_owned(), vec!["gpu".to_owned()], &scopes);
    assert_eq!(*config.limited, [wanted]);
    let nothing = parse(&file(json!([{"name": "PodSecurity"}])), missing).unwrap();
    assert_eq!((&*nothing.pod_security, nothing.limited.len()), (&pod_security::Config::default(), 0));
}

#[test]
fn what_is_wrong_is_named() {
    let in_quota = |fields| json!([{"name": "ResourceQuota", "configuration": quota(fields)}]);
    let cases = [
        (
            json!([{"name": "EventRateLimit"}]),
            "plugins[0].name: Unsupported value: \"EventRateLimit\": supported values: \"PodSecurity\", \"ResourceQuota\"",
        ),
        (
            json!([{"name": "PodSecurity", "configuration": {}}]),
            "the plug-in PodSecurity: it is no PodSecurityConfiguration",
        ),
        (
            json!([{"name": "PodSecurity", "path": "nowhere"}]),
            "reading \"nowhere\" for the plug-in PodSecurity",
        ),
        (
            json!([{"name": "ResourceQuota", "configuration": quota(json!({}))},
                {"name": "ResourceQuota", "configuration": quota(json!({}))}]),
            "plugins[1].name: Duplicate value",
        ),
        (
            in_quota(json!({"limitedResources": [{}]})),
            "the plug-in ResourceQuota: limitedResources[0].resource: Required value",
        ),
        (
            in_quota(
                json!({"limitedResources": [{"resource": "pods", "matchScopes": [{"operator": "Is"}]}]}),
            ),
            "the plug-in ResourceQuota: limitedResources[0].matchScopes[0].operator: Unsupported value: \"Is\"",
        ),
        (in_quota(json!({"limits": []})), "the plug-in ResourceQuota: it is no ResourceQuotaConfiguration"),
        (json!([{"names": "PodSecurity"}]), "it is no AdmissionConfiguration of apiserver.config.k8s.io"),
    ];
    for (plugins, why) in cases {
        let error = parse(&file(plugins.clone()), missing).unwrap_err().to_string();
        assert!(error.starts_with(why), "{plugins}: {error}");
    }
}
