//! Questions in, answers out, over UDP and TCP.

use std::{
    io,
    net::{SocketAddr, SocketAddrV4},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, ResponseCode},
    rr::{DNSClass, Name, RData, Record, RecordType, rdata::CNAME},
};
use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, setsockopt, sockopt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpSocket, TcpStream, UdpSocket},
    sync::Semaphore,
    time::timeout,
};

use super::{
    forward::{Forwarder, Transport},
    wire,
    zone::{Answer, Catalog, TTL, Zone},
};

/// UDP questions answered at once; more are dropped, and their askers ask again.
const QUESTIONS: usize = 1024;
/// TCP connections held at once, and how long one may be silent.
const CONNECTIONS: usize = 128;
const SILENCE: Duration = Duration::from_secs(10);
/// The largest UDP answer, however much room the asker has: no path within a host or a cluster splits it.
const LARGEST: u16 = 1232;
/// How many names may stand for one another in a row.
const ALIASES: usize = 8;

/// UDP and TCP on one port.
#[derive(Debug)]
pub struct Listener {
    udp: UdpSocket,
    tcp: TcpListener,
    address: SocketAddrV4,
}

impl Listener {
    /// Listens on the address, which need not exist yet. If somebody holds the port, on another one: who asks by the
    /// DNS service is led to whatever port it is.
    pub fn bind(wanted: SocketAddrV4) -> io::Result<Listener> {
        let mut outcome = Listener::bind_exactly(wanted);
        // A port that is free in UDP may be taken in TCP, hence more than one try.
        for _ in 0..16 {
            match outcome {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    outcome = Listener::bind_exactly(SocketAddrV4::new(*wanted.ip(), 0));
                }
                _ => break,
            }
        }
        outcome
    }

    fn bind_exactly(wanted: SocketAddrV4) -> io::Result<Listener> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let udp = socket::socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&udp, sockopt::IpFreebind, &true)?;
        socket::bind(std::os::fd::AsRawFd::as_raw_fd(&udp), &SockaddrIn::from(wanted))?;
        let udp = UdpSocket::from_std(udp.into())?;
        let port = udp.local_addr()?.port();
        let tcp = TcpSocket::new_v4()?;
        setsockopt(&tcp, sockopt::IpFreebind, &true)?;
        tcp.set_reuseaddr(true)?;
        let address = SocketAddrV4::new(*wanted.ip(), port);
        tcp.bind(SocketAddr::V4(address))?;
        Ok(Listener { udp, tcp: tcp.listen(128)?, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }
}

/// Answers questions.
#[derive(Debug)]
pub struct Server<C> {
    zone: Zone,
    catalog: C,
    forwarder: Arc<Forwarder>,
    turn: AtomicUsize,
}

