//! Where metrics are read: `metrics.k8s.io`, which this product serves itself unless somebody else does, and the
//! APIs of adapters, `custom.metrics.k8s.io` and `external.metrics.k8s.io`. Whoever answers may be hostile: answers are
//! bounded in time and size.

use std::{collections::BTreeMap, time::Duration};

use http_body_util::{BodyExt, Limited};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::autoscaling::v2::{ExternalMetricSource, MetricIdentifier, MetricSpec, ObjectMetricSource},
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector as Selector, Status},
    },
};
use kube::{Client, client::Body};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use tiphys_api::selector::LabelSelector;

use super::{
    count::{Sample, Samples},
    judge::{Failure, Reading, as_go},
};
use crate::{
    amount::milli,
    claim::said,
    scale::{Collection, find},
};

/// An answer is there by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// No answer is longer, in bytes: some ten thousand pods.
const LONGEST: usize = 32 << 20;
/// What an adapter's metric is measured over, unless it says.
const WINDOW: SignedDuration = SignedDuration::from_secs(60);

/// What of a metrics API's list is read.
#[derive(Debug, Deserialize)]
struct List<T> {
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

/// `metrics.k8s.io/v1beta1`
#[derive(Clone, Debug, Deserialize)]
struct PodMetrics {
    metadata: Named,
    timestamp: Timestamp,
    window: String,
    #[serde(default)]
    containers: Vec<ContainerMetrics>,
}

#[derive(Clone, Debug, Deserialize)]
struct ContainerMetrics {
    name: String,
    #[serde(default)]
    usage: BTreeMap<String, Quantity>,
}

#[derive(Clone, Debug, Deserialize)]
struct Named {
    name: String,
}

/// `custom.metrics.k8s.io`, whose versions call the window differently, and `external.metrics.k8s.io`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct MetricValue {
    described_object: Option<Named>,
    timestamp: Option<Timestamp>,
    #[serde(alias = "window")]
    window_seconds: Option<i64>,
    value: Quantity,
}

impl MetricValue {
    fn milli(&self) -> i64 {
        milli(&self.value).unwrap_or(0)
    }
}

pub(super) struct Sources {
    client: Client,
}

impl Sources {
    pub(super) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Reads each of the metrics for the pods of a namespace that a selector selects.
    pub(super) async fn read(
        &self,
        namespace: &str,
        selector: &str,
        metrics: &[MetricSpec],
    ) -> Vec<Result<Reading, Failure>> {
        let mut readings = Vec::with_capacity(metrics.len());
        // One answer serves all metrics of resources.
        let mut resources: Option<Result<Vec<PodMetrics>, Failure>> = None;
        for metric in metrics {
            let wanted = match metric {
                MetricSpec { resource: Some(m), .. } => Some((&m.name, None)),
                MetricSpec { container_resource: Some(m), .. } => Some((&m.name, Some(&*m.container))),
                _ => None,
            };
            readings.push(match (wanted, metric) {
                (Some((resource, container)), _) => {
                    if resources.is_none() {
                        resources = Some(self.resources(namespace, selector).await);
                    }
                    let list = resources.clone().unwrap_or_else(|| Ok(Vec::new()));
                    list.map(|list| Reading::Pods(of_resource(&list, resource, container)))
                }
                (_, MetricSpec { pods: Some(m), .. }) => self.pods(namespace, selector, &m.metric).await,
                (_, MetricSpec { object: Some(m), .. }) => self.object(namespace, m).await,
                (_, MetricSpec { external: Some(m), .. }) => self.external(namespace, m).await,
                // The plan says what is wrong with it.
                _ => Ok(Reading::Whole(0)),
            });
        }
        readings
    }

    async fn resources(&self, namespace: &str, selector: &str) -> Result<Vec<PodMetrics>, Failure> {
        let query = form(&[("labelSelector", selector)]);
        let path = format!("/apis/metrics.k8s.io/v1beta1/namespaces/{}/pods{query}", quoted(namespace));
        some("resource", self.get::<List<PodMetrics>>(&path).await)
    }

