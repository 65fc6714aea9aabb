//! Remote command and port forwarding streams over WebSocket and SPDY.
