//! The server side of SPDY/3.1, as much of it as `httpstream/spdy` clients speak.
//!
//! Those clients neither send nor obey flow-control windows; a slow stream therefore slows its connection.

mod connection;
pub(crate) mod frame;
pub(crate) mod headers;

pub use connection::{Connection, Stream};
pub use frame::Error;

#[cfg(test)]
#[path = "../spdy_tests.rs"]
mod tests;
