//! The pod network, the service proxy and DNS.
