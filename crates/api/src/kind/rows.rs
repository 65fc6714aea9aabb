//! The built-in kinds, as data, in the order of discovery.

use serde_json::Value;

use super::{Action, Hooks, Kind, Posted, Scale, Scope, SelectableField, Speaks, Storage, Str, Subresource};
use super::{Update, Verbs, Version};
use crate::custom::definition;
use crate::field::Errors;
use crate::names::{self, NameRule};
use crate::table::{Printer, cluster, machinery as machines, network, pods, storage as volumes, workloads};
use crate::validate::{
    access, admission, autoscaling as scaling, cluster as rules_of, devices as device, machinery as machine,
    network as net, pod, service, storage as volume, workload,
};
use crate::{convert, defaults, meta, prepare, validate, warnings};

mod devices;
mod machinery;

const STORED: Verbs = Verbs::ALL;
const READ_WRITE: Verbs = Verbs::GET.and(Verbs::PATCH).and(Verbs::UPDATE);
const PROXY: Verbs = Verbs::CREATE.and(Verbs::DELETE).and(READ_WRITE);

/// A namespaced row that is served and stored as `group/v1`.
pub(super) fn row(group: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    let singular = kind.to_lowercase();
    Kind {
        group: group.into(),
        kind: kind.into(),
        list_kind: format!("{kind}List").into(),
        resource: resource.into(),
        singular: singular.into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        versions: vec![Version { name: "v1".into(), served: true, warning: None, gone: None }],
        storage: Some(Storage { group: group.into(), version: "v1".into(), resource: resource.into() }),
        verbs: STORED,
        subresources: Vec::new(),
        create_on_update: false,
        unconditional_update: true,
        orphan_by_default: false,
        fields: Vec::new(),
        hooks: Hooks::PLAIN,
        custom: None,
    }
}

/// A kind that is only asked: posted, answered, never kept.
fn review(group: &'static str, kind: &'static str, resource: &'static str) -> Kind {
    Kind { storage: None, verbs: Verbs::CREATE, ..row(group, kind, resource) }
}

