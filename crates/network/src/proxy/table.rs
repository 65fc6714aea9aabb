//! The proxy's nftables table.
//!
//! ```text
//!   filter prerouting, output, before that ──► guarded ──► admitted → accept, or else drop
//!   nat prerouting, output ──► services        address . protocol . port → picker chain
//!                          ──► node-ports                protocol . port → picker chain
//!       before that, if pods or this node ask: inside-services, inside-node-ports, to pickers of their own
//!   picker chain (one for each number of endpoints, not one a service):
//!       n = 0, 1, … by turns;  endpoints      address . protocol . port . n → endpoint;  dnat
//!   filter prerouting, output, after that ──► refused, refused-node-ports → reject | drop
//!                                             what is left in the service range, and of announced addresses → reject
//!   nat postrouting ──► masquerade what is marked, and who talks to itself (hairpin)
//! ```
//!
//! A change of one endpoint is a change of one or two elements. No rule is made for a service.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipnet::Ipv4Net;

use super::{
    plan::Frontend,
    state::{Change, Clients, Element, Picker},
};
use crate::netfilter::{
    self, Batch, Chain, Data, Hook, Set,
    expr::{self, Expr, Reg},
    ty,
};

const FROM_INSIDE: &str = "from-inside";
const SERVICES: &str = "services";
const NODE_PORTS: &str = "node-ports";
const INSIDE_SERVICES: &str = "inside-services";
const INSIDE_NODE_PORTS: &str = "inside-node-ports";
const ENDPOINTS: &str = "endpoints";
const INSIDE_ENDPOINTS: &str = "inside-endpoints";
const AFFINITY: &str = "affinity";
const IDENTITIES: &str = "identities";
const INSIDE_IDENTITIES: &str = "inside-identities";
const REFUSED: &str = "refused";
const REFUSED_NODE_PORTS: &str = "refused-node-ports";
const HAIRPIN: &str = "hairpin";
const ANNOUNCED: &str = "announced";
const GUARDED: &str = "guarded";
const ADMITTED: &str = "admitted";
const SOURCES: &str = "sources";
const REJECT: &str = "reject";
const DROP: &str = "drop";

/// How many (client, frontend) pairs are remembered. Clients beyond that are served, but not remembered.
const AFFINITY_LIMIT: u32 = 65_536;

/// The mark of connections to masquerade: the bit that kube-proxy uses for the same end, so that two proxies on one
/// host mean the same by it.
const MASQUERADE: u32 = 0x4000;

