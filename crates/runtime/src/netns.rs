//! Network namespaces that outlive the process that makes them, because a file holds them.

use std::fs::{self, File};
use std::path::Path;

use nix::libc;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use std::os::fd::{AsFd, AsRawFd};

use crate::error::{Error, Result};
use crate::sys;

/// Makes a network namespace with `lo` up, held by a mount on `path`.
pub(crate) fn create(path: &Path) -> Result<()> {
    File::create(path).map_err(Error::io("create", path))?;
    in_own_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET).map_err(Error::call("make a network namespace"))?;
        bring_up_loopback()?;
        let own = format!("/proc/self/task/{}/ns/net", nix::unistd::gettid());
        sys::bind(Path::new(&own), path, false).map_err(Error::io("hold network namespace on", path))
    })
}

/// Lets go of the namespace; that there is none is success.
pub(crate) fn remove(path: &Path) -> Result<()> {
    crate::files::unmount(path)?;
    crate::files::remove_file(path)
}

/// Runs `work` inside the namespace that `path` holds, in a thread of its own.
pub(crate) fn inside<T: Send>(path: &Path, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let namespace = File::open(path).map_err(Error::io("open", path))?;
    in_own_thread(|| {
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Error::io("enter", path))?;
        work()
    })
}

/// A thread that changed its namespaces can't be used for anything else: it ends after this.
fn in_own_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().spawn_scoped(scope, work).map_err(Error::call("start a thread"))?;
        thread.join().unwrap_or_else(|_| Err(Error::Network("namespace thread panicked".into())))
    })
}

nix::ioctl_write_ptr_bad!(set_interface_flags, libc::SIOCSIFFLAGS, libc::ifreq);

fn bring_up_loopback() -> Result<()> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, flags, None).map_err(Error::call("socket"))?;
    // SAFETY: a structure of integers and arrays of them, for which all zeros is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the kernel reads the request, which lives through the call.
    unsafe { set_interface_flags(socket.as_raw_fd(), &request) }.map_err(Error::call("bring up lo"))?;
    Ok(())
}

/// Counters of the namespace's interfaces, `lo` left out: name, then bytes and errors received and sent.
pub(crate) fn interfaces(path: &Path) -> Result<Vec<(String, [u64; 4])>> {
    inside(path, || {
        let own = format!("/proc/self/task/{}/net/dev", nix::unistd::gettid());
        let text = fs::read_to_string(&own).map_err(Error::io("read", Path::new(&own)))?;
        Ok(parse_interfaces(&text))
    })
}

fn parse_interfaces(text: &str) -> Vec<(String, [u64; 4])> {
    let parse = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let numbers: Vec<u64> = rest.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let counters = [*numbers.first()?, *numbers.get(2)?, *numbers.get(8)?, *numbers.get(10)?];
        Some((name.trim().to_owned(), counters))
    };
    text.lines().filter_map(parse).filter(|(name, _)| name != "lo").collect()
}

#[cfg(test)]
#[path = "netns_tests.rs"]
mod tests;
