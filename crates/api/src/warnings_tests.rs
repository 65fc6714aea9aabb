use serde_json::{Value, json};

use super::*;

fn told(group: &str, kind: &str, object: &Value) -> Vec<String> {
    of(group, kind).expect("the kind has warnings")(object, &Value::Null)
}

fn pod(spec: Value) -> Vec<String> {
    told("", "Pod", &json!({"metadata": {"name": "a"}, "spec": spec}))
}

#[test]
fn ordinary_objects_are_nothing_to_talk_about() {
    let container = json!({"name": "a", "image": "b", "env": [{"name": "A", "value": "1"}, {"name": "A", "value": "$(A)2"}],
        "ports": [{"containerPort": 80, "protocol": "TCP", "name": "web"}, {"containerPort": 80, "protocol": "UDP"}],
        "resources": {"limits": {"memory": "1Gi", "cpu": "100m"}}});
    let spec = json!({"containers": [container], "nodeSelector": {"kubernetes.io/os": "linux"},
        "volumes": [{"name": "v", "configMap": {"name": "m", "items": [{"key": "a", "path": "a/b"}, {"key": "b", "path": "a/bc"}]}}]});
    assert_eq!(pod(spec.clone()), [""; 0]);
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"template": {"spec": spec}}});
    assert_eq!(told("apps", "Deployment", &deployment), [""; 0]);
    let service =
        json!({"spec": {"type": "ClusterIP", "clusterIPs": ["10.0.0.1"], "sessionAffinity": "None"}});
    assert_eq!(told("", "Service", &service), [""; 0]);
}

#[test]
fn pods_are_warned_of_what_goes_away_or_hides() {
    let cases = [
        (
            json!({"nodeSelector": {"beta.kubernetes.io/os": "linux"}}),
            r#"spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "kubernetes.io/os" instead"#,
        ),
        (
            json!({"topologySpreadConstraints": [{"topologyKey": "x"}]}),
            "spec.topologySpreadConstraints[0].labelSelector: a null labelSelector results in matching no pod",
        ),
        (
            json!({"volumes": [{"name": "v", "rbd": {}}]}),
            "spec.volumes[0].rbd: deprecated in v1.28, non-functional in v1.31+",
        ),
        (
            json!({"volumes": [{"name": "v", "storageos": {}}]}),
            "spec.volumes[0].storageOS: deprecated in v1.22, non-functional in v1.25+",
        ),
        (
            json!({"volumes": [{"name": "v", "secret": {"secretName": "s", "items": [{"path": "a"}, {"path": "a/b/"}]}}]}),
            r#"volume "v" (Secret "s"): overlapping paths: "a/b" with "a""#,
        ),
        (
            json!({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "m", "items": [{"path": "t"}]}},
                {"serviceAccountToken": {"path": "t"}}]}}]}),
            r#"volume "v" (Projected): overlapping paths: "t" (ServiceAccountToken) with "t" (ConfigMap "m")"#,
        ),
        (
            json!({"hostAliases": [{"ip": "1.2.3.4"}, {"ip": "1.2.3.4"}]}),
            r#"spec.hostAliases[1].ip: duplicate ip "1.2.3.4""#,
        ),
        (json!({"imagePullSecrets": [{}]}), r#"spec.imagePullSecrets[0].name: invalid empty name """#),
        (
            json!({"containers": [{"resources": {"requests": {"memory": "100m"}}}]}),
            r#"spec.containers[0].resources.requests[memory]: fractional byte value "100m" is invalid, must be an integer"#,
        ),
        (
            json!({"initContainers": [{"env": [{"name": "A"}, {"name": "A", "value": "x"}]}]}),
            r#"spec.initContainers[0].env[1]: hides previous definition of "A", which may be dropped when using apply"#,
        ),
        (
            json!({"containers": [{"ports": [{"containerPort": 1, "protocol": "TCP"}]},
                {"ports": [{"containerPort": 1, "protocol": "TCP", "hostPort": 2}]}]}),
            "spec.containers[1].ports[0]: overlapping port definition with spec.containers[0].ports[0]",
        ),
        (
            json!({"containers": [{"ports": [{"containerPort": 1, "protocol": "TCP", "hostIP": "1.2.3.4"}]}]}),
            "spec.containers[0].ports[0]: hostIP set without hostPort: {Name: HostPort:0 ContainerPort:1 Protocol:TCP HostIP:1.2.3.4}",
        ),
        (
            json!({"containers": [{"ports": [{"containerPort": 1, "name": "a"}, {"containerPort": 2, "name": "a"}]}]}),
            r#"spec.containers[0].ports[1]: duplicate port name "a" with spec.containers[0].ports[0], services and probes that select ports by name will use spec.containers[0].ports[0]"#,
        ),
        (
            json!({"terminationGracePeriodSeconds": -1}),
            "spec.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1",
        ),
        (
            json!({"dnsConfig": {"nameservers": ["::ffff:1.2.3.4"]}}),
            r#"spec.dnsConfig.nameservers[0]: non-standard IP address "::ffff:1.2.3.4" is invalid: use "1.2.3.4""#,
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(pod(spec), [expected]);
    }
    let odd = json!({"metadata": {"name": "a.b"}, "spec": {}});
    assert!(told("", "Pod", &odd)[0].starts_with("metadata.name: this is used in the Pod's hostname, which"));
    assert!(
        told("batch", "Job", &odd)[0]
            .starts_with("metadata.name: this is used in Pod names and hostnames, which")
    );
    assert_eq!(of("", "Pod").unwrap()(&odd, &odd), [""; 0], "later writes are not talked about");
}

