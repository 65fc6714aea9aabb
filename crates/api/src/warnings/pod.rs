//! Of pods, and of templates that pods are made by.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::{GONE_VOLUMES, address, gone_volume, node_label, node_term};
use crate::field::quoted;
use crate::meta;
use crate::names;
use crate::quantity::Quantity;
use crate::validate::{At, annotations};

/// A pod that is made; nobody looks at what is told of later writes.
pub(super) fn pod(new: &Value, old: &Value) -> Vec<String> {
    if !old.is_null() {
        return Vec::new();
    }
    let mut told = name(new, "the Pod's hostname");
    all(&At::root(new), false, &mut told);
    told
}

/// As [`template`], of what gives its pods names that begin with its own.
pub(super) fn names_pods(path: &[&str], new: &Value, old: &Value) -> Vec<String> {
    let mut told = if old.is_null() { name(new, "Pod names and hostnames") } else { Vec::new() };
    told.extend(template(path, new, old));
    told
}

fn name(object: &Value, used_in: &str) -> Vec<String> {
    let wrong = names::dns_label(meta::name(object), false);
    let told = || {
        let wrong = wrong.join(" ");
        format!(
            "metadata.name: this is used in {used_in}, which can result in surprising behavior; a DNS label is recommended: [{wrong}]"
        )
    };
    (!wrong.is_empty()).then(told).into_iter().collect()
}

/// An object with a template, when it is made and when its generation changes.
pub(super) fn template(path: &[&str], new: &Value, old: &Value) -> Vec<String> {
    let generation = |object: &Value| object["metadata"]["generation"].as_i64();
    let mut told = Vec::new();
    if old.is_null() || generation(new) != generation(old) {
        within(&At::root(new), path, &mut told);
    }
    told
}

fn within(at: &At<'_>, path: &[&str], told: &mut Vec<String>) {
    match path.split_first() {
        Some((first, rest)) => within(&at.get(first), rest, told),
        None => all(at, true, told),
    }
}

const CRITICAL: &str = r#"non-functional in v1.16+; use the "priorityClassName" field instead"#;
const SYSCTLS: &str = r#"non-functional in v1.11+; use the "sysctls" field instead"#;
const SECCOMP: &str = r#"non-functional in v1.27+; use the "seccompProfile" field instead"#;
const APP_ARMOR: &str = r#"deprecated since v1.30; use the "appArmorProfile" field instead"#;
const NO_SELECTOR: &str = "a null labelSelector results in matching no pod";

fn all(pod: &At<'_>, is_template: bool, told: &mut Vec<String>) {
    let (metadata, spec) = (pod.get("metadata"), pod.get("spec"));
    let said = metadata.get("annotations");
    placement(&spec, told);
    for (key, why) in [
        ("scheduler.alpha.kubernetes.io/critical-pod", CRITICAL),
        ("security.alpha.kubernetes.io/sysctls", SYSCTLS),
        ("security.alpha.kubernetes.io/unsafe-sysctls", SYSCTLS),
    ] {
        annotation(&said, key, why, told);
    }
    let volumes = spec.get("volumes");
    for volume in volumes.items() {
        gone_volume(&volume, GONE_VOLUMES.map(|(driver, _)| driver).as_slice(), told);
    }
    volumes.items().for_each(|volume| overlaps(&volume, told));
    twice(&spec.get("hostAliases"), "ip", told);
    let secrets = spec.get("imagePullSecrets");
    twice(&secrets, "name", told);
    for secret in secrets.items() {
        let name = secret.get("name");
        if name.text().is_empty() {
            told.push(format!("{}: invalid empty name \"\"", name.path()));
        }
    }
    whole_bytes(&spec.get("overhead"), told);
    let security = spec.get("securityContext");
    if !security.has("seccompProfile") {
        annotation(&said, annotations::SECCOMP_POD, SECCOMP, told);
    }
    let lists = ["initContainers", "containers", "ephemeralContainers"].map(|list| spec.get(list));
    let containers = || lists.iter().flat_map(At::items);
    for container in containers() {
        let (name, security) = (container.get("name"), container.get("securityContext"));
        if !security.has("seccompProfile") {
            let key = format!("{}{}", annotations::SECCOMP, name.text());
            annotation(&said, &key, SECCOMP, told);
        }
        let profile = spec.value()["securityContext"].get("appArmorProfile");
        if is_template && !security.has("appArmorProfile") {
            let key = format!("{}{}", annotations::APP_ARMOR, name.text());
            let old = meta::annotation(pod.value(), &key);
            if old.is_some_and(|old| profile != Some(&app_armor(old))) {
                annotation(&said, &key, APP_ARMOR, told);
            }
        }
        let resources = container.get("resources");
        for which in ["limits", "requests"] {
            whole_bytes(&resources.get(which), told);
        }
        hidden_variables(&container.get("env"), told);
    }
    ports(&lists, told);
    let grace = spec.get("terminationGracePeriodSeconds");
    if grace.number().is_some_and(|seconds| seconds < 0) {
        told.push(format!(
            "{}: must be >= 0; negative values are invalid and will be treated as 1",
            grace.path()
        ));
    }
    affinity(&spec.get("affinity"), told);
    let dns = spec.get("dnsConfig");
    dns.get("nameservers").items().for_each(|server| address(&server, told));
    spec.get("hostAliases").items().for_each(|alias| address(&alias.get("ip"), told));
}

