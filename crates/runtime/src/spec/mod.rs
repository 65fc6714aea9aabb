//! From what the kubelet and the image say to what libcontainer does: the OCI runtime specification of a container.

pub(crate) mod capability;
mod devices;
mod mounts;
mod seccomp;
pub(crate) mod user;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tiphys_cri::v1;
use tiphys_cri::v1::security_profile::ProfileType;
use tiphys_cri::v1::{
    ContainerConfig, LinuxContainerResources, LinuxContainerSecurityContext, NamespaceMode, NamespaceOption,
    PodSandboxConfig,
};

use crate::cgroup;
use crate::error::{Error, Result};
use crate::image::ImageConfig;
use crate::shim::protocol::{Confinement, Launch};
use user::User;

/// The variables that a container finds when neither its image nor the kubelet says otherwise.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Everything that a container's specification is made from.
pub(crate) struct Blueprint<'a> {
    pub(crate) config: &'a ContainerConfig,
    pub(crate) sandbox: &'a PodSandboxConfig,
    pub(crate) image: &'a ImageConfig,
    /// Where the images lie that are mounted as volumes, by the mount's place in `config`.
    pub(crate) image_volumes: &'a BTreeMap<usize, PathBuf>,
    /// The container's directory, with its root file system mounted on `rootfs`.
    pub(crate) bundle: &'a Path,
    /// Where the sandbox keeps the files that its containers share.
    pub(crate) sandbox_dir: &'a Path,
    pub(crate) pause: i32,
    pub(crate) network: Option<&'a Path>,
    /// The first process of the container whose process IDs this one shares.
    pub(crate) target: Option<i32>,
    /// The container's group, absolute in each hierarchy.
    pub(crate) cgroup: &'a str,
    pub(crate) host: &'a cgroup::Host,
    pub(crate) bounding: &'a BTreeSet<&'static str>,
}

/// A container's specification and what goes with it.
pub(crate) struct Built {
    /// The content of `config.json`.
    pub(crate) spec: Value,
    pub(crate) launch: Launch,
    pub(crate) user: User,
    /// A signal's name or number, to be read by [`stop_signal`].
    pub(crate) stop_signal: String,
}

/// The namespace options of a sandbox, with CRI's defaults for what isn't said.
pub(crate) fn namespaces_of(sandbox: &PodSandboxConfig) -> NamespaceOption {
    let security = sandbox.linux.as_ref().and_then(|linux| linux.security_context.as_ref());
    security.and_then(|security| security.namespace_options.clone()).unwrap_or_default()
}

