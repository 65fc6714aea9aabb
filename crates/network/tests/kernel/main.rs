//! What the kernel does with what this crate tells it, in network namespaces that the tests make.

mod bridge;
mod dns;
mod proxy;
mod support;
