//! Forgetting connections whose endpoint is gone.
//!
//! A connection's destination is chosen once, by its first packet. A UDP client that keeps one socket would go on
//! talking to an endpoint that is no more, as long as it talks.

use std::net::SocketAddrV4;

use nix::errno::Errno;

use super::{
    batch::{FAMILY_IPV4, message},
    socket::{Error, Socket, attributes},
};

const SUBSYS_CTNETLINK: u16 = 1;
const GET: u16 = SUBSYS_CTNETLINK << 8 | 1;
const DELETE: u16 = SUBSYS_CTNETLINK << 8 | 2;
const F_REQUEST: u16 = 0x1;
const F_ACK: u16 = 0x4;
const F_DUMP: u16 = 0x300;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const ID: u16 = 12;
const NESTED: u16 = 0x8000;

/// One connection as its first packet and its answers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flow {
    pub(crate) protocol: u8,
    /// Where the client sent it.
    pub(crate) destination: SocketAddrV4,
    /// Who answers it.
    pub(crate) endpoint: SocketAddrV4,
}

/// Forgets every IPv4 connection that `stale` says so of, and tells how many.
pub(crate) fn forget(socket: &Socket, stale: impl Fn(&Flow) -> bool) -> Result<usize, Error> {
    let mut dump = Vec::new();
    message(&mut dump, GET, F_REQUEST | F_DUMP, 1, FAMILY_IPV4, 0, |_| {});
    socket.send(&dump)?;
    let mut doomed: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    socket.dump(|body| {
        if let Some((flow, original, id)) = parse(body)
            && stale(&flow)
        {
            doomed.push((original.to_vec(), id.to_vec()));
        }
    })?;
    let mut forgotten = 0;
    for (original, id) in doomed {
        let mut request = Vec::new();
        message(&mut request, DELETE, F_REQUEST | F_ACK, 2, FAMILY_IPV4, 0, |a| {
            a.bytes(TUPLE_ORIGINAL | NESTED, &original);
            a.bytes(ID, &id);
        });
        match socket.request(&request) {
            Ok(()) => forgotten += 1,
            // It ended by itself meanwhile.
            Err(Error::Refused { errno: Errno::ENOENT, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(forgotten)
}

fn parse(body: &[u8]) -> Option<(Flow, &[u8], &[u8])> {
    let (mut original, mut reply, mut id) = (None, None, None);
    for (kind, value) in attributes(body.get(4..)?) {
        match kind {
            TUPLE_ORIGINAL => original = Some(value),
            TUPLE_REPLY => reply = Some(value),
            ID => id = Some(value),
            _ => {}
        }
    }
    let original = original?;
    let (protocol, _, destination) = tuple(original)?;
    let (_, endpoint, _) = tuple(reply?)?;
    Some((Flow { protocol, destination, endpoint }, original, id?))
}

/// Protocol, source and destination.
fn tuple(bytes: &[u8]) -> Option<(u8, SocketAddrV4, SocketAddrV4)> {
    let nested = |bytes, wanted| attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let (addresses, protocol) = (nested(bytes, 1)?, nested(bytes, 2)?);
    let address = |kind| Some(<[u8; 4]>::try_from(nested(addresses, kind)?).ok()?.into());
    let port = |kind| Some(u16::from_be_bytes(nested(protocol, kind)?.try_into().ok()?));
    let number = *nested(protocol, 1)?.first()?;
    Some((number, SocketAddrV4::new(address(1)?, port(2)?), SocketAddrV4::new(address(2)?, port(3)?)))
}
