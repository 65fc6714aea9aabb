//! Network configurations, as administrators write them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("reading network configurations in {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("network configuration: {0}")]
    Invalid(String),
}

/// Version 0.3.0 was the first whose results have today's form.
const VERSIONS: [&str; 6] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0", "1.1"];

/// A network: a name, a version, and plugins to run one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Chain {
    /// As a configuration list, whichever form it was written in.
    conf: Value,
    name: String,
    version: String,
}

impl Chain {
    /// The first valid configuration by file name (`.conflist`, `.conf` or `.json`). Invalid ones are passed over with
    /// a warning, as an administrator who edits a file would want; a directory that does not exist has none.
    pub fn load(dir: &Path) -> Result<Option<Chain>, Error> {
        let failed = |source| Error::Read { path: dir.to_owned(), source };
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.map_err(failed)?,
        };
        let mut files: Vec<PathBuf> =
            entries.map(|entry| entry.map(|e| e.path())).collect::<io::Result<_>>().map_err(failed)?;
        files.retain(|path| {
            path.extension().is_some_and(|e| ["conflist", "conf", "json"].iter().any(|known| e == *known))
        });
        files.sort();
        for path in files {
            let text = fs::read(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let parsed = serde_json::from_slice(&text)
                .map_err(|error| Error::Invalid(error.to_string()))
                .and_then(Chain::from_conf);
            match parsed {
                Ok(chain) => return Ok(Some(chain)),
                Err(error) => tracing::warn!(path = %path.display(), %error, "passed over"),
            }
        }
        Ok(None)
    }

    /// A chain from a configuration list, or from a single plugin's configuration.
    pub fn from_conf(conf: Value) -> Result<Chain, Error> {
        let invalid = |what: &str| Error::Invalid(what.to_owned());
        let name =
            conf["name"].as_str().filter(|name| valid_name(name)).ok_or_else(|| invalid("no valid name"))?;
        let version = conf["cniVersion"].as_str().unwrap_or_default();
        if !VERSIONS.contains(&version) {
            return Err(Error::Invalid(format!("cniVersion {version:?} is none of {}", VERSIONS.join(", "))));
        }
        let (name, version) = (name.to_owned(), version.to_owned());
        let conf = match conf.get("plugins") {
            Some(_) => conf,
            None => json!({"name": name, "cniVersion": version, "plugins": [conf]}),
        };
        let plugins =
            conf["plugins"].as_array().filter(|all| !all.is_empty()).ok_or_else(|| invalid("no plugins"))?;
        // A plugin's type is looked for as a file name, and must not lead anywhere else.
        let valid = |plugin: &Value| plugin["type"].as_str().is_some_and(valid_name);
        match plugins.iter().all(valid) {
            true => Ok(Chain { conf, name, version }),
            false => Err(invalid("a plugin without a valid type")),
        }
    }

    pub(super) fn conf(&self) -> &Value {
        &self.conf
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn at_least(&self, wanted: (u32, u32)) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= wanted
    }

    /// Whether CHECK is there, and wanted.
    pub(super) fn checks(&self) -> bool {
        self.at_least((0, 4)) && !flag(&self.conf["disableCheck"])
    }

    /// Whether GC is there, and wanted.
    pub(super) fn collects(&self) -> bool {
        self.at_least((1, 1)) && !flag(&self.conf["disableGC"])
    }

    pub(super) fn plugins(&self) -> &[Value] {
        self.conf["plugins"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// What a plugin of the chain is sent, before what belongs to one attachment.
    pub(super) fn request(&self, plugin: &Value) -> Value {
        let mut request = plugin.clone();
        if let Some(fields) = request.as_object_mut() {
            fields.remove("capabilities");
            fields.insert("name".to_owned(), json!(self.name));
            fields.insert("cniVersion".to_owned(), json!(self.version));
        }
        request
    }
}

/// Some write booleans as strings.
fn flag(value: &Value) -> bool {
    value.as_bool().unwrap_or(value.as_str() == Some("true"))
}

fn valid_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphanumeric())
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
#[path = "conf_tests.rs"]
mod tests;
