//! VolumeBinding: a pod goes where its volumes can be had, and volumes that wait for it are made or bound there.

use std::{collections::BTreeSet, sync::Arc};

use tiphys_client::ObjectKey;

use crate::{
    event::Event,
    framework::{Errand, Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeId, NodeInfo, Snapshot, Surroundings, claims},
    volumes::{Claim, Class, Storage, Volume, VolumeUse},
};

const NAME: &str = "VolumeBinding";
const LOST: Rejection =
    Rejection::hopeless(NAME, "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)");
const ELSEWHERE: Rejection =
    Rejection::hopeless(NAME, "node(s) didn't match PersistentVolume's node affinity");
const NOTHING: Rejection =
    Rejection::hopeless(NAME, "node(s) didn't find available persistent volumes to bind");
const FULL: Rejection = Rejection::hopeless(NAME, "node(s) did not have enough free storage");

pub(super) struct VolumeBinding;

/// How a claim that waits is served on a node.
enum Served<'a> {
    By(&'a Volume),
    ByProvisioner,
}

struct Waiting<'a> {
    key: ObjectKey,
    claim: &'a Claim,
    class: &'a Class,
}

struct Volumes<'a> {
    storage: &'a Storage,
    bound: Vec<Option<&'a Arc<Volume>>>,
    waiting: Vec<Waiting<'a>>,
}

impl<'a> Volumes<'a> {
    /// What the pod's claims are; a rejection if one of them keeps it from every node.
    fn of(pod: &PodInfo, storage: &'a Storage) -> Result<Self, Rejection> {
        let mut volumes = Self { storage, bound: Vec::new(), waiting: Vec::new() };
        let mut unbound = false;
        for (volume, key) in pod.volumes.iter().filter(|v| !matches!(v, VolumeUse::Disk(_))).zip(claims(pod))
        {
            let name = &key.name;
            let is_ephemeral = matches!(volume, VolumeUse::Ephemeral(_));
            let Some(claim) = storage.claims.get(&key) else {
                return Err(Rejection::of(
                    NAME,
                    if is_ephemeral {
                        format!(
                            "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                        )
                    } else {
                        format!("persistentvolumeclaim \"{name}\" not found")
                    },
                ));
            };
            if is_ephemeral && claim.owner.as_deref() != Some(&*pod.reference.uid) {
                let pod = &pod.reference.key;
                return Err(Rejection::of(
                    NAME,
                    format!("PVC {key} was not created for pod {pod} (pod is not owner)"),
                ));
            }
            if claim.is_lost {
                let of = &claim.volume;
                return Err(Rejection::of(
                    NAME,
                    format!(
                        "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{of}\""
                    ),
                ));
            }
            if claim.going {
                return Err(Rejection::of(
                    NAME,
                    format!("persistentvolumeclaim \"{name}\" is being deleted"),
                ));
            }
            if claim.is_bound {
                volumes.bound.push(storage.volumes.get(&claim.volume));
                continue;
            }
            match storage.classes.get(&claim.class) {
                Some(class) if class.waits && claim.volume.is_empty() => {
                    volumes.waiting.push(Waiting { key, claim, class });
                }
                _ => unbound = true,
            }
        }
        if unbound {
            return Err(Rejection::hopeless(NAME, "pod has unbound immediate PersistentVolumeClaims"));
        }
        Ok(volumes)
    }

    /// How each waiting claim would be served; the smallest volumes that do come first.
    fn serve(&self, node: &NodeInfo) -> Result<Vec<Served<'a>>, Rejection> {
        let mut taken = BTreeSet::new();
        let mut served = Vec::new();
        for Waiting { key, claim, class } in &self.waiting {
            let free = |v: &&Arc<Volume>| {
                let promised = self.storage.promised.get(&v.name);
                promised.is_none_or(|to| to == key)
                    && !taken.contains(&v.name)
                    && v.serves(key, claim)
                    && v.reaches(node.name(), &node.facts.labels)
            };
            let best =
                self.storage.volumes.values().filter(free).min_by_key(|v| (v.claim.is_none(), v.bytes));
            if let Some(volume) = best {
                taken.insert(volume.name.clone());
                served.push(Served::By(volume));
            } else if class.provides(&node.facts.labels) {
                if !self.has_room(claim, class, node) {
                    return Err(FULL);
                }
                served.push(Served::ByProvisioner);
            } else {
                return Err(NOTHING);
            }
        }
        Ok(served)
    }

    /// Whether the driver, if it tells, has as much left where the node is.
    fn has_room(&self, claim: &Claim, class: &Class, node: &NodeInfo) -> bool {
        !self.storage.measured.contains(&class.provisioner)
            || self.storage.capacities.values().any(|capacity| {
                capacity.class == claim.class
                    && capacity.bytes >= claim.bytes
                    && capacity.nodes.matches(&node.facts.labels)
            })
    }
}

impl Filter for Volumes<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        for volume in &self.bound {
            if !volume.ok_or(LOST)?.reaches(node.name(), &node.facts.labels) {
                return Err(ELSEWHERE);
            }
        }
        self.serve(node).map(drop)
    }
}

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter, Point::Reserve, Point::PreBind]
    }

    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        if claims(pod).next().is_none() {
            return PreFilter::Skip;
        }
        match Volumes::of(pod, &all.surroundings().storage) {
            Ok(volumes) => PreFilter::Each(Box::new(volumes)),
            Err(rejection) => PreFilter::Nowhere(rejection),
        }
    }

    fn reserve(&self, pod: &PodInfo, all: &mut Snapshot, node: NodeId) -> Vec<Errand> {
        if claims(pod).next().is_none() {
            return Vec::new();
        }
        let node = all.node(node);
        let Ok(volumes) = Volumes::of(pod, &all.surroundings().storage) else { return Vec::new() };
        let Ok(served) = volumes.serve(node) else { return Vec::new() };
        let errands: Vec<Errand> = volumes
            .waiting
            .iter()
            .zip(served)
            .map(|(waiting, served)| match served {
                Served::By(volume) => Errand::BindVolume {
                    volume: volume.name.clone(),
                    claim: waiting.key.clone(),
                    uid: waiting.claim.uid.clone(),
                },
                Served::ByProvisioner => {
                    Errand::Provision { claim: waiting.key.clone(), node: node.name().into() }
                }
            })
            .collect();
        for errand in &errands {
            if let Errand::BindVolume { volume, claim, .. } = errand {
                all.storage().promised.insert(volume.clone(), claim.clone());
            }
        }
        errands
    }

    fn unreserve(&self, pod: &PodInfo, all: &mut Snapshot) {
        let claims: BTreeSet<ObjectKey> = claims(pod).collect();
        if !claims.is_empty() {
            all.storage().promised.retain(|_, claim| !claims.contains(claim));
        }
    }

    fn hint(&self, _: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        matches!(event, Event::StorageChanged)
            || event.node(|old, new| old.labels != new.labels || old.name != new.name).is_some()
    }
}
