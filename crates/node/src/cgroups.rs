//! The cgroups of pods and of their classes, on either version of the kernel's interface.
//!
//! ```text
//! <root>/pod<uid>                 Guaranteed
//! <root>/burstable/pod<uid>
//! <root>/besteffort/pod<uid>
//! ```
//! `<root>` belongs to one cluster alone. The runtime puts sandboxes and containers below a pod's directory.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::key::PodUid;
use crate::qos::{self, PodResources, QosClass};

/// The kernel's period for CPU quotas, in microseconds.
const PERIOD: i64 = 100_000;
const MIN_SHARES: i64 = 2;
const MAX_SHARES: i64 = 262_144;

/// A cgroup file could not be written.
#[derive(Debug, thiserror::Error)]
#[error("{step} {path}: {source}")]
pub struct CgroupError {
    step: &'static str,
    path: PathBuf,
    source: io::Error,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> CgroupError {
    let path = path.to_owned();
    move |source| CgroupError { step, path, source }
}

/// How the host has its cgroups.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One hierarchy with all controllers.
    V2 { mount: PathBuf },
    /// A hierarchy a controller, and which controllers lie there.
    V1 { mounts: Vec<(PathBuf, Vec<String>)> },
}

/// The cluster's part of the host's cgroups.
#[derive(Clone, Debug)]
pub struct Cgroups {
    layout: Layout,
    root: String,
    pids_limit: Option<i64>,
}

/// CPU shares of cgroup v1 for an amount of millicores.
pub fn shares(milli: i64) -> i64 {
    if milli <= 0 { MIN_SHARES } else { (milli.saturating_mul(1024) / 1000).clamp(MIN_SHARES, MAX_SHARES) }
}

/// The weight of cgroup v2 that the runtimes agree to write for such shares (KEP-2254's formula).
fn weight(shares: i64) -> i64 {
    1 + ((shares - MIN_SHARES) * 9999) / (MAX_SHARES - MIN_SHARES)
}

/// The millicores that such shares stand for.
pub fn milli_of_shares(shares: i64) -> i64 {
    (shares.saturating_mul(1000) + 1023) / 1024
}

/// CPU quota in microseconds a [`PERIOD`] for an amount of millicores; at least one millisecond.
pub fn quota(milli: i64) -> i64 {
    (milli.saturating_mul(PERIOD) / 1000).max(1000)
}

/// The period that [`quota`] counts in.
pub fn period() -> i64 {
    PERIOD
}

impl Cgroups {
    /// Finds the host's cgroups. `root` is the path of the cluster's own group, `/kubepods-1a2b3c4d` for instance.
    pub fn discover(root: &str, pids_limit: Option<i64>) -> Result<Self, CgroupError> {
        let path = Path::new("/proc/self/mountinfo");
        let text = fs::read_to_string(path).map_err(failed("read", path))?;
        Ok(Self { layout: layout(&text), root: format!("/{}", root.trim_matches('/')), pids_limit })
    }

