//! The request path: TLS, authentication, authorization, admission, the registry, list and watch.

pub mod admission;
pub mod authz;
pub mod cache;
pub mod identity;
