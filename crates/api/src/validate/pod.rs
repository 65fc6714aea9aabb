//! Pods, pod templates, and what of a pod may change.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{At, container, dns_label, dns_subdomain, resources, scheduling, security, volume};
use crate::field::{Error, Errors};
use crate::meta::{self, items};
use crate::names;

/// A new pod.
pub(crate) fn create(pod: &Value) -> Errors {
    let root = At::root(pod);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    pod_spec(&spec, &mut errors);
    only_of_pods(&spec, &mut errors);
    if spec.get("ephemeralContainers").len() > 0 {
        spec.get("ephemeralContainers").forbidden(&mut errors, "cannot be set on create");
    }
    if !spec.get("nodeName").text().is_empty() && spec.get("schedulingGates").len() > 0 {
        spec.get("nodeName")
            .forbidden(&mut errors, "cannot be set until all schedulingGates have been cleared");
    }
    errors
}

/// The rules that pods have and templates have not.
fn only_of_pods(spec: &At<'_>, errors: &mut Errors) {
    if !spec.get("serviceAccountName").text().is_empty() {
        return;
    }
    for volume in spec.get("volumes").items() {
        for source in volume.get("projected").get("sources").items() {
            if let Some(token) = source.opt("serviceAccountToken") {
                token.forbidden(errors, "must not be specified when serviceAccountName is not set");
            }
        }
    }
}

/// The `template` of a workload: labels, annotations and spec.
pub(crate) fn template(at: &At<'_>, errors: &mut Errors) {
    let metadata = &at.value()["metadata"];
    at.with("labels", &metadata["labels"]).labels(errors);
    meta::validate_annotations(&metadata["annotations"], &at.path().child("annotations"), errors);
    let spec = at.get("spec");
    pod_spec(&spec, errors);
    if spec.get("ephemeralContainers").len() > 0 {
        spec.get("ephemeralContainers").forbidden(errors, "ephemeral containers not allowed in pod template");
    }
}

/// A pod spec.
pub(crate) fn pod_spec(spec: &At<'_>, errors: &mut Errors) {
    let grace = spec.get("terminationGracePeriodSeconds").number();
    let all_volumes = spec.get("volumes");
    let volumes = volume::volumes(&all_volumes, errors);
    let containers = spec.get("containers");
    let names_taken = container::containers(&containers, &volumes, grace, errors);
    container::init_containers(&spec.get("initContainers"), &names_taken, &volumes, grace, errors);
    container::ephemeral_containers(&spec.get("ephemeralContainers"), spec, &volumes, errors);
    spec.get("restartPolicy").needed_of(errors, &["Always", "OnFailure", "Never"]);
    let policies = ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"];
    spec.get("dnsPolicy").needed_of(errors, &policies);
    spec.get("nodeSelector").labels(errors);
    security::of_pod(&spec.get("securityContext"), spec, errors);
    if spec.get("hostNetwork").is_true() {
        host_network(&containers, errors);
    }
    if let Some(affinity) = spec.opt("affinity") {
        scheduling::affinity(&affinity, errors);
    }
    dns_config(spec, errors);
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        kind.all_invalid(errors, names::label_key(kind.text()));
    }
    for gate in spec.get("schedulingGates").items() {
        let name = gate.get("name");
        name.all_invalid(errors, names::label_key(name.text()));
    }
    scheduling::spread(&spec.get("topologySpreadConstraints"), errors);
    spec.get("serviceAccountName").rule(errors, dns_subdomain);
    spec.get("nodeName").rule(errors, dns_subdomain);
    spec.get("activeDeadlineSeconds").within(errors, 1, i32::MAX.into());
    spec.get("hostname").rule(errors, dns_label);
    spec.get("subdomain").rule(errors, dns_label);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    host_aliases(&spec.get("hostAliases"), errors);
    spec.get("priorityClassName").rule(errors, dns_subdomain);
    spec.get("runtimeClassName").rule(errors, dns_subdomain);
    if let Some(policy) = spec.opt("preemptionPolicy") {
        policy.needed_of(errors, &["PreemptLowerPriority", "Never"]);
    }
    if let Some(os) = spec.opt("os") {
        os.get("name").needed_of(errors, &["linux", "windows"]);
    }
    resources::amounts(&spec.get("overhead"), errors);
    if let Some(pod_resources) = spec.opt("resources") {
        resources::requirements(&pod_resources, errors);
    }
}

fn host_network(containers: &At<'_>, errors: &mut Errors) {
    for container in containers.items() {
        for port in container.get("ports").items() {
            let (inside, outside) = (port.get("containerPort"), port.get("hostPort"));
            if outside.number().is_some() && outside.number() != inside.number() {
                inside.invalid(errors, "must match `hostPort` when `hostNetwork` is true");
            }
        }
    }
}

