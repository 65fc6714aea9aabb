//! What makes pods.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    AGE, CONTAINERS, Column, IMAGES, NAME, NONE, Printer, SELECTOR, UNKNOWN, UNSET, age, containers, either,
    few, human_duration, labels, name, number, selector, since, text_or,
};
use crate::meta::{self, items, text};

/// `autoscaling/v1.Scale`
pub static SCALE: Printer = Printer {
    columns: &[Column::text("Name"), Column::number("Desired"), Column::number("Available"), AGE],
    cells: |o, now| {
        let replicas = |part: &str| number(o, &[part, "replicas"]).into();
        vec![name(o), replicas("spec"), replicas("status"), age(o, now)]
    },
};

pub(crate) static DEPLOYMENT: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Ready"),
        Column::text("Up-to-date"),
        Column::text("Available"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let (names, images) = containers(&o["spec"]["template"]);
        vec![
            name(o),
            ready(o),
            number(o, &["status", "updatedReplicas"]).into(),
            number(o, &["status", "availableReplicas"]).into(),
            age(o, now),
            names,
            images,
            selector(o["spec"].get("selector")).into(),
        ]
    },
};

/// Ready of wanted replicas.
fn ready(object: &Value) -> Value {
    let ready = number(object, &["status", "readyReplicas"]);
    format!("{ready}/{}", number(object, &["spec", "replicas"])).into()
}

const REPLICAS: &[Column] = &[
    NAME,
    Column::number("Desired"),
    Column::number("Current"),
    Column::number("Ready"),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

fn replicas(object: &Value, now: Timestamp, selector: String) -> Vec<Value> {
    let (names, images) = containers(&object["spec"]["template"]);
    vec![
        name(object),
        number(object, &["spec", "replicas"]).into(),
        number(object, &["status", "replicas"]).into(),
        number(object, &["status", "readyReplicas"]).into(),
        age(object, now),
        names,
        images,
        selector.into(),
    ]
}

pub(crate) static REPLICA_SET: Printer =
    Printer { columns: REPLICAS, cells: |o, now| replicas(o, now, selector(o["spec"].get("selector"))) };

pub(crate) static REPLICATION_CONTROLLER: Printer =
    Printer { columns: REPLICAS, cells: |o, now| replicas(o, now, labels(o["spec"].get("selector"))) };

pub(crate) static STATEFUL_SET: Printer = Printer {
    columns: &[NAME, Column::text("Ready"), AGE, CONTAINERS, IMAGES],
    cells: |o, now| {
        let (names, images) = containers(&o["spec"]["template"]);
        vec![name(o), ready(o), age(o, now), names, images]
    },
};

pub(crate) static DAEMON_SET: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Desired"),
        Column::number("Current"),
        Column::number("Ready"),
        Column::number("Up-to-date"),
        Column::number("Available"),
        Column::text("Node Selector"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let status = |field: &str| Value::from(number(o, &["status", field]));
        let (names, images) = containers(&o["spec"]["template"]);
        vec![
            name(o),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            labels(meta::at(o, &["spec", "template", "spec", "nodeSelector"])).into(),
            age(o, now),
            names,
            images,
            selector(o["spec"].get("selector")).into(),
        ]
    },
};

pub(crate) static JOB: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status"),
        Column::text("Completions"),
        Column::text("Duration"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: job,
};

fn job(job: &Value, now: Timestamp) -> Vec<Value> {
    let succeeded = number(job, &["status", "succeeded"]);
    let completions = match (job["spec"]["completions"].as_i64(), number(job, &["spec", "parallelism"])) {
        (Some(wanted), _) => format!("{succeeded}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{succeeded}/1 of {parallel}"),
        (None, _) => format!("{succeeded}/1"),
    };
    let time = |field: &str| text(job, &["status", field]).parse::<Timestamp>().ok();
    let duration = time("startTime").map_or_else(String::new, |start| {
        human_duration(time("completionTime").unwrap_or(now).as_second() - start.as_second())
    });
    let (names, images) = containers(&job["spec"]["template"]);
    vec![
        name(job),
        job_status(job).into(),
        completions.into(),
        duration.into(),
        age(job, now),
        names,
        images,
        selector(job["spec"].get("selector")).into(),
    ]
}

fn job_status(job: &Value) -> &'static str {
    let has = |kind: &str| {
        let all = items(job, &["status", "conditions"]);
        all.iter().any(|c| text(c, &["type"]) == kind && text(c, &["status"]) == "True")
    };
    if has("Complete") {
        "Complete"
    } else if has("Failed") {
        "Failed"
    } else if meta::is_terminating(job) {
        "Terminating"
    } else if has("Suspended") {
        "Suspended"
    } else if has("FailureTarget") {
        "FailureTarget"
    } else if has("SuccessCriteriaMet") {
        "SuccessCriteriaMet"
    } else {
        "Running"
    }
}

