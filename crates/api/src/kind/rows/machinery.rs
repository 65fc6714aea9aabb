//! The kinds that tell the API server itself what to do.

use super::{Kind, row};
use crate::custom::definition;
use crate::{defaults, meta, names, prepare};

/// Parts of the API that other servers answer.
pub(super) fn aggregation(rows: &mut Vec<Kind>) {
    let group = "apiregistration.k8s.io";
    rows.push(
        row(group, "APIService", "apiservices")
            .cluster()
            .category(EXTENSIONS)
            .status_alone()
            .create(prepare::create_api_service)
            // The core group's ends with a dot: "v1.".
            .named(names::path_segment)
            .default(defaults::api_service)
            .conditional_update(),
    );
}

const EXTENSIONS: &str = "api-extensions";

/// Who else has a say in what is written.
pub(super) fn admission(rows: &mut Vec<Kind>) {
    let admission = |kind, resource| {
        row("admissionregistration.k8s.io", kind, resource)
            .cluster()
            .category(EXTENSIONS)
            .create(meta::start_generation)
            .update(prepare::update_whole_counted)
            .conditional_update()
    };
    let mutating = |kind, resource| {
        admission(kind, resource).in_versions(&["v1", "v1beta1"]).deprecated("v1beta1", 37, 40, "v1")
    };
    rows.extend([
        mutating("MutatingAdmissionPolicy", "mutatingadmissionpolicies").default(defaults::admission_policy),
        mutating("MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings")
            .default(defaults::policy_binding),
        admission("MutatingWebhookConfiguration", "mutatingwebhookconfigurations")
            .default(defaults::webhooks),
        admission("ValidatingAdmissionPolicy", "validatingadmissionpolicies")
            .status_alone()
            .counted()
            .default(defaults::admission_policy),
        admission("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings")
            .default(defaults::policy_binding),
        admission("ValidatingWebhookConfiguration", "validatingwebhookconfigurations")
            .default(defaults::webhooks),
    ]);
}

/// Kinds that users define.
pub(super) fn extensions(rows: &mut Vec<Kind>) {
    let mut definition = row("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions")
        .cluster()
        .short(&["crd", "crds"])
        .category(EXTENSIONS)
        .status()
        .default(definition::default)
        .create(definition::prepare_create)
        .update(definition::prepare_update)
        .conditional_update();
    definition.hooks.prepare_delete = definition::prepare_delete;
    definition.hooks.warnings = definition::warnings;
    rows.push(definition);
}

/// Which requests wait for which.
pub(super) fn flow_control(rows: &mut Vec<Kind>) {
    let flow = |kind, resource| {
        row("flowcontrol.apiserver.k8s.io", kind, resource).cluster().status_alone().counted()
    };
    rows.extend([
        flow("FlowSchema", "flowschemas").default(defaults::flow_schema),
        flow("PriorityLevelConfiguration", "prioritylevelconfigurations").default(defaults::priority_level),
    ]);
}

/// Objects that are to be stored anew.
pub(super) fn migration(rows: &mut Vec<Kind>) {
    rows.push(
        row("storagemigration.k8s.io", "StorageVersionMigration", "storageversionmigrations")
            .in_versions(&["v1", "v1beta1"])
            .deprecated("v1beta1", 37, 40, "v1")
            .cluster()
            .status()
            .counted()
            .conditional_update(),
    );
}
