//! Nodes, namespaces, events, configuration, access.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::{AGE, Column, NAME, NONE, Printer, UNKNOWN, age, either, flag, name, number, since, text_or};
use crate::meta::{self, items, text};

pub(crate) static NODE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status"),
        Column::text("Roles"),
        AGE,
        Column::text("Version"),
        Column::text("Internal-IP").wide(),
        Column::text("External-IP").wide(),
        Column::text("OS-Image").wide(),
        Column::text("Kernel-Version").wide(),
        Column::text("Container-Runtime").wide(),
    ],
    cells: node,
};

fn node(node: &Value, now: Timestamp) -> Vec<Value> {
    let ready = items(node, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Ready");
    let mut status = match ready.map(|c| text(c, &["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(node, &["spec", "unschedulable"]) {
        status.push_str(",SchedulingDisabled");
    }
    let roles: BTreeSet<&str> = meta::labels(node)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => Some(role),
            None if key == "kubernetes.io/role" => value.as_str(),
            None => None,
        })
        .filter(|role| !role.is_empty())
        .collect();
    let roles: Vec<&str> = roles.into_iter().collect();
    let address = |kind: &str| {
        let all = items(node, &["status", "addresses"]);
        all.iter().find(|a| text(a, &["type"]) == kind).map_or(NONE, |a| text(a, &["address"]))
    };
    let info = |field: &str| text(node, &["status", "nodeInfo", field]);
    let known = |field: &str| Value::from(text_or(node, &["status", "nodeInfo", field], UNKNOWN));
    vec![
        name(node),
        status.into(),
        super::join_or(&roles, NONE).into(),
        age(node, now),
        info("kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known("osImage"),
        known("kernelVersion"),
        known("containerRuntimeVersion"),
    ]
}

pub(crate) static NAMESPACE: Printer = Printer {
    columns: &[NAME, Column::text("Status"), AGE],
    cells: |o, now| vec![name(o), text(o, &["status", "phase"]).into(), age(o, now)],
};

pub(crate) static EVENT: Printer = Printer {
    columns: &[
        Column::text("Last Seen"),
        Column::text("Type"),
        Column::text("Reason"),
        Column::text("Object"),
        Column::text("Subobject").wide(),
        Column::text("Source").wide(),
        Column::text("Message"),
        Column::text("First Seen").wide(),
        Column::text("Count").wide(),
        NAME.wide(),
    ],
    cells: event,
};

fn event(event: &Value, now: Timestamp) -> Vec<Value> {
    let first = since(text_or(event, &["firstTimestamp"], text(event, &["eventTime"])), now);
    let series = &event["series"];
    let last = if series.is_object() {
        since(text(series, &["lastObservedTime"]), now)
    } else {
        match text(event, &["lastTimestamp"]) {
            "" => first.clone(),
            time => since(time, now),
        }
    };
    // The event that began a series is not counted in it.
    let count =
        if series.is_object() { number(series, &["count"]) + 1 } else { number(event, &["count"]).max(1) };
    let kind = text(event, &["involvedObject", "kind"]).to_lowercase();
    let object = match text(event, &["involvedObject", "name"]) {
        "" => kind,
        name => format!("{kind}/{name}"),
    };
    vec![
        last.into(),
        text(event, &["type"]).into(),
        text(event, &["reason"]).into(),
        object.into(),
        text(event, &["involvedObject", "fieldPath"]).into(),
        event_source(event).into(),
        text(event, &["message"]).trim().into(),
        first.into(),
        count.into(),
        name(event),
    ]
}

/// The component and, after a comma, the host or instance.
fn event_source(event: &Value) -> String {
    let component = text_or(event, &["source", "component"], text(event, &["reportingComponent"]));
    let place = text_or(event, &["source", "host"], text(event, &["reportingInstance"]));
    let parts = [component, place];
    parts.into_iter().filter(|p| !p.is_empty()).collect::<Vec<_>>().join(", ")
}

fn size(value: &Value) -> i64 {
    value.as_object().map_or(0, Map::len).try_into().unwrap_or(i64::MAX)
}

pub(crate) static CONFIG_MAP: Printer = Printer {
    columns: &[NAME, Column::text("Data"), AGE],
    cells: |o, now| vec![name(o), (size(&o["data"]) + size(&o["binaryData"])).into(), age(o, now)],
};

pub(crate) static SECRET: Printer = Printer {
    columns: &[NAME, Column::text("Type"), Column::text("Data"), AGE],
    cells: |o, now| vec![name(o), text(o, &["type"]).into(), size(&o["data"]).into(), age(o, now)],
};

pub(crate) static SERVICE_ACCOUNT: Printer =
    Printer { columns: &[NAME, AGE], cells: |o, now| vec![name(o), age(o, now)] };

pub(crate) static RESOURCE_QUOTA: Printer = Printer {
    columns: &[NAME, Column::text("Request"), Column::text("Limit"), AGE],
    cells: |o, now| {
        let used = |limits: bool| {
            let hard = o["status"]["hard"].as_object().into_iter().flatten();
            let of_kind = hard.filter(|(resource, _)| resource.starts_with("limits.") == limits);
            let shown = of_kind.map(|(resource, hard)| {
                let used = either(o["status"]["used"].get(resource), "0");
                format!("{resource}: {used}/{}", either(Some(hard), "0"))
            });
            shown.collect::<Vec<_>>().join(", ")
        };
        vec![name(o), used(false).into(), used(true).into(), age(o, now)]
    },
};

pub(crate) static LEASE: Printer = Printer {
    columns: &[NAME, Column::text("Holder"), AGE],
    cells: |o, now| vec![name(o), text(o, &["spec", "holderIdentity"]).into(), age(o, now)],
};

pub(crate) static PRIORITY_CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::number("Value"),
        Column::flag("Global-Default"),
        AGE,
        Column::text("PreemptionPolicy"),
    ],
    cells: |o, now| {
        vec![
            name(o),
            number(o, &["value"]).into(),
            flag(o, &["globalDefault"]).into(),
            age(o, now),
            text(o, &["preemptionPolicy"]).into(),
        ]
    },
};

