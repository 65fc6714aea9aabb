//! An etcd that clusters of a test share.

use std::{
    env,
    net::Ipv4Addr,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{Running, free_port};

/// An etcd of one member; it goes with this value.
pub struct Etcd {
    program: PathBuf,
    dir: tempfile::TempDir,
    address: Ipv4Addr,
    ports: [u16; 2],
    process: Option<Running>,
}

impl Etcd {
    /// Starts one that listens at an address. `None`, and a word about it, where there is no etcd.
    pub fn start(address: Ipv4Addr) -> Result<Option<Self>> {
        let folders = ["REFERENCE_PATH", "PATH"].into_iter().filter_map(env::var_os);
        let mut files = folders.flat_map(|folders| {
            env::split_paths(&folders).map(|folder| folder.join("etcd")).collect::<Vec<_>>()
        });
        let Some(program) = files.find(|file| file.is_file()) else {
            eprintln!("skipped: there is no etcd in REFERENCE_PATH or PATH");
            return Ok(None);
        };
        let (dir, ports) = (tempfile::tempdir()?, [free_port()?, free_port()?]);
        let mut etcd = Self { program, dir, address, ports, process: None };
        etcd.restart()?;
        Ok(Some(etcd))
    }

    /// Where clients find it, and where other members would.
    fn urls(&self) -> [String; 2] {
        self.ports.map(|port| format!("http://{}:{port}", self.address))
    }

    /// Has a server keep its objects in it.
    pub fn argument(&self) -> String {
        let [clients, _] = self.urls();
        format!("--etcd-servers={clients}")
    }

    /// Kills it as a crash would, and starts it again.
    pub fn restart(&mut self) -> Result<()> {
        self.process = None;
        let [clients, peers] = self.urls();
        let mut command = Command::new(&self.program);
        command
            .arg("--data-dir")
            .arg(self.dir.path())
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--initial-cluster", &format!("default={peers}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.process = Some(Running(command.spawn().context("starting etcd")?));
        Ok(())
    }
}
