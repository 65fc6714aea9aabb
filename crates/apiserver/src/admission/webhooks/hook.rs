//! One webhook, compiled.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde_json::Value;
use tiphys_api::meta;
use tiphys_cel::admission::Declarations;

use super::super::expressions::Conditions;
use super::super::matching::Matcher;
use crate::outgoing::{Endpoint, Outgoing, Place, Proof, Spec, Trust};

/// The version of `admission.k8s.io` that a webhook is spoken to in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reviews {
    V1,
    V1Beta1,
}

/// One entry of a configuration's `webhooks`. What is wrong with it is told to the requests that it is about.
pub(super) struct Hook {
    /// Unique among the webhooks of a phase, and the same after a change of its configuration.
    pub(super) id: String,
    pub(super) configuration: String,
    pub(super) name: String,
    pub(super) matcher: Result<Matcher, String>,
    pub(super) conditions: Conditions,
    pub(super) endpoint: Result<Arc<Endpoint>, String>,
    /// The first that both know.
    pub(super) reviews: Option<Reviews>,
    pub(super) ignores_failures: bool,
    /// It has no side effects that a dry run must not have.
    pub(super) dry_runs: bool,
    /// `reinvocationPolicy: IfNeeded`.
    pub(super) reinvoked: bool,
    pub(super) timeout: Duration,
}

impl Hook {
    /// All webhooks of a configuration, in its order.
    pub(super) fn read_all(configuration: &Value, outgoing: &Outgoing) -> Vec<Self> {
        let name = meta::name(configuration);
        let webhooks = meta::items(configuration, &["webhooks"]).iter().enumerate();
        webhooks.map(|(index, webhook)| Self::read(name, index, webhook, outgoing)).collect()
    }

    fn read(configuration: &str, index: usize, webhook: &Value, outgoing: &Outgoing) -> Self {
        let name = meta::text(webhook, &["name"]);
        let mut versions = meta::items(webhook, &["admissionReviewVersions"]).iter();
        let reviews = versions.find_map(|version| match version.as_str()? {
            "v1" => Some(Reviews::V1),
            "v1beta1" => Some(Reviews::V1Beta1),
            _ => None,
        });
        let seconds = webhook["timeoutSeconds"].as_u64().unwrap_or(10).clamp(1, 30);
        let spec = spec(&webhook["clientConfig"]);
        Self {
            id: format!("{configuration}/{name}/{index}"),
            configuration: configuration.to_owned(),
            name: name.to_owned(),
            matcher: Matcher::webhook(webhook).map_err(|e| e.to_string()),
            conditions: conditions(webhook),
            endpoint: spec.and_then(|spec| outgoing.endpoint(&spec).map_err(|e| e.to_string())),
            reviews,
            ignores_failures: webhook["failurePolicy"] == "Ignore",
            dry_runs: matches!(meta::text(webhook, &["sideEffects"]), "None" | "NoneOnDryRun"),
            reinvoked: webhook["reinvocationPolicy"] == "IfNeeded",
            timeout: Duration::from_secs(seconds),
        }
    }
}

/// The `matchConditions` of a webhook, which may ask the authorizer.
pub(super) fn conditions(webhook: &Value) -> Conditions {
    let declarations = Declarations { authorizer: true, ..Declarations::default() };
    Conditions::compile(meta::items(webhook, &["matchConditions"]), &declarations)
}

/// Where a `WebhookClientConfig` leads.
pub(crate) fn spec(config: &Value) -> Result<Spec, String> {
    let place = match (config["url"].as_str(), &config["service"]) {
        (Some(url), _) => Place::Url(url.to_owned()),
        (None, service @ Value::Object(_)) => Place::Service {
            namespace: meta::text(service, &["namespace"]).to_owned(),
            name: meta::text(service, &["name"]).to_owned(),
            port: service["port"].as_u64().and_then(|p| u16::try_from(p).ok()).unwrap_or(443),
            path: meta::text(service, &["path"]).to_owned(),
        },
        (None, _) => return Err("webhook configuration must have either service or URL".to_owned()),
    };
    let trust = match config["caBundle"].as_str().filter(|bundle| !bundle.is_empty()) {
        Some(bundle) => {
            let pem = BASE64_STANDARD.decode(bundle).map_err(|e| format!("caBundle: {e}"))?;
            Trust::Bundle(Bytes::from(pem))
        }
        None => Trust::System,
    };
    Ok(Spec { place, trust, proof: Proof::None })
}
