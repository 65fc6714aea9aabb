//! The cluster's names, by the Kubernetes DNS specification (schema version 1.1.0). Pure.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    sync::Arc,
};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{A, AAAA, NS, PTR, SOA, SRV, TXT},
};
use ipnet::IpNet;
use tiphys_client::ObjectKey;

use super::model::{Endpoint, Kind, Port, Service, Slice, address_label};

/// Seconds that answers may be kept: endpoints come and go.
pub(super) const TTL: u32 = 5;

/// What is known of the cluster.
pub trait Catalog {
    fn service(&self, key: &ObjectKey) -> Option<Arc<Service>>;
    /// The slices of a service.
    fn slices(&self, key: &ObjectKey) -> Vec<Arc<Slice>>;
    /// Whether anything in the namespace has a name.
    fn has_namespace(&self, namespace: &str) -> bool;
    /// The services with this cluster IP.
    fn services_at(&self, address: IpAddr) -> Vec<ObjectKey>;
    /// The services with this endpoint.
    fn endpoints_at(&self, address: IpAddr) -> Vec<ObjectKey>;
}

/// The answer to one question.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// These records (at least one), and addresses that the asker will want next.
    Records(Vec<Record>, Vec<Record>),
    /// The name exists, but has no such record.
    NoData,
    /// Neither the name nor anything below it exists.
    NoName,
    /// The name is another name for this one.
    Alias(Name),
    /// Not a name of the cluster.
    Elsewhere,
}

/// The zone of one cluster.
#[derive(Clone, Debug)]
pub struct Zone {
    domain: Name,
    /// The DNS service itself, as the zone's name server.
    server: Name,
    /// Networks whose addresses nobody else can name.
    reverse: Vec<IpNet>,
}

impl Zone {
    /// Fails if `domain` is no domain name.
    pub fn new(domain: &str, reverse: Vec<IpNet>) -> Result<Zone, hickory_proto::ProtoError> {
        let mut domain = Name::from_str(domain)?.to_lowercase();
        domain.set_fqdn(true);
        let server = Name::from_str("kube-dns.kube-system.svc")?.append_domain(&domain)?;
        Ok(Zone { domain, server, reverse })
    }

