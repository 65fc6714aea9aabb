//! The pod network, the service proxy and DNS.
//!
//! [`bridge`] connects pods of this node ([`cni`] does instead where an administrator configured foreign plugins),
//! [`routes`] leads to those of other nodes, [`proxy`] leads services' addresses to endpoints (and answers in the
//! node's links for those of load balancers),
//! [`dns`] answers for both and forwards the rest. They are independent; all but the bridge are clients of the API and of
//! nothing else.
//! What they make in the kernel carries the [`Instance`] in its name, and [`cleanup`] removes all of it.

mod announce;
pub mod bridge;
pub mod cni;
pub mod dns;
mod instance;
mod links;
mod netfilter;
mod preflight;
pub mod proxy;
mod router;
pub mod routes;
mod sandbox_files;

pub use bridge::PodNetwork;
pub use instance::{Instance, InvalidInstance};
pub use netfilter::Error as NetfilterError;
pub use preflight::{Missing, preflight};
pub use proxy::Proxy;
pub use router::Error as LinkError;
pub use sandbox_files::Error as SandboxFileError;

/// What [`cleanup`] could not remove.
#[derive(Debug, thiserror::Error)]
pub enum CleanupError {
    #[error("removing the pod network: {0}")]
    PodNetwork(#[from] bridge::Error),
    #[error("opening a route socket: {0}")]
    Open(#[source] std::io::Error),
    #[error("removing the ways to other nodes' pods: {0}")]
    Routes(#[from] LinkError),
    #[error("removing the service rules: {0}")]
    Services(#[from] NetfilterError),
}

/// Removes every kernel object that this crate made for the instance, whichever process did and however it ended.
/// Objects that are not there are no error.
pub async fn cleanup(instance: Instance) -> Result<(), CleanupError> {
    proxy::cleanup(instance)?;
    let router = router::Router::here().map_err(CleanupError::Open)?;
    routes::cleanup(&router, instance).await?;
    Ok(bridge::cleanup(instance).await?)
}