fn host_aliases(at: &At<'_>, errors: &mut Errors) {
    for alias in at.items() {
        alias.get("ip").address(errors);
        for host in alias.get("hostnames").items() {
            host.all_invalid(errors, dns_subdomain(host.text()));
        }
    }
}

const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

fn dns_config(spec: &At<'_>, errors: &mut Errors) {
    let config = spec.get("dnsConfig");
    let (servers, searches) = (config.get("nameservers"), config.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !spec.has("dnsConfig") {
            return config.required(errors, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.len() == 0 {
            let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return servers.required(errors, detail);
        }
    }
    if servers.len() > MAX_NAMESERVERS {
        servers.invalid(errors, format!("must not have more than {MAX_NAMESERVERS} nameservers"));
    }
    servers.items().for_each(|server| server.address(errors));
    if searches.len() > MAX_SEARCHES {
        searches.invalid(errors, format!("must not have more than {MAX_SEARCHES} search paths"));
    }
    let characters: usize = searches.items().map(|s| s.text().len() + 1).sum();
    if characters > MAX_SEARCH_CHARS + 1 {
        let detail = format!(
            "must not have more than {MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        );
        searches.invalid(errors, detail);
    }
    for search in searches.items() {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        if search.text() != "." {
            search.all_invalid(errors, dns_subdomain(name));
        }
    }
    for option in config.get("options").items() {
        if option.get("name").text().is_empty() {
            option.required(errors, "must not be empty");
        }
    }
}

const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
                         `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only \
                         additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
                         to 1 if it was previously negative)";

/// A changed pod: hardly anything of its spec may change.
pub(crate) fn update(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    pod_spec(&spec, &mut errors);
    only_of_pods(&spec, &mut errors);
    for list in ["containers", "initContainers"] {
        let containers = spec.get(list);
        if containers.len() != items(&old["spec"], &[list]).len() {
            containers.forbidden(&mut errors, "pod updates may not add or remove containers");
            return errors;
        }
    }
    deadline(&spec, &old["spec"], &mut errors);
    let gated = items(&old["spec"], &["schedulingGates"]);
    for gate in spec.get("schedulingGates").items() {
        if !gated.contains(gate.value()) {
            let detail = "only deletion is allowed, but found new scheduling gate";
            gate.forbidden(&mut errors, format!("{detail} '{}'", gate.get("name").text()));
        }
    }
    tolerations_only_added(&spec, &old["spec"], &mut errors);
    let munged = munged_spec(spec.value(), &old["spec"], !gated.is_empty());
    if munged != old["spec"] {
        let changed = changed_fields(&munged, &old["spec"]).join(", ");
        spec.forbidden(&mut errors, format!("{UPDATABLE}\nchanged: {changed}"));
    }
    errors
}

/// The new spec with everything put back that may change.
fn munged_spec(new: &Value, old: &Value, gated: bool) -> Value {
    let mut munged = new.clone();
    let Some(map) = munged.as_object_mut() else { return munged };
    for list in ["containers", "initContainers"] {
        let Some(Value::Array(containers)) = map.get_mut(list) else { continue };
        for (container, old) in containers.iter_mut().zip(items(old, &[list])) {
            if let (Some(container), Some(image)) = (container.as_object_mut(), old.get("image")) {
                container.insert("image".to_owned(), image.clone());
            }
        }
    }
    let mut put_back = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates"];
    let grace = |spec: &Value| spec["terminationGracePeriodSeconds"].as_i64();
    if grace(old).is_some_and(|s| s < 0) && grace(new) == Some(1) {
        put_back.push("terminationGracePeriodSeconds");
    }
    // Before it is scheduled, a gated pod may be narrowed down to fewer nodes.
    if gated && narrows_selector(new, old) {
        put_back.push("nodeSelector");
    }
    for field in put_back {
        match old.get(field) {
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
    munged
}

fn narrows_selector(new: &Value, old: &Value) -> bool {
    let old = old["nodeSelector"].as_object();
    old.into_iter().flatten().all(|(k, v)| new["nodeSelector"].get(k) == Some(v))
}

/// The fields of two specs that differ, for the message.
fn changed_fields<'a>(new: &'a Value, old: &'a Value) -> Vec<&'a str> {
    let of = |v: &'a Value| v.as_object().into_iter().flatten().map(|(k, _)| k.as_str());
    let mut names: Vec<&str> = of(new).chain(of(old)).filter(|k| new.get(k) != old.get(k)).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn deadline(spec: &At<'_>, old: &Value, errors: &mut Errors) {
    let at = spec.get("activeDeadlineSeconds");
    match (at.number(), old["activeDeadlineSeconds"].as_i64()) {
        (Some(new), Some(old)) if new > old => {
            at.invalid(errors, "must be less than or equal to previous value");
        }
        (None, Some(_)) => at.invalid(errors, "must not update from a positive integer to nil value"),
        _ => {}
    }
}

fn tolerations_only_added(spec: &At<'_>, old: &Value, errors: &mut Errors) {
    let bare = |toleration: &Value| {
        let mut bare = toleration.clone();
        if let Some(map) = bare.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        bare
    };
    let new: HashSet<Value> = items(spec.value(), &["tolerations"]).iter().map(bare).collect();
    if items(old, &["tolerations"]).iter().any(|t| !new.contains(&bare(t))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        spec.get("tolerations").forbidden(errors, detail);
    }
}

/// What the kubelet may say of a pod.
pub(crate) fn update_status(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let status = root.get("status");
    let mut errors = Vec::new();
    for condition in status.get("conditions").items() {
        let kind = condition.get("type");
        kind.all_invalid(&mut errors, names::label_key(kind.text()));
    }
    status.get("nominatedNodeName").rule(&mut errors, dns_subdomain);
    let policy = old["spec"]["restartPolicy"].as_str().unwrap_or_default();
    for list in ["containerStatuses", "initContainerStatuses"] {
        stays_ended(&status.get(list), items(&old["status"], &[list]), policy, &mut errors);
    }
    pod_ips(&status.get("podIPs"), &mut errors);
    errors
}

/// At most one address of either family.
fn pod_ips(list: &At<'_>, errors: &mut Errors) {
    let addresses: Vec<(At<'_>, Option<std::net::IpAddr>)> = list
        .items()
        .map(|entry| (entry, entry.value()["ip"].as_str().and_then(|ip| ip.parse().ok())))
        .collect();
    for (entry, address) in &addresses {
        if address.is_none() {
            let ip = entry.value()["ip"].clone();
            errors.push(Error::invalid(&entry.path(), ip, super::NO_ADDRESS));
        }
    }
    if let [(_, first), others @ ..] = &addresses[..]
        && !others.is_empty()
    {
        let both = others.len() == 1 && first.map(|a| a.is_ipv4()) != others[0].1.map(|a| a.is_ipv4());
        if !both {
            list.invalid(errors, "may specify no more than one IP for each IP family");
        }
        let mut seen = HashSet::new();
        for (entry, _) in addresses.iter().filter(|(entry, _)| !seen.insert(&entry.value()["ip"])) {
            errors.push(Error::duplicate(&entry.path(), entry.value()["ip"].clone()));
        }
    }
}

/// A container that ended and is not restarted stays ended.
fn stays_ended(at: &At<'_>, old: &[Value], policy: &str, errors: &mut Errors) {
    if policy == "Always" {
        return;
    }
    let new: HashMap<&str, &Value> =
        at.items().map(|s| (s.value()["name"].as_str().unwrap_or_default(), s.value())).collect();
    for (i, status) in old.iter().enumerate() {
        let ended = &status["state"]["terminated"];
        let failed = ended["exitCode"].as_i64().unwrap_or(0) != 0;
        if ended.is_null() || (failed && policy == "OnFailure") {
            continue;
        }
        let now = new.get(status["name"].as_str().unwrap_or_default());
        if now.is_some_and(|s| s["state"]["terminated"].is_null()) {
            let path = at.path().index(i).child("state");
            errors.push(Error::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// `pods/ephemeralcontainers`: containers are added, never changed or taken away.
pub(crate) fn update_ephemeral_containers(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let spec = root.get("spec");
    let at = spec.get("ephemeralContainers");
    let mut errors = Vec::new();
    let volumes: HashMap<&str, &Value> = items(spec.value(), &["volumes"])
        .iter()
        .map(|v| (v["name"].as_str().unwrap_or_default(), v))
        .collect();
    container::ephemeral_containers(&at, &spec, &volumes, &mut errors);
    for old in items(&old["spec"], &["ephemeralContainers"]) {
        let name = &old["name"];
        match at.items().find(|c| &c.value()["name"] == name) {
            None => at
                .forbidden(&mut errors, format!("existing ephemeral containers {name} may not be removed\n")),
            Some(c) if c.value() != old => {
                at.forbidden(
                    &mut errors,
                    format!("existing ephemeral containers {name} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
    errors
}

/// `pods/resize`: requests and limits may change, the class may not.
pub(crate) fn update_resize(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    pod_spec(&spec, &mut errors);
    if crate::defaults::qos(&new["spec"]) != crate::defaults::qos(&old["spec"]) {
        spec.invalid(&mut errors, "Pod QOS Class may not change as a result of resizing");
    }
    errors
}
