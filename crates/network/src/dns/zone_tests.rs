use std::collections::BTreeMap;

use k8s_openapi::api::{core::v1, discovery::v1 as discovery};
use serde_json::{Value, json};

use super::*;

#[derive(Default)]
struct Fixture {
    services: BTreeMap<ObjectKey, Arc<Service>>,
    slices: Vec<Arc<Slice>>,
}

impl Catalog for Fixture {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>> {
        self.services.get(key).cloned()
    }
    fn slices(&self, key: &ObjectKey) -> Vec<Arc<Slice>> {
        self.slices.iter().filter(|slice| slice.service.as_ref() == Some(key)).cloned().collect()
    }
    fn has_namespace(&self, namespace: &str) -> bool {
        self.services.keys().any(|key| &*key.namespace == namespace)
    }
    fn services_at(&self, address: IpAddr) -> Vec<ObjectKey> {
        let has = |s: &Service| matches!(&s.kind, Kind::ClusterIp(ips) if ips.contains(&address));
        self.services.iter().filter(|(_, s)| has(s)).map(|(key, _)| key.clone()).collect()
    }
    fn endpoints_at(&self, address: IpAddr) -> Vec<ObjectKey> {
        let has = |s: &&Arc<Slice>| s.endpoints.iter().any(|e| e.address == address);
        self.slices.iter().filter(has).filter_map(|s| s.service.clone()).collect()
    }
}

impl Fixture {
    fn add(&mut self, name: &str, spec: Value) {
        let object = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        let object: v1::Service = serde_json::from_value(object).unwrap();
        self.services.insert(ObjectKey::of(&object.metadata), Arc::new(Service::project(object)));
    }

    fn slice(&mut self, service: &str, ports: Value, endpoints: Value) {
        let object = json!({
            "metadata": {"name": format!("{service}-{}", self.slices.len()), "namespace": "default",
                         "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "ports": ports, "endpoints": endpoints,
        });
        let object: discovery::EndpointSlice = serde_json::from_value(object).unwrap();
        self.slices.push(Arc::new(Slice::project(object)));
    }
}

fn cluster() -> Fixture {
    let mut cluster = Fixture::default();
    let http = json!([{"name": "http", "port": 80}]);
    cluster.add("web", json!({
        "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7", "fd00::7"],
        "ports": [{"name": "http", "port": 80}, {"name": "dns", "port": 53, "protocol": "UDP"}, {"port": 9}],
    }));
    cluster.slice("web", http.clone(), json!([{"addresses": ["10.244.0.2"]}]));
    cluster.add("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
    cluster.slice(
        "db",
        json!([{"name": "sql", "port": 5432}]),
        json!([
            {"addresses": ["10.244.0.3"], "hostname": "db-0"},
            {"addresses": ["10.244.0.4"], "hostname": "db-1"},
            {"addresses": ["10.244.0.5"]},
            {"addresses": ["10.244.0.6"], "hostname": "db-3", "conditions": {"ready": false}},
        ]),
    );
    cluster.add("empty", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}));
    cluster.add("away", json!({"type": "ExternalName", "externalName": "Example.org"}));
    cluster
}

fn zone() -> Zone {
    Zone::new("cluster.local", vec!["10.96.0.0/16".parse().unwrap(), "10.244.0.0/16".parse().unwrap()])
        .unwrap()
}

/// The answer's records as text, additional ones after a bar.
fn ask(name: &str, wanted: RecordType) -> String {
    let name = Name::from_str(name).unwrap();
    let line = |record: &Record| {
        assert!((5..=30).contains(&record.ttl));
        format!("{} {}", record.record_type(), record.data)
    };
    match zone().answer(&cluster(), &name, wanted) {
        Answer::NoData => "no data".to_owned(),
        Answer::NoName => "no name".to_owned(),
        Answer::Elsewhere => "elsewhere".to_owned(),
        Answer::Alias(target) => format!("alias {target}"),
        Answer::Records(records, beside) => {
            assert!(records.iter().all(|record| record.name.eq_case(&name)), "named as asked");
            let mut text: Vec<String> = records.iter().map(line).collect();
            if !beside.is_empty() {
                text.push("|".to_owned());
                text.extend(beside.iter().map(line));
            }
            text.join(" ")
        }
    }
}

