//! One scheduling cycle: which node a pod goes to, decided from the pod and the snapshot alone.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    framework::{Filter, Point, PreFilter, Profile, Rejection},
    memo::{FITS, Memo},
    metrics::Laps,
    pod::PodInfo,
    preemption::{Attempt, Plan, Release},
    snapshot::{NodeId, NodeInfo, Snapshot},
    unfit::Unfit,
};

/// Clusters of fewer nodes are always looked at whole.
const FEWEST: usize = 100;

/// Chance that a seed repeats (xorshift).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// A number below `end`; 0 if there is none.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from((self.0 >> 11) % end).unwrap_or(0)
    }
}

/// The filters of one pod.
#[derive(Default)]
pub struct Filters<'a> {
    all: Vec<Box<dyn Filter + 'a>>,
    /// How many of the first are local.
    local: usize,
}

impl<'a> Filters<'a> {
    fn push(&mut self, filter: Box<dyn Filter + 'a>) {
        self.local += usize::from(self.are_local() && filter.is_local());
        self.all.push(filter);
    }

    /// Whether no filter looks beyond the node.
    pub(crate) fn are_local(&self) -> bool {
        self.local == self.all.len()
    }

    /// What the first ones say, as long as they look at nothing but the node.
    pub(crate) fn check_local(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.all[..self.local].iter().try_for_each(|filter| filter.check(node))
    }

    /// What the others say.
    pub(crate) fn check_others(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.all[self.local..].iter().try_for_each(|filter| filter.check(node))
    }

    pub fn check(&self, node: &NodeInfo) -> Result<(), Rejection> {
        self.all.iter().try_for_each(|filter| filter.check(node))
    }

    /// How many say no, and how much would have to change; `None` if one knows no change.
    pub fn distance(&self, node: &NodeInfo) -> Option<(usize, i64)> {
        let mut against = self.all.iter().filter(|filter| filter.check(node).is_err());
        against.try_fold((0, 0), |(count, sum), filter| Some((count + 1, sum + filter.distance(node)?)))
    }

    /// All answers that are no, each with what would turn it around.
    pub fn answers<'b>(
        &'b self,
        node: &'b NodeInfo,
    ) -> impl Iterator<Item = (Rejection, Option<String>)> + 'b {
        self.all.iter().filter_map(|filter| Some((filter.check(node).err()?, filter.remedy(node))))
    }

    pub fn shift(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        for filter in &mut self.all {
            filter.shift(other, node, by);
        }
    }

    /// Whether the node fits, also when the pods come that room is made for there and that matter as much or more.
    pub fn check_beside_nominated(
        &mut self,
        pod: &PodInfo,
        node: &NodeInfo,
        all: &Snapshot,
    ) -> Result<(), Rejection> {
        let nominated = all.nominated(node.id);
        self.check(node)?;
        let matters = |other: &&std::sync::Arc<PodInfo>| {
            other.priority >= pod.priority && other.reference != pod.reference
        };
        let coming: Vec<_> = nominated.iter().filter(matters).cloned().collect();
        if coming.is_empty() {
            return Ok(());
        }
        let mut then = node.clone();
        for other in &coming {
            then.add(other.clone());
            self.shift(other, node, 1);
        }
        let answer = self.check(&then);
        for other in &coming {
            self.shift(other, node, -1);
        }
        answer
    }
}

/// What the framework has found for a pod.
pub(crate) enum Found {
    Node(NodeId),
    Nothing(Box<Refusal>),
}

/// No node fits.
pub struct Refusal {
    pub message: String,
    /// Who said no.
    pub plugins: Vec<&'static str>,
    /// Whether the pod has not been told so before, so that each node's answer is worth a report.
    pub is_news: bool,
    /// How room can be made.
    pub plan: Option<Plan>,
    /// Without a plan: no room is being made, either.
    pub gives_up: bool,
    /// What only keeps the pod from others.
    pub release: Option<Release>,
    /// The pod is tried again after a back-off, whatever happens.
    pub retries: bool,
}

/// What goes on from one cycle to the next.
pub(crate) struct Search {
    /// Where the next search begins, so that all nodes get their turn.
    start: usize,
    dice: Dice,
    memo: Memo,
}

