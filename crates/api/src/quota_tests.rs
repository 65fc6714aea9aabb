use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn now() -> Timestamp {
    "2026-05-01T00:00:00Z".parse().unwrap()
}

fn quota(spec: Value, used: Value) -> Quota {
    let status = json!({"hard": spec["hard"], "used": used});
    Quota::read(&json!({"metadata": {"name": "q"}, "spec": spec, "status": status}))
}

fn pod(spec: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": spec})
}

fn text(amounts: &Amounts) -> Value {
    render(amounts)
}

static NONE: LazyLock<Devices> = LazyLock::new(Devices::default);

fn new<'a>(meter: Meter<'a>, object: &'a Value) -> Request<'a> {
    Request { meter, object, old: &Value::Null, status: false, now: now(), devices: &NONE }
}

fn used_of(meter: Meter<'_>, object: &Value) -> Value {
    text(&meter.usage(object, now(), &NONE))
}

#[test]
fn names_lead_to_what_is_counted_under_them() {
    const DEVICES: (&str, &str) = ("resource.k8s.io", "resourceclaims");
    for (name, resource) in [
        ("pods", &[("", "pods")][..]),
        ("count/pods", &[("", "pods")][..]),
        ("limits.cpu", &[("", "pods")][..]),
        ("hugepages-2Mi", &[("", "pods")][..]),
        ("requests.example.com/gpu", &[("", "pods"), DEVICES]),
        ("services.nodeports", &[("", "services")][..]),
        ("count/services", &[("", "services")][..]),
        ("requests.storage", &[("", "persistentvolumeclaims")][..]),
        ("gold.storageclass.storage.k8s.io/requests.storage", &[("", "persistentvolumeclaims")][..]),
        ("secrets", &[("", "secrets")][..]),
        ("count/deployments.apps", &[("apps", "deployments")][..]),
        ("count/widgets.a.example.com", &[("a.example.com", "widgets")][..]),
        ("requests.deviceclass.resource.kubernetes.io/gpu", &[("", "pods"), DEVICES]),
        ("requests.kubernetes.io/gpu", &[]),
        ("gpu.deviceclass.resource.k8s.io/devices", &[DEVICES]),
        ("count/resourceclaims.resource.k8s.io", &[DEVICES]),
        ("count/events", &[]),
        ("example.com/gpu", &[]),
        ("deployments", &[]),
        ("gold.storageclass.storage.k8s.io/cpu", &[]),
    ] {
        let found: Vec<_> = Meter::behind(name).map(Meter::resource).collect();
        assert_eq!(found, resource, "{name}");
    }
    let deployments = Meter::of("apps", "deployments").unwrap();
    assert!(deployments.tracks("count/deployments.apps"));
    for other in ["count/deployments", "count/deployments.appsx", "deployments"] {
        assert!(!deployments.tracks(other), "{other}");
    }
}

#[test]
fn pods_use_what_they_need_at_once() {
    let needs = |requests: Value, limits: Value| json!({"requests": requests, "limits": limits});
    let made = pod(json!({
        "containers": [
            {"name": "a", "resources": needs(json!({"cpu": "1", "memory": "1Gi", "example.com/gpu": "2"}), json!({"cpu": "2"}))},
            {"name": "b", "resources": needs(json!({"cpu": "500m", "ephemeral-storage": "1Gi"}), json!({}))},
        ],
        "initContainers": [
            {"name": "s", "restartPolicy": "Always", "resources": needs(json!({"cpu": "100m"}), json!({}))},
            {"name": "i", "resources": needs(json!({"cpu": "3", "hugepages-2Mi": "4Mi"}), json!({}))},
        ],
        "overhead": {"cpu": "10m"},
    }));
    assert_eq!(
        used_of(Meter::Pods, &made),
        json!({"count/pods": "1", "pods": "1", "cpu": "3110m", "requests.cpu": "3110m", "limits.cpu": "2010m",
            "memory": "1Gi", "requests.memory": "1Gi", "ephemeral-storage": "1Gi", "requests.ephemeral-storage": "1Gi",
            "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi", "requests.example.com/gpu": "2"})
    );
    let mut as_a_whole = made.clone();
    as_a_whole["spec"]["resources"] = needs(json!({"cpu": "1"}), json!({"memory": "2Gi"}));
    let used = used_of(Meter::Pods, &as_a_whole);
    assert_eq!((&used["cpu"], &used["limits.memory"]), (&json!("1010m"), &json!("2Gi")));

    let mut resizing =
        pod(json!({"containers": [{"name": "a", "resources": needs(json!({"cpu": "1"}), json!({}))}]}));
    resizing["status"] =
        json!({"containerStatuses": [{"name": "a", "resources": {"requests": {"cpu": "2"}}}]});
    assert_eq!(used_of(Meter::Pods, &resizing)["cpu"], "2");
}

