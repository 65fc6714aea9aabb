//! Tells users what happened to an object, without ever making the teller wait.
//!
//! A [`Recorder`] puts occurrences into a bounded queue; [`Sink::run`] writes them as core/v1 Events. The same
//! thing said again raises `count` of the event that is already there; an object that is talked about too much is
//! talked about less. What does not fit the queue is dropped: an event is a courtesy, never a duty.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::sync::mpsc;
use tracing::debug;

/// Occurrences that may wait to be written.
const QUEUE: usize = 8192;
/// Distinct events that are remembered for counting.
const REMEMBERED: usize = 4096;
/// How long an event may be silent and still be counted on.
const WINDOW: Duration = Duration::from_secs(600);
/// Different messages of one reason about one object within the window, after which they are told as one.
const SIMILAR: usize = 10;
/// Events about one object that may come at once; one more every [`REFILL`].
const BURST: u32 = 25;
const REFILL: Duration = Duration::from_secs(300);

/// Whether something is as it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It is.
    Normal,
    /// Somebody may want to act.
    Warning,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug)]
struct Occurrence {
    object: ObjectReference,
    severity: Severity,
    reason: String,
    message: String,
    at: Timestamp,
}

/// Where a component says what happened. Cheap to clone; never blocks and never fails.
#[derive(Clone, Debug)]
pub struct Recorder {
    queue: mpsc::Sender<Occurrence>,
}

impl Recorder {
    /// A recorder and the sink that must be run for it. `component` and `host` become the event's source;
    /// `host` is empty for components that belong to no node.
    pub fn new(client: kube::Client, component: &str, host: &str) -> (Self, Sink) {
        let (queue, occurrences) = mpsc::channel(QUEUE);
        let writer = Writer { client, component: component.into(), host: host.into() };
        (Self { queue }, Sink { writer, occurrences, tally: Tally::default() })
    }

    /// Something went as it should.
    pub fn normal(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, Severity::Normal, reason, message.into());
    }

    /// Something did not.
    pub fn warning(&self, object: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.record(object, Severity::Warning, reason, message.into());
    }

    fn record(&self, object: &ObjectReference, severity: Severity, reason: &str, mut message: String) {
        if message.len() > 1024 {
            let end = (0..=1021).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(end);
            message.push_str("...");
        }
        let occurrence = Occurrence {
            object: object.clone(),
            severity,
            reason: reason.into(),
            message,
            at: Timestamp::now(),
        };
        if let Err(error) = self.queue.try_send(occurrence) {
            debug!(reason, %error, "event dropped");
        }
    }
}

/// What makes two occurrences the same event.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct EventKey {
    namespace: String,
    kind: String,
    name: String,
    uid: String,
    field: String,
    severity: Severity,
    reason: String,
    message: String,
}

#[derive(Clone, Debug)]
struct Seen {
    name: String,
    count: i32,
    last: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Budget {
    tokens: u32,
    refilled: Timestamp,
}

/// What to do with an occurrence.
#[derive(Debug, PartialEq)]
enum Step {
    Create { name: String, message: String },
    Count { name: String, count: i32 },
    Drop,
}

/// Memory of what was said lately. Pure; bounded by [`REMEMBERED`].
#[derive(Debug, Default)]
struct Tally {
    seen: BTreeMap<EventKey, Seen>,
    order: VecDeque<EventKey>,
    budgets: BTreeMap<String, Budget>,
    /// Budgets of objects that nothing was said of since so many others were talked about.
    older: BTreeMap<String, Budget>,
}

impl Tally {
    fn step(&mut self, o: &Occurrence) -> Step {
        if !self.spend(&o.object, o.at) {
            return Step::Drop;
        }
        let mut key = key_of(o);
        let mut message = o.message.clone();
        if !self.seen.contains_key(&key) && self.similar(&key, o.at) >= SIMILAR {
            // All messages after the tenth are one event; its text is that of the first of them.
            message = format!("(combined from similar events): {message}");
            key.message = String::from("\u{0}similar");
        }
        if let Some(seen) = self.seen.get_mut(&key)
            && o.at.duration_since(seen.last).unsigned_abs() <= WINDOW
        {
            seen.count = seen.count.saturating_add(1);
            seen.last = o.at;
            return Step::Count { name: seen.name.clone(), count: seen.count };
        }
        let stem: String = key.name.chars().take(230).collect();
        let name = format!("{stem}.{:x}", o.at.as_nanosecond());
        if self.seen.insert(key.clone(), Seen { name: name.clone(), count: 1, last: o.at }).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > REMEMBERED {
            if let Some(oldest) = self.order.pop_front() {
                self.seen.remove(&oldest);
            }
        }
        Step::Create { name, message }
    }