    /// The start of authority, which goes with every negative answer.
    pub fn soa(&self) -> Record {
        let contact = Name::from_str("hostmaster").and_then(|name| name.append_domain(&self.domain));
        let soa = SOA::new(
            self.server.clone(),
            contact.unwrap_or_else(|_| self.domain.clone()),
            1,
            7200,
            1800,
            86_400,
            TTL,
        );
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(soa))
    }

    /// Answers one question of class IN. Names compare without regard to case; records carry the name as asked.
    pub fn answer(&self, catalog: &impl Catalog, name: &Name, wanted: RecordType) -> Answer {
        if self.domain.zone_of(name) {
            let below = usize::from(name.num_labels() - self.domain.num_labels());
            let labels: Option<Vec<String>> = name
                .iter()
                .take(below)
                .map(|label| Some(std::str::from_utf8(label).ok()?.to_ascii_lowercase()))
                .collect();
            let labels = labels.unwrap_or_default();
            // A label that is no text names nothing here, and no name of nothing reaches this far.
            if labels.len() != below {
                return Answer::NoName;
            }
            let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
            return self.forward(catalog, name, &labels, wanted);
        }
        match name.parse_arpa_name() {
            Ok(net) if net.prefix_len() == net.max_prefix_len() => {
                self.reverse(catalog, name, net.addr(), wanted)
            }
            _ => Answer::Elsewhere,
        }
    }

    fn forward(&self, catalog: &impl Catalog, name: &Name, labels: &[&str], wanted: RecordType) -> Answer {
        match labels {
            [] => {
                let soa = self.soa().data;
                select(name, wanted, vec![soa, RData::NS(NS(self.server.clone()))])
            }
            ["dns-version"] => select(name, wanted, vec![RData::TXT(TXT::new(vec!["1.1.0".to_owned()]))]),
            ["svc" | "pod"] => Answer::NoData,
            [namespace, "svc" | "pod"] => match catalog.has_namespace(namespace) {
                true => Answer::NoData,
                false => Answer::NoName,
            },
            [address, _namespace, "pod"] => match parse_address_label(address) {
                Some(address) => select(name, wanted, vec![address_data(address)]),
                None => Answer::NoName,
            },
            [rest @ .., service, namespace, "svc"] => {
                let key = ObjectKey::new(namespace, service);
                match catalog.service(&key) {
                    Some(service) => self.service(catalog, name, &key, &service, rest, wanted),
                    None => Answer::NoName,
                }
            }
            _ => Answer::NoName,
        }
    }

    fn service(
        &self,
        catalog: &impl Catalog,
        name: &Name,
        key: &ObjectKey,
        service: &Service,
        rest: &[&str],
        wanted: RecordType,
    ) -> Answer {
        let slices = match service.kind {
            Kind::Headless => catalog.slices(key),
            _ => Vec::new(),
        };
        let port_exists = |wanted: &dyn Fn(&Port) -> bool| match service.kind {
            Kind::Headless => slices.iter().any(|s| !s.endpoints.is_empty() && s.ports.iter().any(wanted)),
            _ => service.ports.iter().any(wanted),
        };
        match (&service.kind, rest) {
            (Kind::ExternalName(target), []) => match Name::from_str(target) {
                Ok(mut target) => {
                    target.set_fqdn(true);
                    Answer::Alias(target)
                }
                Err(_) => Answer::NoData,
            },
            (Kind::ExternalName(_), _) => Answer::NoName,
            (Kind::ClusterIp(addresses), []) => match wanted {
                RecordType::SRV => self.srv(name, key, service, &slices, &|_| true),
                _ => select(name, wanted, addresses.iter().copied().map(address_data).collect()),
            },
            (Kind::Headless, []) => {
                let addresses: BTreeSet<IpAddr> = endpoints(&slices).map(|e| e.address).collect();
                match wanted {
                    _ if addresses.is_empty() => Answer::NoName,
                    RecordType::SRV => self.srv(name, key, service, &slices, &|_| true),
                    _ => select(name, wanted, addresses.into_iter().map(address_data).collect()),
                }
            }
            (_, [protocol]) if protocol.starts_with('_') => {
                match port_exists(&|p| !p.name.is_empty() && *p.protocol == protocol[1..]) {
                    true => Answer::NoData,
                    false => Answer::NoName,
                }
            }
            (_, [port, protocol]) if port.starts_with('_') && protocol.starts_with('_') => {
                let named = |p: &Port| *p.name == port[1..] && *p.protocol == protocol[1..];
                match (port_exists(&named), wanted) {
                    (false, _) => Answer::NoName,
                    (true, RecordType::SRV | RecordType::ANY) => {
                        self.srv(name, key, service, &slices, &named)
                    }
                    (true, _) => Answer::NoData,
                }
            }
            (Kind::Headless, [label]) => {
                let addresses: BTreeSet<IpAddr> = endpoints(&slices)
                    .filter(|e| e.label.eq_ignore_ascii_case(label))
                    .map(|e| e.address)
                    .collect();
                match addresses.is_empty() {
                    true => Answer::NoName,
                    false => select(name, wanted, addresses.into_iter().map(address_data).collect()),
                }
            }
            _ => Answer::NoName,
        }
    }

    /// One SRV record a port and target, with the targets' addresses beside.
    fn srv(
        &self,
        name: &Name,
        key: &ObjectKey,
        service: &Service,
        slices: &[Arc<Slice>],
        which: &dyn Fn(&Port) -> bool,
    ) -> Answer {
        let mut targets: BTreeSet<(Name, u16)> = BTreeSet::new();
        let mut addresses: BTreeSet<(Name, IpAddr)> = BTreeSet::new();
        match &service.kind {
            Kind::ClusterIp(cluster_ips) => {
                let Some(target) = self.service_name(key) else { return Answer::NoData };
                addresses.extend(cluster_ips.iter().map(|ip| (target.clone(), *ip)));
                let ports = service.ports.iter().filter(|p| which(p));
                targets.extend(ports.map(|port| (target.clone(), port.port)));
            }
            Kind::Headless => {
                for slice in slices {
                    for endpoint in &slice.endpoints {
                        let Some(target) = self.endpoint_name(key, endpoint) else { continue };
                        addresses.insert((target.clone(), endpoint.address));
                        let ports = slice.ports.iter().filter(|p| which(p));
                        targets.extend(ports.map(|port| (target.clone(), port.port)));
                    }
                }
            }
            Kind::ExternalName(_) => {}
        }
        if targets.is_empty() {
            return Answer::NoData;
        }
        let weight = (100 / targets.len()).max(1) as u16;
        let records = targets.into_iter().map(|(target, port)| {
            Record::from_rdata(name.clone(), TTL, RData::SRV(SRV::new(0, weight, port, target)))
        });
        let beside =
            addresses.into_iter().map(|(target, ip)| Record::from_rdata(target, TTL, address_data(ip)));
        Answer::Records(records.collect(), beside.collect())
    }

    fn reverse(&self, catalog: &impl Catalog, name: &Name, address: IpAddr, wanted: RecordType) -> Answer {
        let mut names: BTreeSet<Name> =
            catalog.services_at(address).iter().filter_map(|key| self.service_name(key)).collect();
        for key in catalog.endpoints_at(address) {
            if catalog.service(&key).is_none_or(|service| service.kind != Kind::Headless) {
                continue;
            }
            let slices = catalog.slices(&key);
            names.extend(
                endpoints(&slices)
                    .filter(|endpoint| endpoint.address == address)
                    .filter_map(|endpoint| self.endpoint_name(&key, endpoint)),
            );
        }
        if !names.is_empty() {
            return select(name, wanted, names.into_iter().map(|name| RData::PTR(PTR(name))).collect());
        }
        match self.reverse.iter().any(|net| net.contains(&address)) {
            true => Answer::NoName,
            false => Answer::Elsewhere,
        }
    }

    /// `None` for a name that is too long.
    fn service_name(&self, key: &ObjectKey) -> Option<Name> {
        Name::from_labels([key.name.as_bytes(), key.namespace.as_bytes(), b"svc"])
            .and_then(|name| name.append_domain(&self.domain))
            .ok()
    }

    fn endpoint_name(&self, key: &ObjectKey, endpoint: &Endpoint) -> Option<Name> {
        self.service_name(key)?.prepend_label(endpoint.label.as_bytes()).ok()
    }
}

