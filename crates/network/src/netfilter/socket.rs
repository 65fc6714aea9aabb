//! Sending transactions, and hearing of others'.

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, getsockname,
        setsockopt, sockopt,
    },
};

use super::batch::{Batch, FAMILY_IPV4, message};

/// What failed between us and the kernel's netfilter.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("opening a netfilter socket: {0}")]
    Open(#[source] Errno),
    #[error("sending to netfilter: {0}")]
    Send(#[source] Errno),
    #[error("receiving from netfilter: {0}")]
    Receive(#[source] Errno),
    /// The kernel took nothing of the transaction.
    #[error("netfilter refused the transaction at message {message}: {errno}")]
    Refused {
        message: u32,
        #[source]
        errno: Errno,
    },
    #[error("watching netfilter: {0}")]
    Watch(#[source] io::Error),
    /// The kernel neither confirmed nor refused.
    #[error("netfilter did not answer")]
    Silent,
}

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NFNLGRP_NFTABLES: u32 = 7;
const NFT_MSG_DELTABLE: u16 = 10 << 8 | 2;
const NFT_MSG_GETRULE: u16 = 10 << 8 | 7;
const NFT_MSG_DELRULE: u16 = 10 << 8 | 8;
/// The table's name in a message about a table as in one about a rule.
const NFTA_TABLE_NAME: u16 = 1;
const F_REQUEST_DUMP: u16 = 0x301;

/// A netfilter socket of the network namespace that the opening thread was in.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    port: u32,
}

impl Socket {
    pub(crate) fn open() -> Result<Socket, Error> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(Error::Open)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0)).map_err(Error::Open)?;
        let port = getsockname::<NetlinkAddr>(fd.as_raw_fd()).map_err(Error::Open)?.pid();
        Ok(Socket { fd, port })
    }

    /// Applies the transaction, all of it or nothing. Takes as long as the kernel does: some 10 µs an element at
    /// worst.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<(), Error> {
        if batch.is_empty() {
            return Ok(());
        }
        let (bytes, awaited) = batch.finish();
        // A transaction is one datagram, so the send buffer must hold it; replies to a large one queue up too.
        let room = (bytes.len() + 4096).max(212_992);
        setsockopt(&self.fd, sockopt::SndBufForce, &room).map_err(Error::Send)?;
        self.send(&bytes)?;

        // The kernel works within `send`: every reply is queued when it returns.
        let (mut refused, mut confirmed) = (None, false);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = match socket::recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => length,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Receive(errno)),
            };
            for message in Messages(&buffer[..length]) {
                let (NLMSG_ERROR, Some(code)) = (message.kind, message.i32_at(0)) else { continue };
                match code {
                    0 => confirmed |= message.sequence == awaited,
                    _ => {
                        refused.get_or_insert((message.sequence, Errno::from_raw(-code)));
                    }
                }
            }
        }
        match (refused, confirmed) {
            (Some((message, errno)), _) => Err(Error::Refused { message, errno }),
            (None, true) => Ok(()),
            (None, false) => Err(Error::Silent),
        }
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        socket::sendto(self.fd.as_raw_fd(), bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())
            .map_err(Error::Send)?;
        Ok(())
    }

    /// Hands each message of a dump to `each`, which is given the body after the netlink header.
    pub(super) fn dump(&self, mut each: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let length = match socket::recv(self.fd.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
                Ok(length) => length,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(Error::Receive(errno)),
            };
            for message in Messages(&buffer[..length]) {
                match message.kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match message.i32_at(0) {
                            Some(0) => Ok(()),
                            code => Err(Error::Refused {
                                message: message.sequence,
                                errno: Errno::from_raw(-code.unwrap_or(0)),
                            }),
                        };
                    }
                    _ => each(message.body),
                }
            }
        }
    }

    /// Whether the table has any rule.
    fn has_rules(&self, table: &str) -> Result<bool, Error> {
        let mut request = Vec::new();
        message(&mut request, NFT_MSG_GETRULE, F_REQUEST_DUMP, 1, FAMILY_IPV4, 0, |a| {
            a.text(NFTA_TABLE_NAME, table);
        });
        self.send(&request)?;
        let mut found = false;
        match self.dump(|_| found = true) {
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => Ok(false),
            outcome => outcome.map(|()| found),
        }
    }

    /// Sends one request that is acknowledged, and waits for that.
    pub(super) fn request(&self, bytes: &[u8]) -> Result<(), Error> {
        self.send(bytes)?;
        self.dump(|_| {})
    }
}

/// Tells when somebody else takes a table's rules away.
#[derive(Debug)]
pub(crate) struct Monitor {
    events: tokio::io::unix::AsyncFd<OwnedFd>,
    questions: Socket,
    ours: u32,
    table: String,
}

impl Monitor {
    /// Watches the table for changes that do not come from `ours`.
    pub(crate) fn open(ours: &Socket, table: String) -> Result<Monitor, Error> {
        let fd = socket::socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
            SockProtocol::NetlinkNetFilter,
        )
        .map_err(Error::Open)?;
        socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 1 << (NFNLGRP_NFTABLES - 1)))
            .map_err(Error::Open)?;
        // SAFETY: the descriptor is open, and the `AsyncFd` that owns it closes it only after its registration.
        let events = unsafe { tokio::io::unix::AsyncFd::register(fd) }
            .map_err(|error| Error::Watch(error.into_parts().1))?;
        Ok(Monitor { events, questions: Socket::open()?, ours: ours.port, table })
    }

    /// Returns once the table or rules of it were deleted by another program. Cancel safe.
    pub(crate) async fn tampered(&self) -> Result<(), Error> {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let mut ready = self.events.readable().await.map_err(Error::Watch)?;
            let read = ready.try_io(|fd| Ok(socket::recv(fd.as_raw_fd(), &mut buffer, MsgFlags::empty())?));
            match read {
                Err(_would_block) => {}
                Ok(Ok(length)) => {
                    if Messages(&buffer[..length]).any(|message| self.is_tampering(&message)) {
                        return Ok(());
                    }
                }
                // A large transaction, ours or another's, overran the queue: nobody can tell what else was in it.
                Ok(Err(error)) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    if !self.questions.has_rules(&self.table)? {
                        return Ok(());
                    }
                }
                Ok(Err(error)) => return Err(Error::Watch(error)),
            }
        }
    }

    fn is_tampering(&self, message: &Message<'_>) -> bool {
        message.port != self.ours
            && matches!(message.kind, NFT_MSG_DELTABLE | NFT_MSG_DELRULE)
            && attributes(message.body.get(4..).unwrap_or_default()).any(|(kind, value)| {
                kind == NFTA_TABLE_NAME && value.strip_suffix(&[0]) == Some(self.table.as_bytes())
            })
    }
}

/// The netlink messages of one datagram.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    sequence: u32,
    port: u32,
    body: &'a [u8],
}

impl Message<'_> {
    fn i32_at(&self, offset: usize) -> Option<i32> {
        Some(i32::from_ne_bytes(self.body.get(offset..offset + 4)?.try_into().ok()?))
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let bytes = self.0;
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let length = word(0)? as usize;
        let message = Message {
            kind: u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?),
            sequence: word(8)?,
            port: word(12)?,
            body: bytes.get(16..length)?,
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// The attributes of a message, the flags of their kinds taken off.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(bytes.get(0..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(bytes.get(2..4)?.try_into().ok()?) & 0x3fff;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}
