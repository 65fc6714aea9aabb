//! Nodes that do not bring ranges of addresses for their pods get them, a part of each of the cluster's ranges.

mod ranges;

use std::{collections::BTreeSet, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::ranges::Given;
pub use self::ranges::{Parted, RangeError};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

/// Where nodes' ranges come from.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One range of each family at most.
    pub ranges: Vec<Parted>,
    /// Networks that no node gets, such as those of services.
    pub taken: Vec<IpNet>,
}

struct State {
    given: Given,
    /// Nodes for which there was nothing left.
    waiting: BTreeSet<ObjectKey>,
}

pub(crate) struct NodeIpam {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    nodes: Reader<Node>,
    state: Arc<Mutex<State>>,
}

/// The ranges that a node has; what is no network is left out.
fn ranges_of(node: &Node) -> Vec<IpNet> {
    let spec = node.spec.clone().unwrap_or_default();
    let all =
        spec.pod_cidrs.filter(|all| !all.is_empty()).unwrap_or_else(|| spec.pod_cidr.into_iter().collect());
    all.iter().filter_map(|text| text.parse().ok()).collect()
}

fn has_none(node: &Node) -> bool {
    let spec = node.spec.as_ref();
    let listed = spec.and_then(|s| s.pod_cidrs.as_ref()).is_some_and(|all| !all.is_empty());
    !listed && spec.and_then(|s| s.pod_cidr.as_deref()).unwrap_or_default().is_empty()
}

impl NodeIpam {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, settings: Settings) -> Self {
        let queue = Queue::new();
        let given = Given::new(settings.ranges, &settings.taken);
        let state = Arc::new(Mutex::new(State { given, waiting: BTreeSet::new() }));
        informers.nodes.on_change({
            let (queue, state) = (queue.clone(), state.clone());
            move |change| {
                let mut state = state.lock();
                match &change.new {
                    Some(node) if has_none(node) => queue.add(change.key.clone()),
                    Some(node) => state.given.see(&change.key, ranges_of(node)),
                    None => {
                        state.waiting.remove(&change.key);
                        if state.given.forget(&change.key) {
                            std::mem::take(&mut state.waiting).into_iter().for_each(|key| queue.add(key));
                        }
                    }
                }
            }
        });
        let Tools { client, events } = tools;
        Self { client, events, queue, nodes: informers.nodes.reader(), state }
    }
}

impl Controller for NodeIpam {
    const NAME: &'static str = "node-ipam-controller";
    const ACCOUNT: &'static str = "node-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.nodes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(node) = self.nodes.get(key).filter(|node| has_none(node)) else {
            return Ok(Verdict::Done);
        };
        let promised = {
            let mut state = self.state.lock();
            let promised = state.given.promise(key);
            if promised.is_none() {
                state.waiting.insert(key.clone());
            }
            promised
        };
        let Some(nets) = promised else {
            let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
            self.events.normal(&node.as_reference(), "CIDRNotAvailable", message);
            return Ok(Verdict::Done);
        };
        // Whether or not the answer comes, the promise stands: the next try says the same.
        let nets: Vec<String> = nets.iter().map(IpNet::to_string).collect();
        let patch = json!({
            "metadata": {"uid": node.uid()},
            "spec": {"podCIDR": nets.first(), "podCIDRs": nets},
        });
        let api: Api<Node> = Api::all(self.client.clone());
        let patched = api.patch(&key.name, &PatchParams::default(), &Patch::Merge(patch)).await;
        if gone_is_fine(patched)?.is_none() {
            self.state.lock().given.forget(key);
        }
        Ok(Verdict::Done)
    }
}
