//! Which authorizers there are, and in which order: `AuthorizationConfiguration` of `apiserver.config.k8s.io`
//! (KEP-3221), or the flags that came before it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;
use tiphys_api::{field, names};

use super::abac;
use crate::authn::ReviewVersion;
use crate::config_file;
pub use crate::config_file::ConfigError;
use crate::expressions::Conditions;
use crate::outgoing::{self, kubeconfig};

/// The authorizers of a server, in the order that they are asked in; their names tell them apart.
#[derive(Clone, Debug)]
pub struct Config(pub Vec<(String, Mode)>);

/// An authorizer.
#[derive(Clone, Debug)]
pub enum Mode {
    AlwaysAllow,
    AlwaysDeny,
    Node,
    Rbac,
    /// A flag names the file of its policies: the configuration has no place for that.
    Abac(Arc<[abac::Policy]>),
    Webhook(Box<WebhookConfig>),
}

/// A server that is asked for permissions.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    pub endpoint: outgoing::Spec,
    /// The form of the question.
    pub version: ReviewVersion,
    pub timeout: Duration,
    /// For how long permissions count; `None`: for one request.
    pub remember_allowed: Option<Duration>,
    /// The same of all other answers.
    pub remember_others: Option<Duration>,
    /// A failure is a refusal; otherwise the next authorizer is asked.
    pub denies_on_failure: bool,
    pub(crate) conditions: Arc<Conditions>,
}

/// What a server without a configuration has: the Node authorizer, then RBAC.
impl Default for Config {
    fn default() -> Self {
        Self([Mode::Node, Mode::Rbac].map(|mode| (mode.kind().to_ascii_lowercase(), mode)).into())
    }
}

const MODES: [&str; 6] = ["ABAC", "AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook"];
const MAX_CONDITIONS: usize = 64;
const LONGEST: Duration = Duration::from_secs(30);
const REMEMBER_ALLOWED: Duration = Duration::from_secs(300);
const REMEMBER_OTHERS: Duration = Duration::from_secs(30);

impl Mode {
    /// As configurations and metrics call it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Abac(_) => "ABAC",
            Self::AlwaysAllow => "AlwaysAllow",
            Self::AlwaysDeny => "AlwaysDeny",
            Self::Node => "Node",
            Self::Rbac => "RBAC",
            Self::Webhook(_) => "Webhook",
        }
    }
}

