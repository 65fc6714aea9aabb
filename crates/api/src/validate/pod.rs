//! Pods, pod templates, and what of a pod may change.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::{
    At, annotations, container, dns_label, dns_subdomain, pod_os, resources, scheduling, security, volume,
};
use crate::field::{Error, Errors};
use crate::meta::{self, items};
use crate::names;

/// A new pod.
pub(crate) fn create(pod: &Value) -> Errors {
    let root = At::root(pod);
    let spec = root.get("spec");
    let mut errors = Vec::new();
    whole(&root, &mut errors);
    if spec.get("ephemeralContainers").len() > 0 {
        spec.get("ephemeralContainers").forbidden(&mut errors, "cannot be set on create");
    }
    if !spec.get("nodeName").text().is_empty() && spec.get("schedulingGates").len() > 0 {
        spec.get("nodeName")
            .forbidden(&mut errors, "cannot be set until all schedulingGates have been cleared");
    }
    annotations::agree(pod, &spec, &mut errors);
    errors
}

/// The metadata and spec of a pod.
pub(super) fn whole(root: &At<'_>, errors: &mut Errors) {
    let spec = root.get("spec");
    annotations::of_pod(&root.get("metadata").get("annotations"), &spec, errors);
    pod_spec(&spec, errors);
    only_of_pods(&spec, errors);
    let containers = spec.get("containers");
    for container in containers.items().chain(spec.get("initContainers").items()) {
        container::trimmed_image(&container, errors);
    }
    let ports = containers.items().enumerate().flat_map(|(i, c)| {
        meta::items(c.value(), &["ports"]).iter().enumerate().map(move |(j, port)| (i, j, port))
    });
    if spec.get("hostNetwork").is_true() {
        for (i, j, port) in ports.filter(|(_, _, port)| port["hostPort"].is_null()) {
            let path = containers.path().index(i).child("ports").index(j).child("hostPort");
            if port["containerPort"].as_i64().is_some_and(|inside| inside != 0) {
                errors.push(Error::invalid(&path, 0, HOST_PORT));
            }
        }
    }
}

const HOST_PORT: &str = "must match `containerPort` when `hostNetwork` is true";

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
    annotations::of_pod(&at.with("annotations", &metadata["annotations"]), &spec, errors);
    pod_spec(&spec, errors);
    if spec.get("ephemeralContainers").len() > 0 {
        spec.get("ephemeralContainers").forbidden(errors, "ephemeral containers not allowed in pod template");
    }
}

/// A pod spec.
pub(crate) fn pod_spec(spec: &At<'_>, errors: &mut Errors) {
    let all_volumes = spec.get("volumes");
    let volumes = volume::volumes(&all_volumes, errors);
    resource_claims(&spec.get("resourceClaims"), errors);
    let pod = container::Pod { spec: *spec, volumes: &volumes };
    let containers = spec.get("containers");
    let names_taken = container::containers(&containers, &pod, errors);
    container::init_containers(&spec.get("initContainers"), &names_taken, &pod, errors);
    container::ephemeral_containers(&spec.get("ephemeralContainers"), &pod, errors);
    if let Some(own) = spec.opt("resources") {
        resources::of_pod(&own, spec, errors);
    }
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
    let mut gates = HashSet::new();
    for gate in spec.get("schedulingGates").items() {
        let name = gate.value()["name"].as_str().unwrap_or_default();
        for detail in names::label_key(name) {
            errors.push(Error::invalid(&gate.path(), name, detail));
        }
        if !gates.insert(name.to_owned()) {
            errors.push(Error::duplicate(&gate.path(), name));
        }
    }
    scheduling::spread(&spec.get("topologySpreadConstraints"), errors);
    spec.get("serviceAccountName").rule(errors, dns_subdomain);
    spec.get("nodeName").rule(errors, dns_subdomain);
    spec.get("activeDeadlineSeconds").within(errors, 1, i32::MAX.into());
    spec.get("hostname").rule(errors, dns_label);
    spec.get("subdomain").rule(errors, dns_label);
    if let Some(name) = spec.opt("hostnameOverride") {
        hostname_override(&name, spec, errors);
    }
    host_users(spec, errors);
    scheduling::tolerations(&spec.get("tolerations"), errors);
    host_aliases(&spec.get("hostAliases"), errors);
    spec.get("priorityClassName").rule(errors, dns_subdomain);
    spec.get("runtimeClassName").rule(errors, dns_subdomain);
    if let Some(policy) = spec.opt("preemptionPolicy") {
        policy.needed_of(errors, &["PreemptLowerPriority", "Never"]);
    }
    resources::amounts(&spec.get("overhead"), errors);
    pod_os::of_pod(spec, errors);
}

