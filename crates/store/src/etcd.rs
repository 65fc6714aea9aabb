//! The engine over etcd, by which several API servers share a store.
//!
//! Etcd's revisions are the store's, its compare-and-put judges transactions, its leases let records expire. This
//! process remembers nothing that another server would have to know. What etcd cannot do is to keep the past of a key
//! beyond its compaction: whoever compacts writes down before what the history is to tell.
//!
//! Etcd is spoken to by a client made of its protocol: reads are asked again of the next server, a write only if no
//! server can have heard of it. Of any other failed write nobody knows whether it happened, and the caller is told so.

mod client;
mod compaction;
mod keys;
mod leases;
mod past;
mod pieces;
mod watch;
#[allow(unreachable_pub, clippy::all, reason = "generated")]
mod wire {
    tonic::include_proto!("etcdserverpb");
}

use std::{collections::HashSet, fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tokio::sync::watch as signal;
use tonic::Code;

use self::{
    client::{Client, Delays, Failure},
    keys::{Keys, Past},
    leases::Leases,
    pieces::Reading,
    wire::{
        Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RangeResponse, RequestOp,
        ResponseHeader, StatusRequest, TxnRequest, TxnResponse,
        compare::{CompareResult, CompareTarget},
        kv_client::KvClient,
        maintenance_client::MaintenanceClient,
        request_op::Request,
        response_op::Response,
    },
};
use crate::{
    Change, Error, Events, Expect, History, Key, Outcome, Page, Range, Record, Records, Retention, Revision,
    Store, Write,
    embedded::{Clock, wall_clock},
};

/// Which etcd, and how it is used.
#[derive(Clone)]
pub struct Options {
    /// URLs of the members, `http` or `https`.
    pub servers: Vec<String>,
    /// Who vouches for them, in PEM; by default whom the host trusts.
    pub authority: Option<Vec<u8>>,
    /// The certificate and key that this client shows, in PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// What all names in etcd begin with, for clusters that share one.
    pub prefix: String,
    pub history: Retention,
    /// How long a call is tried again before its caller learns that etcd is away.
    pub patience: Duration,
    pub clock: Clock,
}

impl Options {
    pub fn new(servers: Vec<String>) -> Self {
        let (history, patience) = (Retention::default(), Duration::from_secs(10));
        let (authority, identity, prefix) = (None, None, String::new());
        Self { servers, authority, identity, prefix, history, patience, clock: Arc::new(wall_clock) }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { servers, prefix, .. } = self;
        f.debug_struct("Options").field("servers", servers).field("prefix", prefix).finish_non_exhaustive()
    }
}

/// Why a store over etcd cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    #[error("no server of etcd is named")]
    NoServers,
    #[error("the server of etcd {server:?}: {source}")]
    Server { server: String, source: Arc<tonic::transport::Error> },
    #[error("asking etcd for its revision: {0}")]
    Revision(#[source] Error),
}

/// A store over etcd. Others may use the same one.
///
/// While etcd is away, reads and writes answer [`Error::Unavailable`] after [`Options::patience`], and watches wait.
pub struct Etcd {
    inner: Arc<Inner>,
}

/// What watches and scans share with the store.
struct Inner {
    client: Client,
    keys: Keys,
    leases: Leases,
    options: Options,
    closed: signal::Sender<bool>,
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

impl Etcd {
    /// Connects, and sees whether etcd answers.
    ///
    /// # Errors
    /// What is named is no server of etcd, or none answers.
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        let client = Client::new(&options)?;
        let (keys, leases) = (Keys::new(&options.prefix), Leases::default());
        let inner = Arc::new(Inner { client, keys, leases, options, closed: signal::Sender::new(false) });
        inner.revision().await.map_err(OpenError::Revision)?;
        Ok(Self { inner })
    }

    /// Ends all watches; nothing can be read or written any more.
    pub fn close(&self) {
        self.inner.closed.send_replace(true);
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        self.close();
    }
}

fn told(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(Revision::ZERO, |header| keys::revision(header.revision))
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn put(key: Bytes, value: Bytes, lease: i64) -> RequestOp {
    op(Request::RequestPut(PutRequest { key, value, lease }))
}

fn delete(key: Bytes) -> RequestOp {
    op(Request::RequestDeleteRange(DeleteRangeRequest { key }))
}

/// The name was last written at this revision; at zero: is not there.
fn compare(key: Bytes, mod_revision: i64) -> Compare {
    let (result, target) = (CompareResult::Equal.into(), CompareTarget::Mod.into());
    Compare { result, target, key, mod_revision }
}

impl Inner {
    fn is_open(&self) -> Result<(), Error> {
        if *self.closed.borrow() { Err(Error::Closed) } else { Ok(()) }
    }

    async fn ask(&self, request: RangeRequest) -> Result<RangeResponse, Failure> {
        let range = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(usize::MAX).range(request).await }
        };
        self.client.read(range).await
    }

    async fn txn(&self, request: &TxnRequest) -> Result<TxnResponse, Failure> {
        let txn = |channel| {
            let request = request.clone();
            async move { KvClient::new(channel).max_decoding_message_size(usize::MAX).txn(request).await }
        };
        self.client.write(txn).await
    }

    async fn revision(&self) -> Result<Revision, Error> {
        let request = RangeRequest { key: self.keys.progress(), count_only: true, ..RangeRequest::default() };
        let answer = self.ask(request).await.map_err(|failure| failure.of_read("asking for the revision"))?;
        Ok(told(answer.header.as_ref()))
    }

    /// Whether the store can tell what was at this revision, and happened after it.
    async fn check(&self, at: Revision) -> Result<(), Error> {
        let revision = keys::number(at);
        let request =
            RangeRequest { key: self.keys.progress(), count_only: true, revision, ..RangeRequest::default() };
        match self.ask(request).await {
            Ok(_) => Ok(()),
            Err(failure) => Err(self.out_of(at, "looking for a revision", failure).await),
        }
    }

    /// What is wrong with a revision that was refused.
    async fn out_of(&self, at: Revision, step: &'static str, failure: Failure) -> Error {
        if failure.refused() != Some(Code::OutOfRange) {
            return failure.of_read(step);
        }
        match self.revision().await {
            Ok(newest) if at > newest => Error::Future { newest },
            Ok(_) => match self.compacted().await {
                Ok(floor) => Error::Compacted { floor },
                Err(failure) => failure.of_read("asking for the oldest revision"),
            },
            Err(error) => error,
        }
    }

    async fn get(&self, name: Bytes, at: Option<Revision>) -> Result<Option<KeyValue>, Failure> {
        let revision = at.map_or(0, keys::number);
        let request = RangeRequest { key: name, revision, ..RangeRequest::default() };
        Ok(self.ask(request).await?.kvs.into_iter().next())
    }

    async fn transaction(&self, writes: &[Write]) -> Result<TxnRequest, Failure> {
        let mut txn = TxnRequest::default();
        for Write { key, expect, change, note } in writes {
            let name = self.keys.name(key.as_str());
            let expected = match expect {
                Expect::Absent => 0,
                Expect::At(revision) => keys::number(*revision),
            };
            txn.compare.push(compare(name.clone(), expected));
            txn.failure.push(op(Request::RequestRange(RangeRequest {
                key: name.clone(),
                ..RangeRequest::default()
            })));
            match (change, expect) {
                (Change::Put { value, ttl }, _) => {
                    let lease = match ttl {
                        Some(ttl) => self.leases.lease(&self.client, *ttl).await?,
                        None => 0,
                    };
                    txn.success.push(put(name, keys::seal(value, note.as_ref()), lease));
                }
                (Change::Delete, Expect::At(revision)) => {
                    txn.success.push(delete(name));
                    // What a key was ends here, and after a compaction nothing else would tell of that.
                    let end = self.keys.past(key.as_str(), *revision, Past::End);
                    txn.success.push(put(end, keys::seal(&[], note.as_ref()), 0));
                }
                // To delete what is not there is to do nothing.
                (Change::Delete, Expect::Absent) => {}
            }
        }
        Ok(txn)
    }

    async fn commit(&self, writes: &[Write]) -> Result<Outcome, Error> {
        const STEP: &str = "committing";
        let mut again = true;
        let answer = loop {
            let txn = match self.transaction(writes).await {
                Ok(txn) => txn,
                Err(failure) => return Err(failure.of_read("making a lease")),
            };
            match self.txn(&txn).await {
                Ok(answer) => break answer,
                // A lease has ended before its time, as they all do when a member is restored.
                Err(failure) if failure.refused() == Some(Code::NotFound) && again => {
                    self.leases.forget().await;
                    again = false;
                }
                Err(failure) => {
                    let may_be_full = failure.refused() == Some(Code::ResourceExhausted);
                    let error = self.client.of_write(STEP, failure, txn.encoded_len()).await;
                    return if may_be_full { self.despite(error, writes).await } else { Err(error) };
                }
            }
        };
        if answer.succeeded {
            return Ok(Outcome::Committed(told(answer.header.as_ref())));
        }
        for (write, answer) in writes.iter().zip(answer.responses) {
            let Some(Response::ResponseRange(found)) = answer.response else { break };
            let current = found.kvs.into_iter().next().map(|found| self.keys.record(found)).transpose()?;
            if !is_expected(write.expect, current.as_ref()) {
                return Ok(Outcome::Conflict { key: write.key.clone(), current });
            }
        }
        Err(keys::damaged("a transaction was refused without a reason"))
    }

    /// What became of a transaction that was refused for want of room: the one that fills etcd is carried out, and
    /// refused all the same. What is there now tells.
    async fn despite(&self, error: Error, writes: &[Write]) -> Result<Outcome, Error> {
        let Some(Write { key, expect, change, .. }) = writes.first() else { return Err(error) };
        let in_doubt = |why: Error| Error::InDoubt { source: Arc::new(why) };
        let found = self.get(self.keys.name(key.as_str()), None).await;
        let found = found.map_err(|failure| in_doubt(failure.of_read("looking for what was written")))?;
        let found = found.map(|found| self.keys.record(found)).transpose()?;
        match (change, found) {
            (_, found) if is_expected(*expect, found.as_ref()) => Err(error),
            (Change::Put { value, .. }, Some(found)) if found.value == *value => {
                Ok(Outcome::Committed(found.revision))
            }
            _ => Err(in_doubt(error)),
        }
    }
}

