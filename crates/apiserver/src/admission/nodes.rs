//! TaintNodesByCondition: a new node takes no pods until it has been seen ready.

use async_trait::async_trait;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    async fn admit(&self, request: &Attributes<'_>, node: &mut Value, _: &Value) -> Result<(), Status> {
        if !request.is(Operation::Create, "", "nodes") {
            return Ok(());
        }
        let taint = json!({ "key": "node.kubernetes.io/not-ready", "effect": "NoSchedule" });
        let same = |other: &Value| other["key"] == taint["key"] && other["effect"] == taint["effect"];
        if !meta::items(node, &["spec", "taints"]).iter().any(same) {
            super::list_mut(node, &["spec", "taints"]).push(taint);
        }
        Ok(())
    }
}
