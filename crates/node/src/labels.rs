//! The labels and annotations by which the node finds its own sandboxes and containers again.
//!
//! Upstream's names, so that tools that read CRI state (crictl, log shippers) understand them.

/// Label: the pod's name.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's UID.
pub const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name.
pub const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// Annotation: hash of the part of the container's spec whose change calls for a restart.
pub const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often the container was restarted before this instance.
pub const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where in the container its last words are written.
pub const TERMINATION_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub const TERMINATION_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the pod's grace period when the container was made.
pub const POD_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";

/// Annotation of pods: where the pod's configuration came from (`api` or `file`).
pub const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// Annotation of static and mirror pods: hash of the manifest.
pub const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// Annotation of mirror pods: hash of the manifest that it mirrors.
pub const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
/// Annotation of static pods: when the manifest was first seen.
pub const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
