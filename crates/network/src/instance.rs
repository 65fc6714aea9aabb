//! Which cluster on this host a kernel object belongs to.

use std::{fmt, str::FromStr};

/// A cluster instance: 32 bits, written as eight lower-case hex digits.
///
/// Every kernel object that this crate makes has a name derived from the instance, so that two clusters on one
/// host never share one and [`crate::cleanup`] finds them all without any record on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instance(u32);

/// The text was not eight lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("instance id {0:?} is not eight lower-case hex digits")]
pub struct InvalidInstance(String);

impl Instance {
    pub const fn new(id: u32) -> Instance {
        Instance(id)
    }

    /// The bridge that pods hang off.
    pub fn bridge(self) -> String {
        format!("tp{self}")
    }

    /// The host's end of the veth pair of the pod whose address is the `offset`-th of the node's pod range.
    /// Fifteen characters at most for the ranges that [`crate::bridge::Config`] accepts (a /8 at the widest).
    pub(crate) fn veth(self, offset: u32) -> String {
        format!("{}{offset:x}", self.veth_prefix())
    }

    pub(crate) fn veth_prefix(self) -> String {
        format!("v{self}")
    }

    /// The priority of routes to other nodes' pods, which have no name to tell whose they are.
    pub(crate) fn priority(self) -> u32 {
        self.0
    }

    /// The nftables table (family `ip`) of the service proxy.
    pub fn service_table(self) -> String {
        format!("tiphys-{self}")
    }

    /// The nftables table (family `ip`) of the built-in pod network.
    pub fn pod_table(self) -> String {
        format!("tiphys-{self}-pods")
    }
}

impl FromStr for Instance {
    type Err = InvalidInstance;

    fn from_str(text: &str) -> Result<Instance, InvalidInstance> {
        let hex = text.len() == 8 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match u32::from_str_radix(text, 16) {
            Ok(id) if hex => Ok(Instance(id)),
            _ => Err(InvalidInstance(text.to_owned())),
        }
    }
}

impl fmt::Display for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_and_nothing_else_is_taken() {
        assert_eq!("00ab12ef".parse::<Instance>().unwrap().to_string(), "00ab12ef");
        for bad in ["", "ab12ef", "00AB12EF", "00ab12ef0", "+0ab12ef", "00ab12eg"] {
            assert!(bad.parse::<Instance>().is_err(), "{bad}");
        }
    }

    #[test]
    fn link_names_fit_the_kernel() {
        let instance = Instance::new(u32::MAX);
        assert!(instance.bridge().len() <= 15);
        assert!(instance.veth(0xff_ffff).len() <= 15);
    }
}
