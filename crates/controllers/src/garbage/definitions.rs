//! Custom kinds: followed from when their definitions are established until these are gone.

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
use tokio::task::{AbortHandle, JoinSet};
use tracing::warn;

use super::{Collector, graph::KindId};
use crate::discovery::Served;

fn api(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "apiextensions.k8s.io".to_owned(),
        version: "v1".to_owned(),
        api_version: "apiextensions.k8s.io/v1".to_owned(),
        kind: "CustomResourceDefinition".to_owned(),
        plural: "customresourcedefinitions".to_owned(),
    };
    Api::all_with(client.clone(), &resource)
}

/// What a definition of the collection is called.
pub(super) fn name(served: &Served) -> String {
    format!("{}.{}", served.resource.plural, served.resource.group)
}

/// The definitions that there are; none if they cannot be had, and their kinds are then followed twice.
pub(super) async fn names(client: &Client) -> BTreeSet<String> {
    match api(client).list_metadata(&ListParams::default()).await {
        Ok(list) => list.items.into_iter().map(|definition| definition.name_any()).collect(),
        Err(error) => {
            warn!(%error, "cannot list definitions");
            BTreeSet::new()
        }
    }
}

/// How the objects of a definition are served; `None` until it is established.
fn served(definition: &Value) -> Option<Served> {
    let mut conditions = definition["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|c| c["type"] == "Established" && c["status"] == "True")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
    let group = text(&spec["group"])?;
    let versions = spec["versions"].as_array()?.iter().filter(|v| v["served"] == true);
    // What is stored as it is shown is shown most cheaply.
    let version = text(&versions.max_by_key(|v| v["storage"] == true)?["name"])?;
    let resource = ApiResource {
        api_version: format!("{group}/{version}"),
        group,
        version,
        kind: text(&names["kind"])?,
        plural: text(&names["plural"])?,
    };
    let verbs = ["delete", "list", "watch"].map(str::to_owned).into();
    Some(Served { resource, also_in: Vec::new(), namespaced: spec["scope"] == "Namespaced", verbs })
}

/// Follows the kinds of all definitions until the future is dropped.
pub(super) async fn follow(collector: &Arc<Collector>) {
    let events = tiphys_client::follow(api(&collector.client), watcher::Config::default()).default_backoff();
    pin_mut!(events);
    // Dropping them ends them.
    let mut tasks = JoinSet::new();
    let mut followed: BTreeMap<String, (String, KindId, AbortHandle)> = BTreeMap::new();
    let mut listed = BTreeSet::new();
    while let Some(event) = events.next().await {
        let mut gone = Vec::new();
        match event {
            Ok(Event::Init) => listed.clear(),
            Ok(Event::InitDone) => {
                gone.extend(followed.keys().filter(|name| !listed.contains(*name)).cloned());
            }
            Ok(Event::InitApply(definition) | Event::Apply(definition)) => {
                let name = definition.name_any();
                listed.insert(name.clone());
                let Some(served) = served(&definition.data) else { continue };
                let at = served.resource.api_version.clone();
                if followed.get(&name).is_some_and(|(before, ..)| *before == at) {
                    continue;
                }
                let (kind, task) = collector.add(served, &mut tasks);
                if let Some((_, _, before)) = followed.insert(name, (at, kind, task)) {
                    before.abort();
                }
            }
            Ok(Event::Delete(definition)) => gone.push(definition.name_any()),
            Err(error) => warn!(%error, "the watch of definitions was interrupted"),
        }
        for name in gone {
            if let Some((_, kind, task)) = followed.remove(&name) {
                task.abort();
                let look = collector.graph.lock().retain(kind, &BTreeSet::new());
                look.into_iter().for_each(|uid| collector.queue.add(uid));
            }
        }
        // Those that were ended are let go.
        while tasks.try_join_next().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_kind_is_served_once_its_definition_is_established() {
        let version = |name: &str, served: bool, storage: bool| json!({"name": name, "served": served, "storage": storage});
        let mut definition = json!({
            "spec": {"group": "example.com", "scope": "Namespaced",
                "versions": [version("v3", false, false), version("v2", true, true), version("v1", true, false)]},
            "status": {"acceptedNames": {"plural": "foos", "kind": "Foo"},
                "conditions": [{"type": "Established", "status": "False"}]},
        });
        assert!(served(&definition).is_none());
        definition["status"]["conditions"][0]["status"] = "True".into();
        let of = served(&definition).expect("an established definition");
        assert_eq!((of.resource.api_version.as_str(), of.resource.kind.as_str()), ("example.com/v2", "Foo"));
        assert_eq!(name(&of), "foos.example.com");
        assert!(of.namespaced && of.can(&["list", "watch", "delete"]));
    }
}