#[test]
fn the_specification_by_example() {
    use RecordType as T;
    let table = [
        // The zone itself.
        ("dns-version.cluster.local.", T::TXT, "TXT 1.1.0"),
        ("dns-version.cluster.local.", T::A, "no data"),
        ("cluster.local.", T::NS, "NS kube-dns.kube-system.svc.cluster.local."),
        ("cluster.local.", T::A, "no data"),
        ("svc.cluster.local.", T::A, "no data"),
        ("default.svc.cluster.local.", T::A, "no data"),
        ("nowhere.svc.cluster.local.", T::A, "no name"),
        ("nothing.cluster.local.", T::A, "no name"),
        // A service with an address.
        ("web.default.svc.cluster.local.", T::A, "A 10.96.0.7"),
        ("WEB.Default.svc.CLUSTER.local.", T::A, "A 10.96.0.7"),
        ("web.default.svc.cluster.local.", T::AAAA, "AAAA fd00::7"),
        ("web.default.svc.cluster.local.", T::MX, "no data"),
        ("web.default.svc.cluster.local.", T::ANY, "A 10.96.0.7 AAAA fd00::7"),
        ("web.other.svc.cluster.local.", T::A, "no name"),
        ("x.web.default.svc.cluster.local.", T::A, "no name"),
        (
            "_http._tcp.web.default.svc.cluster.local.",
            T::SRV,
            "SRV 0 100 80 web.default.svc.cluster.local. | A 10.96.0.7 AAAA fd00::7",
        ),
        (
            "_dns._udp.web.default.svc.cluster.local.",
            T::SRV,
            "SRV 0 100 53 web.default.svc.cluster.local. | A 10.96.0.7 AAAA fd00::7",
        ),
        ("_dns._tcp.web.default.svc.cluster.local.", T::SRV, "no name"),
        ("_http._tcp.web.default.svc.cluster.local.", T::A, "no data"),
        ("_tcp.web.default.svc.cluster.local.", T::SRV, "no data"),
        ("_sctp.web.default.svc.cluster.local.", T::SRV, "no name"),
        // A headless service: its ready endpoints, and each by its name.
        ("db.default.svc.cluster.local.", T::A, "A 10.244.0.3 A 10.244.0.4 A 10.244.0.5"),
        ("db.default.svc.cluster.local.", T::AAAA, "no data"),
        ("db-0.db.default.svc.cluster.local.", T::A, "A 10.244.0.3"),
        ("10-244-0-5.db.default.svc.cluster.local.", T::A, "A 10.244.0.5"),
        ("db-3.db.default.svc.cluster.local.", T::A, "no name"),
        ("db-0.db.default.svc.cluster.local.", T::AAAA, "no data"),
        (
            "_sql._tcp.db.default.svc.cluster.local.",
            T::SRV,
            "SRV 0 33 5432 10-244-0-5.db.default.svc.cluster.local. \
             SRV 0 33 5432 db-0.db.default.svc.cluster.local. \
             SRV 0 33 5432 db-1.db.default.svc.cluster.local. \
             | A 10.244.0.5 A 10.244.0.3 A 10.244.0.4",
        ),
        ("empty.default.svc.cluster.local.", T::A, "no name"),
        ("_sql._tcp.empty.default.svc.cluster.local.", T::SRV, "no name"),
        // Another name.
        ("away.default.svc.cluster.local.", T::A, "alias example.org."),
        ("x.away.default.svc.cluster.local.", T::A, "no name"),
        // Pods by address.
        ("10-244-0-9.default.pod.cluster.local.", T::A, "A 10.244.0.9"),
        ("10-244-0-9.default.pod.cluster.local.", T::AAAA, "no data"),
        ("fd00--9.default.pod.cluster.local.", T::AAAA, "AAAA fd00::9"),
        ("010-244-0-9.default.pod.cluster.local.", T::A, "no name"),
        ("pod-9.default.pod.cluster.local.", T::A, "no name"),
        // Names for addresses.
        ("7.0.96.10.in-addr.arpa.", T::PTR, "PTR web.default.svc.cluster.local."),
        ("7.0.96.10.in-addr.arpa.", T::A, "no data"),
        ("3.0.244.10.in-addr.arpa.", T::PTR, "PTR db-0.db.default.svc.cluster.local."),
        ("2.0.244.10.in-addr.arpa.", T::PTR, "no name"),
        ("8.0.96.10.in-addr.arpa.", T::PTR, "no name"),
        ("8.8.8.8.in-addr.arpa.", T::PTR, "elsewhere"),
        ("10.in-addr.arpa.", T::PTR, "elsewhere"),
        // The rest of the world.
        ("example.org.", T::A, "elsewhere"),
        ("local.", T::A, "elsewhere"),
        ("mycluster.local.", T::A, "elsewhere"),
    ];
    for (name, wanted, expected) in table {
        assert_eq!(ask(name, wanted), expected, "{name} {wanted}");
    }
}

#[test]
fn the_start_of_authority_bounds_how_long_a_denial_is_kept() {
    let RData::SOA(soa) = zone().soa().data else { panic!("no SOA") };
    assert_eq!(soa.minimum, TTL);
    assert!(
        ask("cluster.local.", RecordType::SOA).starts_with("SOA kube-dns.kube-system.svc.cluster.local.")
    );
}

#[test]
fn a_label_that_is_no_text_is_no_name() {
    let name = Name::from_labels([b"\xff".as_slice(), b"svc", b"cluster", b"local"]).unwrap();
    assert_eq!(zone().answer(&cluster(), &name, RecordType::A), Answer::NoName);
}
