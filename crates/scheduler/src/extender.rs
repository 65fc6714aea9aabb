//! Extenders: other programs that are asked over HTTP which nodes a pod may go to, how well they suit, and to bind it.

use std::{collections::BTreeMap, time::Duration};

use kube::Client;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    framework::{BEST, Reasons, Rejection},
    pod::PodInfo,
};

/// An extender scores from 0 to this.
const BEST_OF_EXTENDER: i64 = 10;

/// An entry of `extenders`, as the configuration has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ExtenderArgs {
    pub url_prefix: String,
    #[serde(default)]
    pub filter_verb: String,
    #[serde(default)]
    pub prioritize_verb: String,
    #[serde(default)]
    pub bind_verb: String,
    #[serde(default)]
    pub preempt_verb: String,
    #[serde(default)]
    pub weight: i64,
    #[serde(default, rename = "enableHTTPS")]
    pub enable_https: bool,
    pub tls_config: Option<TlsArgs>,
    /// As Go writes durations: `5s`.
    pub http_timeout: Option<String>,
    #[serde(default)]
    pub node_cache_capable: bool,
    #[serde(default)]
    pub managed_resources: Vec<ManagedResource>,
    #[serde(default)]
    pub ignorable: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct TlsArgs {
    pub insecure: bool,
    pub server_name: Option<String>,
    pub cert_file: Option<String>,
    pub key_file: Option<String>,
    pub ca_file: Option<String>,
    pub cert_data: Option<String>,
    pub key_data: Option<String>,
    pub ca_data: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ManagedResource {
    pub name: String,
    #[serde(default)]
    pub ignored_by_scheduler: bool,
}

/// Why an extender gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExtenderError {
    #[error("asking {url}: {error}")]
    Asking { url: String, error: Box<kube::Error> },
    #[error("{0} did not answer in time")]
    Late(String),
    #[error("{url} answered: {error}")]
    Answered { url: String, error: String },
}

/// One extender.
pub struct Extender {
    args: ExtenderArgs,
    timeout: Duration,
    client: Client,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct FilterResult {
    nodes: Option<Nodes>,
    nodenames: Option<Vec<String>>,
    failed_nodes: Option<BTreeMap<String, String>>,
    failed_and_unresolvable_nodes: Option<BTreeMap<String, String>>,
    error: String,
}

#[derive(Debug, Deserialize)]
struct Nodes {
    items: Option<Vec<Value>>,
}

#[derive(Debug, Deserialize)]
struct HostPriority {
    host: String,
    score: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BindingResult {
    error: String,
}

/// What an extender says of nodes.
#[derive(Debug, Default)]
pub(crate) struct Filtered {
    pub(crate) fit: Vec<String>,
    pub(crate) failed: BTreeMap<String, Rejection>,
}

impl Extender {
    /// # Errors
    /// What is wrong with the arguments.
    pub fn new(args: ExtenderArgs) -> Result<Self, String> {
        let timeout = match args.http_timeout.as_deref() {
            None => Duration::from_secs(5),
            Some(text) => text
                .parse::<jiff::SignedDuration>()
                .ok()
                .and_then(|d| Duration::try_from(d).ok())
                .ok_or_else(|| format!("httpTimeout: {text:?} is no duration"))?,
        };
        if !args.prioritize_verb.is_empty() && args.weight <= 0 {
            return Err("weight: must have a positive weight applied to it".to_owned());
        }
        if !args.preempt_verb.is_empty() {
            return Err("preemptVerb: extenders are not asked about preemption".to_owned());
        }
        let url = args.url_prefix.parse().map_err(|e| format!("urlPrefix: {e}"))?;
        let mut config = kube::Config::new(url);
        let tls = args.tls_config.clone().unwrap_or_default();
        config.accept_invalid_certs = tls.insecure;
        config.tls_server_name = tls.server_name;
        let auth = &mut config.auth_info;
        auth.client_certificate = tls.cert_file;
        auth.client_certificate_data = tls.cert_data;
        auth.client_key = tls.key_file;
        auth.client_key_data = tls.key_data.map(Into::into);
        if tls.ca_file.is_some() || tls.ca_data.is_some() {
            return Err(
                "tlsConfig: put the authority into the system's certificates; caFile and caData are not read"
                    .to_owned(),
            );
        }
        let client = Client::try_from(config).map_err(|e| e.to_string())?;
        Ok(Self { args, timeout, client })
    }

    /// Resources that the extender alone knows about.
    pub(crate) fn ignored(&self) -> impl Iterator<Item = &str> {
        self.args.managed_resources.iter().filter(|r| r.ignored_by_scheduler).map(|r| &*r.name)
    }

    /// Whether the extender has a say about the pod.
    pub(crate) fn minds(&self, pod: &PodInfo) -> bool {
        let managed = &self.args.managed_resources;
        managed.is_empty() || managed.iter().any(|resource| pod.requests.of(&resource.name) > 0)
    }

