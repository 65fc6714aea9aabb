//! Questions that the node asks of a pod's spec, each answered in one place.

use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec, SecurityContext};

use crate::labels;

/// What a container is for; it decides when it starts and what its end means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Runs to completion before the main containers, one after the other.
    Init,
    /// An init container with `restartPolicy: Always`: started in order, runs beside the main ones (KEP-753).
    Sidecar,
    /// One of `spec.containers`.
    Main,
    /// Added to a running pod for debugging; never restarted.
    Ephemeral,
}

/// When a container that ended is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RestartPolicy {
    /// Whatever its exit code.
    Always,
    /// After an exit code other than zero.
    OnFailure,
    /// Not at all.
    Never,
}

impl RestartPolicy {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }

    fn restarts(self, code: i32) -> bool {
        match self {
            Self::Always => true,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// A container of a pod and what it is for.
#[derive(Clone, Debug)]
pub struct ContainerSpec<'a> {
    /// What it is for.
    pub role: Role,
    /// Position among those of its list.
    pub index: usize,
    /// Its spec; an ephemeral container's is made to look like the others'.
    pub spec: std::borrow::Cow<'a, Container>,
}

impl ContainerSpec<'_> {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its image as written.
    pub fn image(&self) -> &str {
        self.spec.image.as_deref().unwrap_or_default()
    }
}

/// The spec, or an empty one for an object without.
pub fn spec(pod: &Pod) -> &PodSpec {
    static EMPTY: std::sync::LazyLock<PodSpec> = std::sync::LazyLock::new(PodSpec::default);
    pod.spec.as_ref().unwrap_or(&EMPTY)
}

/// Init containers and sidecars in order.
pub fn init_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).init_containers.iter().flatten().enumerate().map(|(index, c)| ContainerSpec {
        role: if c.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init },
        index,
        spec: std::borrow::Cow::Borrowed(c),
    })
}

/// The main containers in order.
pub fn main_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).containers.iter().enumerate().map(|(index, c)| ContainerSpec {
        role: Role::Main,
        index,
        spec: std::borrow::Cow::Borrowed(c),
    })
}

/// The ephemeral containers in order.
pub fn ephemeral_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    spec(pod).ephemeral_containers.iter().flatten().enumerate().map(|(index, e)| {
        let c = Container {
            args: e.args.clone(),
            command: e.command.clone(),
            env: e.env.clone(),
            env_from: e.env_from.clone(),
            image: e.image.clone(),
            image_pull_policy: e.image_pull_policy.clone(),
            name: e.name.clone(),
            resources: e.resources.clone(),
            security_context: e.security_context.clone(),
            stdin: e.stdin,
            stdin_once: e.stdin_once,
            termination_message_path: e.termination_message_path.clone(),
            termination_message_policy: e.termination_message_policy.clone(),
            tty: e.tty,
            volume_mounts: e.volume_mounts.clone(),
            working_dir: e.working_dir.clone(),
            ..Container::default()
        };
        ContainerSpec { role: Role::Ephemeral, index, spec: std::borrow::Cow::Owned(c) }
    })
}

/// Every container of the pod: init, main, ephemeral.
pub fn all_containers(pod: &Pod) -> impl Iterator<Item = ContainerSpec<'_>> {
    init_containers(pod).chain(main_containers(pod)).chain(ephemeral_containers(pod))
}

/// The container of that name.
pub fn find_container<'a>(pod: &'a Pod, name: &str) -> Option<ContainerSpec<'a>> {
    all_containers(pod).find(|c| c.name() == name)
}

/// A container's own restart policy, or else the pod's.
fn restart_policy(pod: &Pod, container: &Container) -> RestartPolicy {
    let own = container.restart_policy.as_deref().and_then(RestartPolicy::parse);
    let of_pod = || spec(pod).restart_policy.as_deref().and_then(RestartPolicy::parse);
    own.or_else(of_pod).unwrap_or(RestartPolicy::Always)
}

