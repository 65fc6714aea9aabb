//! The prose of the API: what each schema and field is for.
//!
//! It is not in this tree: `k8s-openapi` carries it in the schemas of its types.

use std::collections::HashMap;

use k8s_openapi::api::{
    admissionregistration, apps::v1 as apps, authentication::v1 as authentication,
    authorization::v1 as authorization, autoscaling, batch::v1 as batch, certificates, coordination,
    core::v1 as core, discovery::v1 as discovery, events::v1 as events, flowcontrol::v1 as flowcontrol,
    networking::v1 as networking, node::v1 as node, policy::v1 as policy, rbac::v1 as rbac, resource,
    scheduling, storage::v1 as storage, storagemigration,
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use k8s_openapi::schemars::{JsonSchema, SchemaGenerator};
use serde_json::Value;

/// Descriptions of schemas and their fields, by full name.
#[derive(Debug)]
pub(super) struct Descriptions(HashMap<String, Texts>);

#[derive(Debug)]
struct Texts {
    of: Option<String>,
    fields: HashMap<String, String>,
}

impl Descriptions {
    /// Those of all kinds below.
    pub(super) fn load() -> Self {
        let mut generator = SchemaGenerator::default();
        let mut texts = HashMap::new();
        for add in KINDS {
            add(&mut generator);
            // Only the prose is kept, and each schema is dropped as soon as it was read: all of them together
            // are several times the document that they are for.
            for (name, schema) in generator.definitions_mut().iter_mut().filter(|(_, s)| !s.is_null()) {
                texts.insert(name.clone(), Texts::take(schema.take()));
            }
        }
        for (name, text) in OWN {
            texts.insert((*name).to_owned(), Texts { of: Some((*text).to_owned()), fields: HashMap::new() });
        }
        Self(texts)
    }

    /// A version that upstream has removed is described as the one that took its place.
    fn find(&self, full: &str) -> Option<&Texts> {
        self.0.get(full).or_else(|| {
            let (rest, name) = full.rsplit_once('.')?;
            let (package, _version) = rest.rsplit_once('.')?;
            let packages = match package {
                "io.k8s.api.extensions" => &["io.k8s.api.apps", "io.k8s.api.networking"][..],
                package => &[package],
            };
            let current = |package: &&str| {
                ["v1", "v2"].iter().find_map(|v| self.0.get(&format!("{package}.{v}.{name}")))
            };
            packages.iter().find_map(current)
        })
    }

    /// What the schema is.
    pub(super) fn of(&self, full: &str) -> Option<&str> {
        self.find(full)?.of.as_deref()
    }

    /// What the schema's field is.
    pub(super) fn of_field(&self, full: &str, field: &str) -> Option<&str> {
        self.find(full)?.fields.get(field).map(String::as_str)
    }
}

impl Texts {
    fn take(mut schema: Value) -> Self {
        let text = |value: Option<&mut Value>| match value?.get_mut("description")?.take() {
            Value::String(text) => Some(text),
            _ => None,
        };
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        let fields = properties.into_iter().flatten();
        let fields =
            fields.filter_map(|(name, property)| Some((name.clone(), text(Some(property))?))).collect();
        Self { of: text(Some(&mut schema)), fields }
    }
}

/// Makes the generator describe `T` and all that it refers to.
fn kind<T: JsonSchema>(generator: &mut SchemaGenerator) {
    generator.subschema_for::<T>();
}

/// Kinds that `k8s-openapi` no longer has.
const OWN: &[(&str, &str)] = &[(
    "io.k8s.api.admissionregistration.v1alpha1.InitializerConfiguration",
    "Which initializers have to see new objects of which resources before everybody else does.",
)];

const KINDS: &[fn(&mut SchemaGenerator)] = &[
    kind::<admissionregistration::v1::MutatingAdmissionPolicy>,
    kind::<admissionregistration::v1::MutatingAdmissionPolicyBinding>,
    kind::<admissionregistration::v1::MutatingWebhookConfiguration>,
    kind::<admissionregistration::v1::ValidatingAdmissionPolicy>,
    kind::<admissionregistration::v1::ValidatingAdmissionPolicyBinding>,
    kind::<admissionregistration::v1::ValidatingWebhookConfiguration>,
    kind::<admissionregistration::v1beta1::MutatingAdmissionPolicy>,
    kind::<admissionregistration::v1beta1::MutatingAdmissionPolicyBinding>,
    kind::<apiextensions::CustomResourceDefinition>,
    kind::<apiregistration::APIService>,
    kind::<apps::ControllerRevision>,
    kind::<apps::DaemonSet>,
    kind::<apps::Deployment>,
    kind::<apps::ReplicaSet>,
    kind::<apps::StatefulSet>,
    kind::<authentication::SelfSubjectReview>,
    kind::<authentication::TokenRequest>,
    kind::<authentication::TokenReview>,
    kind::<authorization::LocalSubjectAccessReview>,
    kind::<authorization::SelfSubjectAccessReview>,
    kind::<authorization::SelfSubjectRulesReview>,
    kind::<authorization::SubjectAccessReview>,
    kind::<autoscaling::v1::HorizontalPodAutoscaler>,
    kind::<autoscaling::v1::Scale>,
    kind::<autoscaling::v2::HorizontalPodAutoscaler>,
    kind::<batch::CronJob>,
    kind::<batch::Job>,
    kind::<certificates::v1::CertificateSigningRequest>,
    kind::<certificates::v1::ClusterTrustBundle>,
    kind::<certificates::v1::PodCertificateRequest>,
    kind::<certificates::v1beta1::ClusterTrustBundle>,
    kind::<certificates::v1beta1::PodCertificateRequest>,
    kind::<coordination::v1::Lease>,
    kind::<coordination::v1beta1::LeaseCandidate>,
    kind::<core::Binding>,
    kind::<core::ComponentStatus>,
    kind::<core::ConfigMap>,
    kind::<core::Endpoints>,
    kind::<core::Event>,
    kind::<core::LimitRange>,
    kind::<core::Namespace>,
    kind::<core::Node>,
    kind::<core::PersistentVolume>,
    kind::<core::PersistentVolumeClaim>,
    kind::<core::Pod>,
    kind::<core::PodTemplate>,
    kind::<core::ReplicationController>,
    kind::<core::ResourceQuota>,
    kind::<core::Secret>,
    kind::<core::Service>,
    kind::<core::ServiceAccount>,
    kind::<discovery::EndpointSlice>,
    kind::<events::Event>,
    kind::<flowcontrol::FlowSchema>,
    kind::<flowcontrol::PriorityLevelConfiguration>,
    kind::<meta::DeleteOptions>,
    kind::<meta::Status>,
    kind::<networking::IPAddress>,
    kind::<networking::Ingress>,
    kind::<networking::IngressClass>,
    kind::<networking::NetworkPolicy>,
    kind::<networking::ServiceCIDR>,
    kind::<node::RuntimeClass>,
    kind::<policy::Eviction>,
    kind::<policy::PodDisruptionBudget>,
    kind::<rbac::ClusterRole>,
    kind::<rbac::ClusterRoleBinding>,
    kind::<rbac::Role>,
    kind::<rbac::RoleBinding>,
    kind::<resource::v1::DeviceClass>,
    kind::<resource::v1::DeviceTaintRule>,
    kind::<resource::v1::ResourceClaim>,
    kind::<resource::v1::ResourceClaimTemplate>,
    kind::<resource::v1::ResourceSlice>,
    kind::<resource::v1beta1::DeviceClass>,
    kind::<resource::v1beta1::ResourceClaim>,
    kind::<resource::v1beta1::ResourceClaimTemplate>,
    kind::<resource::v1beta1::ResourceSlice>,
    kind::<resource::v1beta2::DeviceClass>,
    kind::<resource::v1beta2::DeviceTaintRule>,
    kind::<resource::v1beta2::ResourceClaim>,
    kind::<resource::v1beta2::ResourceClaimTemplate>,
    kind::<resource::v1beta2::ResourceSlice>,
    kind::<scheduling::v1::PriorityClass>,
    kind::<scheduling::v1beta1::PodGroup>,
    kind::<scheduling::v1beta1::Workload>,
    kind::<storage::CSIDriver>,
    kind::<storage::CSINode>,
    kind::<storage::CSIStorageCapacity>,
    kind::<storage::StorageClass>,
    kind::<storage::VolumeAttachment>,
    kind::<storage::VolumeAttributesClass>,
    kind::<storagemigration::v1::StorageVersionMigration>,
    kind::<storagemigration::v1beta1::StorageVersionMigration>,
];
