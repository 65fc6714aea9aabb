//! What the scheduler counts, under upstream's names.
//!
//! As in every program of Kubernetes, these are counts of the process.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_openapi::api::resource::v1::AllocationResult;
use tiphys_client::devices::given;
use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use crate::devices::binding;

/// Each twice the one before, from a tenth of a second.
static WAITS: [f64; 14] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];
/// Sets of labels that are counted apart.
const SERIES: usize = 1024;

/// Devices that had to be made ready before their pod was bound (KEP-5007), by profile, driver and what came of it.
static AWAITED: LazyLock<Table<3, Awaited>> = LazyLock::new(|| Table::new(SERIES));

struct Awaited {
    /// Devices with conditions.
    allocations: AtomicU64,
    /// How long the pods of devices waited, of those without conditions, too.
    waited: Histogram,
}

/// A pod of the profile has waited for these devices; `status` says what came of it.
pub(crate) fn devices_awaited<'a>(
    profile: &str,
    status: &str,
    allocations: impl Iterator<Item = &'a AllocationResult>,
    waited: Duration,
) {
    for device in allocations.flat_map(given) {
        let make = || Awaited { allocations: AtomicU64::new(0), waited: Histogram::new(&WAITS) };
        let awaited = AWAITED.entry([profile, &device.driver, status], make);
        awaited.waited.observe_time(waited);
        if binding::is_conditional(device) {
            awaited.allocations.fetch_add(1, Relaxed);
        }
    }
}

/// Adds everything that was counted in this process.
pub fn expose(text: &mut Exposition) {
    fn labels([profile, driver, status]: [&str; 3]) -> [(&'static str, &str); 3] {
        [("profile", profile), ("driver", driver), ("status", status)]
    }
    let all = AWAITED.entries();
    let help = "Devices that had to be made ready, by what came of it.";
    text.family("scheduler_dra_bindingconditions_allocations_total", Kind::Counter, help);
    for (of, awaited) in &all {
        let count = awaited.allocations.load(Relaxed);
        if count > 0 {
            text.sample(&labels(*of), count as f64);
        }
    }
    let help = "How long pods waited until their devices were ready.";
    text.family("scheduler_dra_bindingconditions_wait_duration_seconds", Kind::Histogram, help);
    for (of, awaited) in &all {
        text.histogram(&labels(*of), &awaited.waited);
    }
}
