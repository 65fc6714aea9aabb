//! A container's environment, command and arguments.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, FileKeySelector, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::content::{ContentId, Contents, Kind};
use crate::env_file::{self, SyntaxError};
use crate::expand::expand;
use crate::fields::{self, Addresses, FieldError};
use crate::pod;
use crate::services::ServiceFacts;

/// Why a container's environment could not be made. The text is what `CreateContainerConfigError` shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvError {
    /// An object that is not optional is missing.
    #[error("{} \"{}\" not found", .0.kind.lower(), .0.name)]
    NoObject(ContentId),
    /// A key that is not optional is missing.
    #[error("couldn't find key {key} in {} {}/{}", camel(.id.kind), .id.namespace, .id.name)]
    NoKey {
        /// Where it should be.
        id: ContentId,
        /// Its name.
        key: String,
    },
    /// A reference to the pod itself has no value.
    #[error(transparent)]
    Field(#[from] FieldError),
    /// A file of variables is missing, or not one that may be read.
    #[error("couldn't read env file {path:?} of volume {volume:?}: {problem}")]
    File {
        /// The volume that it should be in.
        volume: String,
        /// Its path there.
        path: String,
        /// What happened.
        problem: String,
    },
    /// A file of variables is written in another way.
    #[error("couldn't parse env file: {0}")]
    Syntax(#[from] SyntaxError),
    /// A file of variables does not have the one that is asked for.
    #[error("environment variable key {key:?} not found in file {path:?}")]
    NoFileKey {
        /// The variable's name in the file.
        key: String,
        /// The file.
        path: String,
    },
    /// A source of a kind that is not built.
    #[error("environment variable {0:?} has a source that this node does not support")]
    Source(String),
}

fn camel(kind: Kind) -> &'static str {
    match kind {
        Kind::ConfigMap => "ConfigMap",
        Kind::Secret => "Secret",
    }
}

/// Files of variables, by volume and path: their text, `None` for one that is not there, or why it can't be read.
pub type EnvFiles = BTreeMap<(String, String), Result<Option<String>, String>>;

/// What an environment is made from beside the pod.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    /// ConfigMaps and Secrets.
    pub contents: &'a Contents,
    /// The files that the container's variables come from.
    pub files: &'a EnvFiles,
    /// Services of the pod's namespace and the API's own.
    pub services: &'a [ServiceFacts],
    /// Addresses of pod and node.
    pub addresses: Addresses<'a>,
    /// What the node has for pods.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// Variables in order; a later one of a name replaces the value of the earlier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Environment(Vec<(String, String)>);

impl Environment {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// All variables in order.
    pub fn into_vec(self) -> Vec<(String, String)> {
        self.0
    }

    fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

/// Makes the environment: `envFrom` in order, then `env` in order with `$(NAME)` of what came before, then
/// the service variables that nothing else has set.
pub fn environment(
    pod: &Pod,
    container: &Container,
    with: &Surroundings<'_>,
) -> Result<Environment, EnvError> {
    let services = service_variables(pod, with.services);
    let mut env = Environment::default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        let (id, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (content_id(pod, Kind::ConfigMap, &r.name), r.optional),
            (None, Some(r)) => (content_id(pod, Kind::Secret, &r.name), r.optional),
            (None, None) => continue,
        };
        match with.contents.get(&id) {
            Some(Some(content)) => {
                for (key, value) in &content.data {
                    let name = format!("{prefix}{key}");
                    if is_variable_name(&name) {
                        env.set(name, String::from_utf8_lossy(value).into_owned());
                    }
                }
            }
            _ if optional.unwrap_or(false) => {}
            _ => return Err(EnvError::NoObject(id)),
        }
    }
    for var in container.env.iter().flatten() {
        let value = match (&var.value, &var.value_from) {
            (Some(text), _) if !text.is_empty() => {
                let lookup =
                    |name: &str| env.get(name).map(str::to_owned).or_else(|| services.get(name).cloned());
                Some(expand(text, lookup))
            }
            (_, None) => Some(String::new()),
            (_, Some(source)) => {
                if let Some(selector) = &source.field_ref {
                    Some(fields::field(pod, with.addresses, &selector.field_path)?)
                } else if let Some(selector) = &source.resource_field_ref {
                    Some(fields::resource(pod, container, selector, with.allocatable)?)
                } else if let Some(r) = &source.config_map_key_ref {
                    keyed(with.contents, content_id(pod, Kind::ConfigMap, &r.name), &r.key, r.optional)?
                } else if let Some(r) = &source.secret_key_ref {
                    keyed(with.contents, content_id(pod, Kind::Secret, &r.name), &r.key, r.optional)?
                } else if let Some(selector) = &source.file_key_ref {
                    from_file(with.files, selector)?
                } else {
                    return Err(EnvError::Source(var.name.clone()));
                }
            }
        };
        if let Some(value) = value {
            env.set(var.name.clone(), value);
        }
    }
    for (name, value) in services {
        if env.get(&name).is_none() {
            env.0.push((name, value));
        }
    }
    Ok(env)
}

