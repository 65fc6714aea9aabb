//! DefaultPreemption: less important pods make room for a more important one.

use crate::{
    framework::{Plugin, Point},
    metrics,
    preemption::{Attempt, NoPlan, Plan},
    unfit::histogram,
};

use super::args::PreemptionArgs;

pub(super) struct DefaultPreemption(pub(super) PreemptionArgs);

impl DefaultPreemption {
    /// Why the pod must not make others go.
    fn forbidden(attempt: &Attempt<'_, '_>) -> Option<NoPlan> {
        let no = |message: &str, under_way| NoPlan {
            message: format!("preemption: {message}"),
            under_way,
            release: None,
            retries: false,
        };
        let pod = attempt.pod;
        if pod.is_peaceful {
            return Some(no("not eligible due to preemptionPolicy=Never.", false));
        }
        let nominated = attempt.all.nomination(&pod.reference)?;
        let answer = attempt.unfit.nodes.iter().find(|(id, _)| *id == nominated.id);
        let answer = answer.and_then(|(_, answer)| attempt.unfit.answers.get(*answer));
        // Room on a node that will never do helps nobody: the pod may look for another.
        if answer.is_some_and(|rejection| rejection.unresolvable) {
            return None;
        }
        let leaving = nominated.pods.iter().any(|p| p.going && p.is_victim && p.priority < pod.priority);
        leaving.then(|| no("not eligible due to a terminating pod on the nominated node.", true))
    }

    /// Of how many nodes it is enough to know what room there would cost.
    fn enough(&self, nodes: usize) -> usize {
        let part = nodes * self.0.min_candidate_nodes_percentage / 100;
        part.max(self.0.min_candidate_nodes_absolute).min(nodes)
    }
}

impl Plugin for DefaultPreemption {
    fn name(&self) -> &'static str {
        "DefaultPreemption"
    }
    fn points(&self) -> &'static [Point] {
        &[Point::PostFilter]
    }
    fn post_filter(&self, attempt: &mut Attempt<'_, '_>) -> Option<Result<Plan, NoPlan>> {
        if let Some(why) = Self::forbidden(attempt) {
            return Some(Err(why));
        }
        metrics::preempting();
        let hopeful = attempt.unfit.hopeful();
        let (plan, refused) = attempt.cheapest(&hopeful, self.enough(hopeful.len()));
        if let Some(plan) = plan {
            return Some(Ok(plan));
        }
        let total = attempt.unfit.total;
        let hopeless = Some(("Preemption is not helpful for scheduling", total - refused.len()));
        let hopeless = hopeless.filter(|(_, nodes)| *nodes > 0).into_iter();
        let refused = refused.iter().filter_map(|answer| attempt.shape.answers.get(*answer));
        let refused = refused.flat_map(|r| r.reasons.iter().map(|reason| (reason, 1)));
        let reasons = histogram(hopeless.chain(refused));
        let message = format!("preemption: 0/{total} nodes are available: {reasons}.");
        Some(Err(NoPlan { message, under_way: false, release: None, retries: false }))
    }
}
