//! Remote command and port forwarding streams over WebSocket and SPDY.
//!
//! This is the far end of `kubectl exec`, `attach`, `cp` and `port-forward`: the API server and the
//! kubelet only pass bytes of the upgraded connection along. A CRI runtime hands out a URL of the
//! [`server::Server`], which calls the runtime's [`server::Backend`] when a client connects to it.
//!
//! | client | exec and attach | port-forward |
//! |---|---|---|
//! | kubectl since 1.31 | WebSocket `v5.channel.k8s.io` | SPDY in a WebSocket, `SPDY/3.1+portforward.k8s.io` |
//! | older kubectl, client-go's fallback | SPDY/3.1, `v4.channel.k8s.io` and before | SPDY/3.1, `portforward.k8s.io` |
//! | browsers, the Python client | WebSocket `v4.channel.k8s.io`, `v4.base64.channel.k8s.io` and before | WebSocket `v4.channel.k8s.io` with `ports` |

mod command;
mod pipe;
mod port_forward;
pub mod server;
pub mod spdy;
mod websocket;

pub use server::{Backend, Command, ExitStatus, Io, Server, TerminalSize};
