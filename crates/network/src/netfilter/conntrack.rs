//! Forgetting connections.
