//! A container's log file, in the format that CRI prescribes: `<time> <stream> <F|P> <text>`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;

use super::note;
use crate::clock;

/// The longest piece of a line that one record holds; a longer line becomes several, all but the last marked `P`.
/// So is a last line that does not end.
const MAX_PIECE: usize = 16 * 1024;

/// Which of a container's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// Splits what a container writes into records. A line without an end stays here until it ends, grows too long, or
/// the container does.
pub(super) struct Log {
    path: Option<PathBuf>,
    file: Option<File>,
    pending: [Vec<u8>; 2],
    /// Whether the last write failed: that is told once, not for each line of a full disk.
    failing: bool,
}

impl Log {
    /// Opens the log file for appending; without a path everything is dropped.
    pub(super) fn open(path: Option<PathBuf>) -> io::Result<Self> {
        let mut log = Self { path, file: None, pending: [Vec::new(), Vec::new()], failing: false };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the file under its name again, after someone moved it away.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        self.file = match &self.path {
            None => None,
            Some(path) => {
                use std::os::unix::fs::OpenOptionsExt;
                Some(OpenOptions::new().append(true).create(true).mode(0o640).open(path)?)
            }
        };
        Ok(())
    }

    /// Takes a chunk as it was read. What the disk refuses is lost: a container doesn't stop for its log.
    pub(super) fn write(&mut self, stream: Stream, chunk: &[u8]) {
        let mut records = Vec::with_capacity(chunk.len() + 64);
        let now = clock::now_nanos();
        let pending = &mut self.pending[stream as usize];
        split(pending, chunk, |text, whole| record(&mut records, now, stream, text, whole));
        self.append(&records);
    }

    /// Writes what is left of unfinished lines, marked as the pieces that they are.
    pub(super) fn finish(&mut self) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let rest = std::mem::take(&mut self.pending[stream as usize]);
            if !rest.is_empty() {
                let mut records = Vec::new();
                record(&mut records, clock::now_nanos(), stream, &rest, false);
                self.append(&records);
            }
        }
    }

    fn append(&mut self, records: &[u8]) {
        let Some(file) = &mut self.file else { return };
        if records.is_empty() {
            return;
        }
        let written = file.write_all(records);
        if let Err(error) = &written
            && !self.failing
        {
            note(format_args!("log {:?}: {error}", self.path));
        }
        self.failing = written.is_err();
    }
}

/// Gives every complete line in `pending` and `chunk` to `emit`, and every piece that is as long as a record may be;
/// keeps the rest in `pending`.
fn split(pending: &mut Vec<u8>, mut chunk: &[u8], mut emit: impl FnMut(&[u8], bool)) {
    while !chunk.is_empty() {
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let line = &chunk[..end.unwrap_or(chunk.len())];
        let room = MAX_PIECE - pending.len();
        if line.len() > room {
            pending.extend_from_slice(&line[..room]);
            emit(pending, false);
            pending.clear();
            chunk = &chunk[room..];
            continue;
        }
        match end {
            Some(end) => {
                if pending.is_empty() {
                    emit(line, true);
                } else {
                    pending.extend_from_slice(line);
                    emit(pending, true);
                    pending.clear();
                }
                chunk = &chunk[end + 1..];
            }
            None => {
                pending.extend_from_slice(line);
                return;
            }
        }
    }
}

fn record(into: &mut Vec<u8>, now: i64, stream: Stream, text: &[u8], whole: bool) {
    clock::write_rfc3339(now, into);
    into.extend_from_slice(match stream {
        Stream::Stdout => b" stdout ",
        Stream::Stderr => b" stderr ",
    });
    into.extend_from_slice(if whole { b"F " } else { b"P " });
    into.extend_from_slice(text);
    into.push(b'\n');
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
