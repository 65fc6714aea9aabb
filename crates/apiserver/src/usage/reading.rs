//! What a kubelet says at `/metrics/resource`: text as Prometheus reads it.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

/// What something has used of processors since it began, in nanoseconds, and of memory now, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Used {
    pub(super) cpu: u64,
    pub(super) memory: u64,
}

/// A node's answer. What is not told whole is left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Timestamp,
    pub(super) node: Option<Used>,
    /// Containers by their names, by namespace and name of their pods.
    pub(super) pods: HashMap<(String, String), BTreeMap<String, Used>>,
}

#[derive(Default)]
struct Partly {
    cpu: Option<u64>,
    memory: Option<u64>,
}

impl Partly {
    fn whole(self) -> Option<Used> {
        Some(Used { cpu: self.cpu?, memory: self.memory? })
    }
}

impl Reading {
    /// Reads the answer that came at `at`. Lines that are of no interest, or no samples, are passed over.
    pub(super) fn parse(text: &str, at: Timestamp) -> Self {
        let mut node = Partly::default();
        let mut pods: HashMap<(String, String), BTreeMap<String, Partly>> = HashMap::new();
        for sample in text.lines().filter_map(Sample::parse) {
            let Sample { name, mut labels, value } = sample;
            match name {
                "node_cpu_usage_seconds_total" => node.cpu = Some(nanoseconds(value)),
                "node_memory_working_set_bytes" => node.memory = Some(value as u64),
                "container_cpu_usage_seconds_total" | "container_memory_working_set_bytes" => {
                    let mut label = |name| labels.remove(name).filter(|value| !value.is_empty());
                    let (Some(namespace), Some(pod), Some(container)) =
                        (label("namespace"), label("pod"), label("container"))
                    else {
                        continue;
                    };
                    let used = pods.entry((namespace, pod)).or_default().entry(container).or_default();
                    match name {
                        "container_cpu_usage_seconds_total" => used.cpu = Some(nanoseconds(value)),
                        _ => used.memory = Some(value as u64),
                    }
                }
                _ => {}
            }
        }
        let whole = |containers: BTreeMap<String, Partly>| {
            let told = containers.into_iter().filter_map(|(name, used)| Some((name, used.whole()?)));
            told.collect::<BTreeMap<_, _>>()
        };
        let pods = pods.into_iter().map(|(pod, containers)| (pod, whole(containers)));
        Self { at, node: node.whole(), pods: pods.filter(|(_, told)| !told.is_empty()).collect() }
    }
}

fn nanoseconds(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

/// One line: `name{label="value",...} 1.5e3`, perhaps with a time after it.
struct Sample<'a> {
    name: &'a str,
    labels: BTreeMap<&'a str, String>,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let end = line.find(['{', ' ']).filter(|_| !line.starts_with('#'))?;
        let (name, mut rest) = line.split_at(end);
        let mut labels = BTreeMap::new();
        if let Some(within) = rest.strip_prefix('{') {
            rest = within;
            loop {
                rest = rest.trim_start_matches([',', ' ']);
                if let Some(after) = rest.strip_prefix('}') {
                    rest = after;
                    break;
                }
                let (label, quoted) = rest.split_once("=\"")?;
                let (value, after) = unquoted(quoted)?;
                labels.insert(label, value);
                rest = after;
            }
        }
        let value: f64 = rest.split_ascii_whitespace().next()?.parse().ok()?;
        value.is_finite().then_some(Self { name, labels, value })
    }
}

/// A label's value up to its closing quote, and what follows that.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
#[path = "reading_tests.rs"]
mod tests;
