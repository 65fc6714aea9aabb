use serde_json::json;

use super::*;
use crate::{
    admission::tests::Case,
    identity::{Component, Identity},
    source::fake::Table,
};

fn pod(name: &str, node: &str) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": name, "uid": "pod-1" }, "spec": { "nodeName": node,
        "volumes": [{ "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "audience": "vault" } }] } }] } })
}

fn plugin() -> NodeRestriction {
    NodeRestriction::new(Arc::new(Table::with(&[
        ("", "nodes", json!({ "metadata": { "name": "n1", "uid": "node-1" } })),
        ("", "pods", pod("mine", "n1")),
        ("", "pods", pod("other", "n2")),
    ])))
}

fn kubelet() -> Identity {
    Component::Node("n1".to_owned()).identity()
}

async fn run(
    operation: Operation,
    (group, resource): (&str, &str),
    name: &str,
    object: Value,
    old: Value,
) -> Result<(), String> {
    let namespace = if group == "coordination.k8s.io" { "kube-node-lease" } else { "ns" };
    let case = Case { user: kubelet(), group, namespace, ..Case::new(operation, resource, name) };
    case.run(&plugin(), object, old).await.map(|_| ()).map_err(|(_, message)| message)
}

fn said(result: Result<(), String>, want: &str) {
    let message = result.expect_err(want);
    assert!(message.contains(want), "{message:?} lacks {want:?}");
}

fn mirror() -> Value {
    json!({
        "metadata": {
            "name": "m",
            "annotations": { "kubernetes.io/config.mirror": "x" },
            "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-1", "controller": true }],
        },
        "spec": { "nodeName": "n1", "containers": [{ "name": "c" }] },
    })
}

#[tokio::test]
async fn others_are_not_its_business() {
    let case = Case::new(Operation::Delete, "pods", "other");
    assert!(case.run(&plugin(), Value::Null, pod("other", "n2")).await.is_ok());
    let nameless = Case { user: Component::Node(String::new()).identity(), ..case };
    let (code, message) = nameless.run(&plugin(), Value::Null, Value::Null).await.unwrap_err();
    assert_eq!(code, 403);
    assert!(message.contains("could not determine node from user \"system:node:\""), "{message}");
}

#[tokio::test]
async fn a_kubelet_makes_mirror_pods_of_its_own() {
    use Operation::{Create, Delete, Update};
    let pods = ("", "pods");
    assert_eq!(run(Create, pods, "", mirror(), Value::Null).await, Ok(()));
    let cases: [(&str, Value, &str); 11] = [
        ("/metadata/annotations", json!({}), "can only create mirror pods"),
        ("/spec/nodeName", json!("n2"), "spec.nodeName set to itself"),
        ("/metadata/ownerReferences", json!([]), "an owner reference set to itself"),
        ("/metadata/ownerReferences", json!([{}, {}]), "a single owner reference"),
        ("/metadata/ownerReferences/0/name", json!("n2"), "an owner reference set to itself"),
        ("/metadata/ownerReferences/0/controller", json!(false), "a controller owner reference"),
        ("/metadata/ownerReferences/0/uid", json!("other"), "UID mismatch: expected other got node-1"),
        ("/spec/containers/0", json!({ "envFrom": [{ "secretRef": { "name": "s" } }] }), "reference secrets"),
        (
            "/spec/containers/0",
            json!({ "envFrom": [{ "configMapRef": { "name": "s" } }] }),
            "reference configmaps",
        ),
        (
            "/spec",
            json!({ "nodeName": "n1", "volumes": [{ "persistentVolumeClaim": { "claimName": "c" } }] }),
            "reference persistentvolumeclaims",
        ),
        ("/spec", json!({ "nodeName": "n1", "serviceAccountName": "sa" }), "reference a service account"),
    ];
    for (path, value, want) in cases {
        let mut pod = mirror();
        *pod.pointer_mut(path).unwrap() = value;
        said(run(Create, pods, "", pod, Value::Null).await, want);
    }
    assert_eq!(run(Delete, pods, "mine", Value::Null, Value::Null).await, Ok(()));
    said(
        run(Delete, pods, "other", Value::Null, Value::Null).await,
        "can only delete pods with spec.nodeName",
    );
    said(run(Delete, pods, "gone", Value::Null, Value::Null).await, "pods \"gone\" not found");
    said(run(Update, pods, "mine", pod("mine", "n1"), Value::Null).await, "unexpected operation \"UPDATE\"");
    said(
        run(Create, ("", "pods/binding"), "mine", json!({}), Value::Null).await,
        "unexpected pod subresource",
    );
}