/// The field that an annotation of AppArmor stands for.
fn app_armor(annotation: &str) -> Value {
    match (annotation, annotation.strip_prefix("localhost/")) {
        ("unconfined", _) => json!({"type": "Unconfined"}),
        ("runtime/default", _) => json!({"type": "RuntimeDefault"}),
        (_, Some(profile)) if !profile.is_empty() => {
            json!({"type": "Localhost", "localhostProfile": profile})
        }
        _ => Value::Null,
    }
}

fn annotation(annotations: &At<'_>, key: &str, why: &str, told: &mut Vec<String>) {
    if annotations.has(key) {
        told.push(format!("{}: {why}", annotations.path().key(key)));
    }
}

/// Where the pod may go.
fn placement(spec: &At<'_>, told: &mut Vec<String>) {
    for (label, at) in spec.get("nodeSelector").entries() {
        told.extend(node_label(label).map(|why| format!("{}: {why}", at.path())));
    }
    let affinity = spec.get("affinity");
    let of_nodes = affinity.get("nodeAffinity");
    let required = of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution");
    required.get("nodeSelectorTerms").items().for_each(|term| node_term(&term, told));
    for term in of_nodes.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
        let preference = term.get("preference");
        node_term(&preference, told);
        for expression in preference.get("matchExpressions").items() {
            for value in expression.get("values").items() {
                let wrong = names::label_value(value.text());
                told.extend(
                    wrong.iter().map(|why| format!("{}: {} is invalid, {why}", value.path(), value.text())),
                );
            }
        }
    }
    for constraint in spec.get("topologySpreadConstraints").items() {
        let key = constraint.get("topologyKey");
        told.extend(node_label(key.text()).map(|why| format!("{}: {} is {why}", key.path(), key.text())));
        selects(&constraint, told);
    }
}

fn affinity(affinity: &At<'_>, told: &mut Vec<String>) {
    for which in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.get(which);
        for term in terms.get("requiredDuringSchedulingIgnoredDuringExecution").items() {
            selects(&term, told);
        }
        for term in terms.get("preferredDuringSchedulingIgnoredDuringExecution").items() {
            selects(&term.get("podAffinityTerm"), told);
        }
    }
}

fn selects(holder: &At<'_>, told: &mut Vec<String>) {
    if !holder.has("labelSelector") {
        told.push(format!("{}: {NO_SELECTOR}", holder.path().child("labelSelector")));
    }
}

/// Items of a list that have the same value.
fn twice(list: &At<'_>, field: &str, told: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        let value = item.get(field);
        if !seen.insert(value.text().to_owned()) {
            told.push(format!("{}: duplicate {field} {}", value.path(), quoted(value.text())));
        }
    }
}

/// Amounts of bytes, of which there are no parts.
fn whole_bytes(amounts: &At<'_>, told: &mut Vec<String>) {
    for resource in ["memory", "ephemeral-storage"] {
        let said = amounts.value()[resource].as_str().unwrap_or_default();
        if Quantity::parse(said).is_ok_and(|amount| !amount.is_whole()) {
            told.push(format!(
                "{}: fractional byte value {} is invalid, must be an integer",
                amounts.path().key(resource),
                quoted(said)
            ));
        }
    }
}

/// Variables that are given again, unless the later value makes use of the earlier one.
fn hidden_variables(variables: &At<'_>, told: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for variable in variables.items() {
        let (name, value) = (variable.get("name").text(), variable.get("value").text());
        let earlier = format!("$({name})");
        let hides = variable.has("valueFrom") || value == earlier || !value.contains(&earlier);
        if !seen.insert(name.to_owned()) && hides {
            told.push(format!(
                "{}: hides previous definition of {}, which may be dropped when using apply",
                variable.path(),
                quoted(name)
            ));
        }
    }
}

/// A port of a container, as far as it can meet another.
struct Port {
    at: String,
    host: i64,
    address: String,
}

