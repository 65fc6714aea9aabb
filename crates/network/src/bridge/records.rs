//! Which address belongs to which sandbox, on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::Ipv4Addr,
    path::{Path, PathBuf},
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::PortMapping;

/// What one sandbox holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) address: Ipv4Addr,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) ports: Vec<PortMapping>,
}

/// What failed with the records.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
    #[error("sandbox id {0:?} is not a file name of letters, digits, '.', '_' and '-'")]
    InvalidSandbox(String),
    #[error("no free address is left in {0}")]
    Exhausted(Ipv4Net),
    #[error("host port {port} is taken by sandbox {by}")]
    PortTaken { port: u16, by: String },
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io { step, path, source }
}

/// The allocator of one node's pod range: a file a sandbox, named by its id.
///
/// A file appears whole (written aside, then renamed), so a crash at any moment leaves either an allocation or
/// none. Nothing is synced to the medium: after power loss the sandboxes are gone as well, and an empty or torn
/// file is taken for no allocation.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
    range: Ipv4Net,
    held: BTreeMap<String, Record>,
    taken: BTreeSet<Ipv4Addr>,
    /// The address given out last. The search goes on from it, so that an address just released rests a while.
    last: Ipv4Addr,
}

impl Records {
    /// Reads what is on disk. Records outside `range` or with an address already taken are dropped: the range
    /// changed under them, and their pods cannot be reached any more.
    pub(crate) fn open(dir: &Path, range: Ipv4Net) -> Result<Records, Error> {
        fs::create_dir_all(dir).map_err(failed("creating", dir))?;
        let mut records = Records {
            dir: dir.to_owned(),
            range,
            held: BTreeMap::new(),
            taken: BTreeSet::new(),
            last: gateway(range),
        };
        for entry in fs::read_dir(dir).map_err(failed("listing", dir))? {
            let entry = entry.map_err(failed("listing", dir))?;
            let path = entry.path();
            let content = fs::read(&path).map_err(failed("reading", &path))?;
            let record = serde_json::from_slice::<Record>(&content).ok();
            match (entry.file_name().to_str(), record) {
                (Some(id), Some(record)) if valid(id) && records.usable(record.address) => {
                    records.taken.insert(record.address);
                    records.last = records.last.max(record.address);
                    records.held.insert(id.to_owned(), record);
                }
                _ => fs::remove_file(&path).map_err(failed("removing", &path))?,
            }
        }
        Ok(records)
    }

    fn usable(&self, address: Ipv4Addr) -> bool {
        self.range.contains(&address)
            && address > gateway(self.range)
            && address < self.range.broadcast()
            && !self.taken.contains(&address)
    }

    /// The sandbox's record, made now unless it holds one. Ports are those of the first call. The flag tells
    /// whether it was made.
    pub(crate) fn reserve(&mut self, sandbox: &str, ports: &[PortMapping]) -> Result<(Record, bool), Error> {
        if !valid(sandbox) {
            return Err(Error::InvalidSandbox(sandbox.to_owned()));
        }
        if let Some(record) = self.held.get(sandbox) {
            return Ok((record.clone(), false));
        }
        for port in ports {
            let clash = self.held.iter().find(|(_, held)| held.ports.iter().any(|p| p.clashes(port)));
            if let Some((by, _)) = clash {
                return Err(Error::PortTaken { port: port.host_port, by: by.clone() });
            }
        }
        let record = Record { address: self.free()?, ports: ports.to_vec() };
        let content = serde_json::to_vec(&record).map_err(io::Error::from);
        let (path, aside) = (self.dir.join(sandbox), self.dir.join(format!(".{sandbox}")));
        content
            .and_then(|content| fs::write(&aside, content))
            .and_then(|()| fs::rename(&aside, &path))
            .map_err(failed("writing", &path))?;
        self.taken.insert(record.address);
        self.last = record.address;
        self.held.insert(sandbox.to_owned(), record.clone());
        Ok((record, true))
    }

    fn free(&self) -> Result<Ipv4Addr, Error> {
        let first = u32::from(self.range.network()) + 2;
        let end = u32::from(self.range.broadcast());
        let after = u32::from(self.last) + 1;
        (after..end)
            .chain(first..after.min(end))
            .map(Ipv4Addr::from)
            .find(|address| self.usable(*address))
            .ok_or(Error::Exhausted(self.range))
    }

    /// Gives the sandbox's address back. `None` if it holds none.
    pub(crate) fn release(&mut self, sandbox: &str) -> Result<Option<Record>, Error> {
        let Some(record) = self.held.get(sandbox) else { return Ok(None) };
        let path = self.dir.join(sandbox);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing", &path)(error));
            }
            _ => {}
        }
        let record = record.clone();
        self.taken.remove(&record.address);
        self.held.remove(sandbox);
        Ok(Some(record))
    }

    pub(crate) fn get(&self, sandbox: &str) -> Option<&Record> {
        self.held.get(sandbox)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.held.iter().map(|(id, record)| (id.as_str(), record))
    }
}

/// The first address of the range: the bridge's own, which pods use as their gateway.
pub(crate) fn gateway(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

fn valid(sandbox: &str) -> bool {
    (1..=128).contains(&sandbox.len())
        && !sandbox.starts_with('.')
        && sandbox.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
