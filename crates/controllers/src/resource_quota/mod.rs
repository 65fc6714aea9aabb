//! What is used of each quota, counted anew when its spec changes, when something that it counts goes, and when its
//! status no longer answers the spec.
//!
//! The API server charges a write in the transaction that makes it, so a quota changes with every object that it
//! counts. A look takes the quota that the informer has, then lists what it counts, then writes the status if the quota is
//! still the same: nothing can have come into being in between that is not in the list, so no recount forgets a charge.

mod watches;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ResourceQuota, Service};
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, ListParams, PostParams},
    core::Request,
    discovery::ApiResource,
};
use parking_lot::Mutex;
use serde_json::Value;
use tiphys_api::{
    meta,
    quota::{self, Devices, Meter, Recount},
};
use tiphys_client::{Change, ObjectKey, Queue, Reader, Verdict};

use self::watches::Watches;
use crate::{
    controller::{Controller, Tools},
    discovery::discover,
    informers::Informers,
    object::Object,
    pod::Pod,
    pods::is_finished,
};

/// Of many objects that go one after the other, not each is worth a recount.
const SETTLE: Duration = Duration::from_millis(100);
/// Objects of one page of a list.
const PAGE: u32 = 500;

pub(crate) struct ResourceQuotas {
    client: Client,
    queue: Queue<ObjectKey>,
    quotas: Reader<ResourceQuota>,
    watches: Watches,
    /// Where resources are served, as learned when one was first needed.
    served: Mutex<Vec<ApiResource>>,
}

/// The quotas of a namespace, to be counted anew.
#[derive(Clone)]
struct Replenish {
    queue: Queue<ObjectKey>,
    quotas: Reader<ResourceQuota>,
}

impl Replenish {
    /// Something that is counted has gone from the namespace, or uses less.
    fn namespace(&self, namespace: &str, group: &str, resource: &str) {
        let Some(meter) = Meter::of(group, resource) else { return };
        for quota in self.quotas.list_in(namespace) {
            if bounds(&quota).any(|name| meter.tracks(name)) {
                self.queue.add_after(quota.key(), SETTLE);
            }
        }
    }

    /// What claims to devices cost may have changed.
    fn devices(&self) {
        for quota in self.quotas.list() {
            if bounds(&quota).any(|name| Meter::Devices.tracks(name)) {
                self.queue.add_after(quota.key(), SETTLE);
            }
        }
    }

    fn all(&self) {
        self.quotas.list().iter().for_each(|quota| self.queue.add(quota.key()));
    }
}

/// What a quota bounds.
fn bounds(quota: &ResourceQuota) -> impl Iterator<Item = &str> {
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    hard.into_iter().flat_map(|hard| hard.keys().map(String::as_str))
}

/// Whether the pod uses less than before, or may: it is gone, has ended, is about to, or was resized.
fn frees(change: &Change<Pod>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.new.is_none() };
    let is_over = |pod| is_finished(pod);
    is_over(new) != is_over(old)
        || new.is_going() != old.is_going()
        || new.metadata.generation != old.metadata.generation
}

fn shrinks(change: &Change<Service>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return change.new.is_none() };
    old.spec != new.spec
}

/// Whether a change of the quota itself asks for a recount: one of its spec, or of its status by somebody who neither charges
/// nor counts, after which it has other bounds than the spec or tells other names.
fn asks(change: &Change<ResourceQuota>) -> bool {
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return true };
    let told = |quota: &ResourceQuota| {
        let status = quota.status.clone().unwrap_or_default();
        (status.hard.unwrap_or_default(), status.used.unwrap_or_default().into_keys().collect::<Vec<_>>())
    };
    let (spec, now) = (new.spec.clone().unwrap_or_default().hard.unwrap_or_default(), told(new));
    let names = spec.keys().cloned().collect();
    old.spec != new.spec || (told(old) != now && now != (spec, names))
}

