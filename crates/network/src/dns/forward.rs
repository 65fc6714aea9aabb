//! Names that are not the cluster's: the host's own name servers are asked.
//!
//! Bounded in every direction: questions under way, time, answers kept and their age. A question that is under way is
//! not asked again but waited for, so a name server that asks us back what we asked it goes round once and no more.

use std::{
    collections::{BTreeMap, HashMap},
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use hickory_proto::op::Message;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
};

use super::wire;

/// How long one name server is waited for, and how many tries a question gets in all.
const PATIENCE: Duration = Duration::from_secs(2);
const TRIES: usize = 3;
/// Questions under way at once, and answers kept.
const UNDER_WAY: usize = 512;
const KEPT: usize = 2048;
/// No answer is kept longer, whatever it says.
const OLDEST: Duration = Duration::from_secs(30);

/// Why a question was not answered.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    #[error("{} names no name server that could be asked", .0.display())]
    NoServers(PathBuf),
    #[error("too many questions are under way")]
    Busy,
    #[error("no name server answered: {0}")]
    Unanswered(Arc<io::Error>),
}

/// How the asker came, and so how large an answer may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    Udp,
    Tcp,
}

/// Questions that have the same answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Question {
    /// Name, type and class, in lower case.
    question: Vec<u8>,
    transport: Transport,
    dnssec: bool,
    /// UDP answers fit the room that was asked for.
    room: u16,
}

type Outcome = Shared<BoxFuture<'static, Result<Arc<[u8]>, Error>>>;

/// Asks the host's name servers.
#[derive(Debug)]
pub struct Forwarder {
    resolv_conf: PathBuf,
    ours: Vec<IpAddr>,
    servers: Mutex<Servers>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct Servers {
    read: Option<SystemTime>,
    addresses: Vec<SocketAddr>,
}

#[derive(Default)]
struct State {
    under_way: HashMap<Question, Outcome>,
    kept: BTreeMap<Question, Kept>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("under_way", &self.under_way.len())
            .field("kept", &self.kept.len())
            .finish()
    }
}

#[derive(Debug)]
struct Kept {
    answer: Arc<[u8]>,
    since: Instant,
    life: Duration,
}

impl Forwarder {
    /// Asks the servers that `resolv_conf` names at the time, except `ours`: asking those would be asking ourselves.
    pub fn new(resolv_conf: PathBuf, ours: Vec<IpAddr>) -> Forwarder {
        Forwarder { resolv_conf, ours, servers: Mutex::default(), state: Mutex::default() }
    }

    /// Answers a query (a whole message with one question) by a name server's answer, under the query's id.
    pub async fn ask(self: &Arc<Self>, query: &[u8], transport: Transport) -> Result<Vec<u8>, Error> {
        let (key, question) = self.key(query, transport)?;
        let (answer, age) = match self.kept(&key) {
            Some(kept) => kept,
            None => (self.join(key, query).await?, Duration::ZERO),
        };
        let mut answer = answer.to_vec();
        answer[..2].copy_from_slice(&query[..2]);
        // The asker may compare the name byte by byte with what it asked.
        if let Some(echo) = answer.get_mut(wire::HEADER..wire::HEADER + question) {
            echo.copy_from_slice(&query[wire::HEADER..wire::HEADER + question]);
        }
        wire::age(&mut answer, age.as_secs() as u32);
        Ok(answer)
    }

    fn key(&self, query: &[u8], transport: Transport) -> Result<(Question, usize), Error> {
        let malformed = || Error::Unanswered(Arc::new(io::ErrorKind::InvalidInput.into()));
        let length = wire::question(query).ok_or_else(malformed)?;
        let edns = Message::from_vec(query).map_err(|_| malformed())?.edns;
        let question = query[wire::HEADER..wire::HEADER + length].to_ascii_lowercase();
        let dnssec = edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let room = edns.map_or(512, |edns| edns.max_payload().max(512));
        Ok((Question { question, transport, dnssec, room }, length))
    }

