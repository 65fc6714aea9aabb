//! What the scheduler counts, under upstream's names.
//!
//! As in every program of Kubernetes, these are counts of the process. What one sees of the queue is read from it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, LazyLock, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use k8s_openapi::api::resource::v1::AllocationResult;
use parking_lot::Mutex;
use tiphys_client::devices::given;
use tiphys_metrics::{Exposition, Histogram, Kind, Table};

use crate::{devices::binding, framework::Point};

/// Each twice the one before, from a tenth of a second.
static WAITS: [f64; 14] = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6, 819.2];
/// The same from 100 µs, from a millisecond, and from a hundredth of a second.
static POINTS: [f64; 12] =
    [0.0001, 0.0002, 0.0004, 0.0008, 0.0016, 0.0032, 0.0064, 0.0128, 0.0256, 0.0512, 0.1024, 0.2048];
static ATTEMPTS: [f64; 15] = [
    0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384,
];
static SLI: [f64; 20] = [
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92, 163.84, 327.68,
    655.36, 1310.72, 2621.44, 5242.88,
];
static NUMBERS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];
static VICTIMS: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
/// Sets of labels that are counted apart.
const SERIES: usize = 1024;
/// Pods that needed as many attempts or more are counted together.
const MANY_ATTEMPTS: u32 = 15;

/// Devices that had to be made ready before their pod was bound (KEP-5007), by profile, driver and what came of it.
static AWAITED: LazyLock<Table<3, Awaited>> = LazyLock::new(|| Table::new(SERIES));
static COUNTS: LazyLock<Counts> = LazyLock::new(|| Counts {
    points: Table::new(SERIES),
    attempts: Table::new(SERIES),
    sli: Table::new(SERIES),
    numbers: Histogram::new(&NUMBERS),
    preemptions: AtomicU64::new(0),
    victims: Histogram::new(&VICTIMS),
});
static QUEUES: Mutex<Vec<Weak<dyn Watched>>> = Mutex::new(Vec::new());

struct Awaited {
    /// Devices with conditions.
    allocations: AtomicU64,
    /// How long the pods of devices waited, of those without conditions, too.
    waited: Histogram,
}

struct Counts {
    /// By extension point, status and profile.
    points: Table<3, Histogram>,
    /// By result and profile.
    attempts: Table<2, Histogram>,
    /// From the first attempt, by how many it took.
    sli: Table<1, Histogram>,
    /// How many attempts it took.
    numbers: Histogram,
    preemptions: AtomicU64,
    victims: Histogram,
}

/// Who has a queue.
pub(crate) trait Watched: Send + Sync {
    fn read(&self) -> Reading;
}

/// What a queue tells of itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// Pods by where they wait.
    pub(crate) pending: BTreeMap<&'static str, usize>,
    /// Pods that a plugin keeps from all nodes, by its name and that of the scheduler.
    pub(crate) unschedulable: BTreeMap<(&'static str, Box<str>), usize>,
    /// Pods that came to wait somewhere, by where and why.
    pub(crate) incoming: BTreeMap<(&'static str, &'static str), u64>,
}

/// Shows a queue for as long as it is there.
pub(crate) fn watch(queue: &Arc<dyn Watched>) {
    let mut queues = QUEUES.lock();
    queues.retain(|queue| queue.strong_count() > 0);
    queues.push(Arc::downgrade(queue));
}

/// The clock of a cycle, which stops after each extension point.
pub(crate) struct Laps<'a> {
    profile: &'a str,
    lap: Instant,
}

impl<'a> Laps<'a> {
    pub(crate) fn begin(profile: &'a str) -> Self {
        Self { profile, lap: Instant::now() }
    }

    pub(crate) fn end(&mut self, point: Point, status: &str) {
        let (now, point) = (Instant::now(), point.title());
        let seconds = COUNTS.points.entry([point, status, self.profile], || Histogram::new(&POINTS));
        seconds.observe_time(now - self.lap);
        self.lap = now;
    }
}

/// An attempt to place a pod.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tried {
    pub(crate) begun: Instant,
    /// How many it makes with those before, and when the first began.
    pub(crate) attempts: u32,
    pub(crate) first: tokio::time::Instant,
}

