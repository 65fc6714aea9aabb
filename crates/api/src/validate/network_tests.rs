use serde_json::{Value, json};

use super::*;
use crate::validate::tests::{check, created, updated, with};

const GROUP: &str = "networking.k8s.io";

#[test]
fn good_ones_pass() {
    for (group, kind, object) in [
        (
            GROUP,
            "NetworkPolicy",
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 1000, "endPort": 2000}, {"port": "http"}],
                "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}},
                    {"podSelector": {}, "namespaceSelector": {}}]}]}}),
        ),
        (
            GROUP,
            "IngressClass",
            json!({"spec": {"controller": "example.com/lb/1", "parameters": {"kind": "K", "name": "n"}}}),
        ),
        (
            GROUP,
            "IPAddress",
            json!({"metadata": {"name": "10.0.0.1"},
                "spec": {"parentRef": {"resource": "services", "namespace": "n", "name": "s"}}}),
        ),
        (GROUP, "ServiceCIDR", json!({"spec": {"cidrs": ["10.0.0.0/16", "fd00::/112"]}})),
        ("node.k8s.io", "RuntimeClass", json!({"handler": "kata", "overhead": {"podFixed": {"cpu": "10m"}}})),
    ] {
        assert_eq!(created(group, kind, &object), [""; 0], "{kind} {object}");
    }
    assert_eq!(address_name("10.0.0.1", false), [""; 0]);
    assert_eq!(address_name("2001:DB8::1", false), ["must be in canonical form (\"2001:db8::1\")"]);
    assert!(address_name("10.0.0.01", false)[0].starts_with("must be a valid IP address"));
}

#[test]
fn network_kinds_are_refused_with_reasons() {
    let policy = |spec: Value| (GROUP, "NetworkPolicy", json!({"spec": spec}));
    let (group, kind, ports) = policy(json!({"podSelector": {}, "ingress": [{"ports": [
        {"protocol": "ICMP"}, {"endPort": 3}, {"port": "web", "endPort": 3}, {"port": 9, "endPort": 3}]}]}));
    check(&[(
        group,
        kind,
        ports,
        &[
            "spec.ingress[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
            "spec.ingress[0].ports[1].endPort: Invalid value: 3: may not be specified when `port` is not specified",
            "spec.ingress[0].ports[2].endPort: Invalid value: 3: may not be specified when `port` is non-numeric",
            "spec.ingress[0].ports[3].endPort: Invalid value: 9: must be greater than or equal to `port`",
        ],
    )]);
    let (group, kind, peers) =
        policy(json!({"podSelector": {}, "policyTypes": ["Egress", "Sideways"], "egress": [{"to": [
        {}, {"podSelector": {}, "ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "10/8"}},
        {"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.0.0.0/8", "11.0.0.0/16", "10.9.0.0/16"]}}]}]}));
    check(&[
        (
            group,
            kind,
            peers,
            &[
                "spec.egress[0].to[0]: Required value: must specify a peer",
                "spec.egress[0].to[1]: Forbidden: may not specify both ipBlock and another peer",
                "spec.egress[0].to[2].ipBlock.cidr: Invalid value: \"10/8\": must be a valid CIDR value",
                "spec.egress[0].to[3].ipBlock.except[0]: Invalid value: \"10.0.0.0/8\": must be a strict subset of `cidr`",
                "spec.egress[0].to[3].ipBlock.except[1]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.policyTypes[1]: Unsupported value: \"Sideways\": supported values: \"Ingress\", \"Egress\"",
            ],
        ),
        (
            GROUP,
            "IngressClass",
            json!({"spec": {"controller": "lb", "parameters": {"kind": "", "name": "a/b", "scope": "Namespace"}}}),
            &[
                "spec.controller: Invalid value: \"lb\": must be a domain-prefixed path (such as \"acme.io/foo\")",
                "spec.parameters.kind: Required value: kind is required",
                "spec.parameters.name: Invalid value: \"a/b\": may not contain '/'",
                "spec.parameters.namespace: Required value: `parameters.scope` is set to 'Namespace'",
            ],
        ),
        (GROUP, "IPAddress", json!({"spec": {}}), &["spec.parentRef: Required value"]),
        (
            GROUP,
            "IPAddress",
            json!({"spec": {"parentRef": {"resource": "", "name": "a/b"}}}),
            &[
                "spec.parentRef.resource: Required value",
                "spec.parentRef.name: Invalid value: \"a/b\": may not contain '/'",
            ],
        ),
        (
            GROUP,
            "ServiceCIDR",
            json!({"spec": {}}),
            &["spec.cidrs: Required value: at least one CIDR required"],
        ),
        (
            GROUP,
            "ServiceCIDR",
            json!({"spec": {"cidrs": ["10.0.0.0/16", "10.1.0.0/99"]}}),
            &[
                "spec.cidrs: Invalid value: {\"cidrs\":[\"10.0.0.0/16\",\"10.1.0.0/99\"]}: may specify no more than one IP for each IP family",
                "spec.cidrs[1]: Invalid value: \"10.1.0.0/99\": must be a valid CIDR value",
            ],
        ),
        (
            "node.k8s.io",
            "RuntimeClass",
            json!({"handler": "Kata.x", "scheduling": {"tolerations": [{"key": "a", "operator": "Maybe"}]}}),
            &[
                "handler: Invalid value: \"Kata.x\": a lowercase RFC 1123 label must consist of",
                "scheduling.tolerations[0].operator: Unsupported value: \"Maybe\": supported values: \"Equal\", \"Exists\"",
            ],
        ),
    ]);
}

#[test]
fn what_others_rely_on_stays() {
    let class = |name: &str| json!({"spec": {"controller": name}});
    assert_eq!(
        updated(GROUP, "IngressClass", &class("a.b/c"), &class("a.b/d")),
        ["spec.controller: Invalid value: \"a.b/d\": field is immutable"]
    );
    let ranges = |cidrs: &[&str]| json!({"spec": {"cidrs": cidrs}});
    let one = ranges(&["10.0.0.0/16"]);
    assert_eq!(updated(GROUP, "ServiceCIDR", &one, &ranges(&["10.0.0.0/16", "fd00::/112"])), [""; 0]);
    assert_eq!(
        updated(GROUP, "ServiceCIDR", &one, &ranges(&["10.1.0.0/16"])),
        ["spec.cidrs[0]: Invalid value: \"10.1.0.0/16\": field is immutable"]
    );
    let parent = json!({"spec": {"parentRef": {"resource": "services", "name": "a"}}});
    let other = with(&parent, &json!({"spec": {"parentRef": {"name": "b"}}}));
    assert!(updated(GROUP, "IPAddress", &parent, &other)[0].ends_with("field is immutable"));
    let class = |handler: &str| json!({"handler": handler});
    assert_eq!(
        updated("node.k8s.io", "RuntimeClass", &class("a"), &class("b")),
        ["handler: Invalid value: \"b\": field is immutable"]
    );
}
