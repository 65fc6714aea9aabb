//! The pod network, the service proxy and DNS.
//!
//! [`bridge`] connects pods of this node, [`proxy`] leads services' addresses to endpoints, [`dns`] answers for both
//! and forwards the rest. The three are independent; the proxy and DNS are clients of the API and of nothing else.
//! What they make in the kernel carries the [`Instance`] in its name, and [`cleanup`] removes all of it.

pub mod bridge;
mod instance;
mod netfilter;

pub use bridge::PodNetwork;
pub use instance::{Instance, InvalidInstance};
pub use netfilter::Error as NetfilterError;

/// Removes every kernel object that this crate made for the instance, whichever process did and however it ended.
pub async fn cleanup(instance: Instance) -> Result<(), bridge::Error> {
    bridge::cleanup(instance).await
}
