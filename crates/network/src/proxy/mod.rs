//! The service proxy: services' addresses lead to their endpoints, by nftables.
//!
//! Watches Services and EndpointSlices, and keeps one table of its own ([`Instance::service_table`]) in step with
//! them. [`plan`] decides, purely, where each address of one service leads; [`state`] turns a service's new routes
//! into the smallest change of the kernel's tables; one transaction applies all changes that have come together.
//! At the start the whole table is replaced at once, so a proxy that comes back finds connections served by the old
//! table up to that moment, and by the new one from then on.
//!
//! Promises: ClusterIP, NodePort (on every address of the node, 127.0.0.1 included with the built-in pod network),
//! external and load balancer addresses; TCP, UDP, SCTP where the kernel has it; from pods, from the node, and from
//! outside. Endpoints take turns, those that hints name ([`topology`]) before others. A service without endpoints is refused at once. Load
//! balancers are told at a service's `healthCheckNodePort` how many endpoints are here. IPv4 only.

mod health;
pub mod model;
pub mod plan;
pub(crate) mod run;
pub mod state;
mod table;
pub mod topology;

pub(crate) use run::cleanup;
pub use run::{Config, Error, Proxy, Update};
