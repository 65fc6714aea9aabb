//! Namespaces that are being deleted are emptied, and let go once they are empty.
//!
//! Pods go before everything else, so that none runs on without the policies it was made under (KEP-5080).

mod conditions;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Client,
    api::{
        DeleteParams, DynamicObject, ListParams, ObjectMeta, PartialObjectMeta, PostParams, PropagationPolicy,
    },
};
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use self::conditions::update;
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    discovery::{Served, discover},
    informers::Informers,
    object::Object,
};

/// The finalizer in a namespace's spec that stands for this controller.
const FINALIZER: &str = "kubernetes";
/// Bounds of the wait between looks at what goes by itself.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(15);
/// Objects of one collection that are looked at; that there are more is reason enough to come back.
const PAGE: u32 = 500;

pub(crate) struct Namespaces {
    client: Client,
    queue: Queue<ObjectKey>,
    namespaces: Reader<Namespace>,
}

/// What was found out while emptying a namespace.
#[derive(Debug, Default)]
struct Findings {
    /// Versions that did not say what they serve, and why.
    undiscovered: BTreeMap<String, String>,
    /// What went wrong while deleting.
    errors: Vec<String>,
    /// Objects left, by `resource.group`.
    remaining: BTreeMap<String, usize>,
    /// Objects left that a finalizer holds, by finalizer.
    finalizers: BTreeMap<String, usize>,
}

impl Findings {
    fn is_clean(&self) -> bool {
        self.undiscovered.is_empty() && self.errors.is_empty() && self.remaining.is_empty()
    }

    /// Counts what a collection still holds after it was deleted `age` ago at least.
    fn count(&mut self, namespace: &str, of: &Served, left: &[ObjectMeta], age: Duration) {
        if left.is_empty() {
            return;
        }
        let resource = &of.resource;
        self.remaining.insert(format!("{}.{}", resource.plural, resource.group), left.len());
        for finalizer in left.iter().flat_map(|meta| meta.finalizers.iter().flatten()) {
            *self.finalizers.entry(finalizer.clone()).or_default() += 1;
        }
        // Anything may have a finalizer, or time to end; nothing else may stay.
        let excused = |meta: &ObjectMeta| {
            let grace = meta.deletion_grace_period_seconds.and_then(|s| u64::try_from(s).ok()).unwrap_or(0);
            meta.finalizers.as_ref().is_some_and(|f| !f.is_empty()) || age < Duration::from_secs(grace)
        };
        if !left.iter().any(excused) {
            let Served { resource, .. } = of;
            let at = format!("{}/{}, Resource={}", resource.group, resource.version, resource.plural);
            self.errors
                .push(format!("unexpected items still remain in namespace: {namespace} for gvr: {at}"));
        }
    }
}

