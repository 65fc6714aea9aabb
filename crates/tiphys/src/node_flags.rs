//! The flags that say when nodes are given up, and what they lend to services.

use std::{net::Ipv4Addr, ops::RangeInclusive, time::Duration};

use tiphys_controllers::{LoadBalancerPool, LoadBalancerSettings, NodeLifecycleSettings};

/// When nodes that are silent are given up, and how fast. Names and defaults are those of kube-controller-manager.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Nodes")]
pub(crate) struct NodeFlags {
    /// A node that is silent for so long is taken for dead.
    #[arg(long, default_value = "50s", value_parser = duration)]
    pub(crate) node_monitor_grace_period: Duration,
    /// The same for a node that has never told how it is.
    #[arg(long, default_value = "1m", value_parser = duration)]
    pub(crate) node_startup_grace_period: Duration,
    /// So many dead nodes of a zone are given up each second.
    #[arg(long, default_value_t = 0.1)]
    pub(crate) node_eviction_rate: f64,
    /// The same where so many are dead that something else may be at fault.
    #[arg(long, default_value_t = 0.01)]
    pub(crate) secondary_node_eviction_rate: f64,
    /// Of so few nodes or fewer, none is given up then.
    #[arg(long, default_value_t = 50)]
    pub(crate) large_cluster_size_threshold: usize,
    /// The share of dead nodes, of 1, from which on something else may be at fault.
    #[arg(long, default_value_t = 0.55)]
    pub(crate) unhealthy_zone_threshold: f64,
    /// Whether nodes that bring no range of addresses for their pods get a part of the pods' range.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, value_name = "BOOL")]
    pub(crate) allocate_node_cidrs: bool,
    /// The addresses of services of type LoadBalancer: `nodes` for the nodes' own, ranges such as
    /// `192.0.2.16/28,192.0.2.40-192.0.2.49`, or `none` to leave such services to others. Of ranges, what is in a
    /// node's own link is announced there by ARP; the rest has to be routed here.
    #[arg(long, default_value = "nodes", value_parser = pool)]
    pub(crate) load_balancer_addresses: Balancing,
}

/// Who gives load balancers their addresses.
#[derive(Clone, Debug)]
pub(crate) enum Balancing {
    Ours(LoadBalancerPool),
    /// A controller that somebody installs.
    Theirs,
}

fn pool(text: &str) -> Result<Balancing, tiphys_controllers::PoolError> {
    if text == "none" { Ok(Balancing::Theirs) } else { text.parse().map(Balancing::Ours) }
}

/// As Go and upstream write durations: `15s`, `1m30s`, `500ms`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration = text.parse().map_err(|error: jiff::Error| error.to_string())?;
    Duration::try_from(duration).map_err(|_| "a duration cannot be negative".to_owned())
}

impl NodeFlags {
    pub(crate) fn lifecycle(&self) -> NodeLifecycleSettings {
        NodeLifecycleSettings {
            monitor_grace: self.node_monitor_grace_period,
            startup_grace: self.node_startup_grace_period,
            eviction_rate: self.node_eviction_rate,
            secondary_eviction_rate: self.secondary_node_eviction_rate,
            large_cluster_threshold: self.large_cluster_size_threshold,
            unhealthy_zone_threshold: self.unhealthy_zone_threshold,
        }
    }
}

impl NodeFlags {
    /// `reserved` are the ports that nodes listen on themselves.
    pub(crate) fn load_balancer(&self, reserved: &[u16]) -> Option<LoadBalancerSettings> {
        match &self.load_balancer_addresses {
            Balancing::Theirs => None,
            Balancing::Ours(pool) => {
                Some(LoadBalancerSettings { pool: pool.clone(), reserved: reserved.to_vec() })
            }
        }
    }
}

impl NodeFlags {
    /// The addresses that are announced.
    pub(crate) fn announced(&self) -> Vec<RangeInclusive<Ipv4Addr>> {
        match &self.load_balancer_addresses {
            Balancing::Theirs => Vec::new(),
            Balancing::Ours(pool) => pool.ipv4(),
        }
    }
}

impl Default for NodeFlags {
    /// What the flags say that nobody gives.
    fn default() -> Self {
        let NodeLifecycleSettings {
            monitor_grace,
            startup_grace,
            eviction_rate,
            secondary_eviction_rate,
            large_cluster_threshold,
            unhealthy_zone_threshold,
        } = NodeLifecycleSettings::default();
        Self {
            node_monitor_grace_period: monitor_grace,
            node_startup_grace_period: startup_grace,
            node_eviction_rate: eviction_rate,
            secondary_node_eviction_rate: secondary_eviction_rate,
            large_cluster_size_threshold: large_cluster_threshold,
            unhealthy_zone_threshold,
            allocate_node_cidrs: true,
            load_balancer_addresses: Balancing::Ours(LoadBalancerPool::Nodes),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        nodes: NodeFlags,
    }

    #[test]
    fn flags_are_upstreams() {
        let none = Line::parse_from(["up"]).nodes;
        assert_eq!(none.lifecycle(), NodeLifecycleSettings::default());
        let some = ["up", "--node-monitor-grace-period=1m40s", "--node-eviction-rate=2"];
        let lifecycle = Line::parse_from(some).nodes.lifecycle();
        assert_eq!((lifecycle.monitor_grace.as_secs(), lifecycle.eviction_rate), (100, 2.0));
        assert!(Line::try_parse_from(["up", "--node-startup-grace-period=-1s"]).is_err());
    }

    #[test]
    fn load_balancers_may_be_left_to_others() {
        let of = |value: &str| {
            let line = Line::try_parse_from(["up", &format!("--load-balancer-addresses={value}")]);
            line.map(|line| line.nodes.load_balancer(&[6443]).map(|settings| settings.pool)).ok()
        };
        assert_eq!(of("nodes"), Some(Some(LoadBalancerPool::Nodes)));
        assert_eq!(of("none"), Some(None));
        assert!(matches!(of("192.0.2.0/28"), Some(Some(LoadBalancerPool::Ranges(_)))));
        assert_eq!(of("some"), None);
        let announced = |value: &str| {
            let line = Line::parse_from(["up", &format!("--load-balancer-addresses={value}")]);
            line.nodes.announced()
        };
        let address = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(announced("192.0.2.7,2001:db8::/64"), [address..=address]);
        assert_eq!((announced("nodes"), announced("none")), (vec![], vec![]));
    }
}