/// Makes the specification.
///
/// # Errors
/// [`Error::Invalid`] for what the kubelet or the image asks and can't be; [`Error::Io`] for files of the image.
pub(crate) fn build(from: &Blueprint<'_>) -> Result<Built> {
    let linux = from.config.linux.clone().unwrap_or_default();
    let security = linux.security_context.unwrap_or_default();
    let resources = linux.resources.unwrap_or_default();
    let options = security.namespace_options.clone().unwrap_or_else(|| namespaces_of(from.sandbox));
    if options.userns_options.as_ref().is_some_and(|userns| userns.mode() == NamespaceMode::Pod) {
        return Err(Error::Invalid("user namespaces aren't supported by this runtime".into()));
    }
    let confined = security.apparmor.as_ref().is_some_and(|p| p.profile_type() != ProfileType::Unconfined);
    if confined && !security.privileged {
        return Err(Error::Invalid("AppArmor profiles aren't supported by this runtime".into()));
    }
    let rootfs = from.bundle.join("rootfs");
    let image_user = from.image.user.as_deref().unwrap_or_default();
    let user = user::resolve(&rootfs, image_user, &security)?;
    let mut granted = granted(&security, from.bounding)?;
    if *from.host == cgroup::Host::Unified && !security.privileged {
        // There nothing but an eBPF program, which nobody loads here, would keep it from the host's disks.
        granted.retain(|capability| capability != "CAP_MKNOD");
    }
    let devices = devices::wanted(&from.config.devices, security.privileged)?;
    let mounts = mounts::all(from, &security, &options)?;
    let cwd = [from.config.working_dir.as_str(), from.image.working_dir.as_deref().unwrap_or_default(), "/"]
        .into_iter()
        .find(|dir| !dir.is_empty())
        .unwrap_or("/");
    if !cwd.starts_with('/') {
        return Err(Error::Invalid(format!("working directory {cwd:?} isn't absolute")));
    }
    let mut process = json!({
        "terminal": from.config.tty,
        "user": { "uid": user.uid, "gid": user.gid, "additionalGids": user.groups },
        "args": command(from.config, from.image)?,
        "env": environment(from, &user),
        "cwd": cwd,
        "oomScoreAdj": attainable_oom_score(resources.oom_score_adj)?,
    });
    // libcontainer takes the mere presence of the field for "yes".
    if security.no_new_privs {
        process["noNewPrivileges"] = json!(true);
    }
    let list = |paths: &[String]| if security.privileged { Vec::new() } else { paths.to_vec() };
    let spec = json!({
        "ociVersion": "1.0.2",
        "process": process,
        "root": { "path": "rootfs", "readonly": security.readonly_rootfs },
        "mounts": mounts.mounts,
        "linux": {
            "namespaces": namespaces(from, &options),
            "cgroupsPath": from.cgroup,
            "resources": limits(&resources, &devices.rules, from.host),
            "devices": devices.nodes,
            "maskedPaths": list(&security.masked_paths),
            "readonlyPaths": list(&security.readonly_paths),
            "rootfsPropagation": mounts.propagation,
        },
    });
    let launch = Launch {
        log: log_path(from.config, from.sandbox),
        tty: from.config.tty,
        stdin: from.config.stdin,
        stdin_once: from.config.stdin_once,
        uid: user.uid,
        gid: user.gid,
        confinement: Confinement {
            capabilities: Some(capability_sets(&security, &granted)?),
            seccomp: seccomp_profile(&security, &granted)?,
        },
        cgroups: from.host.directories(from.cgroup),
    };
    let stop_signal = match from.config.stop_signal() {
        tiphys_cri::v1::Signal::RuntimeDefault => from.image.stop_signal.clone().unwrap_or_default(),
        signal => {
            signal.as_str_name().trim_start_matches("SIGNAL_").replace("PLUS", "+").replace("MINUS", "-")
        }
    };
    Ok(Built { spec, launch, user, stop_signal })
}

/// The process of an exec: the container's own, but for its command and terminal.
pub(crate) fn exec_process(spec: &Value, command: &[String], tty: bool) -> Result<Value> {
    if command.is_empty() {
        return Err(Error::Invalid("no command is given".into()));
    }
    let mut process = spec["process"].clone();
    process["args"] = json!(command);
    process["terminal"] = json!(tty);
    if tty && let Some(env) = process["env"].as_array_mut() {
        let has_term = env.iter().any(|entry| entry.as_str().is_some_and(|entry| entry.starts_with("TERM=")));
        if !has_term {
            env.push(json!("TERM=xterm"));
        }
    }
    Ok(process)
}

/// The number of the signal that ends a container politely: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`; `SIGTERM` when it
/// isn't said or not known.
pub(crate) fn stop_signal(name: &str) -> i32 {
    use nix::libc;
    use nix::sys::signal::Signal;
    let upper = name.to_ascii_uppercase();
    let full = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let real_time = |prefix: &str, sign: i32, base: i32| -> Option<i32> {
        let rest = full.strip_prefix(prefix)?;
        let offset: i32 = if rest.is_empty() { 0 } else { rest.get(1..)?.parse().ok()? };
        Some(base + sign * offset)
    };
    name.parse()
        .ok()
        .or_else(|| full.parse::<Signal>().ok().map(|signal| signal as i32))
        .or_else(|| real_time("SIGRTMIN", 1, libc::SIGRTMIN()))
        .or_else(|| real_time("SIGRTMAX", -1, libc::SIGRTMAX()))
        .filter(|number| (1..=64).contains(number))
        .unwrap_or(libc::SIGTERM)
}

