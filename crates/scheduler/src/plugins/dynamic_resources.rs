//! DynamicResources: a pod goes where its claims have devices or can get some, and they get them there (KEP-4381).

use std::sync::Arc;

use tiphys_client::{ObjectKey, devices::MOST_USERS, placement};

use crate::{
    devices::{
        ClaimUse, Devices, allocate,
        allocate::{Given, Want},
        allocation,
        kinds::Claim,
    },
    event::Event,
    framework::{Errand, Filter, Plugin, Point, PreFilter, Rejection, Score, scale},
    pod::PodInfo,
    preemption::{Attempt, NoPlan, Plan},
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot},
};

const NAME: &str = "DynamicResources";
const ELSEWHERE: Rejection = Rejection::hopeless(NAME, "resourceclaim not available on the node");
const NOTHING: Rejection = Rejection::hopeless(NAME, "cannot allocate all claims");
/// What is told of an expression that went wrong: it may be long, and others are told besides.
const LONGEST_FAULT: usize = 400;
/// So many ways to serve it a request may have.
const MOST_WAYS: usize = 8;

pub(super) struct DynamicResources;

/// The claims of a pod.
struct Claims<'a> {
    devices: &'a Devices,
    /// Those that have devices.
    held: Vec<(ObjectKey, &'a Claim)>,
    /// Those that need some.
    wants: Vec<Want<'a>>,
}

/// Whether the pod, or nobody, uses the claim.
fn is_idle(claim: &Claim, pod: &PodInfo) -> bool {
    claim.users.iter().all(|user| **user == *pod.reference.uid)
}

fn is_user(claim: &Claim, pod: &PodInfo) -> bool {
    claim.users.iter().any(|user| **user == *pod.reference.uid)
}

fn reaches(claim: &Claim, node: &NodeFacts) -> bool {
    let nodes = claim.allocation.as_ref().and_then(|allocation| allocation.node_selector.as_ref());
    nodes.is_none_or(|nodes| placement::selector_matches(nodes, &node.name, &node.labels))
}

impl<'a> Claims<'a> {
    /// What the pod's claims are; a rejection if one of them keeps it from every node.
    fn of(pod: &PodInfo, devices: &'a Devices) -> Result<Self, Rejection> {
        let mut claims = Self { devices, held: Vec::new(), wants: Vec::new() };
        let no = |reason: String| Rejection::of(NAME, reason);
        for used in &pod.devices {
            let name = match used {
                ClaimUse::Named(name) | ClaimUse::Made(name) => name,
                ClaimUse::NotYet(of) => {
                    return Err(no(format!(
                        "waiting for the resourceclaim of the pod's claim \"{of}\" to be made"
                    )));
                }
            };
            let key = key(pod, name);
            let claim =
                devices.claim(&key).ok_or_else(|| no(format!("resourceclaim \"{name}\" not found")))?;
            if claim.going {
                return Err(no(format!("resourceclaim \"{name}\" is being deleted")));
            }
            let is_own = claim.owner.as_deref() == Some(&*pod.reference.uid);
            if matches!(used, ClaimUse::Made(_)) && !is_own {
                let pod = pod.key();
                return Err(no(format!(
                    "ResourceClaim {key} was not created for Pod {pod} (Pod is not owner)"
                )));
            }
            if claim.allocation.is_some() {
                if claim.users.len() >= MOST_USERS && !is_user(claim, pod) {
                    return Err(Rejection::hopeless(NAME, "resourceclaim in use"));
                }
                claims.held.push((key, claim));
                continue;
            }
            if devices.is_promised(&key) {
                return Err(no(format!("resource claim {key} is in the process of being allocated")));
            }
            for way in claim.requests.iter().flat_map(|request| &request.ways) {
                if devices.class(&way.class).is_none() {
                    let (request, class) = (&way.name, &way.class);
                    return Err(no(format!("request {request}: device class {class} does not exist")));
                }
            }
            claims.wants.push(Want { key, claim });
        }
        Ok(claims)
    }

    /// Devices on the node for the claims that need some.
    fn find(&self, node: &NodeFacts) -> Result<Vec<Vec<Given<'a>>>, Rejection> {
        if self.wants.is_empty() {
            return Ok(Vec::new());
        }
        let found =
            allocate::allocate(&self.devices.room(node), &self.wants, |name| self.devices.class(name));
        let brief = |why: String| why.chars().take(LONGEST_FAULT).collect();
        found.map_err(|why| Rejection::of(NAME, brief(why)))?.ok_or(NOTHING)
    }
}

fn key(pod: &PodInfo, name: &str) -> ObjectKey {
    ObjectKey { namespace: pod.key().namespace.clone(), name: name.into() }
}

/// The keys of the claims that the pod has.
fn keys(pod: &PodInfo) -> impl Iterator<Item = ObjectKey> {
    pod.devices.iter().filter_map(|used| match used {
        ClaimUse::Named(name) | ClaimUse::Made(name) => Some(key(pod, name)),
        ClaimUse::NotYet(_) => None,
    })
}

