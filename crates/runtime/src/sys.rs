//! The few system calls that the libraries in use don't wrap, each behind a safe signature.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use nix::libc;

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Sets an extended attribute on an open file or directory.
pub(crate) fn set_xattr(file: impl AsFd, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the descriptor, the terminated name and the value's bytes live through the call.
    check(unsafe {
        libc::fsetxattr(file.as_fd().as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    })
}

/// Writes everything of the file system that holds `file` to its disk.
pub(crate) fn sync_file_system(file: impl AsFd) -> io::Result<()> {
    // SAFETY: takes a descriptor and touches no memory.
    check(unsafe { libc::syncfs(file.as_fd().as_raw_fd()) })
}

/// Forks with new namespaces, as `fork` does: both sides go on from here, `None` is the child.
///
/// # Safety
/// The caller's process must have one thread only, since the C library doesn't learn of the child.
pub(crate) unsafe fn fork_into(namespaces: libc::c_int) -> io::Result<Option<i32>> {
    let flags = libc::c_ulong::try_from(namespaces | libc::SIGCHLD).unwrap_or_default();
    // SAFETY: without CLONE_VM and with no stack given this is a fork; the caller vouches for one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) };
    match i32::try_from(pid).unwrap_or(-1) {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(None),
        child => Ok(Some(child)),
    }
}

/// Closes every descriptor from `first` on.
///
/// # Safety
/// Nothing may use a value that owns one of those descriptors afterwards.
pub(crate) unsafe fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the caller vouches for the descriptors.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Attaches a copy of the mount tree below `source` to `target`, read-only throughout when asked.
pub(crate) fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    let none = None::<&str>;
    mount(Some(source), target, none, MsFlags::MS_BIND, none)?;
    if read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID;
        mount(none, target, none, flags, none)?;
    }
    Ok(())
}

/// Gives every signal its default effect. What a process ignores, its programs would ignore too.
pub(crate) fn reset_signals() {
    // The kernel's own structure, which differs between machines but is nowhere larger; all zeros is the default.
    let action = [0u64; 8];
    for signal in 1..=64 {
        // SAFETY: the kernel reads the structure; the C library's function would refuse the two signals that it keeps
        // for itself, and those of KILL and STOP fail harmlessly.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null_mut::<libc::c_void>(),
                8,
            );
        }
    }
}
