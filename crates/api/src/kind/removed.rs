//! The versions that upstream has removed since 1.16, added to the rows of the current ones.
//!
//! They are stored as the current version is. What they call differently stands in [`crate::convert::removed`], what
//! they fill in differently in [`crate::defaults::removed`].

use super::{Kind, Storage, Version, rows};
use crate::convert::removed::{autoscaling, definitions, others, workloads};
use crate::defaults::removed as defaults;
use crate::validate::{initializers, workload};
use crate::{meta, prepare};

/// A version of a kind: since which minor release it was deprecated, with which one it went, and what is said to
/// take its place.
struct Removed {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    deprecated: u8,
    gone: u8,
    instead: &'static str,
}

impl Removed {
    /// As upstream's servers warned.
    fn warning(&self) -> String {
        let Self { group, version, kind, deprecated, gone, instead } = self;
        let mut text =
            format!("{group}/{version} {kind} is deprecated in v1.{deprecated}+, unavailable in v1.{gone}+");
        if !instead.is_empty() {
            text.push_str("; use ");
            text.push_str(instead);
        }
        text
    }

    fn version(&self) -> Version {
        let warning = Some(self.warning().into());
        Version { name: self.version.into(), served: true, warning, gone: Some(self.gone) }
    }
}

const fn row(
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    (deprecated, gone): (u8, u8),
    instead: &'static str,
) -> Removed {
    Removed { group, version, kind, deprecated, gone, instead }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const FLOW_CONTROL: &str = "flowcontrol.apiserver.k8s.io";

/// Before there was a collector of garbage, clients deleted what belonged to a workload themselves; the versions of that
/// time leave it.
pub(super) fn orphans(group: &str, version: &str, kind: &str) -> bool {
    match group {
        "batch" => kind == "CronJob" && matches!(version, "v1beta1" | "v2alpha1"),
        "apps" => {
            matches!(version, "v1beta1" | "v1beta2")
                && matches!(kind, "DaemonSet" | "Deployment" | "ReplicaSet" | "StatefulSet")
        }
        "extensions" => matches!(kind, "DaemonSet" | "Deployment" | "ReplicaSet"),
        _ => false,
    }
}

/// Versions of kinds whose group still has them.
const VERSIONS: &[Removed] = &[
    row("apps", "v1beta2", "ControllerRevision", (9, 16), "apps/v1 ControllerRevision"),
    row("apps", "v1beta2", "DaemonSet", (9, 16), "apps/v1 DaemonSet"),
    row("apps", "v1beta2", "Deployment", (9, 16), "apps/v1 Deployment"),
    row("apps", "v1beta2", "ReplicaSet", (9, 16), "apps/v1 ReplicaSet"),
    row("apps", "v1beta2", "StatefulSet", (9, 16), "apps/v1 StatefulSet"),
    row("apps", "v1beta1", "ControllerRevision", (8, 16), "apps/v1 ControllerRevision"),
    row("apps", "v1beta1", "Deployment", (8, 16), "apps/v1 Deployment"),
    row("apps", "v1beta1", "StatefulSet", (8, 16), "apps/v1 StatefulSet"),
    row("events.k8s.io", "v1beta1", "Event", (22, 25), ""),
    row(
        "autoscaling",
        "v2beta2",
        "HorizontalPodAutoscaler",
        (23, 26),
        "autoscaling/v2 HorizontalPodAutoscaler",
    ),
    row(
        "autoscaling",
        "v2beta1",
        "HorizontalPodAutoscaler",
        (22, 25),
        "autoscaling/v2 HorizontalPodAutoscaler",
    ),
    row("batch", "v1beta1", "CronJob", (21, 25), "batch/v1 CronJob"),
    row("batch", "v2alpha1", "CronJob", (8, 21), "batch/v1 CronJob"),
    row(
        "certificates.k8s.io",
        "v1beta1",
        "CertificateSigningRequest",
        (19, 22),
        "certificates.k8s.io/v1 CertificateSigningRequest",
    ),
    row("networking.k8s.io", "v1beta1", "Ingress", (19, 22), "networking.k8s.io/v1 Ingress"),
    // Upstream names the list here.
    row("networking.k8s.io", "v1beta1", "IngressClass", (19, 22), "networking.k8s.io/v1 IngressClassList"),
    row("policy", "v1beta1", "PodDisruptionBudget", (21, 25), "policy/v1 PodDisruptionBudget"),
    row(RBAC, "v1beta1", "ClusterRoleBinding", (17, 22), "rbac.authorization.k8s.io/v1 ClusterRoleBinding"),
    row(RBAC, "v1beta1", "ClusterRole", (17, 22), "rbac.authorization.k8s.io/v1 ClusterRole"),
    row(RBAC, "v1beta1", "RoleBinding", (17, 22), "rbac.authorization.k8s.io/v1 RoleBinding"),
    row(RBAC, "v1beta1", "Role", (17, 22), "rbac.authorization.k8s.io/v1 Role"),
    row(RBAC, "v1alpha1", "ClusterRoleBinding", (17, 22), "rbac.authorization.k8s.io/v1 ClusterRoleBinding"),
    row(RBAC, "v1alpha1", "ClusterRole", (17, 22), "rbac.authorization.k8s.io/v1 ClusterRole"),
    row(RBAC, "v1alpha1", "RoleBinding", (17, 22), "rbac.authorization.k8s.io/v1 RoleBinding"),
    row(RBAC, "v1alpha1", "Role", (17, 22), "rbac.authorization.k8s.io/v1 Role"),
    row(STORAGE, "v1beta1", "CSIDriver", (19, 22), "storage.k8s.io/v1 CSIDriver"),
    row(STORAGE, "v1beta1", "CSINode", (17, 22), "storage.k8s.io/v1 CSINode"),
    row(STORAGE, "v1beta1", "CSIStorageCapacity", (24, 27), "storage.k8s.io/v1 CSIStorageCapacity"),
    row(STORAGE, "v1beta1", "StorageClass", (19, 22), "storage.k8s.io/v1 StorageClass"),
    row(STORAGE, "v1beta1", "VolumeAttachment", (19, 22), "storage.k8s.io/v1 VolumeAttachment"),
    row("scheduling.k8s.io", "v1beta1", "PriorityClass", (14, 22), "scheduling.k8s.io/v1 PriorityClass"),
    row("scheduling.k8s.io", "v1alpha1", "PriorityClass", (14, 22), "scheduling.k8s.io/v1 PriorityClass"),
    row("coordination.k8s.io", "v1beta1", "Lease", (19, 22), "coordination.k8s.io/v1 Lease"),
    row("node.k8s.io", "v1beta1", "RuntimeClass", (22, 25), ""),
    row(
        ADMISSION,
        "v1beta1",
        "MutatingWebhookConfiguration",
        (16, 22),
        "admissionregistration.k8s.io/v1 MutatingWebhookConfiguration",
    ),
    row(
        ADMISSION,
        "v1beta1",
        "ValidatingWebhookConfiguration",
        (16, 22),
        "admissionregistration.k8s.io/v1 ValidatingWebhookConfiguration",
    ),
    row(
        "apiextensions.k8s.io",
        "v1beta1",
        "CustomResourceDefinition",
        (16, 22),
        "apiextensions.k8s.io/v1 CustomResourceDefinition",
    ),
    row("discovery.k8s.io", "v1beta1", "EndpointSlice", (21, 25), "discovery.k8s.io/v1 EndpointSlice"),
    row("authentication.k8s.io", "v1beta1", "SelfSubjectReview", (30, 33), ""),
    row("authentication.k8s.io", "v1beta1", "TokenReview", (19, 22), "authentication.k8s.io/v1 TokenReview"),
    row(
        AUTHORIZATION,
        "v1beta1",
        "LocalSubjectAccessReview",
        (19, 22),
        "authorization.k8s.io/v1 LocalSubjectAccessReview",
    ),
    row(
        AUTHORIZATION,
        "v1beta1",
        "SelfSubjectAccessReview",
        (19, 22),
        "authorization.k8s.io/v1 SelfSubjectAccessReview",
    ),
    row(
        AUTHORIZATION,
        "v1beta1",
        "SelfSubjectRulesReview",
        (19, 22),
        "authorization.k8s.io/v1 SelfSubjectRulesReview",
    ),
    row(
        AUTHORIZATION,
        "v1beta1",
        "SubjectAccessReview",
        (19, 22),
        "authorization.k8s.io/v1 SubjectAccessReview",
    ),
    row("apiregistration.k8s.io", "v1beta1", "APIService", (19, 22), "apiregistration.k8s.io/v1 APIService"),
    row(FLOW_CONTROL, "v1beta3", "FlowSchema", (29, 32), "flowcontrol.apiserver.k8s.io/v1 FlowSchema"),
    row(
        FLOW_CONTROL,
        "v1beta3",
        "PriorityLevelConfiguration",
        (29, 32),
        "flowcontrol.apiserver.k8s.io/v1 PriorityLevelConfiguration",
    ),
    row(FLOW_CONTROL, "v1beta2", "FlowSchema", (26, 29), "flowcontrol.apiserver.k8s.io/v1beta3 FlowSchema"),
    row(
        FLOW_CONTROL,
        "v1beta2",
        "PriorityLevelConfiguration",
        (26, 29),
        "flowcontrol.apiserver.k8s.io/v1beta3 PriorityLevelConfiguration",
    ),
    row(FLOW_CONTROL, "v1beta1", "FlowSchema", (23, 26), "flowcontrol.apiserver.k8s.io/v1beta3 FlowSchema"),
    row(
        FLOW_CONTROL,
        "v1beta1",
        "PriorityLevelConfiguration",
        (23, 26),
        "flowcontrol.apiserver.k8s.io/v1beta3 PriorityLevelConfiguration",
    ),
];

/// Kinds that have moved to another group, which is that of the row they share their storage with.
const EXTENSIONS: &[(Removed, &str)] = &[
    (row("extensions", "v1beta1", "DaemonSet", (8, 16), "apps/v1 DaemonSet"), "apps"),
    (row("extensions", "v1beta1", "Deployment", (8, 16), "apps/v1 Deployment"), "apps"),
    (row("extensions", "v1beta1", "Ingress", (14, 22), "networking.k8s.io/v1 Ingress"), "networking.k8s.io"),
    (
        row("extensions", "v1beta1", "NetworkPolicy", (9, 16), "networking.k8s.io/v1 NetworkPolicy"),
        "networking.k8s.io",
    ),
    (row("extensions", "v1beta1", "ReplicaSet", (8, 16), "apps/v1 ReplicaSet"), "apps"),
];

const INITIALIZERS: Removed = row(ADMISSION, "v1alpha1", "InitializerConfiguration", (13, 14), "");

/// The configuration of initializers, which upstream has dropped as a whole.
fn initializer_configuration() -> Kind {
    let Removed { group, version, kind, .. } = INITIALIZERS;
    let mut row = rows::row(group, kind, "initializerconfigurations").cluster().conditional_update();
    row.storage =
        Some(Storage { group: group.into(), version: version.into(), resource: row.resource.clone() });
    row.versions = vec![INITIALIZERS.version()];
    row.hooks.prepare_create = meta::start_generation;
    row.hooks.update.prepare = prepare::update_whole_counted;
    row.hooks.validate_create = initializers::configuration;
    row.hooks.update.validate = |new, _| initializers::configuration(new);
    row
}

/// Adds what has been removed to the current rows.
pub(super) fn add(rows: &mut Vec<Kind>) {
    for removed in VERSIONS {
        let found = rows.iter_mut().find(|k| k.group == removed.group && k.kind == removed.kind);
        if let Some(kind) = found {
            kind.versions.push(removed.version());
            speak(kind);
        }
    }
    rows.push(initializer_configuration());
    // Ingresses are looked for in the group where they are now before they are in this one.
    let behind = rows.iter().rposition(|k| k.group == "networking.k8s.io").map_or(rows.len(), |at| at + 1);
    let moved: Vec<Kind> = EXTENSIONS
        .iter()
        .filter_map(|(removed, group)| {
            let now = rows.iter().find(|k| k.group == *group && k.kind == removed.kind)?;
            Some(extension(now, removed))
        })
        .collect();
    rows.splice(behind..behind, moved);
}

/// The row of a kind in the group where it was. The short names and categories stay with the current group, so that
/// `kubectl get all` shows every object once.
fn extension(now: &Kind, removed: &Removed) -> Kind {
    let mut kind = Kind {
        group: removed.group.into(),
        versions: vec![removed.version()],
        short_names: Vec::new(),
        categories: Vec::new(),
        ..now.clone()
    };
    speak(&mut kind);
    kind
}

/// Lets a row default and convert the removed versions that it has.
fn speak(kind: &mut Kind) {
    let hooks = &mut kind.hooks;
    match (&*kind.group, &*kind.kind) {
        ("apps" | "extensions", "Deployment") => {
            hooks.default = defaults::deployment;
            (hooks.to_storage, hooks.from_storage) = (workloads::deployment_to, workloads::deployment_from);
        }
        ("extensions", "DaemonSet") => {
            hooks.default = defaults::daemon_set;
            (hooks.to_storage, hooks.from_storage) = (workloads::daemon_set_to, workloads::daemon_set_from);
        }
        ("extensions", "ReplicaSet") => hooks.default = defaults::replica_set,
        ("apps", "StatefulSet") => hooks.default = defaults::stateful_set,
        ("extensions" | "networking.k8s.io", "Ingress") => {
            hooks.default = defaults::ingress;
            (hooks.to_storage, hooks.from_storage) = (others::ingress_to, others::ingress_from);
        }
        ("autoscaling", "HorizontalPodAutoscaler") => {
            hooks.default = defaults::autoscaler;
            (hooks.to_storage, hooks.from_storage) = (autoscaling::to_storage, autoscaling::from_storage);
        }
        ("policy", "PodDisruptionBudget") => {
            (hooks.to_storage, hooks.from_storage) = (others::budget_to, others::budget_from);
        }
        (RBAC, "ClusterRoleBinding" | "RoleBinding") => {
            hooks.default = defaults::role_binding;
            (hooks.to_storage, hooks.from_storage) = (others::binding_to, others::binding_from);
        }
        ("discovery.k8s.io", "EndpointSlice") => {
            (hooks.to_storage, hooks.from_storage) = (others::slice_to, others::slice_from);
        }
        (ADMISSION, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            hooks.default = defaults::webhooks;
            (hooks.to_storage, hooks.from_storage) = (others::webhooks_to, others::webhooks_from);
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => {
            hooks.default = defaults::definition;
            (hooks.to_storage, hooks.from_storage) = (definitions::to_storage, definitions::from_storage);
        }
        (AUTHORIZATION, "LocalSubjectAccessReview" | "SubjectAccessReview") => {
            (hooks.to_storage, hooks.from_storage) = (others::review_to, others::review_from);
        }
        (FLOW_CONTROL, "PriorityLevelConfiguration") => {
            hooks.default = defaults::priority_level;
            (hooks.to_storage, hooks.from_storage) = (others::level_to, others::level_from);
        }
        ("certificates.k8s.io", "CertificateSigningRequest") => hooks.default = defaults::signing_request,
        _ => {}
    }
    // Selectors could still change here.
    match (&*kind.group, &*kind.kind) {
        ("extensions", "DaemonSet") => hooks.update.validate = |new, _| workload::daemon_set(new),
        ("extensions", "Deployment") => hooks.update.validate = |new, _| workload::deployment(new),
        ("extensions", "ReplicaSet") => hooks.update.validate = |new, _| workload::replica_set(new),
        _ => {}
    }
}

#[cfg(test)]
#[path = "removed_tests.rs"]
mod tests;
