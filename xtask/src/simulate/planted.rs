//! One-line bugs, each an expression in place of another.

/// The variable that wakes a bug, by its number.
pub(super) const SWITCH: &str = "TIPHYS_PLANTED";

pub(super) struct Bug {
    pub(super) what: &'static str,
    pub(super) file: &'static str,
    /// An expression that is once in the file.
    pub(super) right: &'static str,
    pub(super) wrong: &'static str,
}

impl Bug {
    /// The right expression, until the variable says otherwise.
    pub(super) fn asleep(&self, number: usize) -> String {
        let Self { right, wrong, .. } = self;
        format!(
            "(if std::env::var(\"{SWITCH}\").as_deref() == Ok(\"{number}\") {{ {wrong} }} else {{ {right} }})"
        )
    }
}

const fn bug(what: &'static str, file: &'static str, right: &'static str, wrong: &'static str) -> Bug {
    Bug { what, file, right, wrong }
}

const NUMBERS: &str = "crates/controllers/src/deployment/numbers.rs";
const REPLICAS: &str = "crates/controllers/src/replica_set/plan.rs";
const STATEFUL: &str = "crates/controllers/src/stateful_set/plan.rs";
const JOB: &str = "crates/controllers/src/job/plan.rs";
const DAEMON: &str = "crates/controllers/src/daemon_set/plan.rs";
const GARBAGE: &str = "crates/controllers/src/garbage/plan.rs";
const EXPECTATIONS: &str = "crates/client/src/expectations.rs";
const PACE: &str = "crates/controllers/src/autoscaler/pace.rs";
const GANG: &str = "crates/scheduler/src/gang.rs";
const DRAFT: &str = "crates/store/src/engine/draft.rs";

