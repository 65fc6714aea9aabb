//! From the API's security contexts to the runtime's.

use std::path::Path;

use k8s_openapi::api::core::v1::{Container, Pod, SeccompProfile, SecurityContext};
use tiphys_cri::v1;

use crate::pod;

/// Paths of `/proc` and `/sys` that a container can't see, and those that it can't write, by default.
const MASKED: [&str; 13] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
    "/sys/devices/system/cpu/thermal_throttle",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// A container that must not run as root would, or might.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootError {
    /// The user is given, and is root.
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    AsRoot {
        /// The pod as upstream prints it.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The image says root, or nothing.
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRoot {
        /// The pod as upstream prints it.
        pod: String,
        /// The container's name.
        container: String,
    },
    /// The image names its user, and names prove nothing.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: \"{pod}\", container: {container})"
    )]
    ImageUser {
        /// The image's user.
        user: String,
        /// The pod as upstream prints it.
        pod: String,
        /// The container's name.
        container: String,
    },
}

/// Checks `runAsNonRoot` against the user that the container would have.
pub fn check_non_root(pod: &Pod, container: &Container, image: &v1::Image) -> Result<(), RootError> {
    let own = pod::security(container);
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    if !own.run_as_non_root.or(of_pod.run_as_non_root).unwrap_or(false) {
        return Ok(());
    }
    let name = container.name.clone();
    let meta = &pod.metadata;
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    let shown = format!("{}_{}({})", text(&meta.name), text(&meta.namespace), text(&meta.uid));
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => Err(RootError::AsRoot { pod: shown, container: name }),
        Some(_) => Ok(()),
        None => match &image.uid {
            Some(uid) if uid.value != 0 => Ok(()),
            None if !image.username.is_empty() => {
                Err(RootError::ImageUser { user: image.username.clone(), pod: shown, container: name })
            }
            _ => Err(RootError::ImageRoot { pod: shown, container: name }),
        },
    }
}

/// The namespaces that a pod shares with the host or among its containers.
pub fn namespaces(pod: &Pod, target: Option<String>) -> v1::NamespaceOption {
    let spec = pod::spec(pod);
    let host = |own: Option<bool>, otherwise: v1::NamespaceMode| {
        let mode = if own.unwrap_or(false) { v1::NamespaceMode::Node } else { otherwise };
        mode as i32
    };
    let shared = if spec.share_process_namespace.unwrap_or(false) {
        v1::NamespaceMode::Pod
    } else {
        v1::NamespaceMode::Container
    };
    let pid = match &target {
        Some(_) => v1::NamespaceMode::Target as i32,
        None => host(spec.host_pid, shared),
    };
    v1::NamespaceOption {
        network: host(spec.host_network, v1::NamespaceMode::Pod),
        pid,
        ipc: host(spec.host_ipc, v1::NamespaceMode::Pod),
        target_id: target.unwrap_or_default(),
        userns_options: None,
    }
}

/// The AppArmor profile of a container, its own or the pod's; a privileged one has none.
fn app_armor(pod: &Pod, container: &Container) -> Option<v1::SecurityProfile> {
    use v1::security_profile::ProfileType;
    let own = pod::security(container);
    if own.privileged.unwrap_or(false) {
        return None;
    }
    let of_pod = pod::spec(pod).security_context.as_ref().and_then(|c| c.app_armor_profile.clone());
    let profile = own.app_armor_profile.or(of_pod)?;
    let (kind, name) = match profile.type_.as_str() {
        "RuntimeDefault" => (ProfileType::RuntimeDefault, None),
        "Localhost" => (ProfileType::Localhost, profile.localhost_profile),
        _ => (ProfileType::Unconfined, None),
    };
    Some(v1::SecurityProfile { profile_type: kind as i32, localhost_ref: name.unwrap_or_default() })
}

/// Whether a container is to run under an AppArmor profile.
pub fn is_confined(pod: &Pod, container: &Container) -> bool {
    let unconfined = v1::security_profile::ProfileType::Unconfined as i32;
    app_armor(pod, container).is_some_and(|profile| profile.profile_type != unconfined)
}

fn id(value: Option<i64>) -> Option<v1::Int64Value> {
    value.map(|value| v1::Int64Value { value })
}

