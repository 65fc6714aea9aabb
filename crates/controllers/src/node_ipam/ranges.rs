//! Which parts of the cluster's ranges are whose.

use std::{collections::BTreeMap, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use tiphys_client::ObjectKey;

/// So many bits tell the parts of a range apart at most, as in upstream.
const MOST_BITS: u8 = 16;

/// Why a range cannot be parted.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    #[error("{0} has no parts of the length /{1}")]
    Length(IpNet, u8),
    #[error("{0} has more than 65536 parts of the length /{1}")]
    Fine(IpNet, u8),
}

/// One range of the cluster, in parts of one length.
#[derive(Clone, Debug)]
pub struct Parted {
    whole: IpNet,
    length: u8,
    /// How many claim each part that somebody does.
    claims: BTreeMap<u32, u32>,
    /// Where the search begins: parts that were let go come last.
    next: u32,
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

impl Parted {
    /// `length` is the prefix that each part has.
    pub fn new(whole: IpNet, length: u8) -> Result<Self, RangeError> {
        let bits = length.checked_sub(whole.prefix_len()).filter(|_| length <= whole.max_prefix_len());
        match bits {
            None => Err(RangeError::Length(whole, length)),
            Some(bits) if bits > MOST_BITS => Err(RangeError::Fine(whole, length)),
            Some(_) => Ok(Self { whole: whole.trunc(), length, claims: BTreeMap::new(), next: 0 }),
        }
    }

    fn parts(&self) -> u32 {
        1 << (self.length - self.whole.prefix_len())
    }

    /// The parts that a network touches.
    fn touched(&self, net: IpNet) -> Option<RangeInclusive<u32>> {
        let like = net.addr().is_ipv4() == self.whole.addr().is_ipv4();
        if !like || !(self.whole.contains(&net) || net.contains(&self.whole)) {
            return None;
        }
        let shift = u32::from(self.whole.max_prefix_len() - self.length);
        let begin = number(self.whole.network());
        let at = |address: IpAddr| {
            let part = number(address).saturating_sub(begin).checked_shr(shift).unwrap_or(0);
            u32::try_from(part).unwrap_or(u32::MAX).min(self.parts() - 1)
        };
        Some(at(net.network())..=at(net.broadcast()))
    }

    fn claim(&mut self, net: IpNet) {
        for part in self.touched(net).into_iter().flatten() {
            *self.claims.entry(part).or_default() += 1;
        }
    }

    fn release(&mut self, net: IpNet) {
        for part in self.touched(net).into_iter().flatten() {
            if let Some(count) = self.claims.get_mut(&part) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(&part);
                }
            }
        }
    }

    fn free(&self) -> Option<u32> {
        let parts = self.parts();
        (0..parts).map(|n| (self.next + n) % parts).find(|part| !self.claims.contains_key(part))
    }

    fn net(&self, part: u32) -> Option<IpNet> {
        let shift = u32::from(self.whole.max_prefix_len() - self.length);
        let offset = u128::from(part).checked_shl(shift).unwrap_or(0);
        let at = number(self.whole.network()) + offset;
        let address = match u32::try_from(at) {
            Ok(at) if self.whole.addr().is_ipv4() => IpAddr::from(at.to_be_bytes()),
            _ => IpAddr::from(at.to_be_bytes()),
        };
        IpNet::new(address, self.length).ok()
    }
}

/// What is given out of all ranges, a part of each to each node.
#[derive(Clone, Debug)]
pub(super) struct Given {
    ranges: Vec<Parted>,
    of: BTreeMap<ObjectKey, Vec<IpNet>>,
}

impl Given {
    /// Of `ranges`, what `taken` touches is nobody's.
    pub(super) fn new(mut ranges: Vec<Parted>, taken: &[IpNet]) -> Self {
        for net in taken {
            ranges.iter_mut().for_each(|range| range.claim(*net));
        }
        Self { ranges, of: BTreeMap::new() }
    }

    /// Takes in what a node has; nothing leaves it what it was promised.
    pub(super) fn see(&mut self, node: &ObjectKey, nets: Vec<IpNet>) {
        if nets.is_empty() || self.of.get(node) == Some(&nets) {
            return;
        }
        nets.iter().for_each(|net| self.ranges.iter_mut().for_each(|range| range.claim(*net)));
        self.forget(node);
        self.of.insert(node.clone(), nets);
    }

    /// A node is gone, and others may have what it had. Says whether that was anything.
    pub(super) fn forget(&mut self, node: &ObjectKey) -> bool {
        let Some(nets) = self.of.remove(node) else { return false };
        nets.iter().for_each(|net| self.ranges.iter_mut().for_each(|range| range.release(*net)));
        true
    }

    /// Promises a node a part of each range; the same each time it is asked. `None`: one of them is used up.
    pub(super) fn promise(&mut self, node: &ObjectKey) -> Option<Vec<IpNet>> {
        if let Some(nets) = self.of.get(node) {
            return Some(nets.clone());
        }
        let free: Option<Vec<u32>> = self.ranges.iter().map(Parted::free).collect();
        let chosen = self.ranges.iter_mut().zip(free?);
        let nets: Option<Vec<IpNet>> = chosen
            .map(|(range, part)| {
                range.next = (part + 1) % range.parts();
                range.net(part)
            })
            .collect();
        self.see(node, nets?);
        self.of.get(node).cloned()
    }
}

#[cfg(test)]
#[path = "ranges_tests.rs"]
mod tests;
