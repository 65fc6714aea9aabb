use super::*;
use crate::proxy::model::{Hints, Node, ServicePort, SlicePort};

const NODE: &str = "here";
const PLACE: Place<'_> = Place { node: NODE, zone: Some("z1") };

fn service() -> Service {
    Service {
        cluster_ips: vec![Ipv4Addr::new(10, 96, 0, 7)],
        external_ips: vec![Ipv4Addr::new(192, 0, 2, 7)],
        ports: vec![ServicePort {
            name: "web".into(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30_080),
        }],
        ..Service::default()
    }
}

fn slice(name: &str, port: u16, endpoints: &[(u8, Condition, &str)]) -> Box<Slice> {
    Box::new(Slice {
        service: None,
        ports: vec![SlicePort { name: name.into(), protocol: Protocol::Tcp, port }],
        endpoints: endpoints
            .iter()
            .map(|(last, condition, node)| Endpoint {
                address: Ipv4Addr::new(10, 244, 0, *last),
                condition: *condition,
                node: Some((*node).into()),
                hints: Hints::default(),
            })
            .collect(),
    })
}

const VIP: &str = "10.96.0.7:80";
const EXTERNAL: &str = "192.0.2.7:80";
const NODE_PORT: &str = "0.0.0.0:30080";

/// The routes by their frontends' text, endpoints as their addresses' last numbers.
fn planned(service: &Service, slices: &[Box<Slice>]) -> BTreeMap<String, String> {
    routes(service, slices, PLACE)
        .into_iter()
        .map(|(frontend, route)| {
            let list = |endpoints: &[SocketAddrV4]| {
                let list = endpoints.iter().map(|e| format!("{}:{}", e.ip().octets()[3], e.port()));
                list.collect::<Vec<_>>().join(" ")
            };
            let text = match route {
                Route::Reject => "reject".to_owned(),
                Route::Drop => "drop".to_owned(),
                Route::Local { here, anywhere, .. } => {
                    format!("{}; inside {}", list(&here), list(&anywhere))
                }
                Route::Endpoints { endpoints, masquerade, .. } => {
                    format!("{}{}", list(&endpoints), if masquerade { " masqueraded" } else { "" })
                }
            };
            (format!("{}:{}", frontend.address, frontend.port), text)
        })
        .collect()
}

fn expect(service: &Service, slices: &[Box<Slice>], expected: [(&str, &str); 3]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert_eq!(planned(service, slices), expected);
}

use Condition::{Ready, ServingTerminating, Unusable};

#[test]
fn every_address_leads_to_the_ready_endpoints_of_all_slices() {
    let slices = [
        slice("web", 8080, &[(3, Ready, NODE), (2, Ready, "there"), (4, Unusable, NODE)]),
        slice("web", 8081, &[(5, Ready, NODE), (5, Ready, NODE)]),
        slice("other", 9090, &[(6, Ready, NODE)]),
    ];
    let all = "2:8080 3:8080 5:8081";
    let outside = "2:8080 3:8080 5:8081 masqueraded";
    expect(&service(), &slices, [(VIP, all), (EXTERNAL, outside), (NODE_PORT, outside)]);
}

#[test]
fn a_terminating_endpoint_serves_only_when_none_is_ready() {
    let both = [slice("web", 80, &[(2, Ready, NODE), (3, ServingTerminating, NODE)])];
    assert_eq!(planned(&service(), &both)[VIP], "2:80");
    let last = [slice("web", 80, &[(2, Unusable, NODE), (3, ServingTerminating, NODE)])];
    assert_eq!(planned(&service(), &last)[VIP], "3:80");
}

#[test]
fn without_endpoints_all_is_refused() {
    let none = [slice("web", 80, &[(2, Unusable, NODE)])];
    expect(&service(), &none, [(VIP, "reject"), (EXTERNAL, "reject"), (NODE_PORT, "reject")]);
}

#[test]
fn local_policies_keep_to_this_node_and_are_silent_where_another_could_answer() {
    let elsewhere = [slice("web", 80, &[(2, Ready, "there")])];
    let both = [slice("web", 80, &[(2, Ready, "there"), (3, Ready, NODE)])];
    let external = Service { external_local: true, ..service() };
    let (some, none) = ("3:80; inside 2:80 3:80", "; inside 2:80");
    expect(&external, &both, [(VIP, "2:80 3:80"), (EXTERNAL, some), (NODE_PORT, some)]);
    expect(&external, &elsewhere, [(VIP, "2:80"), (EXTERNAL, none), (NODE_PORT, none)]);
    expect(&external, &[], [(VIP, "reject"), (EXTERNAL, "reject"), (NODE_PORT, "reject")]);
    let internal = Service { internal_local: true, ..service() };
    assert_eq!(planned(&internal, &both)[VIP], "3:80");
    assert_eq!(planned(&internal, &elsewhere)[VIP], "drop");
    assert_eq!(planned(&internal, &[])[VIP], "reject");
}

