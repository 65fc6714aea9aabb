//! When pods have to leave a device that is tainted with `NoExecute`, and what is said of the rule that taints it. Pure.

use std::{collections::BTreeSet, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::resource::v1::{
    DeviceRequestAllocationResult as Given, DeviceTaint, DeviceTaintRule, DeviceToleration, ResourceClaim,
    ResourceSlice,
};
use tiphys_client::devices::{self, selects, tolerates};

use crate::{
    object::Object,
    pod::Pod,
    pods::{is_finished, node_of},
};

const NO_EXECUTE: &str = "NoExecute";

/// A pod has to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Eviction {
    pub(super) when: Timestamp,
    /// UIDs of the rules that want it.
    pub(super) rules: BTreeSet<String>,
}

impl Eviction {
    /// Both: the earlier, for the reasons of both.
    fn and(self, other: Self) -> Self {
        let rules = self.rules.into_iter().chain(other.rules).collect();
        Self { when: self.when.min(other.when), rules }
    }
}

/// The devices that a claim has.
pub(super) fn given(claim: &ResourceClaim) -> impl Iterator<Item = &Given> {
    let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
    allocation.into_iter().flat_map(devices::given)
}

/// Driver and name of a pool, as the indices have them.
pub(super) fn pool(driver: &str, pool: &str) -> String {
    format!("{driver}/{pool}")
}

/// What is published of a pool now: its newest slices.
pub(super) fn newest(slices: &[Arc<ResourceSlice>]) -> impl Iterator<Item = &ResourceSlice> {
    let newest = slices.iter().map(|slice| slice.spec.pool.generation).max();
    slices.iter().filter(move |slice| Some(slice.spec.pool.generation) == newest).map(|slice| &**slice)
}

/// Whether slices are tainted so that pods have to leave.
pub(super) fn drives_away(slice: &ResourceSlice) -> bool {
    let taints = slice.spec.devices.iter().flatten().flat_map(|device| device.taints.iter().flatten());
    taints.into_iter().any(|taint| taint.effect == NO_EXECUTE)
}

/// How long a taint is borne; `None`: for ever. `Some(0)`: not at all.
fn patience(taint: &DeviceTaint, tolerations: &[DeviceToleration]) -> Option<i64> {
    let mut borne =
        tolerations.iter().filter(|t| tolerates(t, taint)).map(|t| t.toleration_seconds.map(|s| s.max(0)));
    let first = borne.next().unwrap_or(Some(0));
    borne.fold(first, |shortest, next| Some(shortest?.min(next?)))
}

/// When the users of the claim have to leave; `slices` are those of a pool, by [`pool`].
pub(super) fn of_claim(
    claim: &ResourceClaim,
    slices: impl Fn(&str) -> Vec<Arc<ResourceSlice>>,
    rules: &[Arc<DeviceTaintRule>],
    now: Timestamp,
) -> Option<Eviction> {
    let mut eviction: Option<Eviction> = None;
    for device in given(claim) {
        let of_pool = slices(&pool(&device.driver, &device.pool));
        let published = newest(&of_pool).flat_map(|slice| slice.spec.devices.iter().flatten());
        let published = published.filter(|known| known.name == device.device);
        let own = published.flat_map(|known| known.taints.iter().flatten()).map(|taint| (taint, None));
        let by_rules = rules.iter().filter(|rule| {
            let selector = rule.spec.device_selector.as_ref();
            selects(selector, &device.driver, &device.pool, &device.device)
        });
        let by_rules = by_rules.map(|rule| (&rule.spec.taint, Some(rule.uid().to_owned())));
        for (taint, rule) in own.chain(by_rules).filter(|(taint, _)| taint.effect == NO_EXECUTE) {
            let tolerations = device.tolerations.as_deref().unwrap_or_default();
            let Some(seconds) = patience(taint, tolerations) else { continue };
            let since = taint.time_added.as_ref().map_or(now, |time| time.0);
            let when = since.checked_add(SignedDuration::from_secs(seconds)).unwrap_or(Timestamp::MAX);
            let this = Eviction { when, rules: rule.into_iter().collect() };
            eviction = Some(match eviction {
                Some(eviction) => eviction.and(this),
                None => this,
            });
        }
    }
    eviction
}

/// Whether the pod is somewhere where it uses devices.
pub(super) fn is_there(pod: &Pod) -> bool {
    node_of(pod).is_some() && !pod.is_going() && !is_finished(pod)
}

/// When the pod has to leave, for one of the claims that it names.
pub(super) fn of_pod(
    pod: &Pod,
    claims: impl Iterator<Item = Arc<ResourceClaim>>,
    of_claim: impl Fn(&ResourceClaim) -> Option<Eviction>,
) -> Option<Eviction> {
    let uses = |claim: &Arc<ResourceClaim>| {
        let users = claim.status.iter().flat_map(|status| status.reserved_for.iter().flatten());
        users.into_iter().any(|user| user.uid == pod.uid())
    };
    let claims = claims.filter(uses).collect::<Vec<_>>();
    claims.iter().filter(|_| is_there(pod)).filter_map(|claim| of_claim(claim)).reduce(Eviction::and)
}

/// What is known of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reckoning {
    /// Pods that have to leave for it, or would, and the namespaces that they are in.
    pub(super) pods: usize,
    pub(super) namespaces: usize,
    /// Devices that it is about.
    pub(super) published: usize,
    pub(super) allocated: usize,
    /// Pods that have left for it, as far as this process knows.
    pub(super) evicted: usize,
}

fn many(count: usize, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Status, reason and message of the rule's condition `EvictionInProgress`, in upstream's words.
pub(super) fn told(effect: &str, known: Reckoning) -> (bool, &'static str, String) {
    let namespaces = many(known.namespaces, "namespace", "different namespaces");
    let (going, reason, message) = match effect {
        NO_EXECUTE if known.pods > 0 => {
            let pods = many(known.pods, "pod needs", "pods need");
            (true, "PodsPendingEviction", format!("{pods} to be evicted in {namespaces}."))
        }
        NO_EXECUTE if known.evicted > 0 => (false, "Completed", String::new()),
        NO_EXECUTE => (false, "NotStarted", String::new()),
        "None" => {
            let published = many(known.published, "published device", "published devices");
            let allocated = many(known.allocated, "allocated device", "allocated devices");
            let pods = many(known.pods, "pod", "pods");
            let message = format!(
                "{published} selected. {allocated} selected. {pods} would be evicted in {namespaces} if the effect \
                 was NoExecute. This information will not be updated again. Recreate the DeviceTaintRule to trigger \
                 an update."
            );
            (false, "NoEffect", message)
        }
        _ => (false, "OtherEffect", "Eviction only happens for the NoExecute effect.".to_owned()),
    };
    if known.evicted == 0 {
        return (going, reason, message);
    }
    let evicted = many(known.evicted, "pod", "pods");
    let gap = if message.is_empty() { "" } else { " " };
    (going, reason, format!("{message}{gap}{evicted} evicted since starting the controller."))
}

/// The rule as if its effect were `NoExecute`, to see what it would do.
pub(super) fn supposed(rule: &DeviceTaintRule) -> Arc<DeviceTaintRule> {
    let mut rule = rule.clone();
    rule.spec.taint.effect = NO_EXECUTE.to_owned();
    Arc::new(rule)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
