//! Control groups of either version, as files.
//!
//! On version 1 every controller has a hierarchy of its own, and a container one directory in each; on version 2
//! there is one. Where a host mounts version 2 beside version 1 ("hybrid"), that tree has no controllers but still
//! kills a whole subtree at once, and everything that a shim starts stays in its group there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use crate::error::{Error, Result};

/// Where the host mounts its control groups.
const ROOT: &str = "/sys/fs/cgroup";

/// The controllers of version 1 whose directories a container has.
const CONTROLLERS: [&str; 12] = [
    "pids",
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
    "perf_event",
    "net_cls",
    "net_prio",
];

/// The controllers of version 2 that set limits to containers.
const LIMITED: [&str; 6] = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];

/// How this host does it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Host {
    /// One tree with all controllers.
    Unified,
    /// One tree a controller, by name and directory.
    Legacy { controllers: Vec<(String, PathBuf)> },
}

impl Host {
    pub(crate) fn detect() -> Result<Self> {
        let root = Path::new(ROOT);
        let kind = statfs(root).map_err(Error::io("look at", root))?.filesystem_type();
        if kind == CGROUP2_SUPER_MAGIC {
            return Ok(Host::Unified);
        }
        let controllers = CONTROLLERS.iter().map(|name| ((*name).to_owned(), root.join(name)));
        let controllers: Vec<_> = controllers.filter(|(_, dir)| dir.join("cgroup.procs").exists()).collect();
        if controllers.is_empty() {
            let source = io::Error::from(io::ErrorKind::NotFound);
            return Err(Error::Io { step: "find a mounted controller in", path: root.to_owned(), source });
        }
        Ok(Host::Legacy { controllers })
    }

    /// The directories of the group at `path` (absolute in each hierarchy).
    pub(crate) fn directories(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        match self {
            Host::Unified => vec![Path::new(ROOT).join(relative)],
            Host::Legacy { controllers } => controllers.iter().map(|(_, dir)| dir.join(relative)).collect(),
        }
    }

    /// Makes the group at `path` for processes that have limits; that it is there is success.
    pub(crate) fn create(&self, path: &str) -> Result<()> {
        self.directories(path).iter().try_for_each(|directory| create(directory))?;
        match self {
            Host::Unified => hand_down(Path::new(ROOT), path),
            Host::Legacy { .. } => Ok(()),
        }
    }

    /// The one directory whose members are everything in a pod: the shim's own group and what is below it.
    pub(crate) fn tracking(&self, path: &str) -> Vec<PathBuf> {
        let relative = path.trim_start_matches('/');
        let root = Path::new(ROOT);
        match self {
            Host::Unified => vec![root.join(relative)],
            Host::Legacy { .. } => {
                let candidates = [root.join("unified"), root.join("systemd")];
                let found = candidates.into_iter().find(|dir| dir.join("cgroup.procs").exists());
                found.map(|dir| dir.join(relative)).into_iter().collect()
            }
        }
    }
}

/// Makes a group; that it is there is success.
pub(crate) fn create(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).map_err(Error::io("create cgroup", directory))
}

/// Switches the controllers that have limits on for the group at `path` of version 2's tree at `root`, which is done
/// in every group above it; those groups can hold no process then. Each of them gives on what it was given itself.
fn hand_down(root: &Path, path: &str) -> Result<()> {
    let mut above: Vec<_> = Path::new(path.trim_start_matches('/')).ancestors().skip(1).collect();
    above.reverse();
    for group in above {
        let directory = root.join(group);
        let read = |name| {
            let file = directory.join(name);
            fs::read_to_string(&file).map_err(Error::io("read", &file))
        };
        let (has, gives) = (read("cgroup.controllers")?, read("cgroup.subtree_control")?);
        let missing: Vec<_> = has
            .split_whitespace()
            .filter(|name| LIMITED.contains(name) && !gives.split_whitespace().any(|given| given == *name))
            .map(|name| format!("+{name}"))
            .collect();
        if !missing.is_empty() {
            let file = directory.join("cgroup.subtree_control");
            fs::write(&file, missing.join(" ")).map_err(Error::io("switch controllers on in", &file))?;
        }
    }
    Ok(())
}

