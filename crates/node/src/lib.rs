//! The kubelet: pod workers, probes, volumes, node status; speaks CRI, never a runtime's own API.
//!
//! Each pod has one [`worker`] task. It looks at what the runtime has, asks [`plan::plan`] what to do, has it done
//! by operations that run beside it, and tells the API what [`status::compute`] says. Nothing here knows which
//! runtime answers, and the worker itself never waits for I/O other than the runtime's short answers.

pub mod admission;
pub mod backoff;
pub mod bundles;
pub mod certificates;
pub mod cgroups;
mod changes;
pub mod config;
mod config_hash;
pub mod content;
mod context;
mod counts;
pub mod credentials;
mod directory_watch;
pub mod env;
pub mod env_file;
mod expand;
pub mod features;
pub mod fields;
mod gc;
pub mod images;
pub mod key;
mod kubelet;
pub mod labels;
mod lease;
pub mod local_path;
pub mod logs;
pub mod machine;
pub mod make;
pub mod names;
pub mod observed;
pub mod plan;
pub mod pod;
pub mod probes;
pub mod qos;
mod registration;
mod registry;
pub mod resize;
pub mod runtime;
pub mod security;
mod server;
pub mod services;
mod static_pods;
pub mod status;
pub mod sysctls;
#[cfg(test)]
mod testing;
pub mod userns;
pub mod volumes;
mod worker;

pub use config::Config;
pub use directory_watch::DirectoryWatch;
pub use kubelet::{Kubelet, KubeletError, remove_leftovers};

#[cfg(test)]
mod node_tests;
