//! Volumes, claims and the drivers behind them.

use serde_json::Value;

use super::{AGE, Column, NAME, NONE, Printer, UNSET, age, flag, join_or, name, text_or};
use crate::meta::{self, annotation, items, text};

/// The phase of an object, unless it is being deleted.
fn phase(object: &Value) -> Value {
    if meta::is_terminating(object) { "Terminating" } else { text(object, &["status", "phase"]) }.into()
}

/// Access modes by their initials.
fn modes(modes: &[Value]) -> String {
    let short = |mode: &str| {
        modes.iter().any(|m| m == mode).then_some(match mode {
            "ReadWriteOnce" => "RWO",
            "ReadOnlyMany" => "ROX",
            "ReadWriteMany" => "RWX",
            _ => "RWOP",
        })
    };
    let known = ["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany", "ReadWriteOncePod"];
    known.into_iter().filter_map(short).collect::<Vec<_>>().join(",")
}

/// The class, which older objects name in an annotation.
fn class(object: &Value) -> Value {
    annotation(object, "volume.beta.kubernetes.io/storage-class")
        .unwrap_or_else(|| text(object, &["spec", "storageClassName"]))
        .into()
}

pub(crate) static VOLUME: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("Reclaim Policy"),
        Column::text("Status"),
        Column::text("Claim"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        Column::text("Reason"),
        AGE,
        Column::text("VolumeMode").wide(),
    ],
    cells: |o, now| {
        let claim = match &o["spec"]["claimRef"] {
            Value::Object(_) => {
                let of = |field: &str| text(o, &["spec", "claimRef", field]);
                format!("{}/{}", of("namespace"), of("name"))
            }
            _ => String::new(),
        };
        vec![
            name(o),
            text_or(o, &["spec", "capacity", "storage"], "0").into(),
            modes(items(o, &["spec", "accessModes"])).into(),
            text(o, &["spec", "persistentVolumeReclaimPolicy"]).into(),
            phase(o),
            claim.into(),
            class(o),
            text_or(o, &["spec", "volumeAttributesClassName"], UNSET).into(),
            text(o, &["status", "reason"]).into(),
            age(o, now),
            text_or(o, &["spec", "volumeMode"], UNSET).into(),
        ]
    },
};

pub(crate) static CLAIM: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Status"),
        Column::text("Volume"),
        Column::text("Capacity"),
        Column::text("Access Modes"),
        Column::text("StorageClass"),
        Column::text("VolumeAttributesClass"),
        AGE,
        Column::text("VolumeMode").wide(),
    ],
    cells: |o, now| {
        let volume = text(o, &["spec", "volumeName"]);
        let (capacity, access) = if volume.is_empty() {
            ("", String::new())
        } else {
            (text_or(o, &["status", "capacity", "storage"], "0"), modes(items(o, &["status", "accessModes"])))
        };
        vec![
            name(o),
            phase(o),
            volume.into(),
            capacity.into(),
            access.into(),
            class(o),
            text_or(o, &["spec", "volumeAttributesClassName"], UNSET).into(),
            age(o, now),
            text_or(o, &["spec", "volumeMode"], UNSET).into(),
        ]
    },
};

pub(crate) static CLASS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Provisioner"),
        Column::text("ReclaimPolicy"),
        Column::text("VolumeBindingMode"),
        Column::text("AllowVolumeExpansion"),
        AGE,
    ],
    cells: |o, now| {
        let default = annotation(o, "storageclass.kubernetes.io/is-default-class") == Some("true");
        let suffix = if default { " (default)" } else { "" };
        vec![
            format!("{}{suffix}", meta::name(o)).into(),
            text(o, &["provisioner"]).into(),
            text_or(o, &["reclaimPolicy"], "Delete").into(),
            text_or(o, &["volumeBindingMode"], "Immediate").into(),
            flag(o, &["allowVolumeExpansion"]).into(),
            age(o, now),
        ]
    },
};

pub(crate) static ATTRIBUTES_CLASS: Printer = Printer {
    columns: &[NAME, Column::text("DriverName"), AGE],
    cells: |o, now| vec![name(o), text(o, &["driverName"]).into(), age(o, now)],
};

pub(crate) static ATTACHMENT: Printer = Printer {
    columns: &[
        NAME,
        Column { format: "name", ..Column::text("Attacher") },
        Column::text("PV"),
        Column::text("Node"),
        Column::flag("Attached"),
        AGE,
    ],
    cells: |o, now| {
        vec![
            name(o),
            text(o, &["spec", "attacher"]).into(),
            text(o, &["spec", "source", "persistentVolumeName"]).into(),
            text(o, &["spec", "nodeName"]).into(),
            flag(o, &["status", "attached"]).into(),
            age(o, now),
        ]
    },
};

pub(crate) static CSI_DRIVER: Printer = Printer {
    columns: &[
        NAME,
        Column::flag("AttachRequired"),
        Column::flag("PodInfoOnMount"),
        Column::flag("StorageCapacity"),
        Column::text("TokenRequests"),
        Column::flag("RequiresRepublish"),
        Column::text("Modes"),
        AGE,
    ],
    cells: |o, now| {
        let audiences: Vec<&str> =
            items(o, &["spec", "tokenRequests"]).iter().map(|t| text(t, &["audience"])).collect();
        let modes: Vec<&str> =
            items(o, &["spec", "volumeLifecycleModes"]).iter().filter_map(Value::as_str).collect();
        vec![
            name(o),
            o["spec"]["attachRequired"].as_bool().unwrap_or(true).into(),
            flag(o, &["spec", "podInfoOnMount"]).into(),
            flag(o, &["spec", "storageCapacity"]).into(),
            join_or(&audiences, UNSET).into(),
            flag(o, &["spec", "requiresRepublish"]).into(),
            join_or(&modes, NONE).into(),
            age(o, now),
        ]
    },
};

pub(crate) static CSI_NODE: Printer = Printer {
    columns: &[NAME, Column::number("Drivers"), AGE],
    cells: |o, now| vec![name(o), items(o, &["spec", "drivers"]).len().into(), age(o, now)],
};

pub(crate) static CSI_CAPACITY: Printer = Printer {
    columns: &[NAME, Column::text("StorageClassName"), Column::text("Capacity"), AGE],
    cells: |o, now| {
        let capacity = text_or(o, &["capacity"], UNSET);
        vec![name(o), text(o, &["storageClassName"]).into(), capacity.into(), age(o, now)]
    },
};
