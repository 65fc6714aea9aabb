//! Several authorizers as one, in an order that can be changed while the server runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::RwLock;
use tiphys_metrics::{Exposition, Kind, Table};

use super::{Attributes, Authorizer, Decision, UserRules, Webhook};
use crate::identity::{Identity, MASTERS};

/// Asks authorizers in order; the first with an opinion decides. Members of `system:masters` may do everything,
/// so that no broken policy locks an administrator out.
///
/// What is decided from memory is decided at once, by [`Self::decide`]; only a webhook is waited for.
pub struct Chain {
    modes: RwLock<Arc<[Mode]>>,
    decisions: Decisions,
}

/// One authorizer of a chain, with what is counted of it.
#[derive(Clone)]
pub(crate) struct Mode {
    how: How,
    decided: Arc<Decided>,
}

#[derive(Clone)]
pub(crate) enum How {
    Memory(Arc<dyn Authorizer>),
    Webhook(Arc<Webhook>),
}

/// How often authorizers have decided, by their type and name.
struct Decisions(Table<2, Arc<Decided>>);

#[derive(Default)]
struct Decided {
    allowed: AtomicU64,
    denied: AtomicU64,
}

/// Authorizers that are counted apart.
const SERIES: usize = 256;

/// A question that memory has no answer to: it is a webhook's turn.
pub(crate) struct Open {
    modes: Arc<[Mode]>,
    at: usize,
    said: Said,
}

/// What those without an opinion have said.
#[derive(Default)]
struct Said {
    reasons: Vec<String>,
    errors: Vec<String>,
}

impl Said {
    /// What an authorizer's answer means: the end, or another line.
    fn hear(&mut self, mode: &Mode, decision: Decision) -> Option<Decision> {
        match decision {
            Decision::NoOpinion { reason } if reason.is_empty() => return None,
            Decision::NoOpinion { reason } => {
                self.reasons.push(reason);
                return None;
            }
            Decision::Failed { error, denied: false } => {
                self.errors.push(error);
                return None;
            }
            Decision::Allow { .. } => &mode.decided.allowed,
            Decision::Deny { .. } | Decision::Failed { denied: true, .. } => &mode.decided.denied,
        }
        .fetch_add(1, Relaxed);
        Some(decision)
    }

    /// Nobody had an opinion.
    fn end(self) -> Decision {
        match self.errors.as_slice() {
            [] => Decision::NoOpinion { reason: self.reasons.join("\n") },
            [one] => Decision::Failed { error: one.clone(), denied: false },
            many => Decision::Failed { error: format!("[{}]", many.join(", ")), denied: false },
        }
    }
}

impl Chain {
    /// A chain of authorizers that answer from memory.
    pub fn new(authorizers: Vec<Arc<dyn Authorizer>>) -> Self {
        let chain = Self { modes: RwLock::new(Arc::new([])), decisions: Decisions(Table::new(SERIES)) };
        chain.replace(authorizers.into_iter().map(|a| ("Memory", String::new(), How::Memory(a))));
        chain
    }

    /// From now on asks these: types, names and how they are asked. Questions under way go on with those before.
    pub(crate) fn replace(&self, modes: impl IntoIterator<Item = (&'static str, String, How)>) {
        let mode = |(kind, name, how): (&str, String, How)| {
            let decided = Arc::clone(self.decisions.0.entry([kind, &name], Arc::default));
            Mode { how, decided }
        };
        let modes: Arc<[Mode]> = modes.into_iter().map(mode).collect();
        *self.modes.write() = modes;
    }

    fn modes(&self) -> Arc<[Mode]> {
        Arc::clone(&self.modes.read())
    }

    /// Decides as far as memory goes.
    pub(crate) fn decide(&self, attributes: &Attributes<'_>) -> Result<Decision, Open> {
        if attributes.user.in_group(MASTERS) {
            return Ok(Decision::Allow { reason: String::new() });
        }
        walk(self.modes(), 0, Said::default(), attributes)
    }

    /// Decides; waits only where a webhook has to be asked.
    pub async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        match self.decide(attributes) {
            Ok(decision) => decision,
            // Boxed: few requests come here, and all of them would carry the room for it.
            Err(open) => Box::pin(open.settle(attributes)).await,
        }
    }

    /// What `user` may do in `namespace`, as far as authorizers can tell.
    pub(crate) fn rules_for(&self, user: &Identity, namespace: &str) -> UserRules {
        let mut all = UserRules::default();
        for mode in &*self.modes() {
            match &mode.how {
                How::Memory(authorizer) => {
                    let UserRules { rules, errors } = authorizer.rules(user, namespace);
                    all.rules.extend(rules);
                    all.errors.extend(errors);
                }
                How::Webhook(_) => {
                    all.errors.push("webhook authorizer does not support user rule resolution".to_owned());
                }
            }
        }
        all
    }

    pub(crate) fn expose(&self, text: &mut Exposition) {
        let help = "Decisions, by the type and name of the authorizer that made them.";
        text.family("apiserver_authorization_decisions_total", Kind::Counter, help);
        for ([kind, name], decided) in self.decisions.0.entries() {
            for (word, count) in [("allowed", &decided.allowed), ("denied", &decided.denied)] {
                let count = count.load(Relaxed) as f64;
                if count > 0.0 {
                    text.sample(&[("type", kind), ("name", name), ("decision", word)], count);
                }
            }
        }
    }
}

fn walk(
    modes: Arc<[Mode]>,
    from: usize,
    mut said: Said,
    attributes: &Attributes<'_>,
) -> Result<Decision, Open> {
    for at in from..modes.len() {
        let decision = match &modes[at].how {
            How::Memory(authorizer) => authorizer.authorize(attributes),
            How::Webhook(_) => return Err(Open { modes, at, said }),
        };
        if let Some(decided) = said.hear(&modes[at], decision) {
            return Ok(decided);
        }
    }
    Ok(said.end())
}

impl Open {
    /// Asks the webhooks whose turn it is, until somebody has an opinion.
    async fn settle(mut self, attributes: &Attributes<'_>) -> Decision {
        loop {
            let Self { modes, at, mut said } = self;
            if let How::Webhook(webhook) = &modes[at].how {
                let decision = webhook.ask(attributes).await;
                if let Some(decided) = said.hear(&modes[at], decision) {
                    return decided;
                }
            }
            match walk(modes, at + 1, said, attributes) {
                Ok(decision) => return decision,
                Err(open) => self = open,
            }
        }
    }
}
