//! Which objects belong to an owner: by reference, and by adoption where the selector matches.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{
    Api,
    api::{DeleteParams, Patch, Preconditions},
    core::{Selector, SelectorExt},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tiphys_client::{Reader, key::controller_of};

use crate::{
    informers::{BY_CONTROLLER, ORPHANS},
    object::Object,
};

/// A selector that has been parsed. One that selects everything, or makes no sense, selects nothing: a
/// workload must never own a namespace by mistake.
#[derive(Debug, Default)]
pub(crate) struct Owns(Option<Selector>);

impl Owns {
    pub(crate) fn new(selector: &LabelSelector) -> Self {
        let parsed = Selector::try_from(selector.clone()).ok().filter(|s| !s.selects_all());
        Self(parsed)
    }

    pub(crate) fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.0.as_ref().is_some_and(|selector| selector.matches(labels.unwrap_or(&NONE)))
    }

    pub(crate) fn finds(&self, object: &impl Object) -> bool {
        self.matches(object.meta().labels.as_ref())
    }
}

/// What is to become of objects near an owner.
#[derive(Debug)]
pub(crate) struct Claims<T> {
    /// The owner's, with matching labels.
    pub(crate) owned: Vec<Arc<T>>,
    /// Matching, and nobody's: to be adopted.
    pub(crate) adopt: Vec<Arc<T>>,
    /// The owner's by reference, though its selector no longer matches: to be let go.
    pub(crate) release: Vec<Arc<T>>,
}

/// Decides what belongs to the owner, of what `is_its` says. One that is going neither adopts nor lets go.
pub(crate) fn claim<T: Object>(
    owner_uid: &str,
    owner_going: bool,
    is_its: impl Fn(&T) -> bool,
    near: Vec<Arc<T>>,
) -> Claims<T> {
    let mut claims = Claims { owned: Vec::new(), adopt: Vec::new(), release: Vec::new() };
    for object in near {
        let matches = is_its(&object);
        match controller_of(object.meta()) {
            Some(controller) if controller.uid != owner_uid => {}
            Some(_) if matches => claims.owned.push(object),
            Some(_) if !owner_going => claims.release.push(object),
            None if matches && !owner_going && !object.is_going() => claims.adopt.push(object),
            _ => {}
        }
    }
    claims
}

/// Reads everything an owner might claim.
pub(crate) fn near<T: Object>(reader: &Reader<T>, owner: &impl Object) -> Vec<Arc<T>> {
    let mut near = reader.indexed(BY_CONTROLLER, owner.uid());
    near.extend(reader.indexed(ORPHANS, owner.namespace()));
    near
}

/// Performs claims and returns what the owner then has.
///
/// Adoption asks the API itself, not the informer, whether the owner is still there: an orphan must not be
/// given to an owner that the garbage collector has already judged.
pub(crate) async fn settle<O, T>(
    owners: &Api<O>,
    objects: &Api<T>,
    owner: &O,
    claims: Claims<T>,
) -> Result<Vec<Arc<T>>, kube::Error>
where
    O: Object + Clone + DeserializeOwned + std::fmt::Debug,
    T: Object + Clone + DeserializeOwned + std::fmt::Debug,
{
    let Claims { mut owned, adopt, release } = claims;
    for object in release {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "ownerReferences": [{"$patch": "delete", "uid": owner.uid()}],
        }});
        gone_is_fine(objects.patch(object.name(), &Default::default(), &Patch::Strategic(patch)).await)?;
    }
    if !adopt.is_empty() {
        match owners.get_opt(owner.name()).await? {
            Some(fresh) if fresh.uid() == owner.uid() && !fresh.is_going() => {}
            _ => return Ok(owned),
        }
    }
    for object in adopt {
        let patch = json!({"metadata": {
            "uid": object.uid(),
            "ownerReferences": [owner.as_controller()],
        }});
        let adopted = objects.patch(object.name(), &Default::default(), &Patch::Strategic(patch)).await;
        if gone_is_fine(adopted)?.is_some() {
            owned.push(object);
        }
    }
    Ok(owned)
}

/// What to tell people of an error: of the server's answers, their message.
pub(crate) fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Deletes this very object, and none that has got its name since.
pub(crate) fn only(uid: &str) -> DeleteParams {
    let this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(this), ..DeleteParams::default() }
}

/// An object that went meanwhile needs nothing more. A conflict is no such answer: whether it has been replaced, or another
/// was only faster, the next look tells.
pub(crate) fn gone_is_fine<T>(result: Result<T, kube::Error>) -> Result<Option<T>, kube::Error> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 422) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the status of an object, if it is another, and has whoever reads it know that it is coming.
pub(crate) async fn write_status<K, S>(
    api: &Api<K>,
    known: &Reader<K>,
    object: &K,
    old: Option<&S>,
    new: &S,
) -> Result<(), kube::Error>
where
    K: Object + Clone + DeserializeOwned + Debug,
    S: Serialize,
{
    let Some(status) = change(&json!(old), json!(new)) else { return Ok(()) };
    let patch = json!({"metadata": {"uid": object.uid()}, "status": status});
    let written = api.patch_status(object.name(), &Default::default(), &Patch::Merge(patch)).await;
    if let Some(written) = gone_is_fine(written)? {
        known.wrote(written.meta());
    }
    Ok(())
}

