//! The disk below the store: writes become durable in groups, after a while; a crash takes what is not.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use tiphys_store::{
    Error, Events, History, Key, Memory, Outcome, Page, Range, Record, Records, Revision, Store, Write,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::sleep,
};

use crate::{chance::Chance, laws::Laws, trace::Trace};

type Answer = Result<Outcome, Error>;

/// A transaction that nobody has been told of yet.
struct Draft {
    writes: Vec<Write>,
    told: oneshot::Sender<Answer>,
}

/// One opening of the store. It ends with a crash.
pub(crate) struct Disk {
    memory: Arc<Memory>,
    drafts: mpsc::UnboundedSender<Draft>,
    /// What is being made durable.
    group: Arc<Mutex<Vec<Draft>>>,
    writer: AbortHandle,
    common: Common,
}

/// What outlives a crash.
#[derive(Clone)]
struct Common {
    chance: Arc<Chance>,
    trace: Arc<Trace>,
    laws: Arc<Laws>,
    faulty: Arc<AtomicBool>,
}

impl Common {
    fn commit(&self, memory: &Memory, writes: Vec<Write>) -> impl Future<Output = Answer> {
        let seen = writes.clone();
        async move {
            let outcome = memory.commit(writes).await;
            if let Ok(Outcome::Committed(revision)) = &outcome {
                self.laws.committed(*revision, seen);
            }
            outcome
        }
    }
}

impl Disk {
    /// An empty one.
    pub(crate) fn new(seed: u64, trace: Arc<Trace>, laws: Arc<Laws>) -> Arc<Self> {
        let chance = Arc::new(Chance::new(seed, "disk"));
        Self::open(Memory::new(), Common { chance, trace, laws, faulty: Arc::default() })
    }

    pub(crate) fn set_faulty(&self, faulty: bool) {
        self.common.faulty.store(faulty, Relaxed);
    }

    fn open(memory: Memory, common: Common) -> Arc<Self> {
        let (memory, group) = (Arc::new(memory), Arc::new(Mutex::new(Vec::new())));
        let (drafts, come) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write(Arc::clone(&memory), come, Arc::clone(&group), common.clone()));
        Arc::new(Self { memory, drafts, group, writer: writer.abort_handle(), common })
    }

    /// Power fails, and comes back. Of what was being written a part may have become durable.
    ///
    /// # Errors
    /// The store had ended by itself.
    pub(crate) async fn crash(&self) -> anyhow::Result<Arc<Self>> {
        self.writer.abort();
        let drafts = std::mem::take(&mut *self.group.lock());
        let durable = self.common.chance.index(drafts.len() + 1);
        self.common
            .trace
            .step(format_args!("! the store crashes; {durable} of {} are durable", drafts.len()));
        for Draft { writes, told } in drafts.into_iter().take(durable) {
            drop(told);
            // Nobody is told how it went.
            drop(self.common.commit(&self.memory, writes).await);
        }
        let memory = self.memory.reopen();
        let memory = memory.ok_or_else(|| anyhow::anyhow!("the store was closed before the crash"))?;
        self.common.laws.reopened(&memory).await?;
        Ok(Self::open(memory, self.common.clone()))
    }
}

/// Makes drafts durable in groups.
async fn write(
    memory: Arc<Memory>,
    mut come: mpsc::UnboundedReceiver<Draft>,
    group: Arc<Mutex<Vec<Draft>>>,
    common: Common,
) {
    while let Some(first) = come.recv().await {
        {
            let mut group = group.lock();
            group.push(first);
            group.extend(std::iter::from_fn(|| come.try_recv().ok()));
        }
        let slow = common.faulty.load(Relaxed) && common.chance.one_in(300);
        let most = if slow { 800 } else { 2 };
        sleep(common.chance.millis(0, most)).await;
        let group = std::mem::take(&mut *group.lock());
        for Draft { writes, told } in group {
            let full = common.faulty.load(Relaxed) && common.chance.one_in(400);
            let answer = match full {
                true => Err(Error::NoSpace { dir: "/simulated".to_owned(), free: 0, needed: 1 }),
                false => common.commit(&memory, writes).await,
            };
            // Whoever asked may be gone.
            drop(told.send(answer));
        }
    }
}

#[async_trait]
impl Store for Disk {
    async fn revision(&self) -> Result<Revision, Error> {
        self.memory.revision().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.memory.get(key).await
    }

    async fn mended(&self) -> Result<(), Error> {
        self.memory.mended().await
    }

    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error> {
        self.memory.range(range, at).await
    }

    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error> {
        self.memory.scan(prefix, at).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error> {
        let (told, answer) = oneshot::channel();
        self.drafts.send(Draft { writes, told }).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)?
    }

    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error> {
        self.memory.watch(prefix, after).await
    }

    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error> {
        self.memory.versions(key, until, limit).await
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        self.memory.compact(floor).await
    }

    async fn size(&self) -> Result<u64, Error> {
        Ok(0)
    }
}

/// How long a store takes to open again.
pub(crate) const OPENING: Duration = Duration::from_millis(700);
