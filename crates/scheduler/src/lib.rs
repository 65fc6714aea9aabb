//! Filter, score and bind over an incremental snapshot of the nodes.
//!
//! A cycle reads nothing but the [`snapshot::Snapshot`], which informers keep; it asks each node the
//! [`framework::Profile`]'s filter plugins, scores those that fit, and assumes the pod there before the
//! binding is written, so that the next cycle already counts it. What kept a pod from each node is kept as
//! data in a [`framework::Unfit`] and decides which events are worth another try.

mod cycle;
pub mod framework;
mod plugins;
pub mod pod;
mod queue;
pub mod resources;
mod runner;
pub mod snapshot;

pub use runner::{Config, Scheduler};
