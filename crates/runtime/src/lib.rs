//! The embedded CRI runtime: images, snapshots, sandboxes, containers and the shim of a pod.

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
