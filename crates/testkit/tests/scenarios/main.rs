//! The binary, real kubectl, real containers. Run with `cargo xtask test --only scenario`.

mod adoption;
mod balancing;
mod clients;
mod custom;
mod devices;
mod disk;
mod election;
mod fields;
mod helm;
mod input;
mod logs;
mod loops;
mod manifests;
mod objects;
mod old_kubectl;
mod operator;
mod pair;
mod past;
mod policies;
mod queues;
mod quickstart;
mod registry;
mod removed;
mod rollouts;
mod shared;
mod streams;
mod tables;
mod traffic;
mod usage;
mod volumes;

/// Prints one field of the objects that a selection gives.
fn field(path: &str) -> String {
    format!("-o=jsonpath={{{path}}}")
}
