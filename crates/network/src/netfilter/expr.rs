//! The nf_tables expressions that the rules of this crate are made of.
//!
//! Registers are the kernel's sixteen 32-bit ones; a value longer than four bytes takes the ones that follow, and a
//! concatenated key is simply what lies in consecutive registers.

use std::net::Ipv4Addr;

use super::batch::{Attributes, FAMILY_IPV4, goto};

/// A 32-bit register, counted from zero.
pub(crate) type Reg = u32;

/// NFT_REG32_00; the numbers below are the 128-bit registers and the verdict.
const BASE: u32 = 8;
const VERDICT: u32 = 0;

/// RTN_LOCAL: what [`fib_daddr_type`] yields for an address of this host.
pub(crate) const LOCAL: u32 = 2;

/// One expression of a rule.
pub(crate) struct Expr {
    name: &'static str,
    data: Box<dyn Fn(&mut Attributes<'_>)>,
}

impl Expr {
    fn new(name: &'static str, data: impl Fn(&mut Attributes<'_>) + 'static) -> Expr {
        Expr { name, data: Box::new(data) }
    }

    pub(super) fn write(&self, a: &mut Attributes<'_>) {
        a.text(1, self.name);
        a.nest(2, |a| (self.data)(a));
    }
}

fn payload(base: u32, offset: u32, len: u32, to: Reg) -> Expr {
    Expr::new("payload", move |a| {
        a.u32(1, BASE + to);
        a.u32(2, base);
        a.u32(3, offset);
        a.u32(4, len);
    })
}

/// The packet's source address.
pub(crate) fn saddr(to: Reg) -> Expr {
    payload(1, 12, 4, to)
}

/// The packet's destination address.
pub(crate) fn daddr(to: Reg) -> Expr {
    payload(1, 16, 4, to)
}

/// Source and destination address, in two registers.
pub(crate) fn saddr_daddr(to: Reg) -> Expr {
    payload(1, 12, 8, to)
}

/// The destination port of a protocol whose header starts with two ports.
pub(crate) fn dport(to: Reg) -> Expr {
    payload(2, 2, 2, to)
}

fn meta(key: u32, to: Reg) -> Expr {
    Expr::new("meta", move |a| {
        a.u32(1, BASE + to);
        a.u32(2, key);
    })
}

/// The transport protocol's number.
pub(crate) fn l4proto(to: Reg) -> Expr {
    meta(16, to)
}

/// The packet's mark.
pub(crate) fn mark(to: Reg) -> Expr {
    meta(3, to)
}

/// Sets the packet's mark.
pub(crate) fn set_mark(from: Reg) -> Expr {
    Expr::new("meta", move |a| {
        a.u32(2, 3);
        a.u32(3, BASE + from);
    })
}

/// Continues if it is known by which interface the packet leaves: it is one that this host sends.
pub(crate) fn is_own() -> [Expr; 2] {
    [meta(5, 0), cmp(NEQ, 0, vec![0; 4])]
}

/// Continues if the packet came in by the interface of this name.
pub(crate) fn iifname_is(name: &str) -> [Expr; 2] {
    [meta(6, 0), interface_cmp(EQ, name)]
}

/// Continues if the packet leaves by the interface of this name.
pub(crate) fn oifname_is(name: &str) -> [Expr; 2] {
    [meta(7, 0), interface_cmp(EQ, name)]
}

/// Continues unless the packet leaves by the interface of this name.
pub(crate) fn oifname_is_not(name: &str) -> [Expr; 2] {
    [meta(7, 0), interface_cmp(NEQ, name)]
}

