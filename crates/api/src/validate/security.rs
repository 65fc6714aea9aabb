//! Security contexts of pods and containers.

use std::collections::HashSet;

use super::{At, pod_os, volume};
use crate::field::{Error, Errors};
use crate::sysctl;

const MAX_ID: i64 = i32::MAX as i64;
/// A path's longest.
const MAX_APP_ARMOR_PROFILE: usize = 4095;

/// What pods and containers have in common.
fn shared(at: &At<'_>, errors: &mut Errors) {
    for id in ["runAsUser", "runAsGroup"] {
        at.get(id).within(errors, 0, MAX_ID);
    }
    for profile in ["seccompProfile", "appArmorProfile"] {
        if let Some(profile_at) = at.opt(profile) {
            local_profile(&profile_at, errors, profile);
        }
    }
    if let Some(options) = at.opt("windowsOptions") {
        pod_os::options(&options, errors);
    }
}

fn local_profile(at: &At<'_>, errors: &mut Errors, which: &str) {
    let kind = at.get("type");
    if kind.text().is_empty() {
        kind.required(errors, &format!("type is required when {which} is set"));
    } else {
        kind.one_of(errors, &["Localhost", "RuntimeDefault", "Unconfined"]);
    }
    let name = if which == "seccompProfile" { "seccomp" } else { "AppArmor" };
    let profile = at.get("localhostProfile");
    match (kind.text(), at.has("localhostProfile")) {
        ("Localhost", false) => {
            profile.required(errors, &format!("must be set when {name} type is Localhost"))
        }
        ("Localhost", true) if name == "seccomp" => volume::descending(&profile, errors),
        ("Localhost", true) => app_armor_profile(&profile, errors),
        (_, true) => profile.invalid(errors, format!("can only be set when {name} type is Localhost")),
        (_, false) => {}
    }
}

fn app_armor_profile(at: &At<'_>, errors: &mut Errors) {
    if at.text().trim() != at.text() {
        at.invalid(errors, "must not be padded with whitespace");
    } else if at.text().is_empty() {
        at.required(errors, "must be set when AppArmor type is Localhost");
    }
    if at.text().len() > MAX_APP_ARMOR_PROFILE {
        errors.push(Error::too_long(&at.path(), MAX_APP_ARMOR_PROFILE));
    }
}

/// The security context of a pod; `spec` is its spec.
pub(super) fn of_pod(at: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    shared(at, errors);
    at.get("fsGroup").within(errors, 0, MAX_ID);
    for group in at.get("supplementalGroups").items() {
        group.within(errors, 0, MAX_ID);
    }
    let shares = spec.get("shareProcessNamespace");
    if shares.is_true() && spec.get("hostPID").is_true() {
        shares.invalid(errors, "ShareProcessNamespace and HostPID cannot both be enabled");
    }
    if let Some(policy) = at.opt("fsGroupChangePolicy") {
        policy.one_of(errors, &["Always", "OnRootMismatch"]);
    }
    if let Some(policy) = at.opt("supplementalGroupsPolicy") {
        policy.one_of(errors, &["Merge", "Strict"]);
    }
    if let Some(policy) = at.opt("seLinuxChangePolicy") {
        policy.one_of(errors, &["MountOption", "Recursive"]);
    }
    let mut seen = HashSet::new();
    for wanted in at.get("sysctls").items() {
        let name = wanted.get("name");
        if name.needed(errors).is_some_and(|n| !sysctl::is_valid(n)) {
            name.invalid(
                errors,
                "must have at most 253 characters and match regex \
                 ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?",
            );
        } else if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
        for (host, what) in [("hostNetwork", "net"), ("hostIPC", "ipc")] {
            if spec.get(host).is_true() && sysctl::namespace(name.text()) == Some(what) {
                name.invalid(errors, format!("may not be specified when '{host}' is true"));
            }
        }
    }
}

/// The security context of a container; `spec` is its pod's.
pub(super) fn of_container(at: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    shared(at, errors);
    if let Some(mount) = at.opt("procMount") {
        mount.one_of(errors, &["Default", "Unmasked"]);
        if mount.text() == "Unmasked" && spec.get("hostUsers").value() != false {
            mount.invalid(errors, "`hostUsers` must be false to use `Unmasked`");
        }
    }
    let escalation = at.get("allowPrivilegeEscalation");
    if escalation.value() == false {
        if at.get("privileged").is_true() {
            at.invalid(errors, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if at.get("capabilities").get("add").items().any(|c| c.text() == "CAP_SYS_ADMIN") {
            at.invalid(
                errors,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
}
