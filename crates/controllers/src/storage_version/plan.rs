//! What a migration needs next. Pure.

use jiff::Timestamp;
use k8s_openapi::{
    api::storagemigration::v1::StorageVersionMigration,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::discovery::ApiResource;

use crate::{discovery::Discovered, object::Object};

/// What a migration can come to, by its condition's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Running,
    Succeeded,
    Failed,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::Running => "StorageVersionMigrationInProgress",
            Self::Succeeded => "StorageVersionMigrationSucceeded",
            Self::Failed => "StorageVersionMigrationFailed",
        }
    }
}

fn conditions(migration: &StorageVersionMigration) -> &[Condition] {
    migration.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default()
}

fn is(migration: &StorageVersionMigration, state: State) -> bool {
    conditions(migration).iter().any(|c| c.type_ == state.name() && c.status == "True")
}

/// Whether nothing more is to be done for it, ever.
pub(super) fn is_over(migration: &StorageVersionMigration) -> bool {
    migration.is_going() || is(migration, State::Succeeded) || is(migration, State::Failed)
}

/// The conditions of a migration that has come to `state`; `None`: it says so already. What has ended runs no more.
pub(super) fn come_to(
    migration: &StorageVersionMigration,
    state: State,
    message: &str,
    now: Timestamp,
) -> Option<Vec<Condition>> {
    if is(migration, state) {
        return None;
    }
    let mut all = conditions(migration).to_vec();
    all.retain(|condition| condition.type_ != state.name());
    for running in all.iter_mut().filter(|c| c.type_ == State::Running.name() && c.status == "True") {
        "False".clone_into(&mut running.status);
        running.last_transition_time = Time(now);
    }
    all.push(Condition {
        type_: state.name().to_owned(),
        status: "True".to_owned(),
        reason: state.reason().to_owned(),
        message: message.to_owned(),
        last_transition_time: Time(now),
        observed_generation: None,
    });
    Some(all)
}

/// What a migration is about, as far as the server tells.
#[derive(Debug)]
pub(super) enum Target<'a> {
    Collection(&'a ApiResource),
    /// There is none of that name.
    Nothing,
    /// A version of the group does not answer, and may have it.
    Unknown,
}

/// Finds what is to be migrated: a collection whose objects can be listed and patched.
pub(super) fn target<'a>(migration: &StorageVersionMigration, found: &'a Discovered) -> Target<'a> {
    let Some(wanted) = migration.spec.as_ref().map(|spec| &spec.resource) else { return Target::Nothing };
    let group = wanted.group.as_str();
    let named = found.served.iter().find(|served| {
        let in_group = served.resource.group == group || served.also_in.iter().any(|other| other == group);
        in_group && served.resource.plural == wanted.resource && served.can(&["list", "patch"])
    });
    match named {
        Some(served) => Target::Collection(&served.resource),
        None if found.failed.iter().any(|(version, _)| group_of(version) == group) => Target::Unknown,
        None => Target::Nothing,
    }
}

fn group_of(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// What became of one object that was to be written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is stored in the current version, by us or by who changed it meanwhile, or is gone.
    Migrated,
    /// Nobody can say yet.
    Later,
    /// The server will not have it, however often it is asked.
    Refused,
}

pub(super) fn outcome<T>(answer: &Result<T, kube::Error>) -> Outcome {
    match answer {
        Ok(_) => Outcome::Migrated,
        Err(kube::Error::Api(status)) => match status.code {
            404 | 409 => Outcome::Migrated,
            // Permissions too may come later: a cluster's own are made while it starts.
            401 | 403 | 408 | 429 | 500.. => Outcome::Later,
            _ => Outcome::Refused,
        },
        Err(_) => Outcome::Later,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
