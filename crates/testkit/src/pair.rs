//! A cluster of two nodes: two whole servers over one etcd, as if on two hosts.

use std::{fs::File, net::Ipv4Addr, os::fd::AsRawFd, process::Command, thread};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns, unshare};

use crate::{Cluster, etcd::Etcd, text};

/// Addresses for documentation (RFC 5737), which nobody has.
const FIRST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SECOND: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A network namespace. It lasts as long as this, or a process in it.
pub(crate) struct Namespace(File);

impl Namespace {
    fn new() -> Result<Self> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).context("making a network namespace")?;
            File::open("/proc/thread-self/ns/net").context("opening a network namespace").map(Self)
        });
        made.join().map_err(|_| anyhow!("the namespace's thread died"))?
    }

    /// Takes this thread there, and what it starts from now on.
    fn enter(&self) -> Result<()> {
        setns(&self.0, CloneFlags::CLONE_NEWNET).context("entering a network namespace")
    }

    /// Does some work there.
    pub(crate) fn within<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let inside = || self.enter().and_then(|()| work());
        let done = thread::scope(|scope| scope.spawn(inside).join());
        done.map_err(|_| anyhow!("the namespace's thread died"))?
    }

    /// A name by which other programs can open it.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

/// Two nodes, called `scenario` and `second`, whose namespaces have a wire between them, and the etcd that they share.
/// Both are told the same; only the second's keys have been brought over.
pub struct Pair {
    pub second: Cluster,
    pub first: Cluster,
    pub etcd: Etcd,
}

impl Pair {
    /// Starts both nodes and waits until they are ready. From now on this thread, with all that it starts, is in the
    /// first's namespace, which has a way to the second and to nobody else. `None`, and a word about it, where there is
    /// no etcd. `range` is as in [`Cluster::start`].
    pub fn start(range: u8) -> Result<Option<Self>> {
        let (here, there) = (Namespace::new()?, Namespace::new()?);
        here.enter()?;
        ip("link set lo up")?;
        ip(&format!("link add wire type veth peer name wire netns {}", there.path()))?;
        let wired = |address: Ipv4Addr| {
            ip("link set lo up")?;
            ip(&format!("address add {address}/24 dev wire"))?;
            ip("link set wire up")
        };
        wired(FIRST)?;
        there.within(|| wired(SECOND))?;

        let Some(etcd) = Etcd::start(FIRST)? else { return Ok(None) };
        let mut first = Cluster::new(range)?;
        first.address = FIRST;
        first.tell_server([etcd.argument()]);
        first.up()?;
        let mut second = first.again()?;
        (second.address, second.node, second.namespace) = (SECOND, "second", Some(there));
        (second.port, second.kubelet_port) = (first.port, first.kubelet_port);
        second.up()?;
        Ok(Some(Self { second, first, etcd }))
    }
}

fn ip(arguments: &str) -> Result<()> {
    text(Command::new("ip").args(arguments.split(' '))).map(drop)
}
