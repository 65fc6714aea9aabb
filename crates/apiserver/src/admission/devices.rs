//! What the API knows of devices besides their structure: that the expressions which select them mean something, and
//! since when they are tainted.

use std::collections::BTreeSet;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{meta, status::Status};
use tiphys_cel::{Program, Sizes, Type, device};
use tiphys_pki::Clock;

use super::{Attributes, Operation, Plugin};
use crate::registry::objectmeta;

const GROUP: &str = "resource.k8s.io";

/// The longest expression; of longer ones validation tells that they are.
const MAX_EXPRESSION: usize = 10 * 1024;
/// What an expression may be estimated to cost.
const MOST: u64 = 1_000_000;

/// Judges the expressions of selectors, and dates taints.
pub struct Devices {
    clock: Clock,
}

impl Devices {
    pub fn new(clock: Clock) -> Self {
        Self { clock }
    }
}

#[async_trait]
impl Plugin for Devices {
    fn name(&self) -> &'static str {
        "Devices"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.group == GROUP
            && request.subresource.is_empty()
            && matches!(request.operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, request: &Attributes<'_>, object: &mut Value, old: &Value) -> Result<(), Status> {
        let now = || Timestamp::try_from((self.clock)()).map(objectmeta::time).map_err(Status::internal);
        match request.resource {
            "devicetaintrules" => {
                if let Some(taint) = object.pointer_mut("/spec/taint") {
                    let before = &old["spec"]["taint"];
                    // Whoever changes the effect means it from now on.
                    let stale = !before.is_null()
                        && taint["effect"] != before["effect"]
                        && taint["timeAdded"] == before["timeAdded"];
                    date(taint, stale, now)?;
                }
            }
            "resourceslices" => {
                let devices = object.pointer_mut("/spec/devices").and_then(Value::as_array_mut);
                for device in devices.into_iter().flatten() {
                    let taints = device.get_mut("taints").and_then(Value::as_array_mut);
                    for taint in taints.into_iter().flatten() {
                        date(taint, false, now)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    async fn validate(&self, request: &Attributes<'_>, object: &Value, old: &Value) -> Result<(), Status> {
        let spec = Path::new("spec");
        let mut errors = Errors::new();
        match request.resource {
            "deviceclasses" => selectors(&object["spec"], &old["spec"], &spec, &mut errors),
            // Their specs never change.
            "resourceclaims" if old.is_null() => claim(&object["spec"], &spec, &mut errors),
            "resourceclaimtemplates" if old.is_null() => {
                claim(&object["spec"]["spec"], &spec.child("spec"), &mut errors);
            }
            _ => {}
        }
        if errors.is_empty() {
            return Ok(());
        }
        Err(Status::invalid(GROUP, request.kind, meta::name(object), &errors))
    }
}

/// Tells of a taint since when it is there, if nobody has told.
fn date(taint: &mut Value, stale: bool, now: impl FnOnce() -> Result<String, Status>) -> Result<(), Status> {
    if let Value::Object(taint) = taint
        && (stale || taint.get("timeAdded").is_none_or(Value::is_null))
    {
        taint.insert("timeAdded".to_owned(), now()?.into());
    }
    Ok(())
}

fn claim(spec: &Value, path: &Path, errors: &mut Errors) {
    let path = path.child("devices").child("requests");
    for (at, request) in meta::items(spec, &["devices", "requests"]).iter().enumerate() {
        let path = path.index(at);
        selectors(&request["exactly"], &Value::Null, &path.child("exactly"), errors);
        for (at, alternative) in meta::items(request, &["firstAvailable"]).iter().enumerate() {
            selectors(alternative, &Value::Null, &path.child("firstAvailable").index(at), errors);
        }
    }
}

/// The selectors of something that selects devices, as far as they are new.
fn selectors(of: &Value, old: &Value, path: &Path, errors: &mut Errors) {
    let source = |selector: &'_ Value| meta::text(selector, &["cel", "expression"]).to_owned();
    let before: BTreeSet<String> = meta::items(old, &["selectors"]).iter().map(source).collect();
    for (at, selector) in meta::items(of, &["selectors"]).iter().enumerate() {
        let source = source(selector);
        // What is not there or too long, validation tells.
        if selector["cel"].is_null() || source.len() > MAX_EXPRESSION || before.contains(&source) {
            continue;
        }
        let path = path.child("selectors").index(at).child("cel").child("expression");
        match compile(&source) {
            Err(why) => errors.push(Error::invalid(&path, source, why)),
            Ok(program) if program.estimate(&Limits).max > MOST => {
                errors.push(Error::forbidden(&path, "too complex, exceeds cost limit"));
            }
            Ok(_) => {}
        }
    }
}

fn compile(source: &str) -> Result<Program, String> {
    let program =
        Program::compile(source, &device::ENVIRONMENT).map_err(|e| format!("compilation failed: {e}"))?;
    match program.result_type() {
        Type::Bool | Type::Dyn => Ok(program),
        other => Err(format!("must evaluate to bool or the unknown type, not {other}")),
    }
}

/// How much is told of a device at most.
struct Limits;

impl Sizes for Limits {
    fn max(&self, path: &[&str]) -> Option<u64> {
        const DOMAIN: u64 = 63;
        const NAME: u64 = 32;
        const VALUE: u64 = 64;
        const MANY: u64 = 32;
        Some(match path {
            ["device", "driver"] | ["device", "attributes" | "capacity", "@keys"] => DOMAIN,
            ["device", "attributes" | "capacity"] | ["device", "attributes" | "capacity", _] => MANY,
            ["device", _, _, "@keys"] => NAME,
            ["device", _, _, _] => VALUE,
            _ => return None,
        })
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