#[tokio::test]
async fn a_kubelet_reports_on_and_evicts_its_own_pods() {
    use Operation::{Create, Update};
    let status = ("", "pods/status");
    assert_eq!(run(Update, status, "mine", pod("mine", "n1"), pod("mine", "n1")).await, Ok(()));
    said(
        run(Update, status, "other", pod("other", "n2"), pod("other", "n2")).await,
        "can only update pod status",
    );
    let mut labelled = pod("mine", "n1");
    labelled["metadata"]["labels"] = json!({ "a": "b" });
    said(run(Update, status, "mine", labelled, pod("mine", "n1")).await, "cannot update labels");
    // What opens claims to devices to the node is not the node's to say.
    for (field, value, wanted) in [
        ("resourceClaimStatuses", json!([{"name": "a"}]), "cannot update resource claim statuses"),
        (
            "extendedResourceClaimStatus",
            json!({"resourceClaimName": "a"}),
            "cannot update extended resource claim status",
        ),
    ] {
        let mut opened = pod("mine", "n1");
        opened["status"][field] = value;
        said(run(Update, status, "mine", opened, pod("mine", "n1")).await, wanted);
    }
    let eviction = ("", "pods/eviction");
    assert_eq!(run(Create, eviction, "mine", json!({}), Value::Null).await, Ok(()));
    said(run(Create, eviction, "other", json!({}), Value::Null).await, "can only evict pods");
}

#[tokio::test]
async fn a_kubelet_describes_its_own_node_and_does_not_attract_pods() {
    use Operation::{Create, Update};
    let nodes = ("", "nodes");
    let node = |labels: Value| json!({ "metadata": { "name": "n1", "labels": labels }, "spec": {} });
    let fine = json!({ "kubernetes.io/hostname": "n1", "node.kubernetes.io/x": "y", "example.org/a": "b",
        "plain": "c", "sub.kubelet.kubernetes.io/x": "y" });
    assert_eq!(run(Create, nodes, "", node(fine.clone()), Value::Null).await, Ok(()));
    assert_eq!(run(Update, ("", "nodes/status"), "n1", node(fine), node(json!({}))).await, Ok(()));
    for label in [
        "node-restriction.kubernetes.io/pci",
        "a.node-restriction.kubernetes.io/pci",
        "kubernetes.io/unheard-of",
        "x.k8s.io/y",
        "node-role.kubernetes.io/control-plane",
    ] {
        let labelled = node(json!({ label: "x" }));
        said(
            run(Create, nodes, "", labelled.clone(), Value::Null).await,
            &format!("set the following labels: {label}"),
        );
        said(
            run(Update, nodes, "n1", labelled.clone(), node(json!({}))).await,
            &format!("modify labels: {label}"),
        );
        said(run(Update, nodes, "n1", node(json!({})), labelled).await, "modify labels");
    }
    let mut tainted = node(json!({}));
    tainted["spec"]["taints"] = json!([{ "key": "a" }]);
    said(run(Update, nodes, "n1", node(json!({})), tainted).await, "not allowed to modify taints");
    let other = json!({ "metadata": { "name": "n2" } });
    said(run(Create, nodes, "", other, Value::Null).await, "is not allowed to modify node \"n2\"");
}

