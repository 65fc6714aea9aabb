//! Services, endpoints and what routes to them.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    AGE, Column, NAME, NONE, Printer, SELECTOR, UNKNOWN, UNSET, age, few, join_or, labels, name, number,
};
use super::{selector, text_or};
use crate::meta::{items, text};

pub(crate) static SERVICE: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        AGE,
        SELECTOR,
    ],
    cells: |o, now| {
        let address = items(o, &["spec", "clusterIPs"]).first().and_then(Value::as_str);
        let ports: Vec<String> = items(o, &["spec", "ports"]).iter().map(service_port).collect();
        vec![
            name(o),
            text(o, &["spec", "type"]).into(),
            address.unwrap_or(NONE).into(),
            external_address(o).into(),
            if ports.is_empty() { NONE.to_owned() } else { ports.join(",") }.into(),
            age(o, now),
            labels(o["spec"].get("selector")).into(),
        ]
    },
};

/// `80/TCP`, or `80:30080/TCP` with a node port.
fn service_port(port: &Value) -> String {
    let (number_, protocol) = (number(port, &["port"]), text(port, &["protocol"]));
    match number(port, &["nodePort"]) {
        0 => format!("{number_}/{protocol}"),
        node => format!("{number_}:{node}/{protocol}"),
    }
}

fn external_address(service: &Value) -> String {
    let given: Vec<&str> =
        items(service, &["spec", "externalIPs"]).iter().filter_map(Value::as_str).collect();
    match text(service, &["spec", "type"]) {
        "ClusterIP" | "NodePort" => join_or(&given, NONE),
        "LoadBalancer" => {
            let balanced = balancer_addresses(service);
            let all: Vec<&str> = balanced.iter().copied().chain(given).collect();
            join_or(&all, "<pending>")
        }
        "ExternalName" => text(service, &["spec", "externalName"]).to_owned(),
        _ => UNKNOWN.to_owned(),
    }
}

fn balancer_addresses(object: &Value) -> BTreeSet<&str> {
    let all = items(object, &["status", "loadBalancer", "ingress"]).iter();
    all.map(|i| text_or(i, &["ip"], text(i, &["hostname"]))).filter(|a| !a.is_empty()).collect()
}

pub(crate) static INGRESS: Printer = Printer {
    columns: &[
        NAME,
        Column::text("Class"),
        Column::text("Hosts"),
        Column::text("Address"),
        Column::text("Ports"),
        AGE,
    ],
    cells: |o, now| {
        let rules = items(o, &["spec", "rules"]).iter();
        let hosts: Vec<String> =
            rules.map(|r| text(r, &["host"]).to_owned()).filter(|h| !h.is_empty()).collect();
        let tls = !items(o, &["spec", "tls"]).is_empty();
        vec![
            name(o),
            text_or(o, &["spec", "ingressClassName"], NONE).into(),
            few(&hosts, 3, ",", "*").into(),
            balancer_addresses(o).into_iter().collect::<Vec<_>>().join(",").into(),
            if tls { "80, 443" } else { "80" }.into(),
            age(o, now),
        ]
    },
};

pub(crate) static INGRESS_CLASS: Printer = Printer {
    columns: &[NAME, Column::text("Controller"), Column::text("Parameters"), AGE],
    cells: |o, now| {
        let of = |field: &str| text(o, &["spec", "parameters", field]);
        let parameters = match (of("kind"), of("apiGroup")) {
            ("", _) => NONE.to_owned(),
            (kind, "") => format!("{kind}/{}", of("name")),
            (kind, group) => format!("{kind}.{group}/{}", of("name")),
        };
        vec![name(o), text(o, &["spec", "controller"]).into(), parameters.into(), age(o, now)]
    },
};

pub(crate) static NETWORK_POLICY: Printer = Printer {
    columns: &[NAME, Column::text("Pod-Selector"), AGE],
    cells: |o, now| vec![name(o), selector(o["spec"].get("podSelector")).into(), age(o, now)],
};

pub(crate) static ENDPOINTS: Printer = Printer {
    columns: &[NAME, Column::text("Endpoints"), AGE],
    cells: |o, now| {
        let mut all = Vec::new();
        for subset in items(o, &["subsets"]) {
            let addresses = items(subset, &["addresses"]).iter().map(|a| text(a, &["ip"]));
            match items(subset, &["ports"]) {
                [] => all.extend(addresses.map(str::to_owned)),
                ports => {
                    let addresses: Vec<&str> = addresses.collect();
                    for port in ports.iter().map(|p| number(p, &["port"])) {
                        all.extend(addresses.iter().map(|a| host_port(a, port)));
                    }
                }
            }
        }
        vec![name(o), few(&all, 3, ",", NONE).into(), age(o, now)]
    },
};

fn host_port(address: &str, port: i64) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

pub(crate) static ENDPOINT_SLICE: Printer = Printer {
    columns: &[NAME, Column::text("AddressType"), Column::text("Ports"), Column::text("Endpoints"), AGE],
    cells: |o, now| {
        let ports: Vec<String> = items(o, &["ports"])
            .iter()
            .map(|p| match number(p, &["port"]) {
                0 => p["name"].as_str().unwrap_or("*").to_owned(),
                number => number.to_string(),
            })
            .collect();
        let endpoints = items(o, &["endpoints"]).iter().flat_map(|e| items(e, &["addresses"]));
        let addresses: Vec<String> = endpoints.filter_map(Value::as_str).map(str::to_owned).collect();
        vec![
            name(o),
            text(o, &["addressType"]).into(),
            few(&ports, 3, ",", UNSET).into(),
            few(&addresses, 3, ",", UNSET).into(),
            age(o, now),
        ]
    },
};

pub(crate) static IP_ADDRESS: Printer = Printer {
    columns: &[NAME, Column::text("ParentRef"), AGE],
    cells: |o, now| {
        let of = |field: &str| text(o, &["spec", "parentRef", field]);
        let parts = [of("group"), of("resource"), of("namespace"), of("name")];
        let present: Vec<&str> = parts.into_iter().filter(|p| !p.is_empty()).collect();
        let parent = if present.is_empty() { NONE.to_owned() } else { present.join("/") };
        vec![name(o), parent.into(), age(o, now)]
    },
};

pub(crate) static SERVICE_CIDR: Printer = Printer {
    columns: &[NAME, Column::text("CIDRs"), AGE],
    cells: |o, now| {
        let ranges: Vec<&str> = items(o, &["spec", "cidrs"]).iter().filter_map(Value::as_str).collect();
        vec![name(o), ranges.join(",").into(), age(o, now)]
    },
};
