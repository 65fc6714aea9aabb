//! DynamicResources: a pod goes where its claims have devices or can get some, and they get them there (KEP-4381).
//!
//! What a pod asks for by resources for which a DeviceClass stands, a node without such a resource of its own gives by
//! one more claim (KEP-5004), which is made when the pod is going there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::resource::v1::{DeviceClaim, ResourceClaim, ResourceClaimSpec};
use tiphys_client::{
    ObjectKey,
    devices::{MOST_USERS, given},
    placement,
};

use crate::{
    devices::{
        ClaimUse, Devices, allocate,
        allocate::{Fault, Given, Want},
        allocation,
        binding::{self, Binding},
        extended::{Claiming, claiming},
        kinds::{Claim, Request},
        nameless,
    },
    event::Event,
    framework::{Errand, Filter, Plugin, Point, PreFilter, Rejection, Score, scale},
    pod::PodInfo,
    preemption::{Attempt, NoPlan, Plan, Release},
    snapshot::{NodeFacts, NodeId, NodeInfo, Snapshot, Surroundings},
};

const NAME: &str = "DynamicResources";
const ELSEWHERE: Rejection = Rejection::hopeless(NAME, "resourceclaim not available on the node");
const STALE: Rejection = Rejection::hopeless(NAME, "cannot schedule extended resource claim");
const LATE: Rejection = Rejection::hopeless(NAME, "timed out trying to allocate devices");
const NOTHING: Rejection = Rejection::hopeless(NAME, "cannot allocate all claims");
/// What is told of an expression that went wrong: it may be long, and others are told besides.
const LONGEST_FAULT: usize = 400;
/// So many ways to serve it a request may have.
const MOST_WAYS: usize = 8;

#[derive(Default)]
pub(super) struct DynamicResources {
    /// How long devices are looked for on one node; `None`: until all is tried.
    pub(super) filter_timeout: Option<Duration>,
}

/// The claims of a pod.
struct Claims<'a> {
    devices: &'a Devices,
    /// Those that have devices.
    held: Vec<(ObjectKey, &'a Claim)>,
    /// Those that need some.
    wants: Vec<Want<'a>>,
    /// The extended resources that it asks for and that a class stands for, each with it.
    resources: Vec<(&'a str, &'a str)>,
    /// A claim that was made for these, for a node that the pod did not get to.
    stale: Option<&'a ObjectKey>,
}

/// What is found for a pod's claims on a node.
#[derive(Default)]
struct Found<'a> {
    /// For each claim that needs devices, and then for the one that is to be made.
    given: Vec<Vec<Given<'a>>>,
    made: Option<(Claiming, Claim)>,
}

/// A claim that can be used, by what a pod says of it, with its key.
fn usable<'a>(
    pod: &PodInfo,
    used: &ClaimUse,
    devices: &'a Devices,
) -> Result<(ObjectKey, &'a Arc<Claim>), String> {
    let name = match used {
        ClaimUse::Named(name) | ClaimUse::Made(name) => name,
        ClaimUse::NotYet(of) => {
            return Err(format!("waiting for the resourceclaim of the pod's claim \"{of}\" to be made"));
        }
    };
    let key = key(pod, name);
    let claim = devices.claim(&key).ok_or_else(|| format!("resourceclaim \"{name}\" not found"))?;
    if claim.going {
        return Err(format!("resourceclaim \"{name}\" is being deleted"));
    }
    let is_own = claim.owner.as_deref() == Some(&*pod.reference.uid);
    if matches!(used, ClaimUse::Made(_)) && !is_own {
        let pod = pod.key();
        return Err(format!("ResourceClaim {key} was not created for Pod {pod} (Pod is not owner)"));
    }
    Ok((key, claim))
}

/// The extended resources that the pod asks for and that a class stands for, each with it.
fn resources<'a>(pod: &'a PodInfo, devices: &'a Devices) -> Vec<(&'a str, &'a str)> {
    let names = pod.requests.others.iter().filter(|(_, amount)| **amount > 0);
    names.filter_map(|(name, _)| Some((&**name, devices.class_of(name)?))).collect()
}

