//! The one thread that writes.
//!
//! Transactions that arrive while a group is being synced form the next group. The thread sleeps until there
//! is a transaction or a record expires. It takes no processor away from those who bring transactions: where all are
//! busy, more come together in a group, and the disk is waited for less often.

use std::{
    io,
    sync::{
        Arc,
        mpsc::{self, Receiver, RecvError, RecvTimeoutError, Sender},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::libc;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::{
    Clock,
    disk::Disk,
    mend::{self, Mender},
    space::Space,
};
use crate::{Change, Error, Outcome, Write, engine::Engine};

/// What may wait to be written: transactions queue outside beyond it.
const WAITING: u32 = 64 << 20;
/// A group is closed when it has this many transactions or bytes.
const GROUP: usize = 512;
const GROUP_BYTES: usize = 4 << 20;

struct Request {
    writes: Vec<Write>,
    size: u32,
    answer: oneshot::Sender<Result<Outcome, Error>>,
    /// Given back when the request is done with, whether or not somebody still waits for the answer.
    _room: OwnedSemaphorePermit,
}

/// Hands transactions to the thread.
pub(super) struct Writer {
    requests: Mutex<Option<Sender<Request>>>,
    room: Arc<Semaphore>,
}

impl Writer {
    pub(super) async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error> {
        let size = size(&writes);
        let room = Arc::clone(&self.room).acquire_many_owned(size).await.map_err(|_| Error::Closed)?;
        let (answer, answered) = oneshot::channel();
        let request = Request { writes, size, answer, _room: room };
        let requests = self.requests.lock().clone();
        requests.ok_or(Error::Closed)?.send(request).map_err(|_| Error::Closed)?;
        answered.await.map_err(|_| Error::Closed)?
    }

    /// Takes no more transactions; the thread ends after those that it has.
    pub(super) fn stop(&self) {
        self.room.close();
        self.requests.lock().take();
    }
}

/// Has this thread wait for a processor that is free, or for its turn: by default it would run as soon as there is
/// something to write, in place of another that is about to bring more.
fn stand_back() {
    let parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the kernel reads the parameters and changes nothing but how this thread is scheduled.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const parameters) } != 0 {
        tracing::warn!(error = %io::Error::last_os_error(), "scheduling the store's writer as a batch");
    }
}

/// What a transaction takes while it waits; a larger one than may wait takes all the room.
fn size(writes: &[Write]) -> u32 {
    let size: usize = writes
        .iter()
        .map(|write| match &write.change {
            Change::Put { value, .. } => value.len() + 256,
            Change::Delete => 256,
        })
        .sum();
    u32::try_from(size).unwrap_or(u32::MAX).min(WAITING)
}

/// What the thread works with.
pub(super) struct Thread {
    pub(super) engine: Arc<Engine<Disk>>,
    pub(super) space: Space,
    pub(super) clock: Clock,
    pub(super) mender: Mender,
}

impl Thread {
    pub(super) fn start(self) -> io::Result<(Writer, JoinHandle<()>)> {
        let (requests, queue) = mpsc::channel();
        let thread = std::thread::Builder::new().name("store-writer".to_owned()).spawn(move || {
            // Nobody can write without this thread, should it end by a panic too.
            let _end = Ending(&self.engine);
            stand_back();
            self.run(&queue);
        })?;
        let room = Arc::new(Semaphore::new(WAITING as usize));
        Ok((Writer { requests: Mutex::new(Some(requests)), room }, thread))
    }

    fn run(&self, queue: &Receiver<Request>) {
        loop {
            // An engine that has stopped expires nothing; it only tells the callers so.
            let deadline = self.engine.newest().ok().and_then(|_| self.engine.next_deadline());
            let until = deadline.map(|at| Duration::from_millis(at.millis().saturating_sub((self.clock)())));
            let Ok(first) = receive(queue, until) else { return };
            let group = gather(first, queue);
            let expired = self.engine.due((self.clock)(), GROUP);
            commit(&self.engine, &self.space, (self.clock)(), group, expired);
            if self.engine.is_poisoned() && self.mend(queue).is_err() {
                return;
            }
        }
    }

    /// Opens the log again. Meanwhile transactions are refused.
    fn mend(&self, queue: &Receiver<Request>) -> Result<(), RecvError> {
        self.engine.suspend();
        let mut delays = mend::delays();
        loop {
            let error = match self.mender.reopen().and_then(|(disk, held)| self.engine.resume(disk, held)) {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            tracing::error!(%error, "opening the store again after a failed write");
            let Some(delay) = delays.next() else {
                self.engine.lose(error);
                return Ok(());
            };
            let until = Instant::now() + delay;
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                if let Some(request) = receive(queue, Some(left))? {
                    // The caller may have gone away; nothing was written.
                    drop(request.answer.send(Err(Error::Poisoned)));
                }
            }
        }
    }
}

struct Ending<'a>(&'a Engine<Disk>);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The next request, or none within `wait`; an error when there will be no more.
fn receive(queue: &Receiver<Request>, wait: Option<Duration>) -> Result<Option<Request>, RecvError> {
    let Some(wait) = wait else { return queue.recv().map(Some) };
    match queue.recv_timeout(wait) {
        Ok(request) => Ok(Some(request)),
        Err(RecvTimeoutError::Timeout) => Ok(None),
        Err(RecvTimeoutError::Disconnected) => Err(RecvError),
    }
}

/// The first request and what came in meanwhile.
fn gather(first: Option<Request>, queue: &Receiver<Request>) -> Vec<Request> {
    let mut group = Vec::new();
    let mut size = 0;
    let mut next = first.or_else(|| queue.try_recv().ok());
    while let Some(request) = next {
        size += request.size as usize;
        group.push(request);
        let full = group.len() >= GROUP || size >= GROUP_BYTES;
        next = if full { None } else { queue.try_recv().ok() };
    }
    group
}

/// Commits one group, and what has expired after it: a transaction that renews a record in time wins.
fn commit(engine: &Engine<Disk>, space: &Space, now: u64, group: Vec<Request>, expired: Vec<Vec<Write>>) {
    let room = space.look();
    let admit = |writes: &[Write]| match &room {
        Ok(room) => room.admit(writes),
        Err(error) => Err(error.clone()),
    };
    let (mut transactions, mut waiting) = (Vec::with_capacity(group.len()), Vec::with_capacity(group.len()));
    for Request { writes, answer, _room, .. } in group {
        match admit(&writes) {
            Ok(()) => {
                transactions.push(writes);
                waiting.push((answer, _room));
            }
            // The caller may have gone away; nothing was written, so nobody needs to know.
            Err(error) => drop(answer.send(Err(error))),
        }
    }
    transactions.extend(expired);
    let mut outcomes = engine.commit(transactions, now).into_iter();
    for ((answer, _room), outcome) in waiting.into_iter().zip(outcomes.by_ref()) {
        // A caller that has gone away finds out from the log.
        drop(answer.send(outcome));
    }
    for outcome in outcomes {
        if let Err(error) = outcome {
            tracing::warn!(%error, "deleting what has expired");
        }
    }
}
