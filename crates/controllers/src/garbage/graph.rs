//! Who owns whom: of every object only what that takes.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use kube::api::ObjectMeta;
use parking_lot::RwLock;
use tiphys_client::ObjectKey;

use crate::discovery::Served;

pub(super) type Uid = Arc<str>;

pub(super) const ORPHAN: &str = "orphan";
pub(super) const FOREGROUND: &str = "foregroundDeletion";

/// Absences that are remembered; one that was forgotten is asked for again.
const ABSENCES: usize = 4096;

/// A kind that is followed: its place in the [`Catalogue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct KindId(usize);

/// The kinds that the cluster serves. It only grows: one that is served no more has no objects.
#[derive(Debug, Default)]
pub(super) struct Catalogue(RwLock<Listed>);

#[derive(Debug, Default)]
struct Listed {
    served: Vec<Arc<Served>>,
    /// By group and kind.
    named: HashMap<(String, String), KindId>,
}

impl Catalogue {
    pub(super) fn new(served: Vec<Served>) -> Self {
        let this = Self::default();
        for served in served {
            this.add(served);
        }
        this
    }

    /// Adds a kind, or learns how it is served now.
    pub(super) fn add(&self, served: Served) -> KindId {
        let mut listed = self.0.write();
        let Listed { served: all, named } = &mut *listed;
        let kind = served.resource.kind.clone();
        let groups = [served.resource.group.clone()].into_iter().chain(served.also_in.iter().cloned());
        let names: Vec<_> = groups.map(|group| (group, kind.clone())).collect();
        let served = Arc::new(served);
        if let Some(known) = names.first().and_then(|name| named.get(name)).copied() {
            all[known.0] = served;
            return known;
        }
        let id = KindId(all.len());
        all.push(served);
        for name in names {
            named.entry(name).or_insert(id);
        }
        id
    }

    pub(super) fn kinds(&self) -> impl Iterator<Item = KindId> + use<> {
        (0..self.0.read().served.len()).map(KindId)
    }

    pub(super) fn served(&self, kind: KindId) -> Arc<Served> {
        Arc::clone(&self.0.read().served[kind.0])
    }

    /// The kind that an owner reference names, whichever version it says.
    fn named(&self, api_version: &str, kind: &str) -> Option<KindId> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let listed = self.0.read();
        listed.named.get(&(group.to_owned(), kind.to_owned())).copied()
    }
}

/// One incarnation of one object: where it stands, and which of those that ever stood there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) kind: KindId,
    pub(super) key: ObjectKey,
    pub(super) uid: Uid,
}

/// A reference to an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: Uid,
    /// `None`: a kind that the catalogue has not.
    pub(super) kind: Option<KindId>,
    pub(super) name: Arc<str>,
    /// A foreground deletion of the owner waits for the dependent.
    pub(super) blocks: bool,
}

/// How far an object's own deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Nobody wants it deleted.
    Stays,
    /// It is being deleted, and does not wait for this controller.
    Goes,
    /// It is being deleted and waits until its dependents are.
    Foreground,
    /// It is being deleted and waits until its dependents know it no more.
    Orphaning,
}

impl Life {
    fn of(meta: &ObjectMeta) -> Self {
        let has = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
        match meta.deletion_timestamp {
            None => Self::Stays,
            Some(_) if has(ORPHAN) => Self::Orphaning,
            Some(_) if has(FOREGROUND) => Self::Foreground,
            Some(_) => Self::Goes,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) identity: Identity,
    pub(super) owners: Box<[Owner]>,
    pub(super) life: Life,
}

impl Node {
    /// `None` for metadata without a UID, which no stored object lacks.
    pub(super) fn of(catalogue: &Catalogue, kind: KindId, meta: &ObjectMeta) -> Option<Self> {
        let owners = meta.owner_references.iter().flatten().map(|owner| Owner {
            uid: owner.uid.as_str().into(),
            kind: catalogue.named(&owner.api_version, &owner.kind),
            name: owner.name.as_str().into(),
            blocks: owner.block_owner_deletion == Some(true),
        });
        Some(Self {
            identity: Identity { kind, key: ObjectKey::of(meta), uid: meta.uid.as_deref()?.into() },
            owners: owners.collect(),
            life: Life::of(meta),
        })
    }

    pub(super) fn owner(&self, uid: &str) -> Option<&Owner> {
        self.owners.iter().find(|owner| &*owner.uid == uid)
    }
}

/// All objects and their references. Bounded by what the cluster stores, and by [`ABSENCES`].
#[derive(Debug, Default)]
pub(super) struct Graph {
    nodes: BTreeMap<Uid, Node>,
    /// By owner, whether the graph has that or not.
    dependents: BTreeMap<Uid, BTreeSet<Uid>>,
    /// Objects with owners of kinds that the catalogue has not.
    puzzling: BTreeSet<Uid>,
    absent: BTreeSet<Identity>,
    absent_order: VecDeque<Identity>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    pub(super) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|uid| self.nodes.get(uid))
    }

    /// The objects that a new kind may tell something about.
    pub(super) fn puzzling(&self) -> Vec<Uid> {
        self.puzzling.iter().cloned().collect()
    }

    /// Takes in an object's newest state and says whose look may now find something else.
    pub(super) fn apply(&mut self, node: Node) -> Vec<Uid> {
        let uid = node.identity.uid.clone();
        if node.owners.iter().any(|owner| owner.kind.is_none()) {
            self.puzzling.insert(uid.clone());
        } else {
            self.puzzling.remove(&uid);
        }
        let old = self.nodes.insert(uid.clone(), node.clone());
        if old.as_ref() == Some(&node) {
            return Vec::new();
        }
        // Most objects have no owner and stay: to look at them finds nothing.
        let plain = node.owners.is_empty() && node.life == Life::Stays;
        let mut look = if plain { Vec::new() } else { vec![uid.clone()] };
        for owner in old.iter().flat_map(|old| &old.owners) {
            if node.owner(&owner.uid).is_none() {
                self.unlink(&owner.uid, &uid);
            }
            // A deletion may have waited for this reference.
            if node.owner(&owner.uid).is_none_or(|now| !now.blocks) {
                look.push(owner.uid.clone());
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        look
    }

    /// Takes an object out and says whose look may now find something else.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        self.puzzling.remove(uid);
        let mut look: Vec<Uid> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
            look.push(owner.uid.clone());
        }
        self.note_absent(node.identity);
        look
    }

    /// Keeps of a kind only what a complete list has named.
    pub(super) fn retain(&mut self, kind: KindId, listed: &BTreeSet<Uid>) -> Vec<Uid> {
        let gone = |(uid, node): &(&Uid, &Node)| node.identity.kind == kind && !listed.contains(*uid);
        let gone: Vec<Uid> = self.nodes.iter().filter(gone).map(|(uid, _)| uid.clone()).collect();
        gone.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    /// Remembers that there is no such object, which stays true: a UID never comes back.
    pub(super) fn note_absent(&mut self, identity: Identity) {
        if self.absent.insert(identity.clone()) {
            self.absent_order.push_back(identity);
        }
        if self.absent_order.len() > ABSENCES
            && let Some(oldest) = self.absent_order.pop_front()
        {
            self.absent.remove(&oldest);
        }
    }

    pub(super) fn is_absent(&self, identity: &Identity) -> bool {
        self.absent.contains(identity)
    }
}

#[cfg(test)]
#[path = "graph_tests.rs"]
mod tests;
