//! Evictions: deletions of pods that their disruption budgets have a say in (KEP-3017 for those that are not healthy).

use serde_json::{Value, json};
use tiphys_api::kind::Update;
use tiphys_api::status::{Details, Reason, Status, StatusCause};
use tiphys_api::{meta, selector::LabelSelector};

use super::{Asked, Handler, options};
use crate::registry::objectmeta::time;
use crate::registry::{Call, Updating};

/// Evictions that a budget's controller has not seen yet; with more, it is taken for dead.
const MOST_DISRUPTED: usize = 2000;

/// What the pod's budget says of an eviction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Say {
    /// It guards the pod, and one disruption is taken from it.
    Spend,
    /// The pod serves nobody: it may go as long as it stays like that.
    Unhealthy,
}

impl Handler {
    /// Deletes a pod, unless its disruption budget is used up.
    pub(super) async fn evict(
        &self,
        call: &mut Call,
        eviction: &Value,
        asked: &Asked,
    ) -> Result<Value, Status> {
        let (mut delete, dry_run) =
            options::delete(eviction.get("deleteOptions").filter(|o| o.is_object()), &asked.query)?;
        call.dry_run |= dry_run;
        let pods = self.registry.collection(&call.kind)?;
        let mut raced = None;
        // One that is too new to be seen has not begun to serve.
        if let Some(pod) = pods.get(&call.namespace, &call.name) {
            let tree: Value = serde_json::from_slice(pod.json()).map_err(Status::internal)?;
            let phase = meta::text(&tree, &["status", "phase"]);
            let stands = !matches!(phase, "Succeeded" | "Failed") && !meta::is_terminating(&tree);
            let guarded = stands && phase != "Pending";
            if guarded && let Some(budget) = self.budget(call, &|key| pod.labels().get(key))? {
                let name = meta::name(&budget).to_owned();
                match say(&budget, is_ready(&tree)) {
                    Say::Spend => self.spend(call, &name).await?,
                    Say::Unhealthy if delete.resource_version.is_none() => {
                        delete.resource_version = Some(pod.revision().to_string());
                        raced = Some(name);
                    }
                    Say::Unhealthy => {}
                }
            }
            // Telling would be a change that the deletion does not expect.
            if stands && delete.resource_version.is_none() {
                self.tell(call).await?;
            }
        }
        match self.registry.delete(call, &delete).await {
            // It may have become healthy meanwhile.
            Err(status)
                if status.code() == 409
                    && let Some(budget) = raced =>
            {
                return Err(processing(&budget));
            }
            result => result?,
        };
        Ok(json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}))
    }

    /// The budget that the pod of these labels is under.
    fn budget<'a>(
        &self,
        call: &Call,
        label: &dyn Fn(&str) -> Option<&'a str>,
    ) -> Result<Option<Value>, Status> {
        let kinds = self.registry.kinds();
        let Some(kind) = kinds.resource("policy", "v1", "poddisruptionbudgets") else { return Ok(None) };
        let mut covering = None;
        for budget in self.registry.collection(kind)?.iter(Some(&call.namespace)) {
            let tree: Value = serde_json::from_slice(budget.json()).map_err(Status::internal)?;
            // One without a selector is over nothing; an empty one is over all.
            let selector = &tree["spec"]["selector"];
            if selector.is_null() || !LabelSelector::from_value(selector).is_ok_and(|s| s.matches_by(label)) {
                continue;
            }
            if covering.replace(tree).is_some() {
                let message = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status::internal(message));
            }
        }
        Ok(covering)
    }

    /// Takes a disruption from a budget.
    async fn spend(&self, call: &Call, budget: &str) -> Result<(), Status> {
        let kinds = self.registry.kinds();
        let Some(kind) = kinds.resource("policy", "v1", "poddisruptionbudgets") else { return Ok(()) };
        let spend = Call {
            kind: kind.clone(),
            name: budget.to_owned(),
            subresource: "status".to_owned(),
            ..call.clone()
        };
        let at = time(self.registry.now());
        let mut make = |live: Option<&Value>| {
            let mut live = live.ok_or_else(|| spend.not_found())?.clone();
            spent(&mut live, budget, &call.name, &at)?;
            Ok(live)
        };
        let updating = Updating { rules: Update::PLAIN, create: false, make: &mut make };
        self.registry.update(&spend, updating).await.map(drop)
    }

    /// Tells in the pod's status why it goes (KEP-3329).
    async fn tell(&self, call: &Call) -> Result<(), Status> {
        let status = Call { subresource: "status".to_owned(), ..call.clone() };
        let at = time(self.registry.now());
        let mut make = |live: Option<&Value>| {
            let mut live = live.ok_or_else(|| call.not_found())?.clone();
            told(&mut live, &at);
            Ok(live)
        };
        let updating = Updating { rules: Update::PLAIN, create: false, make: &mut make };
        self.registry.update(&status, updating).await.map(drop)
    }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    meta::items(object, &["status", "conditions"]).iter().find(|c| c["type"] == kind)
}

