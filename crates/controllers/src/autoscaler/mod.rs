//! HorizontalPodAutoscalers tell anything that can be scaled how many replicas to have, by what its pods do.
//!
//! Every quarter of a minute a target's scale and its metrics are read ([`sources`]), each metric is asked how many
//! replicas it wants ([`count`]), the most of that is gone for as fast as is allowed ([`pace`]), and all of it is
//! told ([`plan`]).

mod count;
mod judge;
mod pace;
mod plan;
mod sources;

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::autoscaling::{
    v1::{Scale, ScaleSpec},
    v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerStatus},
};
use kube::{Api, Client, api::PostParams};
use parking_lot::Mutex;
use tiphys_api::selector::LabelSelector;
use tiphys_client::{ObjectKey, Queue, Reader, Verdict, events::Recorder};

use self::{
    pace::Memory,
    plan::{Plan, Selected, Unselected, measures, plan},
    sources::{Sources, unmatched},
};
use crate::{
    claim::{gone_is_fine, said},
    controller::{Controller, Tools},
    informers::Informers,
    object::Object,
    pod::Pod,
    scale::{Collection, find, path},
};

/// How often an autoscaler is looked at, however often it changes.
const PERIOD: SignedDuration = SignedDuration::from_secs(15);
/// How often a change of a scale is tried that others change, too.
const TRIES: usize = 5;

/// What is known of one autoscaler beyond what is stored.
#[derive(Default)]
struct Known {
    uid: String,
    looked: Option<Timestamp>,
    /// What its target selects, as last seen.
    selector: Option<Arc<LabelSelector>>,
    memory: Memory,
}

pub(crate) struct Autoscalers {
    client: Client,
    events: Recorder,
    queue: Queue<ObjectKey>,
    autoscalers: Reader<HorizontalPodAutoscaler>,
    pods: Reader<Pod>,
    sources: Sources,
    known: Mutex<BTreeMap<ObjectKey, Known>>,
}

impl Autoscalers {
    pub(crate) fn new(tools: Tools, informers: &mut Informers) -> Self {
        let Tools { client, events } = tools;
        let queue = Queue::new();
        informers.autoscalers.on_change({
            let queue = queue.clone();
            move |change| {
                let generation =
                    |a: &Option<Arc<HorizontalPodAutoscaler>>| a.as_ref().map(|a| a.metadata.generation);
                // A status changes nothing.
                if generation(&change.old) != generation(&change.new) {
                    queue.add(change.key.clone());
                }
            }
        });
        Self {
            sources: Sources::new(client.clone()),
            autoscalers: informers.autoscalers.reader(),
            pods: informers.pods.reader(),
            known: Mutex::default(),
            client,
            events,
            queue,
        }
    }

    /// Works on what is known of an autoscaler, unless there is nothing (any more).
    fn with<T>(&self, key: &ObjectKey, work: impl FnOnce(&mut Known) -> T) -> Option<T> {
        self.known.lock().get_mut(key).map(work)
    }