#[tokio::test]
async fn a_kubelet_gets_tokens_for_its_pods_only() {
    let token = ("", "serviceaccounts/token");
    let bound = |name: &str, uid: &str, audiences: Value| {
        json!({ "spec": { "audiences": audiences, "boundObjectRef":
            { "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid } } })
    };
    let ask = async |request: Value| run(Operation::Create, token, "sa", request, Value::Null).await;
    assert_eq!(ask(bound("mine", "pod-1", json!([]))).await, Ok(()));
    assert_eq!(ask(bound("mine", "pod-1", json!(["vault"]))).await, Ok(()));
    said(
        ask(bound("mine", "pod-1", json!(["bank"]))).await,
        "audience \"bank\" not found in pod spec volume",
    );
    said(ask(json!({ "spec": {} })).await, "not bound to a pod");
    said(ask(bound("mine", "", json!([]))).await, "without a uid");
    said(ask(bound("mine", "pod-2", json!([]))).await, "does not match the UID in record (pod-1)");
    said(ask(bound("other", "pod-1", json!([]))).await, "scheduled on a different node");
    said(ask(bound("gone", "pod-1", json!([]))).await, "pods \"gone\" not found");
}

#[tokio::test]
async fn a_kubelet_asks_for_certificates_of_its_pods_only() {
    let pod = |name: &str, node: &str, mirror: Value| {
        json!({ "metadata": { "namespace": "ns", "name": name, "uid": "pod-1", "annotations": mirror },
            "spec": { "nodeName": node, "serviceAccountName": "sa" } })
    };
    let plugin = NodeRestriction::new(Arc::new(Table::with(&[
        ("", "nodes", json!({ "metadata": { "name": "n1", "uid": "node-1" } })),
        ("", "serviceaccounts", json!({ "metadata": { "namespace": "ns", "name": "sa", "uid": "sa-1" } })),
        ("", "pods", pod("mine", "n1", Value::Null)),
        ("", "pods", pod("other", "n2", Value::Null)),
        ("", "pods", pod("mirror", "n1", json!({ "kubernetes.io/config.mirror": "x" }))),
    ])));
    let case = Case {
        user: kubelet(),
        group: "certificates.k8s.io",
        namespace: "ns",
        ..Case::new(Operation::Create, "podcertificaterequests", "")
    };
    for (field, value, want) in [
        ("podName", "mine", None),
        ("nodeName", "n2", Some((403, "is not the requesting node \"n1\""))),
        ("nodeUID", "node-2", Some((500, "names node UID \"node-2\""))),
        ("podName", "gone", Some((500, "while retrieving pod \"ns/gone\""))),
        ("podUID", "pod-2", Some((500, "differs from running pod \"pod-1\""))),
        ("podName", "other", Some((403, "is not running on node \"n1\""))),
        ("podName", "mirror", Some((403, "is a mirror pod"))),
        ("serviceAccountName", "admin", Some((403, "differs from running pod (\"sa\")"))),
        (
            "serviceAccountUID",
            "sa-2",
            Some((500, "which differs from the running service account (\"sa-1\")")),
        ),
    ] {
        let mut asked = json!({ "spec": { "nodeName": "n1", "nodeUID": "node-1", "podName": "mine", "podUID": "pod-1",
            "serviceAccountName": "sa", "serviceAccountUID": "sa-1" } });
        asked["spec"][field] = value.into();
        match (case.run(&plugin, asked, Value::Null).await, want) {
            (Ok(_), None) => {}
            (Err((code, message)), Some((wanted, why))) => {
                assert!(code == wanted && message.contains(why), "{field}={value}: {code} {message}");
            }
            (answer, _) => panic!("{field}={value}: {}", answer.is_ok()),
        }
    }
}

#[tokio::test]
async fn a_kubelet_keeps_its_own_lease_and_grows_its_own_claims() {
    use Operation::{Create, Update};
    let leases = ("coordination.k8s.io", "leases");
    let lease = |name: &str| json!({ "metadata": { "name": name } });
    assert_eq!(run(Create, leases, "", lease("n1"), Value::Null).await, Ok(()));
    said(run(Create, leases, "", lease("n2"), Value::Null).await, "same name as the requesting node");
    said(run(Update, leases, "n2", lease("n2"), lease("n2")).await, "same name as the requesting node");

    let claims = ("", "persistentvolumeclaims/status");
    let claim = |capacity: &str, phase: &str| {
        json!({ "metadata": { "name": "c", "resourceVersion": capacity },
            "status": { "capacity": { "storage": capacity }, "phase": phase } })
    };
    assert_eq!(run(Update, claims, "c", claim("2", "Bound"), claim("1", "Bound")).await, Ok(()));
    said(run(Update, claims, "c", claim("1", "Lost"), claim("1", "Bound")).await, "status.capacity");
    said(
        run(Update, ("", "persistentvolumeclaims"), "c", claim("1", ""), claim("1", "")).await,
        "only update PVC status",
    );
}
