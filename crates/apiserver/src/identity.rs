//! Who a request comes from.

use std::collections::BTreeMap;

/// An authenticated user, as `authentication.k8s.io` describes one.
///
/// Only authentication and the in-process connector can make an `Identity`: holding one is proof that
/// the request was authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: BTreeMap<String, Vec<String>>,
}

/// The group of every authenticated user.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of requests without credentials, and the name of their user.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const ANONYMOUS: &str = "system:anonymous";
/// The group that every permission check passes.
pub const MASTERS: &str = "system:masters";

impl Identity {
    /// A user that has proven who it is; it joins `system:authenticated`.
    pub(crate) fn authenticated(
        name: impl Into<String>,
        uid: impl Into<String>,
        mut groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
    ) -> Self {
        if !groups.iter().any(|g| g == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        Self { name: name.into(), uid: uid.into(), groups, extra }
    }

    /// A request that carried no credentials.
    pub(crate) fn anonymous() -> Self {
        Self {
            name: ANONYMOUS.to_owned(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }
    pub fn uid(&self) -> &str {
        &self.uid
    }
    pub fn groups(&self) -> &[String] {
        &self.groups
    }
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        &self.extra
    }
    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|g| g == group)
    }
}