impl ResourceQuotas {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let quotas = informers.resource_quotas.reader();
        let replenish = Replenish { queue: queue.clone(), quotas: quotas.clone() };
        informers.resource_quotas.on_change({
            let queue = queue.clone();
            move |change| {
                if asks(change) {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.pods.on_change({
            let replenish = replenish.clone();
            move |change| {
                if frees(change) {
                    replenish.namespace(&change.key.namespace, "", "pods");
                }
            }
        });
        informers.services.on_change({
            let replenish = replenish.clone();
            move |change| {
                if shrinks(change) {
                    replenish.namespace(&change.key.namespace, "", "services");
                }
            }
        });
        let watches = Watches::new(tools.client.clone(), replenish);
        Self { client: tools.client, queue, quotas, watches, served: Mutex::default() }
    }

    /// Where a resource is served; `None` if it is not.
    async fn served(&self, group: &str, resource: &str) -> Result<Option<ApiResource>, kube::Error> {
        let find = |all: &[ApiResource]| {
            all.iter().find(|known| known.group == group && known.plural == resource).cloned()
        };
        let known = find(&self.served.lock());
        if known.is_some() {
            return Ok(known);
        }
        let found = discover(&self.client).await?.served.into_iter();
        let found = found.filter(|served| served.namespaced && served.can(&["list", "watch"]));
        let found: Vec<ApiResource> = found.map(|served| served.resource).collect();
        let answer = find(&found);
        *self.served.lock() = found;
        Ok(answer)
    }

    /// Hands every object of a collection on, page by page.
    async fn every(&self, path: &str, mut take: impl FnMut(Value)) -> Result<(), kube::Error> {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let request = Request::new(path).list(&page).map_err(kube::Error::BuildRequest)?;
            let mut list: Value = self.client.request(request).await?;
            if let Value::Array(items) = list["items"].take() {
                items.into_iter().for_each(&mut take);
            }
            match meta::text(&list, &["metadata", "continue"]) {
                "" => return Ok(()),
                next => page = page.continue_token(next),
            }
        }
    }

    /// Counts what there is of one resource.
    async fn count(
        &self,
        recount: &mut Recount,
        namespace: &str,
        resource: &ApiResource,
    ) -> Result<(), kube::Error> {
        let path = DynamicObject::url_path(resource, Some(namespace));
        let (group, plural) = (&*resource.group, &*resource.plural);
        match Meter::of(group, plural) {
            Some(Meter::Devices) => self.count_claims(recount, namespace, resource).await?,
            Some(meter) if !meter.is_number() => {
                let none = Devices::default();
                self.every(&path, |object| recount.count(group, plural, &object, &none)).await?;
            }
            _ => {
                let one = ListParams::default().limit(1);
                let request = Request::new(&path).list(&one).map_err(kube::Error::BuildRequest)?;
                let list: Value = self.client.request(request).await?;
                let rest = list["metadata"]["remainingItemCount"].as_u64().unwrap_or(0);
                let rest = usize::try_from(rest).unwrap_or(usize::MAX);
                let number = meta::items(&list, &["items"]).len().saturating_add(rest);
                recount.count_all(group, plural, number);
            }
        }
        recount.saw(group, plural);
        Ok(())
    }

    /// Counts claims to devices, which depends on their classes, and on pods that have paid for some.
    async fn count_claims(
        &self,
        recount: &mut Recount,
        namespace: &str,
        resource: &ApiResource,
    ) -> Result<(), kube::Error> {
        let (group, plural) = (&*resource.group, &*resource.plural);
        let mut resources = BTreeMap::new();
        let classes = format!("/apis/{}/deviceclasses", resource.api_version);
        self.every(&classes, |class| resources.extend(Devices::resource(&class))).await?;
        let mut devices = Devices { resources: Arc::new(resources), ..Devices::default() };
        let mut paid_for = Vec::new();
        let claims = DynamicObject::url_path(resource, Some(namespace));
        self.every(&claims, |claim| match quota::payer(&claim) {
            Some(_) => paid_for.push(claim),
            None => recount.count(group, plural, &claim, &devices),
        })
        .await?;
        if paid_for.is_empty() {
            return Ok(());
        }
        let names: BTreeSet<&str> =
            paid_for.iter().filter_map(|c| quota::payer(c).map(|(name, _)| name)).collect();
        let mut pods = BTreeMap::new();
        let path = format!("/api/v1/namespaces/{namespace}/pods");
        self.every(&path, |pod| {
            if names.contains(meta::name(&pod)) {
                pods.insert(meta::name(&pod).to_owned(), pod);
            }
        })
        .await?;
        for claim in &paid_for {
            let pod = quota::payer(claim).and_then(|(name, _)| pods.get(name));
            let paid = pod.map(|pod| quota::paid(claim, pod, &paid_for, Timestamp::now()));
            devices.paid = paid.unwrap_or_default();
            recount.count(group, plural, claim, &devices);
        }
        Ok(())
    }
}

impl Controller for ResourceQuotas {
    const NAME: &'static str = "resourcequota-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.quotas.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(quota) = self.quotas.get(key) else {
            self.watches.keep(&self.quotas.list());
            return Ok(Verdict::Done);
        };
        let tree = serde_json::to_value(&*quota).map_err(kube::Error::SerdeError)?;
        let mut recount = Recount::new(&tree, Timestamp::now());
        let resources: Vec<(String, String)> = {
            let named = recount.meters().into_iter().map(Meter::resource);
            named.map(|(group, resource)| (group.to_owned(), resource.to_owned())).collect()
        };
        for (group, resource) in resources {
            // What is not served is not counted, and what is known of it stays.
            let Some(served) = self.served(&group, &resource).await? else { continue };
            // From before the list on, so that nothing goes unseen.
            self.watches.follow(&served);
            self.count(&mut recount, &key.namespace, &served).await?;
        }
        let Some(status) = recount.status(&tree) else { return Ok(Verdict::Done) };
        let mut counted = (*quota).clone();
        counted.status = serde_json::from_value(status).map_err(kube::Error::SerdeError)?;
        let api: Api<ResourceQuota> = Api::namespaced(self.client.clone(), &key.namespace);
        match api.replace_status(&key.name, &PostParams::default(), &counted).await {
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(Verdict::Again),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Verdict::Done),
            result => result.map(|_| Verdict::Done),
        }
    }
}

#[cfg(test)]
#[path = "resource_quota_tests.rs"]
mod tests;
