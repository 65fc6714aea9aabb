//! Where upstream's programs are.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
};

/// What a control plane takes, and what a node takes more.
const CONTROL_PLANE: [&str; 2] = ["etcd", "kube-apiserver"];
const NODE: [&str; 6] = ["kube-controller-manager", "kube-scheduler", "kubelet", "containerd", "ctr", "runc"];
/// Where distributions keep the plug-ins of the network.
const CNI: [&str; 2] = ["/opt/cni/bin", "/usr/lib/cni"];

/// Upstream's programs on this host.
pub struct Programs {
    found: BTreeMap<&'static str, PathBuf>,
    cni: Option<PathBuf>,
}

impl Programs {
    /// Looks in the directories of `REFERENCE_PATH`, then in those of `PATH`; none without a control plane.
    pub fn find() -> Option<Self> {
        let places: Vec<PathBuf> = ["REFERENCE_PATH", "PATH"]
            .into_iter()
            .filter_map(std::env::var_os)
            .flat_map(|list| std::env::split_paths(&list).collect::<Vec<_>>())
            .collect();
        let find = |name: &'static str| {
            let candidates = places.iter().map(|place| place.join(name));
            candidates.into_iter().find(|path| path.is_file()).map(|path| (name, path))
        };
        let found: BTreeMap<_, _> = CONTROL_PLANE.into_iter().chain(NODE).filter_map(find).collect();
        let cni = CNI.into_iter().map(PathBuf::from).find(|dir| dir.join("bridge").is_file());
        CONTROL_PLANE.iter().all(|name| found.contains_key(name)).then_some(Self { found, cni })
    }

    /// The place of a program; one that was not found fails when it is started, and says so.
    pub fn get(&self, name: &str) -> PathBuf {
        self.found.get(name).cloned().unwrap_or_else(|| name.into())
    }

    /// The plug-ins of the network, if a whole node is there.
    pub fn node(&self) -> Option<&Path> {
        self.cni.as_deref().filter(|_| NODE.iter().all(|name| self.found.contains_key(name)))
    }

    /// What the reference is, in the words of its programs.
    pub fn describe(&self) -> String {
        let node = if self.node().is_some() { &NODE[..] } else { &[] };
        let versions = CONTROL_PLANE.iter().chain(node).filter(|name| **name != "ctr").map(|name| {
            let said = Command::new(self.get(name)).arg("--version").output();
            let said =
                said.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
            let version = said
                .split_whitespace()
                .find(|word| word.trim_start_matches('v').starts_with(|first: char| first.is_ascii_digit()));
            format!("{name} {}", version.unwrap_or("of unknown version"))
        });
        versions.collect::<Vec<_>>().join(", ")
    }
}
