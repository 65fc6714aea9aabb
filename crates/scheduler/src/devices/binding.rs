//! Whether the devices of a claim can be used (KEP-5007): some have to be made ready for the node first, by whoever
//! writes the conditions in the claim's status.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult, ResourceClaimStatus};
use tiphys_client::devices::given;

/// How far devices are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Binding {
    /// All can be used, or none is allocated.
    Ready,
    Pending,
    /// One never will be, for this reason.
    Failed(Box<str>),
}

/// Whether somebody has to make the device ready.
pub fn is_conditional(given: &DeviceRequestAllocationResult) -> bool {
    given.binding_conditions.as_ref().is_some_and(|c| !c.is_empty())
}

/// Whether somebody has to make some of the devices ready.
pub fn has_conditions(allocation: &AllocationResult) -> bool {
    given(allocation).any(is_conditional)
}

impl Binding {
    pub fn of(status: &ResourceClaimStatus) -> Self {
        let mut binding = Self::Ready;
        for result in status.allocation.iter().flat_map(given) {
            let wanted = result.binding_conditions.as_deref().unwrap_or_default();
            if wanted.is_empty() {
                continue;
            }
            // One device has one status, whoever shares it.
            let told = status.devices.iter().flatten().find(|told| {
                told.driver == result.driver && told.pool == result.pool && told.device == result.device
            });
            let conditions = || told.iter().flat_map(|told| told.conditions.iter().flatten());
            let holds = |name: &String| conditions().find(|c| c.type_ == *name && c.status == "True");
            if let Some(failure) = result.binding_failure_conditions.iter().flatten().find_map(holds) {
                let (reason, message) = (&failure.reason, &failure.message);
                return Self::Failed(format!("reason={reason}, message={message:?}").into());
            }
            if !wanted.iter().all(|name| holds(name).is_some()) {
                binding = Self::Pending;
            }
        }
        binding
    }
}

/// How long one may still wait for devices; nothing, if that is over.
pub fn left(allocation: &AllocationResult, now: Timestamp, at_most: Duration) -> Duration {
    let Some(since) = &allocation.allocation_timestamp else { return at_most };
    // A clock that is ahead of ours makes nobody wait longer.
    let waited = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
    at_most.saturating_sub(waited)
}

#[cfg(test)]
#[path = "binding_tests.rs"]
mod tests;
