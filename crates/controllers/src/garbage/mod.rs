//! What becomes of objects whose owners go, and of owners that wait for what they own.
//!
//! One [`graph::Graph`] of all objects of all kinds is kept from watches of their metadata. Whatever changes
//! puts the UIDs that it may concern into a queue; a look reads the object anew, decides by [`plan`], and acts.
//! The kinds are those that the cluster serves when the collector starts, those of CustomResourceDefinitions as
//! they come and go, and those of other API servers as these do.

mod definitions;
mod elsewhere;
mod graph;
mod metadata;
mod plan;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{StreamExt, TryStreamExt, future::join_all, pin_mut, stream};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{
    Api, Client,
    api::{DeleteParams, ObjectMeta, Patch, Preconditions, PropagationPolicy},
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tiphys_client::{Queue, Verdict, events::Recorder, follow};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use self::{
    graph::{Catalogue, FOREGROUND, Graph, Identity, KindId, Life, Node, ORPHAN, Uid},
    metadata::Metadata,
    plan::{Known, Policy, Standing, Step, for_dependents, for_owners, known, standing},
};
use crate::{
    controller::Tools,
    discovery::{Served, discover},
};

/// How long the first lists may take; a kind that cannot be listed must not keep all others from being
/// collected. What the graph lacks is asked for, so looking early is safe.
const FIRST_LISTS: Duration = Duration::from_secs(30);
/// Between attempts to learn what the cluster serves.
const DISCOVERY_RETRY: Duration = Duration::from_secs(1);
/// Dependents of one object that are patched at once.
const PARALLEL: usize = 8;
/// As many as upstream has.
const WORKERS: usize = 20;
/// The name of the service account, and the source of the events.
pub(crate) const NAME: &str = "generic-garbage-collector";
/// What upstream calls it where controllers are switched on and off.
pub(crate) const SWITCH: &str = "garbage-collector-controller";

struct Collector {
    client: Client,
    events: Recorder,
    catalogue: Catalogue,
    graph: Mutex<Graph>,
    queue: Queue<Uid>,
}

/// Whether objects of the kind are collected. Events are many, own nothing, are owned by nobody, and expire.
fn collects(served: &Served) -> bool {
    served.resource.plural != "events" && served.can(&["list", "watch", "delete"])
}

/// Collects until the future is dropped.
pub(crate) async fn run(tools: Tools) {
    let Tools { client, events } = tools;
    let served = loop {
        match discover(&client).await {
            Ok(found) => {
                for (version, error) in &found.failed {
                    warn!(version, %error, "objects of this version are not collected");
                }
                break found.served;
            }
            Err(error) => warn!(%error, "cannot learn what to collect; will try again"),
        }
        sleep(DISCOVERY_RETRY).await;
    };
    // Custom kinds are followed by their definitions, those of other servers by their APIServices.
    let (custom, others) = (definitions::names(&client).await, elsewhere::versions(&client).await);
    let collected = served.into_iter().filter(|served| {
        collects(served)
            && !custom.contains(&definitions::name(served))
            && !others.contains(&served.resource.api_version)
    });
    let catalogue = Catalogue::new(collected.collect());
    let this =
        Arc::new(Collector { client, events, catalogue, graph: Mutex::default(), queue: Queue::new() });
    let (unlisted, seen) = watch::channel(this.catalogue.kinds().count());
    let listed = || unlisted.send_modify(|left| *left -= 1);
    let follow = join_all(this.catalogue.kinds().map(|kind| this.follow(kind, listed)));
    tokio::join!(follow, definitions::follow(&this), elsewhere::follow(&this), this.work(seen));
}

impl Collector {
    fn api(&self, kind: KindId, namespace: &str) -> Api<Metadata> {
        let resource = &self.catalogue.served(kind).resource;
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, resource)
        }
    }

    /// Follows a kind that came after the start. What was puzzling before may not be so with it.
    fn add(self: &Arc<Self>, served: Served, tasks: &mut JoinSet<()>) -> (KindId, AbortHandle) {
        let kind = self.catalogue.add(served);
        let this = Arc::clone(self);
        let task = tasks.spawn(async move { this.follow(kind, || {}).await });
        let puzzling = self.graph.lock().puzzling();
        puzzling.into_iter().for_each(|uid| self.queue.add(uid));
        (kind, task)
    }

    /// Keeps the graph's objects of one kind. Tells once that all are there.
    async fn follow(&self, kind: KindId, listed_once: impl Fn()) {
        let events = follow(self.api(kind, ""), watcher::Config::default());
        let events = events.default_backoff();
        pin_mut!(events);
        let mut listed = BTreeSet::new();
        let mut first = true;
        while let Some(event) = events.next().await {
            let look = match event {
                Ok(Event::Init) => {
                    listed.clear();
                    continue;
                }
                Ok(Event::InitApply(object)) => {
                    listed.extend(object.metadata.uid.as_deref().map(Uid::from));
                    self.apply(kind, &object.metadata)
                }
                Ok(Event::InitDone) => {
                    if std::mem::take(&mut first) {
                        listed_once();
                    }
                    self.graph.lock().retain(kind, &std::mem::take(&mut listed))
                }
                Ok(Event::Apply(object)) => self.apply(kind, &object.metadata),
                Ok(Event::Delete(object)) => {
                    object.metadata.uid.map(|uid| self.graph.lock().remove(&uid)).unwrap_or_default()
                }
                Err(error) => {
                    warn!(resource = self.catalogue.served(kind).resource.plural, %error, "watch interrupted");
                    continue;
                }
            };
            look.into_iter().for_each(|uid| self.queue.add(uid));
        }
    }

    fn apply(&self, kind: KindId, meta: &ObjectMeta) -> Vec<Uid> {
        Node::of(&self.catalogue, kind, meta).map(|node| self.graph.lock().apply(node)).unwrap_or_default()
    }

    async fn work(self: &Arc<Self>, mut unlisted: watch::Receiver<usize>) {
        if timeout(FIRST_LISTS, unlisted.wait_for(|left| *left == 0)).await.is_err() {
            warn!("some kinds could not be listed; collecting without them for now");
        }
        let this = self.clone();
        let look = move |uid: Uid| {
            let this = this.clone();
            async move { this.look(&uid).await }
        };
        self.queue.run(NAME, WORKERS, look).await;
    }

    async fn look(&self, uid: &Uid) -> Result<Verdict, kube::Error> {
        let Some(node) = self.graph.lock().get(uid).cloned() else { return Ok(Verdict::Done) };
        if self.is_at_rest(&node) {
            return Ok(Verdict::Done);
        }
        let identity = node.identity;
        let Some(meta) = self.read(&identity).await? else { return Ok(Verdict::Done) };
        let Some(node) = Node::of(&self.catalogue, identity.kind, &meta) else { return Ok(Verdict::Done) };
        let step = match node.life {
            Life::Stays => match self.standings(&node).await? {
                Some(owners) => for_owners(&self.graph.lock(), &node, &owners, policy_of(&meta)),
                None => Step::Nothing,
            },
            _ => for_dependents(&self.graph.lock(), &node),
        };
        if step != Step::Nothing {
            debug!(object = %identity.key, resource = self.catalogue.served(identity.kind).resource.plural, ?step, "collecting");
        }
        self.act(&node, &meta, step).await
    }

    /// Whether the graph alone tells that there is nothing to do, as it does of nearly everything.
    fn is_at_rest(&self, node: &Node) -> bool {
        let graph = self.graph.lock();
        match node.life {
            Life::Stays => node.owners.iter().all(|owner| {
                // Of a kind that was not known when the object was seen more may be known now.
                let solid = Known::Yes(Standing::Solid);
                owner.kind.is_some() && known(&graph, &self.catalogue, node, owner) == solid
            }),
            life => life == Life::Goes,
        }
    }

    /// The object's metadata; `None` once that incarnation is gone.
    async fn read(&self, identity: &Identity) -> Result<Option<ObjectMeta>, kube::Error> {
        let api = self.api(identity.kind, &identity.key.namespace);
        let found = api.get_opt(&identity.key.name).await?;
        Ok(found.map(|object| object.metadata).filter(|meta| meta.uid.as_deref() == Some(&identity.uid)))
    }

    /// The standing of each owner; `None` if the references make no sense.
    async fn standings(&self, node: &Node) -> Result<Option<Vec<Standing>>, kube::Error> {
        let mut standings = Vec::with_capacity(node.owners.len());
        for owner in &node.owners {
            let known = known(&self.graph.lock(), &self.catalogue, node, owner);
            standings.push(match known {
                Known::Yes(standing) => standing,
                Known::Invalid => {
                    self.complain(node, owner);
                    return Ok(None);
                }
                Known::Ask(identity) => match self.read(&identity).await? {
                    Some(meta) => Node::of(&self.catalogue, identity.kind, &meta)
                        .map_or(Standing::Solid, |owner| standing(&owner)),
                    None => {
                        let elsewhere = self.graph.lock().get(&identity.uid).is_some();
                        if elsewhere {
                            self.complain(node, owner);
                        }
                        self.graph.lock().note_absent(identity);
                        Standing::Absent
                    }
                },
            });
        }
        Ok(Some(standings))
    }

    fn complain(&self, node: &Node, owner: &graph::Owner) {
        let Some(kind) = owner.kind else { return };
        let (of, key) = (self.catalogue.served(kind), &node.identity.key);
        let of = &of.resource;
        let message = format!(
            "ownerRef [{}/{}, namespace: {}, name: {}, uid: {}] does not exist in namespace {:?}",
            of.api_version, of.kind, key.namespace, owner.name, owner.uid, key.namespace
        );
        let served = self.catalogue.served(node.identity.kind);
        let resource = &served.resource;
        let about = ObjectReference {
            api_version: Some(resource.api_version.clone()),
            kind: Some(resource.kind.clone()),
            namespace: Some(key.namespace.to_string()).filter(|n| !n.is_empty()),
            name: Some(key.name.to_string()),
            uid: Some(node.identity.uid.to_string()),
            ..Default::default()
        };
        self.events.warning(&about, "OwnerRefInvalidNamespace", message);
    }

    async fn act(&self, node: &Node, meta: &ObjectMeta, step: Step) -> Result<Verdict, kube::Error> {
        let identity = &node.identity;
        match step {
            Step::Nothing => Ok(Verdict::Done),
            Step::Push(dependents) => {
                dependents.into_iter().for_each(|uid| self.queue.add(uid));
                Ok(Verdict::Done)
            }
            Step::Orphan(dependents) => {
                let verdicts: Vec<Verdict> = stream::iter(dependents)
                    .map(|dependent| self.disown(dependent, std::slice::from_ref(&identity.uid)))
                    .buffer_unordered(PARALLEL)
                    .try_collect()
                    .await?;
                if verdicts.contains(&Verdict::Again) {
                    return Ok(Verdict::Again);
                }
                self.patch(identity, meta, without_finalizer(meta, ORPHAN)).await
            }
            Step::Release => self.patch(identity, meta, without_finalizer(meta, FOREGROUND)).await,
            Step::Disown(owners) => self.patch(identity, meta, without_owners(meta, &owners)).await,
            Step::Delete { unblock: true, .. } => {
                let references = meta.owner_references.iter().flatten().cloned().map(|mut reference| {
                    reference.block_owner_deletion = Some(false);
                    reference
                });
                let patch = json!({"ownerReferences": references.collect::<Vec<_>>()});
                match self.patch(identity, meta, patch).await? {
                    // The patch has made another version of it.
                    Verdict::Done => self.delete(identity, None, PropagationPolicy::Foreground).await,
                    verdict => Ok(verdict),
                }
            }
            Step::Delete { policy, unblock: false } => {
                let policy = match policy {
                    Policy::Background => PropagationPolicy::Background,
                    Policy::Foreground => PropagationPolicy::Foreground,
                    Policy::Orphan => PropagationPolicy::Orphan,
                };
                // At this version its owners were what they are: somebody may have adopted it meanwhile.
                self.delete(identity, meta.resource_version.clone(), policy).await
            }
        }
    }

    /// Takes the references to `owners` off an object, if it is still there and has them.
    async fn disown(&self, identity: Identity, owners: &[Uid]) -> Result<Verdict, kube::Error> {
        let Some(meta) = self.read(&identity).await? else { return Ok(Verdict::Done) };
        if meta.owner_references.iter().flatten().all(|o| !owners.iter().any(|uid| **uid == *o.uid)) {
            return Ok(Verdict::Done);
        }
        self.patch(&identity, &meta, without_owners(&meta, owners)).await
    }

    /// Changes the metadata of exactly what was read.
    async fn patch(
        &self,
        identity: &Identity,
        meta: &ObjectMeta,
        mut change: Value,
    ) -> Result<Verdict, kube::Error> {
        change["uid"] = json!(&*identity.uid);
        change["resourceVersion"] = json!(meta.resource_version);
        let patch = Patch::Merge(json!({"metadata": change}));
        let api = self.api(identity.kind, &identity.key.namespace);
        settled(api.patch(&identity.key.name, &Default::default(), &patch).await)
    }

    async fn delete(
        &self,
        identity: &Identity,
        resource_version: Option<String>,
        policy: PropagationPolicy,
    ) -> Result<Verdict, kube::Error> {
        let params = DeleteParams {
            propagation_policy: Some(policy),
            preconditions: Some(Preconditions { uid: Some(identity.uid.to_string()), resource_version }),
            ..Default::default()
        };
        let api = self.api(identity.kind, &identity.key.namespace);
        settled(api.delete(&identity.key.name, &params).await)
    }
}

/// What is gone needs nothing more; what changed meanwhile needs another look.
fn settled<T>(result: Result<T, kube::Error>) -> Result<Verdict, kube::Error> {
    match result {
        Ok(_) => Ok(Verdict::Done),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Verdict::Done),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Verdict::Again),
        Err(error) => Err(error),
    }
}

/// How an object wants its own dependents to fare.
fn policy_of(meta: &ObjectMeta) -> Policy {
    let has = |name: &str| meta.finalizers.iter().flatten().any(|f| f == name);
    if has(ORPHAN) {
        Policy::Orphan
    } else if has(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    }
}

fn without_finalizer(meta: &ObjectMeta, finalizer: &str) -> Value {
    let left: Vec<_> = meta.finalizers.iter().flatten().filter(|f| *f != finalizer).collect();
    json!({"finalizers": left})
}

fn without_owners(meta: &ObjectMeta, owners: &[Uid]) -> Value {
    let left = meta.owner_references.iter().flatten().filter(|o| owners.iter().all(|uid| **uid != *o.uid));
    json!({"ownerReferences": left.collect::<Vec<_>>()})
}