#[test]
fn pods_that_are_over_only_count() {
    let metadata =
        |seconds| json!({"deletionTimestamp": "2026-04-30T23:59:00Z", "deletionGracePeriodSeconds": seconds});
    for (metadata, phase, over) in [
        (json!({}), "Running", false),
        (json!({}), "Succeeded", true),
        (json!({}), "Failed", true),
        (metadata(59), "Running", true),
        (metadata(61), "Running", false),
    ] {
        let object = json!({"metadata": metadata, "spec": {"containers": []}, "status": {"phase": phase}});
        let used = used_of(Meter::Pods, &object);
        assert_eq!((&used["count/pods"], used["pods"].is_null()), (&json!("1"), over), "{object}");
    }
}

#[test]
fn services_and_claims_use_their_kinds() {
    let service = |spec: Value| used_of(Meter::Services, &json!({"spec": spec}));
    let ports = json!([{"port": 1}, {"port": 2, "nodePort": 30001}]);
    for (spec, node_ports, balancers) in [
        (json!({"type": "ClusterIP", "ports": ports}), "0", "0"),
        (json!({"type": "NodePort", "ports": ports}), "2", "0"),
        (json!({"type": "LoadBalancer", "ports": ports}), "2", "1"),
        (json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}), "1", "1"),
    ] {
        let used = service(spec.clone());
        assert_eq!(
            used,
            json!({"count/services": "1", "services": "1", "services.nodeports": node_ports,
                "services.loadbalancers": balancers}),
            "{spec}"
        );
    }
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1.5"}}},
        "status": {"allocatedResources": {"storage": "3"}}});
    assert_eq!(
        used_of(Meter::Claims, &claim),
        json!({"count/persistentvolumeclaims": "1", "persistentvolumeclaims": "1", "requests.storage": "3",
            "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            "gold.storageclass.storage.k8s.io/requests.storage": "3"})
    );
}

#[test]
fn a_pod_that_is_given_an_end_goes_over_to_other_quotas() {
    let plain = pod(json!({"containers": [{"name": "c"}]}));
    let ends = pod(json!({"activeDeadlineSeconds": 5, "containers": [{"name": "c"}]}));
    let handles = |subresource, object, old| Meter::Pods.handles(subresource, object, old);
    assert!(handles("", &plain, &Value::Null) && !handles("", &plain, &plain) && !handles("", &ends, &ends));
    assert!(handles("", &ends, &plain) && handles("", &plain, &ends) && !handles("status", &ends, &plain));
    assert!(handles("resize", &plain, &plain));

    let of = |scope: &str, used: &str| {
        quota(json!({"hard": {"pods": "1"}, "scopes": [scope]}), json!({"pods": used}))
    };
    let given = Request { old: &plain, ..new(Meter::Pods, &ends) };
    let charges = charge(&[of("NotTerminating", "1"), of("Terminating", "0")], &given, &[]).unwrap();
    assert_eq!((charges.len(), charges[0].0, text(&charges[0].1)), (1, 1, json!({"pods": "1"})));
    let full = [of("NotTerminating", "1"), of("Terminating", "1")];
    assert!(matches!(charge(&full, &given, &[]), Err(Refusal::Exceeded { .. })));
}

#[test]
fn scopes_choose_pods_and_claims() {
    let plain = pod(json!({"containers": [{"name": "c"}]}));
    let asks = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]}));
    let ends = pod(json!({"activeDeadlineSeconds": 5, "containers": []}));
    let high = pod(json!({"priorityClassName": "high", "containers": []}));
    let across = pod(json!({"containers": [], "affinity": {"podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": {"namespaceSelector": {}}}]}}}));
    let of = |name: &str| json!({"scopes": [name]});
    let class = |operator: &str, values: Value| {
        json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}})
    };
    for (spec, object, want) in [
        (of("Terminating"), &ends, true),
        (of("Terminating"), &plain, false),
        (of("NotTerminating"), &plain, true),
        (of("NotTerminating"), &ends, false),
        (of("BestEffort"), &plain, true),
        (of("BestEffort"), &asks, false),
        (of("NotBestEffort"), &asks, true),
        (of("CrossNamespacePodAffinity"), &across, true),
        (of("CrossNamespacePodAffinity"), &plain, false),
        (class("Exists", json!([])), &high, true),
        (class("Exists", json!([])), &plain, false),
        (class("DoesNotExist", json!([])), &plain, true),
        (class("DoesNotExist", json!([])), &high, false),
        (class("In", json!(["low", "high"])), &high, true),
        (class("In", json!(["low"])), &high, false),
        (class("NotIn", json!(["low"])), &high, true),
        (class("NotIn", json!(["low"])), &plain, true),
        (class("NotIn", json!(["high"])), &high, false),
        (of("Unknown"), &plain, false),
    ] {
        let mut spec = spec;
        spec["hard"] = json!({"pods": "9"});
        let covered = quota(spec.clone(), json!({"pods": "0"})).covers(Meter::Pods, object);
        assert_eq!(covered, want, "{spec} {object}");
    }
    let spec = json!({"hard": {"persistentvolumeclaims": "1"}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": "In", "values": ["fast"]}]}});
    let fast = quota(spec, json!({"persistentvolumeclaims": "0"}));
    let becoming = json!({"status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "fast"}}});
    assert!(fast.covers(Meter::Claims, &becoming));
    assert!(!fast.covers(Meter::Claims, &json!({"spec": {"volumeAttributesClassName": "slow"}})));
    assert!(
        !quota(json!({"hard": {"secrets": "1"}, "scopes": ["BestEffort"]}), json!({"secrets": "0"}))
            .covers(Meter::behind("secrets").next().unwrap(), &json!({}))
    );
}

#[test]
fn a_quota_bears_only_what_it_bounds() {
    let full = quota(json!({"hard": {"pods": "2", "cpu": "1"}}), json!({"pods": "2", "cpu": "900m"}));
    let object = pod(json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "200m"}}}]}));
    let refused = charge(std::slice::from_ref(&full), &new(Meter::Pods, &object), &[]).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "exceeded quota: q, requested: cpu=200m,pods=1, used: cpu=900m,pods=2, limited: cpu=1,pods=2"
    );
    let silent =
        pod(json!({"containers": [{"name": "c"}, {"name": "b"}], "initContainers": [{"name": "a"}]}));
    let bounded = quota(json!({"hard": {"limits.cpu": "1", "memory": "1Gi", "pods": "1"}}), json!({}));
    let refused = charge(std::slice::from_ref(&bounded), &new(Meter::Pods, &silent), &[]).unwrap_err();
    assert_eq!(refused.to_string(), "failed quota: q: must specify limits.cpu for: a,b,c; memory for: a,b,c");
    let mut said = silent.clone();
    said["spec"]["resources"] = json!({"limits": {"cpu": "1"}, "requests": {"memory": "1Gi"}});
    let refused = charge(std::slice::from_ref(&bounded), &new(Meter::Pods, &said), &[]).unwrap_err();
    assert_eq!(refused.to_string(), "status unknown for quota: q, resources: limits.cpu,memory,pods");

    let secrets = Meter::behind("secrets").next().unwrap();
    let quotas = [
        full,
        quota(
            json!({"hard": {"secrets": "1", "count/secrets": "9"}}),
            json!({"secrets": "0", "count/secrets": "3"}),
        ),
    ];
    let charges = charge(&quotas, &new(secrets, &json!({})), &[]).unwrap();
    assert_eq!(charges.len(), 1);
    assert_eq!((charges[0].0, text(&charges[0].1)), (1, json!({"secrets": "1", "count/secrets": "4"})));
}

