//! What a namespace's status says of its deletion.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{api::core::v1::NamespaceCondition, apimachinery::pkg::apis::meta::v1::Time};

use super::Findings;

/// Brings `conditions` up to `findings`, leaving all others as they are.
pub(super) fn update(conditions: &mut Vec<NamespaceCondition>, findings: &Findings, now: Timestamp) {
    for (kind, status, reason, message) in of(findings) {
        let status = if status { "True" } else { "False" };
        let mut new = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        };
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(old) => {
                if old.status == status {
                    new.last_transition_time = old.last_transition_time.clone();
                }
                *old = new;
            }
            None => conditions.push(new),
        }
    }
}

/// Each condition: its type, whether it holds, its reason, and its message.
fn of(findings: &Findings) -> [(&'static str, bool, &'static str, String); 5] {
    let condition = |kind, bad: Option<(&'static str, String)>, fine: (&'static str, &str)| match bad {
        Some((reason, message)) => (kind, true, reason, message),
        None => (kind, false, fine.0, fine.1.to_owned()),
    };
    let counted = |counts: &BTreeMap<String, usize>, verb: &str| {
        let each: Vec<_> =
            counts.iter().map(|(of, n)| format!("{of} {verb} {n} resource instances")).collect();
        each.join(", ")
    };
    let undiscovered = (!findings.undiscovered.is_empty()).then(|| {
        let each: Vec<_> = findings.undiscovered.iter().map(|(at, why)| format!("{at}: {why}")).collect();
        let message = format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {}",
            each.len(),
            each.join(", ")
        );
        ("DiscoveryFailed", message)
    });
    let errors = (!findings.errors.is_empty()).then(|| {
        let mut errors = findings.errors.clone();
        errors.sort();
        let message =
            format!("Failed to delete all resource types, {} remaining: {}", errors.len(), errors.join(", "));
        ("ContentDeletionFailed", message)
    });
    let remaining = (!findings.remaining.is_empty()).then(|| {
        (
            "SomeResourcesRemain",
            format!("Some resources are remaining: {}", counted(&findings.remaining, "has")),
        )
    });
    let finalizers = (!findings.finalizers.is_empty()).then(|| {
        let counted = counted(&findings.finalizers, "in");
        ("SomeFinalizersRemain", format!("Some content in the namespace has finalizers remaining: {counted}"))
    });
    [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            undiscovered,
            ("ResourcesDiscovered", "All resources successfully discovered"),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            None,
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
        ),
        condition(
            "NamespaceDeletionContentFailure",
            errors,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
        ),
        condition(
            "NamespaceContentRemaining",
            remaining,
            ("ContentRemoved", "All content successfully removed"),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            finalizers,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
        ),
    ]
}