/// Nodes that fit, and what is known of others.
pub(crate) struct Sifted {
    pub(crate) fit: Vec<NodeId>,
    pub(crate) unfit: Unfit,
}

impl Search {
    pub(crate) fn new(seed: u64) -> Self {
        Self { start: 0, dice: Dice::new(seed), memo: Memo::default() }
    }

    /// One that asks plugins each time anew.
    #[cfg(test)]
    pub(crate) fn forgetful(seed: u64) -> Self {
        Self { memo: Memo::forgetful(), ..Self::new(seed) }
    }

    /// One whole cycle. [`Snapshot::prepare`] has been called for the pod.
    pub(crate) fn schedule(&mut self, profile: &Profile, pod: &PodInfo, all: &Snapshot) -> Found {
        let (mut filters, sifted) = self.sift(profile, pod, all);
        if sifted.fit.is_empty() {
            return self.refuse(profile, pod, all, &mut filters, sifted.unfit);
        }
        let totals = self.scores(profile, pod, all, &sifted.fit);
        Found::Node(self.pick(&sifted.fit, &totals))
    }

    /// Filters nodes until enough are found that fit.
    pub(crate) fn sift<'a>(
        &mut self,
        profile: &'a Profile,
        pod: &'a PodInfo,
        all: &'a Snapshot,
    ) -> (Filters<'a>, Sifted) {
        let mut laps = Laps::begin(&profile.scheduler);
        let mut filters = Filters::default();
        let mut sifted =
            Sifted { fit: Vec::new(), unfit: Unfit { total: all.order().len(), ..Unfit::default() } };
        let mut only: Option<(BTreeSet<NodeId>, Vec<&'static str>)> = None;
        for (plugin, _) in profile.at(Point::Filter) {
            match plugin.pre_filter(pod, all) {
                PreFilter::Skip => {}
                PreFilter::Each(filter) => filters.push(filter),
                PreFilter::Only(nodes, filter) => {
                    filters.push(filter);
                    let nodes = nodes.into_iter().collect();
                    let (known, plugins) = only.get_or_insert_with(|| (BTreeSet::clone(&nodes), Vec::new()));
                    *known = known.intersection(&nodes).copied().collect();
                    plugins.push(plugin.name());
                }
                PreFilter::Nowhere(rejection) => {
                    sifted.unfit.everywhere = Some(rejection);
                    laps.end(Point::PreFilter, "UnschedulableAndUnresolvable");
                    return (filters, sifted);
                }
            }
        }
        laps.end(Point::PreFilter, "Success");
        // Where room was made for the pod, it goes, if it can.
        if let Some(node) = all.nomination(&pod.reference)
            && filters.check_beside_nominated(pod, node, all).is_ok()
        {
            sifted.fit.push(node.id);
            return (filters, sifted);
        }
        match only {
            Some((nodes, plugins)) => {
                let known = nodes.iter().copied().filter(|id| all.order().contains(id)).collect::<Vec<_>>();
                sifted.unfit.absent(plugins);
                self.walk(&known, known.len(), &mut filters, pod, all, &mut sifted);
            }
            None => {
                let enough = enough(profile.percentage, all.order().len());
                let looked = self.walk(all.order(), enough, &mut filters, pod, all, &mut sifted);
                self.start = (self.start + looked) % all.order().len().max(1);
            }
        }
        laps.end(Point::Filter, "Success");
        (filters, sifted)
    }

    fn walk(
        &mut self,
        nodes: &[NodeId],
        enough: usize,
        filters: &mut Filters<'_>,
        pod: &PodInfo,
        all: &Snapshot,
        sifted: &mut Sifted,
    ) -> usize {
        let from = self.start.min(nodes.len());
        let mut looked = 0;
        let shape = self.memo.shape(pod, all);
        for id in nodes[from..].iter().chain(&nodes[..from]) {
            if sifted.fit.len() >= enough {
                break;
            }
            looked += 1;
            match shape.check(filters, pod, all.node(*id), all) {
                FITS => sifted.fit.push(*id),
                answer => sifted.unfit.nodes.push((*id, answer)),
            }
        }
        if !sifted.unfit.nodes.is_empty() {
            sifted.unfit.answers = shape.answers.clone();
        }
        looked
    }

    pub(crate) fn refuse(
        &mut self,
        profile: &Profile,
        pod: &PodInfo,
        all: &Snapshot,
        filters: &mut Filters<'_>,
        mut unfit: Unfit,
    ) -> Found {
        let (shape, dice) = (self.memo.shape(pod, all), &mut self.dice);
        let mut attempt = Attempt { pod, all, filters, unfit: &unfit, shape, dice };
        let (mut tried, mut laps) = (Vec::new(), Laps::begin(&profile.scheduler));
        let (mut plan, mut gives_up, mut release, mut retries) = (None, true, None, false);
        for (plugin, _) in profile.at(Point::PostFilter) {
            match plugin.post_filter(&mut attempt) {
                Some(Ok(found)) => {
                    plan = Some(found);
                    break;
                }
                Some(Err(why)) => {
                    tried.push(why.message);
                    gives_up &= !why.under_way;
                    retries |= why.retries;
                    release = release.or(why.release);
                }
                None => {}
            }
        }
        laps.end(Point::PostFilter, if plan.is_some() { "Success" } else { "Unschedulable" });
        unfit.tried = tried.join(", ");
        let (message, plugins) = (unfit.message(), unfit.plugins());
        // Of a pod that room is being made for, nobody asks why it does not fit.
        let is_news = plan.is_none() && pod.told.as_deref() != Some(&*message);
        Found::Nothing(Box::new(Refusal { message, plugins, is_news, plan, gives_up, release, retries }))
    }

    /// Each node's answer; `None` if one would do by now. [`Snapshot::prepare`] has been called for the pod.
    pub(crate) fn explain(&mut self, profile: &Profile, pod: &PodInfo, all: &Snapshot) -> Option<Value> {
        let (filters, sifted) = self.sift(profile, pod, all);
        let shape = self.memo.shape(pod, all);
        let report = || sifted.unfit.report(&pod.reference.uid, &profile.scheduler, &filters, shape, all);
        sifted.fit.is_empty().then(report)
    }

    /// The weighted scores of nodes that fit.
    pub(crate) fn scores(
        &mut self,
        profile: &Profile,
        pod: &PodInfo,
        all: &Snapshot,
        fit: &[NodeId],
    ) -> Vec<i64> {
        let mut totals = vec![0; fit.len()];
        if fit.len() < 2 {
            return totals;
        }
        let mut laps = Laps::begin(&profile.scheduler);
        let scorers = profile
            .at(Point::Score)
            .filter_map(|(plugin, weight)| Some((plugin.pre_score(pod, all, fit)?, weight)));
        let (fixed, others): (Vec<_>, Vec<_>) = scorers.partition(|(score, _)| score.is_fixed());
        laps.end(Point::PreScore, "Success");
        let mut scores = Vec::with_capacity(fit.len());
        for (score, weight) in others {
            scores.clear();
            scores.extend(fit.iter().map(|id| score.score(all.node(*id))));
            score.normalize(&mut scores);
            for (total, score) in totals.iter_mut().zip(&scores) {
                *total += score * weight;
            }
        }
        let shape = self.memo.shape(pod, all);
        for (total, id) in totals.iter_mut().zip(fit) {
            *total += shape.score(&fixed, all.node(*id));
        }
        laps.end(Point::Score, "Success");
        totals
    }

    /// The best; of several equally good ones, any.
    pub(crate) fn pick(&mut self, fit: &[NodeId], totals: &[i64]) -> NodeId {
        let best = totals.iter().max().copied().unwrap_or(0);
        let of_best = totals.iter().filter(|total| **total == best).count();
        let chosen = self.dice.below(of_best);
        let mut alike = fit.iter().zip(totals).filter(|(_, total)| **total == best);
        alike.nth(chosen).map_or(fit[0], |(id, _)| *id)
    }
}

/// How many nodes that fit are enough to choose from.
fn enough(percentage: usize, nodes: usize) -> usize {
    if nodes < FEWEST || percentage >= 100 {
        return nodes;
    }
    let percentage = if percentage == 0 { 50_usize.saturating_sub(nodes / 125).max(5) } else { percentage };
    (nodes * percentage / 100).max(FEWEST)
}

#[cfg(test)]
#[path = "cycle_tests.rs"]
mod tests;
