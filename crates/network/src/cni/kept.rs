//! What must be known to take an attachment down, on disk.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::conf::Chain;
use crate::bridge::{PortMapping, Protocol};

/// What failed with the records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("sandbox id {0:?} is not a file name of letters, digits, '.', '_' and '-'")]
    InvalidSandbox(String),
}

/// One sandbox's attachment: what the plugins were given, and what they answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Attachment {
    pub(super) sandbox: String,
    pub(super) netns: PathBuf,
    pub(super) args: String,
    pub(super) ports: Vec<PortMapping>,
    pub(super) conf: Value,
    /// The last plugin's result; none as long as ADD has not succeeded.
    pub(super) result: Option<Value>,
}

impl Attachment {
    /// What a plugin of the chain is sent.
    pub(super) fn request(&self, chain: &Chain, plugin: &Value) -> Value {
        let mut request = chain.request(plugin);
        if plugin["capabilities"]["portMappings"].as_bool() == Some(true) && !self.ports.is_empty() {
            let ports: Vec<Value> = self.ports.iter().map(port).collect();
            request["runtimeConfig"] = json!({"portMappings": ports});
        }
        if let Some(result) = &self.result {
            request["prevResult"] = result.clone();
        }
        request
    }
}

fn port(port: &PortMapping) -> Value {
    let protocol = match port.protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Sctp => "sctp",
    };
    let mut mapping =
        json!({"hostPort": port.host_port, "containerPort": port.container_port, "protocol": protocol});
    if let Some(ip) = port.host_ip {
        mapping["hostIP"] = json!(ip);
    }
    mapping
}

/// The attachments, a file each, which appears whole or not at all.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { step, path, source }
}

impl Kept {
    pub(super) fn open(dir: &Path) -> Result<Kept, Error> {
        fs::create_dir_all(dir).map_err(failed("creating", dir))?;
        Ok(Kept { dir: dir.to_owned() })
    }

    fn path(&self, sandbox: &str) -> Result<PathBuf, Error> {
        let valid = (1..=128).contains(&sandbox.len())
            && sandbox.as_bytes()[0].is_ascii_alphanumeric()
            && sandbox.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
        match valid {
            true => Ok(self.dir.join(sandbox)),
            false => Err(Error::InvalidSandbox(sandbox.to_owned())),
        }
    }

    /// The sandbox's attachment. A torn record, which only a loss of power leaves, is none.
    pub(super) fn get(&self, sandbox: &str) -> Result<Option<Attachment>, Error> {
        let path = self.path(sandbox)?;
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            content => Ok(serde_json::from_slice(&content.map_err(failed("reading", &path))?).ok()),
        }
    }

    pub(super) fn put(&self, attachment: &Attachment) -> Result<(), Error> {
        let path = self.path(&attachment.sandbox)?;
        let aside = self.dir.join(format!(".{}", attachment.sandbox));
        let content = serde_json::to_vec(attachment).map_err(io::Error::from);
        content
            .and_then(|content| fs::write(&aside, content))
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(failed("writing", &path))
    }

    pub(super) fn remove(&self, sandbox: &str) -> Result<(), Error> {
        let path = self.path(sandbox)?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome.map_err(failed("removing", &path)),
        }
    }

    pub(super) fn sandboxes(&self) -> Result<BTreeSet<String>, Error> {
        let mut found = BTreeSet::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("listing", &self.dir))? {
            let entry = entry.map_err(failed("listing", &self.dir))?;
            match entry.file_name().into_string() {
                Ok(name) if self.path(&name).is_ok() => {
                    found.insert(name);
                }
                _ => {}
            }
        }
        Ok(found)
    }
}
