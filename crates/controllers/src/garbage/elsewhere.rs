//! Kinds that other API servers serve: followed from when their APIService is available until it is gone.
//!
//! While such a server is away nothing of its kinds is known to be gone: what they own stays, and so do its objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Client, ResourceExt,
    api::{DynamicObject, ListParams},
    discovery::ApiResource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde_json::Value;
use tokio::{
    task::{AbortHandle, JoinSet},
    time::sleep,
};
use tracing::warn;

use super::{Collector, DISCOVERY_RETRY, collects, definitions::name};
use crate::discovery::{Discovered, Served};

fn api(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "apiregistration.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiregistration.k8s.io/v1".to_owned(),
        kind: "APIService".to_owned(),
        plural: "apiservices".to_owned(),
    };
    Api::all_with(client.clone(), &resource)
}

/// Group and version that another server serves; `None` for an APIService of the API server itself.
fn version(service: &DynamicObject) -> Option<(String, String)> {
    let spec = &service.data["spec"];
    let text = |field: &str| spec[field].as_str().map(str::to_owned);
    spec["service"].is_object().then_some(())?;
    Some((text("group")?, text("version")?))
}

/// The versions that others serve, as `group/version`; none if that cannot be learned, and their kinds are then followed
/// twice.
pub(super) async fn versions(client: &Client) -> BTreeSet<String> {
    match api(client).list(&ListParams::default()).await {
        Ok(list) => {
            list.iter().filter_map(version).map(|(group, version)| format!("{group}/{version}")).collect()
        }
        Err(error) => {
            warn!(%error, "cannot list APIServices");
            BTreeSet::new()
        }
    }
}

fn is_available(service: &Value) -> bool {
    let mut conditions = service["status"]["conditions"].as_array().into_iter().flatten();
    conditions.any(|c| c["type"] == "Available" && c["status"] == "True")
}

/// What a version serves that is collected.
async fn served(client: &Client, group: &str, version: &str) -> Result<Vec<Served>, kube::Error> {
    let list = client.list_api_group_resources(&format!("{group}/{version}")).await?;
    let mut found = Discovered::default();
    found.take(group, version, Ok(list.resources));
    Ok(found.served.into_iter().filter(collects).collect())
}

/// What of each collection is followed, in which version: that of the first APIService that has it.
fn wanted(services: &BTreeMap<String, Vec<Served>>) -> BTreeMap<String, Served> {
    let mut wanted = BTreeMap::new();
    for served in services.values().flatten() {
        wanted.entry(name(served)).or_insert_with(|| served.clone());
    }
    wanted
}

/// What is known of other servers.
struct Others<'a> {
    collector: &'a Arc<Collector>,
    /// What each was last found to serve, by APIService. It stays while the server is away.
    services: BTreeMap<String, Vec<Served>>,
    away: BTreeSet<String>,
    /// Group and version of those that are yet to be asked.
    unasked: BTreeMap<String, (String, String)>,
    /// By collection, the version in which it is followed.
    followed: BTreeMap<String, (String, AbortHandle)>,
    /// Dropping them ends them.
    tasks: JoinSet<()>,
}

impl Others<'_> {
    fn see(&mut self, service: &DynamicObject) {
        let name = service.name_any();
        match version(service) {
            None => self.forget(&name),
            Some(version) if is_available(&service.data) => {
                // One that comes back may serve something else.
                if self.away.remove(&name) || !self.services.contains_key(&name) {
                    self.unasked.insert(name, version);
                }
            }
            Some(_) => {
                self.unasked.remove(&name);
                self.away.insert(name);
            }
        }
    }

    fn forget(&mut self, name: &str) {
        self.services.remove(name);
        self.away.remove(name);
        self.unasked.remove(name);
    }

    fn keep(&mut self, listed: &BTreeSet<String>) {
        let known = self.services.keys().chain(&self.away).chain(self.unasked.keys());
        let gone: Vec<_> = known.filter(|name| !listed.contains(*name)).cloned().collect();
        gone.iter().for_each(|name| self.forget(name));
    }

    /// Asks whom nobody has asked yet; who does not answer is asked again.
    async fn ask(&mut self) {
        for (name, (group, version)) in std::mem::take(&mut self.unasked) {
            match served(&self.collector.client, &group, &version).await {
                Ok(found) => {
                    self.services.insert(name, found);
                }
                Err(error) => {
                    warn!(name, %error, "objects of this version are not collected yet");
                    self.unasked.insert(name, (group, version));
                }
            }
        }
    }

    /// Follows what is wanted, and nothing else.
    fn follow(&mut self) {
        let wanted = wanted(&self.services);
        self.followed.retain(|name, (version, task)| {
            let stays = wanted.get(name).is_some_and(|served| served.resource.api_version == *version);
            if !stays {
                task.abort();
            }
            stays
        });
        for (name, served) in wanted {
            if self.followed.contains_key(&name) {
                continue;
            }
            let version = served.resource.api_version.clone();
            let (_, task) = self.collector.add(served, &mut self.tasks);
            self.followed.insert(name, (version, task));
        }
        // Those that were ended are let go.
        while self.tasks.try_join_next().is_some() {}
    }
}

/// Follows the kinds of other servers until the future is dropped.
pub(super) async fn follow(collector: &Arc<Collector>) {
    let events = tiphys_client::follow(api(&collector.client), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    let mut others = Others {
        collector,
        services: BTreeMap::new(),
        away: BTreeSet::new(),
        unasked: BTreeMap::new(),
        followed: BTreeMap::new(),
        tasks: JoinSet::new(),
    };
    let mut listed = BTreeSet::new();
    loop {
        tokio::select! {
            event = events.next() => match event {
                None => return,
                Some(Ok(Event::Init)) => listed.clear(),
                Some(Ok(Event::InitApply(service))) => {
                    listed.insert(service.name_any());
                    others.see(&service);
                }
                Some(Ok(Event::InitDone)) => others.keep(&listed),
                Some(Ok(Event::Apply(service))) => others.see(&service),
                Some(Ok(Event::Delete(service))) => others.forget(&service.name_any()),
                Some(Err(error)) => warn!(%error, "the watch of APIServices was interrupted"),
            },
            () = sleep(DISCOVERY_RETRY), if !others.unasked.is_empty() => {}
        }
        others.ask().await;
        others.follow();
    }
}

#[cfg(test)]
#[path = "elsewhere_tests.rs"]
mod tests;
