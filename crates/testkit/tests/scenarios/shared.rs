//! A cluster over etcd, and a second API server beside it.

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use tiphys_testkit::{Cluster, Running, free_port};

use crate::field;

/// An etcd of one member; it goes with this value.
struct Etcd {
    program: PathBuf,
    dir: tempfile::TempDir,
    ports: [u16; 2],
    process: Option<Running>,
}

impl Etcd {
    /// `None`, and a word about it, where there is none.
    fn start() -> Result<Option<Self>> {
        let folders = ["REFERENCE_PATH", "PATH"].into_iter().filter_map(env::var_os);
        let mut files = folders.flat_map(|folders| {
            env::split_paths(&folders).map(|folder| folder.join("etcd")).collect::<Vec<_>>()
        });
        let Some(program) = files.find(|file| file.is_file()) else {
            eprintln!("skipped: there is no etcd in REFERENCE_PATH or PATH");
            return Ok(None);
        };
        let (dir, ports) = (tempfile::tempdir()?, [free_port()?, free_port()?]);
        let mut etcd = Self { program, dir, ports, process: None };
        etcd.restart()?;
        Ok(Some(etcd))
    }

    fn urls(&self) -> [String; 2] {
        self.ports.map(|port| format!("http://127.0.0.1:{port}"))
    }

    /// Kills it as a crash would, and starts it again.
    fn restart(&mut self) -> Result<()> {
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

#[test]
fn two_servers_share_an_etcd() -> Result<()> {
    let Some(mut etcd) = Etcd::start()? else { return Ok(()) };
    let mut cluster = Cluster::new(95)?;
    let [url, _] = etcd.urls();
    cluster.tell_server([format!("--etcd-servers={url}")]);
    cluster.up()?;
    let mut other = cluster.beside()?;
    other.serve()?;

    let mut watch = other.spawn_kubectl(["get", "secrets", "-w", "-o=jsonpath={.data.k} "])?;
    cluster.kubectl(["create", "secret", "generic", "s", "--from-literal=k=first"])?;
    other.kubectl(["patch", "secret", "s", "--type=merge", "-p", r#"{"stringData":{"k":"second"}}"#])?;
    let mut seen = BufReader::new(watch.0.stdout.take().context("what the watch prints")?);
    for value in ["Zmlyc3Q= ", "c2Vjb25k "] {
        let mut told = Vec::new();
        seen.read_until(b' ', &mut told)?;
        ensure!(told == value.as_bytes(), "{value}: {}", String::from_utf8_lossy(&told));
    }
    let servers = ["get", "endpoints", "kubernetes", &field(".subsets[*].ports[*].port")].map(str::to_owned);
    let is_there = |server: &Cluster, of: &Cluster| {
        let port = server.url().rsplit(':').next().map(str::to_owned).unwrap_or_default();
        Ok(of.kubectl(&servers)?.split(' ').any(|there| there == port))
    };
    for server in [&cluster, &other] {
        cluster.eventually("both stand behind the Service", || is_there(server, &cluster))?;
    }

    // One goes, the other goes on; then etcd goes, too.
    cluster.kill()?;
    other.eventually("the other is missed", || Ok(!is_there(&cluster, &other)?))?;
    other.kubectl(["delete", "secret", "s"])?;
    etcd.restart()?;
    cluster.up()?;
    other.eventually("etcd is there again", || {
        Ok(other.try_kubectl(["create", "configmap", "after"])?.status.success())
    })?;
    for server in [&cluster, &other] {
        let history = server.kubectl(["get", "secret", "s", "--subresource=history"])?;
        let verbs: Vec<_> = history.lines().skip(1).filter_map(|row| row.split_whitespace().nth(3)).collect();
        ensure!(verbs == ["delete", "update", "create"], "{history}");
        server.kubectl(["get", "configmap", "after"])?;
    }
    Ok(())
}
