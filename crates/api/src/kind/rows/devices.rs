//! Devices that pods claim (dynamic resource allocation).

use super::{Kind, row};
use crate::convert::devices as convert;
use crate::{defaults, prepare};

pub(super) fn all(rows: &mut Vec<Kind>) {
    let device = |kind, resource| {
        row("resource.k8s.io", kind, resource)
            .in_versions(&["v1", "v1beta2", "v1beta1"])
            .deprecated("v1beta2", 36, 39, "")
            .deprecated("v1beta1", 35, 38, "")
    };
    rows.extend([
        device("DeviceClass", "deviceclasses").cluster().counted(),
        row("resource.k8s.io", "DeviceTaintRule", "devicetaintrules")
            .in_versions(&["v1", "v1beta2"])
            .cluster()
            .status()
            .counted(),
        device("ResourceClaim", "resourceclaims")
            .converted(convert::claim_to_storage, convert::claim_from_storage)
            .default(defaults::resource_claim)
            .create(prepare::devices::create_claim)
            .update(prepare::devices::update_claim)
            .status_by(prepare::devices::update_claim_status),
        device("ResourceClaimTemplate", "resourceclaimtemplates")
            .converted(convert::template_to_storage, convert::template_from_storage)
            .default(defaults::resource_claim_template)
            .create(prepare::devices::create_template)
            .update(prepare::devices::update_template),
        device("ResourceSlice", "resourceslices")
            .converted(convert::slice_to_storage, convert::slice_from_storage)
            .cluster()
            .create(prepare::devices::create_slice)
            .update(prepare::devices::update_slice)
            .field("spec.nodeName")
            .field("spec.driver"),
    ]);
}
