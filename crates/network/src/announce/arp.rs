//! ARP for IPv4 over Ethernet (RFC 826), as it goes over the wire.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::socket::{self, LinkAddr, MsgFlags},
};
use tokio::io::unix::AsyncFd;

use super::{Error, plan::Station};
use crate::links::{self, Port};

/// Whose address an Ethernet frame of ours is for, and what it holds.
pub(super) type Frame = [u8; 42];

type Hardware = [u8; 6];

const EVERYBODY: Hardware = [0xff; 6];
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
/// Type of the frame, kinds and lengths of the addresses in it.
const ETHER_ARP: [u8; 8] = [0x08, 0x06, 0, 1, 0x08, 0, 6, 4];

/// A question who has an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Question {
    asker: (Hardware, Ipv4Addr),
    wanted: Ipv4Addr,
}

impl Question {
    /// Reads a frame. `None` if it is anything else, also if somebody speaks of an address that he has himself.
    pub(super) fn read(frame: &[u8]) -> Option<Question> {
        let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(frame.get(at..at + 4)?).ok()?));
        let operation = frame.get(20..22)?;
        let asks = frame.get(12..20)? == ETHER_ARP && operation == REQUEST.to_be_bytes();
        let asker = (frame.get(22..28)?.try_into().ok()?, address(28)?);
        let wanted = address(38)?;
        (asks && asker.1 != wanted).then_some(Question { asker, wanted })
    }

    /// The answer that somebody at `hardware` has the address.
    pub(super) fn answer(&self, hardware: Hardware) -> Frame {
        frame(self.asker.0, REPLY, (hardware, self.wanted), self.asker)
    }
}

/// What tells everybody in a link that somebody at `hardware` has the address now: as a question, which changes what is
/// known of it, and as an answer, which some heed who don't heed the question (RFC 5227, section 3).
pub(super) fn announcements(address: Ipv4Addr, hardware: Hardware) -> [Frame; 2] {
    let own = (hardware, address);
    [frame(EVERYBODY, REQUEST, own, ([0; 6], address)), frame(EVERYBODY, REPLY, own, own)]
}

fn frame(to: Hardware, operation: u16, from: (Hardware, Ipv4Addr), about: (Hardware, Ipv4Addr)) -> Frame {
    let mut frame = [0; 42];
    let parts: [&[u8]; 8] = [
        &to,
        &from.0,
        &ETHER_ARP,
        &operation.to_be_bytes(),
        &from.0,
        &from.1.octets(),
        &about.0,
        &about.1.octets(),
    ];
    let mut at = 0;
    for part in parts {
        frame[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    frame
}

/// A question, and where it came from.
pub(super) struct Request {
    question: Question,
    from: LinkAddr,
}

impl Request {
    pub(super) fn wanted(&self) -> Ipv4Addr {
        self.question.wanted
    }

    pub(super) fn link(&self) -> u32 {
        self.from.ifindex() as u32
    }
}

/// Hears and speaks ARP in all links of the network namespace that the opening thread was in.
pub(super) struct Arp(AsyncFd<OwnedFd>);

impl Arp {
    pub(super) fn open() -> Result<Arp, Error> {
        let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        let protocol = (libc::ETH_P_ARP as u16).to_be();
        // SAFETY: no memory is handed over.
        let fd = unsafe { libc::socket(libc::AF_PACKET, kind, protocol.into()) };
        let fd = Errno::result(fd).map_err(Error::Open)?;
        // SAFETY: the descriptor was opened just now, and nobody else has it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Arp(links::watched(fd).map_err(Error::Receive)?))
    }

    /// The next question. Cancel safe.
    pub(super) async fn request(&self) -> Result<Request, Error> {
        // More than a question is long, as frames are padded.
        let mut buffer = [0; 64];
        loop {
            let mut ready = self.0.readable().await.map_err(Error::Receive)?;
            let read = |fd: &AsyncFd<OwnedFd>| {
                socket::recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut buffer).map_err(io::Error::from)
            };
            match ready.try_io(read) {
                Err(_would_block) => {}
                // The kernel has dropped some, or a link went down while it was read from.
                Ok(Err(error)) if matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::ENETDOWN)) => {}
                Ok(Err(error)) => return Err(Error::Receive(error)),
                Ok(Ok((length, from))) => {
                    let question = Question::read(buffer.get(..length).unwrap_or_default());
                    if let (Some(question), Some(from)) = (question, from) {
                        return Ok(Request { question, from });
                    }
                }
            }
        }
    }

    pub(super) fn answer(&self, request: &Request, station: &Station) {
        self.send(&request.question.answer(station.hardware), &request.from);
    }

    pub(super) fn announce(&self, address: Ipv4Addr, station: &Station, ports: &BTreeMap<u32, Port>) {
        // A link that is gone by now is noticed by who follows them.
        if let Some(port) = ports.get(&station.link) {
            announcements(address, station.hardware).iter().for_each(|frame| self.send(frame, &port.address));
        }
    }

    /// Sends a frame, which may get lost like any other: who asked asks again.
    fn send(&self, frame: &Frame, link: &LinkAddr) {
        if let Err(error) = socket::sendto(self.0.as_raw_fd(), frame, link, MsgFlags::empty()) {
            tracing::debug!(%error, link = link.ifindex(), "ARP was not sent");
        }
    }
}

#[cfg(test)]
#[path = "arp_tests.rs"]
mod tests;
