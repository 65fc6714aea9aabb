//! The flags that say when nodes are given up.

use std::time::Duration;

use tiphys_controllers::NodeLifecycleSettings;

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
}

fn duration(text: &str) -> Result<Duration, String> {
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
}
