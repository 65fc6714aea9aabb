//! What the host must offer, asked for before anything is started.

use std::{
    net::{Ipv4Addr, UdpSocket},
    path::Path,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
};

/// One thing that is missing, and what to do about it.
struct Missing {
    what: String,
    remedy: String,
}

/// Looks for what a node needs.
///
/// # Errors
/// Everything that is missing at once, each with its remedy.
pub(crate) fn preflight() -> Result<()> {
    let mut missing = Vec::new();
    let mut need = |there: bool, what: &str, remedy: &str| {
        if !there {
            missing.push(Missing { what: what.to_owned(), remedy: remedy.to_owned() });
        }
    };
    need(nix::unistd::geteuid().is_root(), "root", "run tiphys as root, for example with sudo");
    need(has_overlay(), "the overlay file system", "load it: modprobe overlay");
    need(
        Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
            || Path::new("/sys/fs/cgroup/memory").exists(),
        "cgroups",
        "mount them: mount -t cgroup2 none /sys/fs/cgroup",
    );
    for namespace in ["net", "pid", "ipc", "uts", "mnt"] {
        need(
            Path::new("/proc/self/ns").join(namespace).exists(),
            &format!("{namespace} namespaces"),
            "use a kernel with namespaces (CONFIG_NAMESPACES and its options)",
        );
    }
    need(loopback().is_ok(), "the loopback interface", "set it up: ip link set lo up");
    if nix::unistd::geteuid().is_root() {
        missing.extend(network()?);
    }
    if missing.is_empty() {
        return Ok(());
    }
    let list: Vec<_> = missing.iter().map(|m| format!("\n  - {}: {}", m.what, m.remedy)).collect();
    bail!("this host lacks what a node needs:{}", list.concat())
}

/// Fails where the loopback interface is down. Connecting a datagram socket only looks up the route.
fn loopback() -> std::io::Result<()> {
    UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.connect((Ipv4Addr::LOCALHOST, 9))
}

/// Whether the kernel has the overlay file system, or finds its module when asked for one, as it does for pods.
fn has_overlay() -> bool {
    // Without directories this mounts nothing: it is invalid where overlays are known.
    let tried = mount(None::<&str>, "/", Some("overlay"), MsFlags::empty(), None::<&str>);
    tried != Err(Errno::ENODEV)
}

/// What the pod network and the service proxy would miss.
fn network() -> Result<impl Iterator<Item = Missing>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let missing = runtime.block_on(tiphys_network::preflight()).context("trying a network namespace")?;
    Ok(missing.into_iter().map(|m| Missing {
        what: format!("{} ({})", m.feature, m.why),
        remedy: format!("load it: modprobe {}", m.module),
    }))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_loopback_that_is_down_is_told() {
        super::loopback().expect("up, as on every host");
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making network namespaces takes root");
            return;
        }
        let apart = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
            super::loopback().expect_err("down, as in every new namespace");
        });
        apart.join().expect("the namespace is as expected");
    }
}
