use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    authz::{Chain, Rbac},
    identity::{Component, Identity},
    source::fake::Table,
};

/// A request as the plug-ins see it.
pub(super) struct Case<'a> {
    pub(super) operation: Operation,
    pub(super) group: &'a str,
    pub(super) resource: &'a str,
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    pub(super) user: Identity,
}

impl<'a> Case<'a> {
    pub(super) fn new(operation: Operation, resource: &'a str, name: &'a str) -> Self {
        let user = Component::ControllerManager.identity();
        Self { operation, group: "", resource, namespace: "ns", name, user }
    }

    pub(super) fn attributes(&self) -> Attributes<'_> {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((self.resource, ""));
        Attributes {
            user: &self.user,
            operation: self.operation,
            group: self.group,
            version: "v1",
            resource,
            subresource,
            kind: "",
            namespace: self.namespace,
            name: self.name,
            dry_run: false,
            is_patch: false,
            annotations: Annotations::silent(),
            warnings: Box::leak(Box::default()),
            field_manager: "test",
            delete: None,
            round: Round::default(),
        }
    }

    /// Both phases of one plug-in: what becomes of the object, or the code and message of the refusal.
    pub(super) async fn run(
        &self,
        plugin: &dyn Plugin,
        mut object: Value,
        old: Value,
    ) -> Result<Value, (u16, String)> {
        let attributes = self.attributes();
        let refused = |status: Status| (status.code(), status.message);
        plugin.admit(&attributes, &mut object, &old).await.map_err(refused)?;
        plugin.validate(&attributes, &object, &old).await.map_err(refused)?;
        Ok(object)
    }

    pub(super) fn warnings(&self, plugin: &dyn Plugin, object: &Value) -> Vec<String> {
        plugin.warnings(&self.attributes(), object, &Value::Null)
    }
}

fn create(resource: &str) -> Case<'_> {
    Case::new(Operation::Create, resource, "")
}

fn source(objects: &[(&str, &str, Value)]) -> Arc<dyn Source> {
    Arc::new(Table::with(objects))
}

fn forbidden(message: &str) -> Result<Value, (u16, String)> {
    Err((403, message.to_owned()))
}

fn pod() -> Value {
    json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c" }] } })
}

fn namespace(name: &str, phase: &str) -> Value {
    json!({ "metadata": { "name": name }, "status": { "phase": phase } })
}

#[tokio::test]
async fn namespaces_take_no_content_at_their_end() {
    let plugin = NamespaceLifecycle::new(source(&[
        ("", "namespaces", namespace("ns", "Active")),
        ("", "namespaces", namespace("end", "Terminating")),
    ]));
    let run = async |operation, resource, namespace, name, group| {
        let case = Case { namespace, group, ..Case::new(operation, resource, name) };
        case.run(&plugin, pod(), Value::Null).await.map(|_| ())
    };
    use Operation::{Create, Delete, Update};
    assert_eq!(run(Create, "pods", "ns", "", "").await, Ok(()));
    assert_eq!(
        run(Create, "pods", "end", "", "").await,
        Err((
            403,
            "pods \"p\" is forbidden: unable to create new content in namespace end because it is being \
             terminated"
                .to_owned()
        ))
    );
    assert_eq!(run(Update, "pods", "end", "p", "").await, Ok(()));
    assert_eq!(run(Create, "pods", "no", "", "").await, Err((404, "namespaces \"no\" not found".to_owned())));
    assert_eq!(run(Update, "pods", "no", "p", "").await.unwrap_err().0, 404);
    assert_eq!(run(Delete, "pods", "no", "p", "").await, Ok(()));
    assert_eq!(
        run(Create, "localsubjectaccessreviews", "no", "", "authorization.k8s.io").await,
        Ok(()),
        "must not tell whether a namespace exists"
    );
    assert_eq!(run(Create, "nodes", "", "", "").await, Ok(()));
    assert_eq!(run(Delete, "namespaces", "x", "x", "").await, Ok(()));
    for name in ["default", "kube-system", "kube-public"] {
        assert_eq!(
            run(Delete, "namespaces", name, name, "").await,
            Err((403, format!("namespaces {name:?} is forbidden: this namespace may not be deleted")))
        );
    }
    let attributes = Case { namespace: "end", ..create("pods") };
    let status = plugin.admit(&attributes.attributes(), &mut pod(), &Value::Null).await.unwrap_err();
    let cause = &status.details.unwrap().causes[0];
    assert_eq!((cause.reason.as_str(), cause.field.as_str()), ("NamespaceTerminating", "metadata.namespace"));
}

