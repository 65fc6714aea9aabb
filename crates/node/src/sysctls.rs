//! Which settings of the kernel pods may ask for on this node: those that are safe here, and those that its flag adds.

use std::str::FromStr;

use k8s_openapi::api::core::v1::Pod;
use tiphys_api::sysctl::{LONGEST, SAFE, dotted, is_valid, namespace};

use crate::pod;

/// Why no pod can be allowed a setting.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is neither a name nor the beginning of some.
    #[error("{0:?} is no name of a sysctl of at most {LONGEST} characters, nor one that ends in *")]
    Name(String),
    /// It would change the node.
    #[error("the sysctls {0:?} are not known to be namespaced")]
    NotNamespaced(String),
}

/// A setting that pods may ask for, or several, by the beginning of their names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// With dots.
    name: String,
    begins: bool,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (name, begins) = match text.strip_suffix('*') {
            Some(beginning) => (beginning, true),
            None => (text, false),
        };
        let bare = if begins { name.trim_end_matches(['.', '/', '-', '_']) } else { name };
        if text.len() > LONGEST || !is_valid(bare) {
            return Err(PatternError::Name(text.to_owned()));
        }
        match namespace(name) {
            Some(_) => Ok(Self { name: dotted(name).into_owned(), begins }),
            None => Err(PatternError::NotNamespaced(text.to_owned())),
        }
    }
}

impl Pattern {
    fn covers(&self, name: &str) -> bool {
        if self.begins { name.starts_with(&self.name) } else { name == self.name }
    }
}

/// The kernels, by major and minor version, from which on a safe setting is not the node's; all others are older.
const SINCE: [(&str, (u32, u32)); 7] = [
    ("net.ipv4.ip_local_reserved_ports", (3, 16)),
    ("net.ipv4.tcp_keepalive_time", (4, 5)),
    ("net.ipv4.tcp_fin_timeout", (4, 6)),
    ("net.ipv4.tcp_keepalive_intvl", (4, 5)),
    ("net.ipv4.tcp_keepalive_probes", (4, 5)),
    ("net.ipv4.tcp_rmem", (4, 15)),
    ("net.ipv4.tcp_wmem", (4, 15)),
];

/// Major and minor version of a kernel, as it names its release: `6.1.0-18-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// What pods may ask for under a kernel of this release: what is safe there, and `more`.
pub fn allowed(release: &str, more: &[Pattern]) -> Vec<Pattern> {
    let kernel = version(release);
    let is_safe = |name: &&str| {
        let since = SINCE.iter().find(|(known, _)| known == name);
        since.is_none_or(|(_, since)| kernel.is_some_and(|kernel| kernel >= *since))
    };
    let safe = SAFE.into_iter().filter(is_safe).map(|name| Pattern { name: name.to_owned(), begins: false });
    safe.chain(more.iter().cloned()).collect()
}

/// What the pod asks for and may not have, in upstream's words.
pub fn forbidden(pod: &Pod, allowed: &[Pattern]) -> Option<String> {
    let spec = pod::spec(pod);
    let mut wanted = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    wanted.find_map(|sysctl| {
        let name = dotted(&sysctl.name);
        if !allowed.iter().any(|pattern| pattern.covers(&name)) {
            return Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        }
        let hosts = match namespace(&name) {
            Some("net") => spec.host_network,
            _ => spec.host_ipc,
        };
        let space = namespace(&name).filter(|_| hosts == Some(true))?;
        Some(format!("forbidden sysctl: {name:?} not allowed with host {space} enabled"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing::pod_from;

    #[test]
    fn only_safe_settings_are_had_unless_the_node_allows_more() {
        let refused = |name: &str, host: &str, unsafe_too: &[&str]| {
            let mut spec =
                json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
            spec[host] = json!(true);
            let unsafe_too: Vec<Pattern> = unsafe_too.iter().map(|text| text.parse().unwrap()).collect();
            forbidden(&pod_from(json!({ "spec": spec })), &allowed("6.1.0-18-amd64", &unsafe_too))
        };
        let no = |name: &str| Some(format!("forbidden sysctl: {name:?} not allowlisted"));
        for (name, host, unsafe_too, wanted) in [
            ("kernel.shm_rmid_forced", "", &[][..], None),
            ("net/ipv4/tcp_rmem", "", &[], None),
            ("net.core.somaxconn", "", &[], no("net.core.somaxconn")),
            ("net/core/somaxconn", "", &["kernel.msg*"], no("net.core.somaxconn")),
            ("net/core/somaxconn", "", &["kernel.msg*", "net.core.somaxconn"], None),
            ("net.core.somaxconn", "", &["net/core/*"], None),
            ("net.core.somaxconn2", "", &["net.core.somaxconn"], no("net.core.somaxconn2")),
            ("vm.swappiness", "", &["net.*"], no("vm.swappiness")),
            (
                "net.ipv4.tcp_rmem",
                "hostNetwork",
                &[],
                Some("forbidden sysctl: \"net.ipv4.tcp_rmem\" not allowed with host net enabled".to_owned()),
            ),
            (
                "kernel.msgmax",
                "hostIPC",
                &["kernel.msg*"],
                Some("forbidden sysctl: \"kernel.msgmax\" not allowed with host ipc enabled".to_owned()),
            ),
            ("kernel.msgmax", "hostNetwork", &["kernel.msg*"], None),
        ] {
            assert_eq!(refused(name, host, unsafe_too), wanted, "{name} {host} {unsafe_too:?}");
        }
    }

    #[test]
    fn a_setting_is_safe_from_the_kernel_on_that_keeps_it_to_a_pod() {
        let safe = |name: &str, release: &str| {
            let spec =
                json!({"containers": [], "securityContext": {"sysctls": [{"name": name, "value": "1"}]}});
            forbidden(&pod_from(json!({ "spec": spec })), &allowed(release, &[])).is_none()
        };
        for (name, before, since) in [
            ("net.ipv4.ip_local_reserved_ports", "3.15.9", "3.16.0"),
            ("net.ipv4.tcp_keepalive_time", "4.4.302-generic", "4.5"),
            ("net.ipv4.tcp_fin_timeout", "4.5.7", "4.6.0-rc1"),
            ("net.ipv4.tcp_keepalive_intvl", "4.4.0", "4.5.0"),
            ("net.ipv4.tcp_keepalive_probes", "4.4.0", "5.0.0"),
            ("net.ipv4.tcp_rmem", "4.14.336", "4.15.0"),
            ("net.ipv4.tcp_wmem", "3.18.0", "6.1.0"),
        ] {
            assert_eq!((safe(name, before), safe(name, since)), (false, true), "{name}");
            assert!(!safe(name, "unknown"), "{name}");
        }
        assert!(safe("net.ipv4.tcp_syncookies", "3.10.0") && safe("kernel.shm_rmid_forced", "unknown"));
    }

    #[test]
    fn what_would_change_the_node_cannot_be_allowed() {
        let error = |text: &str| text.parse::<Pattern>().err();
        for text in ["kernel.sem", "kernel.shm*", "net.*", "fs.mqueue.*", "net/ipv4/conf/eth0.1/*"] {
            assert_eq!(error(text), None, "{text}");
        }
        for text in ["vm.swappiness", "kernel.*", "net*"] {
            assert_eq!(error(text), Some(PatternError::NotNamespaced(text.to_owned())));
        }
        for text in ["", "*", "net.*.x", "net..x", "Net.x", &format!("net.{}", "x".repeat(250))] {
            assert_eq!(error(text), Some(PatternError::Name(text.to_owned())));
        }
    }
}
