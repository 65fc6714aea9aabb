//! The Container Runtime Interface v1: messages, services, and a client that needs no socket.
//!
//! [`v1`] holds what is generated from `proto/runtime.proto`. [`Client`] is one type for both ways to reach a
//! runtime: inside the same process ([`Client::in_process`]) or over its unix socket ([`Client::connect`]), so
//! that a kubelet never knows which runtime answers.

mod client;

pub use client::{Client, ConnectError, MAX_MESSAGE_BYTES, Transport, TransportError};

/// Messages, clients and server traits of the package `runtime.v1`.
#[allow(clippy::all, missing_docs, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("runtime.v1");
}

/// Shows who logs in where, never with what.
impl std::fmt::Debug for v1::AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("username", &self.username)
            .field("server_address", &self.server_address)
            .finish_non_exhaustive()
    }
}
