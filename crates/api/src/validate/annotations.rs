//! Annotations of pods that mean something, some of which say what fields say now.

use serde_json::Value;

use super::{At, pod, pod_os, volume};
use crate::field::{Error, Errors};
use crate::meta;

const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
pub(crate) const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
pub(crate) const SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

/// The annotations of a pod or of a template, whose spec is given.
pub(super) fn of_pod(at: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    let annotations = || at.entries().map(|(key, value)| (key, value.text(), value));
    for (key, value, place) in annotations() {
        match key {
            pod::MIRROR if spec.get("nodeName").text().is_empty() => {
                place.invalid(errors, "must set spec.nodeName if mirror pod annotation is set");
            }
            DELETION_COST if !is_cost(value) => place.invalid(errors, "must be a 32bit integer"),
            _ => {}
        }
        if key == SECCOMP_POD || key.starts_with(SECCOMP) {
            seccomp(&at.path().child(key), value, errors);
        }
        if let Some(name) = key.strip_prefix(APP_ARMOR) {
            app_armor(&place, name, spec, errors);
        }
    }
}

/// A number as it writes itself: no sign but minus, no zeros ahead.
fn is_cost(text: &str) -> bool {
    text.parse::<i32>().is_ok_and(|cost| cost.to_string() == text)
}

fn seccomp(path: &crate::field::Path, profile: &str, errors: &mut Errors) {
    if let Some(name) = profile.strip_prefix(LOCALHOST) {
        let name = Value::from(name);
        let mut wrong = Vec::new();
        volume::descending(&At::root(&name), &mut wrong);
        errors.extend(wrong.into_iter().map(|error| Error::invalid(path, name.clone(), error.detail)));
    } else if !matches!(profile, "runtime/default" | "docker/default" | "unconfined") {
        errors.push(Error::invalid(path, profile, "must be a valid seccomp profile"));
    }
}

fn app_armor(at: &At<'_>, container: &str, spec: &At<'_>, errors: &mut Errors) {
    let mut known = false;
    pod_os::each_container(spec, |one| known |= one.value()["name"] == container);
    if !known {
        errors.push(Error::invalid(&at.path(), container, "container not found"));
    }
    let profile = at.text();
    if !matches!(profile, "" | "runtime/default" | "unconfined") && !profile.starts_with(LOCALHOST) {
        at.invalid(errors, format!("invalid AppArmor profile name: {profile:?}"));
    }
}

/// What annotations say of profiles, fields must not contradict.
pub(super) fn agree(pod: &Value, spec: &At<'_>, errors: &mut Errors) {
    if let (Some(profile), Some(said)) =
        (spec.get("securityContext").opt("seccompProfile"), meta::annotation(pod, SECCOMP_POD))
    {
        same_profile(&profile, said, "seccomp", errors);
    }
    let for_windows = spec.get("os").get("name").text() == "windows";
    let of_pod = &spec.value()["securityContext"]["appArmorProfile"];
    pod_os::each_container(spec, |container| {
        let context = container.get("securityContext");
        let said = |prefix: &str| meta::annotation(pod, &format!("{prefix}{}", container.get("name").text()));
        if let (Some(profile), Some(said)) = (context.opt("seccompProfile"), said(SECCOMP)) {
            same_profile(&profile, said, "seccomp", errors);
        }
        let own = context.opt("appArmorProfile").unwrap_or_else(|| context.with("appArmorProfile", of_pod));
        if let Some(said) = said(APP_ARMOR).filter(|_| !own.value().is_null() && !for_windows) {
            same_profile(&own, said, "apparmor", errors);
        }
    });
}

fn same_profile(profile: &At<'_>, said: &str, which: &str, errors: &mut Errors) {
    let kind = profile.get("type");
    let same = match kind.text() {
        "Unconfined" => said == "unconfined",
        "RuntimeDefault" => said == "runtime/default" || (which == "seccomp" && said == "docker/default"),
        "Localhost" => match said.strip_prefix(LOCALHOST) {
            Some(name) if name != profile.get("localhostProfile").text() => {
                let detail = format!("{which} profile in annotation and field must match");
                return profile.get("localhostProfile").forbidden(errors, detail);
            }
            said => said.is_some(),
        },
        _ => true,
    };
    if !same {
        kind.forbidden(errors, format!("{which} type in annotation and field must match"));
    }
}

/// What is said of a pod when it is made, stays.
pub(super) fn update(at: &At<'_>, old: &Value, errors: &mut Errors) {
    let before = &old["metadata"]["annotations"];
    let fixed = |key: &str| key == pod::MIRROR || key.starts_with(APP_ARMOR);
    let named = |key: &str| if key == pod::MIRROR { "mirror pod annotation" } else { "AppArmor annotations" };
    for (key, value) in before.as_object().into_iter().flatten().filter(|(key, _)| fixed(key)) {
        if at.value().get(key) != Some(value) {
            let detail = format!("may not remove or update {}", named(key));
            errors.push(Error::forbidden(&at.path().key(key), detail));
        }
    }
    for (key, value) in at.entries().filter(|(key, _)| fixed(key) && before.get(key).is_none()) {
        value.forbidden(errors, format!("may not add {}", named(key)));
    }
}