pub(crate) static ROLE_BINDING: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Role"),
        AGE,
        Column::text("Users").wide(),
        Column::text("Groups").wide(),
        Column::text("ServiceAccounts").wide(),
    ],
    cells: |o, now| {
        let of = |kind: &str| -> Value {
            let subjects = items(o, &["subjects"]).iter().filter(|s| text(s, &["kind"]) == kind);
            let shown = subjects.map(|s| match text(s, &["namespace"]) {
                "" => text(s, &["name"]).to_owned(),
                namespace => format!("{namespace}/{}", text(s, &["name"])),
            });
            shown.collect::<Vec<_>>().join(", ").into()
        };
        let role = format!("{}/{}", text(o, &["roleRef", "kind"]), text(o, &["roleRef", "name"]));
        vec![name(o), role.into(), age(o, now), of("User"), of("Group"), of("ServiceAccount")]
    },
};

pub(crate) static SIGNING_REQUEST: Printer = Printer {
    columns: &[
        NAME,
        AGE,
        Column::text("SignerName"),
        Column::text("Requestor"),
        Column::text("RequestedDuration"),
        Column::text("Condition"),
    ],
    cells: |o, now| {
        let has = |kind: &str| {
            let all = items(o, &["status", "conditions"]);
            all.iter().any(|c| text(c, &["type"]) == kind)
        };
        let mut condition = if has("Denied") {
            "Denied"
        } else if has("Approved") {
            "Approved"
        } else {
            "Pending"
        }
        .to_owned();
        for (kind, word) in
            [(has("Failed"), ",Failed"), (o["status"].get("certificate").is_some(), ",Issued")]
        {
            if kind {
                condition.push_str(word);
            }
        }
        let asked = o["spec"]["expirationSeconds"].as_i64();
        vec![
            name(o),
            age(o, now),
            text_or(o, &["spec", "signerName"], NONE).into(),
            text(o, &["spec", "username"]).into(),
            asked.map_or_else(|| NONE.to_owned(), super::human_duration).into(),
            condition.into(),
        ]
    },
};

pub(crate) static RUNTIME_CLASS: Printer = Printer {
    columns: &[NAME, Column::text("Handler"), AGE],
    cells: |o, now| vec![name(o), text(o, &["handler"]).into(), age(o, now)],
};
