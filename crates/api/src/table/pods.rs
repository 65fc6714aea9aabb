//! Pods, and what only holds a template of one.

use std::collections::HashSet;

use jiff::Timestamp;
use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, age, containers, labels, name, number, since, text_or};
use crate::meta::{self, items, text};

pub(crate) static POD: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        AGE,
        Column::text("IP").wide(),
        Column::text("Node").wide(),
        Column::text("Nominated Node").wide(),
        Column::text("Readiness Gates").wide(),
    ],
    cells: pod,
};

pub(crate) static POD_TEMPLATE: Printer = Printer {
    columns: &[NAME, Column::text("Containers"), Column::text("Images"), Column::text("Pod Labels")],
    cells: |o, _| {
        let (names, images) = containers(&o["template"]);
        let shown = labels(meta::at(o, &["template", "metadata", "labels"]));
        vec![name(o), names, images, shown.into()]
    },
};

/// What the statuses of a pod's containers come to.
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: Restarts,
}

#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += number(status, &["restartCount"]);
        let finished = text(status, &["lastState", "terminated", "finishedAt"]);
        if let Ok(finished) = finished.parse() {
            self.last = self.last.max(Some(finished));
        }
    }
}

fn has_condition(pod: &Value, kind: &str, status: &str) -> bool {
    let all = items(pod, &["status", "conditions"]);
    all.iter().any(|c| text(c, &["type"]) == kind && text(c, &["status"]) == status)
}

/// Why a container ended, in as few words as possible.
fn end_reason(ended: &Value) -> String {
    match (text(ended, &["reason"]), number(ended, &["signal"])) {
        ("", 0) => format!("ExitCode:{}", number(ended, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn summary(pod: &Value) -> Summary {
    let init_specs = items(pod, &["spec", "initContainers"]);
    let sidecars: HashSet<&str> = init_specs
        .iter()
        .filter(|c| text(c, &["restartPolicy"]) == "Always")
        .map(|c| text(c, &["name"]))
        .collect();
    let mut reason = text_or(pod, &["status", "reason"], text(pod, &["status", "phase"])).to_owned();
    let gated = items(pod, &["status", "conditions"])
        .iter()
        .any(|c| text(c, &["type"]) == "PodScheduled" && text(c, &["reason"]) == "SchedulingGated");
    if gated {
        reason = "SchedulingGated".to_owned();
    }
    let mut ready = 0;
    let mut restarts = Restarts::default();
    let mut of_sidecars = Restarts::default();
    let mut initializing = None;
    for (i, status) in items(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
        let sidecar = sidecars.contains(text(status, &["name"]));
        restarts.add(status);
        if sidecar {
            of_sidecars.add(status);
        }
        let ended = &status["state"]["terminated"];
        let waiting = text(status, &["state", "waiting", "reason"]);
        if ended.is_object() && number(ended, &["exitCode"]) == 0 {
            continue;
        }
        if sidecar && status["started"] == true {
            ready += usize::from(status["ready"] == true);
            continue;
        }
        initializing = Some(if ended.is_object() {
            format!("Init:{}", end_reason(ended))
        } else if !waiting.is_empty() && waiting != "PodInitializing" {
            format!("Init:{waiting}")
        } else {
            format!("Init:{i}/{}", init_specs.len())
        });
        break;
    }
    let initialized = has_condition(pod, "Initialized", "True");
    if let (Some(init), false) = (&initializing, initialized) {
        reason.clone_from(init);
    } else {
        restarts = of_sidecars;
        let mut running = false;
        for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
            restarts.add(status);
            let ended = &status["state"]["terminated"];
            let waiting = text(status, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                reason = waiting.to_owned();
            } else if ended.is_object() {
                reason = end_reason(ended);
            } else if status["ready"] == true && status["state"]["running"].is_object() {
                running = true;
                ready += 1;
            }
        }
        // One container that still runs makes the pod run.
        if reason == "Completed" && running {
            let ready = has_condition(pod, "Ready", "True");
            reason = if ready { "Running" } else { "NotReady" }.to_owned();
        }
    }
    let ended = matches!(text(pod, &["status", "phase"]), "Succeeded" | "Failed");
    if meta::is_terminating(pod) {
        if text(pod, &["status", "reason"]) == "NodeLost" {
            reason = "Unknown".to_owned();
        } else if !ended {
            reason = "Terminating".to_owned();
        }
    }
    let total = items(pod, &["spec", "containers"]).len() + sidecars.len();
    Summary { reason, ready, total, restarts }
}

fn pod(pod: &Value, now: Timestamp) -> Vec<Value> {
    let Summary { reason, ready, total, restarts } = summary(pod);
    let restarts = match restarts {
        Restarts { count: 1.., last: Some(last) } => {
            format!("{} ({} ago)", restarts.count, since(&last.to_string(), now))
        }
        Restarts { count, .. } => count.to_string(),
    };
    let address = items(pod, &["status", "podIPs"]).first().map_or("", |ip| text(ip, &["ip"]));
    let gates = items(pod, &["spec", "readinessGates"]);
    let open = gates.iter().filter(|g| has_condition(pod, text(g, &["conditionType"]), "True")).count();
    vec![
        name(pod),
        format!("{ready}/{total}").into(),
        reason.into(),
        restarts.into(),
        age(pod, now),
        if address.is_empty() { NONE } else { address }.into(),
        text_or(pod, &["spec", "nodeName"], NONE).into(),
        text_or(pod, &["status", "nominatedNodeName"], NONE).into(),
        if gates.is_empty() { NONE.to_owned() } else { format!("{open}/{}", gates.len()) }.into(),
    ]
}
