//! Containers' logs: reading them back, and keeping them from filling the disk.
//!
//! A log is lines of `<RFC 3339 time> <stdout|stderr> <P|F> <text>`, where `P` marks a line that goes on in the next.

use std::fs;
use std::io::{self, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use nix::sys::inotify::AddWatchFlags;
use tiphys_cri::v1;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::sync::mpsc;

use crate::context::Context;
use crate::directory_watch::DirectoryWatch;
use crate::observed::Container;
use crate::runtime::RuntimeError;

/// A log is rotated when it is larger than that; so many files are kept of it, the current one included.
const MAX_SIZE: u64 = 10 * 1024 * 1024;
const MAX_FILES: usize = 5;
const ROTATE_EVERY: Duration = Duration::from_secs(10);
/// The longest line that is read in one piece; runtimes split at 16 KiB.
const MAX_LINE: usize = 64 * 1024;
const BLOCK: usize = 32 * 1024;

/// What a reader wants of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on when the end is reached, until the container has ended.
    pub follow: bool,
    /// Only the last lines; all without.
    pub tail: Option<usize>,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// Put each line's time before it.
    pub timestamps: bool,
    /// Stop after that many bytes.
    pub limit: Option<u64>,
    /// `stdout` or `stderr` alone.
    pub stream: Option<&'static str>,
}

/// A line of a log, its text without the line's end.
struct Line<'a> {
    time: &'a str,
    stream: &'a str,
    partial: bool,
    text: &'a [u8],
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut parts = line.splitn(4, |b| *b == b' ');
    let time = std::str::from_utf8(parts.next()?).ok()?;
    let stream = std::str::from_utf8(parts.next()?).ok()?;
    let tag = parts.next()?;
    let text = parts.next().unwrap_or_default();
    if !matches!(stream, "stdout" | "stderr") || tag.is_empty() {
        return None;
    }
    Some(Line { time, stream, partial: tag.starts_with(b"P"), text })
}

/// Turns lines of the log into what the reader sees, and counts what is left of its limit.
struct Printer<'a> {
    options: &'a Options,
    left: Option<u64>,
    /// Whether the last line of each stream goes on.
    unfinished: bool,
}

impl Printer<'_> {
    /// `None` when the limit is reached.
    fn print(&mut self, line: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let Some(line) = parse(line) else { return Some(()) };
        if self.options.stream.is_some_and(|wanted| wanted != line.stream) {
            return Some(());
        }
        if let Some(since) = self.options.since
            && line.time.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return Some(());
        }
        let start = out.len();
        if self.options.timestamps && !self.unfinished {
            out.extend_from_slice(line.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(line.text);
        if !line.partial {
            out.push(b'\n');
        }
        self.unfinished = line.partial;
        let Some(left) = &mut self.left else { return Some(()) };
        let written = (out.len() - start) as u64;
        if written >= *left {
            out.truncate(start + usize::try_from(*left).unwrap_or(usize::MAX));
            *left = 0;
            return None;
        }
        *left -= written;
        Some(())
    }
}

/// Whether the container whose log is followed still runs. Asked when the end of the log is reached.
pub trait Alive: Send + Sync {
    /// Answers for now.
    fn alive(&self) -> impl Future<Output = bool> + Send;
}

/// Sends a log's content until it ends, the reader goes away, or, when following, the container has ended.
pub async fn read(
    path: &Path,
    options: &Options,
    alive: &impl Alive,
    out: mpsc::Sender<Bytes>,
) -> io::Result<()> {
    let mut file = tokio::fs::File::open(path).await?;
    // Who does not follow gets what is there now: the last line is the last of this moment.
    let length = file.metadata().await?.len();
    let from = match options.tail {
        Some(lines) => tail_start(&mut file, length, lines).await?,
        None => 0,
    };
    file.seek(SeekFrom::Start(from)).await?;
    let mut left = if options.follow { u64::MAX } else { length - from };
    let watch = if options.follow { Some(Watch::new(path)?) } else { None };
    let mut printer = Printer { options, left: options.limit, unfinished: false };
    let mut pending: Vec<u8> = Vec::new();
    let mut block = vec![0; BLOCK];
    let mut ended = false;
    loop {
        let most = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        let n = file.read(&mut block[..most]).await?;
        left -= n as u64;
        if n > 0 {
            pending.extend_from_slice(&block[..n]);
            let mut text = Vec::with_capacity(n);
            let mut done = false;
            let mut used = 0;
            while let Some(at) = pending[used..].iter().position(|b| *b == b'\n') {
                let line = &pending[used..used + at];
                used += at + 1;
                if printer.print(line, &mut text).is_none() {
                    done = true;
                    break;
                }
            }
            pending.drain(..used);
            if pending.len() > MAX_LINE {
                pending.clear();
            }
            if !text.is_empty() && out.send(Bytes::from(text)).await.is_err() {
                return Ok(());
            }
            if done {
                return Ok(());
            }
            continue;
        }
        let Some(watch) = &watch else { return Ok(()) };
        if ended {
            return Ok(());
        }
        // A rotated log goes on in a new file of the same name.
        if watch.replaced(&file).await
            && let Ok(next) = tokio::fs::File::open(path).await
        {
            file = next;
            pending.clear();
            continue;
        }
        if !alive.alive().await {
            // What was written between the last read and the end is still to come.
            ended = true;
            continue;
        }
        tokio::select! {
            changed = watch.changed() => changed?,
            () = out.closed() => return Ok(()),
            // The end of a container that writes nothing more shows in no file.
            () = tokio::time::sleep(Duration::from_secs(1)) => {}
        }
    }
}