/// Replaces the table by one without services.
pub(super) fn skeleton(batch: &mut Batch, table: &str, service_cidr: Ipv4Net, pod_cidr: Ipv4Net) {
    batch.replace_table(table);
    let frontend = (ty::concat(&[ty::IPV4, ty::PROTO, ty::PORT]), 12);
    let node_port = (ty::concat(&[ty::PROTO, ty::PORT]), 8);
    let endpoint = Data::Value { ty: ty::concat(&[ty::IPV4, ty::PORT]), len: 8 };
    let numbered = (ty::concat(&[ty::IPV4, ty::PROTO, ty::PORT, ty::MARK]), 16);
    let client = (ty::concat(&[ty::IPV4, ty::IPV4, ty::PROTO, ty::PORT]), 16);
    let identity = Data::Value { ty: ty::MARK, len: 4 };
    let mut set = |name, (key, key_len), data, dynamic| {
        batch.add_set(table, Set { name, key, key_len, data, dynamic });
    };
    for name in [SERVICES, INSIDE_SERVICES, REFUSED] {
        set(name, frontend, Data::Verdict, None);
    }
    for name in [NODE_PORTS, INSIDE_NODE_PORTS, REFUSED_NODE_PORTS] {
        set(name, node_port, Data::Verdict, None);
    }
    for (endpoints, identities) in [(ENDPOINTS, IDENTITIES), (INSIDE_ENDPOINTS, INSIDE_IDENTITIES)] {
        set(endpoints, numbered, endpoint, None);
        set(identities, numbered, identity, None);
    }
    set(AFFINITY, client, identity, Some(AFFINITY_LIMIT));
    set(GUARDED, frontend, Data::None, None);
    let source = (ty::concat(&[ty::IPV4, ty::PROTO, ty::PORT, ty::IPV4, ty::MARK]), 20);
    set(ADMITTED, source, Data::None, None);
    set(HAIRPIN, (ty::concat(&[ty::IPV4, ty::IPV4]), 8), Data::None, None);
    set(ANNOUNCED, (ty::IPV4, 4), Data::None, None);

    let mut chain = |name, hook, rules: Vec<Vec<Expr>>| {
        batch.add_chain(table, Chain { name, hook });
        for rule in rules {
            batch.add_rule(table, name, &rule);
        }
    };
    let dispatch = |services, node_ports| {
        let service = vec![expr::daddr(0), expr::l4proto(1), expr::dport(2), expr::verdict_map(services, 0)];
        let node_port = vec![
            expr::fib_daddr_type(0),
            expr::is(0, expr::LOCAL.to_ne_bytes()),
            expr::l4proto(0),
            expr::dport(1),
            expr::verdict_map(node_ports, 0),
        ];
        [service, node_port]
    };
    let refuse = || {
        let undefined = [expr::daddr(0)]
            .into_iter()
            .chain(expr::within(0, service_cidr))
            .chain([expr::goto_chain(REJECT)])
            .collect();
        let [service, node_port] = dispatch(REFUSED, REFUSED_NODE_PORTS);
        let new = |rule: Vec<Expr>| expr::new_connection().into_iter().chain(rule).collect();
        let unserved = vec![expr::daddr(0), expr::contains(ANNOUNCED, 0), expr::goto_chain(REJECT)];
        vec![new(service), new(node_port), new(undefined), new(unserved)]
    };
    chain(
        REJECT,
        None,
        vec![
            vec![expr::l4proto(0), expr::is(0, [6]), expr::reject_reset()],
            vec![expr::reject_unreachable()],
        ],
    );
    chain(DROP, None, vec![vec![expr::drop_packet()]]);
    // Networks are found by their length, as a set holds no ranges.
    let admit = (0..=32u8).rev().map(|length| {
        let mask = Ipv4Net::new(Ipv4Addr::UNSPECIFIED, length).map(|net| net.netmask().octets());
        let source = [expr::saddr(3), expr::bitwise(3, mask.unwrap_or_default(), [0; 4])];
        let frontend = [expr::daddr(0), expr::l4proto(1), expr::dport(2)];
        let key = frontend.into_iter().chain(source).chain([expr::number(4, length.into())]);
        key.chain([expr::contains(ADMITTED, 0), expr::accept()]).collect()
    });
    chain(SOURCES, None, admit.chain([vec![expr::goto_chain(DROP)]]).collect());
    let guard = || {
        let frontend = [expr::daddr(0), expr::l4proto(1), expr::dport(2)];
        let guarded = frontend.into_iter().chain([expr::contains(GUARDED, 0), expr::goto_chain(SOURCES)]);
        vec![expr::new_connection().into_iter().chain(guarded).collect()]
    };
    chain("guard-prerouting", Some(Hook::filter_prerouting(-110)), guard());
    chain("guard-output", Some(Hook::filter_output(-110)), guard());
    let inside = || {
        let [service, node_port] = dispatch(INSIDE_SERVICES, INSIDE_NODE_PORTS);
        [service, node_port].into_iter().chain(dispatch(SERVICES, NODE_PORTS)).collect()
    };
    let from_pods = [expr::saddr(0)].into_iter().chain(expr::within(0, pod_cidr));
    let from_pods = from_pods.chain([expr::goto_chain(FROM_INSIDE)]).collect();
    let [service, node_port] = dispatch(SERVICES, NODE_PORTS);
    chain(FROM_INSIDE, None, inside());
    chain("prerouting", Some(Hook::NAT_PREROUTING), vec![from_pods, service, node_port]);
    chain("output", Some(Hook::NAT_OUTPUT), inside());
    chain("refuse-prerouting", Some(Hook::filter_prerouting(-90)), refuse());
    chain("refuse-output", Some(Hook::filter_output(-90)), refuse());
    let marked = MASQUERADE.to_ne_bytes();
    chain(
        "postrouting",
        Some(Hook::NAT_POSTROUTING),
        vec![
            vec![expr::mark(0), expr::bitwise(0, marked, [0; 4]), expr::is(0, marked), expr::masquerade()],
            vec![expr::saddr_daddr(0), expr::contains(HAIRPIN, 0), expr::masquerade()],
        ],
    );
}

// What the registers of a picker chain hold. The keys of the tables lie side by side in them.
const CLIENT: Reg = 0;
const ADDRESS: Reg = 1;
const PROTOCOL: Reg = 2;
const PORT: Reg = 3;
/// The endpoint's number or identity.
const NUMBER: Reg = 4;
/// The endpoint's address and port. Overwrites the number that it was found by.
const ENDPOINT: Reg = 4;
const SCRATCH: Reg = 6;