/// The words that the table below is written in.
impl Kind {
    pub(super) fn cluster(self) -> Self {
        Self { scope: Scope::Cluster, ..self }
    }
    /// Served in these versions, the preferred one first, and stored in that one.
    fn in_versions(mut self, names: &[&'static str]) -> Self {
        let version =
            |name: &&'static str| Version { name: (*name).into(), served: true, warning: None, gone: None };
        self.versions = names.iter().map(version).collect();
        match names.first() {
            Some(preferred) => self.stored_in(preferred),
            None => self,
        }
    }
    /// How other versions than the stored one are read and shown.
    fn converted(mut self, to_storage: fn(&str, &mut Value), from_storage: fn(&str, &mut Value)) -> Self {
        self.hooks.to_storage = to_storage;
        self.hooks.from_storage = from_storage;
        self
    }
    fn stored_in(mut self, version: &'static str) -> Self {
        if let Some(storage) = &mut self.storage {
            storage.version = version.into();
        }
        self
    }
    /// An old version that is going away, told to its users in upstream's words.
    fn deprecated(mut self, version: &str, since: u8, gone: u8, instead: &str) -> Self {
        let name = format!("{}/{version} {}", self.group, self.kind);
        let mut warning = format!("{name} is deprecated in v1.{since}+, unavailable in v1.{gone}+");
        if !instead.is_empty() {
            warning.push_str(&format!("; use {}/{instead} {}", self.group, self.kind));
        }
        for known in self.versions.iter_mut().filter(|v| v.name == version) {
            known.warning = Some(warning.clone().into());
            known.gone = Some(gone);
        }
        self
    }
    /// What is served for ever, and yet had better not be used, told to its users in upstream's words.
    fn warned(mut self, warning: &'static str) -> Self {
        for version in &mut self.versions {
            version.warning = Some(warning.into());
        }
        self
    }
    fn short(mut self, names: &[&'static str]) -> Self {
        self.short_names = names.iter().map(|n| Str::from(*n)).collect();
        self
    }
    fn category(mut self, name: &'static str) -> Self {
        self.categories.push(name.into());
        self
    }
    fn create_on_update(self) -> Self {
        Self { create_on_update: true, ..self }
    }
    pub(super) fn conditional_update(self) -> Self {
        Self { unconditional_update: false, ..self }
    }
    fn named(mut self, rule: NameRule) -> Self {
        self.hooks.validate_name = rule;
        self
    }
    fn default(mut self, default: fn(&str, &mut Value)) -> Self {
        self.hooks.default = default;
        self
    }
    fn grace(mut self, grace: fn(&Value, Option<i64>) -> i64) -> Self {
        self.hooks.grace = Some(grace);
        self
    }
    fn create(mut self, prepare: fn(&mut Value)) -> Self {
        self.hooks.prepare_create = prepare;
        self
    }
    fn stamp(mut self, stamp: fn(&mut Value, &Value, &str)) -> Self {
        self.hooks.stamp = stamp;
        self
    }
    fn update(mut self, prepare: fn(&mut Value, &Value)) -> Self {
        self.hooks.update.prepare = prepare;
        self
    }
    /// Its generation follows its spec.
    fn counted(self) -> Self {
        self.create(prepare::create_counted).update(prepare::update_counted)
    }
    fn sub(mut self, name: &'static str, verbs: Verbs, action: Action) -> Self {
        self.subresources.push(Subresource {
            name: name.into(),
            speaks: None,
            verbs,
            action,
            posted: Posted::PLAIN,
        });
        self
    }
    /// A status that only the subresource writes.
    fn status(self) -> Self {
        self.create(prepare::create).update(prepare::update).status_by(prepare::update_status)
    }
    /// As [`Self::status`], of an object whose metadata the status does not write.
    fn status_alone(self) -> Self {
        self.create(prepare::create).update(prepare::update).status_by(prepare::update_status_alone)
    }
    fn status_by(self, prepare: fn(&mut Value, &Value)) -> Self {
        self.part("status", READ_WRITE, prepare)
    }
    /// A subresource that writes a part of the object.
    fn part(self, name: &'static str, verbs: Verbs, prepare: fn(&mut Value, &Value)) -> Self {
        self.sub(name, verbs, Action::Update(Update { prepare, ..Update::PLAIN }))
    }
    fn speaking(mut self, group: &'static str, version: &'static str, kind: &'static str) -> Self {
        if let Some(last) = self.subresources.last_mut() {
            last.speaks = Some(Speaks { group: group.into(), version: version.into(), kind: kind.into() });
        }
        self
    }
    fn post(mut self, name: &'static str, posted: Posted) -> Self {
        self = self.sub(name, Verbs::CREATE, Action::Post);
        if let Some(last) = self.subresources.last_mut() {
            last.posted = posted;
        }
        self
    }
    fn connect(self, name: &'static str, verbs: Verbs, options: &'static str) -> Self {
        self.sub(name, verbs, Action::Connect).speaking("", "", options)
    }
    fn scale(self, selector: &[&'static str]) -> Self {
        let path = |p: &[&'static str]| p.iter().map(|s| Str::from(*s)).collect();
        let scale = Scale {
            spec_replicas: path(&["spec", "replicas"]),
            status_replicas: path(&["status", "replicas"]),
            selector: path(selector),
        };
        self.sub("scale", READ_WRITE, Action::Scale(scale)).speaking("autoscaling", "v1", "Scale")
    }
    /// A selectable field whose label is its path.
    fn field(self, label: &'static str) -> Self {
        self.field_at(label, &[label], "")
    }
    fn field_at(mut self, label: &'static str, paths: &[&'static str], absent: &'static str) -> Self {
        let paths = paths.iter().map(|p| p.split('.').map(Str::from).collect()).collect();
        self.fields.push(SelectableField { label: label.into(), paths, absent: absent.into() });
        self
    }
}

const GET: Verbs = Verbs::GET;
const DIAL: Verbs = Verbs::CREATE.and(Verbs::GET);

/// The columns of each kind; the others show their name and when they were made.
fn printer(kind: &str) -> Option<&'static Printer> {
    Some(match kind {
        "APIService" => &machines::API_SERVICE,
        "ClusterTrustBundle" => &machines::TRUST_BUNDLE,
        "ComponentStatus" => &machines::COMPONENT,
        "ConfigMap" => &cluster::CONFIG_MAP,
        "ControllerRevision" => &workloads::CONTROLLER_REVISION,
        "CronJob" => &workloads::CRON_JOB,
        "CertificateSigningRequest" => &cluster::SIGNING_REQUEST,
        "ClusterRoleBinding" | "RoleBinding" => &cluster::ROLE_BINDING,
        "CSIDriver" => &volumes::CSI_DRIVER,
        "CSINode" => &volumes::CSI_NODE,
        "CSIStorageCapacity" => &volumes::CSI_CAPACITY,
        "DaemonSet" => &workloads::DAEMON_SET,
        "Deployment" => &workloads::DEPLOYMENT,
        "DeviceClass" | "DeviceTaintRule" | "ResourceClaimTemplate" => &machines::NAME_AND_AGE,
        "Endpoints" => &network::ENDPOINTS,
        "EndpointSlice" => &network::ENDPOINT_SLICE,
        "Event" => &cluster::EVENT,
        "FlowSchema" => &machines::FLOW_SCHEMA,
        "HorizontalPodAutoscaler" => &workloads::AUTOSCALER,
        "Ingress" => &network::INGRESS,
        "IngressClass" => &network::INGRESS_CLASS,
        "IPAddress" => &network::IP_ADDRESS,
        "Job" => &workloads::JOB,
        "Lease" => &cluster::LEASE,
        "LeaseCandidate" => &machines::LEASE_CANDIDATE,
        "MutatingAdmissionPolicy" => &machines::MUTATING_POLICY,
        "MutatingAdmissionPolicyBinding" | "ValidatingAdmissionPolicyBinding" => &machines::POLICY_BINDING,
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => &machines::WEBHOOKS,
        "Namespace" => &cluster::NAMESPACE,
        "NetworkPolicy" => &network::NETWORK_POLICY,
        "Node" => &cluster::NODE,
        "PersistentVolume" => &volumes::VOLUME,
        "PersistentVolumeClaim" => &volumes::CLAIM,
        "Pod" => &pods::POD,
        "PodDisruptionBudget" => &workloads::DISRUPTION_BUDGET,
        "PodTemplate" => &pods::POD_TEMPLATE,
        "PriorityClass" => &cluster::PRIORITY_CLASS,
        "PriorityLevelConfiguration" => &machines::PRIORITY_LEVEL,
        "ReplicaSet" => &workloads::REPLICA_SET,
        "ReplicationController" => &workloads::REPLICATION_CONTROLLER,
        "ResourceClaim" => &machines::CLAIM,
        "ResourceSlice" => &machines::SLICE,
        "ResourceQuota" => &cluster::RESOURCE_QUOTA,
        "RuntimeClass" => &cluster::RUNTIME_CLASS,
        "Secret" => &cluster::SECRET,
        "Service" => &network::SERVICE,
        "ServiceAccount" => &cluster::SERVICE_ACCOUNT,
        "ServiceCIDR" => &network::SERVICE_CIDR,
        "StatefulSet" => &workloads::STATEFUL_SET,
        "StorageVersionMigration" => &machines::MIGRATION,
        "StorageClass" => &volumes::CLASS,
        "ValidatingAdmissionPolicy" => &machines::VALIDATING_POLICY,
        "VolumeAttachment" => &volumes::ATTACHMENT,
        "VolumeAttributesClass" => &volumes::ATTRIBUTES_CLASS,
        _ => return None,
    })
}

type Create = fn(&Value) -> Errors;
type Change = fn(&Value, &Value) -> Errors;

/// The rules of each kind for new and for changed objects; the others have only those of their structure.
fn rules(group: &str, kind: &str) -> Option<(Create, Change)> {
    Some(match (group, kind) {
        ("events.k8s.io", "Event") => (rules_of::dated_event, rules_of::dated_event_update),
        (_, "APIService") => (machine::api_service, machine::api_service_update),
        (_, "Binding") => (access::pod_binding, |_, _| Vec::new()),
        (_, "CertificateSigningRequest") => {
            (validate::certificates::request, validate::certificates::request_update)
        }
        (_, "ClusterRole") => (access::cluster_role, access::cluster_role_update),
        (_, "ClusterRoleBinding") => (access::cluster_role_binding, access::cluster_role_binding_update),
        (_, "ClusterTrustBundle") => (validate::trust::bundle, validate::trust::bundle_update),
        (_, "ConfigMap") => (rules_of::config_map, rules_of::config_map_update),
        (_, "ControllerRevision") => (workload::revision, workload::revision_update),
        (_, "CustomResourceDefinition") => (definition::validate_create, definition::validate_update),
        (_, "CronJob") => (validate::jobs::cron_job, validate::jobs::cron_job_update),
        (_, "CSIDriver") => (volume::csi_driver, volume::csi_driver_update),
        (_, "CSINode") => (volume::csi_node, volume::csi_node_update),
        (_, "CSIStorageCapacity") => (volume::csi_capacity, volume::csi_capacity_update),
        (_, "DaemonSet") => (workload::daemon_set, workload::daemon_set_update),
        (_, "Deployment") => (workload::deployment, workload::deployment_update),
        (_, "DeviceClass") => (device::class, device::class_update),
        (_, "DeviceTaintRule") => (device::taint_rule, device::taint_rule_update),
        (_, "Endpoints") => (service::endpoints, service::endpoints_update),
        (_, "EndpointSlice") => (service::endpoint_slice, service::endpoint_slice_update),
        (_, "Event") => (rules_of::event, rules_of::event_update),
        (_, "FlowSchema") => (machine::flow_schema, machine::flow_schema_update),
        (_, "HorizontalPodAutoscaler") => (scaling::autoscaler, scaling::autoscaler_update),
        (_, "Ingress") => (service::new_ingress, service::ingress_update),
        (_, "IngressClass") => (net::ingress_class, net::ingress_class_update),
        (_, "IPAddress") => (net::ip_address, net::ip_address_update),
        (_, "Job") => (validate::jobs::job, validate::jobs::job_update),
        (_, "Lease") => (validate::leases::lease, validate::leases::lease_update),
        (_, "LeaseCandidate") => (validate::leases::candidate, validate::leases::candidate_update),
        (_, "LimitRange") => (rules_of::limit_range, rules_of::limit_range_update),
        (_, "LocalSubjectAccessReview") => (access::local_access_review, |_, _| Vec::new()),
        (_, "MutatingAdmissionPolicy") => (admission::mutating_policy, admission::mutating_policy_update),
        (_, "MutatingAdmissionPolicyBinding") => {
            (admission::mutating_binding, admission::mutating_binding_update)
        }
        (_, "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            (admission::webhooks, admission::webhooks_update)
        }
        (_, "Namespace") => (rules_of::namespace, |_, _| Vec::new()),
        (_, "NetworkPolicy") => (net::policy, net::policy_update),
        (_, "Node") => (rules_of::node, rules_of::node_update),
        (_, "PersistentVolume") => (volume::persistent_volume, volume::persistent_volume_update),
        (_, "PersistentVolumeClaim") => (volume::claim, volume::claim_update),
        (_, "Pod") => (pod::create, pod::update),
        (_, "PodCertificateRequest") => {
            (validate::trust::pod_certificate, validate::trust::pod_certificate_update)
        }
        (_, "PodDisruptionBudget") => (workload::disruption_budget, workload::disruption_budget_update),
        (_, "PodGroup") => (validate::groups::pod_group, validate::groups::pod_group_update),
        (_, "PodTemplate") => (workload::pod_template, workload::pod_template_update),
        (_, "PriorityClass") => (rules_of::priority_class, rules_of::priority_class_update),
        (_, "PriorityLevelConfiguration") => (machine::priority_level, machine::priority_level_update),
        (_, "ReplicaSet") => (workload::replica_set, workload::replica_set_update),
        (_, "ReplicationController") => {
            (workload::replication_controller, workload::replication_controller_update)
        }
        (_, "ResourceClaim") => (device::claim, device::claim_update),
        (_, "ResourceClaimTemplate") => (device::template, device::template_update),
        (_, "ResourceSlice") => (device::slice, device::slice_update),
        (_, "ResourceQuota") => (validate::quota::quota, validate::quota::quota_update),
        (_, "Role") => (access::role, access::role_update),
        (_, "RoleBinding") => (access::role_binding, access::role_binding_update),
        (_, "RuntimeClass") => (net::runtime_class, net::runtime_class_update),
        (_, "Secret") => (rules_of::secret, rules_of::secret_update),
        (_, "SelfSubjectAccessReview") => (access::self_access_review, |_, _| Vec::new()),
        (_, "Service") => (service::service, service::service_update),
        (_, "StorageVersionMigration") => {
            (validate::migration::migration, validate::migration::migration_update)
        }
        (_, "StorageClass") => (volume::class, volume::class_update),
        (_, "ServiceCIDR") => (net::service_cidr, net::service_cidr_update),
        (_, "StatefulSet") => (workload::stateful_set, workload::stateful_set_update),
        (_, "SubjectAccessReview") => (access::access_review, |_, _| Vec::new()),
        (_, "ValidatingAdmissionPolicy") => {
            (admission::validating_policy, admission::validating_policy_update)
        }
        (_, "ValidatingAdmissionPolicyBinding") => {
            (admission::validating_binding, admission::validating_binding_update)
        }
        (_, "VolumeAttachment") => (volume::attachment, volume::attachment_update),
        (_, "VolumeAttributesClass") => (volume::attributes, volume::attributes_update),
        (_, "Workload") => (validate::groups::workload, validate::groups::workload_update),
        _ => return None,
    })
}

/// The rules of subresources that write a part of an object.
fn part_rules(kind: &str, part: &str) -> Option<Change> {
    Some(match (kind, part) {
        ("APIService", "status") => machine::api_service_status,
        ("CustomResourceDefinition", "status") => definition::validate_status,
        ("FlowSchema" | "PriorityLevelConfiguration", "status") => machine::flow_status,
        ("ValidatingAdmissionPolicy", "status") => admission::policy_status,
        ("CertificateSigningRequest", "approval") => validate::certificates::approval_update,
        ("CertificateSigningRequest", "status") => validate::certificates::status_update,
        ("HorizontalPodAutoscaler", "status") => scaling::autoscaler_status,
        ("Namespace", "finalize") => rules_of::namespace_finalize,
        ("Namespace", "status") => rules_of::namespace_status,
        ("Node", "status") => rules_of::node_update,
        ("PersistentVolumeClaim", "status") => volume::claim_status,
        ("PodCertificateRequest", "status") => validate::trust::pod_certificate_status,
        ("PodGroup", "status") => validate::groups::pod_group_status,
        ("StorageVersionMigration", "status") => validate::migration::migration_status,
        ("ResourceClaim", "status") => device::claim_status,
        ("VolumeAttachment", "status") => volume::attachment_status_update,
        ("Pod", "ephemeralcontainers") => pod::update_ephemeral_containers,
        ("Pod", "resize") => validate::resize::update,
        ("Pod", "status") => pod::update_status,
        ("ResourceQuota", "status") => validate::quota::quota_status,
        ("Deployment" | "ReplicaSet" | "ReplicationController" | "StatefulSet", "status") => {
            workload::counts_status
        }
        ("DaemonSet" | "Job" | "PodDisruptionBudget", "status") => workload::numbers_status,
        ("Service", "status") => service::service_status,
        ("Ingress", "status") => service::ingress_status,
        _ => return None,
    })
}

/// Every built-in row.
pub(super) fn all() -> Vec<Kind> {
    let mut rows = Vec::with_capacity(96);
    core(&mut rows);
    machinery::aggregation(&mut rows);
    apps(&mut rows);
    events(&mut rows);
    reviews(&mut rows);
    batch_and_scaling(&mut rows);
    certificates(&mut rows);
    networking(&mut rows);
    policy_and_rbac(&mut rows);
    storage(&mut rows);
    machinery::admission(&mut rows);
    machinery::extensions(&mut rows);
    rest(&mut rows);
    devices::all(&mut rows);
    machinery::flow_control(&mut rows);
    machinery::migration(&mut rows);
    for row in &mut rows {
        if let Some(printer) = printer(&row.kind) {
            row.hooks.printer = printer;
        }
        if let Some((create, update)) = rules(&row.group, &row.kind) {
            row.hooks.validate_create = create;
            row.hooks.update.validate = update;
        }
        if let Some(told) = warnings::of(&row.group, &row.kind) {
            row.hooks.warnings = told;
        }
        for part in &mut row.subresources {
            if let (Action::Update(update), Some(rules)) =
                (&mut part.action, part_rules(&row.kind, &part.name))
            {
                update.validate = rules;
            }
        }
    }
    rows
}

fn core(rows: &mut Vec<Kind>) {
    rows.extend([
        review("", "Binding", "bindings"),
        // Asked of the components themselves.
        Kind {
            storage: None,
            verbs: Verbs::GET.and(Verbs::LIST),
            ..row("", "ComponentStatus", "componentstatuses").cluster().short(&["cs"])
        },
        row("", "ConfigMap", "configmaps").short(&["cm"]),
        row("", "Endpoints", "endpoints")
            .warned("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice")
            .short(&["ep"])
            .create_on_update()
            .default(defaults::endpoints),
        core_event(row("", "Event", "events").short(&["ev"]).create_on_update().named(names::path_segment)),
        row("", "LimitRange", "limitranges")
            .short(&["limits"])
            .create_on_update()
            .create(prepare::create_limit_range)
            .default(defaults::limit_range),
        Kind { verbs: STORED.without(Verbs::DELETE_COLLECTION), ..row("", "Namespace", "namespaces") }
            .cluster()
            .short(&["ns"])
            .part("finalize", Verbs::UPDATE, prepare::finalize_namespace)
            .status_by(prepare::update_status)
            .default(defaults::namespace)
            .create(prepare::create_namespace)
            .update(prepare::update_namespace)
            .field("status.phase")
            .field_at("name", &["metadata.name"], "")
            .named(names::dns_label),
        row("", "Node", "nodes")
            .cluster()
            .short(&["no"])
            .connect("proxy", PROXY, "NodeProxyOptions")
            .status()
            // A node that registers brings its status along.
            .create(|_| {})
            .default(defaults::node)
            .field_at("spec.unschedulable", &["spec.unschedulable"], "false"),
        row("", "PersistentVolumeClaim", "persistentvolumeclaims")
            .short(&["pvc"])
            .status()
            .create(prepare::create_claim)
            .default(defaults::persistent_volume_claim),
        row("", "PersistentVolume", "persistentvolumes")
            .cluster()
            .short(&["pv"])
            .status()
            .create(prepare::create_volume)
            .stamp(prepare::stamp_volume)
            .default(defaults::persistent_volume),
        row("", "Pod", "pods")
            .short(&["po"])
            .category("all")
            .connect("attach", DIAL, "PodAttachOptions")
            .post("binding", Posted { validate: access::pod_binding, ..Posted::PLAIN })
            .speaking("", "v1", "Binding")
            .part("ephemeralcontainers", READ_WRITE, prepare::update_ephemeral_containers)
            .post("eviction", Posted::PLAIN)
            .speaking("policy", "v1", "Eviction")
            .connect("exec", DIAL, "PodExecOptions")
            .connect("log", GET, "Pod")
            .connect("portforward", DIAL, "PodPortForwardOptions")
            .connect("proxy", PROXY, "PodProxyOptions")
            .part("resize", READ_WRITE, prepare::update_resize)
            .status_by(prepare::update_pod_status)
            .default(defaults::pod)
            .create(prepare::create_pod)
            .update(prepare::update_counted)
            .grace(prepare::pod_grace)
            .field("spec.nodeName")
            .field("spec.restartPolicy")
            .field("spec.schedulerName")
            .field_at("spec.serviceAccountName", &["spec.serviceAccountName"], "")
            .field_at("spec.hostNetwork", &["spec.hostNetwork"], "false")
            .field("status.phase")
            .field("status.podIP")
            .field("status.nominatedNodeName"),
        row("", "PodTemplate", "podtemplates")
            .create(meta::start_generation)
            .update(prepare::update_whole_counted)
            .default(defaults::pod_template_object),
        Kind {
            orphan_by_default: true,
            ..row("", "ReplicationController", "replicationcontrollers")
                .short(&["rc"])
                .category("all")
                .scale(&["spec", "selector"])
                .status()
                .counted()
                .create(prepare::create_replicated)
                .default(defaults::replication_controller)
                .field_at("status.replicas", &["status.replicas"], "0")
        },
        row("", "ResourceQuota", "resourcequotas").short(&["quota"]).status(),
        row("", "Secret", "secrets").field("type").default(defaults::secret),
        row("", "ServiceAccount", "serviceaccounts")
            .short(&["sa"])
            .post("token", Posted { default: defaults::token_request, validate: access::token_request })
            .speaking("authentication.k8s.io", "v1", "TokenRequest"),
        row("", "Service", "services")
            .short(&["svc"])
            .category("all")
            .connect("proxy", PROXY, "ServiceProxyOptions")
            .status()
            .create(prepare::create_service)
            .update(prepare::update_service)
            .default(defaults::service)
            .field("spec.clusterIP")
            .field("spec.type")
            .create_on_update()
            .named(names::dns_label),
    ]);
}

fn core_event(mut event: Kind) -> Kind {
    for label in [
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "type",
    ] {
        event = event.field(label);
    }
    event.field_at("reportingComponent", &["reportingComponent"], "").field_at(
        "source",
        &["source.component", "reportingComponent"],
        "",
    )
}

fn apps(rows: &mut Vec<Kind>) {
    rows.extend([
        row("apps", "ControllerRevision", "controllerrevisions"),
        row("apps", "DaemonSet", "daemonsets")
            .short(&["ds"])
            .category("all")
            .status_by(prepare::update_daemon_set_status)
            .create(prepare::create_daemon_set)
            .update(prepare::update_daemon_set)
            .default(defaults::daemon_set),
        row("apps", "Deployment", "deployments")
            .short(&["deploy"])
            .category("all")
            .scale(&["spec", "selector"])
            .status_by(prepare::update_deployment_status)
            .counted()
            .update(prepare::update_deployment)
            .default(defaults::deployment),
        row("apps", "ReplicaSet", "replicasets")
            .short(&["rs"])
            .category("all")
            .scale(&["spec", "selector"])
            .status()
            .counted()
            .create(prepare::create_replicated)
            .default(defaults::replica_set)
            .field_at("status.replicas", &["status.replicas"], "0"),
        row("apps", "StatefulSet", "statefulsets")
            .short(&["sts"])
            .category("all")
            .scale(&["spec", "selector"])
            .status()
            .counted()
            .create(prepare::create_stateful_set)
            .default(defaults::stateful_set),
    ]);
}

/// The same collection as the core group's events, under newer names.
fn events(rows: &mut Vec<Kind>) {
    let storage = Storage { group: "".into(), version: "v1".into(), resource: "events".into() };
    let mut event = Kind {
        storage: Some(storage),
        ..row("events.k8s.io", "Event", "events").short(&["ev"]).create_on_update()
    };
    for (label, path) in [
        ("reason", "reason"),
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.uid", "involvedObject.uid"),
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("reportingController", "reportingComponent"),
        ("type", "type"),
    ] {
        event = event.field_at(label, &[path], "");
    }
    event.hooks.to_storage = convert::event_to_core;
    event.hooks.from_storage = convert::event_from_core;
    rows.push(event);
}

fn reviews(rows: &mut Vec<Kind>) {
    let (who, may) = ("authentication.k8s.io", "authorization.k8s.io");
    rows.extend([
        review(who, "SelfSubjectReview", "selfsubjectreviews").cluster(),
        review(who, "TokenReview", "tokenreviews").cluster(),
        review(may, "LocalSubjectAccessReview", "localsubjectaccessreviews"),
        review(may, "SelfSubjectAccessReview", "selfsubjectaccessreviews").cluster(),
        review(may, "SelfSubjectRulesReview", "selfsubjectrulesreviews").cluster(),
        review(may, "SubjectAccessReview", "subjectaccessreviews").cluster(),
    ]);
}

fn batch_and_scaling(rows: &mut Vec<Kind>) {
    rows.extend([
        row("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            .in_versions(&["v2", "v1"])
            .converted(
                |_, autoscaler| convert::autoscaling::to_v2(autoscaler),
                |_, autoscaler| convert::autoscaling::to_v1(autoscaler),
            )
            .short(&["hpa"])
            .category("all")
            .status()
            .default(defaults::autoscaler),
        row("batch", "CronJob", "cronjobs")
            .short(&["cj"])
            .category("all")
            .status()
            .counted()
            .default(defaults::cron_job),
        Kind {
            orphan_by_default: true,
            ..row("batch", "Job", "jobs")
                .category("all")
                .status()
                .counted()
                .create(prepare::create_job)
                .default(defaults::job)
                .field_at("status.successful", &["status.succeeded"], "0")
        },
    ]);
}

fn certificates(rows: &mut Vec<Kind>) {
    let group = "certificates.k8s.io";
    rows.extend([
        row(group, "CertificateSigningRequest", "certificatesigningrequests")
            .cluster()
            .short(&["csr"])
            .create(prepare::create)
            .update(prepare::update_signing_request)
            .part("approval", READ_WRITE, prepare::update_approval)
            .status_by(prepare::update_signing_status)
            .field("spec.signerName"),
        row(group, "ClusterTrustBundle", "clustertrustbundles")
            .in_versions(&["v1", "v1beta1"])
            .deprecated("v1beta1", 37, 40, "v1")
            .cluster()
            .conditional_update()
            // The rule for names needs the signer's.
            .named(names::path_segment)
            .field("spec.signerName"),
        row(group, "PodCertificateRequest", "podcertificaterequests")
            .in_versions(&["v1", "v1beta1"])
            // The older version has two ways more to name the key.
            .stored_in("v1beta1")
            .deprecated("v1beta1", 37, 40, "v1")
            .status()
            .conditional_update()
            .default(defaults::pod_certificate_request)
            .field("spec.signerName")
            .field("spec.podName")
            .field("spec.nodeName")
            .converted(|_, _| {}, convert::certificate_request_from_storage),
    ]);
}

fn networking(rows: &mut Vec<Kind>) {
    let group = "networking.k8s.io";
    rows.extend([
        row(group, "IngressClass", "ingressclasses").cluster().counted().default(defaults::ingress_class),
        row(group, "Ingress", "ingresses").short(&["ing"]).status().counted(),
        row(group, "IPAddress", "ipaddresses")
            .cluster()
            .short(&["ip"])
            .named(net::address_name)
            .field("spec.parentRef"),
        row(group, "NetworkPolicy", "networkpolicies")
            .short(&["netpol"])
            .counted()
            .default(defaults::network_policy),
        row(group, "ServiceCIDR", "servicecidrs").cluster().status(),
    ]);
}

fn policy_and_rbac(rows: &mut Vec<Kind>) {
    let rbac = |kind, resource| {
        row("rbac.authorization.k8s.io", kind, resource).create_on_update().named(names::path_segment)
    };
    rows.extend([
        row("policy", "PodDisruptionBudget", "poddisruptionbudgets")
            .short(&["pdb"])
            .status()
            .counted()
            .conditional_update()
            .named(names::path_segment),
        rbac("ClusterRoleBinding", "clusterrolebindings").cluster().default(defaults::role_binding),
        rbac("ClusterRole", "clusterroles").cluster(),
        rbac("RoleBinding", "rolebindings").default(defaults::role_binding),
        rbac("Role", "roles"),
    ]);
}

fn storage(rows: &mut Vec<Kind>) {
    let group = "storage.k8s.io";
    rows.extend([
        row(group, "CSIDriver", "csidrivers").cluster().conditional_update().default(defaults::csi_driver),
        row(group, "CSINode", "csinodes").cluster().conditional_update(),
        row(group, "CSIStorageCapacity", "csistoragecapacities").conditional_update(),
        row(group, "StorageClass", "storageclasses")
            .cluster()
            .short(&["sc"])
            .default(defaults::storage_class),
        row(group, "VolumeAttachment", "volumeattachments").cluster().status_alone().conditional_update(),
        row(group, "VolumeAttributesClass", "volumeattributesclasses").cluster().short(&["vac"]),
    ]);
}

fn rest(rows: &mut Vec<Kind>) {
    rows.extend([
        row("scheduling.k8s.io", "PriorityClass", "priorityclasses")
            .cluster()
            .short(&["pc"])
            // Its value never changes, so that this is the only one.
            .create(meta::start_generation)
            .default(defaults::priority_class),
        row("scheduling.k8s.io", "PodGroup", "podgroups")
            .in_versions(&["v1beta1"])
            .status()
            .default(defaults::pod_group),
        row("scheduling.k8s.io", "Workload", "workloads").in_versions(&["v1beta1"]),
        row("coordination.k8s.io", "Lease", "leases").create_on_update().conditional_update(),
        row("coordination.k8s.io", "LeaseCandidate", "leasecandidates")
            .in_versions(&["v1beta1"])
            .deprecated("v1beta1", 36, 39, "")
            .create_on_update()
            .conditional_update()
            .named(|name, _| names::config_key(name))
            .field("spec.leaseName"),
        row("node.k8s.io", "RuntimeClass", "runtimeclasses")
            .cluster()
            .create_on_update()
            .conditional_update(),
        row("discovery.k8s.io", "EndpointSlice", "endpointslices")
            .create(meta::start_generation)
            .update(prepare::update_whole_counted)
            .default(defaults::endpoint_slice),
    ]);
}
