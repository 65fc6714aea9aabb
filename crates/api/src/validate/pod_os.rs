//! What pods for one operating system must not say, and the options that only Windows has.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use super::{At, dns_subdomain};
use crate::field::{Error, Errors};

const NOT_FOR_WINDOWS: &str = "cannot be set for a windows pod";
const NOT_FOR_LINUX: &str = "windows options cannot be set for a linux pod";
const MAX_CREDENTIAL_SPEC_KIB: usize = 64;
const MAX_DOMAIN: usize = 256;
const MAX_USER: usize = 104;

/// Does something with each container of a pod, of whatever sort.
pub(super) fn each_container(spec: &At<'_>, mut look: impl FnMut(&At<'_>)) {
    for list in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(list).items().for_each(|container| look(&container));
    }
}

/// The rules of the operating system that a pod names.
pub(super) fn of_pod(spec: &At<'_>, errors: &mut Errors) {
    host_processes(spec, errors);
    let Some(os) = spec.opt("os") else { return };
    match os.get("name").text() {
        "" => os.get("name").required(errors, "cannot be empty"),
        "linux" => linux(spec, errors),
        "windows" => windows(spec, errors),
        other => errors.push(Error::not_supported(&os.path(), other, &["linux", "windows"])),
    }
}

fn linux(spec: &At<'_>, errors: &mut Errors) {
    let mut refuse = |holder: &At<'_>| {
        if let Some(options) = holder.get("securityContext").opt("windowsOptions") {
            options.forbidden(errors, NOT_FOR_LINUX);
        }
    };
    refuse(spec);
    each_container(spec, |container| refuse(container));
}

fn windows(spec: &At<'_>, errors: &mut Errors) {
    let mut refuse = |holder: &At<'_>, fields: &[&str]| {
        for field in fields.iter().filter_map(|name| holder.opt(name)) {
            field.forbidden(errors, NOT_FOR_WINDOWS);
        }
    };
    refuse(spec, &["hostUsers", "shareProcessNamespace"]);
    for flag in ["hostPID", "hostIPC"] {
        if spec.get(flag).is_true() {
            refuse(spec, &[flag]);
        }
    }
    let both = ["appArmorProfile", "seLinuxOptions", "seccompProfile", "runAsUser", "runAsGroup"];
    let context = spec.get("securityContext");
    refuse(&context, &both);
    refuse(
        &context,
        &[
            "fsGroup",
            "fsGroupChangePolicy",
            "sysctls",
            "supplementalGroups",
            "supplementalGroupsPolicy",
            "seLinuxChangePolicy",
        ],
    );
    each_container(spec, |container| {
        let context = container.get("securityContext");
        refuse(&context, &both);
        refuse(
            &context,
            &[
                "capabilities",
                "readOnlyRootFilesystem",
                "privileged",
                "allowPrivilegeEscalation",
                "procMount",
            ],
        );
    });
}

/// Containers that are processes of the host: all of a pod or none, and in its network.
fn host_processes(spec: &At<'_>, errors: &mut Errors) {
    let flag = |holder: &At<'_>| {
        holder.value().pointer("/securityContext/windowsOptions/hostProcess").and_then(Value::as_bool)
    };
    let of_pod = flag(spec);
    let (mut all, mut processes) = (0, 0);
    each_container(spec, |container| {
        let own = flag(container);
        all += 1;
        processes += usize::from(own.or(of_pod) == Some(true));
        if let (Some(of_pod), Some(own)) = (of_pod, own)
            && of_pod != own
        {
            let path = container.path().child("securityContext").child("windowsOptions").child("hostProcess");
            let detail =
                format!("pod hostProcess value must be identical if both are specified, was {of_pod}");
            errors.push(Error::invalid(&path, own, detail));
        }
    });
    if processes == 0 {
        return;
    }
    if processes != all {
        let detail =
            "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.push(Error::invalid(&spec.path(), "", detail));
    }
    if !spec.get("hostNetwork").is_true() {
        let detail = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.push(Error::invalid(&spec.path().child("hostNetwork"), false, detail));
    }
}

/// `windowsOptions` of a security context.
pub(super) fn options(at: &At<'_>, errors: &mut Errors) {
    if let Some(name) = at.opt("gmsaCredentialSpecName") {
        name.all_invalid(errors, dns_subdomain(name.text()));
    }
    if let Some(spec) = at.opt("gmsaCredentialSpec") {
        match spec.text().len() {
            0 => spec.invalid(errors, "gmsaCredentialSpec cannot be an empty string"),
            n if n > MAX_CREDENTIAL_SPEC_KIB * 1024 => {
                spec.invalid(
                    errors,
                    format!("gmsaCredentialSpec size must be under {MAX_CREDENTIAL_SPEC_KIB} KiB"),
                );
            }
            _ => {}
        }
    }
    if let Some(user) = at.opt("runAsUserName") {
        for detail in user_name(user.text()) {
            user.invalid(errors, detail);
        }
    }
}

/// What is wrong with the name of a Windows user, perhaps with its domain before a backslash.
fn user_name(text: &str) -> Vec<String> {
    static NETBIOS: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r#"^[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}$"#).ok());
    let say = |detail: &str| vec![format!("runAsUserName{detail}")];
    if text.is_empty() {
        return say(" cannot be an empty string");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return say(" cannot contain control characters");
    }
    let (domain, user) = match text.split_once('\\') {
        Some((_, user)) if user.contains('\\') => return say(" cannot contain more than one backslash"),
        Some((domain, user)) => (Some(domain), user),
        None => (None, text),
    };
    let mut wrong = Vec::new();
    let mut say = |detail: String| wrong.push(format!("runAsUserName's {detail}"));
    if let Some(domain) = domain {
        if domain.len() >= MAX_DOMAIN {
            say(format!("Domain length must be under {MAX_DOMAIN} characters"));
        }
        if !NETBIOS.as_ref().is_some_and(|re| re.is_match(domain)) && !dns_subdomain(domain).is_empty() {
            say("Domain doesn't match the NetBios nor the DNS format".to_owned());
        }
    }
    if user.is_empty() {
        say("User cannot be empty".to_owned());
    } else if user.len() > MAX_USER {
        say(format!("User length must not be longer than {MAX_USER} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        say("User cannot contain only periods or spaces".to_owned());
    }
    if user.contains(|c| r#""/\:;|=,+*?<>@[]"#.contains(c)) {
        say(r#"User cannot contain the following characters: "/\:;|=,+*?<>@[]"#.to_owned());
    }
    wrong
}
