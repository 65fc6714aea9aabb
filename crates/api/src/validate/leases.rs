//! Leases, and who would hold one.

use serde_json::Value;

use super::At;
use crate::field::{Error, Errors};
use crate::names;
use crate::semver::Semver;

const OLDEST: &str = "OldestEmulationVersion";

pub(crate) fn lease(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    let seconds = spec.get("leaseDurationSeconds");
    if seconds.number().is_some_and(|s| s <= 0) {
        seconds.invalid(&mut errors, "must be greater than 0");
    }
    spec.get("leaseTransitions").not_negative(&mut errors);
    let chosen = spec.get("strategy");
    if !chosen.value().is_null() {
        strategy(&chosen, &mut errors);
    }
    let preferred = spec.get("preferredHolder");
    if !preferred.text().is_empty() && chosen.text().is_empty() {
        preferred.forbidden(&mut errors, "may only be specified if `strategy` is defined");
    }
    errors
}

pub(crate) fn lease_update(new: &Value, _old: &Value) -> Errors {
    lease(new)
}

pub(crate) fn candidate(object: &Value) -> Errors {
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    spec.get("leaseName").needed(&mut errors);
    let (emulated, own) = (spec.get("emulationVersion"), spec.get("binaryVersion"));
    let parsed = |at: &At<'_>, errors: &mut Errors| {
        let parsed = Semver::parse(at.text()).ok();
        if parsed.is_none() && !at.text().is_empty() {
            at.invalid(errors, "must be a valid semantic version");
        }
        parsed
    };
    let older = parsed(&emulated, &mut errors);
    own.needed(&mut errors);
    let newer = parsed(&own, &mut errors);
    if let (Some(older), Some(newer)) = (&older, &newer)
        && newer.order(older).is_lt()
    {
        own.invalid(&mut errors, "must be greater than or equal to `emulationVersion`");
    }
    let chosen = spec.get("strategy");
    if let Some(text) = chosen.needed(&mut errors) {
        if text == OLDEST && older.is_none_or(|v| v.numbers() == [0; 3]) {
            let why = "must be specified when `strategy` is 'OldestEmulationVersion'";
            emulated.required(&mut errors, why);
        }
        strategy(&chosen, &mut errors);
    }
    errors
}

pub(crate) fn candidate_update(new: &Value, old: &Value) -> Errors {
    let mut errors = candidate(new);
    At::root(new).get("spec").get("leaseName").unchanged(&mut errors, &old["spec"]["leaseName"]);
    errors
}

/// How a holder is chosen: as Kubernetes does it, or by somebody's name with a domain.
fn strategy(at: &At<'_>, errors: &mut Errors) {
    // Upstream names the field twice.
    let (path, text) = (at.path().child("strategy"), at.text());
    if text.contains('/') {
        errors.extend(names::label_key(text).into_iter().map(|wrong| Error::invalid(&path, text, wrong)));
    } else if text != OLDEST {
        errors.push(Error::not_supported(&path, text, &[OLDEST]));
    }
}

#[cfg(test)]
#[path = "leases_tests.rs"]
mod tests;
