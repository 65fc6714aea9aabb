//! What expires: many records share a lease, because each lease costs etcd memory and a timer.

use std::{collections::HashMap, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::{
    client::{Client, Failure},
    wire::{LeaseGrantRequest, lease_client::LeaseClient},
};

/// Records of a lease expire up to so much later than they might, but no more than a twentieth of their time.
const SLACK: Duration = Duration::from_secs(60);
/// Etcd ends a lease with all its records in one step, which should not take long.
const RECORDS: usize = 1000;
/// How many lengths of life are remembered.
const LENGTHS: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Leases(Mutex<HashMap<Duration, Lease>>);

#[derive(Clone, Copy, Debug)]
struct Lease {
    id: i64,
    /// Until then, what it is given lives long enough.
    open: Instant,
    records: usize,
}

impl Leases {
    /// A lease for a record that lives so long from now on.
    pub(super) async fn lease(&self, client: &Client, ttl: Duration) -> Result<i64, Failure> {
        let mut all = self.0.lock().await;
        if let Some(lease) = all.get_mut(&ttl)
            && lease.records < RECORDS
            && Instant::now() <= lease.open
        {
            lease.records += 1;
            return Ok(lease.id);
        }
        let slack = SLACK.min(ttl / 20);
        let seconds = (ttl + slack).as_millis().div_ceil(1000);
        let request = LeaseGrantRequest { ttl: i64::try_from(seconds).unwrap_or(i64::MAX) };
        // It counts from when etcd has made it, which is later than this.
        let begun = Instant::now();
        let grant = |channel| async move { LeaseClient::new(channel).lease_grant(request).await };
        // A lease that nobody hears of ends by itself.
        let id = client.read(grant).await?.id;
        if all.len() >= LENGTHS {
            all.retain(|_, lease| lease.open >= begun);
        }
        all.insert(ttl, Lease { id, open: begun + slack, records: 1 });
        Ok(id)
    }

    /// Gives no record to leases that may have ended.
    pub(super) async fn forget(&self) {
        self.0.lock().await.clear();
    }
}
