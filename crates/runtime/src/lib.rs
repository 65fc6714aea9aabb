//! The embedded CRI runtime: images, snapshots, sandboxes, containers and the shim of a pod.
