//! The process that holds a pod's namespaces: it can do nothing, and sees nothing.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::libc;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, chdir, pipe2, pivot_root, setgroups, sethostname, setresgid, setresuid};

use super::memory;
use super::protocol::PodSpec;
use crate::error::{Error, Result};
use crate::{files, sys};

/// Nobody in particular: an ID that no image's own users have.
const NOBODY: u32 = 65_535;

/// Forks the pause process into new namespaces and waits until it is set up. The caller has one thread.
pub(super) fn start(dir: &Path, spec: &PodSpec) -> Result<i32> {
    let root = dir.join("empty");
    files::create_dir(&root)?;
    let mut namespaces = libc::CLONE_NEWNS;
    for (wanted, flag) in [
        (spec.own_ipc, libc::CLONE_NEWIPC),
        (spec.own_uts, libc::CLONE_NEWUTS),
        (spec.shared_pids, libc::CLONE_NEWPID),
    ] {
        if wanted {
            namespaces |= flag;
        }
    }
    let (ready, tell) = pipe2(OFlag::O_CLOEXEC).map_err(Error::call("pipe"))?;
    // SAFETY: the shim has one thread.
    match unsafe { sys::fork_into(namespaces) }.map_err(Error::call("fork the pause process"))? {
        Some(pid) => {
            drop(tell);
            let mut problem = String::new();
            File::from(ready)
                .read_to_string(&mut problem)
                .map_err(Error::call("wait for the pause process"))?;
            if problem.is_empty() { Ok(pid) } else { Err(Error::Shim(problem)) }
        }
        None => {
            drop(ready);
            let mut tell = File::from(tell);
            let mappings = memory::mappings();
            if let Err(error) = confine(&root, spec) {
                // The shim may be gone; there is nobody else to tell.
                let _ = write!(tell, "{error}");
                std::process::exit(1);
            }
            memory::let_go_of_clean_pages(mappings);
            rest(tell)
        }
    }
}

fn confine(root: &Path, spec: &PodSpec) -> Result<()> {
    if let Some(path) = &spec.network {
        let namespace = File::open(path).map_err(Error::io("open", path))?;
        setns(namespace.as_fd(), CloneFlags::CLONE_NEWNET).map_err(Error::io("enter", path))?;
    }
    if spec.own_uts {
        sethostname(&spec.hostname).map_err(Error::call("set the host name"))?;
    }
    for (name, value) in &spec.sysctls {
        let path = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&path, value).map_err(Error::io("set", &path))?;
    }
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(Error::call("unshare mounts"))?;
    sys::bind(root, root, true).map_err(Error::io("bind", root))?;
    chdir(root).map_err(Error::io("enter", root))?;
    pivot_root(".", ".").map_err(Error::io("change root to", root))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(Error::call("leave the host's files"))?;
    chdir("/").map_err(Error::call("enter the empty root"))?;

    nix::sys::prctl::set_name(c"pause").map_err(Error::call("set the name"))?;
    for capability in 0..=63 {
        // SAFETY: takes integers. The kernel refuses the numbers that it doesn't know, which is what ends the list.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } != 0 {
            break;
        }
    }
    setgroups(&[]).map_err(Error::call("drop groups"))?;
    let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
    setresgid(gid, gid, gid).map_err(Error::call("drop the group"))?;
    setresuid(uid, uid, uid).map_err(Error::call("drop the user"))?;
    nix::sys::prctl::set_no_new_privs().map_err(Error::call("renounce privileges"))?;
    nix::sys::prctl::set_dumpable(false).map_err(Error::call("hide memory"))
}

/// Says that all is ready by closing `tell`, then reaps orphans (it may be the pod's first process) until it is told
/// to end.
fn rest(tell: File) -> ! {
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        wanted.add(signal);
    }
    // Blocked already, since the shim blocks them; a failure would only make the wait below return at once.
    if wanted.thread_block().is_err() {
        std::process::exit(1);
    }
    debug_assert!(tell.as_raw_fd() > 2);
    std::mem::forget(tell);
    // SAFETY: nothing in this process uses a descriptor from here on; the one just forgotten closes with the rest.
    if unsafe { sys::close_from(0) }.is_err() {
        std::process::exit(1);
    }
    loop {
        match wanted.wait() {
            Ok(Signal::SIGCHLD) => {
                while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
                    if status == WaitStatus::StillAlive {
                        break;
                    }
                }
            }
            Ok(_) => std::process::exit(0),
            Err(_) => {}
        }
    }
}
