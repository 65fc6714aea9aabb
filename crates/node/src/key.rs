//! Who a pod is. A name alone is reused by the next pod of a StatefulSet, so every map is keyed by all three.

use std::fmt;

use k8s_openapi::api::core::v1::Pod;

/// A pod's UID as the node knows it: the API's for API pods, the hash of the manifest for static pods.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodUid(String);

impl PodUid {
    /// Wraps the text of a UID; `None` when it could not be part of a path or a cgroup name.
    pub fn parse(text: &str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-';
        (!text.is_empty() && text.len() <= 128 && text.chars().all(plain)).then(|| Self(text.to_owned()))
    }

    /// The UID's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PodUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a pod on this node.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PodKey {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of this incarnation.
    pub uid: PodUid,
}

impl PodKey {
    /// The key of an object, `None` when name, namespace or UID are missing or unusable as path elements.
    pub fn of(pod: &Pod) -> Option<Self> {
        let namespace = path_element(pod.metadata.namespace.as_deref()?)?;
        let name = path_element(pod.metadata.name.as_deref()?)?;
        Some(Self { namespace, name, uid: PodUid::parse(pod.metadata.uid.as_deref()?)? })
    }

    /// `name_namespace(uid)`, the form that upstream prints in messages about back-off.
    pub fn long(&self) -> String {
        format!("{}_{}({})", self.name, self.namespace, self.uid)
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({})", self.namespace, self.name, self.uid)
    }
}

/// Names end up in directory names: refuse what would leave the directory.
fn path_element(text: &str) -> Option<String> {
    let usable = !text.is_empty() && text.len() <= 253 && !text.contains('/') && text != "." && text != "..";
    usable.then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_cannot_leave_its_directory() {
        assert!(PodUid::parse("3f6f9f5e-31c5-4c0e-9d1e-6d4c6b1f2a11").is_some());
        for bad in ["", "..", "a/b", "a_b", "x\0y"] {
            assert!(PodUid::parse(bad).is_none(), "{bad:?}");
        }
    }
}
