//! What pods need of their claims to devices, and when a claim is needed no more. Pure.

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::PodResourceClaim,
    resource::v1::{ResourceClaim, ResourceClaimConsumerReference},
};
use tiphys_client::{
    devices::{FINALIZER, MOST_USERS},
    key::controller_of,
};

use crate::{
    object::{Object, hash, safe_encode},
    pod::Pod,
    pods::{is_finished, node_of},
};

/// On a claim that was made for a pod: which of the pod's claims it is.
pub(super) const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// No generated name is longer.
const LONGEST_NAME: usize = 63;
/// As many characters a suffix may have.
const SUFFIX: usize = 10;

/// One thing that a pod needs.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Need<'a> {
    /// A claim of its own, made of a template. It is noted in the pod's status then.
    Claim { of: &'a str, template: &'a str },
    /// A claim that was made, but is not noted in the pod's status yet.
    Note { of: &'a str, name: String },
    /// To stand among those who use the claim. The scheduler sees to that for pods that it places itself.
    Reservation(Arc<ResourceClaim>),
    /// What is asked for in a way that we do not know.
    Unknown { of: &'a str },
}

/// What a pod says of one of its claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named<'a> {
    /// Somebody made it, and named it in the pod.
    ByUser(&'a str),
    /// It was made for the pod of this template.
    Made(&'a str, &'a str),
    /// It is to be made.
    NotYet(&'a str),
    /// It was found that the pod does without.
    NotNeeded,
    Unknown,
}

fn named<'a>(pod: &'a Pod, claim: &'a PodResourceClaim) -> Named<'a> {
    let statuses = pod.status.as_ref().map(|status| &*status.resource_claim_statuses).unwrap_or_default();
    match (claim.resource_claim_name.as_deref(), claim.resource_claim_template_name.as_deref()) {
        (Some(name), _) => Named::ByUser(name),
        (None, None) => Named::Unknown,
        (None, Some(template)) => match statuses.iter().find(|status| status.name == claim.name) {
            None => Named::NotYet(template),
            Some(status) => status
                .resource_claim_name
                .as_deref()
                .map_or(Named::NotNeeded, |name| Named::Made(name, template)),
        },
    }
}

fn claims(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().map(|spec| &*spec.resource_claims).unwrap_or_default()
}

/// The names of all claims of a pod that are known, those for extended resources among them.
pub(super) fn names(pod: &Pod) -> impl Iterator<Item = &str> {
    let named = claims(pod).iter().filter_map(|claim| match named(pod, claim) {
        Named::ByUser(name) | Named::Made(name, _) => Some(name),
        Named::NotYet(_) | Named::NotNeeded | Named::Unknown => None,
    });
    let extended = pod.status.iter().filter_map(|status| status.extended_resource_claim_status.as_ref());
    named.chain(extended.map(|status| status.resource_claim_name.as_str()))
}

/// The templates that a pod's claims are made of.
pub(super) fn templates(pod: &Pod) -> impl Iterator<Item = &str> {
    claims(pod).iter().filter_map(|claim| claim.resource_claim_template_name.as_deref())
}

/// Neither runs nor will run any more.
pub(super) fn is_done(pod: &Pod) -> bool {
    is_finished(pod) || pod.is_going() && node_of(pod).is_none()
}

fn is_for(claim: &ResourceClaim, pod: &Pod) -> bool {
    controller_of(&claim.metadata).is_some_and(|owner| owner.uid == pod.uid())
}

/// Whether the claim was made for this of the pod's claims.
pub(super) fn is_made_for(claim: &ResourceClaim, pod: &Pod, of: &str) -> bool {
    is_for(claim, pod) && claim.annotation(POD_CLAIM) == Some(of)
}

fn consumers(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}

/// What a pod needs, of the claims in its namespace that `get` finds by name, and those that are its own.
pub(super) fn needs<'a>(
    pod: &'a Pod,
    get: impl Fn(&str) -> Option<Arc<ResourceClaim>>,
    own: &[Arc<ResourceClaim>],
) -> Vec<Need<'a>> {
    if pod.is_going() || is_done(pod) {
        return Vec::new();
    }
    let placed = node_of(pod).is_some();
    let make = |of: &'a str, template: &'a str| match own.iter().find(|claim| is_made_for(claim, pod, of)) {
        Some(made) => Need::Note { of, name: made.name().to_owned() },
        None => Need::Claim { of, template },
    };
    let reserve = |claim: Option<Arc<ResourceClaim>>| {
        let has = |claim: &ResourceClaim| consumers(claim).iter().any(|user| user.uid == pod.uid());
        let claim = claim.filter(|claim| placed && is_allocated(claim) && !has(claim))?;
        (consumers(&claim).len() < MOST_USERS).then_some(Need::Reservation(claim))
    };
    let need = |claim: &'a PodResourceClaim| match named(pod, claim) {
        Named::Unknown => Some(Need::Unknown { of: &claim.name }),
        Named::NotNeeded => None,
        Named::NotYet(template) => Some(make(&claim.name, template)),
        Named::ByUser(name) => reserve(get(name)),
        Named::Made(name, template) => match get(name).filter(|made| is_for(made, pod)) {
            // Somebody deleted it, or it is another's by now.
            None => Some(make(&claim.name, template)),
            made => reserve(made),
        },
    };
    claims(pod).iter().filter_map(need).collect()
}

