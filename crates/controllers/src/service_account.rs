//! What pods of every namespace find there: the `default` ServiceAccount, and the cluster's root certificates.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PostParams},
};
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict};

use crate::{
    claim::{exists, gone_is_fine, namespace_goes},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
};

const DEFAULT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const CA_KEY: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";

fn is_active(namespace: &Namespace) -> bool {
    !namespace.is_going()
}

/// An object that was made meanwhile is as good; one in a namespace that is going is not wanted.
fn made(result: Result<(), kube::Error>) -> Result<Verdict, kube::Error> {
    match result {
        Err(error) if exists(&error) || namespace_goes(&error) => Ok(Verdict::Done),
        result => gone_is_fine(result).map(|_| Verdict::Done),
    }
}

pub(crate) struct ServiceAccounts {
    client: Client,
    queue: Queue<ObjectKey>,
    namespaces: Reader<Namespace>,
    accounts: Reader<ServiceAccount>,
}

impl ServiceAccounts {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.namespaces.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.service_accounts.on_change({
            let queue = queue.clone();
            move |change| {
                if change.new.is_none() && &*change.key.name == DEFAULT {
                    queue.add(ObjectKey::new("", &change.key.namespace));
                }
            }
        });
        let (namespaces, accounts) = (informers.namespaces.reader(), informers.service_accounts.reader());
        Self { client: tools.client, queue, namespaces, accounts }
    }
}

impl Controller for ServiceAccounts {
    const NAME: &'static str = "service-account-controller";
    const SWITCH: &'static str = "serviceaccount-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.accounts.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let wanted = self.namespaces.get(key).is_some_and(|n| is_active(&n));
        if !wanted || self.accounts.get(&ObjectKey::new(&key.name, DEFAULT)).is_some() {
            return Ok(Verdict::Done);
        }
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(DEFAULT.to_owned()),
                namespace: Some(key.name.to_string()),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        made(api.create(&PostParams::default(), &account).await.map(drop))
    }
}

pub(crate) struct RootCa {
    client: Client,
    queue: Queue<ObjectKey>,
    namespaces: Reader<Namespace>,
    maps: Reader<ConfigMap>,
    root_ca: String,
}

impl RootCa {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, root_ca: String) -> Self {
        let queue = Queue::new();
        informers.namespaces.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.root_cas.on_change({
            let queue = queue.clone();
            move |change| queue.add(ObjectKey::new("", &change.key.namespace))
        });
        let (namespaces, maps) = (informers.namespaces.reader(), informers.root_cas.reader());
        Self { client: tools.client, queue, namespaces, maps, root_ca }
    }
}

impl Controller for RootCa {
    const NAME: &'static str = "root-ca-cert-publisher";
    const SWITCH: &'static str = "root-ca-certificate-publisher-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.namespaces.synced().await;
        self.maps.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        if !self.namespaces.get(key).is_some_and(|n| is_active(&n)) {
            return Ok(Verdict::Done);
        }
        let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), &key.name);
        match self.maps.get(&ObjectKey::new(&key.name, ROOT_CA)) {
            Some(map) if map.data.as_ref().and_then(|d| d.get(CA_KEY)) == Some(&self.root_ca) => {
                Ok(Verdict::Done)
            }
            Some(map) => {
                let patch = json!({"metadata": {"uid": map.uid()}, "data": {CA_KEY: self.root_ca}});
                gone_is_fine(api.patch(ROOT_CA, &Default::default(), &Patch::Merge(patch)).await)?;
                Ok(Verdict::Done)
            }
            None => {
                let text = "Holds the certificates by which clients inside the cluster know its API server.";
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(ROOT_CA.to_owned()),
                        namespace: Some(key.name.to_string()),
                        annotations: Some(BTreeMap::from([(DESCRIPTION.to_owned(), text.to_owned())])),
                        ..Default::default()
                    },
                    data: Some(BTreeMap::from([(CA_KEY.to_owned(), self.root_ca.clone())])),
                    ..Default::default()
                };
                made(api.create(&PostParams::default(), &map).await.map(drop))
            }
        }
    }
}
