//! The addresses that load balancers are made of.

use std::{
    net::{IpAddr, Ipv4Addr},
    ops::RangeInclusive,
    str::FromStr,
};

use ipnet::IpNet;

use super::plan::family;

/// Where the addresses of services of type LoadBalancer come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// The nodes' own addresses.
    #[default]
    Nodes,
    /// These. Those that are of a node's own link are announced there; that others lead to a node is their owner's to
    /// see to.
    Ranges(Vec<Range>),
}

/// Addresses of one family, the first and the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no pool.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    #[error("{0:?} is neither an address nor a range such as 192.0.2.0/28 or 192.0.2.10-192.0.2.20")]
    Malformed(String),
    #[error("{0:?} ends before it begins")]
    Backwards(String),
}

impl Pool {
    /// Its own ranges of IPv4.
    pub fn ipv4(&self) -> Vec<RangeInclusive<Ipv4Addr>> {
        let ranges = match self {
            Self::Nodes => &[],
            Self::Ranges(ranges) => &ranges[..],
        };
        let ipv4 = |range: &Range| match (range.first, range.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => Some(first..=last),
            _ => None,
        };
        ranges.iter().filter_map(ipv4).collect()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The address of this number, of the same family as another one.
fn numbered(number: u128, like: IpAddr) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if like.is_ipv4() => IpAddr::from(number.to_be_bytes()),
        _ => IpAddr::from(number.to_be_bytes()),
    }
}

impl Range {
    pub(super) fn family(&self) -> &'static str {
        family(self.first)
    }

    pub(super) fn contains(&self, address: IpAddr) -> bool {
        self.family() == family(address) && (self.first..=self.last).contains(&address)
    }

    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let like = self.first;
        (number(self.first)..=number(self.last)).map(move |n| numbered(n, like))
    }
}

impl FromStr for Range {
    type Err = PoolError;

    fn from_str(text: &str) -> Result<Self, PoolError> {
        let malformed = || PoolError::Malformed(text.to_owned());
        let address = |text: &str| text.trim().parse::<IpAddr>().map_err(|_| malformed());
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (address(first)?, address(last)?),
            None if text.contains('/') => {
                let net: IpNet = text.trim().parse().map_err(|_| malformed())?;
                // The first address of a network is its name, the last one is every host's.
                let edge = u128::from(net.addr().is_ipv4() && net.prefix_len() < 31);
                let (first, last) = (net.network(), net.broadcast());
                (numbered(number(first) + edge, first), numbered(number(last) - edge, last))
            }
            None => (address(text)?, address(text)?),
        };
        if family(first) != family(last) {
            return Err(malformed());
        }
        if first > last {
            return Err(PoolError::Backwards(text.to_owned()));
        }
        Ok(Self { first, last })
    }
}

impl FromStr for Pool {
    type Err = PoolError;

    /// `nodes`, or ranges with commas between them.
    fn from_str(text: &str) -> Result<Self, PoolError> {
        match text {
            "nodes" => Ok(Self::Nodes),
            _ => Ok(Self::Ranges(text.split(',').map(str::parse).collect::<Result<_, _>>()?)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> Result<Vec<String>, PoolError> {
        Ok(match text.parse()? {
            Pool::Nodes => vec!["nodes".to_owned()],
            Pool::Ranges(ranges) => {
                ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect()
            }
        })
    }

    #[test]
    fn pools_are_written_in_several_ways() {
        let cases = [
            ("nodes", Ok(vec!["nodes"])),
            ("192.0.2.7", Ok(vec!["192.0.2.7-192.0.2.7"])),
            ("192.0.2.0/29", Ok(vec!["192.0.2.1-192.0.2.6"])),
            ("192.0.2.7/32,192.0.2.8/31", Ok(vec!["192.0.2.7-192.0.2.7", "192.0.2.8-192.0.2.9"])),
            ("2001:db8::/126", Ok(vec!["2001:db8::-2001:db8::3"])),
            ("192.0.2.9 - 192.0.2.11", Ok(vec!["192.0.2.9-192.0.2.11"])),
            ("192.0.2.9-192.0.2.1", Err(PoolError::Backwards("192.0.2.9-192.0.2.1".to_owned()))),
            ("192.0.2.9-::1", Err(PoolError::Malformed("192.0.2.9-::1".to_owned()))),
            ("", Err(PoolError::Malformed(String::new()))),
        ];
        for (text, want) in cases {
            let want = want.map(|all| all.into_iter().map(str::to_owned).collect::<Vec<_>>());
            assert_eq!(told(text), want, "{text}");
        }
    }

    #[test]
    fn ranges_of_ipv4_are_told_for_themselves() {
        let pool: Pool = "192.0.2.8/31,2001:db8::/126,192.0.2.20".parse().expect("a pool");
        let address = |last| Ipv4Addr::new(192, 0, 2, last);
        assert_eq!(pool.ipv4(), [address(8)..=address(9), address(20)..=address(20)]);
        assert_eq!(Pool::Nodes.ipv4(), []);
    }

    #[test]
    fn a_range_is_walked_without_being_held() {
        let walked = |text: &str| -> Vec<String> {
            let range: Range = text.parse().expect("a range");
            range.addresses().take(3).map(|a| a.to_string()).collect()
        };
        assert_eq!(walked("192.0.2.254-192.0.3.9"), ["192.0.2.254", "192.0.2.255", "192.0.3.0"]);
        assert_eq!(walked("2001:db8::/32"), ["2001:db8::", "2001:db8::1", "2001:db8::2"]);
    }
}
