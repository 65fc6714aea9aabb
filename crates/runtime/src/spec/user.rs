//! Who a container's process runs as, by the files of its image.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;
use tiphys_cri::v1::{LinuxContainerSecurityContext, SupplementalGroupsPolicy};

use crate::error::{Error, Result};

/// The largest `/etc/passwd` or `/etc/group` that is read.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// A process' identity.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// The user's directory, `/` when the image doesn't know the user.
    #[serde(default)]
    pub(crate) home: String,
}

/// The user that `security` asks for, or the image's own, looked up in the image's files below `root`.
pub(super) fn resolve(
    root: &Path,
    image_user: &str,
    security: &LinuxContainerSecurityContext,
) -> Result<User> {
    let passwd = read_inside(root, "etc/passwd")?;
    let groups = read_inside(root, "etc/group")?;
    find(&passwd, &groups, image_user, security)
}

fn find(
    passwd: &str,
    groups: &str,
    image_user: &str,
    security: &LinuxContainerSecurityContext,
) -> Result<User> {
    let (wanted, mut wanted_group) = match (&security.run_as_user, security.run_as_username.as_str()) {
        (Some(uid), _) => (uid.value.to_string(), None),
        (None, "") => match image_user.split_once(':') {
            Some((user, group)) => (user.to_owned(), Some(group.to_owned())),
            None => (image_user.to_owned(), None),
        },
        (None, name) => (name.to_owned(), None),
    };
    if let Some(gid) = &security.run_as_group {
        wanted_group = Some(gid.value.to_string());
    }
    let wanted = if wanted.is_empty() { "0".to_owned() } else { wanted };
    let number = |text: &str| text.parse::<u32>().ok();
    let entries =
        || passwd.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 6);
    // A name that is all digits is a number first, as it is everywhere in this field.
    let entry = match number(&wanted) {
        Some(uid) => entries().find(|line| number(line[2]) == Some(uid)),
        None => entries().find(|line| line[0] == wanted),
    };
    let uid = match (number(&wanted), &entry) {
        (Some(uid), _) => uid,
        (None, Some(line)) => number(line[2])
            .ok_or_else(|| Error::Invalid(format!("user {wanted:?} has no valid number in the image")))?,
        (None, None) => {
            return Err(Error::Invalid(format!("no user {wanted:?} is in the image's /etc/passwd")));
        }
    };
    let known_groups =
        || groups.lines().map(|line| line.split(':').collect::<Vec<_>>()).filter(|line| line.len() >= 3);
    let gid = match wanted_group.filter(|group| !group.is_empty()) {
        Some(group) => match number(&group) {
            Some(gid) => gid,
            None => known_groups()
                .find(|line| line[0] == group)
                .and_then(|line| number(line[2]))
                .ok_or_else(|| Error::Invalid(format!("no group {group:?} is in the image's /etc/group")))?,
        },
        None => entry.as_ref().and_then(|line| number(line[3])).unwrap_or(0),
    };
    let mut all = vec![gid];
    if security.supplemental_groups_policy() == SupplementalGroupsPolicy::Merge
        && let Some(line) = &entry
    {
        let member =
            |group: &Vec<&str>| group.get(3).is_some_and(|list| list.split(',').any(|name| name == line[0]));
        all.extend(known_groups().filter(member).filter_map(|group| number(group[2])));
    }
    for group in &security.supplemental_groups {
        let group =
            u32::try_from(*group).map_err(|_| Error::Invalid(format!("group {group} is out of range")))?;
        all.push(group);
    }
    let mut groups = Vec::new();
    for group in all {
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    let home =
        entry.map(|line| line[5].to_owned()).filter(|home| !home.is_empty()).unwrap_or_else(|| "/".into());
    Ok(User { uid, gid, groups, home })
}

/// Reads a file of the image, whatever links it is reached by; an absent one is empty.
fn read_inside(root: &Path, path: &str) -> Result<String> {
    let at = || root.join(path);
    let dir = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(Error::io("open", root))?;
    // Not blocking, should it be a pipe.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&dir, path, how) {
        Ok(file) => File::from(file),
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(String::new()),
        Err(error) => return Err(Error::io("open", &at())(error)),
    };
    if !file.metadata().map_err(Error::io("look at", &at()))?.is_file() {
        return Ok(String::new());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", &at()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[path = "user_tests.rs"]
mod tests;
