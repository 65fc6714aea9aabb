//! What configures the API server, and devices.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, UNSET, age, name, number, selector, text_or};
use crate::meta::{self, items, text};

pub(crate) static WEBHOOKS: Printer = Printer {
    columns: &[NAME, Column::number("Webhooks"), AGE],
    cells: |o, now| vec![name(o), items(o, &["webhooks"]).len().into(), age(o, now)],
};

pub(crate) static VALIDATING_POLICY: Printer = Printer {
    columns: &[NAME, Column::number("Validations"), Column::text("ParamKind"), AGE],
    cells: |o, now| {
        vec![name(o), items(o, &["spec", "validations"]).len().into(), param_kind(o), age(o, now)]
    },
};

pub(crate) static MUTATING_POLICY: Printer = Printer {
    columns: &[NAME, Column::number("Mutations"), Column::text("ParamKind"), AGE],
    cells: |o, now| vec![name(o), items(o, &["spec", "mutations"]).len().into(), param_kind(o), age(o, now)],
};

fn param_kind(policy: &Value) -> Value {
    match policy["spec"].get("paramKind") {
        Some(kind) => format!("{}/{}", text(kind, &["apiVersion"]), text(kind, &["kind"])).into(),
        None => UNSET.into(),
    }
}

pub(crate) static POLICY_BINDING: Printer = Printer {
    columns: &[NAME, Column::text("PolicyName"), Column::text("ParamRef"), AGE],
    cells: |o, now| {
        let reference = &o["spec"]["paramRef"];
        let parameter = match (text(reference, &["name"]), reference.get("selector")) {
            ("", Some(chosen)) => selector(Some(chosen)),
            ("", None) => UNSET.to_owned(),
            (named, _) => format!("{}/{named}", text_or(reference, &["namespace"], "*")),
        };
        vec![name(o), text(o, &["spec", "policyName"]).into(), parameter.into(), age(o, now)]
    },
};

pub(crate) static API_SERVICE: Printer = Printer {
    columns: &[NAME, Column::text("Service"), Column::text("Available"), AGE],
    cells: |o, now| {
        let service = match o["spec"].get("service") {
            Some(s) => format!("{}/{}", text(s, &["namespace"]), text(s, &["name"])),
            None => "Local".to_owned(),
        };
        let found = items(o, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Available");
        let available = match found.map(|c| (text(c, &["status"]), text(c, &["reason"]))) {
            None => "Unknown".to_owned(),
            Some(("True", _)) => "True".to_owned(),
            Some((status, "")) => status.to_owned(),
            Some((status, reason)) => format!("{status} ({reason})"),
        };
        vec![name(o), service.into(), available.into(), age(o, now)]
    },
};

pub(crate) static FLOW_SCHEMA: Printer = Printer {
    columns: &[
        NAME,
        Column::text("PriorityLevel"),
        Column::number("MatchingPrecedence"),
        Column::text("DistinguisherMethod"),
        AGE,
        Column::text("MissingPL"),
    ],
    cells: |o, now| {
        let dangling = items(o, &["status", "conditions"]).iter().find(|c| text(c, &["type"]) == "Dangling");
        vec![
            name(o),
            text(o, &["spec", "priorityLevelConfiguration", "name"]).into(),
            number(o, &["spec", "matchingPrecedence"]).into(),
            text_or(o, &["spec", "distinguisherMethod", "type"], NONE).into(),
            age(o, now),
            dangling.map_or("?", |c| text(c, &["status"])).into(),
        ]
    },
};

pub(crate) static PRIORITY_LEVEL: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type"),
        Column::text("NominalConcurrencyShares"),
        Column::text("Queues"),
        Column::text("HandSize"),
        Column::text("QueueLengthLimit"),
        AGE,
    ],
    cells: |o, now| {
        let limited = |path: &[&str]| {
            let found = meta::at(&o["spec"]["limited"], path).cloned();
            found.unwrap_or_else(|| NONE.into())
        };
        let queuing = |field: &str| limited(&["limitResponse", "queuing", field]);
        vec![
            name(o),
            text(o, &["spec", "type"]).into(),
            limited(&["nominalConcurrencyShares"]),
            queuing("queues"),
            queuing("handSize"),
            queuing("queueLengthLimit"),
            age(o, now),
        ]
    },
};

pub(crate) static CLAIM: Printer = Printer {
    columns: &[NAME, Column::text("State"), AGE],
    cells: |o, now| {
        let going = !text(o, &["metadata", "deletionTimestamp"]).is_empty();
        let allocated = o["status"].get("allocation").is_some();
        let reserved = allocated && !items(o, &["status", "reservedFor"]).is_empty();
        let states = [
            (going, "deleted"),
            (!going && !allocated, "pending"),
            (allocated, "allocated"),
            (reserved, "reserved"),
        ];
        let states: Vec<&str> = states.into_iter().filter(|(is, _)| *is).map(|(_, state)| state).collect();
        vec![name(o), states.join(",").into(), age(o, now)]
    },
};

pub(crate) static SLICE: Printer = Printer {
    columns: &[NAME, Column::text("Node"), Column::text("Driver"), Column::text("Pool"), AGE],
    cells: |o, now| {
        let spec = |path: &[&str]| Value::from(text(&o["spec"], path));
        vec![name(o), spec(&["nodeName"]), spec(&["driver"]), spec(&["pool", "name"]), age(o, now)]
    },
};

pub(crate) static MIGRATION: Printer = Printer {
    columns: &[Column::text("Name"), Column::text("Resource")],
    cells: |o, _| {
        let resource = |field: &str| text(o, &["spec", "resource", field]);
        vec![name(o), format!("{}.{}", resource("resource"), resource("group")).into()]
    },
};

/// Kinds that show only how old they are.
pub(crate) static NAME_AND_AGE: Printer =
    Printer { columns: &[NAME, AGE], cells: |o, now| vec![name(o), age(o, now)] };

pub(crate) static TRUST_BUNDLE: Printer = Printer {
    columns: &[NAME, Column::text("SignerName")],
    cells: |o, _| vec![name(o), text(o, &["spec", "signerName"]).into()],
};

pub(crate) static LEASE_CANDIDATE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("LeaseName"),
        Column::text("BinaryVersion"),
        Column::text("EmulationVersion"),
        AGE,
    ],
    cells: |o, now| {
        let spec = |field: &str| Value::from(text(&o["spec"], &[field]));
        vec![name(o), spec("leaseName"), spec("binaryVersion"), spec("emulationVersion"), age(o, now)]
    },
};

pub(crate) static COMPONENT: Printer = Printer {
    columns: &[NAME, Column::text("Status"), Column::text("Message"), Column::text("Error")],
    cells: |o, _| {
        let healthy = items(o, &["conditions"]).iter().find(|c| text(c, &["type"]) == "Healthy");
        let told = |field: &str| Value::from(healthy.map_or("", |c| text(c, &[field])));
        let status = match healthy.map(|c| text(c, &["status"])) {
            Some("True") => "Healthy",
            Some("False") => "Unhealthy",
            _ => "Unknown",
        };
        vec![name(o), status.into(), told("message"), told("error")]
    },
};
