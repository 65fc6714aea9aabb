//! The links of this node, and when they change.

use std::{
    collections::BTreeMap,
    io,
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
};

use ipnet::Ipv4Net;
use nix::{
    errno::Errno,
    ifaddrs::getifaddrs,
    libc,
    net::if_::InterfaceFlags,
    sys::socket::{self, AddressFamily, LinkAddr, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType},
};
use tokio::io::unix::AsyncFd;

/// Why nothing is known of the links.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("reading the links: {0}")]
    Read(#[source] Errno),
    #[error("following the links: {0}")]
    Follow(#[source] io::Error),
}

/// A link of this node with other hosts in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) hardware: [u8; 6],
    /// This node's addresses in it, with the networks that they are of.
    pub(crate) addresses: Vec<Ipv4Net>,
}

/// A link, and how a frame is sent into it.
pub(crate) struct Port {
    pub(crate) link: Link,
    pub(crate) address: LinkAddr,
}

/// The Ethernet links of this thread's network namespace that are up and in which ARP is spoken, by their indexes.
pub(crate) fn read() -> Result<BTreeMap<u32, Port>, Error> {
    let spoken = |flags: InterfaceFlags| {
        flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING | InterfaceFlags::IFF_BROADCAST)
            && !flags.intersects(InterfaceFlags::IFF_NOARP | InterfaceFlags::IFF_LOOPBACK)
    };
    let mut ports = BTreeMap::<String, LinkAddr>::new();
    let mut networks = BTreeMap::<String, Vec<Ipv4Net>>::new();
    for entry in getifaddrs().map_err(Error::Read)?.filter(|entry| spoken(entry.flags)) {
        // An address may have a label of its own after the link's name.
        let name = entry.interface_name.split(':').next().unwrap_or_default().to_owned();
        let Some(address) = entry.address else { continue };
        let ipv4 = |storage: &socket::SockaddrStorage| storage.as_sockaddr_in().map(|a| a.ip());
        if let Some(link) = address.as_link_addr().filter(|link| link.hatype() == libc::ARPHRD_ETHER) {
            ports.insert(name, *link);
        } else if let (Some(address), Some(mask)) = (ipv4(&address), entry.netmask.as_ref().and_then(ipv4)) {
            let mask: Ipv4Addr = mask;
            networks.entry(name).or_default().extend(Ipv4Net::with_netmask(address, mask));
        }
    }
    let port = |(name, address): (String, LinkAddr)| {
        let addresses = networks.remove(&name).unwrap_or_default();
        let index = address.ifindex() as u32;
        Some((index, Port { link: Link { index, hardware: address.addr()?, addresses }, address }))
    };
    Ok(ports.into_iter().filter_map(port).collect())
}

/// Tells when links or their addresses change.
pub(crate) struct Links(AsyncFd<OwnedFd>);

const GROUPS: u32 = (libc::RTMGRP_LINK | libc::RTMGRP_IPV4_IFADDR) as u32;

impl Links {
    /// Follows the links of the network namespace that this thread is in.
    pub(crate) fn open() -> Result<Links, Error> {
        let open = || -> Result<OwnedFd, Errno> {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let fd =
                socket::socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
            socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, GROUPS))?;
            Ok(fd)
        };
        let fd = open().map_err(|errno| Error::Follow(errno.into()))?;
        Ok(Links(watched(fd).map_err(Error::Follow)?))
    }

    /// Returns once something has changed since the last call. Cancel safe.
    pub(crate) async fn changed(&self) -> Result<(), Error> {
        let mut buffer = [0; 4096];
        loop {
            let mut ready = self.0.readable().await.map_err(Error::Follow)?;
            // What exactly has changed, nobody reads: all is looked at anew. Messages may be cut short therefore.
            let mut read = || socket::recv(self.0.as_raw_fd(), &mut buffer, MsgFlags::empty());
            let first = ready.try_io(|_| Ok(read()?));
            match first {
                Err(_would_block) => continue,
                Ok(Err(error)) if error.raw_os_error() != Some(libc::ENOBUFS) => {
                    return Err(Error::Follow(error));
                }
                Ok(_) => {}
            }
            // Whatever else has come together, without waiting.
            while read().is_ok() {}
            return Ok(());
        }
    }
}

/// Has the descriptor watched by this runtime.
pub(crate) fn watched(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is open, and the `AsyncFd` that owns it closes it only after its registration.
    unsafe { AsyncFd::register(fd) }.map_err(|error| error.into_parts().1)
}
