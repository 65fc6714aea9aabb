//! What the scheduler keeps of the kinds of `resource.k8s.io`: read once when they change.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        core::v1::NodeSelector,
        resource::v1::{
            AllocationResult, CELDeviceSelector, CapacityRequirements, Counter, DeviceAttribute,
            DeviceClaimConfiguration, DeviceClass, DeviceClassConfiguration, DeviceCounterConsumption,
            DeviceSelector, DeviceTaint, DeviceTaintRule, DeviceTaintSelector, DeviceToleration,
            ResourceClaim, ResourceSlice,
        },
    },
    apimachinery::pkg::api::resource,
};
use tiphys_api::{quantity::Quantity, quota, semver::Semver};
use tiphys_cel::device;
use tiphys_client::{
    devices::{selects, tolerates},
    key::controller_of,
    placement,
};

use super::{
    binding::Binding,
    capacity::Capacity,
    selector::{Judged, Selector},
};
use crate::snapshot::NodeFacts;

/// A device of the cluster: driver, pool and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceId {
    pub driver: Box<str>,
    pub pool: Box<str>,
    pub name: Box<str>,
}

impl std::fmt::Display for DeviceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.driver, self.pool, self.name)
    }
}

/// From where a device can be used.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Reach {
    Node(Box<str>),
    All,
    Nodes(Box<NodeSelector>),
    /// Each device says so itself.
    ByDevice,
    /// In a way that we do not know.
    #[default]
    Nowhere,
}

impl Reach {
    fn new(node: Option<String>, all: Option<bool>, nodes: Option<NodeSelector>) -> Self {
        match (node.filter(|name| !name.is_empty()), nodes) {
            (Some(name), _) => Self::Node(name.into()),
            (None, _) if all == Some(true) => Self::All,
            (None, Some(nodes)) => Self::Nodes(Box::new(nodes)),
            (None, None) => Self::Nowhere,
        }
    }

    pub fn covers(&self, node: &NodeFacts) -> bool {
        match self {
            Self::Node(name) => *name == node.name,
            Self::All => true,
            Self::Nodes(selector) => placement::selector_matches(selector, &node.name, &node.labels),
            Self::ByDevice | Self::Nowhere => false,
        }
    }
}

/// What is told of a device in one attribute.
#[derive(Clone, Debug)]
pub enum Attribute {
    Bool(bool),
    Int(i64),
    Text(Box<str>),
    /// As it is written, and what that means.
    Version(Box<str>, Semver),
}

impl PartialEq for Attribute {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Text(a), Self::Text(b)) | (Self::Version(a, _), Self::Version(b, _)) => a == b,
            _ => false,
        }
    }
}

impl Attribute {
    /// `None` for what we do not know.
    fn new(attribute: DeviceAttribute) -> Option<Self> {
        let DeviceAttribute { bool, int, string, version, .. } = attribute;
        let version =
            || version.and_then(|text| Some(Self::Version((&*text).into(), Semver::parse(&text).ok()?)));
        bool.map(Self::Bool).or(int.map(Self::Int)).or(string.map(|s| Self::Text(s.into()))).or_else(version)
    }

    pub(super) fn seen(&self) -> device::Attribute<'_> {
        match self {
            Self::Bool(b) => device::Attribute::Bool(*b),
            Self::Int(i) => device::Attribute::Int(*i),
            Self::Text(text) => device::Attribute::Text(text),
            Self::Version(_, version) => device::Attribute::Version(version),
        }
    }
}

/// Set and name of a counter.
pub type CounterName = (Box<str>, Box<str>);
pub type Counters = BTreeMap<CounterName, Quantity>;

pub(super) fn amount(quantity: &resource::Quantity) -> Option<Quantity> {
    // Validation has refused what is none.
    Quantity::parse(&quantity.0).ok()
}

fn counters(set: &str, of: BTreeMap<String, Counter>) -> impl Iterator<Item = (CounterName, Quantity)> {
    of.into_iter()
        .filter_map(move |(name, counter)| Some(((set.into(), name.into()), amount(&counter.value)?)))
}

/// A device that a driver offers.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub id: DeviceId,
    /// By their full names.
    pub attributes: BTreeMap<Box<str>, Attribute>,
    pub capacity: BTreeMap<Box<str>, Capacity>,
    /// What it takes of the counters of its pool.
    pub consumes: Counters,
    pub reach: Reach,
    pub taints: Vec<DeviceTaint>,
    /// Whoever gets it stays on the node that it was chosen for.
    pub binds: bool,
    /// It is ready once its driver says all of these, and never will be once it says one of those (KEP-5007).
    pub conditions: Vec<String>,
    pub failures: Vec<String>,
    /// It is allocated in shares.
    pub allows_multiple: bool,
    pub(super) judged: Judged,
}

/// Names are told with their domain; the driver's own may go without.
pub(super) fn full_name(driver: &str, name: &str) -> Box<str> {
    if name.contains('/') { name.into() } else { format!("{driver}/{name}").into() }
}