#[test]
fn what_terminates_here_is_better_than_what_is_ready_elsewhere_where_the_policy_is_local() {
    let slices =
        [slice("web", 80, &[(2, Ready, "there"), (3, ServingTerminating, NODE), (4, Unusable, NODE)])];
    let local = Service { external_local: true, internal_local: true, ..service() };
    let (external, internal) = ("3:80; inside 2:80", "3:80");
    expect(&local, &slices, [(VIP, internal), (EXTERNAL, external), (NODE_PORT, external)]);
}

#[test]
fn hints_narrow_what_is_anywhere_and_nothing_else() {
    let mut near = slice("web", 80, &[(2, Ready, "there"), (3, Ready, NODE), (4, Ready, "beside")]);
    for (endpoint, zone) in near.endpoints.iter_mut().zip(["z2", "z2", "z1"]) {
        endpoint.hints.zones = [zone.into()].into();
    }
    let slices = [near];
    let outside = "4:80 masqueraded";
    expect(&service(), &slices, [(VIP, "4:80"), (EXTERNAL, outside), (NODE_PORT, outside)]);
    let local = Service { external_local: true, internal_local: true, ..service() };
    let external = "3:80; inside 4:80";
    expect(&local, &slices, [(VIP, "3:80"), (EXTERNAL, external), (NODE_PORT, external)]);
}

#[test]
fn affinity_is_passed_on() {
    let sticky = Service { affinity: Some(60), ..service() };
    let planned = routes(&sticky, &[slice("web", 80, &[(2, Ready, NODE)])], PLACE);
    assert!(planned.values().all(|r| matches!(r, Route::Endpoints { affinity: Some(60), .. })));
}

#[test]
fn only_the_load_balancer_s_addresses_have_guards() {
    let nets: Arc<[Ipv4Net]> = vec![Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24)].into();
    let balanced = vec![Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(192, 0, 2, 7)];
    let guarded = Service { balanced, sources: Some(nets.clone()), ..service() };
    let planned = routes(&guarded, &[slice("web", 80, &[(2, Ready, NODE)])], PLACE);
    let guards: BTreeMap<String, bool> = planned
        .into_iter()
        .filter_map(|(frontend, route)| match route {
            Route::Endpoints { sources, .. } => {
                Some((frontend.address.to_string(), sources == Some(nets.clone())))
            }
            _ => None,
        })
        .collect();
    let want = [("0.0.0.0", false), ("10.96.0.7", false), ("192.0.2.7", true), ("198.51.100.1", true)];
    assert_eq!(guards, want.map(|(address, guarded)| (address.to_owned(), guarded)).into());
}

mod projection {
    use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
    use serde_json::json;

    use super::*;

    fn project(spec: serde_json::Value) -> Service {
        let object = json!({"metadata": {"name": "s"}, "spec": spec, "status": {"loadBalancer": {"ingress": [
            {"ip": "198.51.100.1"}, {"ip": "198.51.100.2", "ipMode": "Proxy"}, {"hostname": "elsewhere"}]}}});
        Service::project(serde_json::from_value::<v1::Service>(object).unwrap())
    }