pub(crate) static CRON_JOB: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Schedule"),
        Column::text("Timezone"),
        Column::flag("Suspend"),
        Column::number("Active"),
        Column::text("Last Schedule"),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |o, now| {
        let suspended = match o["spec"]["suspend"].as_bool() {
            Some(true) => "True",
            Some(false) => "False",
            None => UNSET,
        };
        let last = match text(o, &["status", "lastScheduleTime"]) {
            "" => NONE.to_owned(),
            time => since(time, now),
        };
        let job = &o["spec"]["jobTemplate"]["spec"];
        let (names, images) = containers(&job["template"]);
        vec![
            name(o),
            text(o, &["spec", "schedule"]).into(),
            text_or(o, &["spec", "timeZone"], NONE).into(),
            suspended.into(),
            items(o, &["status", "active"]).len().into(),
            last.into(),
            age(o, now),
            names,
            images,
            selector(job.get("selector")).into(),
        ]
    },
};

pub(crate) static CONTROLLER_REVISION: Printer = Printer {
    columns: &[NAME, Column::text("Controller"), Column::text("Revision"), AGE],
    cells: |o, now| {
        let owners = items(o, &["metadata", "ownerReferences"]);
        let owner = owners.iter().find(|r| r["controller"] == true).map_or_else(
            || NONE.to_owned(),
            |r| {
                let (group, _) = crate::kind::split_api_version(text(r, &["apiVersion"]));
                let kind = text(r, &["kind"]).to_lowercase();
                let kind = if group.is_empty() { kind } else { format!("{kind}.{group}") };
                format!("{kind}/{}", text(r, &["name"]))
            },
        );
        vec![name(o), owner.into(), number(o, &["revision"]).into(), age(o, now)]
    },
};

pub(crate) static AUTOSCALER: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Reference"),
        Column::text("Targets"),
        Column::text("MinPods"),
        Column::text("MaxPods"),
        Column::text("Replicas"),
        AGE,
    ],
    cells: |o, now| {
        let target = &o["spec"]["scaleTargetRef"];
        vec![
            name(o),
            format!("{}/{}", text(target, &["kind"]), text(target, &["name"])).into(),
            metrics(o).into(),
            either(o["spec"].get("minReplicas"), UNSET).into(),
            number(o, &["spec", "maxReplicas"]).into(),
            number(o, &["status", "currentReplicas"]).into(),
            age(o, now),
        ]
    },
};

/// What is measured and what is wanted of each metric.
fn metrics(autoscaler: &Value) -> String {
    let current = items(autoscaler, &["status", "currentMetrics"]);
    let shown = |(i, metric): (usize, &Value)| {
        let (source, named) = match text(metric, &["type"]) {
            "Resource" => ("resource", true),
            "ContainerResource" => ("containerResource", true),
            "Pods" => ("pods", false),
            "Object" => ("object", false),
            "External" => ("external", false),
            _ => return "<unknown type>".to_owned(),
        };
        let target = &metric[source]["target"];
        let now = current.get(i).map_or(&Value::Null, |c| &c[source]["current"]);
        let show = |field: &str| {
            let percent = if field == "averageUtilization" { "%" } else { "" };
            let of = |v: &Value, absent: &str| match v.get(field) {
                Some(_) => either(v.get(field), absent) + percent,
                None => absent.to_owned(),
            };
            format!("{}/{}", of(now, UNKNOWN), of(target, "<auto>"))
        };
        if named {
            let field =
                if target.get("averageValue").is_some() { "averageValue" } else { "averageUtilization" };
            format!("{}: {}", text(metric, &[source, "name"]), show(field))
        } else if source == "pods" {
            show("averageValue")
        } else if target.get("averageValue").is_some() {
            format!("{} (avg)", show("averageValue"))
        } else {
            show("value")
        }
    };
    let all: Vec<String> = items(autoscaler, &["spec", "metrics"]).iter().enumerate().map(shown).collect();
    few(&all, 2, ", ", NONE)
}

pub(crate) static DISRUPTION_BUDGET: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Min Available"),
        Column::text("Max Unavailable"),
        Column::number("Allowed Disruptions"),
        AGE,
    ],
    cells: |o, now| {
        vec![
            name(o),
            either(o["spec"].get("minAvailable"), "N/A").into(),
            either(o["spec"].get("maxUnavailable"), "N/A").into(),
            number(o, &["status", "disruptionsAllowed"]).into(),
            age(o, now),
        ]
    },
};
