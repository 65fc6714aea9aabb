//! Services of type LoadBalancer get addresses: the nodes' own, or of a pool. What comes there, the service proxy of
//! each node delivers.

mod plan;
pub(crate) mod pool;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::{
    plan::{FINALIZER, Refusal, Surroundings},
    pool::Pool,
};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    endpoints::slices::SERVICE_NAME,
    informers::Informers,
    object::Object,
};

/// What load balancers are made of.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    pub pool: Pool,
    /// Ports over TCP at the nodes' own addresses that no Service may have, as the cluster itself listens there.
    pub reserved: Vec<u16>,
}

/// What this controller alone knows for certain: the informer may be behind its last writes.
#[derive(Default)]
struct Given {
    addresses: BTreeMap<ObjectKey, (String, Vec<IpAddr>)>,
    /// Services that have no address, and what they were told.
    refused: BTreeMap<ObjectKey, String>,
}

pub(crate) struct LoadBalancers {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    services: Reader<Service>,
    nodes: Reader<Node>,
    slices: Reader<EndpointSlice>,
    settings: Settings,
    given: Arc<Mutex<Given>>,
}

fn reached(node: &Option<Arc<Node>>) -> Vec<IpAddr> {
    node.as_ref().map(|node| plan::reached(node)).unwrap_or_default()
}

/// The nodes that have an endpoint which takes connections.
fn answering<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> BTreeSet<String> {
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let ready = endpoints.filter(|e| e.conditions.as_ref().and_then(|c| c.ready).unwrap_or(true));
    ready.filter_map(|e| e.node_name.clone()).collect()
}