#[test]
fn a_quota_that_was_never_counted_holds_by_its_spec() {
    let unknown = |status: Value| {
        let object = json!({"metadata": {"name": "q"}, "spec": {"hard": {"secrets": "1", "pods": "1"}}, "status": status});
        let secrets = Meter::behind("secrets").next().unwrap();
        charge(&[Quota::read(&object)], &new(secrets, &json!({})), &[])
    };
    let refusal = |soon| Err(Refusal::Unknown { quota: "q".to_owned(), names: "secrets".to_owned(), soon });
    assert_eq!(unknown(json!({})), refusal(true));
    assert_eq!(unknown(json!({"hard": {"secrets": "1"}})), refusal(false), "nobody could count it");
    assert_eq!(
        unknown(json!({"hard": {"pods": "1"}})),
        Ok(Vec::new()),
        "a bound counts once it is taken over"
    );
}

#[test]
fn what_is_limited_needs_a_quota_that_covers_it() {
    let limited = |resource: &str, contains: &[&str], scopes: Value| {
        let contains = contains.iter().map(|&part| part.to_owned()).collect();
        Limited::new(String::new(), resource.to_owned(), contains, scopes.as_array().unwrap())
    };
    let refused = |quotas: &[Quota], request: &Request<'_>, limited: Limited| {
        charge(quotas, request, &[limited])
            .map(|charges| charges.len())
            .map_err(|refusal| refusal.to_string())
    };
    let object = pod(json!({"priorityClassName": "high", "containers": [
        {"name": "c", "resources": {"requests": {"cpu": "1", "example.com/gpu": "2", "memory": "0"}}}]}));
    let made = new(Meter::Pods, &object);
    let gpus = || limited("pods", &["gpu", "memory"], json!([]));
    let pods = quota(json!({"hard": {"pods": "5"}}), json!({"pods": "0"}));
    let gpu =
        quota(json!({"hard": {"requests.example.com/gpu": "2"}}), json!({"requests.example.com/gpu": "0"}));
    let lacking = Err("insufficient quota to consume: requests.example.com/gpu".to_owned());
    assert_eq!(refused(&[], &made, gpus()), lacking);
    assert_eq!(refused(std::slice::from_ref(&pods), &made, gpus()), lacking);
    assert_eq!(refused(&[pods.clone(), gpu], &made, gpus()), Ok(2));
    assert_eq!(refused(&[], &made, limited("services", &["gpu"], json!([]))), Ok(0));
    let unchanged = Request { old: &object, ..made };
    assert_eq!(refused(&[], &unchanged, gpus()), Ok(0), "an update that uses no more");

    let high = json!({"scopeName": "PriorityClass", "operator": "In", "values": ["high", "higher"]});
    let scoped = || limited("pods", &[], json!([high]));
    let outside =
        Err("insufficient quota to match these scopes: [{PriorityClass In [high higher]}]".to_owned());
    assert_eq!(refused(std::slice::from_ref(&pods), &made, scoped()), outside);
    let spec = |expression: &Value| json!({"hard": {"pods": "5"}, "scopeSelector": {"matchExpressions": [expression]}});
    let covers = quota(spec(&high), json!({"pods": "0"}));
    assert_eq!(refused(&[covers], &made, scoped()), Ok(1));
    let low = json!({"scopeName": "PriorityClass", "operator": "In", "values": ["low"]});
    assert_eq!(refused(&[quota(spec(&low), json!({"pods": "0"}))], &made, scoped()), outside);
    let other = pod(json!({"priorityClassName": "low", "containers": []}));
    assert_eq!(refused(&[], &new(Meter::Pods, &other), scoped()), Ok(0));
    assert!(scoped().concerns(Meter::Pods) && !gpus().concerns(Meter::Services));
}

