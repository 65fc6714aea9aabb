//! IP addresses and networks.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::{Opaque, Out, Price, Regexes, Row, opaque};
use crate::error::EvalError;
use crate::value::Value;

/// An address and how many of its bits are the network's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub(super) ip: IpAddr,
    pub(super) bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.ip, self.bits)
    }
}

pub(super) const ROWS: &[Row] = &[
    ("ip", to_ip, Price::Read, &["(string) net.IP", "net.CIDR.() net.IP"]),
    ("isIP", |_, a| Ok(Value::Bool(parse_ip(text(&a[0])?).is_ok())), Price::Read, &["(string) bool"]),
    ("ip.isCanonical", canonical, Price::ReadTwice, &["(string) bool"]),
    (
        "family",
        |_, a| Ok(Value::Int(if ip(&a[0])?.is_ipv4() { 4 } else { 6 })),
        Price::One,
        &["net.IP.() int"],
    ),
    ("isUnspecified", |_, a| Ok(Value::Bool(ip(&a[0])?.is_unspecified())), Price::One, &["net.IP.() bool"]),
    ("isLoopback", |_, a| Ok(Value::Bool(ip(&a[0])?.is_loopback())), Price::One, &["net.IP.() bool"]),
    (
        "isLinkLocalMulticast",
        |_, a| Ok(Value::Bool(local_multicast(ip(&a[0])?))),
        Price::One,
        &["net.IP.() bool"],
    ),
    (
        "isLinkLocalUnicast",
        |_, a| Ok(Value::Bool(local_unicast(ip(&a[0])?))),
        Price::One,
        &["net.IP.() bool"],
    ),
    ("isGlobalUnicast", |_, a| Ok(Value::Bool(global_unicast(ip(&a[0])?))), Price::One, &["net.IP.() bool"]),
    ("cidr", to_cidr, Price::Read, &["(string) net.CIDR"]),
    ("isCIDR", |_, a| Ok(Value::Bool(parse_cidr(text(&a[0])?).is_ok())), Price::Read, &["(string) bool"]),
    ("containsIP", contains_ip, Price::ContainsIp, &["net.CIDR.(string) bool", "net.CIDR.(net.IP) bool"]),
    (
        "containsCIDR",
        contains_cidr,
        Price::ContainsCidr,
        &["net.CIDR.(string) bool", "net.CIDR.(net.CIDR) bool"],
    ),
    ("prefixLength", |_, a| Ok(Value::Int(i64::from(cidr(&a[0])?.bits))), Price::One, &["net.CIDR.() int"]),
    ("masked", masked, Price::One, &["net.CIDR.() net.CIDR"]),
];

fn text<'v>(value: &'v Value<'_>) -> Result<&'v str, EvalError> {
    value.as_str().ok_or_else(EvalError::no_overload)
}

fn ip(value: &Value<'_>) -> Result<IpAddr, EvalError> {
    match value {
        Value::Opaque(o) => match &**o {
            Opaque::Ip(ip) => Ok(*ip),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn cidr(value: &Value<'_>) -> Result<Cidr, EvalError> {
    match value {
        Value::Opaque(o) => match &**o {
            Opaque::Cidr(cidr) => Ok(*cidr),
            _ => Err(EvalError::no_overload()),
        },
        _ => Err(EvalError::no_overload()),
    }
}

fn parse_ip(raw: &str) -> Result<IpAddr, EvalError> {
    if raw.contains('%') {
        return Err(EvalError::new(format!("IP address {raw:?} with zone value is not allowed")));
    }
    let parsed: IpAddr = raw.parse().map_err(|_| {
        EvalError::new(format!(
            "IP Address {raw:?} parse error during conversion from string: ParseAddr({raw:?}): unable to parse IP"
        ))
    })?;
    if mapped(parsed) {
        return Err(EvalError::new(format!("IPv4-mapped IPv6 address {raw:?} is not allowed")));
    }
    Ok(parsed)
}

fn mapped(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some())
}

fn parse_cidr(raw: &str) -> Result<Cidr, EvalError> {
    let failed = |why: String| {
        EvalError::new(format!("network address parse error during conversion from string: {why}"))
    };
    let wrong = || {
        failed(format!(
            "network address parse error during conversion from string: netip.ParsePrefix({raw:?}): no '/'"
        ))
    };
    let (ip, bits) = raw.split_once('/').ok_or_else(wrong)?;
    let ip: IpAddr =
        ip.parse().map_err(|_| failed(format!("netip.ParsePrefix({raw:?}): unable to parse IP")))?;
    let most = if ip.is_ipv4() { 32 } else { 128 };
    let plain = bits.len() <= 3 && (bits == "0" || !bits.starts_with(['0', '+']));
    let bits: u8 = bits
        .parse()
        .ok()
        .filter(|bits| plain && *bits <= most)
        .ok_or_else(|| failed(format!("netip.ParsePrefix({raw:?}): bad bits after slash: {bits:?}")))?;
    if mapped(ip) {
        return Err(failed(format!("IPv4-mapped IPv6 address {raw:?} is not allowed")));
    }
    Ok(Cidr { ip, bits })
}

fn to_ip<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let ip = match &args[0] {
        Value::String(s) => parse_ip(s)?,
        other => cidr(other)?.ip,
    };
    Ok(opaque(Opaque::Ip(ip)))
}

fn to_cidr<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(opaque(Opaque::Cidr(parse_cidr(text(&args[0])?)?)))
}

fn canonical<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let raw = text(&args[0])?;
    Ok(Value::Bool(parse_ip(raw)?.to_string() == raw))
}

fn local_multicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
        IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
    }
}

fn local_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn global_unicast(ip: IpAddr) -> bool {
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    !broadcast && !ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast() && !local_unicast(ip)
}

/// The network's address.
fn mask(cidr: Cidr) -> Cidr {
    let ip = match cidr.ip {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(cidr.bits)).unwrap_or(0);
            IpAddr::from((u32::from(v4) & mask).to_be_bytes())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(cidr.bits)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(v6) & mask))
        }
    };
    Cidr { ip, bits: cidr.bits }
}

fn within(net: Cidr, ip: IpAddr) -> bool {
    net.ip.is_ipv4() == ip.is_ipv4() && mask(net).ip == mask(Cidr { ip, bits: net.bits }).ip
}

fn contains_ip<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let other = match &args[1] {
        Value::String(s) => parse_ip(s)?,
        other => ip(other)?,
    };
    Ok(Value::Bool(within(cidr(&args[0])?, other)))
}

fn contains_cidr<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    let other = match &args[1] {
        Value::String(s) => parse_cidr(s)?,
        other => cidr(other)?,
    };
    let net = cidr(&args[0])?;
    Ok(Value::Bool(net.bits <= other.bits && within(net, other.ip)))
}

fn masked<'a>(_: &Regexes, args: &[Value<'a>]) -> Out<'a> {
    Ok(opaque(Opaque::Cidr(mask(cidr(&args[0])?))))
}
