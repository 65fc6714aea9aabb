//! What who gives devices away and who takes them back must read alike (dynamic resource allocation, KEP-4381). Pure.

use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceRequestAllocationResult, DeviceTaint, DeviceTaintSelector, DeviceToleration,
};

/// Keeps a claim while devices are allocated to it.
pub const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// So many may use a claim at a time.
pub const MOST_USERS: usize = 256;

/// The devices of an allocation.
pub fn given(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    allocation.devices.iter().flat_map(|devices| devices.results.iter().flatten())
}

/// Whether the toleration covers the taint, for as long as it does.
pub fn tolerates(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    fn text(field: &Option<String>) -> &str {
        field.as_deref().unwrap_or_default()
    }
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    let is_about = (effect.is_empty() || effect == taint.effect) && (key.is_empty() || key == taint.key);
    is_about
        && match text(&toleration.operator) {
            "" | "Equal" => text(&toleration.value) == text(&taint.value),
            "Exists" => true,
            _ => false,
        }
}

/// Whether a DeviceTaintRule (KEP-5055) with this selector is about the device; without one it is about none.
pub fn selects(selector: Option<&DeviceTaintSelector>, driver: &str, pool: &str, device: &str) -> bool {
    let is = |wanted: &Option<String>, one: &str| wanted.as_ref().is_none_or(|wanted| wanted == one);
    selector.is_some_and(|s| is(&s.driver, driver) && is(&s.pool, pool) && is(&s.device, device))
}