/// The merge patch from one status to another; `None` where both say the same: what is zero, empty or absent reads alike.
fn change(old: &Value, mut new: Value) -> Option<Value> {
    if bare(old) == bare(&new) {
        return None;
    }
    // A merge patch keeps what it does not name.
    if let (Some(old), Some(new)) = (old.as_object(), new.as_object_mut()) {
        for key in old.keys() {
            new.entry(key).or_insert(Value::Null);
        }
    }
    Some(new)
}

/// A value without what says nothing; `None` if that is all of it.
fn bare(value: &Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Number(number) => (number.as_f64() != Some(0.0)).then(|| value.clone()),
        Value::String(text) => (!text.is_empty()).then(|| value.clone()),
        Value::Array(items) => {
            (!items.is_empty()).then(|| items.iter().map(|item| bare(item).unwrap_or_default()).collect())
        }
        Value::Object(fields) => {
            let kept = fields.iter().filter_map(|(key, value)| Some((key.clone(), bare(value)?)));
            let kept: serde_json::Map<String, Value> = kept.collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Bool(true) => Some(Value::Bool(true)),
    }
}

/// The name is taken.
pub(crate) fn exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// A namespace that is going refuses every new object; there is nothing to tell.
pub(crate) fn namespace_goes(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 403
        && status.details.as_ref().is_some_and(|d| d.causes.iter().any(|c| c.reason == "NamespaceTerminating")))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(name: &str, app: &str, owner: Option<&str>, going: bool) -> Arc<Pod> {
        let mut meta = json!({"name": name, "namespace": "ns", "labels": {"app": app}});
        if let Some(uid) = owner {
            meta["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": uid, "controller": true}]);
        }
        if going {
            meta["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        }
        Arc::new(serde_json::from_value(json!({"metadata": meta})).expect("a pod"))
    }

    fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
        pods.iter().map(|p| p.name()).collect()
    }

    #[test]
    fn a_status_is_written_only_if_it_says_something_else() {
        let old =
            json!({"replicas": 2, "conditions": [{"type": "A", "message": ""}], "observedGeneration": 3});
        let same = json!({"replicas": 2, "readyReplicas": 0, "conditions": [{"type": "A"}], "observedGeneration": 3});
        assert_eq!(change(&old, same), None);
        assert_eq!(
            change(&old, json!({"replicas": 0, "observedGeneration": 3})),
            Some(json!({"replicas": 0, "observedGeneration": 3, "conditions": null}))
        );
        assert_eq!(change(&Value::Null, json!({"replicas": 0})), None);
        assert_eq!(change(&Value::Null, json!({"replicas": 1})), Some(json!({"replicas": 1})));
        let other = json!({"replicas": 2, "conditions": [{"type": "B"}], "observedGeneration": 3});
        assert_eq!(change(&old, other.clone()), Some(other));
    }

    #[test]
    fn owners_adopt_matching_orphans_and_let_strangers_be() {
        let selector = serde_json::from_value(json!({"matchLabels": {"app": "web"}})).expect("a selector");
        let near = || {
            vec![
                pod("mine", "web", Some("me"), false),
                pod("lost", "db", Some("me"), false),
                pod("orphan", "web", None, false),
                pod("going", "web", None, true),
                pod("other", "web", Some("them"), false),
            ]
        };
        let claims = claim("me", false, |p| Owns::new(&selector).finds(p), near());
        assert_eq!(names(&claims.owned), ["mine"]);
        assert_eq!(names(&claims.adopt), ["orphan"]);
        assert_eq!(names(&claims.release), ["lost"]);
        let claims = claim("me", true, |p| Owns::new(&selector).finds(p), near());
        assert_eq!((claims.owned.len(), claims.adopt.len(), claims.release.len()), (1, 0, 0));
    }

    #[test]
    fn what_has_gone_is_fine_and_what_was_faster_is_not() {
        let answer = |code: u16| {
            let status = kube::core::Status::failure("no", "").with_code(code);
            gone_is_fine(Err::<(), _>(kube::Error::Api(status.boxed())))
        };
        assert!(matches!(answer(404), Ok(None)));
        assert!(matches!(answer(422), Ok(None)));
        answer(409).expect_err("a conflict is tried again");
        answer(500).expect_err("so is a failure");
    }

    #[test]
    fn an_empty_selector_owns_nothing() {
        let owns = Owns::new(&LabelSelector::default());
        let claims = claim("me", false, |p| owns.finds(p), vec![pod("a", "web", None, false)]);
        assert!(claims.owned.is_empty() && claims.adopt.is_empty());
    }
}
