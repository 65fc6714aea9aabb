//! VolumeRestrictions: disks that only one node, or one pod, may use.

use tiphys_client::ObjectKey;

use crate::{
    event::Event,
    framework::{Filter, Plugin, Point, PreFilter, Rejection},
    pod::PodInfo,
    snapshot::{NodeInfo, Snapshot, Surroundings, claims},
    volumes::{Disk, VolumeUse},
};

const NAME: &str = "VolumeRestrictions";
const DISK: Rejection = Rejection::new(NAME, "node(s) had no available disk");
const ONE_POD: Rejection = Rejection::new(
    NAME,
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode",
);

pub(super) struct VolumeRestrictions;

fn disks(pod: &PodInfo) -> impl Iterator<Item = &Disk> {
    pod.volumes.iter().filter_map(|volume| match volume {
        VolumeUse::Disk(disk) => Some(disk),
        _ => None,
    })
}

fn clash(pod: &PodInfo, other: &PodInfo) -> bool {
    disks(pod).any(|disk| disks(other).any(|theirs| disk.clashes(theirs)))
}

struct Alone<'a> {
    pod: &'a PodInfo,
    /// Claims that only one pod may use, and how many do.
    claims: Vec<(ObjectKey, i64)>,
}

impl Filter for Alone<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        if disks(self.pod).next().is_some() && node.pods.iter().any(|other| clash(self.pod, other)) {
            return Err(DISK);
        }
        if self.claims.iter().any(|(_, users)| *users > 0) { Err(ONE_POD) } else { Ok(()) }
    }

    fn shift(&mut self, other: &PodInfo, _: &NodeInfo, by: i64) {
        for claim in claims(other) {
            if let Some((_, users)) = self.claims.iter_mut().find(|(known, _)| *known == claim) {
                *users += by;
            }
        }
    }
}

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreFilter, Point::Filter]
    }
    fn pre_filter<'a>(&'a self, pod: &'a PodInfo, all: &'a Snapshot) -> PreFilter<'a> {
        let known = &all.surroundings().storage.claims;
        let for_one = claims(pod).filter(|key| known.get(key).is_some_and(|claim| claim.is_for_one_pod()));
        let counted = for_one.map(|key| (key.clone(), i64::try_from(all.users_of(&key)).unwrap_or(i64::MAX)));
        let claims: Vec<_> = counted.collect();
        if claims.is_empty() && disks(pod).next().is_none() {
            return PreFilter::Skip;
        }
        PreFilter::Each(Box::new(Alone { pod, claims }))
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        match event {
            Event::PodLeft(left) => {
                clash(pod, left) || claims(pod).any(|claim| claims(left).any(|theirs| theirs == claim))
            }
            Event::NodeAdded(_) | Event::StorageChanged => true,
            _ => false,
        }
    }
}
