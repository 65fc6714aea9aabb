use std::sync::Arc;

use serde_json::{Value, json};

use super::*;

fn service(change: impl Fn(&mut Value)) -> Service {
    let mut service = json!({
        "metadata": {"name": "web", "namespace": "ns", "uid": "s"},
        "spec": {"clusterIP": "10.96.0.7", "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}]},
    });
    change(&mut service);
    serde_json::from_value(service).expect("a service")
}

fn pod(name: &str, ip: &str, change: impl Fn(&mut Value)) -> Arc<Pod> {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "ns", "uid": name, "labels": {"app": "web"}},
        "spec": {"nodeName": "n1", "containers": [{"name": "c", "ports": [{"name": "web", "containerPort": 8080}]}]},
        "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": "True"}]},
    });
    change(&mut pod);
    Arc::new(serde_json::from_value(pod).expect("a pod"))
}

/// What one slice says: ports, then each address with `+` if ready, `-` if not, `~` if going but serving.
fn told(slice: &EndpointSlice) -> String {
    let ports: Vec<_> = slice.ports.iter().flatten().map(|p| p.port.unwrap_or(0).to_string()).collect();
    let mut text = format!("{}:", ports.join(","));
    for endpoint in slice.endpoints.iter().flatten() {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let mark = match (conditions.ready, conditions.serving, conditions.terminating) {
            (Some(true), ..) => '+',
            (_, Some(true), Some(true)) => '~',
            _ => '-',
        };
        text.push_str(&format!(" {}{mark}", endpoint.addresses[0]));
    }
    text
}

fn steps(actions: Vec<slices::Action>) -> Vec<String> {
    actions
        .into_iter()
        .map(|a| match a {
            slices::Action::Create(s) => format!("create {}", told(&s)),
            slices::Action::Update(s) => format!("update {}", told(&s)),
            slices::Action::Delete(s) => format!("delete {}", told(&s)),
        })
        .collect()
}

fn planned(service: &Service, pods: &[Arc<Pod>], present: &[Arc<EndpointSlice>]) -> Vec<String> {
    steps(slices::plan(&Subject::of(service), &backends(service, pods), present))
}

/// The slices after the first plan.
fn made(service: &Service, pods: &[Arc<Pod>]) -> Vec<Arc<EndpointSlice>> {
    let plan = slices::plan(&Subject::of(service), &backends(service, pods), &[]);
    plan.into_iter()
        .map(|a| if let slices::Action::Create(s) = a { Arc::from(s) } else { panic!("creates only") })
        .collect()
}

#[test]
fn pods_become_endpoints_by_their_state() {
    let going = |p: &mut Value| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    let unready = |p: &mut Value| p["status"]["conditions"][0]["status"] = json!("False");
    let pods = [
        pod("a", "10.0.0.1", |_| {}),
        pod("b", "10.0.0.2", unready),
        pod("c", "10.0.0.3", going),
        pod("d", "10.0.0.4", |p| p["status"]["phase"] = json!("Failed")),
        pod("e", "", |_| {}),
        pod("f", "10.0.0.6", |p| p["metadata"]["labels"]["app"] = json!("db")),
    ];
    assert_eq!(planned(&service(|_| {}), &pods, &[]), ["create 8080: 10.0.0.1+ 10.0.0.2- 10.0.0.3~"]);
    let all = service(|s| s["spec"]["publishNotReadyAddresses"] = json!(true));
    assert_eq!(planned(&all, &pods, &[]), ["create 8080: 10.0.0.1+ 10.0.0.2+ 10.0.0.3+"]);
}

#[test]
fn named_ports_may_differ_by_pod() {
    let pods = [
        pod("a", "10.0.0.1", |_| {}),
        pod("b", "10.0.0.2", |p| p["spec"]["containers"][0]["ports"][0]["containerPort"] = json!(9090)),
    ];
    assert_eq!(planned(&service(|_| {}), &pods, &[]), ["create 8080: 10.0.0.1+", "create 9090: 10.0.0.2+"]);
}

#[test]
fn slices_are_changed_in_place_and_nothing_is_written_twice() {
    let s = service(|_| {});
    let (a, b) = (pod("a", "10.0.0.1", |_| {}), pod("b", "10.0.0.2", |_| {}));
    let both = made(&s, &[a.clone(), b.clone()]);
    assert_eq!(planned(&s, &[a.clone(), b.clone()], &both), [""; 0]);
    assert_eq!(planned(&s, std::slice::from_ref(&b), &both), ["update 8080: 10.0.0.2+"]);
    assert_eq!(planned(&s, &[], &both), ["create :", "delete 8080: 10.0.0.1+ 10.0.0.2+"]);
    let none = made(&s, &[]);
    assert_eq!(planned(&s, &[], &none), [""; 0], "an empty slice stands for none");
    assert_eq!(planned(&s, &[a], &none), ["create 8080: 10.0.0.1+", "delete :"]);
}

