//! Watches of what quotas count, so that a quota is counted anew when something of it goes.

use std::{collections::HashMap, sync::Arc};

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::ResourceQuota;
use kube::{
    Api, Client,
    api::{DynamicObject, PartialObjectMeta},
    discovery::ApiResource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use parking_lot::Mutex;
use tiphys_api::quota::Meter;
use tokio::task::AbortHandle;
use tracing::debug;

use super::{Replenish, bounds};

/// A group and a resource.
type Name = (String, String);

/// What the cost of claims to devices depends on.
const CLASSES: &str = "deviceclasses";

/// The meter that needs a watch of the resource.
fn meter<'a>(group: &'a str, resource: &'a str) -> Option<Meter<'a>> {
    match (group, resource) {
        ("resource.k8s.io", CLASSES) => Some(Meter::Devices),
        _ => Meter::of(group, resource),
    }
}

/// One watch for each resource that some quota counts, of nothing but metadata. Pods and Services are followed by
/// all controllers together.
pub(super) struct Watches {
    client: Client,
    replenish: Replenish,
    running: Mutex<HashMap<Name, AbortHandle>>,
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.retain(|_| false);
    }
}

impl Watches {
    pub(super) fn new(client: Client, replenish: Replenish) -> Self {
        Self { client, replenish, running: Mutex::default() }
    }

    fn retain(&self, keep: impl Fn(&Name) -> bool) {
        let mut running = self.running.lock();
        running.retain(|name, task| {
            let keep = keep(name);
            if !keep {
                task.abort();
            }
            keep
        });
    }

    /// Keeps only those that these quotas need.
    pub(super) fn keep(&self, quotas: &[Arc<ResourceQuota>]) {
        let needed = |(group, resource): &Name| {
            let Some(meter) = meter(group, resource) else { return false };
            quotas.iter().any(|quota| bounds(quota).any(|name| meter.tracks(name)))
        };
        self.retain(needed);
    }

    /// Follows the resource from now on.
    pub(super) fn follow(&self, resource: &ApiResource) {
        if resource.group.is_empty() && matches!(resource.plural.as_str(), "pods" | "services") {
            return;
        }
        if Meter::of(&resource.group, &resource.plural) == Some(Meter::Devices) {
            self.start(&ApiResource {
                plural: CLASSES.to_owned(),
                kind: "DeviceClass".to_owned(),
                ..resource.clone()
            });
        }
        self.start(resource);
    }

    fn start(&self, resource: &ApiResource) {
        let name = (resource.group.clone(), resource.plural.clone());
        let mut running = self.running.lock();
        running.entry(name).or_insert_with(|| {
            let watch = watch(self.client.clone(), resource.clone(), self.replenish.clone());
            tokio::spawn(watch).abort_handle()
        });
    }
}

async fn watch(client: Client, resource: ApiResource, replenish: Replenish) {
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resource);
    let events = watcher::watcher(api, watcher::Config::default()).default_backoff();
    pin_mut!(events);
    // A claim may use less without going, and so may those of a class that changes; all others use something as long
    // as they are.
    let meter = meter(&resource.group, &resource.plural);
    let is_class = resource.plural == CLASSES && meter == Some(Meter::Devices);
    let may_shrink = is_class || meter == Some(Meter::Claims);
    while let Some(event) = events.next().await {
        let object = match event {
            Ok(Event::Delete(object)) => object,
            Ok(Event::Apply(object)) if may_shrink => object,
            // What went before the list, no event will tell.
            Ok(Event::InitDone) => {
                replenish.all();
                continue;
            }
            Ok(_) => continue,
            Err(error) => {
                debug!(resource = resource.plural, %error, "watch interrupted");
                continue;
            }
        };
        if is_class {
            replenish.devices();
            continue;
        }
        let namespace = object.metadata.namespace.unwrap_or_default();
        replenish.namespace(&namespace, &resource.group, &resource.plural);
    }
}
