//! ClusterTrustBundles as pods' volumes show them (KEP-3257).
//!
//! They are followed from the first time that a pod of this node refers to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use k8s_openapi::api::certificates::v1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ClusterTrustBundleProjection, Pod, Volume};
use kube::Api;
use kube::core::{Selector, SelectorExt};
use kube::runtime::watcher;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tiphys_client::{Informer, Reader};
use tiphys_pki::pem;
use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

use crate::pod;

/// How long a pod waits for the first list of bundles.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why trust anchors can't be had. The text is upstream's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The API has not answered.
    #[error("ClusterTrustBundle informer has not yet synced")]
    NotSynced,
    /// There is none of that name.
    #[error("while getting ClusterTrustBundle: clustertrustbundle.certificates.k8s.io {0:?} not found")]
    NoBundle(String),
    /// The signer has none with such labels.
    #[error("combination of signerName and labelSelector matched zero ClusterTrustBundles")]
    NoMatch,
}

/// What the node keeps of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    name: String,
    signer: String,
    labels: BTreeMap<String, String>,
    anchors: BTreeSet<Vec<u8>>,
}

impl Bundle {
    fn of(bundle: ClusterTrustBundle) -> Self {
        let text = bundle.spec.trust_bundle;
        let anchors = CertificateDer::pem_slice_iter(text.as_bytes()).filter_map(Result::ok);
        Self {
            name: bundle.metadata.name.unwrap_or_default(),
            signer: bundle.spec.signer_name.unwrap_or_default(),
            labels: bundle.metadata.labels.unwrap_or_default(),
            anchors: anchors.map(|der| der.to_vec()).collect(),
        }
    }
}

/// All bundles, once somebody has asked for them.
pub(crate) struct Bundles {
    client: kube::Client,
    notify: Arc<dyn Fn() + Send + Sync>,
    followed: OnceCell<(Reader<Bundle>, AbortOnDropHandle<()>)>,
}

impl Bundles {
    /// None are read yet; `notify` is called after each change from then on.
    pub(crate) fn new(client: kube::Client, notify: Arc<dyn Fn() + Send + Sync>) -> Self {
        Self { client, notify, followed: OnceCell::new() }
    }

    /// All bundles as they are now.
    pub(crate) async fn get(&self) -> Result<Vec<Arc<Bundle>>, BundleError> {
        let begin = async || {
            let mut informer: Informer<ClusterTrustBundle, Bundle> =
                Informer::new(Api::all(self.client.clone()), watcher::Config::default(), Bundle::of);
            let notify = self.notify.clone();
            informer.on_change(move |_| notify());
            let reader = informer.reader();
            (reader, AbortOnDropHandle::new(tokio::spawn(informer.run())))
        };
        let (reader, _) = self.followed.get_or_init(begin).await;
        tokio::time::timeout(PATIENCE, reader.synced()).await.map_err(|_| BundleError::NotSynced)?;
        Ok(reader.list())
    }
}

/// The volume of the pod that shows trust anchors, the first if there are several.
pub(crate) fn volume_of(pod: &Pod) -> Option<&str> {
    let shows = |volume: &&Volume| {
        let mut sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        sources.any(|source| source.cluster_trust_bundle.is_some())
    };
    pod::spec(pod).volumes.iter().flatten().find(shows).map(|volume| volume.name.as_str())
}

/// The trust anchors that a projection asks for, each once, as a file has them.
pub(crate) fn anchors(
    bundles: &[Arc<Bundle>],
    wanted: &ClusterTrustBundleProjection,
) -> Result<Bytes, BundleError> {
    let name = wanted.name.as_deref().filter(|name| !name.is_empty());
    let signer = wanted.signer_name.as_deref().unwrap_or_default();
    // No selector matches nothing, an empty one everything.
    let selector = wanted.label_selector.clone().and_then(|selector| Selector::try_from(selector).ok());
    let chosen = bundles.iter().filter(|bundle| match name {
        Some(name) => bundle.name == name,
        None => bundle.signer == signer && selector.as_ref().is_some_and(|s| s.matches(&bundle.labels)),
    });
    let chosen: Vec<_> = chosen.collect();
    if chosen.is_empty() && !wanted.optional.unwrap_or(false) {
        return Err(name.map_or(BundleError::NoMatch, |name| BundleError::NoBundle(name.to_owned())));
    }
    let anchors: BTreeSet<&Vec<u8>> = chosen.iter().flat_map(|bundle| &bundle.anchors).collect();
    Ok(anchors.into_iter().map(|der| pem("CERTIFICATE", der)).collect::<String>().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn bundle(name: &str, signer: &str, tier: &str, anchors: &[&[u8]]) -> Arc<Bundle> {
        let text: String =
            anchors.iter().map(|der| format!("# by hand\n{}\n", pem("CERTIFICATE", der))).collect();
        let object = json!({"metadata": {"name": name, "labels": {"tier": tier}},
            "spec": {"signerName": signer, "trustBundle": text}});
        Arc::new(Bundle::of(serde_json::from_value(object).unwrap()))
    }

    #[test]
    fn anchors_are_chosen_by_name_or_by_signer_and_labels() {
        let long = [99_u8; 100];
        let bundles = [
            bundle("x:one", "x", "a", &[b"1", &long]),
            bundle("x:two", "x", "b", &[&long, b"2"]),
            bundle("plain", "", "a", &[b"3"]),
        ];
        let get = |wanted: Value| {
            let mut whole = json!({"path": "f"});
            whole.as_object_mut().unwrap().extend(wanted.as_object().unwrap().clone());
            let file = anchors(&bundles, &serde_json::from_value(whole).unwrap())?;
            let found = CertificateDer::pem_slice_iter(&file).map(|der| der.unwrap().to_vec());
            Ok::<_, BundleError>(found.collect::<Vec<_>>())
        };
        let long = long.to_vec();
        for (wanted, want) in [
            (json!({"name": "plain"}), Ok(vec![b"3".to_vec()])),
            (json!({"name": "none"}), Err(BundleError::NoBundle("none".into()))),
            (json!({"name": "none", "optional": true}), Ok(vec![])),
            (
                json!({"signerName": "x", "labelSelector": {}}),
                Ok(vec![b"1".to_vec(), b"2".to_vec(), long.clone()]),
            ),
            (json!({"signerName": "x"}), Err(BundleError::NoMatch)),
            (
                json!({"signerName": "x", "labelSelector": {"matchLabels": {"tier": "b"}}}),
                Ok(vec![b"2".to_vec(), long.clone()]),
            ),
            (
                json!({"signerName": "x", "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "NotIn", "values": ["b"]}]}}),
                Ok(vec![b"1".to_vec(), long.clone()]),
            ),
            (
                json!({"signerName": "x", "optional": true, "labelSelector": {"matchExpressions": [{"key": "tier", "operator": "DoesNotExist"}]}}),
                Ok(vec![]),
            ),
        ] {
            assert_eq!(get(wanted.clone()), want, "{wanted}");
        }
    }
}