impl LoadBalancers {
    pub(crate) fn new(tools: Tools, informers: &mut Informers, settings: Settings) -> Self {
        let queue = Queue::new();
        let given = Arc::<Mutex<Given>>::default();
        let services = informers.services.reader();
        informers.services.on_change({
            let (queue, given) = (queue.clone(), given.clone());
            move |change| {
                let concerns = |s: &Option<Arc<Service>>| {
                    s.as_ref().is_some_and(|s| plan::is_wanted(s) || plan::is_held(s))
                };
                if concerns(&change.old) || concerns(&change.new) {
                    queue.add(change.key.clone());
                }
                // What one lets go another may have waited for; node ports count, too.
                let spec = change.old.as_ref().map(|s| &s.spec);
                if spec.is_some() && spec != change.new.as_ref().map(|s| &s.spec) {
                    given.lock().refused.keys().for_each(|key| queue.add(key.clone()));
                }
            }
        });
        informers.nodes.on_change({
            let (queue, services) = (queue.clone(), services.clone());
            move |change| {
                if reached(&change.old) != reached(&change.new) {
                    let all = services.list();
                    all.iter().filter(|s| plan::is_wanted(s)).for_each(|s| queue.add(s.key()));
                }
            }
        });
        informers.endpoint_slices.on_change({
            let (queue, services) = (queue.clone(), services.clone());
            move |change| {
                let on = |slice: &Option<Arc<EndpointSlice>>| answering(slice.as_deref().into_iter());
                let Some(slice) = change.new.as_ref().or(change.old.as_ref()) else { return };
                let name = slice.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME));
                let Some(name) = name else { return };
                let key = ObjectKey::new(slice.namespace(), name);
                let local = services.get(&key).is_some_and(|s| plan::is_wanted(&s) && plan::is_local(&s));
                if local && on(&change.old) != on(&change.new) {
                    queue.add(key);
                }
            }
        });
        let (nodes, slices) = (informers.nodes.reader(), informers.endpoint_slices.reader());
        let Tools { client, events } = tools;
        Self { client, events, queue, services, nodes, slices, settings, given }
    }

    /// The addresses of a Service as this controller last gave them.
    fn addresses(given: &Given, service: &Service) -> Vec<IpAddr> {
        match given.addresses.get(&service.key()) {
            Some((uid, addresses)) if uid == service.uid() => addresses.clone(),
            _ => plan::addresses(service),
        }
    }

    fn plan(&self, key: &ObjectKey, service: &Service) -> (Vec<IpAddr>, Result<Vec<IpAddr>, Refusal>) {
        let given = self.given.lock();
        let all = self.services.list();
        let others: Vec<_> = all
            .iter()
            .filter(|other| other.key() != *key)
            .map(|other| (&**other, Self::addresses(&given, other)))
            .collect();
        let nodes: BTreeMap<String, Vec<IpAddr>> = self
            .nodes
            .list()
            .iter()
            .map(|node| (node.name().to_owned(), plan::reached(node)))
            .filter(|(_, addresses)| !addresses.is_empty())
            .collect();
        let endpoints = plan::is_local(service).then(|| {
            let slices = self.slices.list_in(&key.namespace);
            let of = |s: &EndpointSlice| {
                s.metadata.labels.as_ref().and_then(|l| l.get(SERVICE_NAME)).is_some_and(|n| **n == *key.name)
            };
            answering(slices.iter().filter(|s| of(s)).map(|s| &**s))
        });
        let reserved = &self.settings.reserved;
        let around = Surroundings { others: &others, nodes: &nodes, endpoints, reserved };
        let now = Self::addresses(&given, service);
        let planned = plan::plan(&self.settings.pool, service, &now, &around);
        (now, planned)
    }

    /// Writes what a Service has of this controller: `None` takes everything away.
    async fn write(&self, service: &Service, addresses: Option<&[IpAddr]>) -> Result<(), kube::Error> {
        let mut finalizers = service.metadata.finalizers.clone().unwrap_or_default();
        finalizers.retain(|f| f != FINALIZER);
        finalizers.extend(addresses.map(|_| FINALIZER.to_owned()));
        let ingress: Vec<_> = addresses.unwrap_or_default().iter().map(|a| plan::ingress(*a)).collect();
        let ingress = (!ingress.is_empty()).then_some(ingress);
        let patch = json!({
            "metadata": {"uid": service.uid(), "resourceVersion": service.metadata.resource_version,
                "finalizers": finalizers},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        let api: Api<Service> = Api::namespaced(self.client.clone(), service.namespace());
        let patched = api.patch_status(service.name(), &PatchParams::default(), &Patch::Merge(patch)).await;
        gone_is_fine(patched).map(drop)
    }

    fn give(&self, key: &ObjectKey, service: &Service, addresses: &[IpAddr]) {
        let mut given = self.given.lock();
        given.addresses.insert(key.clone(), (service.uid().to_owned(), addresses.to_vec()));
    }

    /// Notes that nothing is the Service's any more, and has those looked at who wait.
    fn forget(&self, key: &ObjectKey) {
        let mut given = self.given.lock();
        given.refused.remove(key);
        if given.addresses.remove(key).is_some() {
            given.refused.keys().for_each(|key| self.queue.add(key.clone()));
        }
    }
}

impl Controller for LoadBalancers {
    const NAME: &'static str = "service-controller";
    const SWITCH: &'static str = "service-lb-controller";
    // Addresses are given one after the other.
    const WORKERS: usize = 1;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.nodes.synced().await;
        self.slices.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(service) = self.services.get(key) else {
            self.forget(key);
            return Ok(Verdict::Done);
        };
        let reference = service.as_reference();
        if !plan::is_wanted(&service) {
            if plan::is_held(&service) {
                self.events.normal(&reference, "DeletingLoadBalancer", "Deleting load balancer");
                self.write(&service, None).await?;
                self.events.normal(&reference, "DeletedLoadBalancer", "Deleted load balancer");
            }
            self.forget(key);
            return Ok(Verdict::Done);
        }
        let (now, planned) = self.plan(key, &service);
        let shown = plan::addresses(&service);
        match planned {
            Ok(addresses) => {
                let settled = shown == addresses && plan::is_held(&service);
                if settled {
                    self.give(key, &service, &addresses);
                } else {
                    self.events.normal(&reference, "EnsuringLoadBalancer", "Ensuring load balancer");
                    self.write(&service, Some(&addresses)).await?;
                    self.give(key, &service, &addresses);
                    self.events.normal(&reference, "EnsuredLoadBalancer", "Ensured load balancer");
                }
                let mut given = self.given.lock();
                given.refused.remove(key);
                if now != addresses && !now.is_empty() {
                    given.refused.keys().for_each(|key| self.queue.add(key.clone()));
                }
            }
            Err(refusal) => {
                let text = refusal.to_string();
                if self.given.lock().refused.get(key) != Some(&text) {
                    let (reason, message) = match refusal {
                        Refusal::NoNodes => (
                            "UnAvailableLoadBalancer",
                            "There are no available nodes for LoadBalancer".to_owned(),
                        ),
                        _ => (
                            "SyncLoadBalancerFailed",
                            format!("Error syncing load balancer: failed to ensure load balancer: {text}"),
                        ),
                    };
                    self.events.warning(&reference, reason, message);
                }
                if !shown.is_empty() || !plan::is_held(&service) {
                    self.write(&service, Some(&[])).await?;
                }
                self.give(key, &service, &[]);
                self.given.lock().refused.insert(key.clone(), text);
            }
        }
        Ok(Verdict::Done)
    }
}