pub(super) const BUGS: &[Bug] = &[
    bug(
        "a rollout surges by one too many",
        NUMBERS,
        "bounds.wanted.saturating_add(bounds.surge) - all",
        "bounds.wanted.saturating_add(bounds.surge) - all + 1",
    ),
    bug(
        "a rollout lets one more be unavailable",
        NUMBERS,
        "(self.wanted - self.unavailable).max(0)",
        "(self.wanted - self.unavailable - 1).max(0)",
    ),
    bug(
        "a rollout trusts a count that is older than a size",
        NUMBERS,
        "(*size).min(spare).min(room).max(0)",
        "(*size).min(spare).max(0)",
    ),
    bug(
        "a ReplicaSet does not wait to see its own pods",
        REPLICAS,
        "!caught_up || set.is_going()",
        "set.is_going()",
    ),
    bug(
        "a ReplicaSet keeps one pod too many",
        REPLICAS,
        "active.len() > wanted",
        "active.len() > wanted + 1",
    ),
    bug("a ReplicaSet never says what it has seen", REPLICAS, "set.metadata.generation", "None"),
    bug(
        "a StatefulSet's rollout never ends",
        STATEFUL,
        "[updated, ready, replicas] == [wanted; 3]",
        "[updated, ready, replicas] == [-1; 3]",
    ),
    bug(
        "a StatefulSet makes pods of the old revision",
        STATEFUL,
        "ordinal < first.saturating_add(kept)",
        "ordinal < i32::MAX.min(first.saturating_add(kept).max(i32::MAX))",
    ),
    bug(
        "a Job is complete one pod too early",
        JOB,
        "self.succeeded >= completions",
        "self.succeeded + 1 >= completions",
    ),
    bug(
        "a Job ends before all its pods are counted",
        JOB,
        "active.is_empty() && still_there == 0 && counted",
        "active.is_empty()",
    ),
    bug(
        "a Job starts one pod too many",
        JOB,
        "wanted.saturating_sub(keep.len() + stopping).min(BURST)",
        "(wanted + 1).saturating_sub(keep.len() + stopping).min(BURST)",
    ),
    bug("a Job never lets its pods go", JOB, "plan.free.push(pod.clone())", "drop(pod.clone())"),
    bug(
        "a DaemonSet takes every pod for updated",
        DAEMON,
        "label.is_some_and(|hash| hash == self.seen.hash)",
        "label.is_some()",
    ),
    bug("a creation that was seen stands for all", EXPECTATIONS, "p.creations.saturating_sub(1)", "0"),
    bug(
        "nobody waits to see their own writes",
        EXPECTATIONS,
        "LOST_AFTER.saturating_sub(all.get(owner)?.since.elapsed())",
        "Duration::ZERO.saturating_sub(all.get(owner)?.since.elapsed())",
    ),
    bug(
        "an informer keeps what went while it was cut off",
        "crates/client/src/informer.rs",
        "!present.contains(*key)",
        "!present.contains(*key) && present.len() > 1_000_000",
    ),
    bug(
        "a queue forgets what changed while it was worked on",
        "crates/client/src/queue.rs",
        "state.dirty.contains_key(key) && state.resting.insert(key.clone())",
        "state.dirty.contains_key(key) && state.resting.contains(key)",
    ),
    bug(
        "the store does not compare before it puts",
        DRAFT,
        "*expected == current.revision",
        "*expected <= current.revision",
    ),
    bug(
        "a watch passes an event over",
        "crates/store/src/tail.rs",
        "self.steps.partition_point(|step| step.revision <= revision)",
        "self.steps.partition_point(|step| step.revision <= revision.next())",
    ),
    bug(
        "a store that is opened again lacks its first entry",
        "crates/store/src/memory.rs",
        "self.log.values().for_each(|entry| index.apply(entry))",
        "self.log.values().skip(1).for_each(|entry| index.apply(entry))",
    ),
    bug(
        "the scheduler gives nodes more than they have",
        "crates/scheduler/src/plugins/node_resources_fit.rs",
        "need > 0 && missing > 0",
        "need > 0 && missing > 1000",
    ),
    bug(
        "what has an owner is garbage",
        GARBAGE,
        "of(Standing::Solid)",
        "of(Standing::Solid) && owners.len() > 1",
    ),
    bug(
        "a deletion in the foreground waits for ever",
        GARBAGE,
        "owner.life == Life::Foreground",
        "owner.life == Life::Foreground && owner.owners.len() > 1",
    ),
    bug(
        "a node's taints stay when it is back",
        "crates/controllers/src/node_lifecycle/plan.rs",
        "!OWNED.contains(&t.key.as_str()) || is_wanted(t)",
        "!OWNED.is_empty() || is_wanted(t)",
    ),
    bug(
        "a CronJob never forgets its Jobs",
        "crates/controllers/src/cron_job/plan.rs",
        "active.retain(|j| j.uid.as_deref() != Some(job.uid()))",
        "active.retain(|j| j.uid.is_some())",
    ),
    bug(
        "a disruption budget allows one too many",
        "crates/controllers/src/disruption/plan.rs",
        "(healthy - desired).max(0)",
        "(healthy - desired + 1).max(0)",
    ),
    bug(
        "an autoscaler goes beyond its most",
        PACE,
        "if max > limit { (limit, UP_LIMIT) } else { (max, TOO_MANY) }",
        "(limit.max(max), UP_LIMIT)",
    ),
    bug(
        "an autoscaler looks back too far",
        PACE,
        "DOWNSCALE_WINDOW + SignedDuration::from_nanos(1)",
        "WIDEST",
    ),
    bug(
        "a gang goes where a part of it has room",
        GANG,
        "there + placed.len() >= least",
        "!placed.is_empty()",
    ),
    bug(
        "a gang's pods count as placed before they are",
        GANG,
        "members.iter().filter(|member| self.snapshot.is_placed(member)).count()",
        "members.len()",
    ),
    bug(
        "a namespace goes without asking a server that is away",
        "crates/controllers/src/namespace/mod.rs",
        "self.undiscovered.is_empty() && self.errors.is_empty() && self.remaining.is_empty()",
        "self.errors.is_empty() && self.remaining.is_empty()",
    ),
    bug(
        "what other servers keep is not collected",
        "crates/controllers/src/garbage/elsewhere.rs",
        "self.away.remove(&name) || !self.services.contains_key(&name)",
        "self.away.remove(&name) && self.services.contains_key(&name)",
    ),
];