    /// Whether the host has one hierarchy for all controllers.
    pub fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2 { .. })
    }

    /// The path of a pod's group, which the runtime gets as the parent of what it makes.
    pub fn pod_path(&self, uid: &PodUid, class: QosClass) -> String {
        match class {
            QosClass::Guaranteed => format!("{}/pod{uid}", self.root),
            QosClass::Burstable => format!("{}/burstable/pod{uid}", self.root),
            QosClass::BestEffort => format!("{}/besteffort/pod{uid}", self.root),
        }
    }

    /// Makes the cluster's group and those of the classes. Safe to repeat.
    pub fn prepare(&self, allocatable_milli: i64, allocatable_memory: i64) -> Result<(), CgroupError> {
        let root = self.root.clone();
        self.make(&root)?;
        self.set_shares(&root, shares(allocatable_milli))?;
        if allocatable_memory > 0 {
            self.set(
                &root,
                "memory",
                "memory.limit_in_bytes",
                "memory.max",
                &allocatable_memory.to_string(),
            )?;
        }
        for class in ["burstable", "besteffort"] {
            let path = format!("{root}/{class}");
            self.make(&path)?;
            self.set_shares(&path, MIN_SHARES)?;
        }
        Ok(())
    }

    /// Gives the burstable class the shares that its pods ask for in all.
    pub fn set_burstable_shares(&self, milli: i64) -> Result<(), CgroupError> {
        self.set_shares(&format!("{}/burstable", self.root), shares(milli))
    }

    /// Makes a pod's group with its limits. Safe to repeat. The limits of a group that is there are only widened, for
    /// its containers may still have what they had; answers whether all limits are now as the pod asks for.
    pub fn make_pod(&self, pod: &Pod, uid: &PodUid) -> Result<bool, CgroupError> {
        let class = qos::class(pod);
        let path = self.pod_path(uid, class);
        let fresh = self.directories(&path).iter().all(|directory| !directory.exists());
        self.make(&path)?;
        if let Some(limit) = self.pids_limit {
            self.set(&path, "pids", "pids.max", "pids.max", &limit.to_string())?;
        }
        self.limit(pod, &path, fresh)
    }

    /// Gives a pod's group the limits that the pod asks for, narrower ones too. What is in it must fit.
    pub fn set_pod(&self, pod: &Pod, uid: &PodUid) -> Result<(), CgroupError> {
        self.limit(pod, &self.pod_path(uid, qos::class(pod)), true).map(drop)
    }

    fn limit(&self, pod: &Pod, path: &str, narrow: bool) -> Result<bool, CgroupError> {
        let sums: PodResources = qos::pod_resources(pod);
        let best_effort = qos::class(pod) == QosClass::BestEffort;
        self.set_shares(path, if best_effort { MIN_SHARES } else { shares(sums.cpu_request) })?;
        let mut exact = true;
        let mut allowed = |wanted: Option<i64>, now: Option<i64>| {
            let narrower = wanted.is_some_and(|wanted| now.is_none_or(|now| wanted < now));
            exact &= narrow || !narrower;
            wanted.filter(|_| narrow || !narrower)
        };
        let now = self.limit_now(path, "cpu", "cpu.cfs_quota_us", "cpu.max");
        if let Some(quota) = allowed(sums.cpu_limit.map(quota), now) {
            self.set_quota(path, quota)?;
        }
        let now = self.limit_now(path, "memory", "memory.limit_in_bytes", "memory.max");
        if let Some(limit) = allowed(sums.memory_limit.filter(|l| *l > 0), now) {
            self.set(path, "memory", "memory.limit_in_bytes", "memory.max", &limit.to_string())?;
        }
        Ok(exact)
    }

    /// A limit that a group has; `None` for unlimited, which version 1 says as -1 or as nearly all 64 bits.
    fn limit_now(&self, path: &str, controller: &str, v1: &str, v2: &str) -> Option<i64> {
        let file = if self.is_v2() { v2 } else { v1 };
        let text = fs::read_to_string(self.directory(path, controller)?.join(file)).ok()?;
        let number: i64 = text.split_whitespace().next()?.parse().ok()?;
        Some(number).filter(|number| (1..1 << 60).contains(number))
    }

    /// Removes a pod's group wherever it is, what the runtime left below it included. Processes that still live in
    /// it keep it alive: then the error is the kernel's EBUSY.
    pub fn remove_pod(&self, uid: &PodUid) -> Result<(), CgroupError> {
        for class in [QosClass::Guaranteed, QosClass::Burstable, QosClass::BestEffort] {
            for directory in self.directories(&self.pod_path(uid, class)) {
                remove_tree(&directory).map_err(failed("remove", &directory))?;
            }
        }
        Ok(())
    }

    /// Removes the cluster's whole group; every process must be gone.
    pub fn remove_all(&self) -> Result<(), CgroupError> {
        for directory in self.directories(&self.root) {
            remove_tree(&directory).map_err(failed("remove", &directory))?;
        }
        Ok(())
    }

    /// The pods that have a group here.
    pub fn pods(&self) -> BTreeSet<PodUid> {
        let parents =
            [self.root.clone(), format!("{}/burstable", self.root), format!("{}/besteffort", self.root)];
        parents
            .iter()
            .flat_map(|p| self.directories(p))
            .flat_map(|d| fs::read_dir(d).into_iter().flatten().flatten())
            .filter_map(|e| PodUid::parse(e.file_name().to_str()?.strip_prefix("pod")?))
            .collect()
    }

    /// Nanoseconds of CPU, bytes used and bytes of the working set of a group.
    pub fn usage(&self, path: &str) -> Usage {
        let read = |controller: &str, file: &str| -> Option<String> {
            fs::read_to_string(self.directory(path, controller)?.join(file)).ok()
        };
        let number = |controller: &str, file: &str| read(controller, file)?.trim().parse::<u64>().ok();
        let field = |controller: &str, file: &str, name: &str| -> Option<u64> {
            let text = read(controller, file)?;
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '))?;
            line.trim().parse().ok()
        };
        match &self.layout {
            Layout::V2 { .. } => {
                let used = number("memory", "memory.current").unwrap_or(0);
                let inactive = field("memory", "memory.stat", "inactive_file").unwrap_or(0);
                Usage {
                    cpu_nanoseconds: field("cpu", "cpu.stat", "usage_usec").unwrap_or(0) * 1000,
                    memory_bytes: used,
                    working_set_bytes: used.saturating_sub(inactive),
                }
            }
            Layout::V1 { .. } => {
                let used = number("memory", "memory.usage_in_bytes").unwrap_or(0);
                let inactive = field("memory", "memory.stat", "total_inactive_file").unwrap_or(0);
                Usage {
                    cpu_nanoseconds: number("cpuacct", "cpuacct.usage").unwrap_or(0),
                    memory_bytes: used,
                    working_set_bytes: used.saturating_sub(inactive),
                }
            }
        }
    }

    /// The directories that one path stands for: one on v2, one a hierarchy on v1.
    fn directories(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        match &self.layout {
            Layout::V2 { mount } => vec![mount.join(relative)],
            Layout::V1 { mounts } => mounts.iter().map(|(m, _)| m.join(relative)).collect(),
        }
    }

    /// The directory of a path in the hierarchy that has a controller.
    fn directory(&self, path: &str, controller: &str) -> Option<PathBuf> {
        let relative = path.trim_start_matches('/');
        match &self.layout {
            Layout::V2 { mount } => Some(mount.join(relative)),
            Layout::V1 { mounts } => {
                let (mount, _) = mounts.iter().find(|(_, c)| c.iter().any(|c| c == controller))?;
                Some(mount.join(relative))
            }
        }
    }

    fn make(&self, path: &str) -> Result<(), CgroupError> {
        if let Layout::V2 { mount } = &self.layout {
            return make_v2(mount, path);
        }
        for (mount, controllers) in match &self.layout {
            Layout::V1 { mounts } => mounts.as_slice(),
            Layout::V2 { .. } => &[],
        } {
            let directory = mount.join(path.trim_start_matches('/'));
            fs::create_dir_all(&directory).map_err(failed("create", &directory))?;
            if controllers.iter().any(|c| c == "cpuset") {
                inherit_cpuset(mount, path)?;
            }
        }
        Ok(())
    }

    fn set_shares(&self, path: &str, shares: i64) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2 { .. } => self.set(path, "cpu", "", "cpu.weight", &weight(shares).to_string()),
            Layout::V1 { .. } => self.set(path, "cpu", "cpu.shares", "", &shares.to_string()),
        }
    }

    fn set_quota(&self, path: &str, quota: i64) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V2 { .. } => self.set(path, "cpu", "", "cpu.max", &format!("{quota} {PERIOD}")),
            Layout::V1 { .. } => {
                self.set(path, "cpu", "cpu.cfs_period_us", "", &PERIOD.to_string())?;
                self.set(path, "cpu", "cpu.cfs_quota_us", "", &quota.to_string())
            }
        }
    }

    /// Writes a value; a host without the controller does without the limit.
    fn set(&self, path: &str, controller: &str, v1: &str, v2: &str, value: &str) -> Result<(), CgroupError> {
        let file = if self.is_v2() { v2 } else { v1 };
        let Some(directory) = self.directory(path, controller) else { return Ok(()) };
        let file = directory.join(file);
        match fs::write(&file, value) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && directory.is_dir() => Ok(()),
            other => other.map_err(failed("write", &file)),
        }
    }
}

