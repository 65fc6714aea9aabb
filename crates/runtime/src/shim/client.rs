//! The server's end of the shim's socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;

use tokio::io::AsyncReadExt;
use tokio::io::unix::AsyncFd;

use super::packet;
use super::protocol::{PodSpec, Ready, Reply, Request};
use crate::error::{Error, Result};
use crate::files;

/// One connection: a request and its replies.
pub(crate) struct Connection {
    socket: AsyncFd<OwnedFd>,
}

impl Connection {
    /// Connects to the shim of the pod in `dir`.
    pub(crate) fn open(dir: &Path) -> Result<Self> {
        let path = dir.join("shim.sock");
        let socket = packet::dial(&path).map_err(Error::io("connect to shim", &path))?;
        // SAFETY: an owned descriptor stays open and the same until it is dropped, which `AsyncFd` does itself.
        let socket =
            unsafe { AsyncFd::register(socket) }.map_err(Error::call("register the shim's socket"))?;
        Ok(Self { socket })
    }

    pub(crate) async fn send(&self, request: &Request, fds: &[BorrowedFd<'_>]) -> Result<()> {
        loop {
            let mut ready = self.socket.writable().await.map_err(Error::call("write to shim"))?;
            match ready.try_io(|socket| packet::send(socket.as_fd(), request, fds)) {
                Ok(sent) => return sent.map_err(Error::call("write to shim")),
                Err(_would_block) => continue,
            }
        }
    }

    /// The next reply and the descriptors that came with it; `None` when the shim has closed or is gone.
    pub(crate) async fn receive(&self) -> Result<Option<(Reply, Vec<OwnedFd>)>> {
        loop {
            let mut ready = self.socket.readable().await.map_err(Error::call("read from shim"))?;
            match ready.try_io(|socket| packet::receive(socket.as_fd())) {
                Ok(received) => return received.map_err(Error::call("read from shim")),
                Err(_would_block) => continue,
            }
        }
    }

    /// Sends a request and waits for its first reply; a refusal is an error.
    pub(crate) async fn ask(
        &self,
        request: &Request,
        fds: &[BorrowedFd<'_>],
    ) -> Result<(Reply, Vec<OwnedFd>)> {
        self.send(request, fds).await?;
        match self.receive().await? {
            Some((Reply::Failed { message }, _)) => Err(Error::Shim(message)),
            Some(reply) => Ok(reply),
            None => Err(Error::Shim("it is gone".into())),
        }
    }
}

/// Asks the shim of the pod in `dir` one thing.
pub(crate) async fn ask(dir: &Path, request: &Request) -> Result<Reply> {
    Connection::open(dir)?.ask(request, &[]).await.map(|(reply, _)| reply)
}

/// Starts the pod's shim from `exe` and waits until it is ready.
pub(crate) async fn spawn(exe: &Path, arguments: &[String], dir: &Path, spec: &PodSpec) -> Result<Ready> {
    files::write_json(&dir.join("shim.json"), spec)?;
    let mut child = tokio::process::Command::new(exe)
        .args(arguments)
        .arg(dir)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io("run shim", exe))?;
    let (mut answer, mut problem) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        let read = tokio::try_join!(stdout.read_to_string(&mut answer), stderr.read_to_string(&mut problem));
        read.map_err(Error::call("read from the shim's launcher"))?;
    }
    let status = child.wait().await.map_err(Error::call("wait for the shim's launcher"))?;
    if !status.success() {
        let problem = problem.trim();
        return Err(Error::Shim(if problem.is_empty() { status.to_string() } else { problem.to_owned() }));
    }
    serde_json::from_str(&answer).map_err(Error::parse("the shim launcher's answer"))
}
