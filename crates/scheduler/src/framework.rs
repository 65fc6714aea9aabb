//! The plugin framework: extension points, and the answers that plugins give.
//!
//! Names of plugins, extension points and weights are those of `kubescheduler.config.k8s.io`. Plugins are pure: what
//! they are asked with is all that they know. PreFilter and PreScore are asked once a cycle and answer with what is
//! then asked of each node.

use std::{borrow::Cow, sync::Arc, time::Duration};

use k8s_openapi::api::resource::v1::AllocationResult;
use tiphys_client::ObjectKey;

use crate::{
    devices::extended::Claiming,
    event::Event,
    pod::PodInfo,
    preemption::{Attempt, NoPlan, Plan},
    snapshot::{NodeId, NodeInfo, Snapshot, Surroundings},
    terms::Term,
};

/// A node's score from one plugin lies between 0 and this.
pub const BEST: i64 = 100;

/// Where a plugin can be enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Point {
    PreEnqueue,
    QueueSort,
    PreFilter,
    Filter,
    PostFilter,
    PreScore,
    Score,
    Reserve,
    Permit,
    PreBind,
    Bind,
    PostBind,
}

impl Point {
    /// All, by the names of their fields in the configuration.
    pub const ALL: [(&'static str, Self); 12] = [
        ("preEnqueue", Self::PreEnqueue),
        ("queueSort", Self::QueueSort),
        ("preFilter", Self::PreFilter),
        ("filter", Self::Filter),
        ("postFilter", Self::PostFilter),
        ("preScore", Self::PreScore),
        ("score", Self::Score),
        ("reserve", Self::Reserve),
        ("permit", Self::Permit),
        ("preBind", Self::PreBind),
        ("bind", Self::Bind),
        ("postBind", Self::PostBind),
    ];

    /// Its name in metrics.
    pub fn title(self) -> &'static str {
        match self {
            Self::PreEnqueue => "PreEnqueue",
            Self::QueueSort => "QueueSort",
            Self::PreFilter => "PreFilter",
            Self::Filter => "Filter",
            Self::PostFilter => "PostFilter",
            Self::PreScore => "PreScore",
            Self::Score => "Score",
            Self::Reserve => "Reserve",
            Self::Permit => "Permit",
            Self::PreBind => "PreBind",
            Self::Bind => "Bind",
            Self::PostBind => "PostBind",
        }
    }
}

/// Why a node does not fit, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    pub plugin: &'static str,
    pub reasons: Reasons,
    /// Taking other pods off the node would not help.
    pub unresolvable: bool,
}

/// One fixed reason, as most rejections have it, or several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reasons {
    One(&'static str),
    Many(Vec<Cow<'static, str>>),
}

impl Reasons {
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let (one, many) = match self {
            Self::One(reason) => (Some(*reason), &[][..]),
            Self::Many(reasons) => (None, &reasons[..]),
        };
        one.into_iter().chain(many.iter().map(|reason| &**reason))
    }
}

impl Rejection {
    pub const fn new(plugin: &'static str, reason: &'static str) -> Self {
        Self { plugin, reasons: Reasons::One(reason), unresolvable: false }
    }

    pub const fn hopeless(plugin: &'static str, reason: &'static str) -> Self {
        Self { plugin, reasons: Reasons::One(reason), unresolvable: true }
    }

    /// A hopeless one that names something.
    pub fn of(plugin: &'static str, reason: String) -> Self {
        Self { plugin, reasons: Reasons::Many(vec![reason.into()]), unresolvable: true }
    }
}