fn interface_cmp(op: u32, name: &str) -> Expr {
    let mut padded = [0; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    cmp(op, 0, padded.to_vec())
}

/// The kind of address that the destination is to this host's routes, see [`LOCAL`].
pub(crate) fn fib_daddr_type(to: Reg) -> Expr {
    Expr::new("fib", move |a| {
        a.u32(1, BASE + to);
        a.u32(2, 3);
        a.u32(3, 2);
    })
}

const EQ: u32 = 0;
const NEQ: u32 = 1;

fn cmp(op: u32, register: Reg, value: Vec<u8>) -> Expr {
    Expr::new("cmp", move |a| {
        a.u32(1, BASE + register);
        a.u32(2, op);
        a.nest(3, |a| a.bytes(1, &value));
    })
}

/// Continues if the register holds the value.
pub(crate) fn is(register: Reg, value: impl Into<Vec<u8>>) -> Expr {
    cmp(EQ, register, value.into())
}

/// Continues if the register does not hold the value.
pub(crate) fn is_not(register: Reg, value: impl Into<Vec<u8>>) -> Expr {
    cmp(NEQ, register, value.into())
}

/// `register = register & mask ^ xor`, all of four bytes.
pub(crate) fn bitwise(register: Reg, mask: [u8; 4], xor: [u8; 4]) -> Expr {
    Expr::new("bitwise", move |a| {
        a.u32(1, BASE + register);
        a.u32(2, BASE + register);
        a.u32(3, 4);
        a.nest(4, |a| a.bytes(1, &mask));
        a.nest(5, |a| a.bytes(1, &xor));
    })
}

/// Continues if the address in the register lies in the network; clobbers the register.
pub(crate) fn within(register: Reg, net: ipnet::Ipv4Net) -> [Expr; 2] {
    [bitwise(register, net.netmask().octets(), [0; 4]), is(register, net.network().octets())]
}

/// Continues if the address in the register lies outside the network; clobbers the register.
pub(crate) fn outside(register: Reg, net: ipnet::Ipv4Net) -> [Expr; 2] {
    [bitwise(register, net.netmask().octets(), [0; 4]), is_not(register, net.network().octets())]
}

/// Puts an address into a register.
pub(crate) fn address(to: Reg, value: Ipv4Addr) -> Expr {
    Expr::new("immediate", move |a| {
        a.u32(1, BASE + to);
        a.nest(2, |a| a.bytes(1, &value.octets()));
    })
}

/// Puts a number of this host's byte order into a register.
pub(crate) fn number(to: Reg, value: u32) -> Expr {
    Expr::new("immediate", move |a| {
        a.u32(1, BASE + to);
        a.nest(2, |a| a.bytes(1, &value.to_ne_bytes()));
    })
}

/// Lets the packet pass this hook of the table.
pub(crate) fn accept() -> Expr {
    Expr::new("immediate", |a| {
        a.u32(1, VERDICT);
        a.nest(2, |a| a.nest(2, |a| a.u32(1, 1)));
    })
}

/// Goes on in the chain, for good.
pub(crate) fn goto_chain(chain: &'static str) -> Expr {
    Expr::new("immediate", move |a| {
        a.u32(1, VERDICT);
        a.nest(2, |a| a.nest(2, |a| goto(a, chain)));
    })
}

/// Drops the packet without a word.
pub(crate) fn drop_packet() -> Expr {
    Expr::new("immediate", |a| {
        a.u32(1, VERDICT);
        a.nest(2, |a| a.nest(2, |a| a.u32(1, 0)));
    })
}

/// Looks the key at `key` up; what the map yields goes to `to`. Without an element the rule ends here.
pub(crate) fn lookup(set: &'static str, key: Reg, to: Reg) -> Expr {
    Expr::new("lookup", move |a| {
        a.text(1, set);
        a.u32(2, BASE + key);
        a.u32(3, BASE + to);
    })
}

/// Continues if the set holds the key.
pub(crate) fn contains(set: &'static str, key: Reg) -> Expr {
    Expr::new("lookup", move |a| {
        a.text(1, set);
        a.u32(2, BASE + key);
    })
}

/// Looks the key up in a verdict map and follows its verdict.
pub(crate) fn verdict_map(set: &'static str, key: Reg) -> Expr {
    Expr::new("lookup", move |a| {
        a.text(1, set);
        a.u32(2, BASE + key);
        a.u32(3, VERDICT);
    })
}

/// Counts 0, 1, … `modulus`-1 and round again, over all packets that pass this expression.
pub(crate) fn round_robin(to: Reg, modulus: u32) -> Expr {
    Expr::new("numgen", move |a| {
        a.u32(1, BASE + to);
        a.u32(2, modulus);
        a.u32(3, 0);
    })
}

/// Remembers `data` under `key` for so long after the last packet that came by here. Ends the rule if the set is
/// full.
pub(crate) fn remember(set: &'static str, key: Reg, data: Reg, milliseconds: u64) -> Expr {
    Expr::new("dynset", move |a| {
        a.text(1, set);
        a.u32(3, 1);
        a.u32(4, BASE + key);
        a.u32(5, BASE + data);
        a.u64(6, milliseconds);
    })
}

/// Forgets the key of a map. An element comes with data, even here where they matter to nobody.
pub(crate) fn forget(set: &'static str, key: Reg, data: Reg) -> Expr {
    Expr::new("dynset", move |a| {
        a.text(1, set);
        a.u32(3, 2);
        a.u32(4, BASE + key);
        a.u32(5, BASE + data);
    })
}

/// Sends the connection to the address in one register and the port in the next.
pub(crate) fn dnat(to: Reg) -> Expr {
    Expr::new("nat", move |a| {
        a.u32(1, 1);
        a.u32(2, FAMILY_IPV4.into());
        a.u32(3, BASE + to);
        a.u32(5, BASE + to + 1);
    })
}

/// Gives the connection the address of the interface that it leaves by.
pub(crate) fn masquerade() -> Expr {
    Expr::new("masq", |_| {})
}

/// Answers a TCP packet with a reset.
pub(crate) fn reject_reset() -> Expr {
    Expr::new("reject", |a| {
        a.u32(1, 1);
        a.bytes(2, &[0]);
    })
}

/// Answers the packet with "port unreachable".
pub(crate) fn reject_unreachable() -> Expr {
    Expr::new("reject", |a| {
        a.u32(1, 0);
        a.bytes(2, &[3]);
    })
}

/// Continues if the packet belongs to a connection that has had no answer yet.
pub(crate) fn new_connection() -> [Expr; 3] {
    const STATE: u32 = 0;
    const NEW: [u8; 4] = 8u32.to_ne_bytes();
    let state = Expr::new("ct", |a| {
        a.u32(1, BASE);
        a.u32(2, STATE);
    });
    [state, bitwise(0, NEW, [0; 4]), is(0, NEW)]
}

/// What no kernel has.
#[cfg(test)]
pub(crate) fn unheard_of() -> Expr {
    Expr::new("magic", |_| {})
}