/// Where the last `lines` lines of the first `length` bytes begin. Reads backwards, block by block.
async fn tail_start(file: &mut tokio::fs::File, length: u64, lines: usize) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut seen = 0;
    let mut block = vec![0; BLOCK];
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let size = usize::try_from(end - start).unwrap_or(BLOCK);
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block[..size]).await?;
        for (at, byte) in block[..size].iter().enumerate().rev() {
            let position = start + at as u64;
            // The line's end at the very end of the file ends the last line, it does not begin another.
            if *byte == b'\n' && position + 1 != length {
                seen += 1;
                if seen == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}

/// Tells of writes to a log and of changes of its directory.
struct Watch {
    path: PathBuf,
    directory: DirectoryWatch,
}

impl Watch {
    fn new(path: &Path) -> io::Result<Self> {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let changes = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
        Ok(Self { path: path.to_owned(), directory: DirectoryWatch::new(directory, changes)? })
    }

    async fn changed(&self) -> io::Result<()> {
        self.directory.changed().await.map(drop)
    }

    async fn replaced(&self, open: &tokio::fs::File) -> bool {
        use std::os::unix::fs::MetadataExt;
        let Ok(named) = tokio::fs::metadata(&self.path).await else { return false };
        open.metadata().await.is_ok_and(|own| (own.dev(), own.ino()) != (named.dev(), named.ino()))
    }
}

/// The files that were rotated out of a log, the newest first.
pub fn rotated(log: &Path) -> Vec<PathBuf> {
    let Some(name) = log.file_name().map(|n| format!("{}.", n.to_string_lossy())) else { return vec![] };
    let entries = log.parent().into_iter().flat_map(|d| fs::read_dir(d).into_iter().flatten().flatten());
    let mut files: Vec<PathBuf> =
        entries.filter(|e| e.file_name().to_string_lossy().starts_with(&name)).map(|e| e.path()).collect();
    files.sort();
    files.reverse();
    files
}

/// Rotates large logs of running containers until it is dropped.
pub(crate) async fn rotate(ctx: Arc<Context>) {
    loop {
        tokio::time::sleep(ROTATE_EVERY).await;
        if let Err(error) = rotate_all(&ctx).await {
            tracing::debug!(%error, "logs were not rotated");
        }
    }
}

async fn rotate_all(ctx: &Context) -> Result<(), RuntimeError> {
    if !any_large(&ctx.config.log_dir) {
        return Ok(());
    }
    let filter = v1::ContainerFilter {
        state: Some(v1::ContainerStateValue { state: v1::ContainerState::ContainerRunning as i32 }),
        ..v1::ContainerFilter::default()
    };
    let list = ctx.cri.runtime().list_containers(v1::ListContainersRequest { filter: Some(filter) }).await;
    for item in list.map_err(RuntimeError::of("ListContainers"))?.into_inner().containers {
        let request = v1::ContainerStatusRequest { container_id: item.id.clone(), verbose: false };
        let Ok(response) = ctx.cri.runtime().container_status(request).await else { continue };
        let Some(status) = response.into_inner().status else { continue };
        let log = PathBuf::from(Container::from_cri(&item.pod_sandbox_id, &status).log_path);
        if fs::metadata(&log).is_ok_and(|m| m.len() > MAX_SIZE)
            && let Err(error) = rotate_one(ctx, &item.id, &log).await
        {
            tracing::warn!(path = %log.display(), %error, "a log was not rotated");
        }
    }
    Ok(())
}

/// Whether any log is large at all: the runtime is asked only then.
fn any_large(directory: &Path) -> bool {
    let below = |d: PathBuf| fs::read_dir(d).into_iter().flatten().flatten().map(|e| e.path());
    let files = below(directory.to_owned()).flat_map(below).flat_map(below);
    files
        .filter(|f| f.extension().is_some_and(|e| e == "log"))
        .any(|f| fs::metadata(f).is_ok_and(|m| m.len() > MAX_SIZE))
}

async fn rotate_one(ctx: &Context, id: &str, log: &Path) -> io::Result<()> {
    for old in rotated(log).into_iter().skip(MAX_FILES - 2) {
        fs::remove_file(old)?;
    }
    let stamp = Timestamp::now().strftime("%Y%m%d-%H%M%S");
    let aside = PathBuf::from(format!("{}.{stamp}", log.display()));
    fs::rename(log, &aside)?;
    let request = v1::ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(status) = ctx.cri.runtime().reopen_container_log(request).await {
        // The container still writes to the old file: it must keep its name.
        fs::rename(&aside, log)?;
        return Err(io::Error::other(status.message().to_owned()));
    }
    Ok(())
}

#[cfg(test)]
#[path = "logs_tests.rs"]
mod tests;
