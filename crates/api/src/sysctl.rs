//! Settings of the kernel that pods may have for themselves (`spec.securityContext.sysctls`).

use std::borrow::Cow;

/// Those that pods may set on any node, as they concern nobody else: upstream's list. Some need a kernel of a
/// certain age, which the node knows.
pub const SAFE: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// How long a name may be.
pub const LONGEST: usize = 253;

/// Whether it is a name.
pub fn is_valid(name: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= LONGEST
        && name.split(['.', '/']).all(|part| {
            let b = part.as_bytes();
            b.first().is_some_and(|c| alnum(*c))
                && b.last().is_some_and(|c| alnum(*c))
                && b.iter().all(|c| alnum(*c) || matches!(c, b'-' | b'_'))
        })
}

/// The name with dots between its parts: whichever of dot and slash comes first separates, and the other one stands for
/// the first inside of a part.
pub fn dotted(name: &str) -> Cow<'_, str> {
    if name.find(['.', '/']).is_none_or(|at| name.as_bytes()[at] == b'.') {
        return name.into();
    }
    let swap = |c| match c {
        '/' => '.',
        '.' => '/',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The namespace, `net` or `ipc`, that a name or the beginning of names lies in; `None` of those that nodes have once.
pub fn namespace(name: &str) -> Option<&'static str> {
    let name = dotted(name);
    if name.starts_with("net.") {
        return Some("net");
    }
    let ipc = ["kernel.shm", "kernel.msg", "fs.mqueue."];
    (name == "kernel.sem" || ipc.iter().any(|prefix| name.starts_with(prefix))).then_some("ipc")
}
