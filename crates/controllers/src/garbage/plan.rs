//! What an object's owners and dependents mean for it.

use super::graph::{Catalogue, Graph, Identity, Life, Node, Owner, Uid};

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is there and stays, or at least does not ask its dependents to go.
    Solid,
    /// It is being deleted in the foreground: its dependents are to go first.
    Waiting,
    /// There is no such object.
    Absent,
}

/// What can be said of an owner without asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Known {
    Yes(Standing),
    /// Only a look at the API tells whether this exists.
    Ask(Identity),
    /// A cluster-scoped object cannot be owned by a namespaced one.
    Invalid,
}

/// How the dependents of an object that is deleted fare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Policy {
    Background,
    Foreground,
    Orphan,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Each of these loses its reference to the object, then the object its `orphan` finalizer.
    Orphan(Vec<Identity>),
    /// The object loses its `foregroundDeletion` finalizer.
    Release,
    /// These are to be looked at; the object waits for them.
    Push(Vec<Uid>),
    /// The object loses its references to these.
    Disown(Vec<Uid>),
    /// The object goes; `unblock`: it must first stop blocking its owners, one of which it owns.
    Delete {
        policy: Policy,
        unblock: bool,
    },
}

/// What the graph says of an owner of `dependent`. An owner of a kind that nobody serves counts as there:
/// nothing proves that it is not.
pub(super) fn known(graph: &Graph, catalogue: &Catalogue, dependent: &Node, owner: &Owner) -> Known {
    let Some(kind) = owner.kind else { return Known::Yes(Standing::Solid) };
    let namespace = &dependent.identity.key.namespace;
    let namespaced = catalogue.served(kind).namespaced;
    if namespaced && namespace.is_empty() {
        return Known::Invalid;
    }
    let namespace = if namespaced { namespace } else { "" };
    let key = tiphys_client::ObjectKey::new(namespace, &owner.name);
    let identity = Identity { kind, key, uid: owner.uid.clone() };
    match graph.get(&owner.uid) {
        Some(node) if node.identity == identity => Known::Yes(standing(node)),
        _ if graph.is_absent(&identity) => Known::Yes(Standing::Absent),
        _ => Known::Ask(identity),
    }
}

/// What an owner that exists means for its dependents.
pub(super) fn standing(owner: &Node) -> Standing {
    if owner.life == Life::Foreground { Standing::Waiting } else { Standing::Solid }
}

/// What an object needs for the sake of those it owns.
pub(super) fn for_dependents(graph: &Graph, node: &Node) -> Step {
    let uid = &node.identity.uid;
    match node.life {
        Life::Stays | Life::Goes => Step::Nothing,
        Life::Orphaning => Step::Orphan(graph.dependents(uid).map(|d| d.identity.clone()).collect()),
        Life::Foreground => {
            // Waiting for itself would be waiting for ever.
            let blocking = |d: &Node| d.identity.uid != *uid && d.owner(uid).is_some_and(|o| o.blocks);
            if graph.dependents(uid).any(blocking) {
                let stays = graph.dependents(uid).filter(|d| d.life == Life::Stays);
                Step::Push(stays.map(|d| d.identity.uid.clone()).collect())
            } else {
                Step::Release
            }
        }
    }
}

/// What an object that nobody deletes needs for the sake of those that own it: `owners` has the standing of
/// each, in the order of the references.
pub(super) fn for_owners(graph: &Graph, node: &Node, owners: &[Standing], policy: Policy) -> Step {
    if node.life != Life::Stays || owners.is_empty() {
        return Step::Nothing;
    }
    let of = |wanted: Standing| owners.contains(&wanted);
    if of(Standing::Solid) {
        let useless = node.owners.iter().zip(owners).filter(|(_, s)| **s != Standing::Solid);
        let useless: Vec<Uid> = useless.map(|(owner, _)| owner.uid.clone()).collect();
        return if useless.is_empty() { Step::Nothing } else { Step::Disown(useless) };
    }
    let uid = &node.identity.uid;
    if of(Standing::Waiting) && graph.dependents(uid).next().is_some() {
        // In a circle everybody would wait for everybody.
        let unblock = graph.dependents(uid).any(|d| d.life == Life::Foreground);
        return Step::Delete { policy: Policy::Foreground, unblock };
    }
    Step::Delete { policy, unblock: false }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