    async fn pods(&self, namespace: &str, pods: &str, id: &MetricIdentifier) -> Result<Reading, Failure> {
        let version = self.custom().await?;
        let query = form(&[("labelSelector", pods), ("metricLabelSelector", &of(&id.selector)?)]);
        let (namespace, name) = (quoted(namespace), quoted(&id.name));
        let path =
            format!("/apis/custom.metrics.k8s.io/{version}/namespaces/{namespace}/pods/%2A/{name}{query}");
        let list = some("custom", self.get::<List<MetricValue>>(&path).await)?;
        Ok(Reading::Pods(of_pods(list)))
    }

    async fn object(&self, namespace: &str, source: &ObjectMetricSource) -> Result<Reading, Failure> {
        let (id, of_object) = (&source.metric, &source.described_object);
        let read = async {
            let version = self.custom().await?;
            let api_version = of_object.api_version.as_deref().unwrap_or("v1");
            let group = api_version.split_once('/').map_or("", |(group, _)| group);
            let (space, metric) = (quoted(namespace), quoted(&id.name));
            let query = form(&[("metricLabelSelector", &of(&id.selector)?)]);
            let place = if (group, &*of_object.kind) == ("", "Namespace") {
                format!("namespaces/{space}/metrics/{metric}")
            } else {
                let found = find(&self.client, api_version, &of_object.kind).await;
                let plural = match found.map_err(|error| unfetched("custom", said(&error)))? {
                    Collection::Fixed(plural) | Collection::Scalable(plural) => plural,
                    Collection::Nothing => {
                        return Err(unfetched("custom", unmatched(&of_object.kind, api_version)));
                    }
                };
                let resource = if group.is_empty() { plural } else { format!("{plural}.{group}") };
                format!("namespaces/{space}/{resource}/{}/{metric}", quoted(&of_object.name))
            };
            let path = format!("/apis/custom.metrics.k8s.io/{version}/{place}{query}");
            some("custom", self.get::<List<MetricValue>>(&path).await)
        };
        let list = read.await.map_err(|why| {
            let (kind, name) = (&of_object.kind, &of_object.name);
            why.at(format!("unable to get metric {} on {kind} {namespace}/{name}", id.name))
        })?;
        Ok(Reading::Whole(list.first().map_or(0, MetricValue::milli)))
    }

    async fn external(&self, namespace: &str, source: &ExternalMetricSource) -> Result<Reading, Failure> {
        let id = &source.metric;
        let read = async {
            let query = form(&[("labelSelector", &of(&id.selector)?)]);
            let (space, name) = (quoted(namespace), quoted(&id.name));
            let path = format!("/apis/external.metrics.k8s.io/v1beta1/namespaces/{space}/{name}{query}");
            some("external", self.get::<List<MetricValue>>(&path).await)
        };
        let list = read.await.map_err(|why| {
            let selector = id.selector.as_ref().map_or("nil".to_owned(), as_go);
            why.at(format!("unable to get external metric {namespace}/{}/{selector}", id.name))
        })?;
        Ok(Reading::Whole(list.iter().map(MetricValue::milli).fold(0, i64::saturating_add)))
    }

    /// The version that the adapter speaks: the newest that is known here.
    async fn custom(&self) -> Result<&'static str, Failure> {
        #[derive(Deserialize)]
        struct Group {
            #[serde(default)]
            versions: Vec<Version>,
        }
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let group = self.get::<Group>("/apis/custom.metrics.k8s.io").await;
        let served = group.map_err(|why| unfetched("custom", why))?.versions;
        let known = ["v1beta2", "v1beta1"].into_iter();
        let mut spoken = known.filter(|version| served.iter().any(|s| s.version == *version));
        spoken.next().ok_or_else(|| unfetched("custom", "no custom metrics API version is known".to_owned()))
    }

    /// What is read at a path, or why not.
    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let asking = async {
            let request = http::Request::get(path).body(Body::empty()).map_err(|e| e.to_string())?;
            let response = self.client.send(request).await.map_err(|e| said(&e))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), LONGEST).collect().await;
            let body = body.map_err(|e| e.to_string())?.to_bytes();
            if status.is_success() {
                return serde_json::from_slice(&body)
                    .map_err(|e| format!("the answer is not understood: {e}"));
            }
            let told = serde_json::from_slice::<Status>(&body).ok().and_then(|status| status.message);
            Err(told.unwrap_or_else(|| format!("the server answered {status}")))
        };
        match tokio::time::timeout(PATIENCE, asking).await {
            Ok(answer) => answer,
            Err(_) => Err(format!("no answer within {} seconds", PATIENCE.as_secs())),
        }
    }
}