    fn kept(&self, key: &Question) -> Option<(Arc<[u8]>, Duration)> {
        let state = self.state.lock();
        let kept = state.kept.get(key)?;
        let age = kept.since.elapsed();
        (age < kept.life).then(|| (kept.answer.clone(), age))
    }

    async fn join(self: &Arc<Self>, key: Question, query: &[u8]) -> Result<Arc<[u8]>, Error> {
        let outcome = {
            let mut state = self.state.lock();
            match state.under_way.get(&key) {
                Some(outcome) => outcome.clone(),
                None if state.under_way.len() >= UNDER_WAY => return Err(Error::Busy),
                None => {
                    let (this, query, asked) = (self.clone(), query.to_vec(), key.clone());
                    let outcome = async move {
                        let outcome = this.exchange(&query, asked.transport).await;
                        this.settle(asked, &outcome);
                        outcome
                    };
                    let outcome = outcome.boxed().shared();
                    state.under_way.insert(key, outcome.clone());
                    outcome
                }
            }
        };
        outcome.await
    }

    fn settle(&self, key: Question, outcome: &Result<Arc<[u8]>, Error>) {
        let mut state = self.state.lock();
        state.under_way.remove(&key);
        let Ok(answer) = outcome else { return };
        let life =
            wire::life(answer).map_or(Duration::ZERO, |life| Duration::from_secs(life.into())).min(OLDEST);
        if life.is_zero() {
            return;
        }
        if state.kept.len() >= KEPT {
            state.kept.retain(|_, kept| kept.since.elapsed() < kept.life);
            if state.kept.len() >= KEPT {
                state.kept.clear();
            }
        }
        state.kept.insert(key, Kept { answer: answer.clone(), since: Instant::now(), life });
    }

    async fn exchange(&self, query: &[u8], transport: Transport) -> Result<Arc<[u8]>, Error> {
        let servers = self.servers();
        if servers.is_empty() {
            return Err(Error::NoServers(self.resolv_conf.clone()));
        }
        let mut last = io::Error::from(io::ErrorKind::TimedOut);
        for server in servers.iter().cycle().take(TRIES.max(servers.len())) {
            let once = async {
                match transport {
                    Transport::Udp => by_udp(query, *server).await,
                    Transport::Tcp => by_tcp(query, *server).await,
                }
            };
            match tokio::time::timeout(PATIENCE, once).await {
                Ok(Ok(answer)) => return Ok(answer.into()),
                Ok(Err(error)) => last = error,
                Err(_elapsed) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(Error::Unanswered(Arc::new(last)))
    }

    /// The name servers, read again whenever the file is another than before.
    fn servers(&self) -> Vec<SocketAddr> {
        let modified = std::fs::metadata(&self.resolv_conf).and_then(|meta| meta.modified()).ok();
        let mut servers = self.servers.lock();
        if modified.is_none() || servers.read != modified {
            let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
            servers.addresses = parse(&text, &self.ours);
            servers.read = modified;
        }
        servers.addresses.clone()
    }
}

/// The first three name servers of a resolv.conf.
fn parse(text: &str, ours: &[IpAddr]) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace();
            (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok()).flatten()
        })
        .filter(|address| !ours.contains(address))
        .take(3)
        .map(|address| SocketAddr::new(address, 53))
        .collect()
}

/// Gives the query an id that only the asked server learns; a fresh socket has a fresh port besides.
fn disguise(query: &[u8]) -> Vec<u8> {
    let mut disguised = query.to_vec();
    disguised[..2].copy_from_slice(&rand::random::<[u8; 2]>());
    disguised
}

async fn by_udp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => ([0, 0, 0, 0], 0).into(),
        SocketAddr::V6(_) => ([0u16; 8], 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let query = disguise(query);
    socket.send(&query).await?;
    let mut buffer = vec![0; 65_535];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if wire::answers(&buffer[..length], &query) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(query: &[u8], server: SocketAddr) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let query = disguise(query);
    stream.write_all(&wire::framed(&query)).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    match wire::answers(&answer, &query) {
        true => Ok(answer),
        false => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer to another question")),
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