#[test]
fn a_slice_holds_a_hundred() {
    let s = service(|_| {});
    let pods: Vec<_> = (0..250)
        .map(|i| pod(&format!("p{i:03}"), &format!("10.0.{}.{}", i / 250, i % 250 + 1), |_| {}))
        .collect();
    let sizes = |slices: &[Arc<EndpointSlice>]| -> Vec<usize> {
        slices.iter().map(|s| s.endpoints.as_ref().map_or(0, Vec::len)).collect()
    };
    let slices = made(&s, &pods);
    assert_eq!(sizes(&slices), [100, 100, 50]);
    // One goes and one comes: one slice changes.
    let mut next = pods[1..].to_vec();
    next.push(pod("new", "10.0.9.9", |_| {}));
    assert_eq!(planned(&s, &next, &slices).len(), 1);
}

#[test]
fn hostnames_are_those_of_the_service_s_own_domain() {
    let named = |subdomain: &'static str| {
        pod("a", "10.0.0.1", move |p| {
            p["spec"]["hostname"] = json!("db-0");
            p["spec"]["subdomain"] = json!(subdomain);
        })
    };
    let hostname =
        |p: Arc<Pod>| made(&service(|_| {}), &[p])[0].endpoints.as_ref().and_then(|e| e[0].hostname.clone());
    assert_eq!(hostname(named("web")).as_deref(), Some("db-0"));
    assert_eq!(hostname(named("other")), None);
}

