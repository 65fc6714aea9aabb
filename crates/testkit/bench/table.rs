//! The table: one row a measure.

use std::collections::BTreeMap;

/// A measure's goal; rates have none of their own, but that the reference's.
pub(crate) struct Row {
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
}

const fn row(name: &'static str, unit: &'static str, goal: Option<f64>) -> Row {
    Row { name, unit, goal }
}

pub(crate) const START_EMPTY: &str = "process start to node Ready, data directory empty, p50";
pub(crate) const START_EXISTING: &str = "process start to node Ready, data directory existing, p50";
pub(crate) const MEMORY: &str = "memory (PSS), cluster idle with the example, shims included";
pub(crate) const MEMORY_SERVERS: &str = "of it the servers";
pub(crate) const MEMORY_PODS: &str = "of it the pods' shims and pauses";
pub(crate) const POD_OVERHEAD: &str = "one pod's own overhead (PSS of shim and pause)";
pub(crate) const CPU: &str = "CPU of the idle cluster, of a core, over 20 s";
pub(crate) const CREATE_TO_RUNNING: &str = "create to Running of one pod, image present, p50";
pub(crate) const HUNDRED: &str = "100 pods created at once, all Ready";

const ROWS: [Row; 17] = [
    row(START_EMPTY, "ms", Some(1000.)),
    row(START_EXISTING, "ms", Some(500.)),
    row(MEMORY, "MB", Some(64.)),
    row(MEMORY_SERVERS, "MB", None),
    row(MEMORY_PODS, "MB", None),
    row(POD_OVERHEAD, "MB", Some(2.)),
    row(CPU, "%", Some(1.)),
    row(CREATE_TO_RUNNING, "ms", Some(150.)),
    row(HUNDRED, "s", Some(10.)),
    row("creates of ConfigMaps, 1 client", "/s", None),
    row("creates of ConfigMaps, 16 clients", "/s", None),
    row("creates of Pods, 1 client", "/s", None),
    row("creates of Pods, 16 clients", "/s", None),
    row("gets of one ConfigMap, 1 client", "/s", None),
    row("gets of one ConfigMap, 16 clients", "/s", None),
    row("lists of 500 ConfigMaps, 1 client", "/s", None),
    row("lists of 500 ConfigMaps, 16 clients", "/s", None),
];

/// What was measured of each side, by the measure's name.
#[derive(Default)]
pub(crate) struct Table {
    tiphys: BTreeMap<&'static str, f64>,
    reference: BTreeMap<&'static str, f64>,
    reference_name: Option<String>,
}

impl Table {
    pub(crate) fn tiphys(&mut self, name: &'static str, value: f64) {
        self.tiphys.insert(name, value);
    }

    pub(crate) fn reference(&mut self, name: &'static str, value: f64) {
        self.reference.insert(name, value);
    }

    /// Says what the reference was.
    pub(crate) fn beside(&mut self, name: String) {
        self.reference_name = Some(name);
    }

    /// The table in Markdown. The ratio is Tiphys' number over the reference's.
    pub(crate) fn render(&self) -> String {
        let mut out = match &self.reference_name {
            Some(name) => format!("The reference: {name}.\n\n"),
            None => "No reference is installed (see CONTRIBUTING.md).\n\n".to_owned(),
        };
        out.push_str("| measure | Tiphys | reference | ratio | goal |\n|---|---|---|---|---|\n");
        for Row { name, unit, goal } in &ROWS {
            let Some(ours) = self.tiphys.get(name) else { continue };
            let theirs = self.reference.get(name);
            let shown =
                |value: Option<&f64>| value.map_or("–".to_owned(), |v| format!("{} {unit}", rounded(*v)));
            let ratio = theirs.map_or("–".to_owned(), |theirs| rounded(ours / theirs));
            let goal = goal.map_or("–".to_owned(), |goal| {
                let verdict = if *ours < goal { "met" } else { "**missed**" };
                format!("under {goal} {unit}: {verdict}")
            });
            out.push_str(&format!(
                "| {name} | {} | {} | {ratio} | {goal} |\n",
                shown(Some(ours)),
                shown(theirs)
            ));
        }
        out
    }
}

/// Three digits that count.
fn rounded(value: f64) -> String {
    match value.abs() {
        v if v >= 100. => format!("{value:.0}"),
        v if v >= 10. => format!("{value:.1}"),
        v if v >= 1. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// The middle of some samples; with an even number the upper one of the two.
pub(crate) fn p50(samples: &mut [f64]) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
