//! Devices (dynamic resource allocation, KEP-4381): what drivers offer, what claims ask for, and who has what.

pub mod allocate;
pub mod binding;
pub mod capacity;
pub mod extended;
pub mod kinds;
mod result;
mod selector;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::resource::v1::{AllocationResult, DeviceRequestAllocationResult};
use tiphys_api::quota::BY_CLASS;
use tiphys_client::{ObjectKey, devices::given};

pub use self::result::allocation;
use self::{
    allocate::{Offer, Pool, PoolState, Room},
    capacity::Taken,
    kinds::{Claim, Class, Counters, DeviceId, Reach, Rule, Slice},
};
use crate::snapshot::NodeFacts;

/// Driver and name of a pool.
type PoolId = (Box<str>, Box<str>);

/// The slices of a pool.
#[derive(Clone, Debug, Default)]
struct Slices {
    /// By their names.
    all: BTreeMap<Box<str>, Arc<Slice>>,
    /// Those of the newest generation, by their names.
    newest: Vec<Arc<Slice>>,
    state: PoolState,
    counters: Counters,
    /// Some of the devices have to be made ready.
    has_conditions: bool,
}

impl Slices {
    fn sort(&mut self) {
        let newest = self.all.values().map(|slice| slice.generation).max();
        self.newest = self.all.values().filter(|slice| Some(slice.generation) == newest).cloned().collect();
        let mut names = BTreeSet::new();
        let mut devices = self.newest.iter().flat_map(|slice| &slice.devices);
        let is_invalid = devices.any(|device| !names.insert(&device.id.name));
        let is_whole = self.newest.iter().all(|slice| slice.of == self.newest.len());
        self.state = match (is_whole, is_invalid) {
            (false, _) => PoolState::Incomplete,
            (true, true) => PoolState::Invalid,
            (true, false) => PoolState::Whole,
        };
        self.counters = self.newest.iter().flat_map(|slice| slice.counters.clone()).collect();
        let mut devices = self.newest.iter().flat_map(|slice| &slice.devices);
        self.has_conditions = devices.any(|device| !device.conditions.is_empty());
    }
}

/// What a pod uses of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClaimUse {
    /// A claim that somebody made.
    Named(Box<str>),
    /// One that was made for the pod.
    Made(Box<str>),
    /// One that is yet to be made, for this of the pod's claims.
    NotYet(Box<str>),
}

/// Devices that a claim is to have, before the API has said so.
#[derive(Clone, Debug)]
struct Promise {
    claim: Box<str>,
    allocation: Arc<AllocationResult>,
}

/// All of it.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    claims: BTreeMap<ObjectKey, Arc<Claim>>,
    /// The claims that schedulers have made for extended resources, by the UIDs of their pods.
    for_resources: BTreeMap<Box<str>, ObjectKey>,
    classes: BTreeMap<Box<str>, Arc<Class>>,
    /// The classes that say which extended resource they stand for, by that.
    resources: BTreeMap<Box<str>, Box<str>>,
    pub rules: BTreeMap<Box<str>, Arc<Rule>>,
    pools: BTreeMap<PoolId, Slices>,
    /// Pools that can be used from a node alone, by its name.
    of_node: BTreeMap<Box<str>, BTreeSet<PoolId>>,
    /// All other pools.
    shared: BTreeSet<PoolId>,
    promised: BTreeMap<ObjectKey, Promise>,
    /// Who has a device, of those that somebody has.
    taken: BTreeMap<DeviceId, Taken>,
}

/// The devices that an allocation takes from others.
fn taken(allocation: &AllocationResult) -> impl Iterator<Item = &DeviceRequestAllocationResult> {
    given(allocation).filter(|given| given.admin_access != Some(true))
}

/// What stands for the claim to be made for the extended resources of the pod of this UID: no claim has such a name.
pub fn nameless(namespace: &str, pod: &str) -> ObjectKey {
    ObjectKey::new(namespace, &format!("<extended-resources>{pod}"))
}