impl Namespaces {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let namespaces = informers.namespaces.reader();
        informers.namespaces.on_change({
            let queue = queue.clone();
            move |change| {
                if change.new.as_ref().is_some_and(|n| n.is_going()) {
                    queue.add(change.key.clone());
                }
            }
        });
        // Pods are what a deletion mostly waits for.
        informers.pods.on_change({
            let (queue, namespaces) = (queue.clone(), namespaces.clone());
            move |change| {
                let of = ObjectKey::new("", &change.key.namespace);
                if change.new.is_none() && namespaces.get(&of).is_some_and(|n| n.is_going()) {
                    queue.add(of);
                }
            }
        });
        Self { client: tools.client, queue, namespaces }
    }

    /// Deletes everything in the namespace that can be deleted now.
    async fn empty(&self, namespace: &Namespace, age: Duration) -> Result<Findings, kube::Error> {
        let discovered = discover(&self.client).await?;
        let failed = discovered.failed.into_iter().map(|(version, error)| (version, error.to_string()));
        let mut findings = Findings { undiscovered: failed.collect(), ..Findings::default() };
        let deletable = discovered.served.into_iter().filter(|s| s.namespaced && s.can(&["delete"]));
        let is_pods = |s: &Served| s.resource.group.is_empty() && s.resource.plural == "pods";
        let (pods, rest): (Vec<_>, Vec<_>) = deletable.partition(is_pods);
        for collections in [pods, rest] {
            for of in collections {
                match self.empty_collection(namespace.name(), &of).await {
                    Ok(left) => findings.count(namespace.name(), &of, &left, age),
                    Err(error) => findings.errors.push(error.to_string()),
                }
            }
            if !findings.errors.is_empty() || !findings.remaining.is_empty() {
                break;
            }
        }
        Ok(findings)
    }

    /// Deletes all objects of a collection and returns what is left of them.
    async fn empty_collection(&self, namespace: &str, of: &Served) -> Result<Vec<ObjectMeta>, kube::Error> {
        let api: Api<PartialObjectMeta<DynamicObject>> =
            Api::namespaced_with(self.client.clone(), namespace, &of.resource);
        let background = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let page = ListParams::default().limit(PAGE);
        let collection = of.can(&["deletecollection"]);
        if collection {
            gone_is_fine(api.delete_collection(&background, &ListParams::default()).await)?;
        }
        if !of.can(&["list"]) {
            return Ok(Vec::new());
        }
        let mut left = listed(api.list(&page).await)?;
        if !collection && !left.is_empty() {
            for name in left.iter().filter_map(|meta| meta.name.as_deref()) {
                gone_is_fine(api.delete(name, &background).await)?;
            }
            left = listed(api.list(&page).await)?;
        }
        Ok(left)
    }
}

/// A collection that is no longer served has nothing in it.
fn listed(
    result: Result<kube::core::ObjectList<PartialObjectMeta<DynamicObject>>, kube::Error>,
) -> Result<Vec<ObjectMeta>, kube::Error> {
    match result {
        Ok(list) => Ok(list.items.into_iter().map(|object| object.metadata).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// How long to wait for what goes by itself: the longer it has taken, the longer.
fn wait(age: Duration) -> Duration {
    (age / 4).clamp(SHORTEST_WAIT, LONGEST_WAIT)
}

impl Controller for Namespaces {
    const NAME: &'static str = "namespace-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let api: Api<Namespace> = Api::all(self.client.clone());
        let Some(mut namespace) = api.get_opt(&key.name).await? else { return Ok(Verdict::Done) };
        let Some(since) = namespace.metadata.deletion_timestamp.as_ref().map(|t| t.0) else {
            return Ok(Verdict::Done);
        };
        if !holds(&namespace) {
            return Ok(Verdict::Done);
        }
        let now = Timestamp::now();
        let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let findings = self.empty(&namespace, age).await?;
        let mut status = namespace.status.clone().unwrap_or_default();
        update(status.conditions.get_or_insert_default(), &findings, now);
        if namespace.status.as_ref() != Some(&status) {
            namespace.status = Some(status);
            match gone_is_fine(api.replace_status(&key.name, &PostParams::default(), &namespace).await)? {
                Some(newest) => namespace = newest,
                None => return Ok(Verdict::Again),
            }
        }
        if !findings.is_clean() {
            return Ok(Verdict::After(wait(age)));
        }
        if let Some(spec) = &mut namespace.spec {
            spec.finalizers.get_or_insert_default().retain(|f| f != FINALIZER);
        }
        let finalized =
            api.replace_subresource("finalize", &key.name, &PostParams::default(), &namespace).await;
        Ok(if gone_is_fine(finalized)?.is_some() { Verdict::Done } else { Verdict::Again })
    }
}

/// Whether the namespace waits for this controller.
fn holds(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.iter().flat_map(|spec| spec.finalizers.iter().flatten());
    finalizers.into_iter().any(|f| f == FINALIZER)
}

#[cfg(test)]
#[path = "namespace_tests.rs"]
mod tests;
