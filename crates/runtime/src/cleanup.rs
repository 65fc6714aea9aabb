//! Taking everything down that a runtime made, also when nothing of it runs any more.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::error::{Error, Result};
use crate::record::{ContainerRecord, Phase, SandboxRecord};
use crate::runtime::group_of;
use crate::{cgroup, files};

/// How long killed processes may take to leave their groups.
const PATIENCE: Duration = Duration::from_secs(30);

/// Kills every process of the runtime below `root`, shims and containers, and removes its mounts, network namespaces
/// and control groups. Images stay, and the records of its pods: the next runtime finds that they have ended, as after
/// a loss of power, and can still show what they wrote.
///
/// No runtime may have `root` open. That there is nothing left to remove is success. The pod network keeps its own
/// records and is cleaned up by whoever runs it.
///
/// # Errors
/// The first thing that couldn't be removed; what comes after it was tried nevertheless.
pub fn cleanup(root: &Path, instance: &str) -> Result<()> {
    let root = match fs::canonicalize(root) {
        Ok(root) => root,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("find", root)(error)),
    };
    let host = cgroup::Host::detect()?;
    let mut groups = host.tracking(&group_of(instance));
    groups.extend(host.directories(&format!("{}-pods", group_of(instance))));
    for container in container_groups(&root.join("pods")) {
        groups.extend(host.directories(&container));
    }
    let removed = remove_groups(&groups);
    let unmounted = unmount_below(&root);
    removed.and(unmounted)?;
    record_ends(&root.join("pods"))?;
    files::remove_dir(&root.join("exe"))
}

fn list(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Records of every pod that it is not running any more. What can't be read is left for the next runtime to judge.
fn record_ends(pods: &Path) -> Result<()> {
    for path in list(pods).map(|pod| pod.join("sandbox.json")) {
        if let Ok(mut record) = files::read_json::<SandboxRecord>(&path)
            && record.phase == Phase::Ready
        {
            record.phase = Phase::Stopped;
            files::write_json_durably(&path, &record)?;
        }
    }
    Ok(())
}

/// The groups that containers were put into, as far as their records can be read.
fn container_groups(pods: &Path) -> Vec<String> {
    let containers = list(pods).flat_map(|pod| list(&pod.join("c")));
    let records =
        containers.filter_map(|dir| files::read_json::<ContainerRecord>(&dir.join("container.json")).ok());
    records.map(|record| record.cgroup).collect()
}

fn remove_groups(groups: &[PathBuf]) -> Result<()> {
    let deadline = std::time::Instant::now() + PATIENCE;
    let mut first = Ok(());
    for group in groups {
        loop {
            cgroup::kill_all(std::slice::from_ref(group));
            match cgroup::remove(group) {
                Ok(()) => break,
                // Version 1 has no event for a group that becomes empty.
                Err(_) if std::time::Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(10))
                }
                Err(error) => {
                    first = first.and(Err(Error::io("remove cgroup", group)(error)));
                    break;
                }
            }
        }
    }
    first
}

/// Unmounts everything below `root`, the innermost first.
pub(crate) fn unmount_below(root: &Path) -> Result<()> {
    let path = Path::new("/proc/self/mountinfo");
    let table = fs::read(path).map_err(Error::io("read", path))?;
    let mut first = Ok(());
    for point in mount_points(&table).into_iter().rev().filter(|point| point.starts_with(root)) {
        first = first.and(files::unmount(&point));
    }
    first
}

/// The mount points of a `mountinfo` table, in its order.
fn mount_points(table: &[u8]) -> Vec<PathBuf> {
    let fields =
        table.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    fields.map(|field| PathBuf::from(OsString::from_vec(unescape(field)))).collect()
}

/// The kernel writes blanks, tabs, newlines and backslashes as three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.filter(|_| *byte == b'\\').and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(value) => {
                plain.push(value);
                rest = &after[3..];
            }
            None => {
                plain.push(*byte);
                rest = after;
            }
        }
    }
    plain
}

#[cfg(test)]
#[path = "cleanup_tests.rs"]
mod tests;
