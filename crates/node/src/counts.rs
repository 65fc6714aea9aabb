//! What the node counts of its own work, under upstream's names.
//!
//! As in every program of Kubernetes, these are counts of the process.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use tiphys_metrics::{Exposition, Kind};

use crate::probes::Outcome;

/// Images that containers mount (KEP-4639).
#[derive(Default)]
pub(crate) struct ImageVolumes {
    pub(crate) requested: AtomicU64,
    pub(crate) mounted: AtomicU64,
    pub(crate) failed: AtomicU64,
}

pub(crate) static IMAGE_VOLUMES: ImageVolumes =
    ImageVolumes { requested: AtomicU64::new(0), mounted: AtomicU64::new(0), failed: AtomicU64::new(0) };

impl ImageVolumes {
    pub(crate) fn expose(&self, text: &mut Exposition) {
        for (name, help, count) in [
            ("requested", "Images that were to be mounted.", &self.requested),
            ("mounted_succeed", "Images that were mounted.", &self.mounted),
            ("mounted_errors", "Images that could not be mounted.", &self.failed),
        ] {
            let name = format!("kubelet_image_volume_{name}_total");
            text.single(&name, Kind::Counter, help, count.load(Relaxed) as f64);
        }
    }
}

/// Tries of one probe of a running container; not shown any more when that is dropped.
pub(crate) struct Tries {
    /// In the order of [`NAMES`].
    labels: [String; 5],
    successful: AtomicU64,
    failed: AtomicU64,
    unknown: AtomicU64,
}

const NAMES: [&str; 5] = ["probe_type", "container", "pod", "namespace", "pod_uid"];
static PROBES: Mutex<Vec<Weak<Tries>>> = Mutex::new(Vec::new());

impl Tries {
    /// Labels are the probe's type, its container, and the pod's name, namespace and UID.
    pub(crate) fn of(labels: [String; 5]) -> Arc<Self> {
        let new = Self {
            labels,
            successful: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            unknown: AtomicU64::new(0),
        };
        let new = Arc::new(new);
        let mut all = PROBES.lock();
        all.retain(|tries| tries.strong_count() > 0);
        all.push(Arc::downgrade(&new));
        new
    }

    pub(crate) fn count(&self, outcome: &Outcome) {
        let count = match outcome {
            Outcome::Success | Outcome::Warning(_) => &self.successful,
            Outcome::Failure(_) => &self.failed,
            Outcome::Unknown(_) => &self.unknown,
        };
        count.fetch_add(1, Relaxed);
    }
}

/// `/metrics/probes`.
pub(crate) fn expose_probes(text: &mut Exposition) {
    let all: Vec<Arc<Tries>> = PROBES.lock().iter().filter_map(Weak::upgrade).collect();
    text.family("prober_probe_total", Kind::Counter, "Tries of the probes of containers that run.");
    for tries in all {
        for (result, count) in
            [("successful", &tries.successful), ("failed", &tries.failed), ("unknown", &tries.unknown)]
        {
            let count = count.load(Relaxed);
            if count > 0 {
                let labels = NAMES.into_iter().zip(tries.labels.iter().map(String::as_str));
                let labels: Vec<_> = labels.chain([("result", result)]).collect();
                text.sample(&labels, count as f64);
            }
        }
    }
}
