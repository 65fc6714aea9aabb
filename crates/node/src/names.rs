//! How a pod finds names and is found by one: host name, `/etc/hosts`, `resolv.conf`.

use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;
use tiphys_cri::v1::DnsConfig;

use crate::pod;

/// The resolver's limits on what a pod may ask for.
const MAX_SERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARACTERS: usize = 2048;

/// What the cluster offers as DNS.
#[derive(Clone, Debug, Default)]
pub struct ClusterDns {
    /// Addresses of the cluster's DNS.
    pub servers: Vec<String>,
    /// Its domain.
    pub domain: String,
}

/// A resolver's configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// `nameserver` lines.
    pub servers: Vec<String>,
    /// Words of the `search` line.
    pub searches: Vec<String>,
    /// Words of the `options` line.
    pub options: Vec<String>,
}

impl Resolver {
    /// Reads a `resolv.conf`; lines that it does not know are passed over.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace().map(str::to_owned);
            match words.next().as_deref() {
                Some("nameserver") => resolver.servers.extend(words.next()),
                Some("search") => resolver.searches = words.collect(),
                Some("options") => resolver.options = words.collect(),
                _ => {}
            }
        }
        resolver
    }

    fn bounded(mut self) -> Self {
        self.servers.truncate(MAX_SERVERS);
        self.searches.truncate(MAX_SEARCHES);
        let mut length = 0;
        self.searches.retain(|s| {
            length += s.len() + 1;
            length <= MAX_SEARCH_CHARACTERS + 1
        });
        self
    }
}

impl From<Resolver> for DnsConfig {
    fn from(r: Resolver) -> Self {
        Self { servers: r.servers, searches: r.searches, options: r.options }
    }
}

/// The pod's resolver by its `dnsPolicy` and `dnsConfig`. `ClusterFirst` in the host's network means `Default`, and
/// so does a cluster without DNS.
pub fn resolver(pod: &Pod, cluster: &ClusterDns, host: &Resolver) -> Resolver {
    let spec = pod::spec(pod);
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_cluster = match policy {
        "None" => None,
        "ClusterFirstWithHostNet" => Some(true),
        "ClusterFirst" => Some(!pod::host_network(pod)),
        _ => Some(false),
    };
    let mut resolver = match of_cluster {
        None => Resolver::default(),
        Some(true) if !cluster.servers.is_empty() => {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let domain = &cluster.domain;
            let mut searches =
                vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
            searches.extend(host.searches.iter().filter(|s| s.as_str() != ".").cloned());
            Resolver { servers: cluster.servers.clone(), searches, options: vec!["ndots:5".into()] }
        }
        Some(_) => host.clone(),
    };
    if let Some(extra) = &spec.dns_config {
        append_new(&mut resolver.servers, extra.nameservers.iter().flatten());
        append_new(&mut resolver.searches, extra.searches.iter().flatten());
        for option in extra.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            resolver.options.retain(|o| o.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    resolver.bounded()
}

fn append_new<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The pod's `/etc/hosts`. In the host's network it is the host's own with the pod's aliases after it.
pub fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, host_file: &str) -> String {
    let mut text = String::new();
    if pod::host_network(pod) {
        text.push_str("# Kubernetes-managed hosts file (host network).\n");
        text.push_str(host_file);
    } else {
        text.push_str("# Kubernetes-managed hosts file.\n");
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
        text.push_str("fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n");
        let (host, domain) = pod::hostname_and_domain(pod, cluster_domain);
        for ip in ips {
            // Writing to a String cannot fail.
            let _ = match domain.is_empty() {
                true => writeln!(text, "{ip}\t{host}"),
                false => writeln!(text, "{ip}\t{host}.{domain}\t{host}"),
            };
        }
    }
    let aliases = pod::spec(pod).host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default().join("\t");
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}\t{names}", alias.ip);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pod_from;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        pod_from(json!({"metadata": {"name": "p", "namespace": "ns"}, "spec": spec}))
    }

    #[test]
    fn the_dns_policy_chooses_the_resolver() {
        let cluster = ClusterDns { servers: vec!["10.96.0.10".into()], domain: "cluster.local".into() };
        let host = Resolver::parse("# x\nnameserver 9.9.9.9\nsearch example.org . # y\noptions rotate\n");
        let show = |spec: Value| {
            let r = resolver(&pod(spec), &cluster, &host);
            format!("{} | {} | {}", r.servers.join(" "), r.searches.join(" "), r.options.join(" "))
        };
        let of_cluster =
            "10.96.0.10 | ns.svc.cluster.local svc.cluster.local cluster.local example.org | ndots:5";
        let of_host = "9.9.9.9 | example.org . | rotate";
        let cases = [
            (json!({"containers": []}), of_cluster),
            (json!({"containers": [], "hostNetwork": true}), of_host),
            (
                json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
                of_cluster,
            ),
            (json!({"containers": [], "dnsPolicy": "Default"}), of_host),
            (
                json!({"containers": [], "dnsPolicy": "None", "dnsConfig":
                    {"nameservers": ["1.1.1.1"], "searches": ["a"], "options": [{"name": "ndots", "value": "2"}, {"name": "x"}]}}),
                "1.1.1.1 | a | ndots:2 x",
            ),
            (
                json!({"containers": [], "dnsConfig": {"nameservers": ["10.96.0.10", "1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}}),
                "10.96.0.10 1.1.1.1 | ns.svc.cluster.local svc.cluster.local cluster.local example.org | ndots:2",
            ),
        ];
        for (spec, want) in cases {
            assert_eq!(show(spec.clone()), want, "{spec}");
        }
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let pod = pod(json!({"containers": [], "hostname": "h", "subdomain": "s",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
        let text = hosts_file(&pod, &["10.0.0.5".into()], "cluster.local", "HOST\n");
        assert!(text.contains("10.0.0.5\th.s.ns.svc.cluster.local\th\n"), "{text}");
        assert!(text.ends_with("\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"), "{text}");
        assert!(!text.contains("HOST"));
    }
}
