//! ControllerRevisions: the templates that a StatefulSet or a DaemonSet has had, and may be led back to.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::{
    api::{apps::v1::ControllerRevision, core::v1::PodTemplateSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, runtime::RawExtension},
};
use kube::{
    Api, Client,
    api::{Patch, PostParams},
};
use serde_json::{Value, json};
use tiphys_client::{ObjectKey, Queue, Reader, key::controller_of};

use crate::{
    claim::{self, claim, exists, gone_is_fine, only},
    informers::Kept,
    object::{Object, safe_encode},
    pod_control::{RunsPods, owns},
};

/// The label of a pod that names the revision it was made at.
pub(crate) const REVISION: &str = "controller-revision-hash";
/// A revision's name has this many bytes of its owner's at most.
const LONGEST_PREFIX: usize = 223;
/// How many names are tried for one revision, all others being taken by something else.
const MOST_COLLISIONS: usize = 16;

/// What keeps its templates.
pub(crate) trait KeepsHistory: RunsPods {
    /// The label of a revision that holds its hash.
    const HASH: &'static str;
    fn template(&self) -> &PodTemplateSpec;
    /// How many revisions that nothing runs at are kept.
    fn history_limit(&self) -> Option<i32>;
    /// How many names of revisions have been found taken.
    fn collisions(&self) -> i32;
}

/// The revisions of one owner.
#[derive(Debug)]
pub(crate) struct Past {
    /// Oldest first.
    pub(crate) all: Vec<Arc<ControllerRevision>>,
    /// The one that the owner now describes.
    pub(crate) newest: Arc<ControllerRevision>,
    pub(crate) collisions: i32,
}

/// What is to be done for there to be a revision of what the owner describes.
#[derive(Debug, PartialEq)]
enum Next {
    /// It is the newest already.
    Is(Arc<ControllerRevision>),
    /// The owner was led back to it: it becomes the newest, of this number.
    Again(Arc<ControllerRevision>, i64),
    /// There is none; it gets this number.
    New(i64),
}

fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

fn oldest_first(a: &ControllerRevision, b: &ControllerRevision) -> Ordering {
    let created = |r: &ControllerRevision| r.metadata.creation_timestamp.as_ref().map(|t| t.0);
    number(a).cmp(&number(b)).then_with(|| created(a).cmp(&created(b))).then_with(|| a.name().cmp(b.name()))
}

/// A patch that leads its owner back to the template, byte for byte as Go programs write it.
fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = "replace".into();
    if template["metadata"].is_null() {
        template["metadata"] = json!({});
    }
    json!({"spec": {"template": template}})
}

/// The template that a revision keeps; `None` for one that somebody else has written.
pub(crate) fn template_of(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let template = revision.data.0.get("spec")?.get("template")?;
    serde_json::from_value(template.clone()).ok()
}

/// FNV-1 over the data, and how often such a name has been taken.
fn hash(data: &Value, collisions: i32) -> String {
    let mut bytes = serde_json::to_vec(data).unwrap_or_default();
    bytes.extend(collisions.to_string().into_bytes());
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(*byte));
    safe_encode(hash)
}

fn next(all: &[Arc<ControllerRevision>], template: &PodTemplateSpec) -> Next {
    let to = all.last().map_or(0, |r| number(r)) + 1;
    let wanted = data(template);
    let same = |r: &&Arc<ControllerRevision>| r.data.0 == wanted || template_of(r).as_ref() == Some(template);
    match all.iter().rfind(same) {
        Some(found) if number(found) == to - 1 => Next::Is(found.clone()),
        Some(found) => Next::Again(found.clone(), to),
        None => Next::New(to),
    }
}

fn make<O: KeepsHistory>(owner: &O, number: i64, collisions: i32) -> ControllerRevision {
    let template = owner.template();
    let data = data(template);
    let hash = hash(&data, collisions);
    let prefix = owner.name();
    let end = (0..=LONGEST_PREFIX.min(prefix.len())).rev().find(|i| prefix.is_char_boundary(*i)).unwrap_or(0);
    let mut labels: BTreeMap<_, _> =
        template.metadata.as_ref().and_then(|m| m.labels.clone()).unwrap_or_default();
    labels.insert(O::HASH.to_owned(), hash.clone());
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", &prefix[..end])),
            namespace: owner.meta().namespace.clone(),
            labels: Some(labels),
            annotations: owner.meta().annotations.clone(),
            owner_references: Some(vec![owner.as_controller()]),
            ..Default::default()
        },
        data: RawExtension(data),
        revision: Some(number),
    }
}

