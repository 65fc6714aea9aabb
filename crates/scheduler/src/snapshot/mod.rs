//! What the cluster is like to a pod that comes. Kept up to date by single changes, never rebuilt.
//!
//! Nodes have numbers, and what pods ask of one another is counted by node and by topology value ([`counts`]), so
//! that a cycle looks at the nodes that it has to, and at no pod.

mod counts;
mod node;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tiphys_client::{ObjectKey, ObjectRef};

use self::counts::Counts;
pub use self::{
    counts::{Minds, Spots, Tally, Topology},
    node::{NodeFacts, NodeId, NodeInfo},
};
use crate::{
    devices::{self, Devices, kinds::Class},
    pod::PodInfo,
    preemption::Plan,
    selector::{Labels, Selector},
    terms::{Namespaces, Scope, Term},
    volumes::{Storage, VolumeUse},
};

/// How many pods of a selector may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Budget {
    pub selector: Selector,
    pub left: i64,
    /// Names of pods that are counted as going.
    pub going: BTreeSet<Box<str>>,
}

/// A PodGroup, and who belongs to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Group {
    /// Its policy, once it exists.
    pub policy: Option<Arc<Policy>>,
    /// Pods that wait or have a node.
    pub members: BTreeSet<ObjectRef>,
}

/// How the pods of a PodGroup are placed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// None is, unless as many are; `None`: each by itself.
    pub gang: Option<usize>,
    /// Status and message of its condition `PodGroupInitiallyScheduled`.
    pub told: Option<(bool, Box<str>)>,
}

/// Everything but nodes and pods.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub namespaces: Namespaces,
    pub storage: Storage,
    pub devices: Devices,
    pub budgets: BTreeMap<ObjectKey, Arc<Budget>>,
    pub groups: BTreeMap<ObjectKey, Group>,
    /// What Services select.
    pub services: BTreeMap<ObjectKey, Arc<Selector>>,
    /// What owners select, by kind.
    pub owners: BTreeMap<(&'static str, ObjectKey), Arc<Selector>>,
}

/// All nodes with their pods, and what surrounds them.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    nodes: Vec<NodeInfo>,
    /// How many changes there were of nodes.
    changes: u64,
    ids: BTreeMap<Box<str>, NodeId>,
    free: Vec<NodeId>,
    /// Where each placed or assumed pod is counted.
    places: HashMap<ObjectRef, NodeId>,
    /// Pods counted on a node before the API has said so.
    assumed: BTreeSet<ObjectRef>,
    /// Where room is made for a pod.
    nominations: HashMap<ObjectRef, NodeId>,
    counts: Counts,
    /// How many nodes have an image.
    images: HashMap<Box<str>, i64>,
    /// How many nodes repel, are disliked, and are cordoned.
    traits: [usize; 3],
    /// How many placed pods use a claim.
    claims: HashMap<ObjectKey, usize>,
    order: Vec<NodeId>,
    is_ordered: bool,
    surroundings: Surroundings,
}

fn traits(facts: &NodeFacts) -> [bool; 3] {
    [facts.repels(), facts.is_disliked(), facts.unschedulable]
}

/// The claims that a pod uses.
pub fn claims(pod: &PodInfo) -> impl Iterator<Item = ObjectKey> {
    pod.volumes.iter().filter_map(|volume| match volume {
        VolumeUse::Claim(name) | VolumeUse::Ephemeral(name) => {
            Some(ObjectKey { namespace: pod.reference.key.namespace.clone(), name: (&**name).into() })
        }
        VolumeUse::Disk(_) => None,
    })
}

impl Snapshot {
    /// The nodes that exist, from one zone after the other.
    pub fn order(&self) -> &[NodeId] {
        &self.order
    }

    pub fn node(&self, id: NodeId) -> &NodeInfo {
        &self.nodes[id.index()]
    }

