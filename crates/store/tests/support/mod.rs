//! A real etcd on loopback, where there is one.

#![allow(dead_code, unreachable_pub, reason = "each test uses a part of it")]

use std::{
    env,
    net::TcpListener,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sys::{prctl, signal::Signal};
use tempfile::TempDir;
use tiphys_store::{
    Etcd,
    etcd::{OpenError, Options},
};

/// A server with a directory of its own. It ends with this value, and with the thread that started it.
pub struct Server {
    program: PathBuf,
    pub dir: TempDir,
    pub client: u16,
    peer: u16,
    arguments: Vec<String>,
    scheme: &'static str,
    process: Option<Child>,
}

/// The program, in a directory of `REFERENCE_PATH` or of `PATH`.
fn program() -> Option<PathBuf> {
    let folders = ["REFERENCE_PATH", "PATH"].into_iter().filter_map(env::var_os);
    let found = folders
        .flat_map(|folders| env::split_paths(&folders).collect::<Vec<_>>())
        .map(|folder| folder.join("etcd"))
        .find(|file| file.is_file());
    if found.is_none() {
        eprintln!(
            "skipped: there is no etcd in REFERENCE_PATH or PATH (Debian: apt-get install etcd-server)"
        );
    }
    found
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Server {
    /// `None`, and a word about it, where there is no etcd.
    pub fn start() -> Option<Self> {
        Self::start_with("http", |_| Vec::new())
    }

    /// The same with more arguments.
    pub fn start_with(scheme: &'static str, arguments: impl FnOnce(&TempDir) -> Vec<String>) -> Option<Self> {
        let program = program()?;
        let dir = tempfile::tempdir().unwrap();
        let arguments = arguments(&dir);
        let (client, peer) = (free_port(), free_port());
        let mut server = Self { program, dir, client, peer, arguments, scheme, process: None };
        server.restart();
        Some(server)
    }

    /// Starts what is not running, on the same data and ports.
    pub fn restart(&mut self) {
        assert!(self.process.is_none());
        let (client, peer) = (self.url(), format!("http://127.0.0.1:{}", self.peer));
        let mut command = Command::new(&self.program);
        command
            .arg("--data-dir")
            .arg(self.dir.path().join("data"))
            .args(["--name", "one", "--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        // SAFETY: prctl is safe to call between fork and exec.
        unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) };
        self.process = Some(command.spawn().unwrap());
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.client)
    }

    pub fn options(&self) -> Options {
        Options::new(vec![self.url()])
    }

    pub async fn open(&self) -> Etcd {
        open(self.options()).await.unwrap()
    }
}

/// Opens a store whose server may still be starting.
pub async fn open(options: Options) -> Result<Etcd, OpenError> {
    let patience = options.patience;
    let opened = Etcd::open(Options { patience: Duration::from_secs(60), ..options.clone() }).await?;
    drop(opened);
    Etcd::open(Options { patience, ..options }).await
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}