fn picker_rules(picker: Picker) -> Vec<Vec<Expr>> {
    let frontend = || {
        let address = match picker.any_address {
            true => expr::address(ADDRESS, Ipv4Addr::UNSPECIFIED),
            false => expr::daddr(ADDRESS),
        };
        vec![address, expr::l4proto(PROTOCOL), expr::dport(PORT)]
    };
    let (endpoints, identities) = match picker.inside {
        true => (INSIDE_ENDPOINTS, INSIDE_IDENTITIES),
        false => (ENDPOINTS, IDENTITIES),
    };
    let send = || [expr::lookup(endpoints, ADDRESS, ENDPOINT), expr::dnat(ENDPOINT)];
    let by_turns = || expr::round_robin(NUMBER, picker.count);

    let mut rules: Vec<Vec<Expr>> = Vec::new();
    let mut rule = |parts: Vec<Vec<Expr>>| rules.push(parts.into_iter().flatten().collect());
    let (bit, rest) = (MASQUERADE.to_ne_bytes(), (!MASQUERADE).to_ne_bytes());
    let mark = vec![expr::mark(0), expr::bitwise(0, rest, bit), expr::set_mark(0)];
    if picker.masquerade {
        rule(vec![mark]);
    } else if picker.inside {
        // The node may have sent it from an address that endpoints cannot answer, such as 127.0.0.1.
        rule(vec![expr::is_own().into(), mark]);
    }
    if let Some(seconds) = picker.affinity {
        let client = || vec![expr::saddr(CLIENT)];
        let remember = || vec![expr::remember(AFFINITY, CLIENT, NUMBER, u64::from(seconds) * 1000)];
        // nft, the program, aborts when it lists a rule that uses what a map yielded in a key. A detour by the
        // packet's mark, which is put back at once, makes it a plain value again.
        let settle =
            || vec![expr::mark(SCRATCH), expr::set_mark(NUMBER), expr::mark(NUMBER), expr::set_mark(SCRATCH)];

        // A client that is remembered, unless its endpoint is gone.
        let known = vec![expr::lookup(AFFINITY, CLIENT, NUMBER)];
        rule(vec![client(), frontend(), known, settle(), remember(), send().into()]);
        // Remembering does not overwrite, so what is out of date is forgotten first.
        let forget = vec![expr::mark(NUMBER), expr::forget(AFFINITY, CLIENT, NUMBER)];
        rule(vec![client(), frontend(), forget]);
        let pick = vec![by_turns(), expr::lookup(identities, ADDRESS, NUMBER)];
        rule(vec![client(), frontend(), pick, settle(), remember(), send().into()]);
        // Only when no more clients can be remembered does a packet get here.
    }
    rule(vec![frontend(), vec![by_turns()], send().into()]);
    rules
}

/// Appends the changes to the transaction. Neighbours in the same table share a message.
pub(super) fn apply(batch: &mut Batch, table: &str, changes: impl IntoIterator<Item = Change>) {
    let mut changes = changes.into_iter().peekable();
    while let Some(change) = changes.next() {
        match change {
            Change::AddPicker(picker) => {
                let name = picker.chain();
                batch.add_chain(table, Chain { name: &name, hook: None });
                for rule in picker_rules(picker) {
                    batch.add_rule(table, &name, &rule);
                }
            }
            Change::RemovePicker(picker) => batch.remove_chain(table, &picker.chain()),
            Change::Add(first) => {
                let first = Encoded::of(first);
                let set = first.set;
                let mut run = vec![first];
                while let Some(next) = changes.next_if(
                    |change| matches!(change, Change::Add(element) if Encoded::set_of(*element) == set),
                ) {
                    if let Change::Add(element) = next {
                        run.push(Encoded::of(element));
                    }
                }
                batch.add_elements(table, set, run.iter().map(|e| (e.key.as_slice(), e.data.borrowed())));
            }
            Change::Remove(element) => {
                let element = Encoded::of(element);
                batch.remove_elements(table, element.set, [element.key.as_slice()]);
            }
        }
    }
}

/// An element as the kernel takes it.
struct Encoded {
    set: &'static str,
    key: Vec<u8>,
    data: Payload,
}

enum Payload {
    Plain,
    Endpoint([u8; 8]),
    Identity([u8; 4]),
    Goto(String),
}

