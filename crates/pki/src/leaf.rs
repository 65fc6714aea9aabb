//! Which certificates a cluster has, and what stands in them.

use std::{net::IpAddr, time::Duration};

/// The life of a certificate that a running process renews by itself.
pub const SHORT: Duration = Duration::from_secs(24 * 3600);
/// The life of a certificate in a file that a person uses: nothing renews it but the next start.
pub const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

/// What a certificate may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Server,
    Client,
}

/// A certificate to be issued. The user that a client certificate stands for is `common_name`, its group is
/// `organization`; `names` are the DNS names and addresses that a server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    pub common_name: String,
    pub organization: Option<String>,
    pub names: Vec<String>,
    pub usage: Usage,
    pub lifetime: Duration,
}

/// What an API server is reached by, besides the names that every cluster's API server has.
#[derive(Clone, Debug)]
pub struct ServingNames<'a> {
    pub node: &'a str,
    /// The cluster's domain, such as `cluster.local`.
    pub domain: &'a str,
    /// The `kubernetes` Service's cluster address.
    pub service_address: IpAddr,
    pub host_addresses: &'a [IpAddr],
    /// More names or addresses, as the user gave them.
    pub extra: &'a [String],
}

impl Leaf {
    fn client(common_name: &str, organization: Option<&str>) -> Self {
        Self {
            common_name: common_name.to_owned(),
            organization: organization.map(str::to_owned),
            names: Vec::new(),
            usage: Usage::Client,
            lifetime: SHORT,
        }
    }

    /// The API server's own certificate.
    pub fn apiserver(names: &ServingNames<'_>) -> Self {
        let mut all: Vec<String> =
            ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost", names.node]
                .map(str::to_owned)
                .to_vec();
        all.push(format!("kubernetes.default.svc.{}", names.domain));
        all.extend(["127.0.0.1".to_owned(), "::1".to_owned(), names.service_address.to_string()]);
        all.extend(names.host_addresses.iter().map(IpAddr::to_string));
        all.extend_from_slice(names.extra);
        Self {
            common_name: "kube-apiserver".to_owned(),
            organization: None,
            names: deduplicated(all),
            usage: Usage::Server,
            lifetime: SHORT,
        }
    }

    /// What a kubelet shows to those who call its HTTPS API.
    pub fn kubelet_serving(node: &str, addresses: &[IpAddr]) -> Self {
        let names = [node.to_owned(), "localhost".to_owned(), "127.0.0.1".to_owned()];
        Self {
            common_name: format!("system:node:{node}"),
            organization: Some("system:nodes".to_owned()),
            names: deduplicated(names.into_iter().chain(addresses.iter().map(IpAddr::to_string)).collect()),
            usage: Usage::Server,
            lifetime: SHORT,
        }
    }

    /// A kubelet as a client of the API server.
    pub fn node(node: &str) -> Self {
        Self::client(&format!("system:node:{node}"), Some("system:nodes"))
    }

    /// The API server as a client of kubelets.
    pub fn kubelet_client() -> Self {
        Self::client("kube-apiserver-kubelet-client", None)
    }

    /// The API server as a client of aggregated API servers, issued by the front-proxy authority.
    pub fn front_proxy_client() -> Self {
        Self::client("front-proxy-client", None)
    }

    pub fn controller_manager() -> Self {
        Self::client("system:kube-controller-manager", None)
    }

    pub fn scheduler() -> Self {
        Self::client("system:kube-scheduler", None)
    }

    pub fn proxy() -> Self {
        Self::client("system:kube-proxy", None)
    }

    /// The person who started the cluster.
    pub fn admin() -> Self {
        Self { lifetime: LONG, ..Self::client("kubernetes-admin", Some("system:masters")) }
    }
}

fn deduplicated(names: Vec<String>) -> Vec<String> {
    let mut seen = Vec::with_capacity(names.len());
    for name in names {
        if !name.is_empty() && !seen.contains(&name) {
            seen.push(name);
        }
    }
    seen
}