/// The rules by which a container restarts whatever its policy says; they go with a policy of its own (KEP-5307).
fn restart_rules(container: &Container) -> impl Iterator<Item = &ContainerRestartRule> {
    let rules = container.restart_policy_rules.iter().flatten();
    rules.filter(|rule| container.restart_policy.is_some() && rule.action == "Restart")
}

/// Whether a container that ended with `code` is started again: a sidecar always, an ephemeral one never, an init
/// container only if it failed; otherwise the container's rules decide, then its policy or the pod's.
pub fn restarts(pod: &Pod, container: &ContainerSpec<'_>, code: i32) -> bool {
    let holds = |rule: &ContainerRestartRule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|value| *value == code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    };
    let decided =
        || restart_rules(&container.spec).any(holds) || restart_policy(pod, &container.spec).restarts(code);
    match container.role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        Role::Init => code != 0 && decided(),
        Role::Main => decided(),
    }
}

/// Whether there is an exit code after which a container is started again.
pub fn may_restart(pod: &Pod, container: &ContainerSpec<'_>) -> bool {
    match container.role {
        Role::Sidecar => true,
        Role::Ephemeral => false,
        Role::Init | Role::Main => {
            let never = restart_policy(pod, &container.spec) == RestartPolicy::Never;
            !never || restart_rules(&container.spec).next().is_some()
        }
    }
}

/// Whether the pod lives in the host's network namespace.
pub fn host_network(pod: &Pod) -> bool {
    spec(pod).host_network.unwrap_or(false)
}

/// An annotation's value.
pub fn annotation<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    pod.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}

/// Whether it was read from the manifest directory.
pub fn is_static(pod: &Pod) -> bool {
    matches!(annotation(pod, labels::CONFIG_SOURCE), Some("file")) && !is_mirror(pod)
}

/// Whether it is the API's image of a static pod.
pub fn is_mirror(pod: &Pod) -> bool {
    annotation(pod, labels::CONFIG_MIRROR).is_some()
}

/// Whether a phase is one that a pod never leaves.
pub fn is_terminal_phase(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod has claims to devices: its own, or one that was made for its extended resources (KEP-5004).
pub fn claims_devices(pod: &Pod) -> bool {
    let extended = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    extended.is_some() || spec(pod).resource_claims.as_ref().is_some_and(|claims| !claims.is_empty())
}

/// The grace period for its end: the one of the deletion if it is being deleted, otherwise the spec's; 30 s if unset.
pub fn grace_seconds(pod: &Pod) -> i64 {
    let deleted = pod.metadata.deletion_timestamp.as_ref().and(pod.metadata.deletion_grace_period_seconds);
    deleted.or(spec(pod).termination_grace_period_seconds).unwrap_or(30).max(0)
}

/// A container's security context, or an empty one.
pub fn security(container: &Container) -> SecurityContext {
    container.security_context.clone().unwrap_or_default()
}

/// The pod's host name and its domain (empty without a subdomain).
///
/// `spec.hostnameOverride` and no domain (KEP-4762), else `spec.hostname` or the pod's name; cut to 63 characters as the
/// kernel and DNS demand.
pub fn hostname_and_domain(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec(pod);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let cut = |wanted: &str| {
        let short: String = wanted.chars().take(63).collect();
        short.trim_end_matches(['-', '.']).to_owned()
    };
    if let Some(whole) = spec.hostname_override.as_deref().filter(|h| !h.is_empty()) {
        return (cut(whole), String::new());
    }
    let host = cut(spec.hostname.as_deref().filter(|h| !h.is_empty()).unwrap_or(name));
    let domain = match spec.subdomain.as_deref().filter(|s| !s.is_empty()) {
        Some(sub) => {
            format!("{sub}.{}.svc.{cluster_domain}", pod.metadata.namespace.as_deref().unwrap_or("default"))
        }
        None => String::new(),
    };
    (host, domain)
}

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
