//! How the files are followed that say who is believed and who is asked for permissions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{SystemTime, UNIX_EPOCH};

use tiphys_metrics::{Exposition, Kind};

/// A file that is followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Configuration {
    /// Who is believed.
    Authentication,
    /// Who is asked.
    Authorization,
}

/// By configuration: changes that were taken in, and those that were not.
#[derive(Default)]
pub(crate) struct Reloads([[Reload; 2]; 2]);

#[derive(Default)]
struct Reload {
    total: AtomicU64,
    /// Milliseconds since 1970.
    last: AtomicU64,
}

impl Reloads {
    pub(crate) fn ended(&self, what: Configuration, done: bool, now: SystemTime) {
        let reload = &self.0[what as usize][usize::from(!done)];
        reload.total.fetch_add(1, Relaxed);
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        reload.last.store(u64::try_from(now).unwrap_or(u64::MAX), Relaxed);
    }

    /// `id` tells servers apart.
    pub(crate) fn expose(&self, id: &str, text: &mut Exposition) {
        for (subsystem, reloads) in ["authentication", "authorization"].into_iter().zip(&self.0) {
            let name = |what: &str| format!("apiserver_{subsystem}_config_controller_automatic_reload{what}");
            let happened = || {
                let named = ["success", "failure"].into_iter().zip(reloads);
                named.filter(|(_, reload)| reload.total.load(Relaxed) > 0)
            };
            text.family(&name("s_total"), Kind::Counter, "Changes of the configuration.");
            for (status, reload) in happened() {
                let labels = [("status", status), ("apiserver_id_hash", id)];
                text.sample(&labels, reload.total.load(Relaxed) as f64);
            }
            let help = "When the configuration changed last, in seconds since 1970.";
            text.family(&name("_last_timestamp_seconds"), Kind::Gauge, help);
            for (status, reload) in happened() {
                let labels = [("status", status), ("apiserver_id_hash", id)];
                text.sample(&labels, reload.last.load(Relaxed) as f64 / 1000.0);
            }
        }
    }
}
