//! What plugins can be told (`pluginConfig`), with upstream's names, defaults and bounds.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{self, TopologySpreadConstraint};
use serde::Deserialize;
use serde_json::Value;
use tiphys_api::schedule;

/// The arguments of all plugins of a profile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Args {
    pub node_affinity: Option<Arc<v1::NodeAffinity>>,
    pub fit: FitArgs,
    pub balanced: BalancedArgs,
    pub spread: SpreadArgs,
    pub affinity: AffinityArgs,
    pub preemption: PreemptionArgs,
    pub volumes: VolumeBindingArgs,
    pub devices: DynamicResourcesArgs,
}

/// How much a resource counts in scoring.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weighted {
    pub name: Box<str>,
    #[serde(default = "one")]
    pub weight: i64,
}

fn one() -> i64 {
    1
}

fn cpu_and_memory() -> Vec<Weighted> {
    ["cpu", "memory"].map(|name| Weighted { name: name.into(), weight: 1 }).into()
}

/// A point of the line from utilization (percent) to score (0 to 10).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapePoint {
    #[serde(default)]
    pub utilization: i64,
    #[serde(default)]
    pub score: i64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Strategy {
    #[default]
    LeastAllocated,
    MostAllocated,
    RequestedToCapacityRatio,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatioParam {
    pub shape: Vec<ShapePoint>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct ScoringStrategy {
    #[serde(rename = "type")]
    pub type_: Strategy,
    pub resources: Vec<Weighted>,
    pub requested_to_capacity_ratio: RatioParam,
}

impl Default for ScoringStrategy {
    fn default() -> Self {
        Self {
            type_: Strategy::default(),
            resources: cpu_and_memory(),
            requested_to_capacity_ratio: RatioParam::default(),
        }
    }
}

/// `NodeResourcesFitArgs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct FitArgs {
    pub ignored_resources: Vec<String>,
    pub ignored_resource_groups: Vec<String>,
    pub scoring_strategy: ScoringStrategy,
}

/// `NodeResourcesBalancedAllocationArgs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BalancedArgs {
    pub resources: Vec<Weighted>,
}

impl Default for BalancedArgs {
    fn default() -> Self {
        Self { resources: cpu_and_memory() }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Defaulting {
    /// Softly over nodes and zones, whatever the cluster has.
    #[default]
    System,
    /// By the list that is given.
    List,
}

/// `PodTopologySpreadArgs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct SpreadArgs {
    pub default_constraints: Vec<TopologySpreadConstraint>,
    pub defaulting_type: Defaulting,
}

/// `InterPodAffinityArgs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AffinityArgs {
    pub hard_pod_affinity_weight: i64,
    pub ignore_preferred_terms_of_existing_pods: bool,
}

impl Default for AffinityArgs {
    fn default() -> Self {
        Self { hard_pod_affinity_weight: 1, ignore_preferred_terms_of_existing_pods: false }
    }
}

/// `DefaultPreemptionArgs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PreemptionArgs {
    pub min_candidate_nodes_percentage: usize,
    pub min_candidate_nodes_absolute: usize,
}

impl Default for PreemptionArgs {
    fn default() -> Self {
        Self { min_candidate_nodes_percentage: 10, min_candidate_nodes_absolute: 100 }
    }
}

/// `NodeAffinityArgs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct NodeAffinityArgs {
    added_affinity: Option<v1::NodeAffinity>,
}

/// `VolumeBindingArgs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct VolumeBindingArgs {
    /// How long the volumes of a pod may take to be bound or made.
    pub bind_timeout_seconds: i64,
}

impl Default for VolumeBindingArgs {
    fn default() -> Self {
        Self { bind_timeout_seconds: 600 }
    }
}

impl VolumeBindingArgs {
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.bind_timeout_seconds.unsigned_abs())
    }
}

/// `DynamicResourcesArgs`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct DynamicResourcesArgs {
    /// How long devices may take to be made ready, as Go writes it.
    pub binding_timeout: Box<str>,
    /// How long devices may be looked for on one node; none, if that is 0.
    pub filter_timeout: Box<str>,
}

impl Default for DynamicResourcesArgs {
    fn default() -> Self {
        Self { binding_timeout: "10m".into(), filter_timeout: "10s".into() }
    }
}

impl DynamicResourcesArgs {
    pub fn timeout(&self) -> Duration {
        // What is none was refused when it was read.
        schedule::duration(&self.binding_timeout).unwrap_or_default()
    }

    pub fn filter_timeout(&self) -> Option<Duration> {
        schedule::duration(&self.filter_timeout).filter(|time| !time.is_zero())
    }

    fn check(self) -> Result<Self, String> {
        let text = &self.filter_timeout;
        if schedule::duration(text).is_none() {
            return Err(format!("filterTimeout: {text:?} is no duration"));
        }
        if text.starts_with('-') {
            return Err("filterTimeout: must be zero or positive".to_owned());
        }
        match schedule::duration(&self.binding_timeout) {
            None => Err(format!("bindingTimeout: {:?} is no duration", self.binding_timeout)),
            Some(time) if time < Duration::from_secs(1) => {
                Err("bindingTimeout: must be at least 1 second".to_owned())
            }
            Some(_) => Ok(self),
        }
    }
}

