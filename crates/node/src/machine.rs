//! What the host has: processors, memory, disk, kernel.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::config::Config;

/// Facts that don't change while the host is up.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Processors in thousandths.
    pub cpu_milli: i64,
    /// Bytes of memory.
    pub memory: i64,
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The firmware's UUID, where it has one.
    pub system_uuid: String,
    /// Changes with every boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
    /// `PRETTY_NAME` of the distribution.
    pub os_image: String,
}

impl Machine {
    /// Reads the facts. What the host doesn't tell stays empty.
    pub fn read() -> Self {
        let line = |path: &str| fs::read_to_string(path).map(|t| t.trim().to_owned()).unwrap_or_default();
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let machine_id = line("/etc/machine-id");
        let uuid = line("/sys/class/dmi/id/product_uuid");
        Self {
            cpu_milli: i64::try_from(processors).unwrap_or(1) * 1000,
            memory: meminfo("MemTotal").unwrap_or(0),
            system_uuid: if uuid.is_empty() { machine_id.clone() } else { uuid },
            machine_id,
            boot_id: line("/proc/sys/kernel/random/boot_id"),
            kernel: line("/proc/sys/kernel/osrelease"),
            os_image: os_name(&line("/etc/os-release")),
        }
    }

    /// What the whole node has, by the API's names.
    pub fn capacity(&self, config: &Config) -> BTreeMap<String, Quantity> {
        let disk = disk(&config.data_dir).total;
        resources(self.cpu_milli, self.memory, disk, config.max_pods)
    }

    /// What of it pods may have.
    pub fn allocatable(&self, config: &Config) -> BTreeMap<String, Quantity> {
        let disk = disk(&config.data_dir).total;
        // Nine tenths of the disk, as upstream's default eviction threshold leaves.
        resources(
            (self.cpu_milli - config.reserved_cpu_milli).max(0),
            (self.memory - config.reserved_memory).max(0),
            disk / 10 * 9,
            config.max_pods,
        )
    }
}

fn resources(cpu_milli: i64, memory: i64, disk: u64, pods: u32) -> BTreeMap<String, Quantity> {
    let cpu = if cpu_milli % 1000 == 0 { (cpu_milli / 1000).to_string() } else { format!("{cpu_milli}m") };
    BTreeMap::from([
        ("cpu".to_owned(), Quantity(cpu)),
        ("ephemeral-storage".to_owned(), Quantity(format!("{}Ki", disk / 1024))),
        ("hugepages-1Gi".to_owned(), Quantity("0".to_owned())),
        ("hugepages-2Mi".to_owned(), Quantity("0".to_owned())),
        ("memory".to_owned(), Quantity(format!("{}Ki", memory / 1024))),
        ("pods".to_owned(), Quantity(pods.to_string())),
    ])
}

fn os_name(os_release: &str) -> String {
    let line = os_release.lines().find_map(|l| l.strip_prefix("PRETTY_NAME="));
    line.map(|l| l.trim_matches('"').to_owned()).unwrap_or_else(|| "Linux".to_owned())
}

/// A line of `/proc/meminfo` in bytes.
pub fn meminfo(name: &str) -> Option<i64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
    line.split_whitespace().next()?.parse::<i64>().ok()?.checked_mul(1024)
}

/// How many threads the host has, and how many it can have.
pub fn processes() -> Option<(u64, u64)> {
    let load = fs::read_to_string("/proc/loadavg").ok()?;
    let now = load.split_whitespace().nth(3)?.split_once('/')?.1.parse().ok()?;
    let most = |file: &str| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    Some((now, most("/proc/sys/kernel/pid_max")?.min(most("/proc/sys/kernel/threads-max")?)))
}

/// Space of the file system that a directory is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// Bytes in all.
    pub total: u64,
    /// Bytes that may still be written.
    pub available: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes that are left.
    pub inodes_free: u64,
}

impl Disk {
    /// Whether less is left than that share in percent. On a large disk that many GiB are enough, whatever the share.
    pub fn is_short_of(&self, percent: u64, gibibytes: u64) -> bool {
        self.total > 0 && self.available < (self.total / 100 * percent).min(gibibytes << 30)
    }
}

/// Space of the file system that a directory, or the nearest one above it that exists, is on.
pub fn disk(path: &Path) -> Disk {
    let existing = path.ancestors().find(|p| p.exists()).unwrap_or(Path::new("/"));
    match nix::sys::statvfs::statvfs(existing) {
        Ok(s) => Disk {
            total: s.blocks() * s.fragment_size(),
            available: s.blocks_available() * s.fragment_size(),
            inodes: s.files(),
            inodes_free: s.files_available(),
        },
        Err(error) => {
            tracing::debug!(path = %existing.display(), %error, "disk space unknown");
            Disk::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_disk_is_not_short_by_its_share_alone() {
        let disk = |total: u64, available: u64| Disk {
            total: total << 30,
            available: available << 30,
            ..Disk::default()
        };
        assert!(disk(100, 0).is_short_of(10, 1));
        assert!(!disk(1000, 2).is_short_of(10, 1));
        assert!(disk(10, 1).is_short_of(15, 2));
        assert!(!disk(10, 2).is_short_of(15, 2));
        assert!(!Disk::default().is_short_of(10, 1));
    }

    #[test]
    fn processes_are_counted() {
        let (now, most) = processes().expect("the kernel tells");
        assert!(now > 0 && now < most);
    }
}