#[test]
fn an_update_costs_what_it_adds() {
    let service = |kind: &str| json!({"spec": {"type": kind, "ports": [{"port": 1}]}});
    let quotas = [quota(
        json!({"hard": {"services": "1", "services.nodeports": "1"}}),
        json!({"services": "1", "services.nodeports": "0"}),
    )];
    let (plain, ported) = (service("ClusterIP"), service("NodePort"));
    let grows = Request { old: &plain, ..new(Meter::Services, &ported) };
    let charges = charge(&quotas, &grows, &[]).unwrap();
    assert_eq!(text(&charges[0].1), json!({"services": "1", "services.nodeports": "1"}));
    let shrinks = Request { old: &ported, ..new(Meter::Services, &plain) };
    assert_eq!(charge(&quotas, &shrinks, &[]), Ok(Vec::new()), "the controller gives back");

    let spec = json!({"hard": {"persistentvolumeclaims": "1"}, "scopeSelector": {"matchExpressions": [
        {"scopeName": "VolumeAttributesClass", "operator": "Exists"}]}});
    let quotas = [quota(spec, json!({"persistentvolumeclaims": "1"}))];
    let (out, inside) = (json!({"spec": {}}), json!({"spec": {"volumeAttributesClassName": "fast"}}));
    let enters = Request { old: &out, ..new(Meter::Claims, &inside) };
    assert!(
        matches!(charge(&quotas, &enters, &[]), Err(Refusal::Exceeded { .. })),
        "all of it is new to the quota"
    );
    assert_eq!(charge(&quotas, &Request { status: true, ..enters }, &[]).unwrap().len(), 1);
}

