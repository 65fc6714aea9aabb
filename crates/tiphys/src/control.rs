//! A socket by which `tiphys image` reaches a running cluster, for root alone.
//!
//! A request is one line of JSON, for an import followed by the archive until the writer closes its side. The
//! answers are lines of JSON: progress, and at last how it ended.

use std::{
    io::{self, BufRead, BufReader, Write},
    net::Shutdown,
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tiphys_runtime::Runtime;

use crate::{data_dir::DataDir, image};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Request {
    Import,
    List,
    Remove { name: String },
    Pull { name: String },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Answer {
    Progress { done: u64, total: Option<u64>, what: String },
    Image(image::Listed),
    Done,
    Failed(String),
}

/// Serves requests until dropped.
pub(crate) struct Listener {
    path: PathBuf,
}

fn path(data: &DataDir) -> PathBuf {
    data.join("control.sock")
}

impl Listener {
    /// Listens in the data directory, which the caller has locked. Without an embedded runtime there is
    /// nothing to ask for.
    pub(crate) fn bind(data: &DataDir, runtime: Option<Runtime>) -> Result<Self> {
        let path = path(data);
        remove(&path)?;
        let Some(runtime) = runtime else { return Ok(Self { path }) };
        let listener =
            UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))
            .with_context(|| format!("closing {} to others", path.display()))?;
        let tokio = tokio::runtime::Handle::current();
        thread::Builder::new()
            .name("control".to_owned())
            .spawn(move || {
                // One request at a time: images are imported by hand.
                for stream in listener.incoming() {
                    if let Err(error) = stream.and_then(|s| answer(s, &runtime, &tokio)) {
                        tracing::debug!(%error, "control connection");
                    }
                }
            })
            .context("starting the control thread")?;
        Ok(Self { path })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(%error, "leaving the control socket");
        }
    }
}

fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn tell(mut stream: &UnixStream, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    stream.write_all(&line)
}

fn answer(stream: UnixStream, runtime: &Runtime, tokio: &tokio::runtime::Handle) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    io::Read::take(&mut reader, 64 * 1024).read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut said = Ok(());
    let result = image::perform(
        request,
        &mut reader,
        &runtime.images(),
        &runtime.layers_in_use(),
        tokio,
        &mut |answer| {
            // Who asked may be gone; the work is done all the same.
            said = tell(&stream, &answer);
        },
    );
    tell(&stream, &result.map_or_else(|error| Answer::Failed(format!("{error:#}")), |()| Answer::Done))?;
    said
}

/// A way to the cluster that runs here; `None` if none does.
pub(crate) fn connect(data: &DataDir) -> Result<Option<UnixStream>> {
    if data.holder()?.is_none() {
        return Ok(None);
    }
    let path = path(data);
    let stream = UnixStream::connect(&path).with_context(|| {
        format!("reaching the cluster by {}; it may be starting, or use another runtime", path.display())
    })?;
    Ok(Some(stream))
}

/// Asks a running cluster.
///
/// The archive is sent by a thread of its own: the cluster answers while it reads, and neither side may wait
/// with a full socket for the other.
pub(crate) fn ask(
    mut stream: UnixStream,
    request: &Request,
    archive: Option<Box<dyn io::Read + Send>>,
    heard: &mut dyn FnMut(Answer),
) -> Result<()> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line).context("asking the cluster")?;
    let answers = stream.try_clone().context("reading the cluster's answers")?;
    let sender = thread::Builder::new()
        .name("archive".to_owned())
        .spawn(move || {
            if let Some(mut archive) = archive {
                io::copy(&mut archive, &mut stream)?;
            }
            stream.shutdown(Shutdown::Write)
        })
        .context("starting the thread that sends the archive")?;
    for line in BufReader::new(answers).lines() {
        match serde_json::from_str(&line.context("reading the cluster's answers")?)? {
            Answer::Done => return Ok(()),
            Answer::Failed(why) => anyhow::bail!(why),
            answer => heard(answer),
        }
    }
    if let Ok(sent) = sender.join() {
        sent.context("sending the archive")?;
    }
    anyhow::bail!("the cluster ended before it had answered")
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