/// CRI's word for a signal's number, the reverse of [`stop_signal`].
pub(crate) fn signal_of(number: i32) -> v1::Signal {
    use nix::libc;
    let (first, last) = (libc::SIGRTMIN(), libc::SIGRTMAX());
    let name = match nix::sys::signal::Signal::try_from(number) {
        Ok(signal) => signal.as_str().to_owned(),
        Err(_) if number == first => "SIGRTMIN".to_owned(),
        Err(_) if number == last => "SIGRTMAX".to_owned(),
        Err(_) if number > first && number <= first + 15 => format!("SIGRTMINPLUS{}", number - first),
        Err(_) => format!("SIGRTMAXMINUS{}", last - number),
    };
    v1::Signal::from_str_name(&format!("SIGNAL_{name}")).unwrap_or(v1::Signal::RuntimeDefault)
}

fn command(config: &ContainerConfig, image: &ImageConfig) -> Result<Vec<String>> {
    let mut command = config.command.clone();
    let mut args = config.args.clone();
    if command.is_empty() {
        command = image.entrypoint.clone().unwrap_or_default();
        if args.is_empty() {
            args = image.cmd.clone().unwrap_or_default();
        }
    }
    command.extend(args);
    if command.is_empty() {
        return Err(Error::Invalid("no command specified".into()));
    }
    Ok(command)
}

fn environment(from: &Blueprint<'_>, user: &User) -> Vec<String> {
    let mut variables: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match variables.iter_mut().find(|(known, _)| known == name) {
        Some((_, old)) => *old = value.to_owned(),
        None => variables.push((name.to_owned(), value.to_owned())),
    };
    let image = from.image.env.iter().flatten().map(String::as_str);
    for entry in std::iter::once(DEFAULT_PATH).chain(image) {
        let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
        set(name, value);
    }
    if !from.sandbox.hostname.is_empty() {
        set("HOSTNAME", &from.sandbox.hostname);
    }
    if from.config.tty {
        set("TERM", "xterm");
    }
    set("HOME", &user.home);
    // What the image says of HOME counts more than the user's entry.
    for entry in from.image.env.iter().flatten() {
        if let Some(home) = entry.strip_prefix("HOME=") {
            set("HOME", home);
        }
    }
    for variable in &from.config.envs {
        set(&variable.key, &String::from_utf8_lossy(&variable.value));
    }
    variables.into_iter().map(|(name, value)| format!("{name}={value}")).collect()
}

fn namespaces(from: &Blueprint<'_>, options: &NamespaceOption) -> Vec<Value> {
    let mut namespaces = vec![json!({ "type": "mount" })];
    let of = |pid: i32, kind: &str| format!("/proc/{pid}/ns/{kind}");
    match options.pid() {
        NamespaceMode::Pod => namespaces.push(json!({ "type": "pid", "path": of(from.pause, "pid") })),
        NamespaceMode::Target => {
            if let Some(target) = from.target {
                namespaces.push(json!({ "type": "pid", "path": of(target, "pid") }));
            }
        }
        NamespaceMode::Container => namespaces.push(json!({ "type": "pid" })),
        NamespaceMode::Node => {}
    }
    if options.ipc() != NamespaceMode::Node {
        namespaces.push(json!({ "type": "ipc", "path": of(from.pause, "ipc") }));
    }
    if let Some(network) = from.network {
        namespaces.push(json!({ "type": "network", "path": network }));
        namespaces.push(json!({ "type": "uts", "path": of(from.pause, "uts") }));
    }
    if *from.host == cgroup::Host::Unified {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    namespaces
}

/// The limits in the OCI specification's words.
pub(crate) fn limits(resources: &LinuxContainerResources, devices: &[Value], host: &cgroup::Host) -> Value {
    let positive = |value: i64| if value > 0 { json!(value) } else { Value::Null };
    let text = |value: &str| if value.is_empty() { Value::Null } else { json!(value) };
    let mut memory = BTreeMap::new();
    if resources.memory_limit_in_bytes > 0 {
        memory.insert("limit", json!(resources.memory_limit_in_bytes));
        if resources.memory_swap_limit_in_bytes > 0 && cgroup::swap_is_limited(host) {
            memory.insert("swap", json!(resources.memory_swap_limit_in_bytes));
        } else if cgroup::swap_is_limited(host) {
            // A limit that swap widens would be none.
            memory.insert("swap", json!(resources.memory_limit_in_bytes));
        }
    }
    let huge: Vec<Value> = if host.has_huge_pages() {
        let limits = resources.hugepage_limits.iter();
        limits.map(|limit| json!({ "pageSize": limit.page_size, "limit": limit.limit })).collect()
    } else {
        Vec::new()
    };
    let mut limits = json!({
        "devices": devices,
        "cpu": without_nulls(json!({
            "shares": positive(resources.cpu_shares),
            "quota": if resources.cpu_quota == 0 { Value::Null } else { json!(resources.cpu_quota) },
            "period": positive(resources.cpu_period),
            "cpus": text(&resources.cpuset_cpus),
            "mems": text(&resources.cpuset_mems),
        })),
    });
    if !memory.is_empty() {
        limits["memory"] = json!(memory);
    }
    if !huge.is_empty() {
        limits["hugepageLimits"] = json!(huge);
    }
    if !resources.unified.is_empty() && *host == cgroup::Host::Unified {
        limits["unified"] = json!(resources.unified);
    }
    limits
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, value| !value.is_null());
    }
    value
}