impl Tried {
    /// The pod was bound.
    pub(crate) fn scheduled(&self, profile: &str) {
        self.ended("scheduled", profile);
        COUNTS.numbers.observe(f64::from(self.attempts));
        let (number, many) = (self.attempts.to_string(), format!("{MANY_ATTEMPTS}+"));
        let attempts = if self.attempts < MANY_ATTEMPTS { number } else { many };
        COUNTS.sli.entry([&attempts], || Histogram::new(&SLI)).observe_time(self.first.elapsed());
    }

    /// Nothing has come of it: `error`, or `unschedulable`.
    pub(crate) fn ended(&self, result: &str, profile: &str) {
        let seconds = COUNTS.attempts.entry([result, profile], || Histogram::new(&ATTEMPTS));
        seconds.observe_time(self.begun.elapsed());
    }
}

/// Room was looked for.
pub(crate) fn preempting() {
    COUNTS.preemptions.fetch_add(1, Relaxed);
}

/// So many have to go.
pub(crate) fn victims(number: usize) {
    COUNTS.victims.observe(number as f64);
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
    COUNTS.expose(text);
    expose_queues(text);
    expose_devices(text);
}

impl Counts {
    fn expose(&self, text: &mut Exposition) {
        let attempts = self.attempts.entries();
        text.family("scheduler_schedule_attempts_total", Kind::Counter, "Attempts to place pods.");
        for ([result, profile], seconds) in &attempts {
            text.sample(&[("result", result), ("profile", profile)], seconds.count() as f64);
        }
        let help = "How long attempts to place pods took, bindings included.";
        text.family("scheduler_scheduling_attempt_duration_seconds", Kind::Histogram, help);
        for ([result, profile], seconds) in &attempts {
            text.histogram(&[("result", result), ("profile", profile)], seconds);
        }
        let help = "How long all plugins of an extension point took.";
        text.family("scheduler_framework_extension_point_duration_seconds", Kind::Histogram, help);
        for ([point, status, profile], seconds) in self.points.entries() {
            let labels = [("extension_point", point), ("status", status), ("profile", profile)];
            text.histogram(&labels, seconds);
        }
        let help = "How long pods took from their first attempt until they were bound.";
        text.family("scheduler_pod_scheduling_sli_duration_seconds", Kind::Histogram, help);
        for ([attempts], seconds) in self.sli.entries() {
            text.histogram(&[("attempts", attempts)], seconds);
        }
        let help = "How many attempts pods took until they were bound.";
        text.family("scheduler_pod_scheduling_attempts", Kind::Histogram, help);
        text.histogram(&[], &self.numbers);
        let (help, count) = ("Attempts to make room for pods.", self.preemptions.load(Relaxed) as f64);
        text.single("scheduler_preemption_attempts_total", Kind::Counter, help, count);
        let help = "How many pods had to go for another.";
        text.family("scheduler_preemption_victims", Kind::Histogram, help);
        text.histogram(&[], &self.victims);
    }
}

fn expose_queues(text: &mut Exposition) {
    let queues: Vec<Arc<dyn Watched>> = QUEUES.lock().iter().filter_map(Weak::upgrade).collect();
    let mut all = Reading::default();
    for Reading { pending, unschedulable, incoming } in queues.iter().map(|queue| queue.read()) {
        pending.into_iter().for_each(|(queue, pods)| *all.pending.entry(queue).or_default() += pods);
        unschedulable.into_iter().for_each(|(by, pods)| *all.unschedulable.entry(by).or_default() += pods);
        incoming.into_iter().for_each(|(how, pods)| *all.incoming.entry(how).or_default() += pods);
    }
    text.family("scheduler_pending_pods", Kind::Gauge, "Pods without a node, by where they wait.");
    for (queue, pods) in &all.pending {
        text.sample(&[("queue", queue)], *pods as f64);
    }
    let help = "Pods that wait because of a plugin.";
    text.family("scheduler_unschedulable_pods", Kind::Gauge, help);
    for ((plugin, profile), pods) in &all.unschedulable {
        text.sample(&[("plugin", plugin), ("profile", profile)], *pods as f64);
    }
    let help = "Pods that came to wait, by where and because of what.";
    text.family("scheduler_queue_incoming_pods_total", Kind::Counter, help);
    for ((queue, event), pods) in &all.incoming {
        text.sample(&[("queue", queue), ("event", event)], *pods as f64);
    }
}

fn expose_devices(text: &mut Exposition) {
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