/// The revisions to delete: those that are not `live`, less the newest `limit` of them.
fn surplus(
    all: &[Arc<ControllerRevision>],
    live: impl Fn(&ControllerRevision) -> bool,
    limit: Option<i32>,
) -> Vec<Arc<ControllerRevision>> {
    let Ok(limit) = usize::try_from(limit.unwrap_or(10)) else { return Vec::new() };
    let mut old: Vec<_> = all.iter().filter(|r| !live(r)).cloned().collect();
    old.truncate(old.len().saturating_sub(limit));
    old
}

/// Keeps the revisions of one kind of owners.
pub(crate) struct History {
    client: Client,
    revisions: Reader<ControllerRevision>,
}

impl History {
    /// Queues every owner whose revisions change, or who might adopt one.
    pub(crate) fn new<O: KeepsHistory>(
        client: Client,
        queue: &Queue<ObjectKey>,
        owners: Reader<O>,
        revisions: &mut Kept<ControllerRevision>,
    ) -> Self {
        let queue = queue.clone();
        revisions.on_change(move |change| {
            for revision in [&change.old, &change.new].into_iter().flatten() {
                match controller_of(&revision.metadata) {
                    Some(owner) if owner.kind == O::kind(&()) => {
                        queue.add(ObjectKey::new(revision.namespace(), &owner.name));
                    }
                    Some(_) => {}
                    None => {
                        for owner in owners.list_in(revision.namespace()) {
                            if owns(&*owner).finds(&**revision) {
                                queue.add(owner.key());
                            }
                        }
                    }
                }
            }
        });
        Self { client, revisions: revisions.reader() }
    }

    pub(crate) async fn synced(&self) {
        self.revisions.synced().await;
    }

    fn api(&self, owner: &impl Object) -> Api<ControllerRevision> {
        Api::namespaced(self.client.clone(), owner.namespace())
    }

    /// Adopts and lets go, and makes sure that the newest revision is what the owner describes.
    pub(crate) async fn settle<O: KeepsHistory>(
        &self,
        owners: &Api<O>,
        owner: &O,
    ) -> Result<Past, kube::Error> {
        let revisions = self.api(owner);
        let owns = owns(owner);
        let near = claim::near(&self.revisions, owner);
        let claims = claim(owner.uid(), owner.is_going(), |r| owns.finds(r), near);
        let mut all = claim::settle(owners, &revisions, owner, claims).await?;
        all.sort_by(|a, b| oldest_first(a, b));
        let mut collisions = owner.collisions();
        let newest = match next(&all, owner.template()) {
            Next::Is(newest) => return Ok(Past { all, newest, collisions }),
            Next::Again(revision, number) => {
                let patch = json!({
                    "metadata": {"uid": revision.uid(), "resourceVersion": revision.metadata.resource_version},
                    "revision": number,
                });
                all.retain(|r| r.uid() != revision.uid());
                Arc::new(revisions.patch(revision.name(), &Default::default(), &Patch::Merge(patch)).await?)
            }
            Next::New(number) => Arc::new(self.create(&revisions, owner, number, &mut collisions).await?),
        };
        all.push(newest.clone());
        Ok(Past { all, newest, collisions })
    }

    async fn create<O: KeepsHistory>(
        &self,
        revisions: &Api<ControllerRevision>,
        owner: &O,
        number: i64,
        collisions: &mut i32,
    ) -> Result<ControllerRevision, kube::Error> {
        let mut tries = 0;
        loop {
            let made = make(owner, number, *collisions);
            match revisions.create(&PostParams::default(), &made).await {
                Err(error) if exists(&error) && tries < MOST_COLLISIONS => {
                    // The informer may only be late to show what was made a moment ago.
                    let there = revisions.get_opt(made.name()).await?;
                    if let Some(there) = there
                        && there.data == made.data
                        && controller_of(&there.metadata).is_some_and(|o| o.uid == owner.uid())
                    {
                        return Ok(there);
                    }
                    *collisions = collisions.saturating_add(1);
                    tries += 1;
                }
                result => return result,
            }
        }
    }

    /// Deletes what is beyond the owner's limit. `live` has the names of revisions that pods run at.
    pub(crate) async fn forget<O: KeepsHistory>(
        &self,
        owner: &O,
        past: &Past,
        live: &BTreeSet<String>,
    ) -> Result<(), kube::Error> {
        let is_live = |r: &ControllerRevision| r.uid() == past.newest.uid() || live.contains(r.name());
        let revisions = self.api(owner);
        for revision in surplus(&past.all, is_live, owner.history_limit()) {
            gone_is_fine(revisions.delete(revision.name(), &only(revision.uid())).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "history_tests.rs"]
mod tests;
