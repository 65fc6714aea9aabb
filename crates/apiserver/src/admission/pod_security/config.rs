//! What holds where a namespace's labels say nothing, and whom nothing holds: `PodSecurityConfiguration`.

use std::collections::BTreeSet;

use serde::Deserialize;
use serde_json::Value;
use tiphys_api::field::{Error, Errors, Path};
use tiphys_api::{meta, names};

use super::{Level, Wanted, is_version};
use crate::config_file::{self, ConfigError};

/// What comes of a pod that does what it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Enforce,
    Audit,
    Warn,
}

impl Mode {
    pub(super) const ALL: [Self; 3] = [Self::Enforce, Self::Audit, Self::Warn];

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
            Self::Warn => "warn",
        }
    }
}

/// The plug-in's configuration; by default nothing is asked of anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Level and version, in the order of [`Mode::ALL`].
    defaults: [(Level, String); 3],
    users: BTreeSet<String>,
    runtime_classes: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        let open = || (Level::Privileged, "latest".to_owned());
        let (users, runtime_classes, namespaces) = Default::default();
        Self { defaults: Mode::ALL.map(|_| open()), users, runtime_classes, namespaces }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(rename = "apiVersion")]
    _api_version: String,
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    exemptions: Exemptions,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Defaults {
    enforce: String,
    enforce_version: String,
    audit: String,
    audit_version: String,
    warn: String,
    warn_version: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct Exemptions {
    usernames: Vec<String>,
    runtime_classes: Vec<String>,
    namespaces: Vec<String>,
}

impl Config {
    /// Reads a `PodSecurityConfiguration` of `pod-security.admission.config.k8s.io`.
    ///
    /// # Errors
    /// It is none, or names no level, version, user, class or namespace.
    pub fn parse(text: &[u8]) -> Result<Self, ConfigError> {
        let file: File =
            config_file::read_of(text, "pod-security.admission.config.k8s.io", "PodSecurityConfiguration")?;
        let mut errors = Errors::new();
        let said = &file.defaults;
        let said = [
            (&said.enforce, &said.enforce_version),
            (&said.audit, &said.audit_version),
            (&said.warn, &said.warn_version),
        ];
        let mut config = Self::default();
        let path = Path::new("defaults");
        for ((mode, default), (level, version)) in Mode::ALL.into_iter().zip(&mut config.defaults).zip(said) {
            match Level::parse(level) {
                Some(level) => default.0 = level,
                None if level.is_empty() => {}
                None => {
                    let why = "must be one of privileged, baseline, restricted";
                    errors.push(Error::invalid(&path.child(mode.as_str()), level.as_str(), why));
                }
            }
            if is_version(version) {
                default.1.clone_from(version);
            } else if !version.is_empty() {
                let path = path.child(&format!("{}-version", mode.as_str()));
                errors.push(Error::invalid(&path, version.as_str(), "must be \"latest\" or \"v1.x\""));
            }
        }
        let path = Path::new("exemptions");
        let Exemptions { usernames, runtime_classes, namespaces } = file.exemptions;
        let user = |name: &str| match name {
            "" => vec!["username must not be empty".to_owned()],
            _ => Vec::new(),
        };
        config.users = unique(usernames, &path.child("usernames"), user, &mut errors);
        let class = |name: &str| names::dns_subdomain(name, false);
        config.runtime_classes = unique(runtime_classes, &path.child("runtimeClasses"), class, &mut errors);
        let namespace = |name: &str| names::dns_label(name, false);
        config.namespaces = unique(namespaces, &path.child("namespaces"), namespace, &mut errors);
        if errors.is_empty() { Ok(config) } else { Err(ConfigError::Fields(errors)) }
    }

    pub(super) fn of(&self, mode: Mode) -> Wanted<'_> {
        let (level, version) = &self.defaults[mode as usize];
        Wanted { level: *level, version }
    }

    /// Why a pod is let through whatever it does, as the audit log calls it; `None` if it is not.
    pub(super) fn exempts(&self, namespace: &str, user: &str, spec: &Value) -> Option<&'static str> {
        if self.namespaces.contains(namespace) {
            Some("namespace")
        } else if self.users.contains(user) {
            Some("user")
        } else if self.runtime_classes.contains(meta::text(spec, &["runtimeClassName"])) {
            Some("runtimeClass")
        } else {
            None
        }
    }
}

/// A list of names, each of which is right and there once.
fn unique(
    list: Vec<String>,
    path: &Path,
    check: impl Fn(&str) -> Vec<String>,
    errors: &mut Errors,
) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    for (index, name) in list.into_iter().enumerate() {
        let path = path.index(index);
        let wrong = check(&name);
        if !wrong.is_empty() {
            errors.extend(wrong.into_iter().map(|why| Error::invalid(&path, name.as_str(), why)));
        } else if seen.contains(&name) {
            errors.push(Error::duplicate(&path, name));
        } else {
            seen.insert(name);
        }
    }
    seen
}
