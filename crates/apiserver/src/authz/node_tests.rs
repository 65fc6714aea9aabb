use serde_json::json;

use super::*;
use crate::{
    authz::policy,
    identity::{Component, Identity},
    source::fake::Table,
};

fn pod(namespace: &str, name: &str, node: &str) -> Value {
    json!({
        "metadata": { "namespace": namespace, "name": name },
        "spec": {
            "nodeName": node,
            "serviceAccountName": format!("sa-{name}"),
            "imagePullSecrets": [{ "name": "pull" }],
            "containers": [{
                "name": "c",
                "envFrom": [{ "secretRef": { "name": "env" } }, { "configMapRef": { "name": "env-cm" } }],
                "env": [
                    { "name": "A", "valueFrom": { "secretKeyRef": { "name": "key", "key": "k" } } },
                    { "name": "B", "valueFrom": { "configMapKeyRef": { "name": "key-cm", "key": "k" } } },
                ],
            }],
            "initContainers": [{ "name": "i", "envFrom": [{ "secretRef": { "name": "init" } }] }],
            "volumes": [
                { "name": "s", "secret": { "secretName": "volume" } },
                { "name": "m", "configMap": { "name": "volume-cm" } },
                { "name": "p", "projected": { "sources": [
                    { "secret": { "name": "projected" } }, { "configMap": { "name": "projected-cm" } },
                    { "serviceAccountToken": { "path": "token" } } ] } },
                { "name": "c", "persistentVolumeClaim": { "claimName": "claim" } },
                { "name": "e", "ephemeral": {} },
                { "name": "csi", "csi": { "driver": "d", "nodePublishSecretRef": { "name": "publish" } } },
            ],
            "resourceClaims": [{ "name": "d", "resourceClaimName": "devices" }],
        },
        "status": { "extendedResourceClaimStatus": { "resourceClaimName": "extended" } },
    })
}

const CERTIFICATES: &str = "certificates.k8s.io";

fn fixture() -> (Arc<Table>, NodeAuthorizer) {
    let claim = json!({ "metadata": { "namespace": "a", "name": "claim" }, "spec": { "volumeName": "pv" } });
    let volume = json!({ "metadata": { "name": "pv" },
        "spec": { "csi": { "nodeStageSecretRef": { "namespace": "vault", "name": "stage" } } } });
    let attachment = json!({ "metadata": { "name": "va" }, "spec": { "nodeName": "n1" } });
    let asked = json!({ "metadata": { "namespace": "a", "name": "req" }, "spec": { "nodeName": "n1" } });
    let mut mirror = pod("a", "mirror", "n1");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
    mirror["spec"]["volumes"] = json!([{ "name": "s", "secret": { "secretName": "stolen" } }]);
    let table = Arc::new(Table::with(&[
        ("", "pods", pod("a", "one", "n1")),
        ("", "pods", pod("b", "two", "n2")),
        ("", "pods", mirror),
        ("", "persistentvolumeclaims", claim),
        ("", "persistentvolumes", volume),
        ("storage.k8s.io", "volumeattachments", attachment),
        (CERTIFICATES, "podcertificaterequests", asked),
    ]));
    let authorizer = NodeAuthorizer::new(Arc::clone(&table) as Arc<dyn Source>, policy::node_rules());
    (table, authorizer)
}

struct Ask<'a> {
    verb: &'a str,
    group: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
    selector: &'a str,
}

fn ask(authorizer: &NodeAuthorizer, user: &Identity, ask: &Ask<'_>) -> Decision {
    let (resource, subresource) = ask.resource.split_once('/').unwrap_or((ask.resource, ""));
    let target = Target::Resource {
        group: ask.group,
        version: "v1",
        resource,
        subresource,
        namespace: ask.namespace,
        name: ask.name,
        field_selector: ask.selector,
        label_selector: "",
    };
    authorizer.authorize(&Attributes { user, verb: ask.verb, target })
}

fn core<'a>(verb: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> Ask<'a> {
    Ask { verb, group: "", resource, namespace, name, selector: "" }
}

fn certificate<'a>(verb: &'a str, name: &'a str, selector: &'a str) -> Ask<'a> {
    Ask { group: CERTIFICATES, selector, ..core(verb, "podcertificaterequests", "a", name) }
}

