//! The ranges of user and group ids that pods have for themselves (`hostUsers: false`, KEP-127).
//!
//! A pod's range is written in the pod's own directory, so that it is found again after a restart and free when the
//! directory goes.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use tiphys_cri::v1;

use crate::volumes::PodDir;

/// Ids that a pod has. A range begins at a multiple of it, and the first belongs to the host.
const LENGTH: u32 = 65_536;
/// Where a pod's first id is written.
const FILE: &str = "userns";

/// Why a pod has no range.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A file operation failed.
    #[error("create user namespace: {step} {path}: {source}")]
    Io {
        /// What was tried.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Every range belongs to a pod.
    #[error("create user namespace: no range of user ids is free")]
    Full,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> UsernsError {
    let path = path.to_owned();
    move |source| UsernsError::Io { step, path, source }
}

/// Gives ranges to the pods of one node.
#[derive(Debug, Default)]
pub(crate) struct Ranges(Mutex<()>);

impl Ranges {
    /// The range of a pod, its own since its first call. Does file operations.
    pub(crate) fn of(&self, dir: &PodDir) -> Result<v1::UserNamespace, UsernsError> {
        let _one = self.0.lock();
        let file = dir.path().join(FILE);
        if let Some(first) = read(&file) {
            return Ok(of_pod(first));
        }
        let pods = dir.path().parent().unwrap_or(dir.path());
        let entries = fs::read_dir(pods).map_err(failed("list", pods))?;
        let used: BTreeSet<u32> = entries.flatten().filter_map(|e| read(&e.path().join(FILE))).collect();
        let first = free(&used).ok_or(UsernsError::Full)?;
        fs::write(&file, first.to_string()).map_err(failed("write", &file))?;
        Ok(of_pod(first))
    }
}

/// What a pod's file says; one that a crash left half written says nothing, and nobody has used it yet.
fn read(file: &Path) -> Option<u32> {
    let first: u32 = fs::read_to_string(file).ok()?.parse().ok()?;
    (first > 0 && first.is_multiple_of(LENGTH)).then_some(first)
}

/// The lowest range that nobody has. The last one would hold the id that stands for none.
fn free(used: &BTreeSet<u32>) -> Option<u32> {
    (1..u32::MAX / LENGTH).map(|n| n * LENGTH).find(|first| !used.contains(first))
}

fn of_pod(first: u32) -> v1::UserNamespace {
    let ids = vec![v1::IdMapping { host_id: first, container_id: 0, length: LENGTH }];
    v1::UserNamespace { mode: v1::NamespaceMode::Pod as i32, uids: ids.clone(), gids: ids }
}

/// The host's own ids.
pub(crate) fn of_host() -> v1::UserNamespace {
    v1::UserNamespace { mode: v1::NamespaceMode::Node as i32, uids: vec![], gids: vec![] }
}

/// Puts a sandbox into a namespace.
pub(crate) fn enter_sandbox(config: &mut v1::PodSandboxConfig, namespace: &v1::UserNamespace) {
    let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    if let Some(options) = security.and_then(|security| security.namespace_options.as_mut()) {
        options.userns_options = Some(namespace.clone());
    }
}

/// Puts a container into its sandbox's namespace. What it mounts belongs there to whom it belongs on the host.
pub(crate) fn enter_container(config: &mut v1::ContainerConfig, namespace: &v1::UserNamespace) {
    let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut());
    if let Some(options) = security.and_then(|security| security.namespace_options.as_mut()) {
        options.userns_options = Some(namespace.clone());
    }
    for mount in &mut config.mounts {
        mount.uid_mappings.clone_from(&namespace.uids);
        mount.gid_mappings.clone_from(&namespace.gids);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::PodUid;

    #[test]
    fn each_pod_has_a_range_of_its_own_until_it_goes() {
        let root = tempfile::tempdir().unwrap();
        let dir = |uid: &str| {
            let dir = PodDir::new(root.path(), &PodUid::parse(uid).unwrap());
            fs::create_dir_all(dir.path()).unwrap();
            dir
        };
        let ranges = Ranges::default();
        let first = |uid: &str| ranges.of(&dir(uid)).unwrap().uids[0].host_id;
        assert_eq!([first("a"), first("b"), first("a")], [65_536, 131_072, 65_536]);
        fs::remove_dir_all(dir("a").path()).unwrap();
        assert_eq!([first("c"), first("b"), first("d")], [65_536, 131_072, 196_608]);
        fs::write(dir("e").path().join(FILE), "65").unwrap();
        assert_eq!(Ranges::default().of(&dir("e")).unwrap(), of_pod(262_144), "what is no range is replaced");
        let all: BTreeSet<u32> = (1..u32::MAX / LENGTH).map(|n| n * LENGTH).collect();
        assert_eq!(free(&all), None);
        assert!(all.last().unwrap().checked_add(LENGTH).is_some());
    }

    #[test]
    fn sandbox_containers_and_mounts_share_the_mapping() {
        let options = || Some(v1::NamespaceOption::default());
        let mut sandbox = v1::PodSandboxConfig {
            linux: Some(v1::LinuxPodSandboxConfig {
                security_context: Some(v1::LinuxSandboxSecurityContext {
                    namespace_options: options(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut container = v1::ContainerConfig {
            mounts: vec![v1::Mount::default()],
            linux: Some(v1::LinuxContainerConfig {
                security_context: Some(v1::LinuxContainerSecurityContext {
                    namespace_options: options(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..Default::default()
        };
        for namespace in [of_pod(65_536), of_host()] {
            enter_sandbox(&mut sandbox, &namespace);
            enter_container(&mut container, &namespace);
            let of_sandbox = sandbox.linux.clone().and_then(|l| l.security_context?.namespace_options);
            let of_container = container.linux.clone().and_then(|l| l.security_context?.namespace_options);
            assert_eq!(of_sandbox.unwrap().userns_options.as_ref(), Some(&namespace));
            assert_eq!(of_container.unwrap().userns_options.as_ref(), Some(&namespace));
            assert_eq!(container.mounts[0].uid_mappings, namespace.uids);
            assert_eq!(container.mounts[0].gid_mappings, namespace.gids);
        }
    }
}