fn is_expected(expect: Expect, current: Option<&Record>) -> bool {
    match (expect, current) {
        (Expect::Absent, None) => true,
        (Expect::At(expected), Some(current)) => expected == current.revision,
        _ => false,
    }
}

#[async_trait]
impl Store for Etcd {
    async fn revision(&self) -> Result<Revision, Error> {
        self.inner.is_open()?;
        self.inner.revision().await
    }

    async fn mended(&self) -> Result<(), Error> {
        let mut delays = Delays::new();
        loop {
            match self.revision().await {
                Err(Error::Unavailable { .. }) => delays.wait().await,
                answer => return answer.map(drop),
            }
        }
    }

    async fn get(&self, key: &Key) -> Result<Option<Record>, Error> {
        self.inner.is_open()?;
        let found = self.inner.get(self.inner.keys.name(key.as_str()), None).await;
        let found = found.map_err(|failure| failure.of_read("reading a record"))?;
        found.map(|found| self.inner.keys.record(found)).transpose()
    }

    async fn range(&self, range: Range, at: Option<Revision>) -> Result<Page, Error> {
        self.inner.is_open()?;
        if let Some(at) = at {
            // Also of what nothing is wanted.
            self.inner.check(at).await?;
        }
        let mut reading = Reading::new(&self.inner.keys, &range, at);
        let mut records = Vec::new();
        while reading.goes_on() {
            records.extend(self.inner.piece(&mut reading).await?);
        }
        let revision = match reading.at {
            Some(revision) => revision,
            None => self.inner.revision().await?,
        };
        Ok(Page { records, revision, more: reading.more })
    }