impl Filter for Claims<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if !self.held.iter().all(|(_, claim)| reaches(claim, &node.facts)) {
            return Err(ELSEWHERE);
        }
        self.find(&node.facts).map(drop)
    }
}

impl Score for Claims<'_> {
    /// The better the ways are that requests are served in, the better the node.
    fn score(&self, node: &NodeInfo) -> i64 {
        let Ok(found) = self.find(&node.facts) else { return 0 };
        let mut score = 0;
        for (want, given) in self.wants.iter().zip(found) {
            for (at, _) in want.claim.requests.iter().enumerate().filter(|(_, request)| request.is_choice) {
                let way = given.iter().find(|g| g.request == at).map_or(MOST_WAYS, |g| g.way);
                score += MOST_WAYS.saturating_sub(way);
            }
        }
        i64::try_from(score).unwrap_or(i64::MAX)
    }

    fn normalize(&self, scores: &mut [i64]) {
        scale(scores, false);
    }
}

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[
            Point::PreFilter,
            Point::Filter,
            Point::PostFilter,
            Point::PreScore,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        if pod.devices.is_empty() {
            return PreFilter::Skip;
        }
        match Claims::of(pod, &all.surroundings().devices) {
            Ok(claims) => PreFilter::Each(Box::new(claims)),
            Err(rejection) => PreFilter::Nowhere(rejection),
        }
    }

    /// Of the claims that keep the pod from nodes, one that nobody else uses may let go of its devices.
    fn post_filter(&self, attempt: &mut Attempt<'_, '_>) -> Option<Result<Plan, NoPlan>> {
        let (pod, all, unfit) = (attempt.pod, attempt.all, attempt.unfit);
        if pod.devices.is_empty() || unfit.everywhere.is_some() {
            return None;
        }
        let Claims { held, .. } = Claims::of(pod, &all.surroundings().devices).ok()?;
        let nodes = unfit.nodes.iter().filter(|(_, answer)| unfit.answers.get(*answer) == Some(&ELSEWHERE));
        let nodes: Vec<&NodeInfo> = nodes.map(|(id, _)| all.node(*id)).collect();
        let is_in_the_way = |(_, claim): &(ObjectKey, &Claim)| {
            is_idle(claim, pod) && nodes.iter().any(|node| !reaches(claim, &node.facts))
        };
        let release = held.into_iter().find(is_in_the_way).map(|(key, _)| key);
        let message = if release.is_some() {
            "deallocation of ResourceClaim completed"
        } else {
            "still not schedulable"
        };
        Some(Err(NoPlan { message: message.to_owned(), under_way: false, release }))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        if pod.devices.is_empty() {
            return None;
        }
        let claims = Claims::of(pod, &all.surroundings().devices).ok()?;
        let mut requests = claims.wants.iter().flat_map(|want| &want.claim.requests);
        let has_choice = requests.any(|request| request.is_choice);
        has_choice.then(|| Box::new(claims) as Box<dyn Score + 'a>)
    }

    fn reserve(&self, pod: &PodInfo, all: &mut Snapshot, node: NodeId) -> Vec<Errand> {
        if pod.devices.is_empty() {
            return Vec::new();
        }
        let (node, devices) = (all.node(node).facts.clone(), &all.surroundings().devices);
        let Ok(claims) = Claims::of(pod, devices) else { return Vec::new() };
        let mut errands = Vec::new();
        for (key, claim) in claims.held.iter().filter(|(_, claim)| !is_user(claim, pod)) {
            errands.push(Errand::UseDevices { claim: key.clone(), uid: claim.uid.clone(), allocation: None });
        }
        // The node was found to do; where that has changed since, the errand fails.
        let found = claims.find(&node).unwrap_or_default();
        let mut promises = Vec::new();
        for (at, Want { key, claim }) in claims.wants.iter().enumerate() {
            let given = found.get(at).filter(|given| !given.is_empty());
            let allocation =
                given.map(|given| Arc::new(allocation(claim, given, &node.name, |name| devices.class(name))));
            promises
                .extend(allocation.clone().map(|allocation| (key.clone(), claim.uid.clone(), allocation)));
            errands.push(Errand::UseDevices { claim: key.clone(), uid: claim.uid.clone(), allocation });
        }
        for (key, uid, allocation) in promises {
            all.devices().promise(&key, uid, allocation);
        }
        errands
    }

    fn unreserve(&self, pod: &PodInfo, all: &mut Snapshot) {
        for key in keys(pod) {
            all.devices().withdraw(&key);
        }
    }

    fn hint(&self, pod: &PodInfo, event: &Event<'_>) -> bool {
        match event {
            Event::DevicesChanged => true,
            Event::DeviceClaimChanged { claim, frees } => *frees || keys(pod).any(|key| key == **claim),
            // What was promised to it, it has not taken along.
            Event::PodLeft(left) => !left.devices.is_empty(),
            event => event.node(|old, new| old.labels != new.labels || old.name != new.name).is_some(),
        }
    }
}

#[cfg(test)]
#[path = "dynamic_resources_tests.rs"]
mod tests;
