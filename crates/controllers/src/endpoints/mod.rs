//! EndpointSlices and Endpoints tell which pods stand behind a Service.
//!
//! Each is a controller of its own, with its own queue and identity; what a Service's backends are, they share.

mod backends;
pub(crate) mod legacy;
pub(crate) mod mirror;
pub(crate) mod slices;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
};
use tiphys_client::{Change, ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::{
    backends::{backends, is_selected, selects},
    slices::Subject,
};
use crate::{
    claim::gone_is_fine,
    controller::{Controller, Tools},
    informers::{BY_NODE, Informers},
    object::Object,
    pod::Pod,
};

/// What both controllers watch.
struct Watched {
    queue: Queue<ObjectKey>,
    services: Reader<Service>,
    pods: Reader<Pod>,
}

impl Watched {
    fn new(informers: &mut Informers) -> Self {
        let queue = Queue::new();
        let services = informers.services.reader();
        informers.services.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        informers.pods.on_change({
            let (queue, services) = (queue.clone(), services.clone());
            move |change: &Change<Pod>| {
                let pods = [&change.old, &change.new];
                for service in services.list_in(&change.key.namespace) {
                    if pods
                        .iter()
                        .any(|p| p.as_ref().is_some_and(|p| selects(&service, p.metadata.labels.as_ref())))
                    {
                        queue.add(service.key());
                    }
                }
            }
        });
        Self { queue, services, pods: informers.pods.reader() }
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.pods.synced().await;
    }
}

pub(crate) struct EndpointSlices {
    client: Client,
    events: Recorder,
    watched: Watched,
    slices: Reader<EndpointSlice>,
    nodes: Reader<Node>,
}

/// The zone of a node, by its label.
fn zone_of(node: Option<&Node>) -> Option<String> {
    node?
        .metadata
        .labels
        .as_ref()?
        .get("topology.kubernetes.io/zone")
        .filter(|zone| !zone.is_empty())
        .cloned()
}

impl EndpointSlices {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let watched = Watched::new(informers);
        informers.endpoint_slices.on_change({
            let queue = watched.queue.clone();
            move |change| {
                for slice in [&change.old, &change.new].into_iter().flatten() {
                    if let Some(service) = managed_for(slice, slices::MANAGER) {
                        queue.add(ObjectKey::new(slice.namespace(), service));
                    }
                }
            }
        });
        informers.nodes.on_change({
            let (queue, services) = (watched.queue.clone(), watched.services.clone());
            let pods = watched.pods.clone();
            move |change| {
                if zone_of(change.old.as_deref()) == zone_of(change.new.as_deref()) {
                    return;
                }
                for pod in pods.indexed(BY_NODE, &change.key.name) {
                    let of = services.list_in(pod.namespace());
                    let chosen = of.iter().filter(|s| selects(s, pod.metadata.labels.as_ref()));
                    chosen.for_each(|s| queue.add(s.key()));
                }
            }
        });
        let (slices, nodes) = (informers.endpoint_slices.reader(), informers.nodes.reader());
        Self { client, events, watched, slices, nodes }
    }
}

impl Controller for EndpointSlices {
    const NAME: &'static str = "endpointslice-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.watched.queue.clone()
    }

    async fn synced(&self) {
        self.watched.synced().await;
        self.slices.synced().await;
        self.nodes.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let service = self.watched.services.get(key);
        let Some(service) = service.filter(|s| is_selected(s) && !s.is_going()) else {
            return Ok(Verdict::Done);
        };
        let pods = self.watched.pods.list_in(&key.namespace);
        let present = slices_of(&self.slices, key, slices::MANAGER);
        let mut backends = backends(&service, &pods);
        for backend in &mut backends {
            let node = backend.node.as_ref().and_then(|name| self.nodes.get(&ObjectKey::new("", name)));
            backend.zone = zone_of(node.as_deref());
        }
        let plan = slices::plan(&Subject::of(&service), &backends, &present);
        perform(&api, plan).await.inspect_err(|error| {
            let message = format!("Error updating Endpoint Slices for Service {key}: {error}");
            self.events.warning(&service.as_reference(), "FailedToUpdateEndpointSlices", message);
        })
    }
}

/// The Service whose slice this is, if it is this manager's.
fn managed_for<'a>(slice: &'a EndpointSlice, manager: &str) -> Option<&'a str> {
    let labels = slice.metadata.labels.as_ref()?;
    let ours = labels.get(slices::MANAGED_BY).is_some_and(|m| m == manager);
    labels.get(slices::SERVICE_NAME).filter(|_| ours).map(String::as_str)
}

/// The slices of a Service that this manager has made.
fn slices_of(slices: &Reader<EndpointSlice>, key: &ObjectKey, manager: &str) -> Vec<Arc<EndpointSlice>> {
    let mut present = slices.list_in(&key.namespace);
    present.retain(|s| managed_for(s, manager) == Some(&key.name));
    present
}

