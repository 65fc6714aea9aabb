//! What a failed pod means for its Job, and when enough indexes have succeeded: the rules that a Job states itself.
//!
//! KEP-3329 (pod failure policy), KEP-3850 (back-off limit per index) and KEP-3998 (success policy).

use k8s_openapi::api::batch::v1::{
    JobSpec, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicyRule,
};

use super::indexes::Indexes;
use crate::{
    object::Object,
    pod::{ContainerStatus, Pod},
};

/// What follows from the failure of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// It counts towards the back-off limit.
    Counts,
    /// It counts for nothing.
    Ignored,
    /// Its index has failed for good.
    FailsIndex,
    /// The Job has failed, for this reason.
    FailsJob(String),
}

/// The first rule that the failed pod matches decides.
pub(super) fn consequence(spec: &JobSpec, pod: &Pod) -> Consequence {
    let rules = spec.pod_failure_policy.iter().flat_map(|p| &p.rules);
    for (at, rule) in rules.enumerate() {
        let Some(what) = matched(rule, pod) else { continue };
        return match rule.action.as_str() {
            "Ignore" => Consequence::Ignored,
            "FailIndex" if spec.backoff_limit_per_index.is_some() => Consequence::FailsIndex,
            "FailJob" => Consequence::FailsJob(format!("{what} matching FailJob rule at index {at}")),
            _ => Consequence::Counts,
        };
    }
    Consequence::Counts
}

/// The action of the first rule that the failed pod matches, as the API calls it.
pub(super) fn action(spec: &JobSpec, pod: &Pod) -> Option<&'static str> {
    let mut rules = spec.pod_failure_policy.iter().flat_map(|p| &p.rules);
    let rule = rules.find(|rule| matched(rule, pod).is_some())?;
    ["FailJob", "FailIndex", "Ignore", "Count"].into_iter().find(|action| *action == rule.action)
}

/// What of the pod the rule matches, in upstream's words.
fn matched(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let status = pod.status.as_ref()?;
    let place = format!("{}/{}", pod.namespace(), pod.name());
    if let Some(codes) = &rule.on_exit_codes {
        let containers = [&status.container_statuses, &status.init_container_statuses];
        let (name, code) = containers
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|c| exit_code(codes, c).map(|e| (&c.name, e)))?;
        return Some(format!("Container {name} for pod {place} failed with exit code {code}"));
    }
    let patterns = rule.on_pod_conditions.as_deref().unwrap_or_default();
    let condition = status.conditions.iter().flatten().find(|c| {
        patterns.iter().any(|p| p.type_ == c.type_ && p.status.as_deref().unwrap_or("True") == c.status)
    })?;
    Some(format!("Pod {place} has condition {}", condition.type_))
}

/// The container's exit code, if it failed with one that the requirement means.
fn exit_code(
    requirement: &PodFailurePolicyOnExitCodesRequirement,
    container: &ContainerStatus,
) -> Option<i32> {
    let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
    let meant = requirement.container_name.as_ref().is_none_or(|name| *name == container.name);
    let listed = requirement.values.contains(&code);
    let matches = match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        _ => false,
    };
    (meant && code != 0 && matches).then_some(code)
}

/// The place of the first rule by which these indexes are success enough. `completions` bounds what rules name.
pub(super) fn success(spec: &JobSpec, done: &Indexes, completions: u32) -> Option<usize> {
    if done.len() == 0 {
        return None;
    }
    let enough = |rule: &SuccessPolicyRule| {
        let count = rule.succeeded_count.and_then(|c| usize::try_from(c).ok());
        match &rule.succeeded_indexes {
            Some(text) => {
                let named = Indexes::parse(text, completions);
                let common = named.common(done);
                named.len() > 0 && (common == named.len() || count.is_some_and(|c| common >= c))
            }
            None => count.is_some_and(|c| done.len() >= c),
        }
    };
    spec.success_policy.as_ref()?.rules.iter().position(enough)
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
