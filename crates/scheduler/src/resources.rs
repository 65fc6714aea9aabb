//! Amounts of resources, as the scheduler adds them up.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{api::core::v1::PodSpec, apimachinery::pkg::api::resource::Quantity};
use tiphys_client::placement;

pub(crate) type Quantities = BTreeMap<String, Quantity>;

/// What a container that asks for nothing is counted as when nodes are scored: 100 mCPU and 200 MB.
const SCORED_CPU: i64 = 100;
const SCORED_MEMORY: i64 = 200 * 1024 * 1024;

/// Milli-CPU, bytes, and whole units of everything else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    pub others: BTreeMap<Box<str>, i64>,
}

/// An amount in the unit that [`Resources`] keeps of a resource.
fn read(name: &str, quantity: &Quantity) -> Option<i64> {
    if name == "cpu" { placement::milli(quantity) } else { placement::units(quantity) }
}

impl Resources {
    /// Reads amounts; validation has refused what is none, so such a one counts as nothing.
    pub fn new(quantities: Option<&Quantities>) -> Self {
        let mut sum = Self::default();
        for (name, quantity) in quantities.into_iter().flatten() {
            if let Some(amount) = read(name, quantity) {
                *sum.of_mut(name) = amount;
            }
        }
        sum
    }

    /// What a pod needs at its worst moment, as [`placement::need`] has it.
    pub fn of_pod(spec: &PodSpec) -> Self {
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let stated = containers.filter_map(|c| c.resources.as_ref()).chain(&spec.resources);
        let requests = stated.filter_map(|r| r.requests.as_ref()).chain(&spec.overhead);
        let names: BTreeSet<&String> = requests.flat_map(|r| r.keys()).collect();
        let mut total = Self::default();
        for name in names {
            let amount = |list: Option<&Quantities>| list?.get(name).and_then(|q| read(name, q));
            let overhead = amount(spec.overhead.as_ref()).unwrap_or(0);
            let need = placement::need(spec, |r| amount(r.requests.as_ref()), overhead, Some(0));
            *total.of_mut(name) = need.unwrap_or(0);
        }
        total
    }

    /// How much of a resource it is.
    pub fn of(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.cpu,
            "memory" => self.memory,
            "ephemeral-storage" => self.ephemeral_storage,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }

    /// Whether it is more of anything.
    pub fn exceeds(&self, other: &Self) -> bool {
        self.cpu > other.cpu
            || self.memory > other.memory
            || self.ephemeral_storage > other.ephemeral_storage
            || self.others.iter().any(|(name, amount)| *amount > other.of(name))
    }

    fn of_mut(&mut self, name: &str) -> &mut i64 {
        match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "ephemeral-storage" => &mut self.ephemeral_storage,
            _ => self.others.entry(name.into()).or_default(),
        }
    }

    /// What the pod counts as when nodes are scored: nothing weighs nothing.
    pub fn scored(spec: &PodSpec) -> (i64, i64) {
        let mut sum = (0, 0);
        for container in &spec.containers {
            let requests = Self::new(container.resources.as_ref().and_then(|r| r.requests.as_ref()));
            sum.0 += if requests.cpu == 0 { SCORED_CPU } else { requests.cpu };
            sum.1 += if requests.memory == 0 { SCORED_MEMORY } else { requests.memory };
        }
        let real = Self::of_pod(spec);
        (sum.0.max(real.cpu), sum.1.max(real.memory))
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
        self.others.retain(|_, amount| *amount != 0);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu = with(self.cpu, other.cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value) -> Resources {
        Resources::of_pod(&serde_json::from_value(spec).expect("a spec"))
    }

    fn container(name: &str, cpu: &str, memory: &str) -> Value {
        json!({"name": name, "resources": {"requests": {"cpu": cpu, "memory": memory}}})
    }

    #[test]
    fn a_pod_needs_the_most_of_its_phases() {
        let mut sidecar = container("side", "100m", "10Mi");
        sidecar["restartPolicy"] = json!("Always");
        let spec = json!({
            "initContainers": [container("first", "2", "5Mi"), sidecar, container("second", "1", "100Mi")],
            "containers": [container("a", "300m", "20Mi"), container("b", "0.2", "30Mi")],
            "overhead": {"cpu": "10m"},
        });
        let need = pod(spec);
        assert_eq!(need.cpu, 2010, "the first init container alone");
        assert_eq!(need.memory, 110 << 20, "the second init container beside the sidecar");
    }

    #[test]
    fn requests_of_the_whole_pod_count_instead() {
        let spec =
            json!({"containers": [container("a", "1", "1Gi")], "resources": {"requests": {"cpu": "3"}}});
        let need = pod(spec);
        assert_eq!((need.cpu, need.memory), (3000, 1 << 30));
    }

    #[test]
    fn adding_and_subtracting_leaves_nothing_behind() {
        let gpu =
            Resources::new(Some(&BTreeMap::from([("example.com/gpu".to_owned(), Quantity("2".to_owned()))])));
        let mut sum = Resources::default();
        sum.add(&gpu);
        assert_eq!(sum.others.get("example.com/gpu"), Some(&2));
        sum.subtract(&gpu);
        assert_eq!(sum, Resources::default());
    }

    #[test]
    fn a_pod_that_asks_for_nothing_weighs_something() {
        let spec =
            serde_json::from_value(json!({"containers": [{"name": "a"}, {"name": "b"}]})).expect("a spec");
        assert_eq!(Resources::scored(&spec), (200, 400 << 20));
    }
}
