//! Who did what: `audit.k8s.io/v1`.
//!
//! A [`Policy`] says which requests are recorded, and how much of them. What it lets through costs a few comparisons;
//! for the rest, a [`Trail`] collects what is told at each stage. Events go to sinks with bounded buffers, which never
//! hold a request up: an event that finds no room is dropped and counted.

mod annotations;
mod event;
mod log;
mod policy;
mod rotation;
mod trail;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tiphys_metrics::{Exposition, Kind};

use crate::outgoing::Outgoing;
use crate::registry::Clock;

pub use annotations::Annotations;
pub(crate) use event::Moment;
pub use log::{Log, LogOptions};
pub use policy::{Decision, Level, Policy, PolicyError, Stage};
pub(crate) use trail::{Begun, Trail};
pub use webhook::{WebhookError, WebhookOptions};

/// How a server audits.
#[derive(Debug, Default)]
pub struct Config {
    /// Without rules nothing is recorded.
    pub policy: Policy,
    pub log: Option<LogOptions>,
    pub webhook: Option<WebhookOptions>,
}

/// Why a server can't audit as it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening the audit log: {0}")]
    Log(#[source] std::io::Error),
    #[error("the webhook that takes audit events: {0}")]
    Webhook(#[from] WebhookError),
}

/// Where events go.
trait Sink: Send + Sync + 'static {
    /// What upstream calls it.
    fn name(&self) -> &'static str;

    /// Takes an event as JSON on one line; `false` if there is no room for it.
    fn take(&self, event: &Bytes) -> bool;
}

/// Records requests.
pub(crate) struct Auditor {
    policy: Policy,
    sinks: Vec<(Box<dyn Sink>, AtomicU64)>,
    clock: Clock,
    /// Events told, by their level.
    told: [AtomicU64; Level::ALL.len()],
}

impl Auditor {
    /// # Errors
    /// The log cannot be opened, or the webhook's configuration is none.
    pub(crate) fn new(config: Config, outgoing: &Outgoing, clock: Clock) -> Result<Arc<Self>, Error> {
        let mut sinks: Vec<Box<dyn Sink>> = Vec::new();
        if let Some(options) = config.log {
            sinks.push(Box::new(Log::open(options, Arc::clone(&clock)).map_err(Error::Log)?));
        }
        if let Some(options) = config.webhook {
            sinks.push(Box::new(webhook::Webhook::new(options, outgoing)?));
        }
        Ok(Arc::new(Self::with(config.policy, sinks, clock)))
    }

    fn with(policy: Policy, sinks: Vec<Box<dyn Sink>>, clock: Clock) -> Self {
        let sinks = sinks.into_iter().map(|sink| (sink, AtomicU64::new(0))).collect();
        Self { policy, sinks, clock, told: Default::default() }
    }

    fn now(&self) -> Moment {
        Moment::of((self.clock)())
    }

    fn tell(&self, level: Level, event: Vec<u8>) {
        self.told[level as usize].fetch_add(1, Relaxed);
        let event = Bytes::from(event);
        for (sink, lost) in &self.sinks {
            if !sink.take(&event) {
                lost.fetch_add(1, Relaxed);
            }
        }
    }

    /// Adds how much was recorded, and how much was lost.
    pub(crate) fn expose(&self, text: &mut Exposition) {
        let told = self.told.each_ref().map(|count| count.load(Relaxed) as f64);
        let help = "Audit events that were recorded.";
        text.single("apiserver_audit_event_total", Kind::Counter, help, told.iter().sum());
        text.family("apiserver_audit_level_total", Kind::Counter, "Audit events by their level.");
        for (level, told) in Level::ALL.into_iter().zip(told) {
            text.sample(&[("level", level.as_str())], told);
        }
        text.family(
            "apiserver_audit_error_total",
            Kind::Counter,
            "Audit events that a sink had no room for.",
        );
        for (sink, lost) in &self.sinks {
            text.sample(&[("plugin", sink.name())], lost.load(Relaxed) as f64);
        }
    }
}

#[cfg(test)]
#[path = "mod_tests.rs"]
mod tests;