fn full_names<T, U>(
    driver: &str,
    of: Option<BTreeMap<String, T>>,
    read: impl Fn(&str, T) -> Option<U>,
) -> BTreeMap<Box<str>, U> {
    let (full, short): (Vec<_>, Vec<_>) = of.into_iter().flatten().partition(|(name, _)| name.contains('/'));
    // One that is told with its domain counts more.
    let all = short.into_iter().chain(full);
    all.filter_map(|(name, value)| Some((full_name(driver, &name), read(&name, value)?))).collect()
}

/// Some of the devices of a pool.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    pub driver: Box<str>,
    pub pool: Box<str>,
    pub generation: i64,
    /// How many slices the pool has.
    pub of: usize,
    pub reach: Reach,
    pub devices: Vec<Device>,
    /// What the devices of the pool share.
    pub counters: Counters,
}

impl Slice {
    pub fn new(slice: ResourceSlice) -> Self {
        let spec = slice.spec;
        let by_device = spec.per_device_node_selection == Some(true);
        let reach = match Reach::new(spec.node_name, spec.all_nodes, spec.node_selector) {
            Reach::Nowhere if by_device => Reach::ByDevice,
            reach => reach,
        };
        let (driver, pool) = (spec.driver, spec.pool);
        let devices = spec.devices.into_iter().flatten().map(|device| Device {
            id: DeviceId { driver: (&*driver).into(), pool: (&*pool.name).into(), name: device.name.into() },
            attributes: full_names(&driver, device.attributes, |_, attribute| Attribute::new(attribute)),
            capacity: full_names(&driver, device.capacity, Capacity::new),
            consumes: device
                .consumes_counters
                .into_iter()
                .flatten()
                .flat_map(|DeviceCounterConsumption { counter_set, counters: of, .. }| {
                    counters(&counter_set, of).collect::<Vec<_>>()
                })
                .collect(),
            reach: Reach::new(device.node_name, device.all_nodes, device.node_selector),
            taints: device.taints.unwrap_or_default(),
            binds: device.binds_to_node == Some(true),
            conditions: device.binding_conditions.unwrap_or_default(),
            failures: device.binding_failure_conditions.unwrap_or_default(),
            allows_multiple: device.allow_multiple_allocations == Some(true),
            judged: Judged::default(),
        });
        let devices = devices.collect();
        let sets = spec.shared_counters.into_iter().flatten();
        let counters = sets.flat_map(|set| counters(&set.name, set.counters).collect::<Vec<_>>()).collect();
        Self {
            devices,
            reach,
            counters,
            generation: pool.generation,
            of: usize::try_from(pool.resource_slice_count).unwrap_or(0),
            driver: driver.into(),
            pool: pool.name.into(),
        }
    }

    /// Whether the device, one of these, can be used from the node.
    pub fn offers(&self, device: &Device, node: &NodeFacts) -> bool {
        if self.reach == Reach::ByDevice { device.reach.covers(node) } else { self.reach.covers(node) }
    }
}

/// The expressions of selectors; `None` stands for a way to select that we do not know.
pub type Selectors = Vec<Option<Arc<Selector>>>;

fn selectors(of: Option<Vec<DeviceSelector>>) -> Selectors {
    let read = |CELDeviceSelector { expression }| Selector::read(&expression);
    of.into_iter().flatten().map(|selector| selector.cel.map(read)).collect()
}

/// A DeviceClass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Class {
    pub selectors: Selectors,
    pub config: Vec<DeviceClassConfiguration>,
    pub created: Option<Timestamp>,
    /// The extended resource that it stands for.
    pub resource: Option<Box<str>>,
}

impl Class {
    /// Whether the device is of the class; `None` if that cannot be told.
    pub fn selects(&self, device: &Device) -> Option<bool> {
        for selector in &self.selectors {
            if !selector.as_ref()?.selects(device).ok()? {
                return Some(false);
            }
        }
        Some(true)
    }

    pub fn new(class: DeviceClass) -> Self {
        let spec = class.spec.unwrap_or_default();
        Self {
            selectors: selectors(spec.selectors),
            config: spec.config.unwrap_or_default(),
            created: class.metadata.creation_timestamp.map(|time| time.0),
            resource: spec.extended_resource_name.map(Into::into),
        }
    }
}

/// A DeviceTaintRule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    selector: Option<DeviceTaintSelector>,
    pub taint: DeviceTaint,
}

impl Rule {
    pub fn new(rule: DeviceTaintRule) -> Self {
        Self { selector: rule.spec.device_selector, taint: rule.spec.taint }
    }

    pub fn covers(&self, device: &DeviceId) -> bool {
        selects(self.selector.as_ref(), &device.driver, &device.pool, &device.name)
    }
}

/// Whether a taint keeps devices from whoever tolerates nothing else.
pub fn keeps_away(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> bool {
    matches!(&*taint.effect, "NoSchedule" | "NoExecute") && !tolerations.iter().any(|t| tolerates(t, taint))
}

/// How many devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    Exactly(usize),
    All,
    /// In a way that we do not know.
    Unknown,
}