/// What a group uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Since it was made.
    pub cpu_nanoseconds: u64,
    /// Page cache included.
    pub memory_bytes: u64,
    /// Without page cache that can go at once.
    pub working_set_bytes: u64,
}

/// Reads where the host has mounted cgroups. A hybrid host counts as v1, and controllers that nobody mounted are
/// simply not there.
fn layout(mountinfo: &str) -> Layout {
    const KNOWN: [&str; 13] = [
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "blkio",
        "pids",
        "net_cls",
        "net_prio",
        "perf_event",
        "hugetlb",
        "rdma",
    ];
    let mut v1: Vec<(PathBuf, Vec<String>)> = Vec::new();
    let mut v2 = None;
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let Some(point) = left.split(' ').nth(4).map(PathBuf::from) else { continue };
        let mut right = right.split(' ');
        match right.next() {
            Some("cgroup") => {
                let options = right.nth(1).unwrap_or_default();
                let controllers: Vec<String> =
                    options.split(',').filter(|o| KNOWN.contains(o)).map(str::to_owned).collect();
                let seen = v1.iter().any(|(_, c)| *c == controllers);
                if !controllers.is_empty() && !seen {
                    v1.push((point, controllers));
                }
            }
            Some("cgroup2") => v2 = v2.or(Some(point)),
            _ => {}
        }
    }
    match v2 {
        Some(mount) if v1.is_empty() => Layout::V2 { mount },
        None if v1.is_empty() => Layout::V2 { mount: PathBuf::from("/sys/fs/cgroup") },
        _ => Layout::V1 { mounts: v1 },
    }
}

