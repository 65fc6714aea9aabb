//! The sink that writes a file: one event a line, rotated.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;

use super::{Sink, rotation};
use crate::registry::Clock;

/// Events that wait to be written; what comes on top is dropped.
const WAITING: usize = 10_000;
/// Their bytes together.
const WAITING_BYTES: usize = 64 << 20;
/// An event waits this long for others, so that under load it costs no wake-up and no write of its own.
const GATHER: Duration = Duration::from_millis(10);

/// Where events are written, and how much of them is kept.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// `-` is the standard output, which is not rotated. The directory is made if it is missing.
    pub path: PathBuf,
    /// A log of this many bytes is put aside.
    pub max_size: u64,
    /// Logs that were put aside and stay; 0: all.
    pub max_backups: usize,
    /// How long they stay; zero: forever.
    pub max_age: Duration,
}

/// A log, written by a thread of its own, which ends when what was taken is written and this is dropped.
pub struct Log {
    queue: Option<SyncSender<Bytes>>,
    waiting: Arc<AtomicUsize>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log for appending, readable by its owner only.
    ///
    /// # Errors
    /// The file or its directory cannot be made.
    pub fn open(options: LogOptions, clock: Clock) -> io::Result<Self> {
        let writer = Writer::open(options, clock)?;
        let (queue, events) = sync_channel(WAITING);
        let waiting = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&waiting);
        let builder = std::thread::Builder::new().name("audit".to_owned()).stack_size(128 << 10);
        let thread = builder.spawn(move || writer.run(&events, &counted))?;
        Ok(Self { queue: Some(queue), waiting, writer: Some(thread) })
    }
}

impl Sink for Log {
    fn name(&self) -> &'static str {
        "log"
    }

    fn take(&self, event: &Bytes) -> bool {
        let size = event.len();
        if self.waiting.fetch_add(size, Relaxed) + size > WAITING_BYTES {
            self.waiting.fetch_sub(size, Relaxed);
            return false;
        }
        let taken = self.queue.as_ref().is_some_and(|queue| queue.try_send(event.clone()).is_ok());
        if !taken {
            self.waiting.fetch_sub(size, Relaxed);
        }
        taken
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        drop(self.queue.take());
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the writer of the audit log has failed");
        }
    }
}

struct Writer {
    options: LogOptions,
    clock: Clock,
    /// `None` for the standard output.
    file: Option<File>,
    size: u64,
    /// Whether the last write failed, so that a full disk is told once.
    failing: bool,
}

impl Writer {
    fn open(options: LogOptions, clock: Clock) -> io::Result<Self> {
        let mut writer = Self { options, clock, file: None, size: 0, failing: false };
        if writer.options.path.as_os_str() != "-" {
            if let Some(directory) = writer.options.path.parent() {
                fs::create_dir_all(directory)?;
            }
            writer.reopen()?;
            writer.prune();
        }
        Ok(writer)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.options.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    fn run(mut self, events: &Receiver<Bytes>, waiting: &AtomicUsize) {
        while let Ok(first) = events.recv() {
            std::thread::sleep(GATHER);
            let mut batch = vec![first];
            batch.extend(events.try_iter().take(WAITING));
            match self.write(&batch) {
                Ok(()) => self.failing = false,
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::error!(%error, path = %self.options.path.display(), "writing the audit log");
                }
                Err(_) => {}
            }
            waiting.fetch_sub(batch.iter().map(Bytes::len).sum(), Relaxed);
        }
    }

    fn write(&mut self, batch: &[Bytes]) -> io::Result<()> {
        let Some(file) = &self.file else {
            let mut out = io::stdout().lock();
            lines(&mut out, batch)?;
            return out.flush();
        };
        let mut buffered = BufWriter::with_capacity(64 << 10, file);
        lines(&mut buffered, batch)?;
        buffered.flush()?;
        drop(buffered);
        self.size += batch.iter().map(|event| event.len() as u64 + 1).sum::<u64>();
        if self.size >= self.options.max_size {
            self.rotate()?;
        }
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.options.path, rotation::backup(&self.options.path, (self.clock)()))?;
        self.reopen()?;
        self.prune();
        Ok(())
    }

    /// Removes what has been kept for long enough.
    fn prune(&self) {
        let log = &self.options.path;
        let Some(directory) = log.parent() else { return };
        let Ok(entries) = fs::read_dir(directory) else { return };
        let files = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        let now = (self.clock)();
        for file in rotation::expired(log, files, now, self.options.max_backups, self.options.max_age) {
            if let Err(error) = fs::remove_file(directory.join(&file)) {
                tracing::warn!(%error, file, "removing an old audit log");
            }
        }
    }
}

fn lines(out: &mut impl Write, batch: &[Bytes]) -> io::Result<()> {
    batch.iter().try_for_each(|event| {
        out.write_all(event)?;
        out.write_all(b"\n")
    })
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
