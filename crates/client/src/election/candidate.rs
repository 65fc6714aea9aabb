//! What a candidate does, given what it sees. No I/O.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use tokio::time::Instant;

/// How long things take; the names are those of client-go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others wait for a leader that is not heard of.
    pub lease_duration: Duration,
    /// How long a leader goes on without a renewal that succeeds.
    pub renew_deadline: Duration,
    /// Between attempts to get or to renew the lease.
    pub retry_period: Duration,
}

impl Default for Timing {
    /// What upstream's components have.
    fn default() -> Self {
        Self {
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }
}

/// Times by which two might lead at once, or nobody for long.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    #[error("leaseDuration must be greater than renewDeadline")]
    Deadline,
    #[error("renewDeadline must be greater than retryPeriod*JitterFactor")]
    Retry,
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
}

/// Attempts to get a lease are up to this much of the period further apart than the period.
pub(super) const JITTER: f64 = 1.2;

impl Timing {
    /// # Errors
    /// The rules of client-go.
    pub fn check(&self) -> Result<(), TimingError> {
        if self.lease_duration <= self.renew_deadline {
            return Err(TimingError::Deadline);
        }
        if self.renew_deadline <= self.retry_period.mul_f64(JITTER) {
            return Err(TimingError::Retry);
        }
        if self.retry_period.is_zero() {
            return Err(TimingError::Zero("retryPeriod"));
        }
        Ok(())
    }
}

/// For how long one leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tenure {
    /// As long as the lease is renewed.
    Renewed(Timing),
    /// Without end, written down once: for who is there whenever the API is. Others learn that they need not wait.
    Standing,
}

impl Tenure {
    /// What the lease says, in whole seconds: rather more than less.
    fn seconds(self) -> i32 {
        let Self::Renewed(timing) = self else { return i32::MAX };
        let (seconds, part) = (timing.lease_duration.as_secs(), timing.lease_duration.subsec_nanos());
        i32::try_from(seconds + u64::from(part > 0)).unwrap_or(i32::MAX)
    }
}

/// What a candidate is to do next.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nobody has ever been elected.
    Create(Lease),
    /// Take the lease, or renew it. The version is the one that was seen: who comes second conflicts.
    Replace(Lease),
    /// The lease is this candidate's for good.
    Lead,
    /// It is another's.
    Wait,
}

/// One who may lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    me: String,
    tenure: Tenure,
    /// The lease as it is known, and since when it says what it says.
    seen: Option<(Lease, Instant)>,
    /// When the write was sent by which the lease was got or renewed last.
    renewed: Option<Instant>,
}

impl Candidate {
    /// `me` is nobody else's name, also not that of an earlier process that might still run.
    pub fn new(me: impl Into<String>, tenure: Tenure) -> Self {
        Self { me: me.into(), tenure, seen: None, renewed: None }
    }

    /// Who has the lease, as far as is known.
    pub fn holder(&self) -> Option<&str> {
        holder(&self.seen.as_ref()?.0)
    }

    /// The UID of the lease, once it is known.
    pub fn uid(&self) -> Option<&str> {
        self.seen.as_ref()?.0.metadata.uid.as_deref()
    }

    /// Takes in what the API said of the lease when it was asked at `now`.
    pub fn see(&mut self, lease: Option<Lease>, now: Instant) {
        let since = match (&self.seen, &lease) {
            (Some((known, since)), Some(lease)) if known.spec == lease.spec => *since,
            _ => now,
        };
        self.seen = lease.map(|lease| (lease, since));
        if self.holder() != Some(&self.me) {
            self.renewed = None;
        }
    }

    /// What to do at `now`; `wall` is what the lease will say of that, for people.
    pub fn step(&self, now: Instant, wall: Timestamp) -> Step {
        let Some((lease, since)) = &self.seen else {
            return Step::Create(Lease { spec: Some(self.record(wall, None, 0)), ..Lease::default() });
        };
        let known = lease.spec.clone().unwrap_or_default();
        let transitions = known.lease_transitions.unwrap_or(0);
        let mine = holder(lease) == Some(&self.me);
        let over = *since + Duration::from_secs(known.lease_duration_seconds.unwrap_or(0).max(0) as u64);
        if !mine && holder(lease).is_some() && now < over {
            return Step::Wait;
        }
        if mine && self.tenure == Tenure::Standing && known.lease_duration_seconds == Some(i32::MAX) {
            return Step::Lead;
        }
        let mut lease = lease.clone();
        let record = match mine {
            true => self.record(wall, known.acquire_time.clone(), transitions),
            false => self.record(wall, None, transitions.saturating_add(1)),
        };
        lease.spec =
            Some(LeaseSpec { strategy: known.strategy, preferred_holder: known.preferred_holder, ..record });
        Step::Replace(lease)
    }

    fn record(&self, wall: Timestamp, acquired: Option<MicroTime>, transitions: i32) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: Some(self.tenure.seconds()),
            acquire_time: Some(acquired.unwrap_or(MicroTime(wall))),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        }
    }

    /// A write of this candidate's that was sent at `sent` has succeeded and left `lease`.
    pub fn wrote(&mut self, lease: Lease, sent: Instant) {
        self.renewed = (holder(&lease) == Some(&self.me)).then_some(sent);
        self.seen = Some((lease, sent));
    }

    /// Until when this candidate leads if it hears nothing more; `None` if it does not.
    pub fn leads_until(&self) -> Option<Instant> {
        let Tenure::Renewed(timing) = self.tenure else { return None };
        Some(self.renewed? + timing.renew_deadline)
    }

    /// What is written to let others lead at once; `None` if the lease is not this candidate's.
    pub fn release(&self, wall: Timestamp) -> Option<Lease> {
        let mut lease = self.seen.as_ref()?.0.clone();
        if holder(&lease) != Some(&self.me) {
            return None;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = None;
        spec.lease_duration_seconds = Some(1);
        spec.acquire_time = Some(MicroTime(wall));
        spec.renew_time = Some(MicroTime(wall));
        Some(lease)
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

#[cfg(test)]
#[path = "candidate_tests.rs"]
mod tests;
