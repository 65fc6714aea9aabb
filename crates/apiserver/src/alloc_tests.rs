use super::*;

fn services() -> Services {
    Services::new("10.96.0.0/16".parse().unwrap(), 30000..=32767)
}

fn service(spec: Value) -> Value {
    json!({"metadata": {"name": "s"}, "spec": spec})
}

fn assigned(mut service: Value, old: &Value, taken: &[Key]) -> Result<Value, Vec<String>> {
    match services().assign(&mut service, old, &|key| taken.contains(key)) {
        Ok(()) => Ok(service["spec"].clone()),
        Err(errors) => Err(errors.iter().map(ToString::to_string).collect()),
    }
}

#[test]
fn an_address_is_picked_from_the_upper_part() {
    let spec = assigned(service(json!({"type": "ClusterIP"})), &Value::Null, &[]).unwrap();
    let address: Ipv4Addr = spec["clusterIP"].as_str().unwrap().parse().unwrap();
    assert!(address > Ipv4Addr::new(10, 96, 1, 0) && services().contains(address.into()), "{address}");
    assert_eq!(spec["clusterIPs"], json!([address.to_string()]));
    assert_eq!((&spec["ipFamilies"], &spec["ipFamilyPolicy"]), (&json!(["IPv4"]), &json!("SingleStack")));
}

#[test]
fn small_ranges_are_used_up() {
    let services = Services::new("10.0.0.0/29".parse().unwrap(), 30000..=30001);
    let mut taken = Vec::new();
    while let Some(address) = services.pick_address(&|key| taken.contains(key)) {
        taken.push(address_key(address));
    }
    taken.sort();
    let all: Vec<Key> = (1..=6).map(|n| address_key(IpAddr::from([10, 0, 0, n]))).collect();
    assert_eq!(taken, all);
}

#[test]
fn a_wish_is_checked() {
    let wish = |ip: &str| service(json!({"type": "ClusterIP", "clusterIP": ip}));
    let taken = [address_key(IpAddr::from([10, 96, 0, 10]))];
    assert_eq!(assigned(wish("10.96.0.11"), &Value::Null, &taken).unwrap()["clusterIP"], "10.96.0.11");
    assert_eq!(
        assigned(wish("10.96.0.10"), &Value::Null, &taken).unwrap_err(),
        [
            "spec.clusterIPs: Invalid value: [\"10.96.0.10\"]: failed to allocate IP 10.96.0.10: provided IP is already allocated"
        ]
    );
    assert_eq!(
        assigned(wish("1.2.3.4"), &Value::Null, &taken).unwrap_err(),
        [
            "spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the provided IP (1.2.3.4) is not in the valid range. The range of valid IPs is 10.96.0.0/16"
        ]
    );
}

#[test]
fn headless_and_external_services_need_no_address() {
    let headless = service(json!({"type": "ClusterIP", "clusterIP": "None"}));
    let spec = assigned(headless, &Value::Null, &[]).unwrap();
    assert_eq!(spec["clusterIPs"], json!(["None"]));
    assert!(services().claims(&service(spec)).is_empty());
    let external = json!({"type": "ExternalName", "externalName": "x"});
    assert_eq!(assigned(service(external.clone()), &Value::Null, &[]).unwrap(), external);
}