/// Which nodes a plugin wants to be asked about for one pod.
pub enum PreFilter<'a> {
    /// None: it has nothing against any.
    Skip,
    Each(Box<dyn Filter + 'a>),
    /// These; all others it rejects.
    Only(Vec<NodeId>, Box<dyn Filter + 'a>),
    /// It rejects all.
    Nowhere(Rejection),
}

/// Whether one pod may run on a node.
pub trait Filter {
    fn check(&self, node: &NodeInfo) -> Result<(), Rejection>;

    /// Whether the answer depends on nothing but the node and on what [`crate::memo`] compares of pods; then
    /// [`Filter::shift`] does nothing.
    fn is_local(&self) -> bool {
        false
    }

    /// Supposes that `by` (1 or -1) of another pod were on the node, besides what [`NodeInfo`] tells.
    fn shift(&mut self, _other: &PodInfo, _node: &NodeInfo, _by: i64) {}

    /// How much would have to change for a node to pass that does not, in thousandths of what there is; `None` if
    /// no change is known.
    fn distance(&self, _: &NodeInfo) -> Option<i64> {
        None
    }

    /// That change: `250m more cpu`.
    fn remedy(&self, _: &NodeInfo) -> Option<String> {
        None
    }
}

/// How well nodes suit one pod.
pub trait Score {
    fn score(&self, node: &NodeInfo) -> i64;

    /// Whether the score, and that there is one, depends on nothing but the node and on what [`crate::memo`] compares
    /// of pods, and [`Score::normalize`] leaves it as it is.
    fn is_fixed(&self) -> bool {
        false
    }

    /// Brings the scores of all nodes into 0 to [`BEST`].
    fn normalize(&self, _scores: &mut [i64]) {}
}

/// What has to be written before a pod is bound.
#[derive(Clone, Debug, PartialEq)]
pub enum Errand {
    /// The volume is for the claim of this UID.
    BindVolume { volume: Box<str>, claim: ObjectKey, uid: Box<str> },
    /// A volume for the claim is wanted on the node.
    Provision { claim: ObjectKey, node: Box<str> },
    /// The pod uses the claim to devices of this UID, which gets these first; `None`: which has some.
    UseDevices { claim: ObjectKey, uid: Box<str>, allocation: Option<Arc<AllocationResult>> },
    /// A claim is made for extended resources that the pod asks for, and gets these devices; `None`: they have gone.
    ClaimDevices { claiming: Box<Claiming>, allocation: Option<Arc<AllocationResult>> },
    /// The devices of the pod have to be made ready; all other errands come before.
    AwaitDevices,
}

/// A plugin; what it does not implement it has no say in.
pub trait Plugin: Send + Sync {
    fn name(&self) -> &'static str;

    /// Where it has a say.
    fn points(&self) -> &'static [Point];

    /// Whether the pod may be considered at all.
    fn pre_enqueue(&self, _: &PodInfo, _: &Surroundings) -> Result<(), String> {
        Ok(())
    }

    /// Pods that it wants to have counted before it is asked about this one.
    fn counts(&self, _: &PodInfo, _: &Surroundings) -> Vec<Term> {
        Vec::new()
    }

    fn pre_filter<'a>(&'a self, _: &'a PodInfo, _: &'a Snapshot) -> PreFilter<'a> {
        PreFilter::Skip
    }

    /// No node fits: what can be done about it, or why nothing can.
    fn post_filter(&self, _: &mut Attempt<'_, '_>) -> Option<Result<Plan, NoPlan>> {
        None
    }

    /// `None` if all nodes suit alike.
    fn pre_score<'a>(&'a self, _: &'a PodInfo, _: &'a Snapshot, _: &[NodeId]) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// The pod is going to this node: takes what it needs there, and says what has to be written first.
    fn reserve(&self, _: &PodInfo, _: &mut Snapshot, _: NodeId) -> Vec<Errand> {
        Vec::new()
    }

    /// The pod is not going there after all.
    fn unreserve(&self, _: &PodInfo, _: &mut Snapshot) {}

    /// Whether the event may turn this plugin's rejection of the pod around.
    fn hint(&self, _: &PodInfo, _: &Event<'_>, _: &Surroundings) -> bool {
        false
    }
}

/// A plugin of a profile.
pub struct Enabled {
    pub plugin: Box<dyn Plugin>,
    pub weight: i64,
    /// Where it is asked, of the points that it has.
    pub at: Vec<Point>,
}

/// The plugins of the pods that name one scheduler.
pub struct Profile {
    pub scheduler: Box<str>,
    pub plugins: Vec<Enabled>,
    /// Of how many percent of the nodes it is enough to know that they fit; 0: fewer, the more there are.
    pub percentage: usize,
    /// How long the volumes of a pod may take to be bound or made.
    pub binding: Duration,
    /// How long its devices may take to be made ready.
    pub devices: Duration,
}

impl Profile {
    pub fn at(&self, point: Point) -> impl Iterator<Item = (&dyn Plugin, i64)> {
        self.plugins.iter().filter(move |p| p.at.contains(&point)).map(|p| (&*p.plugin, p.weight))
    }

    /// Why the pod may not be considered yet.
    pub fn gate(&self, pod: &PodInfo, around: &Surroundings) -> Option<String> {
        self.at(Point::PreEnqueue).find_map(|(plugin, _)| plugin.pre_enqueue(pod, around).err())
    }

    /// Whether one of the named plugins sees hope in the event.
    pub fn hint(
        &self,
        plugins: &[&'static str],
        pod: &PodInfo,
        event: &Event<'_>,
        around: &Surroundings,
    ) -> bool {
        self.plugins.iter().any(|p| plugins.contains(&p.plugin.name()) && p.plugin.hint(pod, event, around))
    }
}

/// Scales so that the highest becomes [`BEST`]; `reverse` makes the lowest the best.
pub fn scale(scores: &mut [i64], reverse: bool) {
    let highest = scores.iter().copied().max().unwrap_or(0);
    for score in scores {
        let part = if highest == 0 { 0 } else { *score * BEST / highest };
        *score = if reverse { BEST - part } else { part };
    }
}