fn account(name: &str) -> Value {
    json!({ "metadata": { "namespace": "ns", "name": name } })
}

#[tokio::test]
async fn a_pod_finds_the_token_of_its_account() {
    let mut pulling = account("default");
    pulling["imagePullSecrets"] = json!([{ "name": "registry" }]);
    let plugin = ServiceAccount::new(source(&[("", "serviceaccounts", pulling)]));
    let mut given = pod();
    let own = json!([{ "name": "mine", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]);
    given["spec"]["initContainers"] = json!([{ "name": "i" }, { "name": "own", "volumeMounts": own }]);
    let made = create("pods").run(&plugin, given, Value::Null).await.unwrap();
    let spec = &made["spec"];
    assert_eq!(
        (&spec["serviceAccountName"], &spec["serviceAccount"]),
        (&json!("default"), &json!("default"))
    );
    assert_eq!(spec["imagePullSecrets"], json!([{ "name": "registry" }]));
    let name = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(name.starts_with("kube-api-access-") && name.len() == "kube-api-access-".len() + 5, "{name}");
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(
        spec["volumes"][0]["projected"],
        json!({ "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [{ "path": "namespace",
                "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ] })
    );
    let mount = json!([{ "name": name, "readOnly": true,
        "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount" }]);
    assert_eq!(spec["containers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][0]["volumeMounts"], mount);
    assert_eq!(spec["initContainers"][1]["volumeMounts"], own, "its own mount stays alone");

    let again = create("pods").run(&plugin, made.clone(), Value::Null).await.unwrap();
    assert_eq!(again, made, "admitted twice, mounted once");
}

#[tokio::test]
async fn a_token_is_mounted_only_where_it_is_wanted() {
    for (of_account, of_pod, want) in [
        (None, None, true),
        (Some(false), None, false),
        (Some(false), Some(true), true),
        (Some(true), Some(false), false),
    ] {
        let mut account = account("default");
        account["automountServiceAccountToken"] = json!(of_account);
        let plugin = ServiceAccount::new(source(&[("", "serviceaccounts", account)]));
        let mut given = pod();
        given["spec"]["automountServiceAccountToken"] = json!(of_pod);
        let made = create("pods").run(&plugin, given, Value::Null).await.unwrap();
        assert_eq!(!made["spec"]["volumes"].is_null(), want, "{of_account:?} {of_pod:?}");
    }
}

#[tokio::test]
async fn a_pod_without_its_account_is_refused() {
    let plugin = ServiceAccount::new(source(&[]));
    let mut given = pod();
    given["spec"]["serviceAccountName"] = "x".into();
    assert_eq!(
        create("pods").run(&plugin, given, Value::Null).await,
        forbidden(
            "pods \"p\" is forbidden: error looking up service account ns/x: serviceaccount \"x\" not found"
        )
    );
    for odd in [json!(null), json!({ "spec": 7 }), json!([])] {
        assert!(
            create("pods").run(&plugin, odd.clone(), Value::Null).await.is_ok(),
            "{odd} is not for it to judge"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_default_account_is_waited_for() {
    let table = Arc::new(Table::default());
    let plugin = ServiceAccount::new(Arc::clone(&table) as Arc<dyn Source>);
    let comes = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        table.put("", "serviceaccounts", account("other"));
        tokio::time::sleep(Duration::from_millis(500)).await;
        table.put("", "serviceaccounts", account("default"));
    };
    let case = create("pods");
    let (made, ()) = tokio::join!(case.run(&plugin, pod(), Value::Null), comes);
    assert!(made.is_ok());

    let plugin = ServiceAccount::new(source(&[]));
    let refused = create("pods").run(&plugin, pod(), Value::Null).await.unwrap_err();
    assert!(refused.1.contains("serviceaccount \"default\" not found"), "{}", refused.1);
}

#[tokio::test]
async fn mirror_pods_reach_for_nothing() {
    let plugin = ServiceAccount::new(source(&[]));
    let mirror = |change: &dyn Fn(&mut Value)| {
        let mut pod = pod();
        pod["metadata"]["annotations"]["kubernetes.io/config.mirror"] = "x".into();
        change(&mut pod["spec"]);
        pod
    };
    let plain = mirror(&|_| ());
    assert_eq!(create("pods").run(&plugin, plain.clone(), Value::Null).await, Ok(plain));
    let token =
        json!([{ "name": "t", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }]);
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, &str); 3] = [
        (&|spec| spec["serviceAccountName"] = "x".into(), "may not reference service accounts"),
        (
            &|spec| spec["volumes"] = json!([{ "name": "v", "secret": { "secretName": "s" } }]),
            "may not reference secrets",
        ),
        (&|spec| spec["volumes"] = token.clone(), "may not use ServiceAccountToken volume projections"),
    ];
    for (change, want) in cases {
        let refused = create("pods").run(&plugin, mirror(change), Value::Null).await.unwrap_err();
        assert!(refused.1.contains(want), "{}", refused.1);
    }
}

#[tokio::test]
async fn a_new_node_is_tainted_once() {
    let node = json!({ "metadata": { "name": "n" } });
    let made = create("nodes").run(&TaintNodesByCondition, node, Value::Null).await.unwrap();
    let taints = json!([{ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" }]);
    assert_eq!(made["spec"]["taints"], taints);
    let again = create("nodes").run(&TaintNodesByCondition, made.clone(), Value::Null).await.unwrap();
    assert_eq!(again, made);
    let update = Case::new(Operation::Update, "nodes", "n");
    let untainted = json!({ "metadata": { "name": "n" } });
    assert_eq!(update.run(&TaintNodesByCondition, untainted.clone(), Value::Null).await, Ok(untainted));
}

#[tokio::test]
async fn pods_stay_five_minutes() {
    let plugin = DefaultTolerationSeconds;
    let of = async |tolerations: Value| {
        let mut pod = pod();
        pod["spec"]["tolerations"] = tolerations;
        let made = create("pods").run(&plugin, pod, Value::Null).await.unwrap();
        made["spec"]["tolerations"].clone()
    };
    let five = |taint: &str| {
        json!({ "key": format!("node.kubernetes.io/{taint}"), "operator": "Exists", "effect": "NoExecute",
            "tolerationSeconds": 300 })
    };
    assert_eq!(of(Value::Null).await, json!([five("not-ready"), five("unreachable")]));
    let all = json!([{ "operator": "Exists" }]);
    assert_eq!(of(all.clone()).await, all);
    let own = json!({ "key": "node.kubernetes.io/not-ready", "operator": "Exists" });
    assert_eq!(of(json!([own])).await, json!([own, five("unreachable")]));
    let other = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
    assert_eq!(of(json!([other])).await, json!([other, five("not-ready"), five("unreachable")]));
}

#[tokio::test]
async fn priorities_come_from_classes() {
    let class = |name: &str, value: i64, default: bool| {
        json!({ "metadata": { "name": name }, "value": value, "globalDefault": default,
            "preemptionPolicy": "Never" })
    };
    let group = "scheduling.k8s.io";
    let without = Priority::new(source(&[(group, "priorityclasses", class("high", 1000, false))]));
    let with = Priority::new(source(&[
        (group, "priorityclasses", class("low", -5, true)),
        (group, "priorityclasses", class("mid", 5, true)),
    ]));
    let of = async |plugin: &Priority, spec: Value| {
        let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
        create("pods").run(plugin, pod, Value::Null).await.map(|pod| pod["spec"].clone())
    };
    let preempts = "PreemptLowerPriority";
    assert_eq!(of(&without, json!({})).await, Ok(json!({ "priority": 0, "preemptionPolicy": preempts })));
    let high = json!({ "priorityClassName": "high" });
    let resolved = json!({ "priorityClassName": "high", "priority": 1000, "preemptionPolicy": "Never" });
    assert_eq!(of(&without, high).await, Ok(resolved.clone()));
    assert_eq!(of(&without, resolved.clone()).await, Ok(resolved));
    let low = json!({ "priorityClassName": "low", "priority": -5, "preemptionPolicy": "Never" });
    assert_eq!(of(&with, json!({})).await, Ok(low), "the default of lowest value");
    assert_eq!(
        of(&without, json!({ "priorityClassName": "none" })).await,
        forbidden("pods \"p\" is forbidden: no PriorityClass with name none was found")
    );
    let number = of(&without, json!({ "priority": 7 })).await.unwrap_err();
    assert!(number.1.contains("the integer value of priority (7) must not be provided"), "{}", number.1);
    let policy = of(&without, json!({ "preemptionPolicy": "Never" })).await.unwrap_err();
    assert!(policy.1.contains("the string value of PreemptionPolicy (Never)"), "{}", policy.1);

    let update = Case::new(Operation::Update, "pods", "p");
    let old = json!({ "spec": { "priority": 9, "preemptionPolicy": "Never" } });
    let kept = update.run(&without, json!({ "spec": {} }), old.clone()).await;
    assert_eq!(kept, Ok(old));

    let second = Case { group, namespace: "", ..create("priorityclasses") };
    let refused = second.run(&with, class("x", 1, true), Value::Null).await;
    assert_eq!(
        refused,
        forbidden(
            "priorityclasses.scheduling.k8s.io \"x\" is forbidden: PriorityClass low is already marked as \
             default. Only one default can exist"
        )
    );
    let itself = Case { operation: Operation::Update, ..second };
    assert!(itself.run(&with, class("low", -5, true), Value::Null).await.is_ok());
}

#[tokio::test]
async fn volumes_get_their_class_and_their_finalizer() {
    let class = |name: &str, born: &str, default: &str| {
        json!({ "metadata": { "name": name, "creationTimestamp": born,
            "annotations": { "storageclass.kubernetes.io/is-default-class": default } } })
    };
    let classes = |list: &[Value]| {
        let objects: Vec<_> =
            list.iter().map(|class| ("storage.k8s.io", "storageclasses", class.clone())).collect();
        DefaultStorageClass::new(source(&objects))
    };
    let claim = |spec: Value| json!({ "metadata": { "name": "c" }, "spec": spec });
    let of = async |plugin: &DefaultStorageClass, spec: Value| {
        let case = create("persistentvolumeclaims");
        case.run(plugin, claim(spec), Value::Null).await.unwrap()["spec"]["storageClassName"].clone()
    };
    let (old, new) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let several = classes(&[
        class("a", old, "true"),
        class("b", new, "true"),
        class("c", new, "true"),
        class("d", new, "no"),
    ]);
    assert_eq!(of(&several, json!({})).await, "b", "the newest, then by name");
    assert_eq!(of(&several, json!({ "storageClassName": "" })).await, "", "none was asked for");
    assert_eq!(of(&classes(&[class("d", new, "false")]), json!({})).await, Value::Null);

    for (resource, finalizer) in [("persistentvolumes", "pv"), ("persistentvolumeclaims", "pvc")] {
        let want = json!([format!("kubernetes.io/{finalizer}-protection")]);
        let plugin = &StorageObjectInUseProtection;
        let made = create(resource).run(plugin, claim(json!({})), Value::Null).await.unwrap();
        assert_eq!(made["metadata"]["finalizers"], want);
        assert_eq!(create(resource).run(plugin, made.clone(), Value::Null).await, Ok(made));
    }
}

#[tokio::test]
async fn runtime_classes_bring_overhead_and_scheduling() {
    let class = json!({ "metadata": { "name": "kata" }, "overhead": { "podFixed": { "cpu": "1" } },
        "scheduling": { "nodeSelector": { "kata": "yes" }, "tolerations": [{ "key": "kata" }] } });
    let plugin = RuntimeClass::new(source(&[("node.k8s.io", "runtimeclasses", class)]));
    let of = async |spec: Value| {
        let pod = json!({ "metadata": { "name": "p" }, "spec": spec });
        create("pods").run(&plugin, pod, Value::Null).await.map(|pod| pod["spec"].clone())
    };
    assert_eq!(of(json!({})).await, Ok(json!({})));
    assert_eq!(
        of(json!({ "runtimeClassName": "kata", "nodeSelector": { "a": "b" } })).await,
        Ok(json!({ "runtimeClassName": "kata", "nodeSelector": { "a": "b", "kata": "yes" },
            "tolerations": [{ "key": "kata" }], "overhead": { "cpu": "1" } }))
    );
    for (spec, want) in [
        (json!({ "runtimeClassName": "x" }), "pod rejected: RuntimeClass \"x\" not found"),
        (json!({ "overhead": { "cpu": "1" } }), "without corresponding RuntimeClass"),
        (json!({ "runtimeClassName": "kata", "overhead": { "cpu": "2" } }), "doesn't match RuntimeClass's"),
        (
            json!({ "runtimeClassName": "kata", "nodeSelector": { "kata": "no" } }),
            "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes; pod.spec.nodeSelector[kata] = no",
        ),
    ] {
        let refused = of(spec).await.unwrap_err();
        assert!(refused.1.contains(want), "{}", refused.1);
    }
}

#[tokio::test]
async fn no_shape_of_object_makes_a_plugin_panic() {
    let table: Arc<dyn Source> = source(&[
        ("", "namespaces", json!({ "metadata": { "name": "ns" }, "status": 7 })),
        (
            "",
            "serviceaccounts",
            json!({ "metadata": { "namespace": "ns", "name": "default" }, "imagePullSecrets": 7 }),
        ),
    ]);
    let shapes = [
        json!(null),
        json!(7),
        json!([1]),
        json!({}),
        json!({ "metadata": 7, "spec": [] }),
        json!({ "metadata": { "labels": 7, "annotations": [], "finalizers": {}, "ownerReferences": 7 },
            "spec": { "containers": [7, {}], "volumes": {}, "tolerations": 7, "taints": "x", "template": 7 },
            "status": 7 }),
    ];
    let resources = [
        ("", "pods"),
        ("", "pods/status"),
        ("", "pods/eviction"),
        ("", "nodes"),
        ("", "namespaces"),
        ("", "persistentvolumeclaims"),
        ("", "persistentvolumeclaims/status"),
        ("", "serviceaccounts/token"),
        ("apps", "deployments"),
        ("batch", "cronjobs"),
        ("coordination.k8s.io", "leases"),
        ("scheduling.k8s.io", "priorityclasses"),
    ];
    let outgoing = Arc::new(Outgoing::new(Arc::clone(&table), None));
    let (_rows, kinds) = watch::channel(Arc::new(Kinds::builtin()));
    let authorizer = Arc::new(Chain::new(vec![Arc::new(Rbac::new(Arc::clone(&table)))]));
    for plugin in
        standard(&table, &outgoing, &kinds, &authorizer, (&Arc::default(), &Arc::default()), &Arc::default())
    {
        for (group, resource) in resources {
            for operation in [Operation::Create, Operation::Update, Operation::Delete, Operation::Connect] {
                for user in
                    [Component::ControllerManager.identity(), Component::Node("n".to_owned()).identity()]
                {
                    for (object, old) in shapes.iter().flat_map(|a| shapes.iter().map(move |b| (a, b))) {
                        let case = Case { user: user.clone(), group, ..Case::new(operation, resource, "x") };
                        // Only that it answers is looked at.
                        let _ = case.run(&*plugin, object.clone(), old.clone()).await;
                        case.warnings(&*plugin, object);
                    }
                }
            }
        }
    }
}
