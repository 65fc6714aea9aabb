//! Pods from a directory of manifests, watched by inotify.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use nix::sys::inotify::AddWatchFlags;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::config_hash::hex;
use crate::content;
use crate::directory_watch::DirectoryWatch;
use crate::key::PodKey;
use crate::labels;
use crate::registry::Registry;

/// The largest manifest that is read, and how many there may be.
const MAX_BYTES: u64 = 1 << 20;
const MAX_FILES: usize = 500;

/// A manifest that is no pod.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ManifestError {
    #[error("read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than {MAX_BYTES} bytes")]
    TooLarge { path: PathBuf },
    #[error("{path} is neither YAML nor JSON of a Pod: {reason}")]
    Parse { path: PathBuf, reason: String },
}

/// The pods that the directory has given so far, by the file that describes them.
pub(crate) type Running = BTreeMap<PathBuf, PodKey>;

/// Follows the directory until it is dropped. `node` becomes part of the names.
pub(crate) async fn follow(directory: PathBuf, node: String, registry: Arc<Registry>, mut running: Running) {
    loop {
        if let Err(error) = watch(&directory, &node, &registry, &mut running).await {
            tracing::warn!(path = %directory.display(), %error, "static pods are not watched");
        }
        tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    }
}

async fn watch(
    directory: &Path,
    node: &str,
    registry: &Arc<Registry>,
    running: &mut Running,
) -> io::Result<()> {
    let changes = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    let watch = DirectoryWatch::new(directory, changes)?;
    loop {
        apply(directory, node, registry, running);
        let events = watch.changed().await?;
        if events.iter().any(|e| e.mask.contains(AddWatchFlags::IN_DELETE_SELF)) {
            return Err(io::ErrorKind::NotFound.into());
        }
    }
}

/// Makes the node run what the directory has now.
pub(crate) fn apply(directory: &Path, node: &str, registry: &Arc<Registry>, running: &mut Running) {
    let mut present = BTreeMap::new();
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).filter(|p| is_manifest(p)).collect();
    paths.sort();
    paths.truncate(MAX_FILES);
    for path in paths {
        match read(&path, node) {
            Ok(pod) => {
                if let Some(key) = PodKey::of(&pod) {
                    present.insert(path, (key, pod));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a static pod's manifest is passed over");
                // A file that is being rewritten must not end the pod that it describes.
                if let Some(key) = running.get(&path).filter(|_| path.exists())
                    && let Some((_, pod)) = registry.pods().into_iter().find(|(k, _)| k == key)
                {
                    present.insert(path, (key.clone(), (*pod).clone()));
                }
            }
        }
    }
    for (path, key) in running.iter() {
        if present.get(path).is_none_or(|(new, _)| new != key) {
            registry.gone(key, None);
        }
    }
    for (path, (key, pod)) in &present {
        if running.get(path) != Some(key) {
            registry.set(Arc::new(pod.clone()));
        }
    }
    *running = present.into_iter().map(|(path, (key, _))| (path, key)).collect();
}

fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
    !hidden && path.is_file()
}

/// Reads a manifest into the pod that the node runs: named for the node, its UID the hash of its content.
fn read(path: &Path, node: &str) -> Result<Pod, ManifestError> {
    let failed = |source| ManifestError::Read { path: path.to_owned(), source };
    if fs::metadata(path).map_err(failed)?.len() > MAX_BYTES {
        return Err(ManifestError::TooLarge { path: path.to_owned() });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let parse = |reason: String| ManifestError::Parse { path: path.to_owned(), reason };
    let tree: Value = serde_saphyr::from_str(&text).map_err(|e| parse(e.to_string()))?;
    if tree["kind"] != "Pod" || tree["apiVersion"] != "v1" {
        return Err(parse("it must have apiVersion v1 and kind Pod".to_owned()));
    }
    let mut pod: Pod = serde_json::from_value(tree).map_err(|e| parse(e.to_string()))?;
    let spec = pod.spec.get_or_insert_default();
    if spec.containers.is_empty() {
        return Err(parse("spec.containers: Required value".to_owned()));
    }
    if let Some(what) = refers_to(spec) {
        return Err(parse(format!("static pods may not reference {what}")));
    }
    spec.node_name = Some(node.to_owned());
    spec.enable_service_links.get_or_insert(true);
    spec.termination_grace_period_seconds.get_or_insert(30);
    // A pod that the node runs by itself must stay whatever taint the node gets.
    let mut hash = Sha256::new();
    hash.update(node.as_bytes());
    hash.update(path.as_os_str().as_encoded_bytes());
    hash.update(text.as_bytes());
    let uid = hex(&hash.finalize()[..16]);
    let meta = &mut pod.metadata;
    let name = meta.name.clone().unwrap_or_default();
    if name.is_empty() {
        return Err(parse("metadata.name: Required value".to_owned()));
    }
    meta.name = Some(format!("{name}-{}", node.to_lowercase()));
    meta.namespace.get_or_insert_with(|| "default".to_owned());
    meta.uid = Some(uid.clone());
    let annotations = meta.annotations.get_or_insert_default();
    annotations.insert(labels::CONFIG_SOURCE.to_owned(), "file".to_owned());
    annotations.insert(labels::CONFIG_HASH.to_owned(), uid);
    annotations.insert(labels::CONFIG_SEEN.to_owned(), Timestamp::now().to_string());
    pod.status = None;
    Ok(pod)
}

/// What of the API a pod refers to. A node runs static pods without asking the API, which gives nothing out to them.
fn refers_to(spec: &PodSpec) -> Option<&'static str> {
    if spec.service_account_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Some("serviceaccounts");
    }
    let claims = spec.volumes.iter().flatten().any(|v| v.persistent_volume_claim.is_some());
    if claims {
        return Some("persistentvolumeclaims");
    }
    let pod = Pod { spec: Some(spec.clone()), ..Pod::default() };
    content::references(&pod).first().map(|id| match id.kind {
        content::Kind::ConfigMap => "configmaps",
        content::Kind::Secret => "secrets",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_becomes_a_pod_of_this_node() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web.yaml");
        let manifest = |image: &str| {
            format!(
                "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n  containers:\n  - name: c\n    image: {image}\n"
            )
        };
        fs::write(&path, manifest("a")).unwrap();
        let first = read(&path, "Node1").unwrap();
        assert_eq!(first.metadata.name.as_deref(), Some("web-node1"));
        assert_eq!(first.metadata.namespace.as_deref(), Some("default"));
        assert!(crate::pod::is_static(&first));
        assert_eq!(read(&path, "Node1").unwrap().metadata.uid, first.metadata.uid);
        fs::write(&path, manifest("b")).unwrap();
        assert_ne!(read(&path, "Node1").unwrap().metadata.uid, first.metadata.uid);
    }

    #[test]
    fn what_is_no_pod_is_refused_with_a_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.yaml");
        for (text, want) in [
            ("kind: Service\napiVersion: v1\n", "kind Pod"),
            (": : :", "neither YAML nor JSON"),
            ("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n", "spec.containers"),
            ("apiVersion: v1\nkind: Pod\nspec: {containers: [{name: c}]}\n", "metadata.name"),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {serviceAccountName: a, containers: [{name: c}]}\n",
                "may not reference serviceaccounts",
            ),
            (
                "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: c, envFrom: [{secretRef: {name: s}}]}]}\n",
                "may not reference secrets",
            ),
        ] {
            fs::write(&path, text).unwrap();
            let error = read(&path, "n").unwrap_err().to_string();
            assert!(error.contains(want), "{error}");
        }
    }
}