/// Whether the pod, or nobody, uses the claim.
fn is_idle(claim: &Claim, pod: &PodInfo) -> bool {
    claim.users.iter().all(|user| **user == *pod.reference.uid)
}

fn is_user(claim: &Claim, pod: &PodInfo) -> bool {
    claim.users.iter().any(|user| **user == *pod.reference.uid)
}

/// Whether the claim's devices can be used from the node, and can be used at all.
fn is_of_use(claim: &Claim, node: &NodeFacts) -> bool {
    if matches!(claim.binding, Binding::Failed(_)) {
        return false;
    }
    let nodes = claim.allocation.as_ref().and_then(|allocation| allocation.node_selector.as_ref());
    nodes.is_none_or(|nodes| placement::selector_matches(nodes, &node.name, &node.labels))
}

impl<'a> Claims<'a> {
    /// What the pod's claims are; a rejection if one of them keeps it from every node.
    fn of(pod: &'a PodInfo, devices: &'a Devices) -> Result<Self, Rejection> {
        let resources = resources(pod, devices);
        let stale = devices.claim_for_resources(&pod.reference.uid).filter(|_| !resources.is_empty());
        let mut claims = Self { devices, held: Vec::new(), wants: Vec::new(), resources, stale };
        let no = |reason: String| Rejection::of(NAME, reason);
        for used in &pod.devices {
            let (key, claim) = usable(pod, used, devices).map_err(no)?;
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

    /// The claim that the pod needs on the node for what it asks for by resources, if it does.
    fn for_resources(&self, pod: &PodInfo, node: &NodeFacts) -> Option<(Claiming, Claim)> {
        let has_none = |(name, _): &&(&str, &str)| node.allocatable.of(name) == 0;
        let resources: Vec<(&str, &str)> = self.resources.iter().filter(has_none).copied().collect();
        if resources.is_empty() {
            return None;
        }
        let claiming = claiming(&pod.asking, &resources);
        let devices = DeviceClaim { requests: Some(claiming.requests.clone()), ..DeviceClaim::default() };
        let spec = ResourceClaimSpec { devices: Some(devices) };
        let claim = Claim::new(ResourceClaim { spec: Some(spec), ..ResourceClaim::default() });
        Some((claiming, claim))
    }

    /// Devices on the node for the claims that need some.
    fn find(&self, pod: &PodInfo, node: &NodeFacts, until: Option<Instant>) -> Result<Found<'a>, Rejection> {
        let made = self.for_resources(pod, node);
        let more = made
            .iter()
            .map(|(_, claim)| Want { key: nameless(&pod.key().namespace, &pod.reference.uid), claim });
        let wants: Vec<Want<'_>> = self.wants.iter().cloned().chain(more).collect();
        if wants.is_empty() {
            return Ok(Found::default());
        }
        let class = |name: &str| self.devices.class(name);
        let found = allocate::allocate(&self.devices.room(node), &wants, class, until);
        let brief = |why: String| why.chars().take(LONGEST_FAULT).collect();
        let no = |fault| match fault {
            Fault::Late => LATE,
            Fault::Wrong(why) => Rejection::of(NAME, brief(why)),
        };
        let given = found.map_err(no)?.ok_or(NOTHING)?;
        drop(wants);
        Ok(Found { given, made })
    }
}

/// The claims of a pod, asked about nodes.
struct OfPod<'a> {
    pod: &'a PodInfo,
    claims: Claims<'a>,
    filter_timeout: Option<Duration>,
}

fn key(pod: &PodInfo, name: &str) -> ObjectKey {
    ObjectKey { namespace: pod.key().namespace.clone(), name: name.into() }
}

/// The pod's claims, if it has some or may get one.
fn claims<'a>(pod: &'a PodInfo, all: &'a Snapshot) -> Option<Result<Claims<'a>, Rejection>> {
    let devices = &all.surroundings().devices;
    if pod.devices.is_empty() && (pod.asking.is_empty() || resources(pod, devices).is_empty()) {
        return None;
    }
    Some(Claims::of(pod, devices))
}