/// One way to serve a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Way {
    /// `request`, or `request/alternative`.
    pub name: Box<str>,
    pub class: Box<str>,
    pub selectors: Selectors,
    pub count: Count,
    /// Devices are looked at, not taken: others may have them.
    pub is_admin: bool,
    pub tolerations: Vec<DeviceToleration>,
    /// How much of a device's capacities, by the names that the request has for them.
    pub capacity: BTreeMap<Box<str>, Quantity>,
}

/// A request: the ways to serve it, the best first.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub name: Box<str>,
    pub ways: Vec<Way>,
    /// There is a choice of ways.
    pub is_choice: bool,
}

/// What devices of a claim have to have in common, or not.
#[derive(Clone, Debug, PartialEq)]
pub struct Constraint {
    /// Empty: all.
    requests: Vec<String>,
    pub rule: ConstraintRule,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ConstraintRule {
    /// One value of this attribute.
    Same(String),
    /// Different values of this attribute.
    Distinct(String),
    Unknown,
}

impl Constraint {
    pub fn is_about(&self, request: &Request, way: &Way) -> bool {
        let names = &self.requests;
        names.is_empty() || names.iter().any(|name| **name == *request.name || **name == *way.name)
    }
}

/// A ResourceClaim.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub uid: Box<str>,
    pub going: bool,
    /// The UID of the pod that it was made for, if it was.
    pub owner: Option<Box<str>>,
    /// It was made for the pod's extended resources.
    pub is_for_resources: bool,
    pub requests: Vec<Request>,
    pub constraints: Vec<Constraint>,
    pub config: Vec<DeviceClaimConfiguration>,
    pub allocation: Option<Arc<AllocationResult>>,
    pub binding: Binding,
    /// UIDs of who uses it.
    pub users: Vec<Box<str>>,
}

fn count(mode: Option<&str>, count: Option<i64>) -> Count {
    match mode.unwrap_or_default() {
        "" | "ExactCount" => Count::Exactly(usize::try_from(count.unwrap_or(1)).unwrap_or(0).max(1)),
        "All" => Count::All,
        _ => Count::Unknown,
    }
}

fn asked(capacity: Option<CapacityRequirements>) -> BTreeMap<Box<str>, Quantity> {
    let requests = capacity.into_iter().flat_map(|capacity| capacity.requests.into_iter().flatten());
    requests.filter_map(|(name, asked)| Some((name.into(), amount(&asked)?))).collect()
}

impl Claim {
    /// The UID of the pod for whose extended resources it was made, if it was.
    pub fn for_resources_of(&self) -> Option<&str> {
        self.owner.as_deref().filter(|_| self.is_for_resources)
    }

    pub fn new(claim: ResourceClaim) -> Self {
        let owner = controller_of(&claim.metadata).filter(|owner| owner.kind == "Pod");
        let owner = owner.map(|owner| owner.uid.as_str().into());
        let annotation = claim.metadata.annotations.as_ref().and_then(|all| all.get(quota::FOR_RESOURCES));
        let is_for_resources = annotation.is_some_and(|value| value == "true");
        let spec = claim.spec.unwrap_or_default().devices.unwrap_or_default();
        let status = claim.status.unwrap_or_default();
        let requests = spec.requests.into_iter().flatten().map(|request| {
            let exactly = request.exactly.into_iter().map(|e| Way {
                name: (&*request.name).into(),
                class: e.device_class_name.into(),
                selectors: selectors(e.selectors),
                count: count(e.allocation_mode.as_deref(), e.count),
                is_admin: e.admin_access == Some(true),
                tolerations: e.tolerations.unwrap_or_default(),
                capacity: asked(e.capacity),
            });
            let is_choice = request.first_available.as_ref().is_some_and(|ways| !ways.is_empty());
            let choices = request.first_available.into_iter().flatten().map(|sub| Way {
                name: format!("{}/{}", request.name, sub.name).into(),
                class: sub.device_class_name.into(),
                selectors: selectors(sub.selectors),
                count: count(sub.allocation_mode.as_deref(), sub.count),
                is_admin: false,
                tolerations: sub.tolerations.unwrap_or_default(),
                capacity: asked(sub.capacity),
            });
            Request { ways: exactly.chain(choices).collect(), name: (&*request.name).into(), is_choice }
        });
        let requests = requests.collect();
        let constraints = spec.constraints.into_iter().flatten().map(|constraint| Constraint {
            requests: constraint.requests.unwrap_or_default(),
            rule: match (constraint.match_attribute, constraint.distinct_attribute) {
                (Some(name), _) => ConstraintRule::Same(name),
                (None, Some(name)) => ConstraintRule::Distinct(name),
                (None, None) => ConstraintRule::Unknown,
            },
        });
        Self {
            uid: claim.metadata.uid.unwrap_or_default().into(),
            going: claim.metadata.deletion_timestamp.is_some(),
            owner,
            is_for_resources,
            requests,
            constraints: constraints.collect(),
            config: spec.config.unwrap_or_default(),
            binding: Binding::of(&status),
            allocation: status.allocation.map(Arc::new),
            users: status.reserved_for.into_iter().flatten().map(|user| user.uid.into()).collect(),
        }
    }
}
