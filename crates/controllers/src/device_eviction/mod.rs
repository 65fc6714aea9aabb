//! Deletes pods that do not bear a `NoExecute` taint of their devices, which drivers or DeviceTaintRules put there, and
//! says of each rule how far that is (KEP-5055).

mod plan;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::resource::v1::{DeviceTaintRule, ResourceClaim, ResourceSlice},
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::{Api, Client, api::Patch};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, devices::selects, events::Recorder};

use self::plan::{Eviction, Reckoning};
use crate::{
    claim::{gone_is_fine, only},
    controller::{Controller, Tools},
    informers::{BY_POOL, BY_RESOURCE_CLAIM, Informers},
    object::Object,
    pod::Pod,
    pods::disrupted,
    resource_claims,
};

/// What a rule's status says is not changed more often.
const PERIOD: Duration = Duration::from_secs(10);
const CONDITION: &str = "EvictionInProgress";

/// The pools that a claim has devices of.
pub(crate) fn pools_of_claim(claim: &ResourceClaim) -> Vec<String> {
    let pools: BTreeSet<String> = plan::given(claim).map(|g| plan::pool(&g.driver, &g.pool)).collect();
    pools.into_iter().collect()
}

/// The pool that a slice is of.
pub(crate) fn pool_of_slice(slice: &ResourceSlice) -> Vec<String> {
    vec![plan::pool(&slice.spec.driver, &slice.spec.pool.name)]
}

/// A loop over pods, and over rules: those have no namespace.
pub(crate) struct DeviceTaintEviction {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    pods: Reader<Pod>,
    claims: Reader<ResourceClaim>,
    slices: Reader<ResourceSlice>,
    rules: Reader<DeviceTaintRule>,
    /// The pods whose time runs.
    condemned: Mutex<BTreeSet<ObjectKey>>,
    /// How many pods have left, by the UID of the rule.
    evicted: Mutex<BTreeMap<String, usize>>,
}