/// A name for the claim that is made for one of a pod's claims: always the same, so that what is done twice is made
/// once. Another `attempt` gives another name.
pub(super) fn name_for(pod: &Pod, of: &str, attempt: u8) -> String {
    const ROOM: usize = LONGEST_NAME - SUFFIX - 3;
    let length = pod.name().len() + of.len();
    // Each gives way by its part, so that something is left of both.
    let cut = |text: &str| {
        let kept = if length > ROOM { (text.len() * ROOM / length).max(1) } else { text.len() };
        text.get(..kept).unwrap_or_default().trim_end_matches(['-', '.']).to_owned()
    };
    let suffix = safe_encode(hash(&(pod.uid(), of), &[attempt]));
    format!("{}-{}-{suffix}", cut(pod.name()), cut(of))
}

/// What is known of who uses a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Goes,
    Stays,
    /// We have not heard of the pod, or not yet: the API knows.
    Ask,
}

/// Whether a user of a claim goes on using it; `pod` is the one of its name, as far as we know.
pub(super) fn usage(user: &ResourceClaimConsumerReference, pod: Option<&Pod>) -> Use {
    let is_pod = user.resource == "pods" && user.api_group.as_deref().unwrap_or_default().is_empty();
    match pod {
        _ if !is_pod => Use::Stays,
        None => Use::Ask,
        Some(pod) if pod.uid() != user.uid || is_done(pod) => Use::Goes,
        Some(_) => Use::Stays,
    }
}

/// What is to become of a claim, in this order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tidy {
    /// Those who use it still.
    pub(super) users: Option<Vec<ResourceClaimConsumerReference>>,
    /// Its devices are free for others.
    pub(super) deallocate: bool,
    /// Its finalizers.
    pub(super) finalizers: Option<Vec<String>>,
    pub(super) delete: bool,
}

/// What is to be done for a claim that is used by `users` alone. `owner` is the pod of the name that the claim's owner has.
pub(super) fn tidy(
    claim: &ResourceClaim,
    users: Vec<ResourceClaimConsumerReference>,
    owner: Option<&Pod>,
) -> Tidy {
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    let is_ours = finalizers.iter().any(|name| name == FINALIZER);
    let unused = users.is_empty();
    let left = users.len() < consumers(claim).len();
    // A claim that nobody has used yet keeps its devices, for its maker may have allocated them.
    let ends = is_ours && unused && (left || claim.is_going());
    let frees = ends || left && is_ours && !is_allocated(claim);
    let rest = finalizers.iter().filter(|name| *name != FINALIZER).cloned().collect();
    let is_owner = |pod: &Pod| controller_of(&claim.metadata).is_some_and(|owner| owner.uid == pod.uid());
    let owner_done = owner.is_some_and(|pod| !is_owner(pod) || is_done(pod));
    Tidy {
        users: left.then_some(users),
        deallocate: ends && is_allocated(claim),
        finalizers: frees.then_some(rest),
        delete: unused && owner_done && !claim.is_going(),
    }
}

/// The name of the pod that a claim was made for.
pub(super) fn owning_pod(claim: &ResourceClaim) -> Option<&str> {
    let owner = controller_of(&claim.metadata)?;
    (owner.api_version == "v1" && owner.kind == "Pod").then_some(owner.name.as_str())
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