/// Command and arguments with `$(NAME)` replaced from the environment.
pub fn command(container: &Container, env: &Environment) -> (Vec<String>, Vec<String>) {
    let lookup = |name: &str| env.get(name).map(str::to_owned);
    let each = |list: &Option<Vec<String>>| list.iter().flatten().map(|t| expand(t, lookup)).collect();
    (each(&container.command), each(&container.args))
}

fn content_id(pod: &Pod, kind: Kind, name: &str) -> ContentId {
    ContentId { kind, namespace: pod.metadata.namespace.clone().unwrap_or_default(), name: name.to_owned() }
}

fn keyed(
    contents: &Contents,
    id: ContentId,
    key: &str,
    optional: Option<bool>,
) -> Result<Option<String>, EnvError> {
    let optional = optional.unwrap_or(false);
    match contents.get(&id) {
        Some(Some(content)) => match content.data.get(key) {
            Some(value) => Ok(Some(String::from_utf8_lossy(value).into_owned())),
            None if optional => Ok(None),
            None => Err(EnvError::NoKey { id, key: key.to_owned() }),
        },
        _ if optional => Ok(None),
        _ => Err(EnvError::NoObject(id)),
    }
}

/// The value of a `fileKeyRef`. As upstream has it, an empty value is none.
fn from_file(files: &EnvFiles, selector: &FileKeySelector) -> Result<Option<String>, EnvError> {
    let FileKeySelector { volume_name: volume, path, key, optional } = selector;
    let failed = |problem: &str| EnvError::File {
        volume: volume.clone(),
        path: path.clone(),
        problem: problem.to_owned(),
    };
    let optional = optional.unwrap_or(false);
    let text = match files.get(&(volume.clone(), path.clone())) {
        Some(Ok(Some(text))) => text,
        Some(Ok(None)) | None if optional => return Ok(None),
        Some(Ok(None)) | None => return Err(failed("there is no such file")),
        Some(Err(problem)) => return Err(failed(problem)),
    };
    match env_file::value(text, key)?.filter(|value| !value.is_empty()) {
        None if !optional => Err(EnvError::NoFileKey { key: key.clone(), path: path.clone() }),
        value => Ok(value),
    }
}

/// Printable ASCII without `=`, which is what the API accepts (KEP-4369).
fn is_variable_name(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'=')
}

/// The variables by which a container finds services that existed before it. The API's own are always there,
/// those of the namespace unless `enableServiceLinks` is false.
fn service_variables(pod: &Pod, services: &[ServiceFacts]) -> BTreeMap<String, String> {
    let links = pod::spec(pod).enable_service_links.unwrap_or(true);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut vars = BTreeMap::new();
    let is_api = |s: &ServiceFacts| s.namespace == "default" && s.name == "kubernetes";
    // The namespace's own service of that name goes before the API's.
    for service in services.iter().filter(|s| is_api(s)) {
        service.variables(&mut vars);
    }
    for service in services.iter().filter(|s| links && s.namespace == namespace) {
        service.variables(&mut vars);
    }
    vars
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