/// The keys of the claims that the pod names, or that were made for it of a template.
pub(crate) fn keys(pod: &PodInfo) -> impl Iterator<Item = ObjectKey> {
    pod.devices.iter().filter_map(|used| match used {
        ClaimUse::Named(name) | ClaimUse::Made(name) => Some(key(pod, name)),
        ClaimUse::NotYet(_) => None,
    })
}

/// How well the claim's requests with a choice are served; `way` finds the way that one was served in.
fn merit(claim: &Claim, way: impl Fn(usize, &Request) -> Option<usize>) -> usize {
    let choices = claim.requests.iter().enumerate().filter(|(_, request)| request.is_choice);
    let ways = choices.filter_map(|(at, request)| way(at, request));
    ways.map(|way| MOST_WAYS.saturating_sub(way)).sum()
}

fn merit_of_held(claim: &Claim) -> usize {
    let Some(allocation) = &claim.allocation else { return 0 };
    merit(claim, |_, request| {
        request.ways.iter().position(|way| given(allocation).any(|given| *given.request == *way.name))
    })
}

impl Filter for OfPod<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if self.claims.stale.is_some() {
            return Err(STALE);
        }
        if !self.claims.held.iter().all(|(_, claim)| is_of_use(claim, &node.facts)) {
            return Err(ELSEWHERE);
        }
        let until = self.filter_timeout.map(|time| Instant::now() + time);
        self.claims.find(self.pod, &node.facts, until).map(drop)
    }
}

