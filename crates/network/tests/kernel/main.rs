//! What the kernel does with what this crate tells it, in network namespaces that the tests make.

mod announce;
mod api;
mod bridge;
mod cni;
mod dns;
mod live;
mod proxy;
mod real;
mod routes;
mod support;