fn seccomp(
    own: Option<&SeccompProfile>,
    of_pod: Option<&SeccompProfile>,
    privileged: bool,
    dir: &Path,
) -> v1::SecurityProfile {
    use v1::security_profile::ProfileType;
    let unconfined =
        v1::SecurityProfile { profile_type: ProfileType::Unconfined as i32, localhost_ref: String::new() };
    if privileged {
        return unconfined;
    }
    match own.or(of_pod) {
        Some(p) if p.type_ == "RuntimeDefault" => v1::SecurityProfile {
            profile_type: ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        },
        Some(p) if p.type_ == "Localhost" => v1::SecurityProfile {
            profile_type: ProfileType::Localhost as i32,
            localhost_ref: dir.join(p.localhost_profile.as_deref().unwrap_or_default()).display().to_string(),
        },
        _ => unconfined,
    }
}

/// Groups beside the primary one: those of the pod, and the one that owns its volumes.
fn supplemental_groups(pod: &Pod) -> Vec<i64> {
    let context = pod::spec(pod).security_context.as_ref();
    let mut groups: Vec<i64> = context.and_then(|c| c.fs_group).into_iter().collect();
    groups.extend(context.iter().flat_map(|c| c.supplemental_groups.iter().flatten()));
    groups
}

fn groups_policy(pod: &Pod) -> i32 {
    let policy =
        pod::spec(pod).security_context.as_ref().and_then(|c| c.supplemental_groups_policy.as_deref());
    match policy {
        Some("Strict") => v1::SupplementalGroupsPolicy::Strict as i32,
        _ => v1::SupplementalGroupsPolicy::Merge as i32,
    }
}

/// The sandbox's security context. It is privileged if any container is.
pub fn of_sandbox(pod: &Pod) -> v1::LinuxSandboxSecurityContext {
    let context = pod::spec(pod).security_context.clone().unwrap_or_default();
    let privileged = pod::all_containers(pod).any(|c| pod::security(&c.spec).privileged.unwrap_or(false));
    v1::LinuxSandboxSecurityContext {
        namespace_options: Some(namespaces(pod, None)),
        run_as_user: id(context.run_as_user),
        run_as_group: id(context.run_as_group),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        privileged,
        seccomp: Some(v1::SecurityProfile {
            profile_type: v1::security_profile::ProfileType::RuntimeDefault as i32,
            localhost_ref: String::new(),
        }),
        ..v1::LinuxSandboxSecurityContext::default()
    }
}

