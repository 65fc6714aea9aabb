//! Who a request comes from.

use std::{collections::BTreeMap, sync::Arc};

/// An authenticated user, as `authentication.k8s.io` describes one.
///
/// Only authentication and the in-process connector can make an `Identity`: holding one is proof that
/// the request was authenticated.
///
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity(Arc<User>);

#[derive(Debug, PartialEq, Eq)]
struct User {
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
        Self(Arc::new(User { name: name.into(), uid: uid.into(), groups, extra }))
    }

    /// A user whose groups are exactly these: who one is while impersonating.
    pub(crate) fn impersonated(
        name: String,
        uid: String,
        groups: Vec<String>,
        extra: BTreeMap<String, Vec<String>>,
    ) -> Self {
        Self(Arc::new(User { name, uid, groups, extra }))
    }

    /// The user that a service account is.
    pub(crate) fn service_account(
        namespace: &str,
        name: &str,
        uid: &str,
        extra: BTreeMap<String, Vec<String>>,
    ) -> Self {
        let groups = vec![SERVICE_ACCOUNTS.to_owned(), format!("{SERVICE_ACCOUNTS}:{namespace}")];
        Self::authenticated(service_account_user(namespace, name), uid, groups, extra)
    }

    /// A request that carried no credentials.
    pub(crate) fn anonymous() -> Self {
        Self(Arc::new(User {
            name: ANONYMOUS.to_owned(),
            uid: String::new(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            extra: BTreeMap::new(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }
    pub fn uid(&self) -> &str {
        &self.0.uid
    }
    pub fn groups(&self) -> &[String] {
        &self.0.groups
    }
    pub fn extra(&self) -> &BTreeMap<String, Vec<String>> {
        &self.0.extra
    }
    pub fn in_group(&self, group: &str) -> bool {
        self.0.groups.iter().any(|g| g == group)
    }
}

/// The group of all service accounts; `system:serviceaccounts:<namespace>` is that of a namespace's.
pub const SERVICE_ACCOUNTS: &str = "system:serviceaccounts";
/// The group of kubelets.
pub const NODES: &str = "system:nodes";

const SERVICE_ACCOUNT_PREFIX: &str = "system:serviceaccount:";
const NODE_PREFIX: &str = "system:node:";

/// What a service account is called as a user.
pub fn service_account_user(namespace: &str, name: &str) -> String {
    format!("{SERVICE_ACCOUNT_PREFIX}{namespace}:{name}")
}

/// The namespace and name of the service account that `user` is.
pub fn parse_service_account(user: &str) -> Option<(&str, &str)> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT_PREFIX)?.split_once(':')?;
    let good = tiphys_api::names::dns_label(namespace, false).is_empty()
        && tiphys_api::names::dns_subdomain(name, false).is_empty();
    good.then_some((namespace, name))
}

/// A part of the cluster that reaches the API server inside the process.
///
/// Each has the identity that it would have from outside, and may do what the default policy lets that
/// identity do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Component {
    /// The API server itself, which may do anything: it makes the objects that a cluster starts with.
    ApiServer,
    Scheduler,
    /// What is common to all controllers.
    ControllerManager,
    /// One controller, such as `deployment-controller`: a service account in `kube-system`.
    Controller(&'static str),
    /// The kubelet of the node of this name.
    Node(String),
    Proxy,
    Dns,
}

impl Component {
    /// The component's own identity. Only the in-process connector asks for it.
    pub(crate) fn identity(&self) -> Identity {
        let plain = |name: &str, groups| Identity::authenticated(name, "", groups, BTreeMap::new());
        match self {
            Self::ApiServer => plain("system:apiserver", vec![MASTERS.to_owned()]),
            Self::Scheduler => plain("system:kube-scheduler", Vec::new()),
            Self::ControllerManager => plain("system:kube-controller-manager", Vec::new()),
            Self::Controller(name) => Identity::service_account("kube-system", name, "", BTreeMap::new()),
            Self::Node(name) => plain(&format!("{NODE_PREFIX}{name}"), vec![NODES.to_owned()]),
            Self::Proxy => plain("system:kube-proxy", Vec::new()),
            Self::Dns => Identity::service_account("kube-system", "coredns", "", BTreeMap::new()),
        }
    }

    /// What the component calls itself in `User-Agent`; what stands before the slash manages the fields it writes.
    pub fn user_agent(&self) -> String {
        let name = match self {
            Self::ApiServer => "kube-apiserver",
            Self::Scheduler => "kube-scheduler",
            Self::ControllerManager => "kube-controller-manager",
            Self::Controller(name) => return format!("kube-controller-manager/{name} tiphys"),
            Self::Node(_) => "kubelet",
            Self::Proxy => "kube-proxy",
            Self::Dns => "coredns",
        };
        format!("{name}/{} tiphys", env!("CARGO_PKG_VERSION"))
    }
}

impl Identity {
    /// The name of the node that this user is the kubelet of; empty for a kubelet that does not say which node
    /// it serves. `None` for everybody else.
    pub fn node_name(&self) -> Option<&str> {
        if !self.in_group(NODES) {
            return None;
        }
        self.0.name.strip_prefix(NODE_PREFIX)
    }
}

#[cfg(test)]
#[path = "identity_tests.rs"]
mod tests;