/// Does everything that is planned, as far as it can be done.
async fn perform(api: &Api<EndpointSlice>, plan: Vec<slices::Action>) -> Result<Verdict, kube::Error> {
    let mut failed = None;
    for action in plan {
        let result = match action {
            slices::Action::Create(slice) => api.create(&PostParams::default(), &slice).await.map(drop),
            slices::Action::Update(slice) => {
                api.replace(slice.name(), &PostParams::default(), &slice).await.map(drop)
            }
            slices::Action::Delete(slice) => {
                gone_is_fine(api.delete(slice.name(), &DeleteParams::default()).await).map(drop)
            }
        };
        failed = result.err().or(failed);
    }
    match failed {
        None => Ok(Verdict::Done),
        // The informer is behind our own last write, or another's: the plan was made from the past.
        Some(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(Verdict::Again),
        Some(error) => Err(error),
    }
}

/// Makes slices of the Endpoints that somebody else than a controller wrote.
pub(crate) struct EndpointSliceMirroring {
    client: Client,
    queue: Queue<ObjectKey>,
    services: Reader<Service>,
    endpoints: Reader<Endpoints>,
    slices: Reader<EndpointSlice>,
}

impl EndpointSliceMirroring {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let queue = Queue::new();
        informers.custom_endpoints.on_change({
            let queue = queue.clone();
            move |change| queue.add(change.key.clone())
        });
        let endpoints = informers.custom_endpoints.reader();
        informers.services.on_change({
            let (queue, endpoints) = (queue.clone(), endpoints.clone());
            move |change| {
                if endpoints.get(&change.key).is_some() {
                    queue.add(change.key.clone());
                }
            }
        });
        informers.endpoint_slices.on_change({
            let queue = queue.clone();
            move |change| {
                for slice in [&change.old, &change.new].into_iter().flatten() {
                    if let Some(service) = managed_for(slice, mirror::MANAGER) {
                        queue.add(ObjectKey::new(slice.namespace(), service));
                    }
                }
            }
        });
        let (services, slices) = (informers.services.reader(), informers.endpoint_slices.reader());
        Self { client: tools.client, queue, services, endpoints, slices }
    }
}

impl Controller for EndpointSliceMirroring {
    const NAME: &'static str = "endpointslicemirroring-controller";
    const SWITCH: &'static str = "endpointslice-mirroring-controller";

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.services.synced().await;
        self.endpoints.synced().await;
        self.slices.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let api: Api<EndpointSlice> = Api::namespaced(self.client.clone(), &key.namespace);
        let present = slices_of(&self.slices, key, mirror::MANAGER);
        let service = self.services.get(key);
        let endpoints = self
            .endpoints
            .get(key)
            .filter(|e| !e.is_going() && service.is_some_and(|s| mirror::is_mirrored(&s, e)));
        let plan = match endpoints {
            Some(endpoints) => {
                slices::plan(&mirror::subject(&endpoints), &mirror::backends(&endpoints), &present)
            }
            None => present.into_iter().map(slices::Action::Delete).collect(),
        };
        perform(&api, plan).await
    }
}

pub(crate) struct LegacyEndpoints {
    client: Client,
    watched: Watched,
}

impl LegacyEndpoints {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        Self { client: tools.client, watched: Watched::new(informers) }
    }
}

impl Controller for LegacyEndpoints {
    const NAME: &'static str = "endpoint-controller";
    const SWITCH: &'static str = "endpoints-controller";
    const WORKERS: usize = 4;

    fn queue(&self) -> Queue<ObjectKey> {
        self.watched.queue.clone()
    }

    async fn synced(&self) {
        self.watched.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let api: Api<Endpoints> = Api::namespaced(self.client.clone(), &key.namespace);
        let Some(service) = self.watched.services.get(key) else {
            gone_is_fine(api.delete(&key.name, &DeleteParams::default()).await)?;
            return Ok(Verdict::Done);
        };
        if !is_selected(&service) || service.is_going() {
            return Ok(Verdict::Done);
        }
        let pods = self.watched.pods.list_in(&key.namespace);
        // Nothing else here reads what we write, so it is not worth an informer.
        let present = api.get_opt(&key.name).await?;
        match legacy::plan(&service, &backends(&service, &pods), present.as_ref()) {
            None => {}
            Some(next) if present.is_some() => {
                api.replace(&key.name, &PostParams::default(), &next).await?;
            }
            Some(next) => {
                api.create(&PostParams::default(), &next).await?;
            }
        }
        Ok(Verdict::Done)
    }
}

#[cfg(test)]
#[path = "endpoints_tests.rs"]
mod tests;