#[test]
fn templates_are_looked_at_when_they_may_have_changed() {
    let object = |generation: u32| {
        json!({"metadata": {"name": "d", "generation": generation, "annotations": {}},
            "spec": {"template": {"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/c": "unconfined"}},
                "spec": {"containers": [{"name": "c"}]}}}})
    };
    let expected = r#"spec.template.metadata.annotations[container.apparmor.security.beta.kubernetes.io/c]: deprecated since v1.30; use the "appArmorProfile" field instead"#;
    let deployment = of("apps", "Deployment").unwrap();
    assert_eq!(deployment(&object(1), &Value::Null), [expected]);
    assert_eq!(deployment(&object(2), &object(1)), [expected]);
    assert_eq!(deployment(&object(2), &object(2)), [""; 0]);
    let mut said_twice = object(1);
    said_twice["spec"]["template"]["spec"]["securityContext"] =
        json!({"appArmorProfile": {"type": "Unconfined"}});
    assert_eq!(deployment(&said_twice, &Value::Null), [""; 0]);
}

#[test]
fn other_kinds_are_warned_too() {
    for (group, kind, object, expected) in [
        (
            "",
            "PersistentVolume",
            json!({"spec": {"persistentVolumeReclaimPolicy": "Recycle"}}),
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
        ),
        (
            "",
            "PersistentVolume",
            json!({"spec": {"glusterfs": {}}}),
            "spec.glusterfs: deprecated in v1.25, non-functional in v1.26+",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "clusterIP": "None", "sessionAffinity": "ClientIP"}}),
            "spec.SessionAffinity is ignored for headless services",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "externalName": "x"}}),
            r#"spec.externalName is ignored when spec.type is not "ExternalName""#,
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "ClusterIP", "externalIPs": ["10.0.0.1"]}}),
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters",
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "LoadBalancer", "loadBalancerIP": "010.0.0.1"}}),
            r#"spec.loadBalancerIP: non-standard IP address "010.0.0.1" is invalid: use "10.0.0.1""#,
        ),
        (
            "networking.k8s.io",
            "Ingress",
            json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}}),
            r#"annotation "kubernetes.io/ingress.class" is deprecated, please use 'spec.ingressClassName' instead"#,
        ),
        (
            "node.k8s.io",
            "RuntimeClass",
            json!({"scheduling": {"nodeSelector": {"node-role.kubernetes.io/master": ""}}}),
            r#"scheduling.nodeSelector: use "node-role.kubernetes.io/control-plane" instead"#,
        ),
    ] {
        assert_eq!(told(group, kind, &object), [expected]);
    }
}