/// Kills every process in the groups and below them. Processes that are gone, and groups, count as killed.
pub(crate) fn kill_all(directories: &[PathBuf]) {
    for directory in directories {
        if fs::write(directory.join("cgroup.kill"), "1").is_ok() {
            continue;
        }
        each_process(directory, &mut |pid| {
            // Gone already is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        });
    }
}

fn each_process(directory: &Path, visit: &mut dyn FnMut(i32)) {
    let Ok(list) = fs::read_to_string(directory.join("cgroup.procs")) else { return };
    // Zero stands for a process of another process namespace, which can't be one of ours.
    for pid in list.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0) {
        visit(pid);
    }
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            each_process(&entry.path(), visit);
        }
    }
}

/// How many processes the kernel killed for want of memory in these groups.
pub(crate) fn oom_kills(directories: &[PathBuf]) -> u64 {
    let count = |directory: &PathBuf| {
        ["memory.oom_control", "memory.events"].iter().find_map(|file| {
            let text = fs::read_to_string(directory.join(file)).ok()?;
            field(&text, "oom_kill")
        })
    };
    directories.iter().filter_map(count).sum()
}

/// The number behind `name` in a file of lines of a name and a number.
pub(crate) fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Removes the group and all groups below it. They must be empty of processes, or become so at once.
pub(crate) fn remove(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    match fs::remove_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl Host {
    /// Whether limits on huge pages can be set.
    pub(crate) fn has_huge_pages(&self) -> bool {
        match self {
            Host::Unified => fs::read_to_string(Path::new(ROOT).join("cgroup.controllers"))
                .is_ok_and(|list| list.split_whitespace().any(|name| name == "hugetlb")),
            Host::Legacy { controllers } => controllers.iter().any(|(name, _)| name == "hugetlb"),
        }
    }
}

/// Whether the host swaps and can limit it.
pub(crate) fn swap_is_limited(host: &Host) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").is_ok_and(|list| list.lines().count() > 1);
    swaps
        && match host {
            Host::Unified => true,
            Host::Legacy { .. } => Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists(),
        }
}

/// Writes the limits of a container that runs. What is zero or empty stays as it is.
pub(crate) fn apply(
    host: &Host,
    group: &str,
    limits: &tiphys_cri::v1::LinuxContainerResources,
) -> Result<()> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let relative = group.trim_start_matches('/');
    let (period, quota) = (limits.cpu_period.max(0), limits.cpu_quota);
    match host {
        Host::Unified => {
            let dir = Path::new(ROOT).join(relative);
            let mut set = |file: &str, value: String| files.push((dir.join(file), value));
            if limits.cpu_shares > 0 {
                set("cpu.weight", weight_of(limits.cpu_shares).to_string());
            }
            if period > 0 || quota != 0 {
                let quota = if quota > 0 { quota.to_string() } else { "max".into() };
                set("cpu.max", format!("{quota} {}", if period > 0 { period } else { 100_000 }));
            }
            if limits.memory_limit_in_bytes > 0 {
                set("memory.max", limits.memory_limit_in_bytes.to_string());
            }
            for (file, value) in [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)]
            {
                if !value.is_empty() {
                    set(file, value.clone());
                }
            }
        }
        Host::Legacy { controllers } => {
            for (name, dir) in controllers {
                let dir = dir.join(relative);
                let mut set = |file: &str, value: String| files.push((dir.join(file), value));
                match name.as_str() {
                    "cpu" => {
                        if limits.cpu_shares > 0 {
                            set("cpu.shares", limits.cpu_shares.to_string());
                        }
                        if period > 0 {
                            set("cpu.cfs_period_us", period.to_string());
                        }
                        if quota != 0 {
                            set("cpu.cfs_quota_us", quota.to_string());
                        }
                    }
                    "memory" if limits.memory_limit_in_bytes > 0 => {
                        let limit = limits.memory_limit_in_bytes.to_string();
                        set("memory.limit_in_bytes", limit.clone());
                        if swap_is_limited(host) {
                            // What memory and swap are limited to together is never less than what memory is.
                            let both = "memory.memsw.limit_in_bytes";
                            let now = fs::read_to_string(dir.join(both)).ok();
                            let now: i64 = now.and_then(|text| text.trim().parse().ok()).unwrap_or(i64::MAX);
                            if limits.memory_limit_in_bytes > now {
                                files.insert(files.len() - 1, (dir.join(both), limit));
                            } else {
                                files.push((dir.join(both), limit));
                            }
                        }
                    }
                    "cpuset" => {
                        for (file, value) in
                            [("cpuset.cpus", &limits.cpuset_cpus), ("cpuset.mems", &limits.cpuset_mems)]
                        {
                            if !value.is_empty() {
                                set(file, value.clone());
                            }
                        }
                    }
                    _ => {}
                }
            }
        }
    }
    for (file, value) in files {
        fs::write(&file, value).map_err(Error::io("set limit", &file))?;
    }
    Ok(())
}

