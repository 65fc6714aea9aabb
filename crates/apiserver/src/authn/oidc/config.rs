//! Which issuers are believed: `AuthenticationConfiguration` of `apiserver.config.k8s.io`.

use bytes::Bytes;
use serde::Deserialize;
use tiphys_api::codec::yaml;

/// An issuer, and how its claims become a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// As tokens name it; `https`.
    pub url: String,
    /// Where it describes itself, if not below its URL.
    pub discovery_url: Option<String>,
    /// The PEM of who vouches for it; `None`: whom the host trusts.
    pub authority: Option<Bytes>,
    /// A token must be for one of these.
    pub audiences: Vec<String>,
    pub username: Mapping,
    pub groups: Option<Mapping>,
    pub uid: Option<String>,
    /// Claims that must have these values.
    pub required: Vec<(String, String)>,
}

/// A claim, and what goes before its value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    pub claim: String,
    pub prefix: String,
}

impl Issuer {
    pub(super) fn discovery(&self) -> String {
        self.discovery_url
            .clone()
            .unwrap_or_else(|| format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/')))
    }

    /// Whether the issuer can be used.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what| Err(ConfigError::Issuer { url: self.url.clone(), what });
        if !self.url.starts_with("https://") || self.url.contains(['?', '#', '@']) {
            return wrong("its url must be an https URL without credentials, query and fragment");
        }
        if self.discovery_url.as_ref().is_some_and(|url| !url.starts_with("https://")) {
            return wrong("its discoveryURL must be an https URL");
        }
        if self.audiences.is_empty() {
            return wrong("it has no audiences");
        }
        if self.username.claim.is_empty() {
            return wrong("claimMappings.username.claim is required");
        }
        Ok(())
    }
}

/// Why a text configures no issuers.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("it is no AuthenticationConfiguration of apiserver.config.k8s.io: {0}")]
    Shape(String),
    #[error("issuer {url:?}: {what}")]
    Issuer { url: String, what: &'static str },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: RawIssuer,
    #[serde(default)]
    claim_validation_rules: Vec<Rule>,
    claim_mappings: Mappings,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RawIssuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    audiences: Vec<String>,
    /// There is but one: any of the audiences.
    #[serde(default, rename = "audienceMatchPolicy")]
    _policy: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    claim: String,
    required_value: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mappings {
    username: RawMapping,
    groups: Option<RawMapping>,
    uid: Option<Uid>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMapping {
    claim: String,
    prefix: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Uid {
    claim: String,
}

/// Reads a configuration. What it says in expressions is refused, as is everything unknown.
///
/// # Errors
/// It is none, or an issuer of it can't be used.
pub fn parse(text: &[u8]) -> Result<Vec<Issuer>, ConfigError> {
    let json = yaml::to_json(text).map_err(|e| ConfigError::Yaml(e.to_string()))?;
    let file: File = serde_json::from_slice(&json).map_err(|e| ConfigError::Shape(e.to_string()))?;
    let known = matches!(
        file.api_version.as_str(),
        "apiserver.config.k8s.io/v1" | "apiserver.config.k8s.io/v1beta1" | "apiserver.config.k8s.io/v1alpha1"
    );
    if !known || file.kind != "AuthenticationConfiguration" {
        return Err(ConfigError::Shape(format!("it says that it is {} {}", file.api_version, file.kind)));
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for jwt in file.jwt {
        let RawIssuer { url, discovery_url, certificate_authority, audiences, .. } = jwt.issuer;
        let wrong = |what| ConfigError::Issuer { url: url.clone(), what };
        let mapping = |raw: RawMapping| match raw.prefix {
            Some(prefix) => Ok(Mapping { claim: raw.claim, prefix }),
            None => Err(wrong("claimMappings need a prefix, which may be empty")),
        };
        let issuer = Issuer {
            discovery_url,
            authority: certificate_authority.filter(|pem| !pem.is_empty()).map(Bytes::from),
            audiences,
            username: mapping(jwt.claim_mappings.username)?,
            groups: jwt.claim_mappings.groups.map(mapping).transpose()?,
            uid: jwt.claim_mappings.uid.map(|uid| uid.claim),
            required: jwt.claim_validation_rules.into_iter().map(|r| (r.claim, r.required_value)).collect(),
            url: url.clone(),
        };
        issuer.check()?;
        if issuers.iter().any(|other| other.url == issuer.url) {
            return Err(wrong("it is there twice"));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}
