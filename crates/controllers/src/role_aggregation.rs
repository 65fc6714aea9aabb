//! ClusterRoles that are made of others: one with an `aggregationRule` has the rules of all that its selectors choose.

use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::{Api, Client, api::Patch};
use serde_json::json;
use tiphys_api::selector::LabelSelector;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

pub(crate) struct RoleAggregation {
    client: Client,
    queue: Queue<ObjectKey>,
    roles: Reader<ClusterRole>,
}

impl RoleAggregation {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let roles = informers.cluster_roles.reader();
        informers.cluster_roles.on_change({
            let (queue, roles) = (queue.clone(), roles.clone());
            move |_| {
                // Whatever any role is made of may have changed.
                let made = roles.list().into_iter().filter(|role| role.aggregation_rule.is_some());
                made.for_each(|role| queue.add(role.key()));
            }
        });
        Self { client: tools.client, queue, roles }
    }
}

/// The rules that a role made of others should have, in the order of those others' names; `None` if it is not, or
/// already has them.
fn wanted(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<PolicyRule>> {
    let selectors = role.aggregation_rule.as_ref()?.cluster_role_selectors.iter().flatten();
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors {
        let selector = serde_json::to_value(selector).unwrap_or_default();
        // One that is no selector chooses nothing.
        let Ok(selector) = LabelSelector::from_value(&selector) else { continue };
        let chosen = all.iter().filter(|other| {
            let labels = other.metadata.labels.as_ref();
            other.name() != role.name()
                && selector.matches_by(|key| labels.and_then(|labels| labels.get(key)).map(String::as_str))
        });
        for rule in chosen.flat_map(|other| other.rules.iter().flatten()) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    (role.rules.as_deref().unwrap_or_default() != rules).then_some(rules)
}

impl Controller for RoleAggregation {
    const NAME: &'static str = "clusterrole-aggregation-controller";
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.roles.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(role) = self.roles.get(key).filter(|role| !role.is_going()) else {
            return Ok(Verdict::Done);
        };
        let Some(rules) = wanted(&role, &self.roles.list()) else { return Ok(Verdict::Done) };
        let patch = json!({"metadata": {"uid": role.uid()}, "rules": rules});
        let api: Api<ClusterRole> = Api::all(self.client.clone());
        gone_is_fine(api.patch(role.name(), &Default::default(), &Patch::Merge(patch)).await)?;
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str], aggregation: Value) -> Arc<ClusterRole> {
        let rules: Vec<Value> = verbs
            .iter()
            .map(|verb| json!({"verbs": [verb], "apiGroups": [""], "resources": ["pods"]}))
            .collect();
        let object = json!({"metadata": {"name": name, "labels": {"to": label}}, "rules": rules,
            "aggregationRule": aggregation});
        Arc::new(serde_json::from_value(object).expect("a role"))
    }

    fn to(labels: &[&str]) -> Value {
        let selectors: Vec<Value> =
            labels.iter().map(|label| json!({"matchLabels": {"to": label}})).collect();
        json!({"clusterRoleSelectors": selectors})
    }

    fn verbs(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Option<Vec<String>> {
        wanted(role, all).map(|rules| rules.into_iter().map(|rule| rule.verbs.concat()).collect())
    }

    #[test]
    fn a_role_has_the_rules_of_those_that_it_chooses() {
        let sum = role("sum", "view", &["old"], to(&["view", "edit"]));
        let all = [
            role("a", "view", &["get", "list"], Value::Null),
            role("b", "edit", &["list", "create"], Value::Null),
            role("c", "other", &["delete"], Value::Null),
            sum.clone(),
        ];
        let want = ["get", "list", "create"].map(str::to_owned).to_vec();
        assert_eq!(verbs(&sum, &all), Some(want), "each once, and not its own");
        let settled = role("sum", "view", &["get", "list", "create"], to(&["view", "edit"]));
        assert_eq!(verbs(&settled, &all), None);
        assert_eq!(verbs(&all[2], &all), None, "it is made of nothing");
        assert_eq!(verbs(&role("none", "x", &["get"], to(&[])), &all), Some(Vec::new()));
    }
}
