//! What a claim to devices uses: devices of each class, and what the classes stand for as extended resources (KEP-5004).

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::pods::{REQUESTS, is_native};
use super::{Amounts, Meter, add};
use crate::meta;
use crate::quantity::{Format, Quantity};

/// What follows the name of a device's class.
const OF_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// What precedes it where a pod asks for a device like for any resource.
pub const BY_CLASS: &str = "deviceclass.resource.kubernetes.io/";
/// A claim gets no more devices than this.
const MOST: i64 = 32;
/// On claims that a scheduler makes for what a pod asks for by resources.
pub const FOR_RESOURCES: &str = "resource.kubernetes.io/extended-resource-claim";

pub(super) fn tracks(name: &str) -> bool {
    name.ends_with(OF_CLASS) || (name.starts_with(REQUESTS) && !is_native(name))
}

/// What the cost of a claim depends on besides the claim.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// The extended resources that classes stand for, by the classes' names.
    pub resources: Arc<BTreeMap<String, String>>,
    /// What was charged already to the pod that the claim was made for; see [`paid`].
    pub paid: Amounts,
}

impl Devices {
    /// Of a `DeviceClass`: its name, and the extended resource that it stands for, if any.
    pub fn resource(class: &Value) -> Option<(String, String)> {
        let resource = class["spec"]["extendedResourceName"].as_str()?;
        Some((meta::name(class).to_owned(), resource.to_owned()))
    }

    /// The devices that a claim may get of each class, under all names that the class has. Of alternatives, the most
    /// that one of them asks for counts.
    pub(super) fn usage(&self, claim: &Value) -> Amounts {
        let of_class = asked(claim);
        let mut as_resources = Amounts::new();
        for (class, count) in &of_class {
            let names = [Some(format!("{BY_CLASS}{class}")), self.resources.get(class).cloned()];
            for name in names.into_iter().flatten() {
                add(&mut as_resources, &Amounts::from([(format!("{REQUESTS}{name}"), *count)]));
            }
        }
        for (name, paid) in &self.paid {
            if let Some(count) = as_resources.get_mut(name) {
                *count = if *count > *paid { *count - *paid } else { Quantity::ZERO };
            }
        }
        as_resources.retain(|_, count| *count > Quantity::ZERO);
        let of_class = of_class.into_iter().map(|(class, count)| (format!("{class}{OF_CLASS}"), count));
        of_class.chain(as_resources).collect()
    }
}

/// Devices by class.
fn asked(claim: &Value) -> Amounts {
    let asked = |request: &Value| {
        let count = match request["allocationMode"].as_str() {
            Some("ExactCount") => request["count"].as_i64().unwrap_or(0),
            Some("All") => MOST,
            // Whatever it means, nobody was told what it costs.
            _ => 0,
        };
        let class = meta::text(request, &["deviceClassName"]).to_owned();
        (class, Quantity::from_units(count, Format::DecimalSI))
    };
    let mut all = Amounts::new();
    for request in meta::items(claim, &["spec", "devices", "requests"]) {
        let mut most = Amounts::new();
        for (class, count) in meta::items(request, &["firstAvailable"]).iter().map(asked) {
            let known = most.entry(class).or_insert(count);
            *known = (*known).max(count);
        }
        match (most.is_empty(), &request["exactly"]) {
            (true, exactly @ Value::Object(_)) => add(&mut all, &Amounts::from([asked(exactly)])),
            _ => add(&mut all, &most),
        }
    }
    all
}

/// Name and uid of the pod for whose extended resources a claim says that it was made.
pub fn payer(claim: &Value) -> Option<(&str, &str)> {
    if meta::annotation(claim, FOR_RESOURCES) != Some("true") {
        return None;
    }
    let owners = meta::items(claim, &["metadata", "ownerReferences"]);
    let owner = owners.iter().find(|owner| owner["controller"] == true)?;
    let is_pod = owner["kind"] == "Pod" && owner["apiVersion"] == "v1";
    is_pod.then(|| (meta::text(owner, &["name"]), meta::text(owner, &["uid"])))
}

/// What the pod, the claim's [`payer`], was charged in its stead: nothing unless the pod is that one and means this
/// claim. Before it says which claim it means, that is the first one of the namespace's `claims` that names it.
pub fn paid(claim: &Value, pod: &Value, claims: &[Value], now: Timestamp) -> Amounts {
    let is_payer = |claim: &Value| payer(claim).is_some_and(|(_, uid)| uid == meta::uid(pod));
    let age = |claim: &Value| {
        let made = meta::text(claim, &["metadata", "creationTimestamp"]).to_owned();
        (made, meta::name(claim).to_owned())
    };
    let meant = match pod["status"]["extendedResourceClaimStatus"]["resourceClaimName"].as_str() {
        Some(name) => name == meta::name(claim),
        None => claims.iter().filter(|other| is_payer(other)).all(|other| age(other) >= age(claim)),
    };
    if is_payer(claim) && meant { Meter::Pods.usage(pod, now, &Devices::default()) } else { Amounts::new() }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