    fn similar(&self, key: &EventKey, now: Timestamp) -> usize {
        let from = EventKey { message: String::new(), ..key.clone() };
        let alike = self
            .seen
            .range(from..)
            .take_while(|(k, _)| k.reason == key.reason && k.name == key.name && k.uid == key.uid);
        alike.filter(|(_, seen)| now.duration_since(seen.last).unsigned_abs() <= WINDOW).count()
    }

    /// Takes one token of the object's budget.
    fn spend(&mut self, object: &ObjectReference, now: Timestamp) -> bool {
        if self.budgets.len() >= REMEMBERED {
            self.older = std::mem::take(&mut self.budgets);
        }
        let id = object.uid.clone().or_else(|| object.name.clone()).unwrap_or_default();
        let known = self.older.remove(&id).unwrap_or(Budget { tokens: BURST, refilled: now });
        let budget = self.budgets.entry(id).or_insert(known);
        let due = now.duration_since(budget.refilled).unsigned_abs().as_secs() / REFILL.as_secs();
        if due > 0 {
            budget.tokens = budget.tokens.saturating_add(u32::try_from(due).unwrap_or(BURST)).min(BURST);
            budget.refilled = now;
        }
        let left = budget.tokens.checked_sub(1);
        budget.tokens = left.unwrap_or(0);
        left.is_some()
    }

    fn forget(&mut self, o: &Occurrence) {
        self.seen.remove(&key_of(o));
    }
}

fn key_of(o: &Occurrence) -> EventKey {
    let text = |t: &Option<String>| t.clone().unwrap_or_default();
    EventKey {
        namespace: text(&o.object.namespace),
        kind: text(&o.object.kind),
        name: text(&o.object.name),
        uid: text(&o.object.uid),
        field: text(&o.object.field_path),
        severity: o.severity,
        reason: o.reason.clone(),
        message: o.message.clone(),
    }
}

/// Writes what a [`Recorder`] collects: one after the other, so that a burst does not slow down what it tells of.
pub struct Sink {
    writer: Writer,
    occurrences: mpsc::Receiver<Occurrence>,
    tally: Tally,
}

impl Sink {
    /// Writes until every recorder is dropped. A write that fails is not tried again.
    pub async fn run(mut self) {
        while let Some(occurrence) = self.occurrences.recv().await {
            let written = match self.tally.step(&occurrence) {
                Step::Drop => continue,
                Step::Create { name, message } => self.writer.create(&occurrence, name, message).await,
                Step::Count { name, count } => self.writer.count(&occurrence, &name, count).await,
            };
            if let Err(error) = written {
                debug!(reason = occurrence.reason, %error, "event not written");
                // It may be gone (events expire): the next one of its kind is created anew.
                self.tally.forget(&occurrence);
            }
        }
    }
}

struct Writer {
    client: kube::Client,
    component: String,
    host: String,
}

impl Writer {
    fn api(&self, o: &Occurrence) -> Api<Event> {
        Api::namespaced(self.client.clone(), namespace(o))
    }

    async fn create(&self, o: &Occurrence, name: String, message: String) -> kube::Result<()> {
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(namespace(o).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: o.object.clone(),
            type_: Some(o.severity.as_str().to_owned()),
            reason: Some(o.reason.clone()),
            message: Some(message),
            count: Some(1),
            first_timestamp: Some(Time(o.at)),
            last_timestamp: Some(Time(o.at)),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: (!self.host.is_empty()).then(|| self.host.clone()),
            }),
            ..Event::default()
        };
        self.api(o).create(&PostParams::default(), &event).await.map(drop)
    }

    async fn count(&self, o: &Occurrence, name: &str, count: i32) -> kube::Result<()> {
        let patch = json!({"count": count, "lastTimestamp": Time(o.at)});
        self.api(o).patch(name, &PatchParams::default(), &Patch::Strategic(patch)).await.map(drop)
    }
}

/// Events about cluster-scoped objects live in `default`.
fn namespace(o: &Occurrence) -> &str {
    o.object.namespace.as_deref().filter(|n| !n.is_empty()).unwrap_or("default")
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
