//! Files that say who is believed, who is asked, and what admission does.

use serde::de::DeserializeOwned;
use serde_json::Value;
use tiphys_api::codec::yaml;
use tiphys_api::field;

/// Why a text configures nothing.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ConfigError {
    #[error("it is no YAML: {0}")]
    Yaml(String),
    #[error("it is no {kind} of {group}: {why}")]
    Shape { group: &'static str, kind: &'static str, why: String },
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    Fields(field::Errors),
}

/// Reads a file of a kind of `apiserver.config.k8s.io`; see [`read_of`].
pub(crate) fn read<T: DeserializeOwned>(text: &[u8], kind: &'static str) -> Result<T, ConfigError> {
    read_of(text, "apiserver.config.k8s.io", kind)
}

/// Reads a file of a group and kind, in v1, v1beta1 or v1alpha1. `T` has its fields, `apiVersion` and `kind` among
/// them.
pub(crate) fn read_of<T: DeserializeOwned>(
    text: &[u8],
    group: &'static str,
    kind: &'static str,
) -> Result<T, ConfigError> {
    let shape = |why: String| ConfigError::Shape { group, kind, why };
    let json = yaml::to_json(text).map_err(|e| ConfigError::Yaml(e.to_string()))?;
    let file: T = serde_json::from_slice(&json).map_err(|e| shape(e.to_string()))?;
    let head: Value = serde_json::from_slice(&json).map_err(|e| shape(e.to_string()))?;
    let said = |field: &str| head[field].as_str().unwrap_or_default();
    let version = said("apiVersion").strip_prefix(group).and_then(|rest| rest.strip_prefix('/'));
    if said("kind") != kind || !matches!(version, Some("v1" | "v1beta1" | "v1alpha1")) {
        return Err(shape(format!("it says that it is {} {}", said("apiVersion"), said("kind"))));
    }
    Ok(file)
}
