//! Which address belongs to which sandbox, on disk.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    path::Path,
};

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

use super::PortMapping;
use crate::sandbox_files::{self, SandboxFiles};

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
    #[error(transparent)]
    Files(#[from] sandbox_files::Error),
    #[error("no free address is left in {0}")]
    Exhausted(Ipv4Net),
    #[error("host port {port} is taken by sandbox {by}")]
    PortTaken { port: u16, by: String },
}

/// The allocator of one node's pod range. What is on disk is what is allocated.
#[derive(Debug)]
pub(crate) struct Records {
    files: SandboxFiles,
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
        let files = SandboxFiles::open(dir)?;
        let (held, taken, last) = (BTreeMap::new(), BTreeSet::new(), gateway(range));
        let mut records = Records { files, range, held, taken, last };
        for sandbox in records.files.sandboxes()? {
            match records.files.get::<Record>(&sandbox)? {
                Some(record) if records.usable(record.address) => records.hold(sandbox, record),
                _ => records.files.remove(&sandbox)?,
            }
        }
        records.last = records.taken.last().copied().unwrap_or(last);
        Ok(records)
    }

    fn hold(&mut self, sandbox: String, record: Record) {
        self.taken.insert(record.address);
        self.last = record.address;
        self.held.insert(sandbox, record);
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
        self.files.put(sandbox, &record)?;
        self.hold(sandbox.to_owned(), record.clone());
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
        if !self.held.contains_key(sandbox) {
            return Ok(None);
        }
        self.files.remove(sandbox)?;
        let record = self.held.remove(sandbox);
        if let Some(record) = &record {
            self.taken.remove(&record.address);
        }
        Ok(record)
    }

    pub(crate) fn get(&self, sandbox: &str) -> Option<&Record> {
        self.held.get(sandbox)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Record)> {
        self.held.iter().map(|(id, record)| (id.as_str(), record))
    }
}

/// The first address of the range: the bridge's own, which pods use as their gateway.
pub fn gateway(range: Ipv4Net) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(range.network()) + 1)
}

#[cfg(test)]
#[path = "records_tests.rs"]
mod tests;