#[test]
fn a_kubelet_reads_what_its_pods_refer_to() {
    let (_, authorizer) = fixture();
    let node = Component::Node("n1".to_owned()).identity();
    let lease = "coordination.k8s.io";
    let storage = "storage.k8s.io";
    let secrets = ["pull", "env", "key", "init", "volume", "projected", "publish"];
    for name in secrets {
        assert!(
            matches!(ask(&authorizer, &node, &core("get", "secrets", "a", name)), Decision::Allow { .. }),
            "{name}"
        );
        let elsewhere = ask(&authorizer, &node, &core("get", "secrets", "b", name));
        assert!(matches!(elsewhere, Decision::NoOpinion { .. }), "{name} of another node's pod");
    }
    let cases = [
        (Ask { group: "resource.k8s.io", ..core("get", "resourceclaims", "a", "devices") }, true),
        (Ask { group: "resource.k8s.io", ..core("get", "resourceclaims", "a", "extended") }, true),
        (Ask { group: "resource.k8s.io", ..core("get", "resourceclaims", "a", "other") }, false),
        (certificate("create", "", ""), true),
        (certificate("get", "req", ""), true),
        (certificate("get", "other", ""), false),
        (certificate("watch", "", "spec.nodeName=n1,metadata.name=req"), true),
        (certificate("list", "", "spec.nodeName=n2"), false),
        (certificate("list", "", "metadata.name=req"), false),
        (certificate("delete", "req", ""), false),
        (Ask { resource: "podcertificaterequests/status", ..certificate("get", "req", "") }, false),
        (core("get", "configmaps", "a", "env-cm"), true),
        (core("watch", "configmaps", "a", "projected-cm"), true),
        (core("get", "configmaps", "a", "other"), false),
        (core("get", "secrets", "a", "stolen"), false),
        (core("get", "secrets", "vault", "stage"), true),
        (core("get", "secrets", "vault", "other"), false),
        (core("list", "secrets", "a", ""), false),
        (core("list", "secrets", "", ""), false),
        (core("delete", "secrets", "a", "env"), false),
        (Ask { selector: "metadata.name=env", ..core("watch", "secrets", "a", "") }, true),
        (Ask { selector: "metadata.name=x", ..core("watch", "secrets", "a", "") }, false),
        (Ask { selector: "metadata.name!=env", ..core("watch", "secrets", "a", "") }, false),
        (core("get", "persistentvolumeclaims", "a", "claim"), true),
        (core("get", "persistentvolumeclaims", "a", "one-e"), true),
        (core("get", "persistentvolumeclaims", "b", "claim"), false),
        (core("update", "persistentvolumeclaims", "a", "claim"), false),
        (core("update", "persistentvolumeclaims/status", "a", "claim"), true),
        (core("get", "persistentvolumes", "", "pv"), true),
        (core("get", "persistentvolumes", "", "other"), false),
        (core("create", "serviceaccounts/token", "a", "sa-one"), true),
        (core("create", "serviceaccounts/token", "b", "sa-two"), false),
        (core("create", "serviceaccounts/token", "a", "default"), false),
        (core("get", "serviceaccounts", "a", "sa-one"), true),
        (core("delete", "serviceaccounts", "a", "sa-one"), false),
        (core("get", "nodes", "", "n1"), true),
        (core("get", "nodes", "", "n2"), false),
        (core("list", "nodes", "", ""), false),
        (Ask { selector: "metadata.name=n1", ..core("watch", "nodes", "", "") }, true),
        (core("patch", "nodes/status", "", "n1"), true),
        (core("delete", "nodes", "", "n1"), false),
        (core("list", "pods", "", ""), false),
        (Ask { selector: "spec.nodeName=n1", ..core("list", "pods", "", "") }, true),
        (Ask { selector: "spec.nodeName=n2", ..core("watch", "pods", "", "") }, false),
        (core("get", "pods", "a", "one"), true),
        (core("get", "pods", "b", "two"), false),
        (core("patch", "pods/status", "a", "one"), true),
        (core("list", "services", "", ""), true),
        (core("create", "services", "a", ""), false),
        (Ask { group: lease, ..core("create", "leases", "kube-node-lease", "") }, true),
        (Ask { group: lease, ..core("update", "leases", "kube-node-lease", "n1") }, true),
        (Ask { group: lease, ..core("update", "leases", "kube-node-lease", "n2") }, false),
        (Ask { group: lease, ..core("get", "leases", "kube-system", "n1") }, false),
        (Ask { group: lease, ..core("list", "leases", "kube-node-lease", "") }, false),
        (Ask { group: storage, ..core("get", "volumeattachments", "", "va") }, true),
        (Ask { group: storage, ..core("get", "volumeattachments", "", "vb") }, false),
        (Ask { group: storage, ..core("patch", "csinodes", "", "n1") }, true),
        (Ask { group: storage, ..core("patch", "csinodes", "", "n2") }, false),
    ];
    for (request, want) in cases {
        let decision = ask(&authorizer, &node, &request);
        let Ask { verb, resource, namespace, name, selector, .. } = request;
        let shown = format!("{verb} {resource} {namespace}/{name} {selector}: {decision:?}");
        assert_eq!(matches!(decision, Decision::Allow { .. }), want, "{shown}");
    }
    let refused = ask(&authorizer, &node, &core("get", "secrets", "a", "other"));
    let reason = "no relationship found between node 'n1' and this object".to_owned();
    assert_eq!(refused, Decision::NoOpinion { reason });
}

#[test]
fn references_follow_pods_that_come_change_and_go() {
    let (table, authorizer) = fixture();
    let node = Component::Node("n1".to_owned()).identity();
    let may = |name: &str| {
        matches!(ask(&authorizer, &node, &core("get", "secrets", "c", name)), Decision::Allow { .. })
    };
    assert!(!may("env"));
    table.put("", "pods", pod("c", "three", ""));
    assert!(!may("env"), "not bound yet");
    table.put("", "pods", pod("c", "three", "n1"));
    assert!(may("env"));
    let mut changed = pod("c", "three", "n1");
    changed["spec"]["containers"] = json!([]);
    table.put("", "pods", changed);
    assert!(!may("env") && may("volume"));
    table.remove("", "pods", "c", "three");
    assert!(!may("volume"));
}

#[test]
fn others_are_not_its_business() {
    let (_, authorizer) = fixture();
    let request = core("get", "secrets", "a", "env");
    let scheduler = Component::Scheduler.identity();
    assert_eq!(ask(&authorizer, &scheduler, &request), Decision::NoOpinion { reason: String::new() });
    let nameless = Component::Node(String::new()).identity();
    let reason = "unknown node for user \"system:node:\"".to_owned();
    assert_eq!(ask(&authorizer, &nameless, &request), Decision::NoOpinion { reason });
}

#[test]
fn odd_pods_refer_to_nothing() {
    for odd in
        [json!(null), json!({ "spec": 7 }), json!({ "spec": { "volumes": "x", "imagePullSecrets": [7] } })]
    {
        assert_eq!(opened_by(&odd), References::default(), "{odd}");
    }
}
