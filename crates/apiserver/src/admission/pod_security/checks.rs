//! The checks of the Pod Security Standards, with upstream's names for what they find.
//!
//! Each looks at one aspect of a pod. They run in the order of upstream's identifiers, those of the baseline first.

use serde_json::Value;
use tiphys_api::{meta, sysctl};

use super::Level;

/// What a check finds wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: &'static str,
    pub(super) detail: String,
}

/// A pod under inspection.
struct Pod<'a> {
    metadata: &'a Value,
    spec: &'a Value,
}

type Check = fn(&Pod<'_>) -> Option<Violation>;

/// The check, and whether a stricter one takes its place at the level `restricted`.
const BASELINE: [(Check, bool); 12] = [
    (app_armor, false),
    (capabilities_baseline, true),
    (host_namespaces, false),
    (host_path_volumes, true),
    (host_ports, false),
    (host_probes, false),
    (host_process, false),
    (privileged, false),
    (proc_mount, false),
    (selinux_options, false),
    (seccomp_baseline, true),
    (sysctls, false),
];

const RESTRICTED: [Check; 6] = [
    allow_privilege_escalation,
    capabilities_restricted,
    restricted_volumes,
    run_as_non_root,
    run_as_user,
    seccomp_restricted,
];

/// Everything that the pod does and the level forbids.
pub(super) fn run(level: Level, metadata: &Value, spec: &Value) -> Vec<Violation> {
    let pod = Pod { metadata, spec };
    let mut found = Vec::new();
    if level >= Level::Baseline {
        let checks = BASELINE.iter().filter(|(_, replaced)| !(*replaced && level == Level::Restricted));
        found.extend(checks.filter_map(|(check, _)| check(&pod)));
    }
    if level >= Level::Restricted {
        found.extend(RESTRICTED.iter().filter_map(|check| check(&pod)));
    }
    found
}

impl<'a> Pod<'a> {
    /// Containers of every sort, in upstream's order.
    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| spec[list].as_array().into_iter().flatten())
    }

    /// The names of the containers that `wrong` holds of.
    fn names(&self, wrong: impl Fn(&Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| wrong(c)).map(|c| meta::text(c, &["name"])).collect()
    }

    fn security(&self) -> &'a Value {
        &self.spec["securityContext"]
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }
}

fn violation(reason: &'static str, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation { reason, detail: detail.into() })
}

/// `container "a"`, `containers "a", "b"`.
fn plural(noun: &str, names: &[&str]) -> String {
    let s = if names.len() == 1 { "" } else { "s" };
    format!("{noun}{s} {}", quoted(names))
}

fn quoted(names: &[&str]) -> String {
    names.iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// Each once, in order.
fn distinct<T: Ord>(items: impl IntoIterator<Item = T>) -> Vec<T> {
    items.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect()
}

fn texts<'a>(list: &'a Value, path: &[&str]) -> Vec<&'a str> {
    meta::items(list, path).iter().filter_map(Value::as_str).collect()
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const PREFIX: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut details = Vec::new();
    let forbidden = |security: &Value| {
        let kind = meta::text(security, &["appArmorProfile", "type"]);
        (!["", "RuntimeDefault", "Localhost"].contains(&kind)).then(|| kind.to_owned())
    };
    if let Some(kind) = forbidden(pod.security()) {
        details.push(format!("pod must not set AppArmor profile type to {kind:?}"));
    }
    let names = pod.names(|container| forbidden(&container["securityContext"]).is_some());
    if !names.is_empty() {
        let kinds: Vec<String> =
            distinct(pod.containers().filter_map(|container| forbidden(&container["securityContext"])));
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        details.push(format!(
            "{} must not set AppArmor profile type to {}",
            plural("container", &names),
            quoted(&kinds)
        ));
    }
    let annotations = pod.metadata["annotations"].as_object();
    let wrong: Vec<String> = annotations
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| {
            let profile = value.as_str().unwrap_or_default();
            let good =
                profile.is_empty() || profile == "runtime/default" || profile.starts_with("localhost/");
            (key.starts_with(PREFIX) && !good).then(|| format!("{key}={profile:?}"))
        })
        .collect();
    match wrong.as_slice() {
        [] => {}
        [one] => details.push(format!("annotation must not set AppArmor profile type: {one}")),
        many => details.push(format!("annotations must not set AppArmor profile type: {}", many.join(", "))),
    }
    (!details.is_empty())
        .then(|| Violation { reason: "forbidden AppArmor profile", detail: details.join("; ") })
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    added(pod, &ALLOWED).and_then(|detail| violation("non-default capabilities", detail))
}

