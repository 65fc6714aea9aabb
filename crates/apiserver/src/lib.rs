//! The request path: TLS, authentication, authorization, admission, the registry, list and watch.

pub mod admission;
pub mod aggregation;
pub mod alloc;
mod apart;
pub mod at_rest;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod bootstrap;
mod bounded;
pub mod cache;
mod config_file;
pub mod definitions;
mod derived;
pub mod discovery;
mod expressions;
mod fairness;
pub mod http;
pub mod identity;
mod kept;
pub mod kubernetes_service;
mod library;
pub mod metrics;
pub mod node_proxy;
pub mod openapi;
pub mod outgoing;
mod per_row;
pub mod registry;
pub mod sealed;
pub mod security;
pub mod server;
#[cfg(test)]
mod server_tests;
pub mod source;
pub mod stored;
#[cfg(test)]
mod testing;
pub mod trace;
mod usage;
mod why;

pub use server::{ApiServer, Config};
