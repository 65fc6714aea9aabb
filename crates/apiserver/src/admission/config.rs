//! What is configured of admission's plug-ins: `AdmissionConfiguration` of `apiserver.config.k8s.io`.

use std::io;
use std::path::Path as FilePath;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use tiphys_api::field::{Error as FieldError, Errors, Path};
use tiphys_api::{meta, quota::Limited};

use super::pod_security;
use crate::config_file::{self, ConfigError};

/// The plug-ins' configurations. Without a file, what each does by itself.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// What nobody may use without a quota that covers it.
    pub limited: Arc<[Limited]>,
    pub pod_security: Arc<pod_security::Config>,
}

/// Why a file configures nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    File(#[from] ConfigError),
    #[error("reading {path:?} for the plug-in {plugin}: {source}")]
    Reading { plugin: String, path: String, source: io::Error },
    #[error("the plug-in {plugin}: {source}")]
    Plugin { plugin: String, source: ConfigError },
}

/// Of scopes of quotas.
const OPERATORS: [&str; 4] = ["DoesNotExist", "Exists", "In", "NotIn"];
const QUOTA: &str = "ResourceQuota";
const POD_SECURITY: &str = "PodSecurity";

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plugin {
    name: String,
    #[serde(default)]
    path: String,
    configuration: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Quota {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    limited_resources: Vec<LimitedResource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct LimitedResource {
    #[serde(default)]
    api_group: String,
    #[serde(default)]
    resource: String,
    #[serde(default)]
    match_contains: Vec<String>,
    #[serde(default)]
    match_scopes: Vec<Value>,
}

/// Reads the file; `read` gives the files that it names, which stand beside it.
///
/// # Errors
/// It names a plug-in that cannot be configured, or a configuration is wrong.
pub fn parse(text: &[u8], read: impl Fn(&FilePath) -> io::Result<Vec<u8>>) -> Result<Config, Error> {
    let file: File = config_file::read(text, "AdmissionConfiguration")?;
    let (mut config, mut errors, mut seen) = (Config::default(), Errors::new(), Vec::new());
    for (index, plugin) in file.plugins.into_iter().enumerate() {
        let path = Path::new("plugins").index(index).child("name");
        if ![QUOTA, POD_SECURITY].contains(&&*plugin.name) {
            errors.push(FieldError::not_supported(&path, plugin.name, &[POD_SECURITY, QUOTA]));
            continue;
        }
        if seen.contains(&plugin.name) {
            errors.push(FieldError::duplicate(&path, plugin.name));
            continue;
        }
        let text = match (plugin.configuration, &*plugin.path) {
            (Some(configuration), _) => configuration.to_string().into_bytes(),
            (None, "") => continue,
            (None, path) => read(path.as_ref()).map_err(|source| Error::Reading {
                plugin: plugin.name.clone(),
                path: path.to_owned(),
                source,
            })?,
        };
        let failed = |source| Error::Plugin { plugin: plugin.name.clone(), source };
        if plugin.name == QUOTA {
            config.limited = limited(&text).map_err(failed)?.into();
        } else {
            config.pod_security = Arc::new(pod_security::Config::parse(&text).map_err(failed)?);
        }
        seen.push(plugin.name);
    }
    if errors.is_empty() { Ok(config) } else { Err(ConfigError::Fields(errors).into()) }
}

fn limited(text: &[u8]) -> Result<Vec<Limited>, ConfigError> {
    let file: Quota = config_file::read(text, "ResourceQuotaConfiguration")?;
    let mut errors = Errors::new();
    for (index, limited) in file.limited_resources.iter().enumerate() {
        let path = Path::new("limitedResources").index(index);
        if limited.resource.is_empty() {
            errors.push(FieldError::required(&path.child("resource"), ""));
        }
        for (index, scope) in limited.match_scopes.iter().enumerate() {
            let operator = meta::text(scope, &["operator"]);
            if !OPERATORS.contains(&operator) {
                let path = path.child("matchScopes").index(index).child("operator");
                errors.push(FieldError::not_supported(&path, operator, &OPERATORS));
            }
        }
    }
    if !errors.is_empty() {
        return Err(ConfigError::Fields(errors));
    }
    let read = file.limited_resources.into_iter();
    Ok(read.map(|l| Limited::new(l.api_group, l.resource, l.match_contains, &l.match_scopes)).collect())
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