#[test]
fn families_are_those_of_the_cluster() {
    let of = |spec: Value, old: Value| match assigned(service(spec), &service(old), &[]) {
        Ok(spec) => Ok((spec["ipFamilyPolicy"].clone(), spec["ipFamilies"].clone())),
        Err(errors) => Err(errors.join("; ")),
    };
    let made = |spec: Value| of(spec, Value::Null);
    let is = |policy: &str, families: &[&str]| Ok((json!(policy), json!(families)));
    let kind = "ClusterIP";
    assert_eq!(
        made(json!({"type": kind, "ipFamilyPolicy": "PreferDualStack"})),
        is("PreferDualStack", &["IPv4"])
    );
    assert_eq!(
        made(json!({"type": kind, "clusterIP": "None", "selector": {"a": "b"}})),
        is("SingleStack", &["IPv4"])
    );
    // Who writes the endpoints of a headless Service without selector may use both.
    let free = json!({"type": kind, "clusterIP": "None"});
    assert_eq!(made(free.clone()), is("RequireDualStack", &["IPv4", "IPv6"]));
    let both = json!({"type": kind, "clusterIP": "None", "clusterIPs": ["None"],
        "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
    let changed = |field: &str, value: Value| {
        let mut spec = both.clone();
        spec[field] = value;
        of(spec, both.clone())
    };
    assert_eq!(changed("ipFamilyPolicy", json!("SingleStack")), is("SingleStack", &["IPv4"]));
    assert_eq!(of(free, both.clone()), is("RequireDualStack", &["IPv4", "IPv6"]));
    assert_eq!(
        changed("ipFamilies", json!(["IPv4"])).unwrap_err(),
        "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary IP family"
    );
    for (spec, why) in [
        (
            json!({"type": kind, "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        ),
        (
            json!({"type": kind, "ipFamilies": ["IPv6"]}),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        ),
        (
            json!({"type": kind, "ipFamilies": ["IPv4", "IPv6"]}),
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
        ),
        (
            json!({"type": kind, "clusterIP": "fd00::1"}),
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        ),
    ] {
        assert!(made(spec).unwrap_err().starts_with(why), "{why}");
    }
}

#[test]
fn an_update_keeps_what_it_does_not_mention() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}));
    let claims = services().claims(&old);
    let taken: Vec<Key> = claims.iter().cloned().collect();
    let new = service(json!({"type": "NodePort", "ports": [
        {"port": 80, "protocol": "TCP"}, {"port": 80, "protocol": "UDP"}]}));
    // The object's own claims are no conflict, for only keys that are new are written.
    let spec = assigned(new, &old, &[]).unwrap();
    assert_eq!(spec["clusterIP"], "10.96.9.9");
    assert_eq!(spec["ports"][0]["nodePort"], 30080);
    assert_eq!(spec["ports"][1]["nodePort"], 30080);
    assert_eq!(services().claims(&service(spec)), claims);
    assert_eq!(taken.len(), 2);
}

#[test]
fn what_a_type_does_not_have_goes_with_it() {
    let old = service(json!({"type": "NodePort", "clusterIP": "10.96.9.9", "clusterIPs": ["10.96.9.9"],
        "ports": [{"port": 80, "protocol": "TCP", "nodePort": 30080}]}));
    let mut new = old.clone();
    new["spec"]["type"] = "ClusterIP".into();
    let spec = assigned(new, &old, &[]).unwrap();
    assert_eq!(spec["ports"], json!([{"port": 80, "protocol": "TCP"}]));
    let mut new = old.clone();
    new["spec"] = json!({"type": "ExternalName", "externalName": "x", "clusterIP": "10.96.9.9",
        "clusterIPs": ["10.96.9.9"]});
    assert_eq!(assigned(new, &old, &[]).unwrap(), json!({"type": "ExternalName", "externalName": "x"}));
}

#[test]
fn node_ports_are_checked_and_picked() {
    let wish = |port: u16| service(json!({"type": "NodePort", "ports": [{"port": 1, "nodePort": port}]}));
    assert_eq!(
        assigned(wish(80), &Value::Null, &[]).unwrap_err(),
        [
            "spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767"
        ]
    );
    assert_eq!(
        assigned(wish(30001), &Value::Null, &[port_key(30001)]).unwrap_err(),
        ["spec.ports[0].nodePort: Invalid value: 30001: provided port is already allocated"]
    );
    let two = service(json!({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}));
    let spec = assigned(two, &Value::Null, &[]).unwrap();
    assert_ne!(spec["ports"][0]["nodePort"], spec["ports"][1]["nodePort"]);
    let local = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 1}]});
    assert!(assigned(service(local), &Value::Null, &[]).unwrap()["healthCheckNodePort"].is_u64());
}
