//! Which collections the API serves, for controllers that work on objects of every kind.

use std::collections::HashMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use kube::{Client, discovery::ApiResource};
use sha2::{Digest, Sha256};

/// One collection, by the version its group prefers.
#[derive(Clone, Debug)]
pub(crate) struct Served {
    pub(crate) resource: ApiResource,
    /// Other groups that show the same collection: Deployments were in `extensions` before they were in `apps`.
    pub(crate) also_in: Vec<String>,
    pub(crate) namespaced: bool,
    pub(crate) verbs: Vec<String>,
}

impl Served {
    pub(crate) fn can(&self, verbs: &[&str]) -> bool {
        verbs.iter().all(|wanted| self.verbs.iter().any(|verb| verb == wanted))
    }
}

/// What could be learned. A version that does not answer hides only itself.
#[derive(Debug, Default)]
pub(crate) struct Discovered {
    pub(crate) served: Vec<Served>,
    /// How each collection is stored, where the server tells.
    stored: HashMap<String, usize>,
    /// Versions, as `group/version`, that did not answer, and why.
    pub(crate) failed: Vec<(String, kube::Error)>,
}

/// Asks for every version of every group.
///
/// # Errors
/// The list of groups itself cannot be had.
pub(crate) async fn discover(client: &Client) -> Result<Discovered, kube::Error> {
    let mut found = Discovered::default();
    let core = client.list_core_api_resources("v1").await;
    found.take("", "v1", core.map(|list| list.resources));
    for group in client.list_api_groups().await?.groups {
        let preferred = group.preferred_version.iter();
        let others = group.versions.iter().filter(|v| Some(*v) != group.preferred_version.as_ref());
        for version in preferred.chain(others) {
            let list = client.list_api_group_resources(&version.group_version).await;
            found.take(&group.name, &version.version, list.map(|list| list.resources));
        }
    }
    Ok(found)
}

impl Discovered {
    /// Whether objects of the collection are stored in this version; `None` where the server does not tell.
    pub(crate) fn is_stored_as(&self, resource: &ApiResource, version: &str) -> Option<bool> {
        let is_it = |s: &Served| s.resource.group == resource.group && s.resource.plural == resource.plural;
        let place = self.served.iter().position(is_it)?;
        let (hash, _) = self.stored.iter().find(|(_, at)| **at == place)?;
        let stored = format!("{}/{version}/{}", resource.group, resource.kind);
        Some(*hash == BASE64_STANDARD.encode(&Sha256::digest(stored)[..8]))
    }

    /// Adds what a version serves, less subresources, what an earlier version of the group serves, and what is another
    /// group's under its own name.
    pub(crate) fn take(
        &mut self,
        group: &str,
        version: &str,
        list: Result<Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::APIResource>, kube::Error>,
    ) {
        let api_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let list = match list {
            Ok(list) => list,
            Err(error) => return self.failed.push((api_version, error)),
        };
        for resource in list {
            let known = |s: &Served| s.resource.group == group && s.resource.plural == resource.name;
            if resource.name.contains('/') || self.served.iter().any(known) {
                continue;
            }
            let hash = resource.storage_version_hash.filter(|hash| !hash.is_empty());
            if let Some(same) = hash.as_ref().and_then(|hash| self.stored.get(hash)) {
                self.served[*same].also_in.push(group.to_owned());
                continue;
            }
            self.stored.extend(hash.map(|hash| (hash, self.served.len())));
            self.served.push(Served {
                also_in: Vec::new(),
                resource: ApiResource {
                    group: group.to_owned(),
                    version: version.to_owned(),
                    api_version: api_version.clone(),
                    kind: resource.kind,
                    plural: resource.name,
                },
                namespaced: resource.namespaced,
                verbs: resource.verbs,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_version_that_serves_a_collection_stands_for_it() {
        let list = |names: &[&str]| {
            let resources = names.iter().map(|name| {
                json!({"name": name, "singularName": "", "namespaced": true, "kind": "K", "verbs": ["list", "watch"]})
            });
            Ok(serde_json::from_value(resources.collect()).expect("resources"))
        };
        let mut found = Discovered::default();
        found.take("g", "v1", list(&["a", "a/status"]));
        found.take("g", "v2", list(&["a", "b"]));
        found.take("", "v1", list(&["a"]));
        found.take("h", "v1", Err(kube::Error::LinesCodecMaxLineLengthExceeded));
        let at: Vec<_> = found
            .served
            .iter()
            .map(|s| (s.resource.api_version.as_str(), s.resource.plural.as_str()))
            .collect();
        assert_eq!(at, [("g/v1", "a"), ("g/v2", "b"), ("v1", "a")]);
        assert!(found.served[0].can(&["list", "watch"]) && !found.served[0].can(&["list", "delete"]));
        assert_eq!(found.failed.iter().map(|(at, _)| at.as_str()).collect::<Vec<_>>(), ["h/v1"]);
    }

    #[test]
    fn a_collection_in_two_groups_is_one() {
        let list = |hash: &str| {
            let resource = json!({"name": "deployments", "singularName": "", "namespaced": true, "kind": "Deployment",
                                  "verbs": ["list"], "storageVersionHash": hash});
            Ok(serde_json::from_value(json!([resource])).expect("resources"))
        };
        let mut found = Discovered::default();
        found.take("apps", "v1", list("abc"));
        found.take("extensions", "v1beta1", list("abc"));
        found.take("example.com", "v1", list(""));
        found.take("example.org", "v1", list(""));
        let groups: Vec<_> = found.served.iter().map(|s| &*s.resource.group).collect();
        assert_eq!(groups, ["apps", "example.com", "example.org"]);
        assert_eq!(found.served[0].also_in, ["extensions"]);
        // Upstream's hash of `apps/v1/Deployment`.
        let mut found = Discovered::default();
        found.take("apps", "v1", list("8aSe+NMegvE="));
        found.take("example.com", "v1", list(""));
        let told = |at: usize, version| found.is_stored_as(&found.served[at].resource, version);
        assert_eq!((told(0, "v1"), told(0, "v2"), told(1, "v1")), (Some(true), Some(false), None));
    }
}