/// Containers that add capabilities besides these.
fn added(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let adds = |container: &Value| -> Vec<String> {
        texts(container, &["securityContext", "capabilities", "add"])
            .into_iter()
            .filter(|capability| !allowed.contains(capability))
            .map(str::to_owned)
            .collect()
    };
    let names = pod.names(|container| !adds(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all = distinct(pod.containers().flat_map(adds));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let containers = plural("container", &names);
    Some(format!("{containers} must not include {} in securityContext.capabilities.add", quoted(&all)))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    (!set.is_empty()).then(|| Violation { reason: "host namespaces", detail: set.join(", ") })
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = meta::items(pod.spec, &["volumes"])
        .iter()
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| meta::text(volume, &["name"]))
        .collect();
    if names.is_empty() { None } else { violation("hostPath volumes", plural("volume", &names)) }
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Value| -> Vec<i64> {
        let ports = meta::items(container, &["ports"]).iter();
        ports.filter_map(|port| port["hostPort"].as_i64()).filter(|port| *port != 0).collect()
    };
    let names = pod.names(|container| !ports(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all = distinct(pod.containers().flat_map(ports));
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let what = if all.len() == 1 { "hostPort" } else { "hostPorts" };
    let all: Vec<String> = all.iter().map(i64::to_string).collect();
    violation("hostPort", format!("{} {uses} {what} {}", plural("container", &names), all.join(", ")))
}

fn host_probes(pod: &Pod<'_>) -> Option<Violation> {
    let hosts = |container: &Value| -> Vec<String> {
        let handlers = [
            &container["livenessProbe"],
            &container["readinessProbe"],
            &container["startupProbe"],
            &container["lifecycle"]["postStart"],
            &container["lifecycle"]["preStop"],
        ];
        handlers
            .iter()
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|action| meta::text(handler, &[action, "host"])))
            .filter(|host| !host.is_empty() && !["127.0.0.1", "::1", "localhost"].contains(host))
            .map(str::to_owned)
            .collect()
    };
    let names = pod.names(|container| !hosts(container).is_empty());
    if names.is_empty() {
        return None;
    }
    let all = distinct(pod.containers().flat_map(hosts));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let detail =
        format!("{} {uses} probe or lifecycle {}", plural("container", &names), plural("host", &all));
    violation("probe or lifecycle host", detail)
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let is_set = |security: &Value| security["windowsOptions"]["hostProcess"] == true;
    let names = pod.names(|container| is_set(&container["securityContext"]));
    let mut who = Vec::new();
    if is_set(pod.security()) {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(plural("container", &names));
    }
    if who.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not set securityContext.windowsOptions.hostProcess=true", who.join(" and "));
    violation("hostProcess", detail)
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.names(|container| container["securityContext"]["privileged"] == true);
    if names.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.privileged=true", plural("container", &names));
    violation("privileged", detail)
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    // In a user namespace of its own a pod sees no more of /proc than its own.
    if pod.spec["hostUsers"] == false {
        return None;
    }
    let mount = |container: &Value| {
        let mount = meta::text(container, &["securityContext", "procMount"]);
        (!["", "Default"].contains(&mount)).then(|| mount.to_owned())
    };
    let names = pod.names(|container| mount(container).is_some());
    if names.is_empty() {
        return None;
    }
    let all = distinct(pod.containers().filter_map(mount));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    let containers = plural("container", &names);
    violation("procMount", format!("{containers} must not set securityContext.procMount to {}", quoted(&all)))
}

fn selinux_options(pod: &Pod<'_>) -> Option<Violation> {
    const TYPES: [&str; 5] = ["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let options = |security: &Value| security["seLinuxOptions"].clone();
    let bad_type = |options: &Value| {
        let kind = meta::text(options, &["type"]);
        (!TYPES.contains(&kind)).then(|| kind.to_owned())
    };
    let sets = |options: &Value, field: &str| !meta::text(options, &[field]).is_empty();
    let wrong =
        |options: &Value| bad_type(options).is_some() || sets(options, "user") || sets(options, "role");
    let names = pod.names(|container| wrong(&options(&container["securityContext"])));
    let of_pod = options(pod.security());
    let mut who = Vec::new();
    if wrong(&of_pod) {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(plural("container", &names));
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<Value> =
        std::iter::once(of_pod).chain(pod.containers().map(|c| options(&c["securityContext"]))).collect();
    let mut what = Vec::new();
    let kinds = distinct(all.iter().filter_map(bad_type));
    if !kinds.is_empty() {
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        what.push(plural("type", &kinds));
    }
    for field in ["user", "role"] {
        if all.iter().any(|options| sets(options, field)) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", who.join(" and "), what.join("; "));
    violation("seLinuxOptions", detail)
}

/// Who sets a seccomp profile that confines nothing.
fn unconfined(pod: &Pod<'_>) -> Vec<String> {
    let profile = |security: &Value| {
        let kind = meta::text(security, &["seccompProfile", "type"]);
        (!["", "RuntimeDefault", "Localhost"].contains(&kind)).then(|| kind.to_owned())
    };
    let said = |who: String, kinds: Vec<String>| {
        let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
        format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(&kinds))
    };
    let mut details = Vec::new();
    if let Some(kind) = profile(pod.security()) {
        details.push(said("pod".to_owned(), vec![kind]));
    }
    let names = pod.names(|container| profile(&container["securityContext"]).is_some());
    if !names.is_empty() {
        let kinds = distinct(pod.containers().filter_map(|container| profile(&container["securityContext"])));
        details.push(said(plural("container", &names), kinds));
    }
    details
}

fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let details = unconfined(pod);
    (!details.is_empty()).then(|| Violation { reason: "seccompProfile", detail: details.join("; ") })
}

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    let names: Vec<&str> = meta::items(pod.security(), &["sysctls"])
        .iter()
        .map(|wanted| meta::text(wanted, &["name"]))
        .filter(|name| !sysctl::SAFE.contains(name))
        .collect();
    if names.is_empty() { None } else { violation("forbidden sysctls", names.join(", ")) }
}

fn allow_privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.names(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    if names.is_empty() || pod.is_windows() {
        return None;
    }
    let containers = plural("container", &names);
    let detail = format!("{containers} must set securityContext.allowPrivilegeEscalation=false");
    violation("allowPrivilegeEscalation != false", detail)
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let mut details = Vec::new();
    let names = pod
        .names(|container| !texts(container, &["securityContext", "capabilities", "drop"]).contains(&"ALL"));
    if !names.is_empty() {
        let containers = plural("container", &names);
        details.push(format!("{containers} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    (!details.is_empty())
        .then(|| Violation { reason: "unrestricted capabilities", detail: details.join("; ") })
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
        "image",
    ];
    // A volume has its name and one source.
    let kind = |volume: &Value| {
        let fields = volume.as_object()?;
        let source = fields.iter().find(|(key, value)| *key != "name" && !value.is_null());
        source.map(|(key, _)| key.clone()).filter(|key| !ALLOWED.contains(&key.as_str()))
    };
    let volumes = meta::items(pod.spec, &["volumes"]);
    let names: Vec<&str> = volumes
        .iter()
        .filter(|volume| kind(volume).is_some())
        .map(|volume| meta::text(volume, &["name"]))
        .collect();
    if names.is_empty() {
        return None;
    }
    let kinds = distinct(volumes.iter().filter_map(kind));
    let kinds: Vec<&str> = kinds.iter().map(String::as_str).collect();
    let uses = if names.len() == 1 { "uses" } else { "use" };
    let what = plural("restricted volume type", &kinds);
    violation("restricted volume types", format!("{} {uses} {what}", plural("volume", &names)))
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    let field = "runAsNonRoot";
    let mut details = Vec::new();
    if pod.security()[field] == false {
        details.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    let explicit = pod.names(|container| container["securityContext"][field] == false);
    if !explicit.is_empty() {
        let containers = plural("container", &explicit);
        details.push(format!("{containers} must not set securityContext.runAsNonRoot=false"));
    }
    // Containers that leave it to a pod that does not say it either.
    let implicit = pod.names(|container| container["securityContext"][field].is_null());
    if details.is_empty() && pod.security()[field] != true && !implicit.is_empty() {
        let containers = plural("container", &implicit);
        details.push(format!("pod or {containers} must set securityContext.runAsNonRoot=true"));
    }
    (!details.is_empty()).then(|| Violation { reason: "runAsNonRoot != true", detail: details.join("; ") })
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |security: &Value| security["runAsUser"] == 0;
    let names = pod.names(|container| is_root(&container["securityContext"]));
    let mut details = Vec::new();
    if is_root(pod.security()) {
        details.push("pod must not set runAsUser=0".to_owned());
    }
    if !names.is_empty() {
        details.push(format!("{} must not set runAsUser=0", plural("container", &names)));
    }
    (!details.is_empty()).then(|| Violation { reason: "runAsUser=0", detail: details.join("; ") })
}

fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let mut details = unconfined(pod);
    let kind = |security: &Value| !meta::text(security, &["seccompProfile", "type"]).is_empty();
    let without = pod.names(|container| !kind(&container["securityContext"]));
    if !kind(pod.security()) && !without.is_empty() {
        let containers = plural("container", &without);
        details.push(format!(
            "pod or {containers} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\""
        ));
    }
    (!details.is_empty()).then(|| Violation { reason: "seccompProfile", detail: details.join("; ") })
}