impl Score for OfPod<'_> {
    /// The better the ways are that requests are served in, the better the node (KEP-4816). What claims have already
    /// is the same on each node, and so brings the nodes closer together.
    fn score(&self, node: &NodeInfo) -> i64 {
        let Ok(found) = self.claims.find(self.pod, &node.facts, None) else { return 0 };
        let held: usize = self.claims.held.iter().map(|(_, claim)| merit_of_held(claim)).sum();
        let wanted = self.claims.wants.iter().zip(&found.given);
        let found: usize = wanted
            .map(|(want, given)| {
                merit(want.claim, |at, _| given.iter().find(|g| g.request == at).map(|g| g.way))
            })
            .sum();
        i64::try_from(held + found).unwrap_or(i64::MAX)
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
            Point::PreEnqueue,
            Point::PreFilter,
            Point::Filter,
            Point::PostFilter,
            Point::PreScore,
            Point::Score,
            Point::Reserve,
            Point::PreBind,
        ]
    }

    fn pre_enqueue(&self, pod: &PodInfo, around: &Surroundings) -> Result<(), String> {
        pod.devices.iter().try_for_each(|used| usable(pod, used, &around.devices).map(drop))
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        match claims(pod, all) {
            None => PreFilter::Skip,
            Some(Ok(claims)) => {
                PreFilter::Each(Box::new(OfPod { pod, claims, filter_timeout: self.filter_timeout }))
            }
            Some(Err(rejection)) => PreFilter::Nowhere(rejection),
        }
    }

    /// Of the claims that keep the pod from nodes, one that nobody else uses may let go of its devices.
    fn post_filter(&self, attempt: &mut Attempt<'_, '_>) -> Option<Result<Plan, NoPlan>> {
        let (pod, all, unfit) = (attempt.pod, attempt.all, attempt.unfit);
        if unfit.everywhere.is_some() {
            return None;
        }
        let Claims { held, stale, .. } = claims(pod, all)?.ok()?;
        let with = |one: Rejection| {
            unfit.nodes.iter().filter(move |(_, answer)| unfit.answers.get(*answer) == Some(&one))
        };
        let retries = with(LATE).next().is_some();
        let nodes: Vec<&NodeInfo> = with(ELSEWHERE).map(|(id, _)| all.node(*id)).collect();
        let is_in_the_way = |(_, claim): &(ObjectKey, &Claim)| {
            is_idle(claim, pod) && nodes.iter().any(|node| !is_of_use(claim, &node.facts))
        };
        let (release, message) = match (held.into_iter().find(is_in_the_way), stale) {
            (Some((key, _)), _) => (Some(Release::Devices(key)), "deallocation of ResourceClaim completed"),
            (None, Some(key)) => (Some(Release::Claim(key.clone())), "deletion of ResourceClaim completed"),
            (None, None) => (None, "still not schedulable"),
        };
        Some(Err(NoPlan { message: message.to_owned(), under_way: false, release, retries }))
    }

    fn pre_score<'a>(
        &'a self,
        pod: &'a PodInfo,
        all: &'a Snapshot,
        _: &[NodeId],
    ) -> Option<Box<dyn Score + 'a>> {
        let claims = claims(pod, all)?.ok()?;
        let mut requests = claims.wants.iter().flat_map(|want| &want.claim.requests);
        let has_choice = requests.any(|request| request.is_choice);
        let filter_timeout = self.filter_timeout;
        has_choice.then(|| Box::new(OfPod { pod, claims, filter_timeout }) as Box<dyn Score + 'a>)
    }

    fn reserve(&self, pod: &PodInfo, all: &mut Snapshot, node: NodeId) -> Vec<Errand> {
        let (node, devices) = (all.node(node).facts.clone(), &all.surroundings().devices);
        let Some(Ok(claims)) = claims(pod, all) else { return Vec::new() };
        let mut errands = Vec::new();
        for (key, claim) in claims.held.iter().filter(|(_, claim)| !is_user(claim, pod)) {
            errands.push(Errand::UseDevices { claim: key.clone(), uid: claim.uid.clone(), allocation: None });
        }
        // The node was found to do; where that has changed since, the errand fails.
        let found = claims.find(pod, &node, None);
        let Found { given, made } =
            found.unwrap_or_else(|_| Found { given: Vec::new(), made: claims.for_resources(pod, &node) });
        let allocated = |claim: &Claim, given: &Vec<Given<'_>>| {
            let allocation = allocation(claim, given, &node.name, |name| devices.class(name));
            (!given.is_empty()).then(|| Arc::new(allocation))
        };
        let mut promises = Vec::new();
        for (at, Want { key, claim }) in claims.wants.iter().enumerate() {
            let allocation = given.get(at).and_then(|given| allocated(claim, given));
            promises
                .extend(allocation.clone().map(|allocation| (key.clone(), claim.uid.clone(), allocation)));
            errands.push(Errand::UseDevices { claim: key.clone(), uid: claim.uid.clone(), allocation });
        }
        if let Some((claiming, claim)) = made {
            let key = nameless(&pod.key().namespace, &pod.reference.uid);
            let allocation = given.last().and_then(|given| allocated(&claim, given));
            promises.extend(allocation.clone().map(|allocation| (key, claim.uid.clone(), allocation)));
            errands.push(Errand::ClaimDevices { claiming: Box::new(claiming), allocation });
        }
        let is_awaited = promises.iter().any(|(.., allocation)| binding::has_conditions(allocation))
            || claims.held.iter().any(|(_, claim)| claim.binding != Binding::Ready);
        errands.extend(is_awaited.then_some(Errand::AwaitDevices));
        for (key, uid, allocation) in promises {
            all.devices().promise(&key, uid, allocation);
        }
        errands
    }

    fn unreserve(&self, pod: &PodInfo, all: &mut Snapshot) {
        let nameless = nameless(&pod.key().namespace, &pod.reference.uid);
        for key in keys(pod).chain([nameless]) {
            all.devices().withdraw(&key);
        }
    }

    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        match event {
            Event::DevicesChanged | Event::DeviceClassChanged => true,
            Event::DeviceClaimChanged { claim, frees } => *frees || keys(pod).any(|key| key == **claim),
            // What was promised to it, it has not taken along.
            Event::PodLeft(left) => !left.devices.is_empty() || !left.asking.is_empty(),
            event => {
                let differs = |old: &NodeFacts, new: &NodeFacts| {
                    old.labels != new.labels
                        || old.name != new.name
                        || !pod.asking.is_empty() && old.allocatable.others != new.allocatable.others
                };
                event.node(differs).is_some()
            }
        }
    }
}

#[cfg(test)]
#[path = "dynamic_resources_tests.rs"]
mod tests;