impl Args {
    /// Takes the arguments of one plugin, as its `args` are written.
    ///
    /// # Errors
    /// What is wrong with them, in the words of the configuration.
    pub fn set(&mut self, plugin: &str, mut args: Value) -> Result<(), String> {
        if let Some(fields) = args.as_object_mut() {
            for (field, wanted) in [
                ("apiVersion", "kubescheduler.config.k8s.io/v1".to_owned()),
                ("kind", format!("{plugin}Args")),
            ] {
                if let Some(found) = fields.remove(field)
                    && found != wanted.as_str()
                {
                    return Err(format!("{field}: {found} is not {wanted:?}"));
                }
            }
        }
        fn read<T: serde::de::DeserializeOwned>(args: Value) -> Result<T, String> {
            serde_json::from_value(args).map_err(|e| e.to_string())
        }
        match plugin {
            "NodeAffinity" => {
                self.node_affinity = read::<NodeAffinityArgs>(args)?.added_affinity.map(Arc::new);
            }
            "NodeResourcesFit" => self.fit = check_fit(read(args)?)?,
            "NodeResourcesBalancedAllocation" => self.balanced = check_balanced(read(args)?)?,
            "PodTopologySpread" => self.spread = check_spread(read(args)?)?,
            "InterPodAffinity" => {
                let args: AffinityArgs = read(args)?;
                if !(0..=100).contains(&args.hard_pod_affinity_weight) {
                    return Err("hardPodAffinityWeight: not in the range [0-100]".to_owned());
                }
                self.affinity = args;
            }
            "DefaultPreemption" => {
                let args: PreemptionArgs = read(args)?;
                if args.min_candidate_nodes_percentage > 100 {
                    return Err("minCandidateNodesPercentage: not in the range [0, 100]".to_owned());
                }
                if args.min_candidate_nodes_percentage == 0 && args.min_candidate_nodes_absolute == 0 {
                    return Err(
                        "minCandidateNodesPercentage and minCandidateNodesAbsolute: cannot both be zero"
                            .to_owned(),
                    );
                }
                self.preemption = args;
            }
            "VolumeBinding" => {
                self.volumes = read(args)?;
                if self.volumes.bind_timeout_seconds < 0 {
                    return Err("bindTimeoutSeconds: should not be a negative value".to_owned());
                }
            }
            "DynamicResources" => self.devices = read::<DynamicResourcesArgs>(args)?.check()?,
            _ => return Err(format!("the plugin {plugin} takes no arguments")),
        }
        Ok(())
    }
}

fn check_weights(resources: &[Weighted], path: &str) -> Result<(), String> {
    match resources.iter().find(|r| !(1..=100).contains(&r.weight)) {
        Some(r) => Err(format!("{path}: the weight of {} is not in the range [1, 100]", r.name)),
        None => Ok(()),
    }
}

fn check_fit(args: FitArgs) -> Result<FitArgs, String> {
    let strategy = &args.scoring_strategy;
    check_weights(&strategy.resources, "scoringStrategy.resources")?;
    let shape = &strategy.requested_to_capacity_ratio.shape;
    if strategy.type_ == Strategy::RequestedToCapacityRatio {
        let path = "scoringStrategy.requestedToCapacityRatio.shape";
        if shape.is_empty() {
            return Err(format!("{path}: at least one point must be specified"));
        }
        if shape.iter().any(|p| !(0..=100).contains(&p.utilization) || !(0..=10).contains(&p.score)) {
            return Err(format!("{path}: utilization is not in [0, 100] or score not in [0, 10]"));
        }
        if shape.windows(2).any(|pair| pair[0].utilization >= pair[1].utilization) {
            return Err(format!("{path}: utilization values must be sorted in increasing order"));
        }
    }
    if let Some(group) = args.ignored_resource_groups.iter().find(|group| group.contains('/')) {
        return Err(format!("ignoredResourceGroups: {group:?}: resource group name can't contain '/'"));
    }
    Ok(args)
}

fn check_balanced(args: BalancedArgs) -> Result<BalancedArgs, String> {
    match args.resources.iter().find(|r| r.weight != 1) {
        Some(r) => Err(format!("resources: the weight of {} must be 1", r.name)),
        None => Ok(args),
    }
}

fn check_spread(args: SpreadArgs) -> Result<SpreadArgs, String> {
    if args.defaulting_type == Defaulting::System && !args.default_constraints.is_empty() {
        return Err("defaultingType: when .defaultConstraints are specified, it must be List".to_owned());
    }
    if args.default_constraints.iter().any(|c| c.label_selector.is_some()) {
        return Err(
            "defaultConstraints: constraint must not define a selector, as they deduced for each pod"
                .to_owned(),
        );
    }
    Ok(args)
}
