//! Capabilities by name, within what this process itself may have.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tiphys_cri::v1::Capability;

use crate::error::{Error, Result};

/// All capabilities, at the place that is their number.
const NAMES: [&str; 41] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// What a container has when nothing is said, as container runtimes have agreed.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// The capabilities that this process can give away: its bounding set.
pub(crate) fn bounding() -> Result<BTreeSet<&'static str>> {
    let path = Path::new("/proc/self/status");
    let text = fs::read_to_string(path).map_err(Error::io("read", path))?;
    let line = text.lines().find_map(|line| line.strip_prefix("CapBnd:"));
    let bits = line.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    Ok(NAMES
        .iter()
        .enumerate()
        .filter(|(number, _)| bits >> number & 1 == 1)
        .map(|(_, name)| *name)
        .collect())
}

/// What a container gets: the default with what is dropped and added, or everything, within `bounding`.
pub(super) fn granted(
    wanted: &Capability,
    privileged: bool,
    bounding: &BTreeSet<&'static str>,
) -> Result<Vec<String>> {
    let mut granted: BTreeSet<&str> = if privileged { NAMES.into() } else { DEFAULT.into() };
    if !privileged {
        // Adding "ALL" first lets a drop of one name take it back; dropping "ALL" first lets an addition stay.
        if has_all(&wanted.add_capabilities) {
            granted = NAMES.into();
        }
        if has_all(&wanted.drop_capabilities) {
            granted.clear();
        }
        granted.extend(named(&wanted.add_capabilities)?);
        for name in named(&wanted.drop_capabilities)? {
            granted.remove(name);
        }
    }
    Ok(granted.intersection(bounding).map(|name| (*name).to_owned()).collect())
}

/// The ambient capabilities that are asked for and granted.
pub(super) fn ambient(wanted: &Capability, granted: &[String]) -> Result<Vec<String>> {
    let names = named(&wanted.add_ambient_capabilities)?;
    Ok(names.into_iter().filter(|name| granted.iter().any(|has| has == name)).map(str::to_owned).collect())
}

fn has_all(names: &[String]) -> bool {
    names.iter().any(|name| name.eq_ignore_ascii_case("ALL"))
}

fn named(names: &[String]) -> Result<Vec<&'static str>> {
    let mut known = Vec::new();
    for name in names.iter().filter(|name| !name.eq_ignore_ascii_case("ALL")) {
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        match NAMES.iter().find(|known| **known == full) {
            Some(name) => known.push(*name),
            None => return Err(Error::Invalid(format!("unknown capability {name:?}"))),
        }
    }
    Ok(known)
}

#[cfg(test)]
#[path = "capability_tests.rs"]
mod tests;
