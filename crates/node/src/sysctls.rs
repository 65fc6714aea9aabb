//! Which settings of the kernel pods may ask for on this node: those that are safe, and those that its flag adds.

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

/// What the pod asks for and may not have, in upstream's words; `unsafe_too` is what it may beside the safe ones.
pub fn forbidden(pod: &Pod, unsafe_too: &[Pattern]) -> Option<String> {
    let spec = pod::spec(pod);
    let mut wanted = spec.security_context.iter().flat_map(|c| c.sysctls.iter().flatten());
    wanted.find_map(|sysctl| {
        let name = dotted(&sysctl.name);
        if !SAFE.contains(&&*name) && !unsafe_too.iter().any(|pattern| pattern.covers(&name)) {
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
            forbidden(&pod_from(json!({ "spec": spec })), &unsafe_too)
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