impl Devices {
    pub fn claim(&self, key: &ObjectKey) -> Option<&Arc<Claim>> {
        self.claims.get(key)
    }

    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.get(name).map(|class| &**class)
    }

    /// The class that stands for an extended resource: it is named by the resource, or names it.
    pub fn class_of(&self, resource: &str) -> Option<&str> {
        let named = resource.strip_prefix(BY_CLASS).and_then(|name| self.classes.get_key_value(name));
        named.map(|(name, _)| &**name).or_else(|| self.resources.get(resource).map(|name| &**name))
    }

    /// The API's word on a class; tells whether other resources have a class from now on, or another one.
    pub fn set_class(&mut self, name: &str, class: Option<Arc<Class>>) -> bool {
        let is_there = class.is_some();
        let old = match class {
            Some(class) => self.classes.insert(name.into(), class),
            None => self.classes.remove(name),
        };
        // Of several that stand for one, the latest does, and of those the first by name.
        let mut latest: BTreeMap<&str, (&str, &Class)> = BTreeMap::new();
        for (name, class) in &self.classes {
            let Some(resource) = &class.resource else { continue };
            let known = latest.entry(resource).or_insert((name, class));
            if class.created > known.1.created {
                *known = (name, class);
            }
        }
        let resources =
            latest.into_iter().map(|(resource, (name, _))| (resource.into(), name.into())).collect();
        let before = std::mem::replace(&mut self.resources, resources);
        old.is_some() != is_there || before != self.resources
    }

    /// The claim that was made for what the pod asks for by resources.
    pub fn claim_for_resources(&self, pod: &str) -> Option<&ObjectKey> {
        self.for_resources.get(pod)
    }

    /// The API's word on a claim.
    pub fn set_claim(&mut self, key: &ObjectKey, claim: Option<Arc<Claim>>) {
        let is_kept = |promise: &Promise| {
            claim.as_ref().is_some_and(|claim| claim.allocation.is_none() && claim.uid == promise.claim)
        };
        if self.promised.get(key).is_some_and(|promise| !is_kept(promise)) {
            self.withdraw(key);
        }
        let old = match &claim {
            Some(claim) => self.claims.insert(key.clone(), claim.clone()),
            None => self.claims.remove(key),
        };
        if let Some(pod) = old.as_ref().and_then(|old| old.for_resources_of()) {
            self.for_resources.remove(pod);
        }
        if let Some(pod) = claim.as_ref().and_then(|claim| claim.for_resources_of()) {
            self.for_resources.insert(pod.into(), key.clone());
            // What was promised before the claim had a name, it has.
            if claim.as_ref().is_some_and(|claim| claim.allocation.is_some()) {
                self.withdraw(&nameless(&key.namespace, pod));
            }
        }
        for (claim, by) in [(claim, true), (old, false)] {
            if let Some(allocation) = claim.and_then(|claim| claim.allocation.clone()) {
                self.count(&allocation, by);
            }
        }
    }

    fn count(&mut self, allocation: &AllocationResult, is_more: bool) {
        for result in taken(allocation) {
            let device = DeviceId {
                driver: (&*result.driver).into(),
                pool: (&*result.pool).into(),
                name: (&*result.device).into(),
            };
            let taken = self.taken.entry(device.clone()).or_default();
            taken.count(result, is_more);
            if taken.is_nothing() {
                self.taken.remove(&device);
            }
        }
    }

    /// The claim, which has this UID and nothing yet, is to have these devices; nobody else gets them.
    pub fn promise(&mut self, key: &ObjectKey, claim: Box<str>, allocation: Arc<AllocationResult>) {
        self.withdraw(key);
        self.count(&allocation, true);
        self.promised.insert(key.clone(), Promise { claim, allocation });
    }

    pub fn is_promised(&self, key: &ObjectKey) -> bool {
        self.promised.contains_key(key)
    }

    /// Nothing comes of a promise, if there was one.
    pub fn withdraw(&mut self, key: &ObjectKey) {
        if let Some(promise) = self.promised.remove(key) {
            self.count(&promise.allocation, false);
        }
    }

    /// The API's word on a slice.
    pub fn set_slice(&mut self, name: &str, old: Option<&Slice>, new: Option<&Arc<Slice>>) {
        let id = |slice: &Slice| (slice.driver.clone(), slice.pool.clone());
        // A slice may come back under its name in another pool.
        let (old, new_id) = (old.map(id), new.map(|slice| id(slice)));
        if let Some(old) = &old {
            self.change_pool(old, |slices| drop(slices.all.remove(name)));
        }
        if let (Some(id), Some(slice)) = (new_id, new) {
            self.change_pool(&id, |slices| drop(slices.all.insert(name.into(), slice.clone())));
        }
    }

    fn change_pool(&mut self, id: &PoolId, change: impl FnOnce(&mut Slices)) {
        let pool = self.pools.entry(id.clone()).or_default();
        for slice in &pool.newest {
            if let Reach::Node(node) = &slice.reach
                && let Some(pools) = self.of_node.get_mut(node)
            {
                pools.remove(id);
                if pools.is_empty() {
                    self.of_node.remove(node);
                }
            }
        }
        self.shared.remove(id);
        change(pool);
        pool.sort();
        for slice in &pool.newest {
            match &slice.reach {
                Reach::Node(node) => drop(self.of_node.entry(node.clone()).or_default().insert(id.clone())),
                _ => drop(self.shared.insert(id.clone())),
            }
        }
        if pool.all.is_empty() {
            self.pools.remove(id);
        }
    }

    /// The pools that may have devices for the node.
    fn pools(&self, node: &NodeFacts) -> impl Iterator<Item = (&PoolId, &Slices)> {
        static NONE: BTreeSet<PoolId> = BTreeSet::new();
        let own = self.of_node.get(&node.name).unwrap_or(&NONE);
        own.union(&self.shared).filter_map(|id| Some((id, self.pools.get(id)?)))
    }

    /// Of the devices of a class that can be used from the node, how many somebody has, and how many there are; `None`
    /// if that cannot be told.
    pub fn amount(&self, class: &str, node: &NodeFacts) -> Option<(i64, i64)> {
        let class = self.class(class)?;
        let (mut taken, mut all) = (0, 0);
        let slices = self.pools(node).flat_map(|(_, slices)| &slices.newest);
        for device in slices.flat_map(|slice| slice.devices.iter().filter(|d| slice.offers(d, node))) {
            if class.selects(device)? {
                all += 1;
                taken += i64::from(self.taken.contains_key(&device.id));
            }
        }
        Some((taken, all))
    }

    /// What can be used from the node.
    pub fn room(&self, node: &NodeFacts) -> Room<'_> {
        let mut room = Room { rules: self.rules.values().map(|rule| &**rule).collect(), ..Room::default() };
        let pools = || self.pools(node);
        // What is ready comes before what has to be made so.
        let (ready, others) =
            (|at: &(_, &Slices)| !at.1.has_conditions, |at: &(_, &Slices)| at.1.has_conditions);
        for (id, slices) in pools().filter(ready).chain(pools().filter(others)) {
            let pool = room.pools.len();
            let before = room.offers.len();
            for slice in &slices.newest {
                let offered = slice.devices.iter().filter(|device| slice.offers(device, node));
                room.offers.extend(offered.map(|device| Offer {
                    device,
                    slice,
                    pool,
                    taken: self.taken.get(&device.id),
                }));
            }
            if room.offers.len() > before {
                let left = self.left(slices);
                room.pools.push(Pool { driver: &id.0, name: &id.1, state: slices.state, left });
            }
        }
        room
    }

    /// What allocated devices leave of a pool's counters.
    fn left(&self, pool: &Slices) -> Counters {
        let mut left = pool.counters.clone();
        if left.is_empty() {
            return left;
        }
        let devices = pool.newest.iter().flat_map(|slice| &slice.devices);
        for device in devices.filter(|device| self.taken.contains_key(&device.id)) {
            for (name, amount) in &device.consumes {
                if let Some(left) = left.get_mut(name) {
                    *left = *left - *amount;
                }
            }
        }
        left
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;

#[cfg(test)]
mod shares_tests;
