//! Laws of HorizontalPodAutoscalers.

use serde_json::Value;

use super::{Change, Laws, Verdict, World, at, is_active, is_ready, number, uid};

/// A namespace whose pods have to share what is asked of them.
pub(crate) const ELASTIC: &str = "elastic";
/// What each of them is to use on average, in thousandths of a processor: half of what it asks for.
const AIM: u64 = 100;
/// The tolerance of a tenth, and what rounding takes.
const TOLERANCE: f64 = 0.13;

fn pods(world: &World) -> u64 {
    let pods = world.all("core/pods", ELASTIC).filter(|pod| is_active(pod) && is_ready(pod));
    pods.count() as u64
}

/// What each of the pods has to do.
pub(super) fn share(world: &World, demand: u64) -> u64 {
    demand / pods(world).max(1)
}

/// An autoscaler never asks for fewer or more than it may.
pub(super) fn range(_: &Laws, world: &World, change: &Change<'_>) -> Verdict {
    let (Some(old), Some(new)) = (change.old, change.new) else { return Ok(()) };
    let (before, after) = (number(old, "/spec/replicas"), number(new, "/spec/replicas"));
    if change.user != "horizontal-pod-autoscaler" || before == after {
        return Ok(());
    }
    let mut all = world.all("autoscaling/horizontalpodautoscalers", change.namespace);
    let of = at(new, "/metadata/name");
    let scaler = all.find(|scaler| at(scaler, "/spec/scaleTargetRef/name") == of);
    let Some((least, most, _)) = scaler.and_then(|scaler| world.bounds(uid(scaler))) else {
        return Err("scaled by nobody".to_owned());
    };
    // It goes to its limits in steps.
    if (after < least && after < before) || (after > most && after > before) {
        return Err(format!("{after} replicas where {least} to {most} may be"));
    }
    Ok(())
}

/// In the end the target has what its pods' work asks for.
pub(super) fn complain(world: &World, scaler: &Value, demand: u64, say: &mut dyn FnMut(String)) {
    let name = at(scaler, "/spec/scaleTargetRef/name");
    let mut targets = world.all("apps/deployments", ELASTIC);
    let Some(target) = targets.find(|target| at(target, "/metadata/name") == name) else { return };
    let has = number(target, "/spec/replicas");
    let (least, most) = (number(scaler, "/spec/minReplicas"), number(scaler, "/spec/maxReplicas"));
    let asked = i64::try_from(demand.div_ceil(AIM)).unwrap_or(i64::MAX).clamp(least, most);
    let ratio = demand as f64 / AIM as f64 / has.max(1) as f64;
    let is_near = (least..=most).contains(&has) && (ratio - 1.0).abs() <= TOLERANCE;
    if has != asked && !is_near {
        say(format!("its target has {has} replicas, and {demand}m ask for {asked}"));
    }
    for field in ["currentReplicas", "desiredReplicas"] {
        let told = number(scaler, &format!("/status/{field}"));
        if told != has {
            say(format!("{field} is {told}, not {has}"));
        }
    }
}
