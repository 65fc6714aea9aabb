//! nf_tables and conntrack over netlink.
//!
//! [`Batch`] writes one transaction in the kernel's own encoding, [`expr`] the few expressions that the rules of
//! this crate are made of, [`Socket`] sends it. The encoding is ours because the packet crates of the rtnetlink
//! family lack half of these expressions (nat, masquerade, reject, numgen, dynset, fib) and hold every attribute
//! as an allocation of its own, which a transaction of 30,000 elements feels.

mod batch;
pub(crate) mod conntrack;
pub(crate) mod expr;
mod socket;

pub(crate) use batch::{Batch, Chain, Data, Element, Hook, Set, ty};
pub use socket::Error;
pub(crate) use socket::Monitor;
pub(crate) use socket::Socket;
