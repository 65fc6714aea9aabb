//! What every Prometheus client tells of its process.

use std::fs;

use crate::{Exposition, Kind};

/// Linux counts processor time and the start of processes in these, whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// Adds the `process_` families: processor time, memory, file descriptors and start of this process. What the
/// kernel does not tell is left out.
pub fn process(text: &mut Exposition) {
    let read = |file: &str| fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    let stat = read("self/stat");
    // The name in parentheses may hold anything; fields are counted behind it, the third first.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3).and_then(|f| f.parse::<f64>().ok());
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let help = "Processor time that the process has used, in seconds.";
        let seconds = (user + system) / TICKS_PER_SECOND;
        text.single("process_cpu_seconds_total", Kind::Counter, help, seconds);
    }
    if let Some(bytes) = field(23) {
        text.single("process_virtual_memory_bytes", Kind::Gauge, "Address space, in bytes.", bytes);
    }
    let resident = read("self/status").lines().find_map(|line| kilobytes(line, "VmRSS:"));
    if let Some(kilobytes) = resident {
        let help = "Resident memory, in bytes.";
        text.single("process_resident_memory_bytes", Kind::Gauge, help, kilobytes * 1024.0);
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        text.single("process_open_fds", Kind::Gauge, "Open file descriptors.", open.count() as f64);
    }
    let limits = read("self/limits");
    let limit = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(most) = limit.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
        text.single("process_max_fds", Kind::Gauge, "The most file descriptors that may be open.", most);
    }
    let kernel = read("stat");
    let boot = kernel.lines().find_map(|line| line.strip_prefix("btime ")?.trim().parse::<f64>().ok());
    if let (Some(boot), Some(ticks)) = (boot, field(22)) {
        let help = "When the process started, in seconds since 1970.";
        text.single("process_start_time_seconds", Kind::Gauge, help, boot + ticks / TICKS_PER_SECOND);
    }
}

fn kilobytes(line: &str, name: &str) -> Option<f64> {
    line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Format;

    #[test]
    fn the_kernel_tells_of_this_process() {
        let mut text = Exposition::new(Format::Text);
        process(&mut text);
        let text = text.finish();
        let value = |name: &str| -> f64 {
            let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|v| v.parse().ok()).unwrap_or_else(|| panic!("no {name} in {text}"))
        };
        assert!(value("process_resident_memory_bytes") > 65536.0);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_open_fds") >= 3.0 && value("process_max_fds") >= value("process_open_fds"));
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
        let started = value("process_start_time_seconds");
        assert!(started > 1e9 && started < now + 2.0, "{started}");
        assert!(value("process_cpu_seconds_total") >= 0.0);
    }
}
