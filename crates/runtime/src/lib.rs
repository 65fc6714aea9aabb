//! The embedded CRI runtime: images, snapshots, sandboxes, containers and the shim of a pod.
//!
//! ```text
//!  CRI ──▶ service ──▶ sandbox, container ──▶ shim::client ═══ socket ═══ shim (one process a pod)
//!                 └──▶ image (store, import, pull, pack)                  ├── pause: the pod's namespaces
//!                                                                         └── containers, by libcontainer
//! ```
//!
//! What must hold:
//! - A pod belongs to its shim. This process may be killed at any moment: no container notices, and the next
//!   [`Runtime::open`] on the same directory knows every exit code ([`shim`] tells how).
//! - Everything is on disk before anyone is told. A record is written by one rename, and the record that makes an
//!   object exist is written last and removed first, so what a crash leaves half done is found and taken down.
//! - Nothing here knows Kubernetes' objects, and nothing outside [`network::PodNetwork`] the network.
//! - No path that an image or a container can influence is resolved by name from the host's root.
//! - An idle runtime does nothing: ends are told by the shims, and nobody asks twice.

mod cgroup;
mod cleanup;
mod clock;
mod container;
pub mod error;
mod events;
mod exec;
mod files;
pub mod image;
mod netns;
pub mod network;
mod record;
mod runtime;
mod sandbox;
mod service;
pub mod shim;
mod spec;
mod stats;
mod sys;

pub use cleanup::cleanup;
pub use error::{Error, Result};
pub use network::PodNetwork;
pub use runtime::{Config, Runtime};