/// A name that the kernel takes, and no second opinion of it (KEP-4762).
fn hostname_override(at: &At<'_>, spec: &At<'_>, errors: &mut Errors) {
    if at.text().len() > MAX_HOSTNAME {
        errors.push(Error::too_long(&at.path(), MAX_HOSTNAME));
    }
    at.all_invalid(errors, dns_subdomain(at.text()));
    for flag in ["setHostnameAsFQDN", "hostNetwork"] {
        if spec.get(flag).is_true() {
            at.forbidden(errors, format!("may not be specified when `spec.{flag}` is true"));
        }
    }
}

/// What fits in `utsname.nodename`.
const MAX_HOSTNAME: usize = 64;

/// A pod with users of its own shares no namespace with the host (KEP-127).
fn host_users(spec: &At<'_>, errors: &mut Errors) {
    if spec.get("hostUsers").value() != false {
        return;
    }
    for (flag, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(flag).is_true() {
            let why = "when `pod.Spec.HostUsers` is false";
            errors.push(Error::forbidden(&spec.path().child(shown), why));
        }
    }
}

/// The claims to devices of a pod.
fn resource_claims(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for claim in at.items() {
        let name = claim.get("name");
        if name.needed(errors).is_some() {
            if seen.insert(name.text().to_owned()) {
                name.all_invalid(errors, dns_label(name.text()));
            } else {
                name.duplicate(errors);
            }
        }
        let sources = ["resourceClaimName", "resourceClaimTemplateName"];
        match sources.iter().filter(|source| claim.has(source)).count() {
            0 => {
                claim.invalid(errors, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`")
            }
            1 => {}
            _ => claim.invalid(
                errors,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
        }
        for source in sources.iter().filter_map(|source| claim.opt(source)) {
            source.all_invalid(errors, dns_subdomain(source.text()));
        }
    }
}

fn host_network(containers: &At<'_>, errors: &mut Errors) {
    for container in containers.items() {
        for port in container.get("ports").items() {
            let (inside, outside) = (port.get("containerPort"), port.get("hostPort"));
            if outside.number().is_some_and(|n| n != 0) && outside.number() != inside.number() {
                outside.invalid(errors, HOST_PORT);
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
            search.all_invalid(errors, names::dns_subdomain_with_underscores(name));
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
    whole(&root, &mut errors);
    annotations::update(&root.get("metadata").get("annotations"), old, &mut errors);
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
            let name = gate.get("name");
            name.forbidden(&mut errors, format!("{detail} '{}'", name.text()));
        }
    }
    tolerations_only_added(&spec, &old["spec"], &mut errors);
    if !gated.is_empty() {
        only_narrows(&spec, &old["spec"], &mut errors);
    }
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
    if gated {
        put_back.push("nodeSelector");
        munge_node_affinity(map, old);
    }
    for field in put_back {
        match old.get(field) {
            Some(value) => drop(map.insert(field.to_owned(), value.clone())),
            None => drop(map.remove(field)),
        }
    }
    munged
}

fn munge_node_affinity(map: &mut Map<String, Value>, old: &Value) {
    let before = old["affinity"].get("nodeAffinity");
    if map.get("affinity").and_then(|affinity| affinity.get("nodeAffinity")) == before {
        return;
    }
    let affinity = meta::child_mut(map, "affinity");
    match before {
        Some(before) => drop(affinity.insert("nodeAffinity".to_owned(), before.clone())),
        None => drop(affinity.remove("nodeAffinity")),
    }
    if affinity.is_empty() && old.get("affinity").is_none() {
        map.remove("affinity");
    }
}

/// What a gated pod asks of nodes may become more, never other (KEP-3838).
fn only_narrows(spec: &At<'_>, old: &Value, errors: &mut Errors) {
    let selector = spec.get("nodeSelector");
    let mut before = old["nodeSelector"].as_object().into_iter().flatten();
    if before.any(|(key, value)| selector.value().get(key) != Some(value)) {
        let detail = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        selector.invalid(errors, detail);
    }
    let terms = |affinity: &Value| {
        affinity.pointer("/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms").cloned()
    };
    let (new_affinity, old_affinity) = (spec.get("affinity"), &old["affinity"]["nodeAffinity"]);
    let new_affinity = new_affinity.get("nodeAffinity");
    let Some(Value::Array(before)) = terms(old_affinity).filter(|_| new_affinity.value() != old_affinity)
    else {
        return;
    };
    let after = terms(new_affinity.value()).unwrap_or_default();
    let after = after.as_array().map(Vec::as_slice).unwrap_or_default();
    let at = new_affinity.get("requiredDuringSchedulingIgnoredDuringExecution");
    let at = at.get("nodeSelectorTerms");
    if after.len() != before.len() {
        return at.invalid(errors, "no additions/deletions to non-empty NodeSelectorTerms list are allowed");
    }
    let wider = |old: &Value, new: &Value| {
        ["matchExpressions", "matchFields"].iter().any(|list| {
            let (old, new) = (items(old, &[list]), items(new, &[list]));
            // A term that asks nothing matches no node, so anything would widen it.
            new.len() < old.len() || old != &new[..old.len()]
        })
    };
    let empty = |term: &Value| {
        items(term, &["matchExpressions"]).is_empty() && items(term, &["matchFields"]).is_empty()
    };
    for (term, old) in at.items().zip(&before) {
        if (empty(old) && !empty(term.value())) || wider(old, term.value()) {
            term.invalid(errors, "only additions are allowed (no mutations or deletions)");
        }
    }
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
    annotations::update(&root.get("metadata").get("annotations"), old, &mut errors);
    for (i, condition) in items(status.value(), &["conditions"]).iter().enumerate() {
        let kind = condition["type"].as_str().unwrap_or_default();
        // Upstream tells of them as though they were metadata.
        let path = root.get("metadata").path().child("conditions").index(i).child("Type");
        names::label_key(kind)
            .into_iter()
            .for_each(|detail| errors.push(Error::invalid(&path, kind, detail)));
    }
    status.get("nominatedNodeName").rule(&mut errors, dns_subdomain);
    status.get("qosClass").unchanged(&mut errors, &old["status"]["qosClass"]);
    for list in ["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"] {
        stays_ended(&status.get(list), old, list, &mut errors);
    }
    claim_statuses(&status.get("resourceClaimStatuses"), &new["spec"], &mut errors);
    if let Some(claim) = status.opt("extendedResourceClaimStatus") {
        extended_claim(&claim, &new["spec"], &mut errors);
    }
    addresses(&status.get("podIPs"), &mut errors);
    let host = status.get("hostIPs");
    if let Some(first) = host.items().next().filter(|first| first.value()["ip"] != status.value()["hostIP"]) {
        first.get("ip").invalid(&mut errors, "must be equal to `hostIP`");
    }
    addresses(&host, &mut errors);
    errors
}

fn claim_statuses(at: &At<'_>, spec: &Value, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for status in at.items() {
        let name = status.get("name");
        if !items(spec, &["resourceClaims"]).iter().any(|claim| claim["name"] == *name.value()) {
            name.invalid(errors, "must match the name of an entry in `spec.resourceClaims`");
        }
        if !seen.insert(name.text().to_owned()) {
            name.duplicate(errors);
        }
        if let Some(claim) = status.opt("resourceClaimName") {
            for detail in dns_subdomain(claim.text()) {
                errors.push(Error::invalid(&name.path(), claim.text(), detail));
            }
        }
    }
}

/// The claim that was made for a pod's extended resources (KEP-5004), and which container has which request of it.
fn extended_claim(at: &At<'_>, spec: &Value, errors: &mut Errors) {
    at.get("resourceClaimName").needed_as(errors, dns_subdomain);
    let mappings = at.get("requestMappings");
    if mappings.len() == 0 {
        mappings.required(errors, "at least one request mapping is required");
    }
    let mut seen = HashSet::new();
    for mapping in mappings.items() {
        let container = mapping.get("containerName");
        let mut all = items(spec, &["containers"]).iter().chain(items(spec, &["initContainers"]));
        let found = all.find(|c| c["name"] == *container.value());
        match found {
            None => container.invalid(
                errors,
                "must match the name of an entry in `spec.initContainers` or `spec.containers`",
            ),
            Some(found) => {
                let resource = mapping.get("resourceName");
                if found["resources"]["requests"][resource.text()].is_null() {
                    resource.invalid(errors, "must match a resource that the container requests");
                }
            }
        }
        mapping.get("requestName").needed_as(errors, super::dns_label);
        let key = ["containerName", "resourceName", "requestName"]
            .map(|field| mapping.get(field).text().to_owned());
        if !seen.insert(key) {
            mapping.duplicate(errors);
        }
    }
}

/// At most one address of either family.
fn addresses(list: &At<'_>, errors: &mut Errors) {
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
fn stays_ended(at: &At<'_>, old: &Value, list: &str, errors: &mut Errors) {
    let spec = &old["spec"];
    let of_pod = spec["restartPolicy"].as_str().unwrap_or_default();
    let new: HashMap<&str, &Value> =
        at.items().map(|s| (s.value()["name"].as_str().unwrap_or_default(), s.value())).collect();
    for (i, status) in items(&old["status"], &[list]).iter().enumerate() {
        let ended = &status["state"]["terminated"];
        let failed = ended["exitCode"].as_i64().unwrap_or(0) != 0;
        let name = status["name"].as_str().unwrap_or_default();
        // A kubelet never starts an ephemeral container again.
        let policy = if list == "ephemeralContainerStatuses" { "Never" } else { of_pod };
        if ended.is_null() || policy == "Always" || (failed && policy == "OnFailure") || decides(spec, name) {
            continue;
        }
        let now = new.get(name);
        if now.is_some_and(|s| s["state"]["terminated"].is_null()) {
            let path = at.path().index(i).child("state");
            errors.push(Error::forbidden(&path, "may not be transitioned to non-terminated state"));
        }
    }
}

/// Whether a container has a restart policy of its own, as sidecars have.
fn decides(spec: &Value, name: &str) -> bool {
    let all = ["containers", "initContainers"].into_iter().flat_map(|list| items(spec, &[list]));
    all.filter(|c| c["name"] == name).any(|c| !c["restartPolicy"].is_null())
}

/// `pods/ephemeralcontainers`: containers are added, never changed or taken away.
pub(crate) fn update_ephemeral_containers(new: &Value, old: &Value) -> Errors {
    let root = At::root(new);
    let spec = root.get("spec");
    let at = spec.get("ephemeralContainers");
    let mut errors = Vec::new();
    if meta::annotation(old, MIRROR).is_some() {
        let why = "static pods do not support ephemeral containers";
        return vec![Error::forbidden(&crate::field::Path::root(), why)];
    }
    whole(&root, &mut errors);
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

/// Names the pod that a kubelet shows for one of its own.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

#[cfg(test)]
#[path = "pod_tests.rs"]
mod tests;