fn is_ready(pod: &Value) -> bool {
    condition(pod, "Ready").is_some_and(|c| c["status"] == "True")
}

fn number(budget: &Value, field: &str) -> i64 {
    budget["status"][field].as_i64().unwrap_or(0)
}

fn say(budget: &Value, ready: bool) -> Say {
    let always = budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow";
    let (healthy, wanted) = (number(budget, "currentHealthy"), number(budget, "desiredHealthy"));
    if !ready && (always || (healthy >= wanted && wanted > 0)) { Say::Unhealthy } else { Say::Spend }
}

/// A refusal; with a time to come again after, clients come again by themselves, and otherwise say why they wait.
fn refused(why: String, retry_after_seconds: u32) -> Status {
    let cause = StatusCause { reason: "DisruptionBudget".to_owned(), message: why, field: String::new() };
    let details = Details { causes: vec![cause], retry_after_seconds, ..Details::default() };
    let text = "Cannot evict pod as it would violate the pod's disruption budget.";
    Status::new(Reason::TooManyRequests, text).with_details(details)
}

fn processing(budget: &str) -> Status {
    refused(format!("The disruption budget {budget} is still being processed by the server."), 10)
}

/// Counts a disruption of `pod` against a budget.
fn spent(budget: &mut Value, name: &str, pod: &str, now: &str) -> Result<(), Status> {
    if number(budget, "observedGeneration") < meta::generation(budget) {
        return Err(processing(name));
    }
    let allowed = number(budget, "disruptionsAllowed");
    let forbidden = |why: &str| Err(Status::forbidden("", "poddisruptionbudget", name, why));
    if allowed < 0 {
        return forbidden("pdb disruptions allowed is negative");
    }
    if budget["status"]["disruptedPods"].as_object().is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return forbidden("DisruptedPods map too big - too many evictions not confirmed by PDB controller");
    }
    if allowed == 0 {
        let failed = condition(budget, "DisruptionAllowed")
            .filter(|c| c["status"] == "False" && c["reason"] == "SyncFailed");
        let why = match failed {
            Some(failed) => format!(
                "The disruption budget {name} does not allow evicting pods currently because it failed sync: {}",
                failed["message"].as_str().unwrap_or_default()
            ),
            None => format!(
                "The disruption budget {name} needs {} healthy pods and has {} currently",
                number(budget, "desiredHealthy"),
                number(budget, "currentHealthy")
            ),
        };
        return Err(refused(why, 0));
    }
    budget["status"]["disruptionsAllowed"] = (allowed - 1).into();
    budget["status"]["disruptedPods"][pod] = now.into();
    Ok(())
}

/// Gives a pod the condition that it is evicted.
fn told(pod: &mut Value, now: &str) {
    let conditions = &mut pod["status"]["conditions"];
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    if let Some(list) = conditions.as_array_mut() {
        list.retain(|c| c["type"] != "DisruptionTarget");
        list.push(json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": now}));
    }
}

#[cfg(test)]
#[path = "eviction_tests.rs"]
mod tests;