impl DeviceTaintEviction {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let (pods, claims) = (informers.pods.reader(), informers.resource_claims.reader());
        let (slices, rules) = (informers.resource_slices.reader(), informers.device_taint_rules.reader());
        let users = {
            let (queue, pods) = (queue.clone(), pods.clone());
            move |claim: &ObjectKey| {
                let users = pods.indexed(BY_RESOURCE_CLAIM, &claim.to_string());
                users.iter().for_each(|pod| queue.add(pod.key()));
            }
        };
        informers.resource_claims.on_change({
            let users = users.clone();
            move |change| {
                let read = |claim: &Option<Arc<ResourceClaim>>| {
                    let status = claim.as_ref().and_then(|claim| claim.status.clone()).unwrap_or_default();
                    (status.allocation, status.reserved_for)
                };
                if read(&change.old) != read(&change.new) {
                    users(&change.key);
                }
            }
        });
        informers.resource_slices.on_change({
            let (users, claims) = (users.clone(), claims.clone());
            move |change| {
                let slices = || change.old.iter().chain(&change.new);
                if slices().any(|slice| plan::drives_away(slice)) {
                    let pools: BTreeSet<String> = slices().flat_map(|slice| pool_of_slice(slice)).collect();
                    let of_pool = pools.iter().flat_map(|pool| claims.indexed(BY_POOL, pool));
                    of_pool.for_each(|claim| users(&claim.key()));
                }
            }
        });
        informers.device_taint_rules.on_change({
            let (queue, claims) = (queue.clone(), claims.clone());
            move |change| {
                if change.old.as_ref().map(|rule| &rule.spec) != change.new.as_ref().map(|rule| &rule.spec) {
                    queue.add(change.key.clone());
                    claims.list().iter().for_each(|claim| users(&claim.key()));
                }
            }
        });
        informers.pods.on_change({
            let (queue, rules) = (queue.clone(), rules.clone());
            move |change| {
                let claims = |pod: &Option<Arc<Pod>>| {
                    pod.as_ref().map(|pod| resource_claims::by_claim(pod)).unwrap_or_default()
                };
                let node = |pod: &Option<Arc<Pod>>| pod.as_ref()?.spec.as_ref()?.node_name.clone();
                let (old, new) = (claims(&change.old), claims(&change.new));
                let has_claims = !old.is_empty() || !new.is_empty();
                if has_claims && (old != new || node(&change.old) != node(&change.new)) {
                    queue.add(change.key.clone());
                    rules.list().iter().for_each(|rule| queue.add(rule.key()));
                }
            }
        });
        let Tools { client, events } = tools;
        let (condemned, evicted) = (Mutex::default(), Mutex::default());
        Self { client, events, queue, pods, claims, slices, rules, condemned, evicted }
    }

    fn eviction(&self, pod: &Pod, rules: &[Arc<DeviceTaintRule>], now: Timestamp) -> Option<Eviction> {
        let claims = resource_claims::claim_keys(pod);
        let claims = claims.filter_map(|key| self.claims.get(&key));
        let slices = |pool: &str| self.slices.indexed(BY_POOL, pool);
        plan::of_pod(pod, claims, |claim| plan::of_claim(claim, slices, rules, now))
    }

    /// Notes whether the pod's time runs, and tells whether it did.
    fn condemn(&self, key: &ObjectKey, condemned: bool) -> bool {
        let mut all = self.condemned.lock();
        if condemned { !all.insert(key.clone()) } else { all.remove(key) }
    }

    async fn look_at_pod(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(pod) = self.pods.get(key) else {
            self.condemn(key, false);
            return Ok(Verdict::Done);
        };
        let now = Timestamp::now();
        let Some(Eviction { when, rules }) = self.eviction(&pod, &self.rules.list(), now) else {
            if self.condemn(key, false) && !pod.is_going() {
                let message = format!("Cancelling deletion of Pod {key}");
                self.events.normal(&pod.as_reference(), "DeviceTaintManagerEviction", message);
            }
            return Ok(Verdict::Done);
        };
        let left = Duration::try_from(when.duration_since(now)).unwrap_or_default();
        if !left.is_zero() {
            self.condemn(key, true);
            return Ok(Verdict::After(left));
        }
        let message = format!("Marking for deletion Pod {key}");
        self.events.normal(&pod.as_reference(), "DeviceTaintManagerEviction", message);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &key.namespace);
        let why = "Device Taint manager: deleting due to NoExecute taint";
        let condition = disrupted("DeletionByDeviceTaintManager", why, now);
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"conditions": [condition]}});
        let told = pods.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await;
        gone_is_fine(told)?;
        if gone_is_fine(pods.delete(&key.name, &only(pod.uid())).await)?.is_some() {
            let mut evicted = self.evicted.lock();
            rules.into_iter().for_each(|rule| *evicted.entry(rule).or_default() += 1);
        }
        self.condemn(key, false);
        Ok(Verdict::Done)
    }

    /// What the rule does, or would do if it drove pods away.
    fn reckon(&self, rule: &DeviceTaintRule, now: Timestamp) -> Reckoning {
        let evicted = self.evicted.lock().get(rule.uid()).copied().unwrap_or(0);
        let mut known = Reckoning { evicted, ..Reckoning::default() };
        if rule.spec.taint.effect == "NoSchedule" {
            return known;
        }
        let supposed = [plan::supposed(rule)];
        let mut namespaces = BTreeSet::new();
        for pod in self.pods.list() {
            if self.eviction(&pod, &supposed, now).is_some_and(|e| e.rules.contains(rule.uid())) {
                known.pods += 1;
                namespaces.insert(pod.namespace().to_owned());
            }
        }
        known.namespaces = namespaces.len();
        let mut pools: BTreeMap<String, Vec<Arc<ResourceSlice>>> = BTreeMap::new();
        for slice in self.slices.list() {
            pools.entry(plan::pool(&slice.spec.driver, &slice.spec.pool.name)).or_default().push(slice);
        }
        let is_about = |driver: &str, pool: &str, device: &str| {
            selects(rule.spec.device_selector.as_ref(), driver, pool, device)
        };
        for slice in pools.values().flat_map(|slices| plan::newest(slices)) {
            let devices = slice.spec.devices.iter().flatten();
            let (driver, pool) = (&slice.spec.driver, &slice.spec.pool.name);
            known.published += devices.filter(|d| is_about(driver, pool, &d.name)).count();
        }
        for claim in self.claims.list() {
            let devices = plan::given(&claim);
            known.allocated += devices.filter(|g| is_about(&g.driver, &g.pool, &g.device)).count();
        }
        known
    }

    async fn look_at_rule(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(rule) = self.rules.get(key) else {
            let known: BTreeSet<String> =
                self.rules.list().iter().map(|rule| rule.uid().to_owned()).collect();
            self.evicted.lock().retain(|rule, _| known.contains(rule));
            return Ok(Verdict::Done);
        };
        let now = Timestamp::now();
        let effect = &*rule.spec.taint.effect;
        let conditions = rule.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let old = conditions.into_iter().find(|condition| condition.type_ == CONDITION);
        let generation = rule.metadata.generation;
        if let Some(Condition { observed_generation, last_transition_time, .. }) = old
            && *observed_generation == generation
        {
            let been = Duration::try_from(now.duration_since(last_transition_time.0)).unwrap_or_default();
            match PERIOD.checked_sub(been) {
                // What would be is told once.
                _ if effect == "None" => return Ok(Verdict::Done),
                Some(left) if !left.is_zero() => return Ok(Verdict::After(left)),
                _ => {}
            }
        }
        let (going, reason, message) = plan::told(effect, self.reckon(&rule, now));
        let status = if going { "True" } else { "False" };
        let is_known = old.is_some_and(|old| {
            old.status == status
                && old.reason == reason
                && old.message == message
                && old.observed_generation == generation
        });
        if !is_known {
            let condition = json!({"type": CONDITION, "status": status, "reason": reason, "message": message,
                "observedGeneration": generation,
                "lastTransitionTime": Time(now)});
            let patch = json!({"metadata": {"uid": rule.uid()}, "status": {"conditions": [condition]}});
            let rules: Api<DeviceTaintRule> = Api::all(self.client.clone());
            gone_is_fine(rules.patch_status(&key.name, &Default::default(), &Patch::Strategic(patch)).await)?;
        }
        Ok(Verdict::Done)
    }
}

impl Controller for DeviceTaintEviction {
    const NAME: &'static str = "device-taint-eviction-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.pods.synced().await;
        self.claims.synced().await;
        self.slices.synced().await;
        self.rules.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        if key.namespace.is_empty() { self.look_at_rule(key).await } else { self.look_at_pod(key).await }
    }
}

#[cfg(test)]
#[path = "device_eviction_tests.rs"]
mod tests;
