//! A cluster that is measured, whoever made it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tiphys_testkit::{Cluster, image::Image};

/// The address range that the measured cluster has for itself.
const RANGE: u8 = 90;

/// The processes that a cluster costs, but for those that its pods are for.
#[derive(Default)]
pub(crate) struct Processes {
    pub(crate) servers: Vec<u32>,
    pub(crate) shims: Vec<u32>,
    pub(crate) pauses: Vec<u32>,
}

/// One of the two sides of the table.
pub(crate) trait Side: Send {
    fn name(&self) -> String;

    /// Whether there is a node, so that pods can run.
    fn has_node(&self) -> bool;

    /// Starts the cluster's processes and returns at once.
    fn start(&mut self) -> Result<()>;

    /// Kills the servers as a crash would; pods go on.
    fn kill(&mut self) -> Result<()>;

    /// Ends everything, and begins anew with an empty data directory.
    fn wipe(&mut self) -> Result<()>;

    /// The administrator's kubeconfig, which need not be there yet.
    fn kubeconfig(&self) -> PathBuf;

    /// Brings the image of the quickstart's example to the node.
    fn import_example(&self) -> Result<()>;

    /// Brings an image to the node.
    fn import(&self, image: &Image) -> Result<()>;

    fn processes(&self) -> Result<Processes>;
}

/// The binary that `TIPHYS_BINARY` names.
pub(crate) struct Tiphys(Cluster);

impl Tiphys {
    pub(crate) fn new() -> Result<Self> {
        Cluster::new(RANGE).map(Self)
    }
}

impl Side for Tiphys {
    fn name(&self) -> String {
        "Tiphys".to_owned()
    }

    fn has_node(&self) -> bool {
        true
    }

    fn start(&mut self) -> Result<()> {
        self.0.launch()
    }

    fn kill(&mut self) -> Result<()> {
        self.0.kill()
    }

    fn wipe(&mut self) -> Result<()> {
        self.0 = Cluster::new(RANGE)?;
        Ok(())
    }

    fn kubeconfig(&self) -> PathBuf {
        self.0.data_dir().join("admin.kubeconfig")
    }

    fn import_example(&self) -> Result<()> {
        // Its own program is the image, and is there from the start.
        Ok(())
    }

    fn import(&self, image: &Image) -> Result<()> {
        self.0.import(image)
    }

    fn processes(&self) -> Result<Processes> {
        let mut found = Processes::default();
        found.servers.push(self.0.server().context("no server runs")?);
        let data = self.0.data_dir().to_string_lossy().into_owned();
        for process in all()?.into_iter().filter(|p| p.command.contains(&data)) {
            match process.name.as_str() {
                "tiphys-shim" => found.shims.push(process.pid),
                "pause" => found.pauses.push(process.pid),
                _ => {}
            }
        }
        Ok(found)
    }
}

/// A process of this host.
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    pub(crate) name: String,
    /// Its arguments, with spaces between them.
    pub(crate) command: String,
}

/// Every process of this host; those that end meanwhile are left out.
pub(crate) fn all() -> Result<Vec<Process>> {
    let mut processes = Vec::new();
    for entry in std::fs::read_dir("/proc").context("listing processes")? {
        let path = entry.context("listing processes")?.path();
        let pid = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
        let name = std::fs::read_to_string(path.join("comm"));
        let command = std::fs::read(path.join("cmdline"));
        let parent = std::fs::read_to_string(path.join("stat")).ok().and_then(|stat| {
            // The name may hold anything; its bracket ends it.
            stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
        });
        if let (Some(pid), Some(parent), Ok(name), Ok(command)) = (pid, parent, name, command) {
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            processes.push(Process { pid, parent, name: name.trim().to_owned(), command });
        }
    }
    Ok(processes)
}