/// The score that this process can give: without `CAP_SYS_RESOURCE` nobody may go below what he has himself.
fn attainable_oom_score(wanted: i64) -> Result<i64> {
    let path = Path::new("/proc/self/oom_score_adj");
    let own: i64 = fs::read_to_string(path).map_err(Error::io("read", path))?.trim().parse().unwrap_or(0);
    let wanted = wanted.clamp(-1000, 1000);
    if wanted >= own || capability::bounding()?.contains("CAP_SYS_RESOURCE") { Ok(wanted) } else { Ok(own) }
}

fn granted(
    security: &LinuxContainerSecurityContext,
    bounding: &BTreeSet<&'static str>,
) -> Result<Vec<String>> {
    let wanted = security.capabilities.clone().unwrap_or_default();
    capability::granted(&wanted, security.privileged, bounding)
}

fn capability_sets(
    security: &LinuxContainerSecurityContext,
    granted: &[String],
) -> Result<oci_spec::runtime::LinuxCapabilities> {
    let ambient = capability::ambient(&security.capabilities.clone().unwrap_or_default(), granted)?;
    let sets = json!({
        "bounding": granted, "effective": granted, "permitted": granted,
        "inheritable": ambient, "ambient": ambient,
    });
    serde_json::from_value(sets).map_err(Error::parse("capabilities"))
}

fn seccomp_profile(
    security: &LinuxContainerSecurityContext,
    granted: &[String],
) -> Result<Option<oci_spec::runtime::LinuxSeccomp>> {
    if security.privileged {
        return Ok(None);
    }
    let Some(profile) = &security.seccomp else { return Ok(None) };
    match profile.profile_type() {
        ProfileType::Unconfined => Ok(None),
        ProfileType::RuntimeDefault => seccomp::default_profile(granted).map(Some),
        ProfileType::Localhost => {
            let path = Path::new(profile.localhost_ref.trim_start_matches("localhost/"));
            if !path.is_absolute() {
                return Err(Error::Invalid(format!(
                    "seccomp profile {} isn't an absolute path",
                    path.display()
                )));
            }
            let text = fs::read(path).map_err(Error::io("read seccomp profile", path))?;
            seccomp::from_file(&text).map(Some)
        }
    }
}

fn log_path(config: &ContainerConfig, sandbox: &PodSandboxConfig) -> Option<PathBuf> {
    if config.log_path.is_empty() || sandbox.log_directory.is_empty() {
        return None;
    }
    Some(Path::new(&sandbox.log_directory).join(&config.log_path))
}

#[cfg(test)]
#[path = "spec_tests.rs"]
mod tests;