fn ports(lists: &[At<'_>], told: &mut Vec<String>) {
    let mut known: BTreeMap<String, Vec<Port>> = BTreeMap::new();
    let mut names = Vec::new();
    for container in lists.iter().flat_map(At::items) {
        for port in container.get("ports").items() {
            let text = |field: &str| port.value()[field].as_str().unwrap_or_default().to_owned();
            let number = |field: &str| port.value()[field].as_i64().unwrap_or(0);
            let (at, name, protocol) = (port.path().to_string(), text("name"), text("protocol"));
            let (host, address, inside) = (number("hostPort"), text("hostIP"), number("containerPort"));
            if !address.is_empty() && host == 0 {
                told.push(format!(
                    "{at}: hostIP set without hostPort: {{Name:{name} HostPort:0 ContainerPort:{inside} Protocol:{protocol} HostIP:{address}}}"
                ));
            }
            let others = known.entry(format!("{inside}/{protocol}")).or_default();
            for other in &*others {
                let one_is_open = other.address.is_empty() != address.is_empty();
                let how = match () {
                    () if other.address == address && other.host == host => "duplicate",
                    () if host == 0 || other.host == 0 => "overlapping",
                    () if other.host == host && one_is_open => "dangerously ambiguous",
                    () => continue,
                };
                told.push(format!("{at}: {how} port definition with {}", other.at));
            }
            others.push(Port { at: at.clone(), host, address });
            if !name.is_empty() {
                names.push((name, at));
            }
        }
    }
    let mut first = BTreeMap::new();
    for (name, at) in names {
        match first.get(&name) {
            Some(other) => told.push(format!(
                "{at}: duplicate port name {} with {other}, services and probes that select ports by name will use {other}",
                quoted(&name)
            )),
            None => drop(first.insert(name, at)),
        }
    }
}

/// A path in a volume, and whence it comes, where there are several sources.
#[derive(PartialEq, Eq)]
struct Placed {
    path: String,
    source: String,
}

impl Placed {
    fn told(&self) -> String {
        let path = quoted(&self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }

    /// Whether one of both lies in the other, or where it is.
    fn meets(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

/// Files of a volume that come to lie at the same place, or one below the other.
fn overlaps(volume: &At<'_>, told: &mut Vec<String>) {
    let volume = volume.value();
    let name = quoted(volume["name"].as_str().unwrap_or_default());
    let called = |what: &str, source: &Value, field: &str| {
        format!("{what} {}", quoted(source[field].as_str().unwrap_or_default()))
    };
    let (map, secret) = (&volume["configMap"], &volume["secret"]);
    for (source, what) in [
        (map, called("ConfigMap", map, "name")),
        (secret, called("Secret", secret, "secretName")),
        (&volume["downwardAPI"], "DownwardAPI".to_owned()),
    ] {
        meetings(&name, &what, &mut Vec::new(), files(source, ""), told);
    }
    let mut all = Vec::new();
    for source in volume["projected"]["sources"].as_array().into_iter().flatten() {
        let Some((kind, source)) =
            source.as_object().and_then(|source| source.iter().find(|(_, s)| !s.is_null()))
        else {
            told.push(format!("volume {name} (Projected) has no sources provided"));
            continue;
        };
        let placed = |field: &str, what: &str| {
            let path = source[field].as_str().unwrap_or_default().to_owned();
            (!path.is_empty()).then(|| Placed { path, source: what.to_owned() })
        };
        let new: Vec<Placed> = match kind.as_str() {
            "configMap" => files(source, &called("ConfigMap", source, "name")),
            "secret" => files(source, &called("Secret", source, "name")),
            "downwardAPI" => files(source, "DownwardAPI"),
            "serviceAccountToken" => placed("path", "ServiceAccountToken").into_iter().collect(),
            "clusterTrustBundle" => {
                let by = if source["name"].is_null() { "signerName" } else { "name" };
                placed("path", &called("ClusterTrustBundle", source, by)).into_iter().collect()
            }
            "podCertificate" => [
                ("certificateChainPath", "PodCertificate chain"),
                ("keyPath", "PodCertificate key"),
                ("credentialBundlePath", "PodCertificate credential bundle"),
            ]
            .into_iter()
            .filter_map(|(field, what)| placed(field, what))
            .collect(),
            _ => Vec::new(),
        };
        meetings(&name, "Projected", &mut all, new, told);
    }
}

fn files(source: &Value, what: &str) -> Vec<Placed> {
    let items = source["items"].as_array().into_iter().flatten();
    let path = |item: &Value| item["path"].as_str().unwrap_or_default().to_owned();
    items.map(|item| Placed { path: path(item), source: what.to_owned() }).collect()
}

fn meetings(volume: &str, what: &str, known: &mut Vec<Placed>, new: Vec<Placed>, told: &mut Vec<String>) {
    for mut placed in new {
        placed.path.truncate(placed.path.trim_end_matches('/').len());
        for other in known.iter().filter(|other| placed.meets(other)) {
            let (one, other) = (placed.told(), other.told());
            told.push(format!("volume {volume} ({what}): overlapping paths: {one} with {other}"));
        }
        known.push(placed);
    }
}
