//! `KubeSchedulerConfiguration` (`kubescheduler.config.k8s.io/v1`): profiles, their plugins, and the arguments of these.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use crate::{
    extender::{Extender, ExtenderArgs},
    framework::{Enabled, Point, Profile},
    plugins::{DEFAULTS, args::Args, default_profile, make},
    queue::{Backoff, FIRST_BACKOFF, LAST_BACKOFF},
};

/// The name of the profile that there is when none is configured, and of the scheduler that pods name by default.
const DEFAULT_NAME: &str = "default-scheduler";

/// What can be set.
pub struct Config {
    /// At least one.
    pub(crate) profiles: Arc<[Profile]>,
    pub(crate) extenders: Vec<Extender>,
    pub(crate) backoff: Backoff,
    /// Decides between nodes that are equally good.
    pub(crate) seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        let profiles = [default_profile(DEFAULT_NAME)];
        Self { profiles: profiles.into(), extenders: Vec::new(), backoff: Backoff::default(), seed: seed() }
    }
}

/// A seed that is another one at each start.
fn seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("reading the configuration: {0}")]
    Text(#[source] serde_saphyr::Error),
    #[error("{path}: {what}")]
    Field { path: String, what: String },
}

fn field(path: impl Into<String>, what: impl Into<String>) -> ConfigError {
    ConfigError::Field { path: path.into(), what: what.into() }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    profiles: Vec<ProfileFile>,
    percentage_of_nodes_to_score: Option<usize>,
    pod_initial_backoff_seconds: Option<u64>,
    pod_max_backoff_seconds: Option<u64>,
    #[serde(default)]
    extenders: Vec<ExtenderArgs>,
    // What concerns a process of its own; here the cluster's process has it.
    #[serde(rename = "parallelism")]
    _parallelism: Option<Value>,
    #[serde(rename = "leaderElection")]
    _leader_election: Option<Value>,
    #[serde(rename = "clientConnection")]
    _client_connection: Option<Value>,
    #[serde(rename = "enableProfiling")]
    _enable_profiling: Option<bool>,
    #[serde(rename = "enableContentionProfiling")]
    _enable_contention_profiling: Option<bool>,
    #[serde(rename = "delayCacheUntilActive")]
    _delay_cache_until_active: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct ProfileFile {
    scheduler_name: Option<String>,
    percentage_of_nodes_to_score: Option<usize>,
    plugins: std::collections::BTreeMap<String, PluginSet>,
    plugin_config: Vec<PluginConfig>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct PluginSet {
    enabled: Vec<PluginFile>,
    disabled: Vec<PluginFile>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginFile {
    name: String,
    #[serde(default)]
    weight: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PluginConfig {
    name: String,
    #[serde(default)]
    args: Value,
}

impl PluginSet {
    fn disables(&self, plugin: &str) -> bool {
        self.disabled.iter().any(|p| p.name == plugin || p.name == "*")
    }
}

impl Config {
    /// Reads a configuration as a file has it, in YAML or JSON.
    ///
    /// # Errors
    /// The field that is wrong, and why.
    pub fn read(text: &str) -> Result<Self, ConfigError> {
        let file: File = serde_saphyr::from_str(text).map_err(ConfigError::Text)?;
        for (name, found, wanted) in [
            ("apiVersion", &file.api_version, "kubescheduler.config.k8s.io/v1"),
            ("kind", &file.kind, "KubeSchedulerConfiguration"),
        ] {
            if found != wanted {
                return Err(field(name, format!("{found:?} is not {wanted:?}")));
            }
        }
        let mut extenders = Vec::new();
        for (i, args) in file.extenders.into_iter().enumerate() {
            extenders.push(Extender::new(args).map_err(|what| field(format!("extenders[{i}]"), what))?);
        }
        if extenders.iter().filter(|e| e.binds()).count() > 1 {
            return Err(field("extenders", "only one extender can implement bind"));
        }
        let percentage = percentage(file.percentage_of_nodes_to_score, "percentageOfNodesToScore")?;
        let mut profiles = Vec::new();
        let mut names = BTreeSet::new();
        for (i, profile) in file.profiles.iter().enumerate() {
            let path = format!("profiles[{i}]");
            let profile = read_profile(profile, &path, percentage, &extenders)?;
            if !names.insert(profile.scheduler.clone()) {
                return Err(field(
                    format!("{path}.schedulerName"),
                    format!("duplicate value: {:?}", profile.scheduler),
                ));
            }
            profiles.push(profile);
        }
        if profiles.is_empty() {
            profiles.push(Profile { percentage, ..default_profile(DEFAULT_NAME) });
        }
        let seconds = |given: Option<u64>, otherwise| given.map_or(otherwise, Duration::from_secs);
        let backoff = Backoff {
            first: seconds(file.pod_initial_backoff_seconds, FIRST_BACKOFF),
            last: seconds(file.pod_max_backoff_seconds, LAST_BACKOFF),
        };
        if backoff.first.is_zero() {
            return Err(field("podInitialBackoffSeconds", "must be greater than 0"));
        }
        if backoff.last < backoff.first {
            return Err(field(
                "podMaxBackoffSeconds",
                "must be greater than or equal to podInitialBackoffSeconds",
            ));
        }
        Ok(Self { profiles: profiles.into(), extenders, backoff, ..Self::default() })
    }
}

fn percentage(given: Option<usize>, path: &str) -> Result<usize, ConfigError> {
    match given {
        Some(percentage) if percentage > 100 => Err(field(path, "not in valid range [0-100]")),
        _ => Ok(given.unwrap_or(0)),
    }
}

fn read_profile(
    file: &ProfileFile,
    path: &str,
    otherwise: usize,
    extenders: &[Extender],
) -> Result<Profile, ConfigError> {
    let mut args = Args::default();
    let mut configured = BTreeSet::new();
    for (i, config) in file.plugin_config.iter().enumerate() {
        let path = format!("{path}.pluginConfig[{i}]");
        if !configured.insert(&config.name) {
            return Err(field(format!("{path}.name"), format!("repeated config for plugin {}", config.name)));
        }
        args.set(&config.name, config.args.clone()).map_err(|what| field(format!("{path}.args"), what))?;
    }
    args.fit.ignored_resources.extend(extenders.iter().flat_map(Extender::ignored).map(str::to_owned));
    let plugins = enabled(file, &format!("{path}.plugins"), &args)?;
    let percentage =
        percentage(file.percentage_of_nodes_to_score, &format!("{path}.percentageOfNodesToScore"))?;
    let scheduler = file.scheduler_name.as_deref().unwrap_or(DEFAULT_NAME).into();
    let percentage = if file.percentage_of_nodes_to_score.is_some() { percentage } else { otherwise };
    let (binding, devices) = (args.volumes.timeout(), args.devices.timeout());
    let profile = Profile { scheduler, plugins, percentage, binding, devices };
    for (point, name) in [(Point::QueueSort, "queueSort"), (Point::Bind, "bind")] {
        if profile.at(point).next().is_none() {
            return Err(field(format!("{path}.plugins.{name}"), "one plugin is needed"));
        }
    }
    Ok(profile)
}

/// What is enabled, and where: first by `multiPoint`, then by what each point says for itself.
fn enabled(file: &ProfileFile, path: &str, args: &Args) -> Result<Vec<Enabled>, ConfigError> {
    let none = PluginSet::default();
    let multi = file.plugins.get("multiPoint").unwrap_or(&none);
    let mut plugins: Vec<Enabled> = Vec::new();
    let add = |plugins: &mut Vec<Enabled>, name: &str, weight, path: &str| {
        let plugin =
            make(name, args).ok_or_else(|| field(path, format!("plugin {name:?} does not exist")))?;
        let at = plugin.points().to_vec();
        plugins.push(Enabled { plugin, weight, at });
        Ok(())
    };
    for (name, weight) in DEFAULTS {
        if !multi.disables(name) {
            add(&mut plugins, name, weight, path)?;
        }
    }
    for (i, wanted) in multi.enabled.iter().enumerate() {
        let weight = if wanted.weight == 0 { 1 } else { wanted.weight };
        match plugins.iter_mut().find(|p| p.plugin.name() == wanted.name) {
            Some(known) => known.weight = weight,
            None => add(&mut plugins, &wanted.name, weight, &format!("{path}.multiPoint.enabled[{i}]"))?,
        }
    }
    for (name, set) in file.plugins.iter().filter(|(name, _)| *name != "multiPoint") {
        let path = format!("{path}.{name}");
        let Some((_, point)) = Point::ALL.iter().find(|(known, _)| known == name) else {
            return Err(field(path, "is no extension point"));
        };
        for plugin in plugins.iter_mut().filter(|p| set.disables(p.plugin.name())) {
            plugin.at.retain(|at| at != point);
        }
        for (i, wanted) in set.enabled.iter().enumerate() {
            let path = format!("{path}.enabled[{i}]");
            if !plugins.iter().any(|p| p.plugin.name() == wanted.name) {
                add(&mut plugins, &wanted.name, 1, &path)?;
                if let Some(added) = plugins.last_mut() {
                    added.at.clear();
                }
            }
            let Some(known) = plugins.iter_mut().find(|p| p.plugin.name() == wanted.name) else { continue };
            if !known.plugin.points().contains(point) {
                return Err(field(path, format!("plugin {:?} does not extend {name}", wanted.name)));
            }
            if !known.at.contains(point) {
                known.at.push(*point);
            }
            if wanted.weight != 0 {
                known.weight = wanted.weight;
            }
        }
    }
    Ok(plugins)
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