#[test]
fn a_recount_keeps_what_it_could_not_see() {
    let object = json!({"spec": {"hard": {"pods": "5", "count/widgets.example.com": "2", "secrets": "3"}},
        "status": {"hard": {"pods": "4"}, "used": {"pods": "4", "count/widgets.example.com": "1", "cpu": "1"}}});
    let mut recount = Recount::new(&object, now());
    let resources: BTreeSet<_> = recount.meters().iter().map(|m| m.resource()).collect();
    assert_eq!(resources, [("", "pods"), ("", "secrets"), ("example.com", "widgets")].into());
    recount.saw("", "pods");
    recount.count("", "pods", &pod(json!({"containers": []})), &NONE);
    recount.count("", "pods", &json!({"status": {"phase": "Failed"}}), &NONE);
    recount.saw("", "secrets");
    recount.count_all("", "secrets", 7);
    let status = recount.status(&object).unwrap();
    assert_eq!(
        status,
        json!({"hard": object["spec"]["hard"],
            "used": {"pods": "1", "secrets": "7", "count/widgets.example.com": "1"}})
    );
    let mut settled = object.clone();
    settled["status"] = status;
    assert_eq!(recount.status(&settled), None);
}

proptest! {
    /// Whatever is charged in whatever order, no bound is passed, and a recount finds what was charged.
    #[test]
    fn charges_never_pass_a_bound(asks in prop::collection::vec((0_i64..900, 0_i64..900), 0..20)) {
        let mut object = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "9", "cpu": "3", "limits.cpu": "4"}},
            "status": {"hard": {"pods": "9", "cpu": "3", "limits.cpu": "4"}, "used": {"pods": "0", "cpu": "0", "limits.cpu": "0"}}});
        let mut recount = Recount::new(&object, now());
        recount.saw("", "pods");
        for (request, limit) in asks {
            let resources = json!({"requests": {"cpu": format!("{request}m")}, "limits": {"cpu": format!("{limit}m")}});
            let made = pod(json!({"containers": [{"name": "c", "resources": resources}]}));
            if let Ok(charges) = charge(&[Quota::read(&object)], &new(Meter::Pods, &made), &[]) {
                object["status"]["used"] = text(&charges[0].1);
                recount.count("", "pods", &made, &NONE);
            }
            let now = Quota::read(&object);
            prop_assert!(now.hard.iter().all(|(name, hard)| now.used[name] <= *hard));
        }
        prop_assert_eq!(recount.status(&object), None);
    }

    /// No shape of object makes it panic.
    #[test]
    fn odd_shapes_cost_something_or_nothing(at in 0_usize..6, with in 0_usize..6) {
        let odd = [json!(null), json!(7), json!([1]), json!({"spec": 7, "status": [], "metadata": "x"}),
            json!({"spec": {"containers": [7, {"resources": 7}], "initContainers": {}, "overhead": [], "affinity": 1, "ports": 7}}),
            json!({"spec": {"hard": {"pods": 7, "cpu": "x"}, "scopes": 7, "scopeSelector": {"matchExpressions": [7]}}, "status": {"hard": {"pods": "1"}}})];
        let quotas = [Quota::read(&odd[at])];
        for meter in [Meter::Pods, Meter::Services, Meter::Claims, Meter::Objects { group: "", resource: "secrets" }] {
            // Only that it answers is looked at.
            let _ = charge(&quotas, &Request { old: &odd[at], ..new(meter, &odd[with]) }, &[]);
        }
        let _ = Recount::new(&odd[at], now()).status(&odd[with]);
    }
}
