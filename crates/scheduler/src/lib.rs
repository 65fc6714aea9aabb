//! Filter, score and bind over an incremental snapshot of the nodes.
//!
//! A cycle ([`cycle`]) reads nothing but the [`snapshot::Snapshot`], which informers keep; it asks the nodes that it
//! has to the [`framework::Profile`]'s filter plugins, scores those that fit, and assumes the pod there before the
//! binding is written, so that the next cycle already counts it. If none fits, [`preemption`] looks for pods that have
//! to make room. What kept a pod from each node is kept as data ([`unfit`]) and decides which events are worth another
//! try.

mod claiming;
mod config;
pub mod cycle;
pub mod devices;
mod effects;
pub mod event;
mod extended;
pub mod extender;
pub mod framework;
mod gang;
pub mod memo;
pub mod metrics;
pub mod plugins;
pub mod pod;
pub mod preemption;
mod queue;
pub mod resources;
mod runner;
pub mod selector;
pub mod snapshot;
mod sources;
pub mod state;
pub mod terms;
pub mod unfit;
pub mod volumes;

pub use config::{Config, ConfigError};
pub use runner::Scheduler;
