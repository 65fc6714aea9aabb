//! The kubelet: pod workers, probes, volumes, node status; speaks CRI, never a runtime's own API.