    /// How long until an autoscaler is to be looked at; if that is now, it is.
    fn rest(&self, autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Option<SignedDuration> {
        let mut all = self.known.lock();
        let known = all.entry(autoscaler.key()).or_default();
        if known.uid != autoscaler.uid() {
            *known = Known { uid: autoscaler.uid().to_owned(), ..Known::default() };
        }
        let passed = known.looked.map_or(PERIOD, |looked| now.duration_since(looked));
        // What is to come was looked at by a clock that has been set back.
        let rest = (PERIOD - passed).min(PERIOD);
        if rest <= SignedDuration::ZERO {
            known.looked = Some(now);
        }
        Some(rest).filter(|rest| *rest > SignedDuration::ZERO)
    }

    /// The path and the scale of the target, or why there is none.
    async fn scale(&self, autoscaler: &HorizontalPodAutoscaler) -> Result<(String, Scale), String> {
        let target = &autoscaler.spec.scale_target_ref;
        let version = target.api_version.as_deref().filter(|v| !v.is_empty()).unwrap_or("v1");
        if version.matches('/').count() > 1 {
            return Err(format!("unexpected GroupVersion string: {version}"));
        }
        let found = find(&self.client, version, &target.kind).await.map_err(|e| said(&e))?;
        let plural = match found {
            Collection::Nothing => return Err(unmatched(&target.kind, version)),
            // It answers that it has no such part.
            Collection::Fixed(plural) | Collection::Scalable(plural) => plural,
        };
        let path = path(version, autoscaler.namespace(), &plural, &target.name);
        let scale = self.get(&path).await.map_err(|e| said(&e))?;
        Ok((path, scale))
    }

    async fn get(&self, path: &str) -> Result<Scale, kube::Error> {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    /// The pods that the target selects, and what its metrics are.
    async fn select(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        scale: &Scale,
    ) -> Result<Selected, Unselected> {
        let selector = scale.status.as_ref().and_then(|s| s.selector.as_deref()).unwrap_or_default();
        if selector.is_empty() {
            return Err(Unselected::NoSelector);
        }
        let parsed = LabelSelector::parse(selector).map_err(|e| Unselected::Invalid(e.to_string()))?;
        let parsed = Arc::new(parsed);
        let key = autoscaler.key();
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| covers(&parsed, pod));
        self.with(&key, |known| known.selector = Some(parsed));
        let by = self.rivals(&key.namespace, &pods);
        if by.len() > 1 {
            return Err(Unselected::Ambiguous { selector: selector.to_owned(), by });
        }
        let metrics = autoscaler.spec.metrics.as_deref().unwrap_or_default();
        let readings = self.sources.read(&key.namespace, selector, metrics).await;
        Ok(Selected { pods, readings })
    }

    /// The first two autoscalers of a namespace whose targets select some of the pods.
    fn rivals(&self, namespace: &str, pods: &[Arc<Pod>]) -> Vec<ObjectKey> {
        let all = self.known.lock();
        let of_namespace =
            all.range(ObjectKey::new(namespace, "")..).take_while(|(k, _)| *k.namespace == *namespace);
        let selecting = of_namespace.filter(|(_, known)| {
            let selector = known.selector.as_ref();
            selector.is_some_and(|selector| pods.iter().any(|pod| covers(selector, pod)))
        });
        selecting.map(|(key, _)| key.clone()).take(2).collect()
    }

    /// Tells the target how many replicas to have, whatever else others tell it meanwhile.
    async fn rescale(&self, path: &str, mut scale: Scale, replicas: i32) -> Result<(), String> {
        for left in (0..TRIES).rev() {
            scale.spec = Some(ScaleSpec { replicas: Some(replicas) });
            let body = serde_json::to_vec(&scale).map_err(|e| e.to_string())?;
            let request = http::Request::put(path).header(http::header::CONTENT_TYPE, "application/json");
            let request = request.body(body).map_err(|e| e.to_string())?;
            match self.client.request::<Scale>(request).await {
                Err(kube::Error::Api(status)) if status.code == 409 && left > 0 => {
                    scale = self.get(path).await.map_err(|e| said(&e))?;
                }
                done => return done.map(drop).map_err(|e| said(&e)),
            }
        }
        Ok(())
    }

    /// What is to be told of an autoscaler after its target was told what to do; nothing of one that went meanwhile.
    async fn act(&self, autoscaler: &HorizontalPodAutoscaler, now: Timestamp) -> Option<Plan> {
        let (path, scale) = match self.scale(autoscaler).await {
            Ok(found) => found,
            Err(why) => return Some(Plan::no_scale(autoscaler, &why, now)),
        };
        let selected = match measures(autoscaler, &scale) {
            true => self.select(autoscaler, &scale).await,
            false => Err(Unselected::NoSelector),
        };
        let key = autoscaler.key();
        let mut plan = self.with(&key, |known| plan(autoscaler, &scale, selected, &mut known.memory, now))?;
        if let Some(rescale) = plan.rescale.clone() {
            let done = self.rescale(&path, scale, rescale.after).await;
            if done.is_ok() {
                self.with(&key, |known| known.memory.scaled(rescale.before, rescale.after, now));
            }
            plan.scaled(done, now);
        }
        Some(plan)
    }

    async fn write(
        &self,
        autoscaler: &HorizontalPodAutoscaler,
        status: HorizontalPodAutoscalerStatus,
    ) -> Result<(), kube::Error> {
        if autoscaler.status.as_ref() == Some(&status) {
            return Ok(());
        }
        let api: Api<HorizontalPodAutoscaler> = Api::namespaced(self.client.clone(), autoscaler.namespace());
        let mut told = autoscaler.clone();
        told.status = Some(status);
        let written = api.replace_status(autoscaler.name(), &PostParams::default(), &told).await;
        if let Err(error) = &written
            && !matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
        {
            self.events.warning(&autoscaler.as_reference(), "FailedUpdateStatus", said(error));
        }
        gone_is_fine(written).map(drop)
    }
}

fn covers(selector: &LabelSelector, pod: &Pod) -> bool {
    let labels = pod.metadata.labels.as_ref();
    selector.matches_by(|name| labels.and_then(|labels| labels.get(name)).map(String::as_str))
}

impl Controller for Autoscalers {
    const NAME: &'static str = "horizontal-pod-autoscaler";
    const SWITCH: &'static str = "horizontal-pod-autoscaler-controller";
    // An adapter that hangs holds up one of them.
    const WORKERS: usize = 5;

    fn queue(&self) -> Queue<ObjectKey> {
        self.queue.clone()
    }

    async fn synced(&self) {
        self.autoscalers.synced().await;
        self.pods.synced().await;
    }

    async fn look(&self, key: &ObjectKey) -> Result<Verdict, kube::Error> {
        let Some(autoscaler) = self.autoscalers.get(key) else {
            self.known.lock().remove(key);
            return Ok(Verdict::Done);
        };
        let now = Timestamp::now();
        if let Some(rest) = self.rest(&autoscaler, now) {
            return Ok(Verdict::After(rest.unsigned_abs()));
        }
        let Some(Plan { status, events, .. }) = self.act(&autoscaler, now).await else {
            return Ok(Verdict::Done);
        };
        let about = autoscaler.as_reference();
        for event in events {
            match event.warning {
                true => self.events.warning(&about, event.reason, event.message),
                false => self.events.normal(&about, event.reason, event.message),
            }
        }
        self.write(&autoscaler, status).await?;
        Ok(Verdict::After(PERIOD.unsigned_abs()))
    }
}

#[cfg(test)]
#[path = "autoscaler_tests.rs"]
mod tests;