    async fn scan(&self, prefix: String, at: Revision) -> Result<Records, Error> {
        self.inner.is_open()?;
        self.inner.check(at).await?;
        Ok(pieces::scan(Arc::clone(&self.inner), prefix, at))
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<Outcome, Error> {
        self.inner.is_open()?;
        let mut keys = HashSet::with_capacity(writes.len());
        if let Some(twice) = writes.iter().find(|write| !keys.insert(&write.key)) {
            return Err(Error::DuplicateKey { key: twice.key.clone() });
        }
        if writes.is_empty() {
            return self.inner.revision().await.map(Outcome::Committed);
        }
        self.inner.commit(&writes).await
    }

    async fn watch(&self, prefix: String, after: Revision) -> Result<Events, Error> {
        self.inner.is_open()?;
        self.inner.check(after).await?;
        Ok(watch::events(&self.inner, &prefix, after))
    }

    async fn versions(&self, key: &Key, until: Option<Revision>, limit: usize) -> Result<History, Error> {
        self.inner.is_open()?;
        self.inner.versions(key, until, limit).await
    }

    async fn compact(&self, floor: Revision) -> Result<(), Error> {
        self.inner.is_open()?;
        compaction::compact(&self.inner, floor).await
    }

    /// Of the member that answers.
    async fn size(&self) -> Result<u64, Error> {
        let ask = |channel| async { MaintenanceClient::new(channel).status(StatusRequest {}).await };
        let status =
            self.inner.client.once(ask).await.map_err(|failure| failure.of_read("asking for the size"))?;
        Ok(u64::try_from(status.db_size).unwrap_or_default())
    }
}
