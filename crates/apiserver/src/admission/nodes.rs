//! TaintNodesByCondition: a new node takes no pods until it has been seen ready. PodTopologyLabels: pods know their
//! node's place.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use tiphys_api::{meta, status::Status};

use super::{Attributes, Operation, Plugin};
use crate::source::Source;

pub struct TaintNodesByCondition;

#[async_trait]
impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.is(Operation::Create, "", "nodes")
    }

    async fn admit(&self, request: &Attributes<'_>, node: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) {
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

/// The labels of a node that its pods get, so that they can tell where they run.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/region", "topology.kubernetes.io/zone"];

/// Gives pods the labels of their node's place: with the binding, or at birth where they name their node.
pub struct PodTopologyLabels {
    source: Arc<dyn Source>,
}

impl PodTopologyLabels {
    pub fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Labels,
}

#[derive(Deserialize)]
struct Labels {
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[async_trait]
impl Plugin for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, request: &Attributes<'_>) -> bool {
        request.operation == Operation::Create
            && request.group.is_empty()
            && request.resource == "pods"
            && matches!(request.subresource, "" | "binding")
    }

    async fn admit(&self, request: &Attributes<'_>, object: &mut Value, _: &Value) -> Result<(), Status> {
        if !self.handles(request) {
            return Ok(());
        }
        let path: &[&str] =
            if request.subresource.is_empty() { &["spec", "nodeName"] } else { &["target", "name"] };
        let name = meta::text(object, path);
        if name.is_empty() {
            return Ok(());
        }
        let Some(node) = self.source.get("", "nodes", "", name) else { return Ok(()) };
        let Some(Labelled { metadata: Labels { labels } }) = node.read() else { return Ok(()) };
        for key in TOPOLOGY {
            if let Some(value) = labels.get(key) {
                let labels = meta::child_mut(meta::metadata_mut(object), "labels");
                labels.insert(key.to_owned(), value.as_str().into());
            }
        }
        Ok(())
    }
}
