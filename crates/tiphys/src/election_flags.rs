//! The flags of a leader election, as upstream's components have them.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use kube::Client;
use serde::Deserialize;
use tiphys_client::election::{Election, NAMESPACE, Tenure, Timing};
use uuid::Uuid;

use crate::node_flags::duration;

/// Who of several processes works.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Leader election")]
pub(crate) struct ElectionFlags {
    /// Work only while this process has the lease; the others stand by [default: true].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) leader_elect: Option<bool>,
    /// How long others wait for a leader that does not renew its lease [default: 15s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) leader_elect_lease_duration: Option<Duration>,
    /// How long a leader goes on that cannot renew it [default: 10s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) leader_elect_renew_deadline: Option<Duration>,
    /// The time between attempts to get or renew it [default: 2s].
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) leader_elect_retry_period: Option<Duration>,
    /// What is used for locking: nothing but leases, as in upstream since 1.24.
    #[arg(long, value_name = "TYPE", value_parser = ["leases"])]
    pub(crate) leader_elect_resource_lock: Option<String>,
    /// The name of the lease; by default that of upstream's component.
    #[arg(long, value_name = "NAME")]
    pub(crate) leader_elect_resource_name: Option<String>,
    /// Its namespace [default: kube-system].
    #[arg(long, value_name = "NAMESPACE")]
    pub(crate) leader_elect_resource_namespace: Option<String>,
}

/// The `leaderElection` of a configuration file (`LeaderElectionConfiguration` of component-base).
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct ElectionFile {
    leader_elect: Option<bool>,
    lease_duration: Option<String>,
    renew_deadline: Option<String>,
    retry_period: Option<String>,
    resource_lock: Option<String>,
    resource_name: Option<String>,
    resource_namespace: Option<String>,
}

impl ElectionFlags {
    /// What flags do not say, a file may.
    ///
    /// # Errors
    /// Names the field that can't be read.
    pub(crate) fn or(self, file: ElectionFile) -> Result<Self> {
        let read = |field: &str, text: Option<String>| {
            let read = text.map(|text| duration(&text)).transpose().map_err(anyhow::Error::msg);
            read.with_context(|| format!("leaderElection.{field}"))
        };
        let lock = file.resource_lock.filter(|lock| !lock.is_empty());
        ensure!(
            lock.as_deref().is_none_or(|lock| lock == "leases"),
            "leaderElection.resourceLock: resourceLock value must be \"leases\""
        );
        let lease = read("leaseDuration", file.lease_duration)?;
        let renew = read("renewDeadline", file.renew_deadline)?;
        let retry = read("retryPeriod", file.retry_period)?;
        Ok(Self {
            leader_elect: self.leader_elect.or(file.leader_elect),
            leader_elect_lease_duration: self.leader_elect_lease_duration.or(lease),
            leader_elect_renew_deadline: self.leader_elect_renew_deadline.or(renew),
            leader_elect_retry_period: self.leader_elect_retry_period.or(retry),
            leader_elect_resource_lock: self.leader_elect_resource_lock.or(lock),
            leader_elect_resource_name: self.leader_elect_resource_name.or(file.resource_name),
            leader_elect_resource_namespace: self.leader_elect_resource_namespace.or(file.resource_namespace),
        })
    }

    /// The election, by default for the lease called `name`; `None` if there is to be none. The identity is the
    /// host's name with a random part, so that a process never takes another for itself.
    ///
    /// # Errors
    /// Times by which two might lead at once.
    pub(crate) fn election(&self, name: &str, client: Client) -> Result<Option<Election>> {
        if self.leader_elect == Some(false) {
            return Ok(None);
        }
        let usual = Timing::default();
        let timing = Timing {
            lease_duration: self.leader_elect_lease_duration.unwrap_or(usual.lease_duration),
            renew_deadline: self.leader_elect_renew_deadline.unwrap_or(usual.renew_deadline),
            retry_period: self.leader_elect_retry_period.unwrap_or(usual.retry_period),
        };
        timing.check().context("the times of the leader election")?;
        let host = nix::unistd::gethostname().context("asking for the host's name")?;
        let or = |flag: &Option<String>, usual: &str| {
            flag.as_deref().filter(|name| !name.is_empty()).unwrap_or(usual).to_owned()
        };
        Ok(Some(Election {
            client,
            namespace: or(&self.leader_elect_resource_namespace, NAMESPACE),
            name: or(&self.leader_elect_resource_name, name),
            identity: format!("{}_{}", host.to_string_lossy(), Uuid::new_v4()),
            tenure: Tenure::Renewed(timing),
        }))
    }
}

#[cfg(test)]
#[path = "election_flags_tests.rs"]
mod tests;