    /// How many numbers of nodes are given out.
    pub fn numbers(&self) -> usize {
        self.nodes.len()
    }

    /// The node, which is another one from now on.
    fn change(&mut self, id: NodeId) -> &mut NodeInfo {
        self.changes += 1;
        let node = &mut self.nodes[id.index()];
        node.version = self.changes;
        node
    }

    /// A node that exists.
    pub fn find(&self, name: &str) -> Option<&NodeInfo> {
        self.ids.get(name).map(|id| self.node(*id)).filter(|node| node.exists)
    }

    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    pub fn storage(&mut self) -> &mut Storage {
        &mut self.surroundings.storage
    }

    pub fn devices(&mut self) -> &mut Devices {
        &mut self.surroundings.devices
    }

    /// The API's word on a DeviceClass. Which resources have one, local filters ask: then all nodes count as changed.
    pub fn set_device_class(&mut self, name: &str, class: Option<Arc<Class>>) {
        if self.surroundings.devices.set_class(name, class) {
            for node in &mut self.nodes {
                self.changes += 1;
                node.version = self.changes;
            }
        }
    }

    /// What is neither node nor pod nor namespace.
    pub(crate) fn surroundings_mut(&mut self) -> &mut Surroundings {
        &mut self.surroundings
    }

    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) {
        match labels {
            Some(labels) => drop(self.surroundings.namespaces.insert(name.into(), labels)),
            None => drop(self.surroundings.namespaces.remove(name)),
        }
        self.counts.forget_namespaces();
    }

    /// Whether any node repels pods, is disliked, is cordoned.
    pub fn has_taints(&self) -> bool {
        self.traits[0] > 0
    }
    pub fn has_disliked(&self) -> bool {
        self.traits[1] > 0
    }
    pub fn has_cordoned(&self) -> bool {
        self.traits[2] > 0
    }

    /// On how many nodes an image is.
    pub fn nodes_with_image(&self, image: &str) -> i64 {
        self.images.get(image).copied().unwrap_or(0)
    }

    /// How many placed pods use the claim.
    pub fn users_of(&self, claim: &ObjectKey) -> usize {
        self.claims.get(claim).copied().unwrap_or(0)
    }

    pub fn topology(&self, key: &str) -> Option<&Topology> {
        self.counts.topology(key)
    }

    /// Pods that the scope covers, by the values of the key; `None` unless [`Snapshot::count`] was told of it.
    pub fn spots(&self, scope: &Arc<Scope>, key: &str) -> Option<Spots<'_>> {
        self.counts.covered(scope, key)
    }

    /// What placed pods ask of those that come, and where they are.
    pub fn carried(&self) -> impl Iterator<Item = (Minds, &Term, Spots<'_>)> {
        self.counts.carried().map(|((minds, term), spots)| (*minds, term, spots))
    }

    /// Brings what a cycle for this pod reads up to date.
    pub fn prepare(&mut self, pod: &PodInfo, more: &[Term]) {
        if !self.is_ordered {
            self.order = self.in_order();
            self.is_ordered = true;
        }
        let mut count = |scope, key| {
            self.counts.count(scope, key, &self.nodes, &self.surroundings.namespaces);
        };
        for term in more {
            count(&term.scope, &term.key);
        }
        let Some(terms) = &pod.terms else { return };
        for term in &terms.affinity {
            count(&terms.all, &term.key);
        }
        for term in terms.anti_affinity.iter().chain(terms.preferred.iter().map(|(term, _)| term)) {
            count(&term.scope, &term.key);
        }
        for spread in &terms.spread {
            count(&spread.term.scope, &spread.term.key);
        }
    }

    fn in_order(&self) -> Vec<NodeId> {
        let mut zones: BTreeMap<(&str, &str), Vec<NodeId>> = BTreeMap::new();
        for id in self.ids.values() {
            let node = self.node(*id);
            if node.exists {
                zones.entry(node.facts.zone()).or_default().push(*id);
            }
        }
        let deepest = zones.values().map(Vec::len).max().unwrap_or(0);
        (0..deepest).flat_map(|i| zones.values().filter_map(move |zone| zone.get(i).copied())).collect()
    }

    fn id(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            let id = NodeId(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
            self.nodes.push(NodeInfo::new(id));
            id
        });
        self.ids.insert(name.into(), id);
        id
    }

    fn set_facts(&mut self, id: NodeId, facts: Arc<NodeFacts>, exists: bool) {
        self.changes += 1;
        let node = &mut self.nodes[id.index()];
        node.version = self.changes;
        self.is_ordered &= node.exists == exists && node.facts.zone() == facts.zone();
        let old = std::mem::replace(&mut node.facts, facts.clone());
        node.exists = exists;
        for (count, (old, new)) in self.traits.iter_mut().zip(traits(&old).into_iter().zip(traits(&facts))) {
            *count = *count + usize::from(new) - usize::from(old);
        }
        if old.images != facts.images {
            for image in facts.images.keys() {
                *self.images.entry(image.clone()).or_default() += 1;
            }
            for image in old.images.keys() {
                if let Some(count) = self.images.get_mut(image) {
                    *count -= 1;
                    if *count == 0 {
                        self.images.remove(image);
                    }
                }
            }
        }
        self.counts.relabel(id, &facts.labels);
    }

    pub fn set_node(&mut self, facts: Arc<NodeFacts>) {
        let id = self.id(&facts.name);
        self.set_facts(id, facts, true);
    }

    pub fn remove_node(&mut self, name: &str) {
        if let Some(id) = self.ids.get(name).copied() {
            self.set_facts(id, Arc::default(), false);
            self.tidy(id, name);
        }
    }

    /// Gives back the number of a node that nothing is known of any more.
    fn tidy(&mut self, id: NodeId, name: &str) {
        let node = self.node(id);
        if !node.exists && node.pods.is_empty() && node.nominated.is_empty() {
            self.ids.remove(name);
            self.free.push(id);
        }
    }

    /// The API's word on a pod; it ends an assumption about the pod.
    pub fn set_pod(&mut self, pod: &Arc<PodInfo>) {
        if pod.is_placed() {
            self.assumed.remove(&pod.reference);
            self.place(pod.clone(), &pod.node.clone());
        } else if !self.assumed.contains(&pod.reference) || pod.finished {
            self.lift(&pod.reference);
        }
        if !pod.node.is_empty() || pod.finished {
            self.withdraw(&pod.reference);
        } else if !pod.nominated.is_empty() {
            self.nominate(pod, &pod.nominated);
        }
    }

    /// Counts a pod on a node from now on, until the API confirms it or [`Snapshot::forget`] is called.
    pub fn assume(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.assumed.insert(pod.reference.clone());
        self.place(pod.clone(), node);
        self.withdraw(&pod.reference);
    }

    /// The binding failed.
    pub fn forget(&mut self, pod: &ObjectRef) {
        if self.assumed.remove(pod) {
            self.lift(pod);
        }
    }

    pub fn is_assumed(&self, pod: &ObjectRef) -> bool {
        self.assumed.contains(pod)
    }

    fn place(&mut self, pod: Arc<PodInfo>, name: &str) {
        let id = self.id(name);
        if self.places.get(&pod.reference) == Some(&id) {
            let node = self.change(id);
            let known = node.pods.iter_mut().find(|p| p.reference == pod.reference);
            if let Some(known) = known.filter(|known| known.counts_like(&pod)) {
                *known = pod;
                return;
            }
        }
        self.lift(&pod.reference);
        // What was lifted may have been the last that was known of the node.
        let id = self.id(name);
        for claim in claims(&pod) {
            *self.claims.entry(claim).or_default() += 1;
        }
        self.places.insert(pod.reference.clone(), id);
        self.change(id).add(pod.clone());
        self.counts.shift(&self.nodes, id, &pod, 1, &self.surroundings.namespaces);
    }

    /// The pod is no more.
    pub fn remove_pod(&mut self, pod: &ObjectRef) {
        self.surroundings.devices.withdraw(&devices::nameless(&pod.key.namespace, &pod.uid));
        self.assumed.remove(pod);
        self.withdraw(pod);
        self.lift(pod);
    }

    fn lift(&mut self, pod: &ObjectRef) {
        let Some(id) = self.places.remove(pod) else { return };
        let Some(gone) = self.change(id).remove(pod) else { return };
        for claim in claims(&gone) {
            if let Some(count) = self.claims.get_mut(&claim) {
                *count -= 1;
                if *count == 0 {
                    self.claims.remove(&claim);
                }
            }
        }
        self.counts.shift(&self.nodes, id, &gone, -1, &self.surroundings.namespaces);
        self.tidy_unnamed(id);
    }

    fn tidy_unnamed(&mut self, id: NodeId) {
        let node = self.node(id);
        if !node.exists && node.pods.is_empty() && node.nominated.is_empty() {
            self.ids.retain(|_, known| *known != id);
            self.free.push(id);
        }
    }

    /// Room is being made for the pod on a node that exists.
    pub fn nominate(&mut self, pod: &Arc<PodInfo>, node: &str) {
        self.withdraw(&pod.reference);
        if let Some(id) = self.find(node).map(|node| node.id) {
            self.nominations.insert(pod.reference.clone(), id);
            self.change(id).nominated.push(pod.clone());
        }
    }

    /// Room is made for the pod as planned: its victims are on their way, others have to look elsewhere.
    pub(crate) fn follow(&mut self, pod: &Arc<PodInfo>, plan: &Plan) {
        self.nominate(pod, &plan.node);
        for victim in &plan.victims {
            self.set_pod(&Arc::new(PodInfo { going: true, is_victim: true, ..PodInfo::clone(victim) }));
        }
        for other in &plan.displaced {
            self.withdraw(&other.reference);
        }
    }

    /// No room is made for the pod any more.
    pub fn withdraw(&mut self, pod: &ObjectRef) {
        let Some(id) = self.nominations.remove(pod) else { return };
        self.change(id).nominated.retain(|p| p.reference != *pod);
        self.tidy_unnamed(id);
    }

    /// Whether the pod is counted on a node.
    pub fn is_placed(&self, pod: &ObjectRef) -> bool {
        self.places.contains_key(pod)
    }

    /// Knows the pod as one of its group, or no longer; whether that is news.
    pub(crate) fn set_member(&mut self, pod: &PodInfo, belongs: bool) -> bool {
        let Some(key) = &pod.group else { return false };
        let groups = &mut self.surroundings.groups;
        if belongs {
            return groups.entry(key.clone()).or_default().members.insert(pod.reference.clone());
        }
        let Some(group) = groups.get_mut(key) else { return false };
        let was = group.members.remove(&pod.reference);
        if group.members.is_empty() && group.policy.is_none() {
            groups.remove(key);
        }
        was
    }

    /// What is known of a PodGroup; `None` if it does not exist.
    pub(crate) fn set_group(&mut self, key: &ObjectKey, policy: Option<Arc<Policy>>) {
        let groups = &mut self.surroundings.groups;
        let group = groups.entry(key.clone()).or_default();
        group.policy = policy;
        if group.members.is_empty() && group.policy.is_none() {
            groups.remove(key);
        }
    }

    /// Where room is made for the pod.
    pub fn nomination(&self, pod: &ObjectRef) -> Option<&NodeInfo> {
        self.nominations.get(pod).map(|id| self.node(*id)).filter(|node| node.exists)
    }

    /// Pods that room is made for on a node.
    pub fn nominated(&self, node: NodeId) -> &[Arc<PodInfo>] {
        &self.node(node).nominated
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
