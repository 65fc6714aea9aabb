//! What the runtime and the kernel can do with pods, asked once when the node starts.

use std::fs;

use k8s_openapi::api::core::v1::{NodeFeatures, NodeRuntimeHandler, NodeRuntimeHandlerFeatures};
use tiphys_cri::v1;

use crate::sysctls::Pattern;

/// The node's answer to fields that not every node can act on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// Whether a group list can be had without those of the image (KEP-3619).
    pub supplemental_groups_policy: bool,
    /// Whether the kernel enforces AppArmor profiles.
    pub app_armor: bool,
    /// Settings of the kernel that pods may ask for.
    pub sysctls: Vec<Pattern>,
    handlers: Vec<v1::RuntimeHandler>,
}

impl Features {
    /// Reads the runtime's status. One that says nothing of a feature does not have it. `sysctls` are those that
    /// pods may ask for.
    pub fn of(status: v1::StatusResponse, sysctls: Vec<Pattern>) -> Self {
        let enabled = fs::read_to_string("/sys/module/apparmor/parameters/enabled");
        Self {
            supplemental_groups_policy: status.features.is_some_and(|f| f.supplemental_groups_policy),
            app_armor: enabled.is_ok_and(|text| text.starts_with('Y')),
            sysctls,
            handlers: status.runtime_handlers,
        }
    }

    fn handler(&self, name: &str) -> v1::RuntimeHandlerFeatures {
        let found = self.handlers.iter().find(|handler| handler.name == name);
        found.and_then(|handler| handler.features).unwrap_or_default()
    }

    /// Whether a mount can be made read-only with all that is mounted below it (KEP-3857), by the handler that a
    /// RuntimeClass names; the empty name is the default's.
    pub fn recursive_read_only(&self, handler: &str) -> bool {
        self.handler(handler).recursive_read_only_mounts
    }

    /// Whether pods can have a user namespace (KEP-127).
    pub fn user_namespaces(&self, handler: &str) -> bool {
        self.handler(handler).user_namespaces
    }

    /// As the Node object tells it.
    pub fn of_node(&self) -> NodeFeatures {
        NodeFeatures { supplemental_groups_policy: Some(self.supplemental_groups_policy) }
    }

    /// The runtime's handlers as the Node object tells of them; none of a runtime that does not.
    pub fn of_handlers(&self) -> Option<Vec<NodeRuntimeHandler>> {
        let handlers = self.handlers.iter().map(|handler| NodeRuntimeHandler {
            name: Some(handler.name.clone()),
            features: handler.features.map(|features| NodeRuntimeHandlerFeatures {
                recursive_read_only_mounts: Some(features.recursive_read_only_mounts),
                user_namespaces: Some(features.user_namespaces),
            }),
        });
        Some(handlers.collect()).filter(|handlers: &Vec<_>| !handlers.is_empty())
    }
}

#[cfg(test)]
impl Features {
    /// A runtime that can do everything or nothing.
    pub(crate) fn all(able: bool) -> Self {
        let features = v1::RuntimeHandlerFeatures { recursive_read_only_mounts: able, user_namespaces: able };
        Self {
            supplemental_groups_policy: able,
            app_armor: able,
            sysctls: crate::sysctls::allowed("6.1.0", &[]),
            handlers: vec![v1::RuntimeHandler { name: String::new(), features: Some(features) }],
        }
    }
}
