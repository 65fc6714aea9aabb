//! The file that says what is traced: `TracingConfiguration`.

use serde::Deserialize;
use tiphys_api::codec::yaml;

/// Where spans go, and how many requests are traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The URL of a collector that takes OTLP over HTTP.
    pub endpoint: String,
    /// Of a million requests whose clients do not say, so many are traced.
    pub per_million: u32,
}

/// Why a file is no such configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("it is no TracingConfiguration: {0}")]
    Shape(#[from] serde_json::Error),
    #[error("it must be a TracingConfiguration of apiserver.config.k8s.io/v1, not a {kind} of {api_version}")]
    Kind { api_version: String, kind: String },
    #[error("samplingRatePerMillion must be between 0 and 1000000")]
    Rate,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    sampling_rate_per_million: Option<u32>,
}

/// Where collectors listen by default.
const ENDPOINT: &str = "http://localhost:4318";
const PATH: &str = "/v1/traces";

impl Config {
    /// Reads a file in YAML or JSON. An endpoint that is only a host and a port is one without TLS, as upstream
    /// has it.
    ///
    /// # Errors
    /// It is no such configuration.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let json = yaml::to_json(text).map_err(|e| ConfigError::Yaml(e.to_string()))?;
        let File { api_version, kind, endpoint, sampling_rate_per_million } = serde_json::from_slice(&json)?;
        let versions = ["v1", "v1beta1", "v1alpha1"].map(|v| format!("apiserver.config.k8s.io/{v}"));
        if kind != "TracingConfiguration" || !versions.contains(&api_version) {
            return Err(ConfigError::Kind { api_version, kind });
        }
        let per_million = sampling_rate_per_million.unwrap_or(0);
        if per_million > 1_000_000 {
            return Err(ConfigError::Rate);
        }
        let mut endpoint = endpoint.unwrap_or_else(|| ENDPOINT.to_owned());
        if !endpoint.contains("://") {
            endpoint.insert_str(0, "http://");
        }
        if endpoint.trim_end_matches('/').matches('/').count() == 2 {
            endpoint.truncate(endpoint.trim_end_matches('/').len());
            endpoint.push_str(PATH);
        }
        Ok(Self { endpoint, per_million })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Config, ConfigError> {
        let text = format!("{{apiVersion: apiserver.config.k8s.io/v1, kind: TracingConfiguration{rest}}}");
        Config::parse(text.as_bytes())
    }

    #[test]
    fn endpoints_are_completed() {
        for (said, meant) in [
            ("", "http://localhost:4318/v1/traces"),
            (", endpoint: 'c:4318'", "http://c:4318/v1/traces"),
            (", endpoint: 'https://c/'", "https://c/v1/traces"),
            (", endpoint: 'https://c/mine'", "https://c/mine"),
        ] {
            assert_eq!(parse(said).unwrap(), Config { endpoint: meant.to_owned(), per_million: 0 }, "{said}");
        }
        assert_eq!(parse(", samplingRatePerMillion: 7").unwrap().per_million, 7);
    }

    #[test]
    fn what_is_wrong_is_told() {
        assert!(matches!(parse(", samplingRatePerMillion: 1000001"), Err(ConfigError::Rate)));
        assert!(matches!(parse(", sampling: 1"), Err(ConfigError::Shape(_))));
        let other = b"{apiVersion: audit.k8s.io/v1, kind: Policy}";
        assert!(matches!(Config::parse(other), Err(ConfigError::Kind { .. })));
    }
}
