//! What ingresses and slices of endpoints are refused for.

use serde_json::{Value, json};

use crate::kind::{Action, Kinds};
use crate::validate::tests::{created, updated};

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

fn status_of(kind: (&str, &str), new: &Value, old: &Value) -> Vec<String> {
    let kinds = Kinds::builtin();
    let row = kinds.kind(kind.0, "v1", kind.1).unwrap();
    let Action::Update(update) = &row.subresource("status").unwrap().action else { panic!("an update") };
    (update.validate)(new, old).iter().map(ToString::to_string).collect()
}

#[test]
fn what_balancers_say_of_their_addresses() {
    let service = |kind: &str, ingress: Value| json!({"spec": {"type": kind}, "status": {"loadBalancer": {"ingress": ingress}}});
    let told = |kind: &str, ingress: Value| status_of(("", "Service"), &service(kind, ingress), &Value::Null);
    assert_eq!(
        told("LoadBalancer", json!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "a.example"}])),
        [""; 0]
    );
    assert_eq!(
        told(
            "LoadBalancer",
            json!([{"ip": "1.2.3", "ipMode": "Odd"}, {"ip": "::1"}, {"hostname": "1.2.3.4", "ipMode": "VIP"}])
        ),
        [
            "status.loadBalancer.ingress[0].ip: Invalid value: \"1.2.3\": must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            "status.loadBalancer.ingress[0].ipMode: Unsupported value: \"Odd\": supported values: \"Proxy\", \"VIP\"",
            "status.loadBalancer.ingress[1].ipMode: Required value: must be specified when `ip` is set",
            "status.loadBalancer.ingress[2].hostname: Invalid value: \"1.2.3.4\": must be a DNS name, not an IP address",
            "status.loadBalancer.ingress[2].ipMode: Forbidden: may not be specified when `ip` is not set",
        ]
    );
    assert_eq!(
        told("ClusterIP", json!([{"ip": "1.2.3.4"}])),
        ["status.loadBalancer.ingress: Forbidden: may only be used when `spec.type` is 'LoadBalancer'"]
    );
    let ingress = json!({"status": {"loadBalancer": {"ingress": [{"ip": "x"}]}}});
    assert_eq!(status_of(("networking.k8s.io", "Ingress"), &ingress, &Value::Null).len(), 1);
}

#[test]
fn counts_of_what_runs_make_sense() {
    let told = |group: &str, kind: &str, new: Value, old: Value| {
        status_of((group, kind), &json!({"kind": kind, "status": new}), &json!({"status": old}))
    };
    assert_eq!(
        told(
            "apps",
            "StatefulSet",
            json!({"replicas": 2, "readyReplicas": 1, "availableReplicas": 2}),
            json!({})
        ),
        ["status.availableReplicas: Invalid value: 2: cannot be greater than status.readyReplicas"]
    );
    assert_eq!(
        told("apps", "Deployment", json!({"collisionCount": 1}), json!({"collisionCount": 2})),
        ["status.collisionCount: Invalid value: 1: cannot be decremented"]
    );
    assert_eq!(
        told("apps", "DaemonSet", json!({"numberReady": -1}), json!({"collisionCount": 1})),
        [
            "status.numberReady: Invalid value: -1: must be greater than or equal to 0",
            "status.collisionCount: Invalid value: 0: cannot be decremented",
        ]
    );
}

#[test]
fn names_may_begin_with_a_digit() {
    // KEP-5311
    let service = Kinds::builtin().kind("", "v1", "Service").cloned().unwrap();
    assert_eq!((service.hooks.validate_name)("1a", false), [""; 0]);
    assert_eq!((service.hooks.validate_name)("a.b", false), ["must not contain dots"]);
    let backend = |name: &str| {
        let service = json!({"name": name, "port": {"number": 80}});
        ingress(&json!({"defaultBackend": {"service": service}}))
    };
    assert_eq!(backend("1a"), [""; 0]);
    assert_eq!(
        backend("a.b"),
        ["spec.defaultBackend.service.name: Invalid value: \"a.b\": must not contain dots"]
    );
}

#[test]
fn a_second_family_comes_and_goes() {
    let service = |ips: Value, families: Value, policy: &str| {
        json!({"spec": {"type": "ClusterIP", "clusterIP": ips[0], "clusterIPs": ips, "ipFamilies": families,
            "ipFamilyPolicy": policy, "ports": [{"port": 80}]}})
    };
    let one = service(json!(["10.0.0.1"]), json!(["IPv4"]), "SingleStack");
    let two = service(json!(["10.0.0.1", "fd00::1"]), json!(["IPv4", "IPv6"]), "PreferDualStack");
    assert_eq!(updated("", "Service", &one, &two), [""; 0]);
    assert_eq!(updated("", "Service", &two, &one), [""; 0]);
    let released = service(json!(["10.0.0.1"]), json!(["IPv4"]), "PreferDualStack");
    assert_eq!(
        updated("", "Service", &two, &released),
        [
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary clusterIP",
            "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be set to 'SingleStack' when releasing the secondary ipFamily",
        ]
    );
    let other = service(json!(["10.0.0.1", "fd00::2"]), json!(["IPv4", "IPv6"]), "PreferDualStack");
    assert_eq!(
        updated("", "Service", &two, &other),
        ["spec.clusterIPs[1]: Invalid value: [\"10.0.0.1\",\"fd00::2\"]: may not change once set"]
    );
    let balanced = |class: &str| json!({"spec": {"type": "LoadBalancer", "loadBalancerClass": class, "ports": [{"port": 80}], "trafficDistribution": "PreferSameNode"}});
    assert_eq!(
        updated("", "Service", &balanced("x.io/a"), &balanced("x.io/b")),
        ["spec.loadBalancerClass: Invalid value: \"x.io/b\": may not change once set"]
    );
    let annotated = json!({"metadata": {"annotations": {"service.beta.kubernetes.io/load-balancer-source-ranges": "10.0.0.0/8, x"}},
        "spec": {"type": "LoadBalancer", "ports": [{"port": 10250}]}});
    assert_eq!(
        created("", "Service", &annotated),
        [
            "metadata.annotations[service.beta.kubernetes.io/load-balancer-source-ranges]: Invalid value: \"x\": must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"
        ]
    );
}
