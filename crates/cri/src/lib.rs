//! The Container Runtime Interface v1: messages, services, and a client that needs no socket.
