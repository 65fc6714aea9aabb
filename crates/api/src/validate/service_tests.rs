//! What ingresses and slices of endpoints are refused for.

use serde_json::{Value, json};

use crate::validate::tests::created;

fn ingress(spec: &Value) -> Vec<String> {
    created("networking.k8s.io", "Ingress", &json!({"spec": spec}))
}

fn path(path: &Value) -> Vec<String> {
    let told = ingress(&json!({"rules": [{"http": {"paths": [path]}}]}));
    told.iter().map(|told| told.strip_prefix("spec.rules[0].http.paths[0].").unwrap().to_owned()).collect()
}

#[test]
fn hosts_are_names() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let told = ingress(&json!({
        "defaultBackend": backend,
        "rules": [{"host": "1.2.3.4"}, {"host": "*.*.x"}, {"host": "*.x.y"}, {"host": "a_b"}],
        "tls": [{"hosts": ["-", "*.x"], "secretName": "A"}],
    }));
    let wild = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character \
                (e.g. '*.example.com', regex used for validation is \
                '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
    let begins = [
        "spec.rules[0].host: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address".to_owned(),
        format!("spec.rules[1].host: Invalid value: \"*.*.x\": {wild}"),
        "spec.rules[3].host: Invalid value: \"a_b\": a lowercase RFC 1123 subdomain".to_owned(),
        "spec.tls[0].hosts[0]: Invalid value: \"-\": a lowercase RFC 1123 subdomain".to_owned(),
        "spec.tls[0].secretName: Invalid value: \"A\": a lowercase RFC 1123 subdomain".to_owned(),
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(&begins) {
        assert!(told.starts_with(begin), "{told}");
    }
}

#[test]
fn paths_stay_below_their_root() {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let told = |kind: &str, text: &str| path(&json!({"pathType": kind, "path": text, "backend": backend}));
    let absolute = |text: &str| vec![format!("path: Invalid value: {text:?}: must be an absolute path")];
    assert_eq!(told("Exact", "x"), absolute("x"));
    assert_eq!(told("Prefix", ""), absolute(""));
    assert_eq!(told("ImplementationSpecific", "x"), absolute("x"));
    assert_eq!(told("ImplementationSpecific", ""), [""; 0]);
    assert_eq!(told("ImplementationSpecific", "/a//b"), [""; 0]);
    assert_eq!(told("Prefix", "/a//b"), ["path: Invalid value: \"/a//b\": must not contain '//'"]);
    assert_eq!(told("Prefix", "/%2f"), ["path: Invalid value: \"/%2f\": must not contain '%2f'"]);
    assert_eq!(told("Exact", "/a/.."), ["path: Invalid value: \"/a/..\": cannot end with '/..'"]);
}

#[test]
fn a_backend_is_one_thing_at_one_port() {
    let told = |backend: Value| path(&json!({"pathType": "Prefix", "path": "/", "backend": backend}));
    let resource = json!({"kind": "K", "name": "n"});
    assert_eq!(told(json!({})), ["backend: Invalid value: \"\": resource or service backend is required"]);
    assert_eq!(told(json!({"resource": resource})), [""; 0]);
    assert_eq!(
        told(json!({"resource": {"kind": "", "name": "a/b"}})),
        [
            "backend.resource.kind: Required value: kind is required",
            "backend.resource.name: Invalid value: \"a/b\": may not contain '/'",
        ]
    );
    assert_eq!(
        told(json!({"resource": resource, "service": {"name": "s", "port": {"number": 1}}})),
        ["backend: Invalid value: \"\": cannot set both resource and service backends"]
    );
    assert_eq!(
        told(json!({"service": {"name": "s", "port": {"name": "p", "number": 1}}})),
        ["backend: Invalid value: \"\": cannot set both port name & port number"]
    );
    assert_eq!(
        told(json!({"service": {"name": "s"}})),
        ["backend: Required value: port name or number is required"]
    );
}

#[test]
fn both_ways_to_name_a_class_agree() {
    let rules = json!([{"host": "x.y"}]);
    let object = |class: &str| {
        json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "a"}},
               "spec": {"ingressClassName": class, "rules": rules}})
    };
    assert_eq!(created("networking.k8s.io", "Ingress", &object("a")), [""; 0]);
    assert_eq!(
        created("networking.k8s.io", "Ingress", &object("b")),
        [
            "annotations.kubernetes.io/ingress.class: Invalid value: \"a\": must match `ingressClassName` when both \
          are specified"
        ]
    );
}

#[test]
fn slices_of_endpoints_have_good_labels_and_hints() {
    let zones: Vec<Value> = (0..9).map(|n| json!({"name": format!("z{n}")})).collect();
    let told = created(
        "discovery.k8s.io",
        "EndpointSlice",
        &json!({
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "hints": {"forZones": [{"name": "a"}, {"name": "a"}, {"name": "b c"}]}},
                {"addresses": ["10.0.0.1"], "hints": {"forZones": zones}},
            ],
            "ports": [{"name": "p", "protocol": "TCP", "appProtocol": "a b"}],
        }),
    );
    let begins = [
        "endpoints[0].hints.forZones[1].name: Duplicate value: \"a\"",
        "endpoints[0].hints.forZones[2].name: Invalid value: \"b c\": a valid label must be",
        "endpoints[1].hints.forZones: Too many: 9: must have at most 8 items",
        "ports[0].appProtocol: Invalid value: \"a b\": name part must consist of",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    for (told, begin) in told.iter().zip(begins) {
        assert!(told.starts_with(begin), "{told}");
    }
}