    #[test]
    fn a_service_is_kept_as_far_as_packets_go() {
        let full = project(json!({
            "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
            "externalIPs": ["192.0.2.7"], "sessionAffinity": "ClientIP",
            "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}},
            "externalTrafficPolicy": "Local",
            "ports": [{"port": 80, "nodePort": 30080, "name": "web"}, {"port": 53, "protocol": "UDP"}],
        }));
        assert_eq!(full.cluster_ips, [Ipv4Addr::new(10, 96, 0, 7)]);
        assert_eq!(full.external_ips, [Ipv4Addr::new(192, 0, 2, 7)]);
        assert_eq!((full.balanced, full.sources), (vec![Ipv4Addr::new(198, 51, 100, 1)], None));
        assert_eq!((full.affinity, full.external_local, full.internal_local), (Some(60), true, false));
        let port = |name: &str, protocol, port, node_port| ServicePort {
            name: name.into(),
            protocol,
            port,
            node_port,
        };
        assert_eq!(
            full.ports,
            [port("web", Protocol::Tcp, 80, Some(30_080)), port("", Protocol::Udp, 53, None)]
        );
        let ranges = |ranges: serde_json::Value| {
            let service = project(json!({"clusterIP": "10.96.0.7", "loadBalancerSourceRanges": ranges}));
            service.sources.map(|nets| nets.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        assert_eq!(ranges(json!([])), None);
        let some = ranges(json!(["192.0.2.0/25", " 192.0.2.128/25", "10.1.2.3/8", "fd00::/8"]));
        assert_eq!(some, Some(vec!["10.0.0.0/8".to_owned(), "192.0.2.0/24".to_owned()]));
        assert_eq!(ranges(json!(["fd00::/8"])), Some(Vec::new()), "nobody of this family");
        let default = project(json!({"clusterIP": "10.96.0.7", "sessionAffinity": "ClientIP"}));
        assert_eq!(default.affinity, Some(10_800));
    }

    #[test]
    fn what_has_no_address_leads_nowhere() {
        for spec in [
            json!({"clusterIP": "None", "ports": [{"port": 80}]}),
            json!({"type": "ExternalName", "externalName": "example.org", "clusterIP": "10.96.0.7"}),
            json!({"ports": [{"port": 80}]}),
            json!({"clusterIP": "fd00::7", "ports": [{"port": 80}]}),
        ] {
            assert_eq!(project(spec.clone()), Service::default(), "{spec}");
        }
    }

    #[test]
    fn a_node_is_in_service_if_it_is_ready_and_nobody_has_ruled_it_out() {
        let project = |labels: serde_json::Value, ready: &str| {
            let object = json!({"metadata": {"name": "n", "labels": labels}, "status": {
                "conditions": [{"type": "MemoryPressure", "status": "True"}, {"type": "Ready", "status": ready}],
                "addresses": [{"type": "Hostname", "address": "n"}, {"type": "InternalIP", "address": "192.0.2.1"},
                              {"type": "InternalIP", "address": "2001:db8::1"}]}});
            Node::project(serde_json::from_value::<v1::Node>(object).unwrap())
        };
        let zone = json!({"topology.kubernetes.io/zone": "z"});
        let node = project(zone, "True");
        assert_eq!((&*node.name, node.zone.as_deref(), node.in_service), ("n", Some("z"), true));
        assert_eq!(node.addresses, [Ipv4Addr::new(192, 0, 2, 1)]);
        assert!(!project(json!({}), "Unknown").in_service);
        let excluded =
            project(json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""}), "True");
        assert_eq!((excluded.in_service, excluded.zone), (false, None));
        assert_eq!(project(json!({"topology.kubernetes.io/zone": ""}), "True").zone, None);
    }

    #[test]
    fn numbers_out_of_range_are_left_out() {
        let odd = project(json!({"type": "NodePort", "clusterIP": "10.96.0.7",
            "ports": [{"port": 0}, {"port": 65536}, {"port": -1}, {"port": 80, "nodePort": 99999}]}));
        assert_eq!(odd.ports.len(), 1);
        assert_eq!(odd.ports[0].node_port, None);
    }

    #[test]
    fn conditions_default_as_documented() {
        let object = json!({
        "metadata": {"name": "s-1", "namespace": "n", "labels": {"kubernetes.io/service-name": "s"}},
        "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "conditions": {"ready": false},
             "hints": {"forZones": [{"name": "z"}], "forNodes": [{"name": "n"}]}},
            {"addresses": ["10.0.0.3"], "conditions": {"ready": false, "serving": true, "terminating": true}},
            {"addresses": ["10.0.0.4"], "conditions": {"ready": false, "serving": true}},
            {"addresses": ["10.0.0.5"], "conditions": {"ready": true, "terminating": true}},
            {"addresses": ["bad"]}, {"addresses": []},
        ]});
        let slice = Slice::project(serde_json::from_value::<discovery::EndpointSlice>(object).unwrap());
        let hinted = slice.endpoints.iter().position(|e| e.hints != Hints::default());
        assert_eq!(hinted, Some(1));
        assert_eq!(
            (&*slice.endpoints[1].hints.zones, &*slice.endpoints[1].hints.nodes),
            (&["z".into()][..], &["n".into()][..])
        );
        assert_eq!(slice.service.unwrap().to_string(), "n/s");
        let conditions: Vec<Condition> = slice.endpoints.iter().map(|e| e.condition).collect();
        assert_eq!(conditions, [Ready, Unusable, ServingTerminating, Unusable, Ready]);
    }
}

#[test]
fn endpoints_here_that_are_ready_count_once_whatever_their_ports() {
    let slices = [
        slice("web", 8080, &[(2, Ready, NODE), (3, Ready, "there"), (4, ServingTerminating, NODE)]),
        slice("more", 8081, &[(2, Ready, NODE), (5, Ready, NODE), (6, Unusable, NODE)]),
    ];
    assert_eq!(ready_here(&slices, NODE), 2);
}