fn unfetched(api: &str, why: String) -> Failure {
    Failure::Unread(format!("unable to fetch metrics from {api} metrics API: {why}"))
}

/// What to tell of a kind that the server does not have.
pub(super) fn unmatched(kind: &str, api_version: &str) -> String {
    match api_version.split_once('/') {
        Some((group, _)) => format!("no matches for kind {kind:?} in group {group:?}"),
        None => format!("no matches for kind {kind:?} in group \"\""),
    }
}

/// A list of which something is there.
fn some<T>(api: &str, list: Result<List<T>, String>) -> Result<Vec<T>, Failure> {
    let list = list.map_err(|why| unfetched(api, why))?;
    match list.items.is_empty() {
        true => Err(Failure::Unread(format!("no metrics returned from {api} metrics API"))),
        false => Ok(list.items),
    }
}

/// What pods, or one container of each, use of a resource. A pod of which a container tells nothing tells nothing.
fn of_resource(list: &[PodMetrics], resource: &str, container: Option<&str>) -> Samples {
    let used = |pod: &PodMetrics| {
        let mut counted = pod.containers.iter().filter(|c| container.is_none_or(|name| c.name == name));
        let sum = counted.try_fold(None, |sum: Option<i64>, c| {
            let value = c.usage.get(resource).and_then(milli)?;
            Some(Some(sum.unwrap_or(0).saturating_add(value)))
        });
        sum.flatten()
    };
    let sample = |pod: &PodMetrics| {
        let window = tiphys_api::schedule::duration(&pod.window).and_then(|d| d.try_into().ok());
        Some(Sample { at: pod.timestamp, window: window.unwrap_or(WINDOW), value: used(pod)? })
    };
    list.iter().filter_map(|pod| Some((pod.metadata.name.clone(), sample(pod)?))).collect()
}

fn of_pods(list: Vec<MetricValue>) -> Samples {
    let sample = |value: &MetricValue| Sample {
        at: value.timestamp.unwrap_or(Timestamp::UNIX_EPOCH),
        window: value.window_seconds.map_or(WINDOW, SignedDuration::from_secs),
        value: value.milli(),
    };
    list.into_iter()
        .filter_map(|value| Some((value.described_object.as_ref()?.name.clone(), sample(&value))))
        .collect()
}

/// A selector of metrics as queries have it.
fn of(selector: &Option<Selector>) -> Result<String, Failure> {
    let Some(selector) = selector else { return Ok(String::new()) };
    let value = serde_json::to_value(selector).map_err(|e| Failure::Unread(e.to_string()))?;
    let parsed = LabelSelector::from_value(&value).map_err(|e| Failure::Unread(e.to_string()))?;
    Ok(parsed.to_string())
}

fn quoted(part: &str) -> String {
    // What names consist of stays as it is.
    const NAME: percent_encoding::AsciiSet =
        NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
    utf8_percent_encode(part, &NAME).to_string()
}

fn form(parameters: &[(&str, &str)]) -> String {
    let given = parameters.iter().filter(|(_, value)| !value.is_empty());
    let given: Vec<_> = given.map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    if given.is_empty() { String::new() } else { format!("?{}", given.join("&")) }
}

#[cfg(test)]
#[path = "sources_tests.rs"]
mod tests;
