//! The control loops: one module a controller, a pure plan and a thin runner.
//!
//! Every controller is a client of the API and of nothing else. It reads from the shared
//! [`informers::Informers`], writes with an identity of its own, and knows no other controller.

mod amount;
mod attach_detach;
mod autoscaler;
mod bootstrap;
mod certificates;
mod claim;
mod controller;
mod cron_job;
mod daemon_set;
mod deployment;
mod device_eviction;
mod discovery;
mod disruption;
mod endpoints;
mod garbage;
mod history;
mod informers;
mod job;
mod load_balancer;
mod manager;
pub mod metrics;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod object;
mod pod;
mod pod_control;
mod pod_gc;
mod pods;
mod policy_status;
mod replica_set;
mod resource_claims;
mod resource_quota;
mod role_aggregation;
mod scale;
mod selection;
mod service_account;
mod stateful_set;
mod storage_version;
#[cfg(test)]
mod testing;
mod token_secrets;
mod volumes;

pub use load_balancer::{
    Settings as LoadBalancerSettings,
    pool::{Pool as LoadBalancerPool, PoolError, Range},
};
pub use manager::{Config, ControllerManager, Error};
pub use node_ipam::{Parted, RangeError, Settings as NodeIpamSettings};
pub use node_lifecycle::Settings as NodeLifecycleSettings;
pub use selection::{Selection, Unknown};
