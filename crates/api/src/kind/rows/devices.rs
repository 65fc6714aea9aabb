//! Devices that pods claim (dynamic resource allocation).

use super::{Kind, row};
use crate::prepare;

pub(super) fn all(rows: &mut Vec<Kind>) {
    let device = |kind, resource| {
        row("resource.k8s.io", kind, resource)
            .in_versions(&["v1", "v1beta2"])
            .deprecated("v1beta2", 36, 39, "")
    };
    rows.extend([
        device("DeviceClass", "deviceclasses").cluster().counted(),
        row("resource.k8s.io", "DeviceTaintRule", "devicetaintrules")
            .in_versions(&["v1", "v1beta2"])
            .cluster()
            .status()
            .counted(),
        device("ResourceClaim", "resourceclaims").status(),
        device("ResourceClaimTemplate", "resourceclaimtemplates"),
        device("ResourceSlice", "resourceslices")
            .cluster()
            .create(prepare::create_counted)
            .update(prepare::update_counted)
            .field("spec.nodeName")
            .field("spec.driver"),
    ]);
}