#[test]
fn endpoints_show_ready_and_unready_addresses_and_settle() {
    let s = service(|_| {});
    let pods = [
        pod("b", "10.0.0.2", |_| {}),
        pod("a", "10.0.0.1", |_| {}),
        pod("c", "10.0.0.3", |p| p["status"]["conditions"][0]["status"] = json!("False")),
        pod("d", "10.0.0.4", |p| p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")),
    ];
    let made = legacy::plan(&s, &backends(&s, &pods), None).expect("something to write");
    let subsets = made.subsets.clone().unwrap_or_default();
    assert_eq!(subsets.len(), 1);
    let ips = |a: &Option<Vec<k8s_openapi::api::core::v1::EndpointAddress>>| -> Vec<String> {
        a.iter().flatten().map(|a| a.ip.clone()).collect()
    };
    assert_eq!(ips(&subsets[0].addresses), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(ips(&subsets[0].not_ready_addresses), ["10.0.0.3"]);
    assert_eq!(legacy::plan(&s, &backends(&s, &pods), Some(&made)), None);
}

#[test]
fn services_without_a_selector_are_their_owners_own() {
    assert!(is_selected(&service(|_| {})));
    assert!(!is_selected(&service(|s| s["spec"]["selector"] = json!({}))));
    assert!(!is_selected(&service(|s| s["spec"]["type"] = json!("ExternalName"))));
}

#[test]
fn what_somebody_wrote_into_endpoints_is_mirrored() {
    let endpoints = |change: &dyn Fn(&mut Value)| -> Endpoints {
        let mut endpoints = json!({
            "metadata": {"name": "web", "namespace": "ns", "uid": "e", "labels": {"mine": "yes", "service.kubernetes.io/headless": ""}},
            "subsets": [
                {"addresses": [{"ip": "192.0.2.1"}], "notReadyAddresses": [{"ip": "192.0.2.2"}], "ports": [{"name": "http", "port": 80}]},
                {"addresses": [{"ip": "2001:db8::1"}], "ports": [{"name": "http", "port": 80}]},
                {"addresses": [{"ip": "192.0.2.3"}], "ports": [{"name": "http", "port": 81}]}],
        });
        change(&mut endpoints);
        serde_json::from_value(endpoints).expect("endpoints")
    };
    let plan = |e: &Endpoints, present: &[Arc<EndpointSlice>]| {
        slices::plan(&mirror::subject(e), &mirror::backends(e), present)
    };
    let all = endpoints(&|_| {});
    let made: Vec<Arc<EndpointSlice>> = plan(&all, &[])
        .into_iter()
        .map(|a| if let slices::Action::Create(s) = a { Arc::from(s) } else { panic!("creates only") })
        .collect();
    let shown: Vec<String> = made.iter().map(|s| format!("{} {}", s.address_type, told(s))).collect();
    assert_eq!(shown, ["IPv4 80: 192.0.2.1+ 192.0.2.2-", "IPv4 81: 192.0.2.3+", "IPv6 80: 2001:db8::1+"]);
    let labels: Vec<&String> = made[0].metadata.labels.iter().flatten().map(|(name, _)| name).collect();
    assert_eq!(labels, [slices::MANAGED_BY, slices::SERVICE_NAME, "mine"]);
    assert_eq!(managed_for(&made[0], mirror::MANAGER), Some("web"));
    assert_eq!(managed_for(&made[0], slices::MANAGER), None);
    assert_eq!(steps(plan(&all, &made)), [""; 0]);
    let none = endpoints(&|e| e["subsets"] = json!([]));
    assert_eq!(steps(plan(&none, &made)).len(), 3, "no slice stands for none");

    let own = service(|s| s["spec"]["selector"] = json!(null));
    assert!(mirror::is_mirrored(&own, &all));
    assert!(!mirror::is_mirrored(&service(|_| {}), &all), "its selector says where it leads");
    assert!(!mirror::is_mirrored(&service(|s| s["spec"] = json!({"type": "ExternalName"})), &all));
    let leader = endpoints(&|e| {
        e["metadata"]["annotations"] = json!({"control-plane.alpha.kubernetes.io/leader": "me"})
    });
    assert!(!mirror::is_mirrored(&own, &leader));
}

#[test]
fn hints_tell_who_an_endpoint_is_meant_for() {
    let unready = |p: &mut Value| p["status"]["conditions"][0]["status"] = json!("False");
    let pods = [pod("a", "10.0.0.1", |_| {}), pod("b", "10.0.0.2", unready)];
    let told = |distribution: Value, zone: Option<&str>| -> Vec<String> {
        let service = service(|s| s["spec"]["trafficDistribution"] = distribution.clone());
        let mut backends = backends(&service, &pods);
        backends.iter_mut().for_each(|b| b.zone = zone.map(str::to_owned));
        let plan = slices::plan(&Subject::of(&service), &backends, &[]);
        let [slices::Action::Create(slice)] = &plan[..] else { panic!("one slice") };
        let hints = slice.endpoints.iter().flatten().map(|e| {
            assert_eq!(e.zone.as_deref(), zone);
            let hints = e.hints.clone().unwrap_or_default();
            let zones = hints.for_zones.into_iter().flatten().map(|z| z.name);
            zones.chain(hints.for_nodes.into_iter().flatten().map(|n| n.name)).collect::<Vec<_>>().join("+")
        });
        hints.collect()
    };
    assert_eq!(told(json!(null), Some("z")), ["", ""]);
    assert_eq!(told(json!("PreferClose"), Some("z")), ["z", ""]);
    assert_eq!(told(json!("PreferSameZone"), Some("z")), ["z", ""]);
    assert_eq!(told(json!("PreferSameZone"), None), ["", ""]);
    assert_eq!(told(json!("PreferSameNode"), Some("z")), ["z+n1", ""]);
    assert_eq!(told(json!("PreferSameNode"), None), ["n1", ""]);
}

#[test]
fn endpoints_have_the_first_family_and_slices_have_both() {
    let both = |p: &mut Value| p["status"]["podIPs"] = json!([{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]);
    let pods = [pod("a", "10.0.0.1", both)];
    let told = |families: Value| {
        let service = service(|s| s["spec"]["ipFamilies"] = families.clone());
        let slices: Vec<String> = made(&service, &pods)
            .iter()
            .map(|s| format!("{} {}", s.address_type, super::tests::told(s)))
            .collect();
        let legacy = legacy::plan(&service, &backends(&service, &pods), None).expect("something to write");
        let subsets = legacy.subsets.into_iter().flatten();
        let addresses: Vec<String> =
            subsets.flat_map(|s| s.addresses.into_iter().flatten()).map(|a| a.ip).collect();
        (slices.join(", "), addresses.join(" "))
    };
    let (four, six) = ("IPv4 8080: 10.0.0.1+", "IPv6 8080: fd00::1+");
    assert_eq!(told(json!(["IPv4"])), (four.to_owned(), "10.0.0.1".to_owned()));
    assert_eq!(told(json!(["IPv6", "IPv4"])), (format!("{four}, {six}"), "fd00::1".to_owned()));
}

#[test]
fn more_than_fits_is_left_out() {
    let s = service(|_| {});
    let unready = |p: &mut Value| p["status"]["conditions"][0]["status"] = json!("False");
    let pods: Vec<_> = (0..1001)
        .map(|i| {
            let ip = format!("10.0.{}.{}", i / 250, i % 250 + 1);
            if i == 0 { pod("p0", &ip, unready) } else { pod(&format!("p{i}"), &ip, |_| {}) }
        })
        .collect();
    let made = legacy::plan(&s, &backends(&s, &pods), None).expect("something to write");
    let annotations = made.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["endpoints.kubernetes.io/over-capacity"], "truncated");
    let subset = &made.subsets.as_ref().expect("subsets")[0];
    assert_eq!((subset.addresses.as_ref().map(Vec::len), &subset.not_ready_addresses), (Some(1000), &None));

    let addresses: Vec<Value> =
        (0..1001).map(|i| json!({"ip": format!("10.0.{}.{}", i / 250, i % 250 + 1)})).collect();
    let own: Endpoints = serde_json::from_value(
        json!({"metadata": {"name": "web"}, "subsets": [{"addresses": addresses}, {"addresses": [{"ip": "10.1.0.1"}]}]}),
    )
    .expect("endpoints");
    assert_eq!(mirror::backends(&own).len(), 1001, "a thousand of the one subset, and the other's");
}
