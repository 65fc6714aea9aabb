//! What the numbers were measured on.

use std::fs::read_to_string;

/// One line about the host, as numbers mean nothing without it.
pub(crate) fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = read_to_string("/proc/loadavg").unwrap_or_default();
    let load: Vec<&str> = load.split_whitespace().take(3).collect();
    format!("{cores} cores, Linux {}, load {}\n\n", kernel.trim(), load.join(" "))
}
