//! Security contexts of pods and containers.

use std::collections::HashSet;

use super::{At, volume};
use crate::field::Errors;

const MAX_ID: i64 = i32::MAX as i64;

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
        ("Localhost", true) => volume::descending(&profile, errors),
        (_, true) => profile.invalid(errors, format!("can only be set when {name} type is Localhost")),
        (_, false) => {}
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
    let mut seen = HashSet::new();
    for sysctl in at.get("sysctls").items() {
        let name = sysctl.get("name");
        if name.needed(errors).is_some_and(|n| !is_sysctl(n)) {
            name.invalid(
                errors,
                "must have at most 253 characters and match regex \
                 ([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?",
            );
        } else if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
    }
}

fn is_sysctl(name: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let b = part.as_bytes();
            b.first().is_some_and(|c| alnum(*c))
                && b.last().is_some_and(|c| alnum(*c))
                && b.iter().all(|c| alnum(*c) || matches!(c, b'-' | b'_'))
        })
}

/// The security context of a container.
pub(super) fn of_container(at: &At<'_>, errors: &mut Errors) {
    shared(at, errors);
    if let Some(mount) = at.opt("procMount") {
        mount.one_of(errors, &["Default", "Unmasked"]);
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
