//! The status of a Deployment, and how its rollout is coming along.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{
    numbers::Bounds,
    sets::{available, replicas},
};
use crate::object::Object;

const PROGRESSING: &str = "Progressing";
const AVAILABLE: &str = "Available";
const FAILURE: &str = "ReplicaFailure";

const FOUND_NEW: &str = "FoundNewReplicaSet";
const CREATED_NEW: &str = "NewReplicaSetCreated";
pub(super) const CREATE_FAILED: &str = "ReplicaSetCreateError";
const UPDATED: &str = "ReplicaSetUpdated";
const NEW_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
const PAUSED: &str = "DeploymentPaused";
const RESUMED: &str = "DeploymentResumed";

/// Upstream's way of saying that there is no deadline.
const NO_DEADLINE: i32 = i32::MAX;

/// What has just become of the new set, which starts the clock of the progress deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    None,
    Created,
    Found,
}

fn condition(kind: &str, status: &str, reason: &str, message: String, now: Timestamp) -> DeploymentCondition {
    DeploymentCondition {
        type_: Some(kind.to_owned()),
        status: Some(status.to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    }
}

fn find<'a>(status: &'a DeploymentStatus, kind: &str) -> Option<&'a DeploymentCondition> {
    status.conditions.as_ref()?.iter().find(|c| c.type_.as_deref() == Some(kind))
}

fn remove(status: &mut DeploymentStatus, kind: &str) {
    if let Some(conditions) = &mut status.conditions {
        conditions.retain(|c| c.type_.as_deref() != Some(kind));
    }
}

/// Sets a condition; nothing changes if it says the same already, and the transition time only with its status.
fn set(status: &mut DeploymentStatus, mut new: DeploymentCondition) {
    let old = new.type_.as_deref().and_then(|kind| find(status, kind));
    if let Some(old) = old {
        if old.status == new.status && old.reason == new.reason {
            return;
        }
        if old.status == new.status {
            new.last_transition_time.clone_from(&old.last_transition_time);
        }
    }
    replace(status, new);
}

fn replace(status: &mut DeploymentStatus, new: DeploymentCondition) {
    if let Some(kind) = new.type_.clone() {
        remove(status, &kind);
    }
    status.conditions.get_or_insert_default().push(new);
}

fn has_reason(status: &DeploymentStatus, reason: &str) -> bool {
    find(status, PROGRESSING).is_some_and(|c| c.reason.as_deref() == Some(reason))
}

/// The next status, and when to look again because a deadline may then have passed.
pub(super) fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    news: News,
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let old = deployment.status.clone().unwrap_or_default();
    let bounds = Bounds::of(deployment);
    let sum = |of: fn(&ReplicaSet) -> i32| all.iter().map(|s| of(s)).sum::<i32>();
    let running = |s: &ReplicaSet| s.status.as_ref().map_or(0, |s| s.replicas);
    let available_now = sum(available);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(sum(running)),
        updated_replicas: Some(new.map_or(0, running)),
        ready_replicas: Some(sum(|s| s.status.as_ref().and_then(|s| s.ready_replicas).unwrap_or(0))),
        available_replicas: Some(available_now),
        unavailable_replicas: Some((sum(replicas) - available_now).max(0)),
        terminating_replicas: Some(sum(|s| {
            s.status.as_ref().and_then(|s| s.terminating_replicas).unwrap_or(0)
        })),
        collision_count: old.collision_count,
        conditions: old.conditions.clone(),
    };
    set(
        &mut status,
        if available_now >= bounds.fewest() {
            condition(
                AVAILABLE,
                "True",
                "MinimumReplicasAvailable",
                "Deployment has minimum availability.".into(),
                now,
            )
        } else {
            let message = "Deployment does not have minimum availability.".into();
            condition(AVAILABLE, "False", "MinimumReplicasUnavailable", message, now)
        },
    );
    let look_again = progress(deployment, new, all, news, &old, &mut status, now);
    // What keeps the new set from its pods matters more than what keeps an old one.
    let failure = new.into_iter().chain(all.iter().map(|s| &**s)).find_map(|s| {
        let conditions = s.status.as_ref()?.conditions.as_ref()?;
        conditions.iter().find(|c| c.type_.as_deref() == Some(FAILURE) && c.status.as_deref() == Some("True"))
    });
    match failure {
        Some(f) => {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            set(&mut status, condition(FAILURE, "True", &text(&f.reason), text(&f.message), now));
        }
        None => remove(&mut status, FAILURE),
    }
    (status, look_again)
}

