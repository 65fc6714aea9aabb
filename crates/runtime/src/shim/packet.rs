//! One packet: a JSON document and up to three descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect,
    recvmsg, sendmsg, socket,
};
use nix::sys::stat::Mode;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The largest document that a packet carries; larger things go through files.
pub(crate) const MAX_PACKET: usize = 16 * 1024;

/// Calls `with` with a path to the same socket that is short enough for an address, however deep its directory lies.
pub(crate) fn with_short_path<T>(path: &Path, with: impl FnOnce(&Path) -> nix::Result<T>) -> nix::Result<T> {
    let (Some(dir), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let dir = open(dir, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    with(&Path::new(&format!("/proc/self/fd/{}", dir.as_raw_fd())).join(name))
}

/// Connects to the shim that listens on `path`, without waiting.
pub(crate) fn dial(path: &Path) -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None)?;
    with_short_path(path, |short| connect(socket.as_raw_fd(), &UnixAddr::new(short)?))?;
    Ok(socket)
}

/// Sends one packet; `WouldBlock` when the other side doesn't read.
pub(crate) fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(value)?;
    if text.len() > MAX_PACKET {
        return Err(io::Error::other(format!("a packet of {} bytes is too large", text.len())));
    }
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        let flags = MsgFlags::MSG_NOSIGNAL;
        match sendmsg::<UnixAddr>(socket.as_raw_fd(), &[IoSlice::new(&text)], control, flags, None) {
            Err(Errno::EINTR) => continue,
            other => return other.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives one packet; `None` when the other side has closed, `WouldBlock` when there is none yet.
pub(crate) fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = vec![0; MAX_PACKET];
    let mut control = nix::cmsg_space!([RawFd; 3]);
    let mut fds = Vec::new();
    let count = {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let message = loop {
            let flags = MsgFlags::MSG_CMSG_CLOEXEC;
            match recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Err(Errno::EINTR) => continue,
                Err(Errno::ECONNRESET) => return Ok(None),
                other => break other?,
            }
        };
        for part in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(received) = part {
                for fd in received {
                    // SAFETY: the kernel just made this descriptor for us alone.
                    fds.push(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
        if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
            return Err(io::Error::other("a packet is too large"));
        }
        message.bytes
    };
    if count == 0 {
        return Ok(None);
    }
    Ok(Some((serde_json::from_slice(&buffer[..count])?, fds)))
}

/// Whether nothing more can be read from `fd` now, as opposed to a failure.
pub(crate) fn is_would_block(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
}

/// The descriptors as borrowed ones.
pub(crate) fn borrow(fds: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    fds.iter().map(AsFd::as_fd).collect()
}
