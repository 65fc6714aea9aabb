//! The pod network's nftables rules: host ports, masquerade, and the guard of the host's loopback.

use std::net::Ipv4Addr;

use super::{Config, Protocol, records::Record};
use crate::netfilter::{
    Batch, Chain, Data, Element, Hook, Set,
    expr::{self, Expr},
    ty,
};

const HOST_PORTS: &str = "host-ports";
const HAIRPIN: &str = "hairpin";

/// One transaction that replaces the whole table. It is small: only pods with host ports leave a trace in it.
pub(super) fn render<'a>(config: &Config, records: impl Iterator<Item = &'a Record>) -> Batch {
    let name = config.instance.pod_table();
    let table = name.as_str();
    let bridge = config.instance.bridge();
    let mut batch = Batch::new();
    batch.replace_table(table);

    batch.add_set(
        table,
        Set {
            name: HOST_PORTS,
            key: ty::concat(&[ty::IPV4, ty::PROTO, ty::PORT]),
            key_len: 12,
            data: Data::Value { ty: ty::concat(&[ty::IPV4, ty::PORT]), len: 8 },
            dynamic: None,
        },
    );
    batch.add_set(
        table,
        Set {
            name: HAIRPIN,
            key: ty::concat(&[ty::IPV4, ty::IPV4]),
            key_len: 8,
            data: Data::None,
            dynamic: None,
        },
    );

    let mut chain = |name, hook, rules: Vec<Vec<Expr>>| {
        batch.add_chain(table, Chain { name, hook });
        for rule in rules {
            batch.add_rule(table, name, &rule);
        }
    };
    // The bridge lets the host's 127.0.0.1 reach pods (route_localnet), which must not let pods reach it.
    let guard = expr::iifname_is(&bridge)
        .into_iter()
        .chain([expr::daddr(0)])
        .chain(expr::within(0, LOOPBACK))
        .chain([expr::drop_packet()]);
    chain("guard", Some(Hook::filter_prerouting(-300)), vec![guard.collect()]);

    let to_pod = || vec![expr::l4proto(1), expr::dport(2), expr::lookup(HOST_PORTS, 0, 3), expr::dnat(3)];
    let one_address = || std::iter::once(expr::daddr(0)).chain(to_pod()).collect();
    let any_address = || {
        [
            expr::fib_daddr_type(0),
            expr::is(0, expr::LOCAL.to_ne_bytes()),
            expr::address(0, Ipv4Addr::UNSPECIFIED),
        ]
        .into_iter()
        .chain(to_pod())
        .collect()
    };
    chain("prerouting", Some(Hook::NAT_PREROUTING), vec![one_address(), any_address()]);
    chain("output", Some(Hook::NAT_OUTPUT), vec![one_address(), any_address()]);

    let hairpin = vec![expr::saddr_daddr(0), expr::contains(HAIRPIN, 0), expr::masquerade()];
    let loopback = expr::oifname_is(&bridge)
        .into_iter()
        .chain([expr::saddr(0)])
        .chain(expr::within(0, LOOPBACK))
        .chain([expr::masquerade()])
        .collect();
    let leaving = std::iter::once(expr::saddr(0))
        .chain(expr::within(0, config.pod_cidr))
        .chain([expr::daddr(0)])
        .chain(expr::outside(0, config.cluster_cidr))
        .chain(expr::oifname_is_not(&bridge))
        .chain([expr::masquerade()])
        .collect();
    chain("postrouting", Some(Hook::NAT_POSTROUTING), vec![hairpin, loopback, leaving]);

    for record in records {
        for port in &record.ports {
            let key = key(port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED), port.protocol, port.host_port);
            let data =
                [record.address.octets().as_slice(), &port.container_port.to_be_bytes(), &[0, 0]].concat();
            batch.add_elements(table, HOST_PORTS, [(key.as_slice(), Element::Value(&data))]);
        }
        if !record.ports.is_empty() {
            let pair = [record.address.octets(), record.address.octets()].concat();
            batch.add_elements(table, HAIRPIN, [(pair.as_slice(), Element::Plain)]);
        }
    }
    batch
}

const LOOPBACK: ipnet::Ipv4Net = ipnet::Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8);

fn key(address: Ipv4Addr, protocol: Protocol, port: u16) -> Vec<u8> {
    let port = port.to_be_bytes();
    [address.octets(), [protocol.number(), 0, 0, 0], [port[0], port[1], 0, 0]].concat()
}