/// The status that says why there is no new set: otherwise as it was, since nothing has come of the rest.
pub(super) fn refused(deployment: &Deployment, message: String, now: Timestamp) -> DeploymentStatus {
    let mut status = deployment.status.clone().unwrap_or_default();
    if deadline(deployment).is_some() {
        set(&mut status, condition(PROGRESSING, "False", CREATE_FAILED, message, now));
    }
    status
}

fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment.spec.progress_deadline_seconds.filter(|d| *d != NO_DEADLINE)
}

fn progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[Arc<ReplicaSet>],
    news: News,
    old: &DeploymentStatus,
    status: &mut DeploymentStatus,
    now: Timestamp,
) -> Option<Duration> {
    let spec = &deployment.spec;
    let Some(deadline) = deadline(deployment) else {
        remove(status, PROGRESSING);
        return None;
    };
    if spec.paused == Some(true) {
        if !has_reason(status, TIMED_OUT) {
            set(status, condition(PROGRESSING, "Unknown", PAUSED, "Deployment is paused".into(), now));
        }
        return None;
    }
    if has_reason(status, PAUSED) {
        set(status, condition(PROGRESSING, "Unknown", RESUMED, "Deployment is resumed".into(), now));
    }
    let about = |done: &str| match new {
        Some(set) => format!("ReplicaSet {:?} {done}", set.name()),
        None => format!("Deployment {:?} {done}", deployment.name()),
    };
    match news {
        News::Created => {
            let message = new.map(|s| format!("Created new replica set {:?}", s.name())).unwrap_or_default();
            set(status, condition(PROGRESSING, "True", CREATED_NEW, message, now));
        }
        News::Found if find(status, PROGRESSING).is_none() => {
            let message = new.map(|s| format!("Found new replica set {:?}", s.name())).unwrap_or_default();
            set(status, condition(PROGRESSING, "True", FOUND_NEW, message, now));
        }
        _ => {}
    }
    let settled = status.replicas == status.updated_replicas && has_reason(status, NEW_AVAILABLE);
    if settled {
        return None;
    }
    let wanted = Some(spec.replicas.unwrap_or(1));
    let old_running = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    if status.updated_replicas == wanted && status.replicas == wanted && status.available_replicas == wanted {
        set(
            status,
            condition(PROGRESSING, "True", NEW_AVAILABLE, about("has successfully progressed."), now),
        );
        return None;
    }
    let moved = status.updated_replicas.unwrap_or(0) > old.updated_replicas.unwrap_or(0)
        || old_running(status) < old_running(old)
        || status.ready_replicas.unwrap_or(0) > old.ready_replicas.unwrap_or(0)
        || status.available_replicas.unwrap_or(0) > old.available_replicas.unwrap_or(0);
    if moved {
        let mut next = condition(PROGRESSING, "True", UPDATED, about("is progressing."), now);
        if let Some(current) = find(status, PROGRESSING)
            && current.status == next.status
        {
            next.last_transition_time.clone_from(&current.last_transition_time);
        }
        // Each step forward restarts the clock, which counts from the last update.
        replace(status, next);
    }
    let current = find(status, PROGRESSING)?;
    if current.reason.as_deref() == Some(NEW_AVAILABLE) || current.reason.as_deref() == Some(TIMED_OUT) {
        return None;
    }
    let since = current.last_update_time.as_ref().map_or(now, |t| t.0);
    let been = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let allowed = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
    let unfinished = all.iter().any(|s| replicas(s) > 0) || wanted != Some(0);
    if been > allowed {
        set(status, condition(PROGRESSING, "False", TIMED_OUT, about("has timed out progressing."), now));
        None
    } else {
        unfinished.then(|| allowed - been + Duration::from_secs(1))
    }
}

/// Whether the rollout is over and nothing of the old is left.
pub(super) fn complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = Some(Bounds::of(deployment).wanted);
    status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
        && status.observed_generation >= deployment.metadata.generation
}