impl<C: Catalog + Send + Sync + 'static> Server<C> {
    pub fn new(zone: Zone, catalog: C, forwarder: Forwarder) -> Arc<Server<C>> {
        Arc::new(Server { zone, catalog, forwarder: Arc::new(forwarder), turn: AtomicUsize::new(0) })
    }

    /// Serves for as long as the future is polled, and stops all work with it.
    pub async fn serve(self: Arc<Self>, listener: Listener) {
        let mut work = tokio::task::JoinSet::new();
        let udp = Arc::new(listener.udp);
        work.spawn(self.clone().serve_udp(udp));
        work.spawn(self.serve_tcp(listener.tcp));
        while let Some(ended) = work.join_next().await {
            if let Err(panic) = ended
                && panic.is_panic()
            {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
    }

    async fn serve_udp(self: Arc<Self>, socket: Arc<UdpSocket>) {
        let permits = Arc::new(Semaphore::new(QUESTIONS));
        let mut work = tokio::task::JoinSet::new();
        let mut buffer = vec![0; 65_535];
        loop {
            while work.try_join_next().is_some() {}
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // What an earlier answer's asker sent back; the socket is fine.
                Err(error) => {
                    tracing::debug!(%error, "receiving a DNS question");
                    continue;
                }
            };
            let Ok(permit) = permits.clone().try_acquire_owned() else { continue };
            let (this, socket, query) = (self.clone(), socket.clone(), buffer[..length].to_vec());
            work.spawn(async move {
                if let Some(answer) = this.respond(&query, Transport::Udp).await
                    && let Err(error) = socket.send_to(&answer, peer).await
                {
                    tracing::debug!(%error, %peer, "sending a DNS answer");
                }
                drop(permit);
            });
        }
    }

    async fn serve_tcp(self: Arc<Self>, listener: TcpListener) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS));
        let mut work = tokio::task::JoinSet::new();
        loop {
            while work.try_join_next().is_some() {}
            // The semaphore is never closed; without a permit nothing is accepted.
            let Ok(permit) = permits.clone().acquire_owned().await else { return };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::debug!(%error, "accepting a DNS connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let this = self.clone();
            work.spawn(async move {
                if let Err(error) = this.serve_connection(stream).await {
                    tracing::debug!(%error, "a DNS connection ended");
                }
                drop(permit);
            });
        }
    }

    async fn serve_connection(&self, mut stream: TcpStream) -> io::Result<()> {
        let silent = |_| io::Error::from(io::ErrorKind::TimedOut);
        loop {
            let length = match timeout(SILENCE, stream.read_u16()).await.map_err(silent)? {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                length => usize::from(length?),
            };
            let mut query = vec![0; length];
            timeout(SILENCE, stream.read_exact(&mut query)).await.map_err(silent)??;
            let Some(answer) = self.respond(&query, Transport::Tcp).await else { return Ok(()) };
            timeout(SILENCE, stream.write_all(&wire::framed(&answer))).await.map_err(silent)??;
        }
    }

    /// The answer to one message; none to what is no question, lest two servers answer each other for ever.
    pub async fn respond(&self, bytes: &[u8], transport: Transport) -> Option<Vec<u8>> {
        if bytes.len() < wire::HEADER || bytes[2] & 0x80 != 0 {
            return None;
        }
        let Ok(query) = Message::from_vec(bytes) else {
            let id = u16::from_be_bytes([bytes[0], bytes[1]]);
            return Message::error_msg(id, OpCode::Query, ResponseCode::FormErr).to_vec().ok();
        };
        let mut answer = Message::response(query.metadata.id, query.metadata.op_code);
        answer.metadata.message_type = MessageType::Response;
        answer.metadata.recursion_desired = query.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.queries.clone_from(&query.queries);
        let mut room = 512;
        if let Some(asked) = &query.edns {
            room = asked.max_payload().clamp(512, LARGEST);
            let mut edns = Edns::new();
            edns.set_max_payload(LARGEST);
            answer.set_edns(edns);
        }
        let code = match (query.queries.as_slice(), query.metadata.op_code) {
            (_, op) if op != OpCode::Query => ResponseCode::NotImp,
            _ if query.edns.as_ref().is_some_and(|edns| edns.version() != 0) => ResponseCode::BADVERS,
            ([question], _) if question.query_class != DNSClass::IN => ResponseCode::Refused,
            ([question], _) => {
                let (name, wanted) = (question.name.clone(), question.query_type);
                match self.zone.answer(&self.catalog, &name, wanted) {
                    Answer::Elsewhere => match self.forwarder.ask(bytes, transport).await {
                        Ok(answer) => return Some(answer),
                        Err(error) => {
                            tracing::debug!(%name, %error, "forwarding a DNS question");
                            ResponseCode::ServFail
                        }
                    },
                    found => {
                        answer.metadata.authoritative = true;
                        self.fill(&mut answer, name, wanted, found).await
                    }
                }
            }
            _ => ResponseCode::FormErr,
        };
        answer.metadata.response_code = code;
        let bytes = answer.to_vec().ok()?;
        match transport {
            Transport::Udp if bytes.len() > usize::from(room) => {
                let mut short = answer.truncate();
                short.metadata.truncation = true;
                short.to_vec().ok()
            }
            _ => Some(bytes),
        }
    }

    /// Puts what the zone found into the answer, and follows aliases wherever they lead.
    async fn fill(
        &self,
        answer: &mut Message,
        mut name: Name,
        wanted: RecordType,
        mut found: Answer,
    ) -> ResponseCode {
        for _ in 0..ALIASES {
            match found {
                Answer::Records(mut records, beside) => {
                    // Whoever takes the first of several gets another first one each time.
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed) % records.len().max(1);
                    records.rotate_left(turn);
                    answer.add_answers(records);
                    answer.add_additionals(beside);
                    return ResponseCode::NoError;
                }
                Answer::NoData | Answer::NoName => {
                    answer.add_authority(self.zone.soa());
                    return match found {
                        Answer::NoName => ResponseCode::NXDomain,
                        _ => ResponseCode::NoError,
                    };
                }
                Answer::Alias(target) => {
                    answer.add_answer(Record::from_rdata(name, TTL, RData::CNAME(CNAME(target.clone()))));
                    if wanted == RecordType::CNAME {
                        return ResponseCode::NoError;
                    }
                    found = self.zone.answer(&self.catalog, &target, wanted);
                    name = target;
                }
                Answer::Elsewhere => return self.fetch(answer, name, wanted).await,
            }
        }
        ResponseCode::ServFail
    }

    /// Adds what the host's name servers say of the name. If they say nothing, the alias alone must do: the asker may
    /// know more servers than we.
    async fn fetch(&self, answer: &mut Message, name: Name, wanted: RecordType) -> ResponseCode {
        let mut query = Message::query();
        query.metadata.recursion_desired = true;
        query.add_query(hickory_proto::op::Query::query(name.clone(), wanted));
        let fetched = async {
            let query = query.to_vec().ok()?;
            let mut answer = self.forwarder.ask(&query, Transport::Udp).await.ok()?;
            if Message::from_vec(&answer).is_ok_and(|answer| answer.metadata.truncation) {
                answer = self.forwarder.ask(&query, Transport::Tcp).await.ok()?;
            }
            Message::from_vec(&answer).ok()
        };
        match fetched.await {
            Some(fetched) => {
                answer.add_answers(fetched.answers);
                answer.add_authorities(fetched.authorities);
                fetched.metadata.response_code
            }
            None => {
                tracing::debug!(%name, "an alias leads to a name that no server answered for");
                ResponseCode::NoError
            }
        }
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
