//! Which part of the pods' range a node has that others share a store with.

use std::time::Duration;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
    runtime::wait::await_condition,
};
use tokio::time::timeout;

/// Longer than it takes another process to lead in place of one that was killed.
const PATIENCE: Duration = Duration::from_secs(60);

/// The range that the node has, or is given by who runs the control loops. Two nodes never get one.
///
/// # Errors
/// Nobody gives it one.
pub(crate) async fn of_node(client: Client, name: &str) -> Result<Ipv4Net> {
    let nodes: Api<Node> = Api::all(client);
    let node = Node {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        ..Node::default()
    };
    match nodes.create(&PostParams::default(), &node).await {
        // It has been here before.
        Err(kube::Error::Api(answer)) if answer.code == 409 => {}
        made => drop(made.with_context(|| format!("registering node {name}"))?),
    }
    let given =
        await_condition(nodes, name, |node: Option<&Node>| node.is_some_and(|node| range(node).is_some()));
    let unheard = || {
        format!(
            "node {name} has got no part of the pods' range within {} s; does anybody run the control loops, with \
             --allocate-node-cidrs, and is there a part left?",
            PATIENCE.as_secs()
        )
    };
    let node = timeout(PATIENCE, given).await.with_context(unheard)?;
    let node = node.with_context(|| format!("following node {name}"))?;
    let range = node.as_ref().and_then(range).with_context(|| format!("node {name} is gone"))?;
    range.parse().with_context(|| format!("the range {range:?} of node {name}"))
}

fn range(node: &Node) -> Option<&str> {
    node.spec.as_ref()?.pod_cidr.as_deref().filter(|range| !range.is_empty())
}