/// On v2 a group's controllers are switched on in the group above it.
fn make_v2(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let file = directory.join("cgroup.controllers");
        let available = fs::read_to_string(&file).map_err(failed("read", &file))?;
        let wanted: Vec<String> = available
            .split_whitespace()
            .filter(|c| matches!(*c, "cpu" | "cpuset" | "memory" | "pids" | "io"))
            .map(|c| format!("+{c}"))
            .collect();
        let file = directory.join("cgroup.subtree_control");
        fs::write(&file, wanted.join(" ")).map_err(failed("write", &file))?;
        directory.push(part);
        match fs::create_dir(&directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create", &directory)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

/// On v1 a new cpuset is empty, and nothing can run in it, until it is given what the one above it has.
fn inherit_cpuset(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let mut directory = mount.to_owned();
    for part in path.split('/').filter(|p| !p.is_empty()) {
        let above = directory.clone();
        directory.push(part);
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let file = directory.join(name);
            let have = fs::read_to_string(&file).map_err(failed("read", &file))?;
            if have.trim().is_empty() {
                let from = above.join(name);
                let value = fs::read_to_string(&from).map_err(failed("read", &from))?;
                fs::write(&file, value.trim()).map_err(failed("write", &file))?;
            }
        }
    }
    Ok(())
}

/// Removes a group and the groups below it. Files in it are the kernel's and go with the directory.
fn remove_tree(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries.flatten() {
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
#[path = "cgroups_tests.rs"]
mod tests;