/// A container's security context: its own where it says something, else the pod's. Seccomp profiles of the
/// node are looked for in `seccomp_dir`.
pub fn of_container(
    pod: &Pod,
    container: &Container,
    target: Option<String>,
    seccomp_dir: &Path,
) -> v1::LinuxContainerSecurityContext {
    let own: SecurityContext = pod::security(container);
    let of_pod = pod::spec(pod).security_context.clone().unwrap_or_default();
    let privileged = own.privileged.unwrap_or(false);
    let unmasked = privileged || own.proc_mount.as_deref() == Some("Unmasked");
    let paths =
        |list: &[&str]| if unmasked { vec![] } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let capabilities = own.capabilities.as_ref().map(|c| v1::Capability {
        add_capabilities: c.add.clone().unwrap_or_default(),
        drop_capabilities: c.drop.clone().unwrap_or_default(),
        add_ambient_capabilities: vec![],
    });
    let options = own.se_linux_options.as_ref().or(of_pod.se_linux_options.as_ref());
    v1::LinuxContainerSecurityContext {
        capabilities,
        privileged,
        namespace_options: Some(namespaces(pod, target)),
        selinux_options: options.map(|o| v1::SeLinuxOption {
            user: o.user.clone().unwrap_or_default(),
            role: o.role.clone().unwrap_or_default(),
            r#type: o.type_.clone().unwrap_or_default(),
            level: o.level.clone().unwrap_or_default(),
        }),
        run_as_user: id(own.run_as_user.or(of_pod.run_as_user)),
        run_as_group: id(own.run_as_group.or(of_pod.run_as_group)),
        readonly_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        supplemental_groups: supplemental_groups(pod),
        supplemental_groups_policy: groups_policy(pod),
        no_new_privs: own.allow_privilege_escalation == Some(false),
        apparmor: app_armor(pod, container),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(seccomp(
            own.seccomp_profile.as_ref(),
            of_pod.seccomp_profile.as_ref(),
            privileged,
            seccomp_dir,
        )),
        ..v1::LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_from;
    use serde_json::{Value, json};

    fn check(pod_context: Value, own: Value, image: v1::Image) -> Option<String> {
        let pod = pod_from(json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {"securityContext": pod_context, "containers": [{"name": "c", "securityContext": own}]}}));
        let container = pod.spec.as_ref().unwrap().containers[0].clone();
        check_non_root(&pod, &container, &image).err().map(|e| e.to_string())
    }

    #[test]
    fn run_as_non_root_is_checked_before_the_container_is_made() {
        let image = |uid: Option<i64>, name: &str| v1::Image {
            uid: id(uid),
            username: name.into(),
            ..v1::Image::default()
        };
        let must = json!({"runAsNonRoot": true});
        assert_eq!(check(json!({}), json!({}), image(Some(0), "")), None);
        assert_eq!(check(must.clone(), json!({}), image(Some(1), "")), None);
        assert_eq!(check(must.clone(), json!({"runAsUser": 5}), image(Some(0), "")), None);
        assert_eq!(check(must.clone(), json!({"runAsNonRoot": false}), image(Some(0), "")), None);
        assert_eq!(
            check(must.clone(), json!({}), image(None, "")).unwrap(),
            "container has runAsNonRoot and image will run as root (pod: \"p_n(u)\", container: c)"
        );
        assert!(
            check(must.clone(), json!({}), image(None, "www")).unwrap().contains("non-numeric user (www)")
        );
        assert!(
            check(must, json!({"runAsUser": 0}), image(Some(1), ""))
                .unwrap()
                .contains("breaks non-root policy")
        );
    }

    #[test]
    fn the_container_overrides_the_pod() {
        let pod = pod_from(json!({"spec": {"shareProcessNamespace": true, "securityContext":
            {"runAsUser": 1, "runAsGroup": 2, "fsGroup": 3, "supplementalGroups": [4], "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "c", "securityContext": {"runAsUser": 9, "allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"]}}}]}}));
        let context =
            of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], None, Path::new("/seccomp"));
        assert_eq!(context.run_as_user, id(Some(9)));
        assert_eq!(context.run_as_group, id(Some(2)));
        assert_eq!(context.supplemental_groups, [3, 4]);
        assert!(context.no_new_privs && !context.masked_paths.is_empty());
        assert_eq!(
            context.seccomp.unwrap().profile_type,
            v1::security_profile::ProfileType::RuntimeDefault as i32
        );
        assert_eq!(context.namespace_options.unwrap().pid, v1::NamespaceMode::Pod as i32);
    }

    #[test]
    fn the_nodes_profiles_are_named_by_their_place() {
        let profile = json!({"type": "Localhost", "localhostProfile": "profiles/audit.json"});
        let pod = pod_from(
            json!({"spec": {"containers": [{"name": "c", "securityContext": {"seccompProfile": profile}}]}}),
        );
        let context =
            of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], None, Path::new("/seccomp"));
        assert_eq!(context.seccomp.unwrap().localhost_ref, "/seccomp/profiles/audit.json");
    }

    #[test]
    fn privileged_lifts_masks_and_seccomp() {
        let pod = pod_from(
            json!({"spec": {"hostNetwork": true, "containers": [{"name": "c", "securityContext": {"privileged": true,
            "seccompProfile": {"type": "RuntimeDefault"}}}]}}),
        );
        let context =
            of_container(&pod, &pod.spec.as_ref().unwrap().containers[0], None, Path::new("/seccomp"));
        assert!(context.privileged && context.masked_paths.is_empty() && context.readonly_paths.is_empty());
        assert_eq!(
            context.seccomp.unwrap().profile_type,
            v1::security_profile::ProfileType::Unconfined as i32
        );
        assert!(of_sandbox(&pod).privileged);
        assert_eq!(context.namespace_options.unwrap().network, v1::NamespaceMode::Node as i32);
    }
}
