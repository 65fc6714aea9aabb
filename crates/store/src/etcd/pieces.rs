//! Ranges, in pieces that are neither too many records nor too long.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{
    Inner, Keys, keys, told,
    wire::{RangeRequest, RangeResponse},
};
use crate::{Error, Range, Record, Records, Revision};

/// How many records one answer of etcd has at most, and about how many bytes.
const PIECE: i64 = 512;
const PIECE_BYTES: usize = 4 << 20;
/// How many pieces of a scan are read ahead.
const AHEAD: usize = 2;

/// How far a range was read.
pub(super) struct Reading {
    start: Bytes,
    end: Bytes,
    /// Of the first piece, if none is named.
    pub(super) at: Option<Revision>,
    /// How many records are wanted yet, and in one piece.
    left: i64,
    limit: i64,
    pub(super) more: bool,
}

impl Reading {
    pub(super) fn new(keys: &Keys, range: &Range, at: Option<Revision>) -> Self {
        let (mut start, end) = keys.under(&range.prefix);
        if let Some(after) = &range.after {
            // The name that follows.
            let after = keys.name(&format!("{}\0", after.as_str()));
            start = start.max(after);
        }
        let left = range.limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        Self { more: start < end, start, end, at, left, limit: PIECE / 8 }
    }

    fn went_on(&mut self, answer: &RangeResponse) {
        self.at = self.at.or_else(|| Some(told(answer.header.as_ref())));
        self.more = answer.more;
        self.left -= i64::try_from(answer.kvs.len()).unwrap_or(i64::MAX);
        if let Some(last) = answer.kvs.last() {
            self.start = [&last.key[..], &[0]].concat().into();
        }
        let bytes: usize = answer.kvs.iter().map(|kv| kv.key.len() + kv.value.len()).sum();
        self.limit = match bytes {
            ..PIECE_BYTES => (self.limit * 2).min(PIECE),
            _ => (self.limit / 2).max(1),
        };
    }

    pub(super) fn goes_on(&self) -> bool {
        self.more && self.left > 0
    }
}

impl Inner {
    /// Reads the next piece.
    pub(super) async fn piece(&self, reading: &mut Reading) -> Result<Vec<Record>, Error> {
        let request = RangeRequest {
            key: reading.start.clone(),
            range_end: reading.end.clone(),
            limit: reading.limit.min(reading.left),
            revision: reading.at.map_or(0, keys::number),
            ..RangeRequest::default()
        };
        let answer = match self.ask(request).await {
            Ok(answer) => answer,
            Err(failure) => {
                let at = reading.at.unwrap_or_default();
                return Err(self.out_of(at, "reading a range", failure).await);
            }
        };
        reading.went_on(&answer);
        answer.kvs.into_iter().map(|found| self.keys.record(found)).collect()
    }
}

/// Everything under `prefix` at one revision.
pub(super) fn scan(inner: Arc<Inner>, prefix: String, at: Revision) -> Records {
    let (pieces, read) = mpsc::channel(AHEAD);
    // It ends with the reader.
    tokio::spawn(async move {
        let range = Range { prefix, ..Range::default() };
        let mut reading = Reading::new(&inner.keys, &range, Some(at));
        while reading.goes_on() {
            let piece = inner.piece(&mut reading).await;
            let is_last = piece.is_err();
            let is_empty = piece.as_ref().is_ok_and(Vec::is_empty);
            if is_last || !is_empty {
                // Should the reader be gone, nothing is left to be done.
                let is_read = pieces.send(piece).await.is_ok();
                if is_last || !is_read {
                    return;
                }
            }
        }
    });
    ReceiverStream::new(read).boxed()
}