/// Version 2's weight (1 to 10000, normally 100) for version 1's shares (2 to 262144, normally 1024): what runtimes
/// have written since runc 1.3.2, and what libcontainer writes when the container is made.
fn weight_of(shares: i64) -> i64 {
    let log = (shares.clamp(2, 262_144) as f64).log2();
    let weight = 10_f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as i64;
    weight.clamp(1, 10_000)
}

/// What a group uses, summed over everything below it. What can't be read is zero: the group may be going.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) cpu_nanos: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) inactive_file_bytes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) page_faults: u64,
    pub(crate) major_page_faults: u64,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) processes: u64,
}

/// Reads the usage of the group at `path`.
pub(crate) fn usage(host: &Host, path: &str) -> Reading {
    let relative = path.trim_start_matches('/');
    let root = Path::new(ROOT);
    let read = |file: PathBuf| fs::read_to_string(file).unwrap_or_default();
    let number =
        |file: PathBuf| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<u64>().ok());
    match host {
        Host::Unified => {
            let dir = root.join(relative);
            let memory = read(dir.join("memory.stat"));
            let field = |name| field(&memory, name).unwrap_or(0);
            Reading {
                cpu_nanos: self::field(&read(dir.join("cpu.stat")), "usage_usec").unwrap_or(0) * 1000,
                memory_bytes: number(dir.join("memory.current")).unwrap_or(0),
                inactive_file_bytes: field("inactive_file"),
                rss_bytes: field("anon"),
                page_faults: field("pgfault"),
                major_page_faults: field("pgmajfault"),
                memory_limit: number(dir.join("memory.max")),
                processes: number(dir.join("pids.current")).unwrap_or(0),
            }
        }
        Host::Legacy { .. } => {
            let of = |controller: &str| root.join(controller).join(relative);
            let memory = read(of("memory").join("memory.stat"));
            let field = |name| field(&memory, name).unwrap_or(0);
            // Without a limit the kernel says the largest number of whole pages.
            let limit = number(of("memory").join("memory.limit_in_bytes")).filter(|limit| *limit < 1 << 60);
            Reading {
                cpu_nanos: number(of("cpuacct").join("cpuacct.usage")).unwrap_or(0),
                memory_bytes: number(of("memory").join("memory.usage_in_bytes")).unwrap_or(0),
                inactive_file_bytes: field("total_inactive_file"),
                rss_bytes: field("total_rss"),
                page_faults: field("total_pgfault"),
                major_page_faults: field("total_pgmajfault"),
                memory_limit: limit,
                processes: number(of("pids").join("pids.current")).unwrap_or(0),
            }
        }
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