    pub(crate) fn binds(&self) -> bool {
        !self.args.bind_verb.is_empty()
    }

    /// Whether pods are scheduled without it while it is away.
    pub(crate) fn is_ignorable(&self) -> bool {
        self.args.ignorable
    }

    /// Whether it wants whole nodes and not only their names.
    pub(crate) fn wants_nodes(&self) -> bool {
        !self.args.node_cache_capable
    }

    fn url(&self, verb: &str) -> String {
        format!("{}/{verb}", self.args.url_prefix.trim_end_matches('/'))
    }

    async fn ask<T: DeserializeOwned>(&self, verb: &str, body: &Value) -> Result<T, ExtenderError> {
        let url = self.url(verb);
        let request = http::Request::post(format!("/{verb}"))
            .header(http::header::CONTENT_TYPE, "application/json")
            .body(body.to_string().into_bytes());
        let request = request.map_err(|error| ExtenderError::Asking {
            url: url.clone(),
            error: Box::new(kube::Error::HttpError(error)),
        })?;
        match tokio::time::timeout(self.timeout, self.client.request(request)).await {
            Err(_) => Err(ExtenderError::Late(url)),
            Ok(answer) => answer.map_err(|error| ExtenderError::Asking { url, error: Box::new(error) }),
        }
    }

    fn arguments(&self, pod: &Value, nodes: &BTreeMap<String, Value>, names: &[String]) -> Value {
        if self.args.node_cache_capable {
            return json!({"pod": pod, "nodenames": names});
        }
        let items: Vec<&Value> = names.iter().filter_map(|name| nodes.get(name)).collect();
        json!({"pod": pod, "nodes": {"kind": "NodeList", "apiVersion": "v1", "metadata": {}, "items": items}})
    }

    /// Which of the nodes the pod may go to.
    pub(crate) async fn filter(
        &self,
        pod: &Value,
        nodes: &BTreeMap<String, Value>,
        names: &[String],
    ) -> Result<Filtered, ExtenderError> {
        let verb = &self.args.filter_verb;
        if verb.is_empty() {
            return Ok(Filtered { fit: names.to_vec(), ..Filtered::default() });
        }
        let result: FilterResult = self.ask(verb, &self.arguments(pod, nodes, names)).await?;
        if !result.error.is_empty() {
            return Err(ExtenderError::Answered { url: self.url(verb), error: result.error });
        }
        let listed = result.nodes.and_then(|nodes| nodes.items).into_iter().flatten();
        let listed = listed.filter_map(|node| Some(node["metadata"]["name"].as_str()?.to_owned()));
        let mut fit: Vec<String> = result.nodenames.unwrap_or_else(|| listed.collect());
        // What it was not asked about it cannot let in.
        fit.retain(|name| names.contains(name));
        let reject = |reason: String, unresolvable| Rejection {
            plugin: "Extender",
            reasons: Reasons::Many(vec![reason.into()]),
            unresolvable,
        };
        let mut failed = BTreeMap::new();
        for (name, reason) in result.failed_nodes.into_iter().flatten() {
            failed.insert(name, reject(reason, false));
        }
        for (name, reason) in result.failed_and_unresolvable_nodes.into_iter().flatten() {
            failed.insert(name, reject(reason, true));
        }
        for name in names.iter().filter(|name| !fit.contains(name)) {
            failed
                .entry(name.clone())
                .or_insert_with(|| reject(format!("filtered out by {}", self.url(verb)), false));
        }
        Ok(Filtered { fit, failed })
    }

    /// What it adds to the nodes' scores; nothing, if it does not answer.
    pub(crate) async fn prioritize(
        &self,
        pod: &Value,
        nodes: &BTreeMap<String, Value>,
        names: &[String],
    ) -> BTreeMap<String, i64> {
        let verb = &self.args.prioritize_verb;
        if verb.is_empty() {
            return BTreeMap::new();
        }
        let scores: Result<Vec<HostPriority>, _> = self.ask(verb, &self.arguments(pod, nodes, names)).await;
        let weight = self.args.weight.saturating_mul(BEST / BEST_OF_EXTENDER);
        let weighted = scores.into_iter().flatten();
        weighted.map(|p| (p.host, p.score.clamp(0, BEST_OF_EXTENDER).saturating_mul(weight))).collect()
    }

    /// Binds the pod in the scheduler's place.
    pub(crate) async fn bind(&self, pod: &PodInfo, node: &str) -> Result<(), ExtenderError> {
        let key = pod.key();
        let body = json!({"podName": &*key.name, "podNamespace": &*key.namespace, "podUID": &*pod.reference.uid, "node": node});
        let result: BindingResult = self.ask(&self.args.bind_verb, &body).await?;
        if result.error.is_empty() {
            return Ok(());
        }
        Err(ExtenderError::Answered { url: self.url(&self.args.bind_verb), error: result.error })
    }
}

#[cfg(test)]
#[path = "extender_tests.rs"]
mod tests;