fn endpoints(slices: &[Arc<Slice>]) -> impl Iterator<Item = &Endpoint> {
    slices.iter().flat_map(|slice| &slice.endpoints)
}

/// The records of the wanted type among those of a name that exists.
fn select(name: &Name, wanted: RecordType, all: Vec<RData>) -> Answer {
    let fit = all.into_iter().filter(|data| wanted == RecordType::ANY || data.record_type() == wanted);
    let records: Vec<Record> = fit.map(|data| Record::from_rdata(name.clone(), TTL, data)).collect();
    match records.is_empty() {
        true => Answer::NoData,
        false => Answer::Records(records, Vec::new()),
    }
}

fn address_data(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(v4) => RData::A(A(v4)),
        IpAddr::V6(v6) => RData::AAAA(AAAA(v6)),
    }
}

/// The address that a label like `10-244-0-7` or `fd00--7` stands for.
fn parse_address_label(label: &str) -> Option<IpAddr> {
    let v4 = label.replace('-', ".").parse::<Ipv4Addr>().map(IpAddr::V4);
    let address = v4.or_else(|_| label.replace('-', ":").parse::<Ipv6Addr>().map(IpAddr::V6)).ok()?;
    // One spelling an address.
    (address_label(address) == label).then_some(address)
}

#[cfg(test)]
#[path = "zone_tests.rs"]
mod tests;
