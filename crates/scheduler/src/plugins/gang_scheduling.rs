//! GangScheduling: of the pods of a PodGroup, as many at once as it asks for, or none (KEP-4671).
//!
//! The plugin keeps pods out of the queue until there are enough of them. That enough find nodes in one cycle sees
//! [`crate::gang`] to.

use crate::{
    event::Event,
    framework::{Plugin, Point},
    pod::PodInfo,
    snapshot::Surroundings,
};

pub(crate) const NAME: &str = "GangScheduling";

pub(super) struct GangScheduling;

impl Plugin for GangScheduling {
    fn name(&self) -> &'static str {
        NAME
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }
    fn pre_enqueue(&self, pod: &PodInfo, around: &Surroundings) -> Result<(), String> {
        let Some(key) = &pod.group else { return Ok(()) };
        let group = around.groups.get(key);
        let Some(policy) = group.and_then(|group| group.policy.as_ref()) else {
            return Err(format!(
                "waiting for pod's pod group \"{}\" to appear in scheduling queue",
                key.name
            ));
        };
        let members = group.map_or(0, |group| group.members.len());
        if policy.gang.is_some_and(|least| members < least) {
            return Err("waiting for minCount pods from a gang to appear in scheduling queue".to_owned());
        }
        Ok(())
    }
    fn hint(&self, pod: &PodInfo, event: &Event<'_>, _: &Surroundings) -> bool {
        pod.group.is_some() && matches!(event, Event::GroupsChanged)
    }
}