impl Payload {
    fn borrowed(&self) -> netfilter::Element<'_> {
        match self {
            Payload::Plain => netfilter::Element::Plain,
            Payload::Endpoint(value) => netfilter::Element::Value(value),
            Payload::Identity(value) => netfilter::Element::Value(value),
            Payload::Goto(chain) => netfilter::Element::Goto(chain),
        }
    }
}

impl Encoded {
    fn set_of(element: Element) -> &'static str {
        match element {
            Element::Dispatch(frontend, picker) if picker.inside => {
                either(frontend, INSIDE_SERVICES, INSIDE_NODE_PORTS)
            }
            Element::Dispatch(frontend, _) => either(frontend, SERVICES, NODE_PORTS),
            Element::Reject(frontend) | Element::Drop(frontend) => {
                either(frontend, REFUSED, REFUSED_NODE_PORTS)
            }
            Element::Endpoint(Clients::All, ..) => ENDPOINTS,
            Element::Endpoint(Clients::Inside, ..) => INSIDE_ENDPOINTS,
            Element::Identity(Clients::All, ..) => IDENTITIES,
            Element::Identity(Clients::Inside, ..) => INSIDE_IDENTITIES,
            Element::Guarded(_) => GUARDED,
            Element::Admitted(..) => ADMITTED,
            Element::Hairpin(_) => HAIRPIN,
            Element::Announced(_) => ANNOUNCED,
        }
    }

    fn of(element: Element) -> Encoded {
        let (key, data) = match element {
            Element::Dispatch(frontend, picker) => (dispatch_key(frontend), Payload::Goto(picker.chain())),
            Element::Reject(frontend) => (dispatch_key(frontend), Payload::Goto(REJECT.into())),
            Element::Drop(frontend) => (dispatch_key(frontend), Payload::Goto(DROP.into())),
            Element::Endpoint(_, frontend, number, endpoint) => {
                (numbered_key(frontend, number), Payload::Endpoint(endpoint_data(endpoint)))
            }
            Element::Identity(_, frontend, number, identity) => {
                (numbered_key(frontend, number), Payload::Identity(identity.to_ne_bytes()))
            }
            Element::Guarded(frontend) => (frontend_key(frontend), Payload::Plain),
            Element::Admitted(frontend, net) => (source_key(frontend, net), Payload::Plain),
            Element::Hairpin(address) => ([address.octets(); 2].concat(), Payload::Plain),
            Element::Announced(address) => (address.octets().to_vec(), Payload::Plain),
        };
        Encoded { set: Encoded::set_of(element), key, data }
    }
}

fn either(frontend: Frontend, address: &'static str, any_address: &'static str) -> &'static str {
    if frontend.address.is_unspecified() { any_address } else { address }
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

fn frontend_key(frontend: Frontend) -> Vec<u8> {
    [frontend.address.octets(), [frontend.protocol.number(), 0, 0, 0], padded(frontend.port)].concat()
}

/// Node ports are dispatched by protocol and port alone.
fn dispatch_key(frontend: Frontend) -> Vec<u8> {
    frontend_key(frontend).split_off(if frontend.address.is_unspecified() { 4 } else { 0 })
}

fn numbered_key(frontend: Frontend, number: u32) -> Vec<u8> {
    [frontend_key(frontend).as_slice(), &number.to_ne_bytes()].concat()
}

fn source_key(frontend: Frontend, net: Ipv4Net) -> Vec<u8> {
    let length = u32::from(net.prefix_len()).to_ne_bytes();
    [frontend_key(frontend).as_slice(), &net.network().octets(), &length].concat()
}

fn endpoint_data(endpoint: SocketAddrV4) -> [u8; 8] {
    let ([a, b, c, d], [e, f, g, h]) = (endpoint.ip().octets(), padded(endpoint.port()));
    [a, b, c, d, e, f, g, h]
}

impl Picker {
    /// The picker's chain. Says what it does, so that `nft list` can be read.
    fn chain(self) -> String {
        let inside = if self.inside { "inside-" } else { "" };
        let any = if self.any_address { "node-port-" } else { "" };
        let masquerade = if self.masquerade { "masquerade-" } else { "" };
        let affinity = self.affinity.map(|seconds| format!("-sticky-{seconds}s")).unwrap_or_default();
        format!("{inside}{any}{masquerade}1-of-{}-lane-{}{affinity}", self.count, self.lane)
    }
}
