//! Plugins that are names for what the queue and the runner do: SchedulingGates, PrioritySort, DefaultBinder.

use crate::{
    framework::{Plugin, Point},
    pod::PodInfo,
    snapshot::Surroundings,
};

/// A pod with scheduling gates waits until they have all been removed (KEP-3521).
pub(super) struct SchedulingGates;

impl Plugin for SchedulingGates {
    fn name(&self) -> &'static str {
        "SchedulingGates"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PreEnqueue]
    }
    fn pre_enqueue(&self, pod: &PodInfo, _: &Surroundings) -> Result<(), String> {
        if pod.gates.is_empty() {
            return Ok(());
        }
        Err(format!("waiting for scheduling gates: [{}]", pod.gates.join(" ")))
    }
}

/// Pods of higher priority come first: the order of the queue.
pub(super) struct PrioritySort;

impl Plugin for PrioritySort {
    fn name(&self) -> &'static str {
        "PrioritySort"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::QueueSort]
    }
}

/// Writes the binding: what the runner does.
pub(super) struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }
}