impl WebhookConfig {
    /// A webhook as the flags describe one, with upstream's defaults.
    pub fn new(endpoint: outgoing::Spec, version: ReviewVersion) -> Self {
        Self {
            endpoint,
            version,
            timeout: LONGEST,
            remember_allowed: Some(REMEMBER_ALLOWED),
            remember_others: Some(REMEMBER_OTHERS),
            denies_on_failure: false,
            conditions: Arc::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    authorizers: Vec<RawAuthorizer>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuthorizer {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    webhook: Option<RawWebhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[derive(Default)]
struct RawWebhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: String,
    cache_authorized_requests: Option<bool>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: String,
    cache_unauthorized_requests: Option<bool>,
    timeout: String,
    subject_access_review_version: String,
    match_condition_subject_access_review_version: String,
    failure_policy: String,
    connection_info: RawConnection,
    match_conditions: Vec<RawCondition>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
#[derive(Default)]
struct RawConnection {
    #[serde(rename = "type")]
    kind: String,
    kube_config_file: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCondition {
    #[serde(default)]
    expression: String,
}

/// Reads a configuration of v1, v1beta1 or v1alpha1, and the files of the shape of a kubeconfig that it names.
/// `policies` are those of an authorizer of the type ABAC.
///
/// # Errors
/// It is none; or everything that is wrong with it, by its fields.
pub fn parse(text: &[u8], policies: Option<&Arc<[abac::Policy]>>) -> Result<Config, ConfigError> {
    let file: File = config_file::read(text, "AuthorizationConfiguration")?;
    let mut errors = field::Errors::new();
    let root = field::Path::new("authorizers");
    if file.authorizers.is_empty() {
        errors.push(field::Error::required(&root, "at least one authorization mode must be defined"));
    }
    let mut modes: Vec<(String, Mode)> = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for (index, raw) in file.authorizers.into_iter().enumerate() {
        let path = root.index(index);
        let kind = raw.kind.clone();
        if !named(&raw, &path, &modes, &seen, &mut errors) {
            continue;
        }
        seen.push(kind);
        if let Some(mode) = raw.mode(&path, policies, &mut errors) {
            modes.push(mode);
        }
    }
    if errors.is_empty() { Ok(Config(modes)) } else { Err(ConfigError::Fields(errors)) }
}

/// Judges type and name; `false` where it is not even clear what is meant.
fn named(
    raw: &RawAuthorizer,
    path: &field::Path,
    modes: &[(String, Mode)],
    seen: &[String],
    errors: &mut field::Errors,
) -> bool {
    let (kind, name) = (raw.kind.as_str(), raw.name.as_str());
    let at = path.child("type");
    let wrong = match kind {
        "" => Some(field::Error::required(&at, "")),
        _ if !MODES.contains(&kind) => Some(field::Error::not_supported(&at, kind, &MODES)),
        "Webhook" => None,
        _ => seen.iter().any(|other| other == kind).then(|| field::Error::duplicate(&at, kind)),
    };
    if let Some(error) = wrong {
        errors.push(error);
        return false;
    }
    let at = path.child("name");
    let invalid = names::dns_subdomain(name, false);
    if name.is_empty() {
        errors.push(field::Error::required(&at, ""));
    } else if modes.iter().any(|(other, _)| other == name) {
        errors.push(field::Error::duplicate(&at, name));
    } else if !invalid.is_empty() {
        let why = format!("authorizer name is invalid: {}", invalid.join(", "));
        errors.push(field::Error::invalid(&at, name, why));
    }
    true
}

impl RawAuthorizer {
    fn mode(
        self,
        path: &field::Path,
        policies: Option<&Arc<[abac::Policy]>>,
        errors: &mut field::Errors,
    ) -> Option<(String, Mode)> {
        let at = path.child("webhook");
        let mode = match (self.kind.as_str(), self.webhook) {
            ("Webhook", None) => {
                errors.push(field::Error::required(&at, "required when type=Webhook"));
                return None;
            }
            ("Webhook", Some(webhook)) => Mode::Webhook(Box::new(webhook.config(&at, errors)?)),
            (_, Some(_)) => {
                let why = "may only be specified when type=Webhook";
                errors.push(field::Error::invalid(&at, "non-null", why));
                return None;
            }
            ("ABAC", None) => match policies {
                Some(policies) => Mode::Abac(Arc::clone(policies)),
                None => {
                    let why = "needs --authorization-policy-file";
                    errors.push(field::Error::invalid(&path.child("type"), self.kind, why));
                    return None;
                }
            },
            ("AlwaysAllow", None) => Mode::AlwaysAllow,
            ("AlwaysDeny", None) => Mode::AlwaysDeny,
            ("Node", None) => Mode::Node,
            _ => Mode::Rbac,
        };
        Some((self.name, mode))
    }
}

impl RawWebhook {
    fn config(self, path: &field::Path, errors: &mut field::Errors) -> Option<WebhookConfig> {
        let before = errors.len();
        let timeout = duration(&self.timeout, &path.child("timeout"), None, errors);
        if timeout > LONGEST {
            let why = "must be > 0s and <= 30s";
            errors.push(field::Error::invalid(&path.child("timeout"), self.timeout.as_str(), why));
        }
        let at = path.child("authorizedTTL");
        let allowed = duration(&self.authorized_ttl, &at, Some(REMEMBER_ALLOWED), errors);
        let at = path.child("unauthorizedTTL");
        let others = duration(&self.unauthorized_ttl, &at, Some(REMEMBER_OTHERS), errors);
        let at = path.child("subjectAccessReviewVersion");
        let version = pick(&self.subject_access_review_version, &at, &["v1", "v1beta1"], errors);
        let at = path.child("failurePolicy");
        let policy = pick(&self.failure_policy, &at, &["NoOpinion", "Deny"], errors);
        let at = path.child("matchConditionSubjectAccessReviewVersion");
        match self.match_condition_subject_access_review_version.as_str() {
            "v1" => {}
            "" if self.match_conditions.is_empty() => {}
            "" => {
                errors.push(field::Error::required(&at, "required if match conditions are specified"));
            }
            other => errors.push(field::Error::not_supported(&at, other, &["v1"])),
        }
        let conditions = conditions(&self.match_conditions, &path.child("matchConditions"), errors);
        let endpoint = self.connection_info.endpoint(&path.child("connectionInfo"), errors)?;
        (errors.len() == before).then(|| WebhookConfig {
            endpoint,
            version: if version == 0 { ReviewVersion::V1 } else { ReviewVersion::V1Beta1 },
            timeout,
            remember_allowed: self.cache_authorized_requests.unwrap_or(true).then_some(allowed),
            remember_others: self.cache_unauthorized_requests.unwrap_or(true).then_some(others),
            denies_on_failure: policy == 1,
            conditions: Arc::new(conditions),
        })
    }
}

/// A duration as Go writes it, which must be more than none.
fn duration(
    text: &str,
    path: &field::Path,
    default: Option<Duration>,
    errors: &mut field::Errors,
) -> Duration {
    let nanos = match (text, default) {
        ("", Some(default)) => return default,
        ("", None) => {
            errors.push(field::Error::required(path, ""));
            return Duration::ZERO;
        }
        (text, _) => tiphys_cel::duration(text),
    };
    match nanos.and_then(|nanos| u64::try_from(nanos).ok()) {
        Some(nanos) if nanos > 0 => Duration::from_nanos(nanos),
        _ => {
            errors.push(field::Error::invalid(path, text, "must be a duration > 0s"));
            Duration::ZERO
        }
    }
}

/// Which of `known` the text is; 0 after an error.
fn pick(text: &str, path: &field::Path, known: &[&str], errors: &mut field::Errors) -> usize {
    if let Some(at) = known.iter().position(|k| *k == text) {
        return at;
    }
    errors.push(match text {
        "" => field::Error::required(path, ""),
        other => field::Error::not_supported(path, other, known),
    });
    0
}

fn conditions(raw: &[RawCondition], path: &field::Path, errors: &mut field::Errors) -> Conditions {
    if raw.is_empty() {
        return Conditions::default();
    }
    if raw.len() > MAX_CONDITIONS {
        errors.push(field::Error::too_many(path, raw.len(), MAX_CONDITIONS));
        return Conditions::default();
    }
    let sources = || raw.iter().map(|condition| condition.expression.as_str());
    let compiled = Conditions::of(sources(), &super::webhook::environment());
    for (index, (source, expression)) in sources().zip(compiled.expressions()).enumerate() {
        let at = path.index(index).child("expression");
        if source.trim().is_empty() {
            errors.push(field::Error::required(&at, ""));
        } else if sources().take(index).any(|other| other == source) {
            errors.push(field::Error::duplicate(&at, source));
        } else if let Err(why) = &expression.program {
            errors.push(field::Error::invalid(&at, source, why.as_str()));
        }
    }
    compiled
}

impl RawConnection {
    fn endpoint(self, path: &field::Path, errors: &mut field::Errors) -> Option<outgoing::Spec> {
        let at = path.child("kubeConfigFile");
        let file = self.kube_config_file.unwrap_or_default();
        let error = match self.kind.as_str() {
            "KubeConfigFile" if file.is_empty() => field::Error::required(&at, ""),
            "KubeConfigFile" if !Path::new(&file).is_absolute() => {
                field::Error::invalid(&at, file, "must be an absolute path")
            }
            "KubeConfigFile" => match kubeconfig::spec(Path::new(&file)) {
                Ok(spec) => return Some(spec),
                Err(error) => field::Error::invalid(&at, file, error.to_string()),
            },
            "InClusterConfig" => {
                // It would ask itself.
                let why = "an API server cannot be configured by the cluster that it serves";
                field::Error::invalid(&path.child("type"), Value::from(self.kind), why)
            }
            "" => field::Error::required(&path.child("type"), ""),
            other => field::Error::not_supported(
                &path.child("type"),
                other,
                &["InClusterConfig", "KubeConfigFile"],
            ),
        };
        errors.push(error);
        None
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
