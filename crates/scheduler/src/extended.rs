//! A cycle in which extenders have a say: what they are asked is asked between looking at nodes and choosing one.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api,
    api::{ListParams, ObjectList},
};
use serde_json::Value;
use tokio::time::Instant;
use tracing::debug;

use crate::{
    cycle::{Found, Sifted},
    extender::Extender,
    framework::{Profile, Reasons, Rejection},
    pod::SharedPod,
    runner::Shared,
    snapshot::NodeId,
    state::{Outcome, State},
};

/// Why the extenders' part came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("reading what extenders are told of: {0}")]
    Reading(#[source] kube::Error),
    #[error(transparent)]
    Extender(#[from] crate::extender::ExtenderError),
}

/// Nodes that are left, by name, with their scores.
type Candidates = BTreeMap<String, i64>;

impl Shared {
    /// Like [`State::decide`], with the extenders that mind the pod.
    pub(crate) async fn decide_with(&self, pod: &SharedPod, extenders: &[&Extender]) -> Option<Outcome> {
        let profile = self.profile(&pod.scheduler)?;
        let (mut candidates, numbers) = {
            let mut state = self.lock();
            let state = &mut *state;
            state.prepare(profile, pod);
            let (mut filters, Sifted { fit, unfit }) = state.search.sift(profile, pod, &state.snapshot);
            if fit.is_empty() {
                let found = state.search.refuse(profile, pod, &state.snapshot, &mut filters, unfit);
                drop(filters);
                return Some(state.settle(profile, pod, found, Instant::now()));
            }
            let totals = state.search.scores(profile, pod, &state.snapshot, &fit);
            let names = fit.iter().map(|id| state.snapshot.node(*id).name().to_owned());
            let numbers: BTreeMap<String, NodeId> = names.clone().zip(fit.iter().copied()).collect();
            (names.zip(totals).collect::<Candidates>(), numbers)
        };
        let rejected = match self.ask(pod, extenders, &mut candidates).await {
            Ok(rejected) => rejected,
            Err(error) => {
                debug!(pod = %pod.key(), %error, "asking extenders");
                self.lock().queue.failed(&pod.reference, Instant::now());
                return None;
            }
        };
        let mut state = self.lock();
        let state = &mut *state;
        // What has gone meanwhile is no candidate any more.
        candidates.retain(|name, _| {
            state.snapshot.find(name).is_some_and(|node| numbers.get(name) == Some(&node.id))
        });
        if candidates.is_empty() {
            return Some(refuse(profile, state, pod, &numbers, rejected));
        }
        let fit: Vec<NodeId> = candidates.keys().filter_map(|name| numbers.get(name).copied()).collect();
        let totals: Vec<i64> = candidates.values().copied().collect();
        let chosen = state.search.pick(&fit, &totals);
        Some(state.settle(profile, pod, Found::Node(chosen), Instant::now()))
    }

    /// Takes out what extenders reject, and adds what they score.
    async fn ask(
        &self,
        pod: &SharedPod,
        extenders: &[&Extender],
        candidates: &mut Candidates,
    ) -> Result<BTreeMap<String, Rejection>, Failed> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &pod.key().namespace);
        let whole = pods.get(&pod.key().name).await.map_err(Failed::Reading)?;
        let whole = serde_json::to_value(&whole).unwrap_or(Value::Null);
        let mut nodes = BTreeMap::new();
        if extenders.iter().any(|extender| extender.wants_nodes()) {
            let all: ObjectList<Node> =
                Api::all(self.client.clone()).list(&ListParams::default()).await.map_err(Failed::Reading)?;
            for node in all {
                let name = node.metadata.name.clone().unwrap_or_default();
                nodes.insert(name, serde_json::to_value(&node).unwrap_or(Value::Null));
            }
        }
        let mut rejected = BTreeMap::new();
        for extender in extenders {
            let names: Vec<String> = candidates.keys().cloned().collect();
            match extender.filter(&whole, &nodes, &names).await {
                Ok(filtered) => {
                    candidates.retain(|name, _| filtered.fit.contains(name));
                    rejected.extend(filtered.failed);
                }
                Err(error) if extender.is_ignorable() => debug!(%error, "an extender is away"),
                Err(error) => return Err(error.into()),
            }
        }
        let names: Vec<String> = candidates.keys().cloned().collect();
        for extender in extenders {
            for (name, score) in extender.prioritize(&whole, &nodes, &names).await {
                if let Some(total) = candidates.get_mut(&name) {
                    *total = total.saturating_add(score);
                }
            }
        }
        Ok(rejected)
    }
}

/// Nodes fit, but for what extenders say.
fn refuse(
    profile: &Profile,
    state: &mut State,
    pod: &SharedPod,
    numbers: &BTreeMap<String, NodeId>,
    rejected: BTreeMap<String, Rejection>,
) -> Outcome {
    let (mut filters, Sifted { mut unfit, .. }) = state.search.sift(profile, pod, &state.snapshot);
    let gone =
        || Rejection { plugin: "Extender", reasons: Reasons::One("node(s) are gone"), unresolvable: true };
    unfit.nodes.retain(|(id, _)| numbers.values().all(|known| known != id));
    let known = numbers.iter().filter(|(name, _)| state.snapshot.find(name).is_some());
    for (name, id) in known {
        let rejection = rejected.get(name).cloned().unwrap_or_else(gone);
        let answer = unfit.answers.number(Err(rejection));
        unfit.nodes.push((*id, answer));
    }
    let found = state.search.refuse(profile, pod, &state.snapshot, &mut filters, unfit);
    drop(filters);
    state.settle(profile, pod, found, Instant::now())
}
