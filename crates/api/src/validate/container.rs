//! One container, and the lists of them.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{At, PROTOCOLS, dns_label, dns_subdomain, resources, security, volume};
use crate::field::{Error, Errors};
use crate::meta;
use crate::names;
use crate::quantity::Quantity;

/// What a container's environment can read of its pod.
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// What a downward volume can show of its pod.
pub(super) const VOLUME_FIELDS: &[&str] =
    &["metadata.annotations", "metadata.labels", "metadata.name", "metadata.namespace", "metadata.uid"];

const RESOURCES: &[&str] = &[
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

type Volumes<'a> = HashMap<&'a str, &'a Value>;

const NOT_EPHEMERAL: &str = "cannot be set for an Ephemeral Container";
const MAX_RESTART_RULES: usize = 20;
const MAX_EXIT_CODES: usize = 255;

/// What containers share: the spec that they stand in, and its good volumes by name.
pub(super) struct Pod<'a> {
    pub spec: At<'a>,
    pub volumes: &'a Volumes<'a>,
}

/// The containers of a pod. Their names are returned, for others must not have the same.
pub(super) fn containers<'a>(at: &'a At<'a>, pod: &Pod<'_>, errors: &mut Errors) -> HashSet<&'a str> {
    let mut seen = HashSet::new();
    if at.len() == 0 {
        at.required(errors, "");
    }
    let mut host_ports = HashSet::new();
    for container in at.items() {
        one(&container, pod, errors);
        restart_rules(&container, errors);
        let name = container.value()["name"].as_str().unwrap_or_default();
        if !seen.insert(name) && !name.is_empty() {
            container.get("name").duplicate(errors);
        }
        served(&container, pod, errors);
        collect_host_ports(&container, &mut host_ports, errors);
    }
    seen
}

/// Init containers: one after the other, so only those that keep running are probed.
pub(super) fn init_containers(at: &At<'_>, others: &HashSet<&str>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen: HashSet<String> = others.iter().map(|n| (*n).to_owned()).collect();
    for container in at.items() {
        one(&container, pod, errors);
        restart_rules(&container, errors);
        let name = container.get("name");
        if !seen.insert(name.text().to_owned()) && !name.text().is_empty() {
            name.duplicate(errors);
        }
        if container.get("restartPolicy").text() == "Always" {
            served(&container, pod, errors);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                if let Some(set) = container.opt(field) {
                    set.forbidden(errors, "may not be set for init containers without restartPolicy=Always");
                }
            }
        }
        collect_host_ports(&container, &mut HashSet::new(), errors);
    }
}

/// Ephemeral containers: nothing that others could rely on.
pub(super) fn ephemeral_containers(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let (regular, init) = (pod.spec.get("containers"), pod.spec.get("initContainers"));
    let all = regular.items().chain(init.items());
    let mut seen: HashSet<String> = all.map(|c| c.get("name").text().to_owned()).collect();
    for container in at.items() {
        let target = container.get("targetContainerName");
        if !target.text().is_empty() && !seen.contains(target.text()) {
            target.not_found(errors);
        }
        if container.get("name").text().is_empty() {
            container.required(errors, "ephemeralContainer requires a name");
            continue;
        }
        one(&container, pod, errors);
        trimmed_image(&container, errors);
        if !seen.insert(container.get("name").text().to_owned()) {
            container.get("name").duplicate(errors);
        }
        for mount in container.get("volumeMounts").items() {
            for path in ["subPath", "subPathExpr"] {
                if !mount.get(path).text().is_empty() {
                    mount.get(path).forbidden(errors, NOT_EPHEMERAL);
                }
            }
        }
        for field in [
            "lifecycle",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "ports",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
        ] {
            if let Some(set) = container.opt(field) {
                set.forbidden(errors, NOT_EPHEMERAL);
            }
        }
        let resources = container.get("resources");
        if resources.value().as_object().is_some_and(|r| !r.is_empty()) {
            resources.forbidden(errors, NOT_EPHEMERAL);
        }
    }
}

/// The image of what runs; a template may have a space where something fills it in later.
pub(super) fn trimmed_image(at: &At<'_>, errors: &mut Errors) {
    let image = at.get("image");
    if image.text().trim() != image.text() {
        image.invalid(errors, "must not have leading or trailing whitespace");
    }
}

fn one(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    at.get("name").needed_as(errors, dns_label);
    at.get("image").needed(errors);
    let policy = at.get("terminationMessagePolicy");
    match policy.text() {
        "File" | "FallbackToLogsOnError" => {}
        "" => policy.required(errors, ""),
        _ => policy.one_of(errors, &["FallbackToLogsOnError", "File"]),
    }
    ports(&at.get("ports"), errors);
    env(&at.get("env"), pod, errors);
    env_from(&at.get("envFrom"), errors);
    mounts(at, pod.volumes, errors);
    at.get("imagePullPolicy").needed_of(errors, &["Always", "IfNotPresent", "Never"]);
    resources::of_container(&at.get("resources"), &pod.spec.get("resourceClaims"), errors);
    resize_policy(&at.get("resizePolicy"), pod, errors);
    if let Some(context) = at.opt("securityContext") {
        security::of_container(&context, &pod.spec, errors);
    }
}

/// What happens to a container whose resources change (KEP-1287).
fn resize_policy(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    let needed_of = |what: &At<'_>, words: &[&str], errors: &mut Errors| match what.text() {
        "" => at.required(errors, ""),
        word if words.contains(&word) => {}
        word => errors.push(Error::not_supported(&at.path(), word, words)),
    };
    for policy in at.items() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.text().to_owned()) {
            errors.push(Error::duplicate(&policy.path(), resource.text()));
        }
        needed_of(&resource, &["cpu", "memory"], errors);
        needed_of(&restart, &["NotRequired", "RestartContainer"], errors);
        if pod.spec.get("restartPolicy").text() == "Never" && restart.text() != "NotRequired" {
            let detail = "must be 'NotRequired' when `restartPolicy` is 'Never'";
            errors.push(Error::invalid(&at.path(), restart.text(), detail));
        }
    }
}

/// A container's own restart policy, and the exits that are exceptions to it (KEP-5307).
fn restart_rules(at: &At<'_>, errors: &mut Errors) {
    let (policy, rules) = (at.get("restartPolicy"), at.get("restartPolicyRules"));
    if at.has("restartPolicy") {
        policy.one_of(errors, &["Always", "Never", "OnFailure"]);
    } else if rules.len() > 0 {
        policy.required(errors, "must specify restartPolicy when restart rules are used");
    }
    if rules.len() > MAX_RESTART_RULES {
        errors.push(Error::too_many(&rules.path(), rules.len(), MAX_RESTART_RULES));
    }
    for rule in rules.items() {
        rule.get("action").one_of(errors, &["Restart"]);
        let Some(codes) = rule.opt("exitCodes") else {
            rule.get("exitCodes").required(errors, "must be specified");
            continue;
        };
        codes.get("operator").one_of(errors, &["In", "NotIn"]);
        let values = codes.get("values");
        if values.len() > MAX_EXIT_CODES {
            errors.push(Error::too_many(&values.path(), values.len(), MAX_EXIT_CODES));
        }
    }
}

/// What only containers have that serve: hooks and probes.
fn served(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let lifecycle = at.get("lifecycle");
    for hook in ["postStart", "preStop"] {
        if let Some(hook) = lifecycle.opt(hook) {
            handler(&hook, pod.spec.get("terminationGracePeriodSeconds").number(), errors);
        }
    }
    if let Some(signal) = lifecycle.opt("stopSignal") {
        stop_signal(&signal, pod, errors);
    }
    for (name, strict) in [("livenessProbe", true), ("startupProbe", true), ("readinessProbe", false)] {
        let Some(probe) = at.opt(name) else { continue };
        handler(&probe, None, errors);
        for field in
            ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"]
        {
            probe.get(field).not_negative(errors);
        }
        let threshold = probe.get("successThreshold");
        if strict && threshold.number().is_some_and(|n| n != 1) {
            threshold.invalid(errors, "must be 1");
        }
        let period = probe.get("terminationGracePeriodSeconds");
        if !strict && !period.value().is_null() {
            period.invalid(errors, "must not be set for readinessProbes");
        } else if period.number().is_some_and(|s| s <= 0) {
            period.invalid(errors, "must be greater than 0");
        }
    }
}

/// The signal that ends a container (KEP-4960): which there are, depends on the system that the pod must then name.
fn stop_signal(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    let os = pod.spec.get("os");
    match os.get("name").text() {
        "" => at.forbidden(errors, "may not be set for containers with empty `spec.os.name`"),
        "windows" => at.one_of(errors, &["SIGKILL", "SIGTERM"]),
        _ if is_signal(at.text()) => {}
        _ => at.one_of(errors, SIGNALS),
    }
}

/// Linux' signals; the real-time ones are counted from either end.
fn is_signal(name: &str) -> bool {
    let counted = |from: &str, most: u8| {
        name.strip_prefix(from).and_then(|n| n.parse().ok()).is_some_and(|n: u8| (1..=most).contains(&n))
    };
    SIGNALS.contains(&name) || counted("SIGRTMIN+", 15) || counted("SIGRTMAX-", 14)
}

const SIGNALS: &[&str] = &[
    "SIGABRT",
    "SIGALRM",
    "SIGBUS",
    "SIGCHLD",
    "SIGCLD",
    "SIGCONT",
    "SIGFPE",
    "SIGHUP",
    "SIGILL",
    "SIGINT",
    "SIGIO",
    "SIGIOT",
    "SIGKILL",
    "SIGPIPE",
    "SIGPOLL",
    "SIGPROF",
    "SIGPWR",
    "SIGQUIT",
    "SIGRTMAX",
    "SIGRTMIN",
    "SIGSEGV",
    "SIGSTKFLT",
    "SIGSTOP",
    "SIGSYS",
    "SIGTERM",
    "SIGTRAP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGUSR1",
    "SIGUSR2",
    "SIGVTALRM",
    "SIGWINCH",
    "SIGXCPU",
    "SIGXFSZ",
];

/// Exactly one way of asking. `grace` is given for hooks, which can also sleep.
fn handler(at: &At<'_>, grace: Option<i64>, errors: &mut Errors) {
    let mut kinds = ["exec", "httpGet", "tcpSocket", "grpc", "sleep"].into_iter().filter(|k| at.has(k));
    let Some(kind) = kinds.next() else { return at.required(errors, "must specify a handler type") };
    for more in kinds {
        at.get(more).forbidden(errors, "may not specify more than 1 handler type");
    }
    let how = at.get(kind);
    match kind {
        "exec" if how.get("command").len() == 0 => how.get("command").required(errors, ""),
        "httpGet" => {
            how.get("path").needed(errors);
            how.get("port").port(errors);
            how.get("scheme").one_of(errors, &["HTTP", "HTTPS"]);
            for header in how.get("httpHeaders").items() {
                let name = header.get("name").text();
                for detail in names::http_header(name) {
                    errors.push(Error::invalid(&how.get("httpHeaders").path(), name, detail));
                }
            }
        }
        "tcpSocket" | "grpc" => how.get("port").port(errors),
        "sleep" => {
            let seconds = how.get("seconds");
            let limit = grace.unwrap_or(30);
            let asked = seconds.number().unwrap_or(0);
            if !(0..=limit).contains(&asked) {
                let detail =
                    format!("must be non-negative and less than terminationGracePeriodSeconds ({limit})");
                errors.push(Error::invalid(&how.path(), asked, detail));
            }
        }
        _ => {}
    }
}

fn ports(at: &At<'_>, errors: &mut Errors) {
    let mut seen = HashSet::new();
    for port in at.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            let wrong = names::port_name(name.text());
            if wrong.is_empty() && !seen.insert(name.text().to_owned()) {
                name.duplicate(errors);
            }
            name.all_invalid(errors, wrong);
        }
        let number = port.get("containerPort");
        if number.number().unwrap_or(0) == 0 {
            number.required(errors, "");
        } else {
            number.within(errors, 1, 65535);
        }
        port.get("hostPort").within(errors, 1, 65535);
        port.get("protocol").needed_of(errors, PROTOCOLS);
    }
}

fn collect_host_ports(container: &At<'_>, seen: &mut HashSet<String>, errors: &mut Errors) {
    for port in container.get("ports").items() {
        let Some(number) = port.get("hostPort").number().filter(|n| *n != 0) else { continue };
        let text = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !seen.insert(text.clone()) {
            errors.push(Error::duplicate(&port.get("hostPort").path(), text));
        }
    }
}

fn env(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    for variable in at.items() {
        variable.get("name").needed_as(errors, names::env_name);
        let Some(from) = variable.opt("valueFrom") else { continue };
        let mut sources = 0;
        if let Some(field) = from.opt("fieldRef") {
            sources += 1;
            field_ref(&field, ENV_FIELDS, errors);
        }
        if let Some(resource) = from.opt("resourceFieldRef") {
            sources += 1;
            resource_ref(&resource, false, errors);
        }
        for reference in ["configMapKeyRef", "secretKeyRef"] {
            if let Some(reference) = from.opt(reference) {
                sources += 1;
                reference.get("name").always(errors, dns_subdomain);
                reference.get("key").needed_as(errors, names::config_key);
            }
        }
        if let Some(file) = from.opt("fileKeyRef") {
            sources += 1;
            file_ref(&file, pod, errors);
        }
        let say = |errors: &mut Errors, detail: &str| errors.push(Error::invalid(&from.path(), "", detail));
        if sources == 0 {
            say(
                errors,
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
            );
        } else if !variable.get("value").text().is_empty() {
            say(errors, "may not be specified when `value` is not empty");
        } else if sources > 1 {
            say(errors, "may not have more than one field specified at a time");
        }
    }
}

/// A variable of a file in an emptyDir volume (KEP-3721).
fn file_ref(at: &At<'_>, pod: &Pod<'_>, errors: &mut Errors) {
    at.get("key").needed_as(errors, names::env_name);
    let name = at.get("volumeName");
    if let Some(text) = name.needed(errors) {
        match pod.volumes.get(text) {
            None => name.not_found(errors),
            Some(volume) if volume.get("emptyDir").is_none() => {
                name.invalid(errors, "referenced volume must be of type emptyDir");
            }
            Some(_) => {}
        }
    }
    let path = at.get("path");
    if path.needed(errors).is_some() {
        volume::descending(&path, errors);
    }
}

fn env_from(at: &At<'_>, errors: &mut Errors) {
    for source in at.items() {
        source.get("prefix").rule(errors, names::env_name);
        let named: Vec<At<'_>> =
            ["configMapRef", "secretRef"].into_iter().filter_map(|r| source.opt(r)).collect();
        for reference in &named {
            reference.get("name").needed_as(errors, |n| names::dns_subdomain(n, true));
        }
        let say = |errors: &mut Errors, detail: &str| errors.push(Error::invalid(&at.path(), "", detail));
        match named.len() {
            0 => say(errors, "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => say(errors, "may not have more than one field specified at a time"),
        }
    }
}

/// A reference to a field of the pod. Labels and annotations can be named one by one.
pub(super) fn field_ref(at: &At<'_>, known: &[&str], errors: &mut Errors) {
    if at.get("apiVersion").needed(errors).is_none() {
        return;
    }
    let path = at.get("fieldPath");
    let Some(text) = path.needed(errors) else { return };
    let subscript = text.strip_suffix("']").and_then(|t| t.split_once("['"));
    match subscript {
        Some(("metadata.annotations", key)) => {
            for detail in names::label_key(&key.to_lowercase()) {
                errors.push(Error::invalid(&at.path(), key, detail));
            }
        }
        Some(("metadata.labels", key)) => {
            for detail in names::label_key(key) {
                errors.push(Error::invalid(&at.path(), key, detail));
            }
        }
        Some((field, _)) => errors.push(Error::invalid(&at.path(), field, "does not support subscript")),
        None if known.contains(&text) => {}
        None if ENV_FIELDS.contains(&text) || VOLUME_FIELDS.contains(&text) => path.one_of(errors, known),
        None => {
            path.invalid(errors, format!("error converting fieldPath: field label not supported: {text}"))
        }
    }
}

/// A reference to what a container requests or is limited to.
pub(super) fn resource_ref(at: &At<'_>, in_volume: bool, errors: &mut Errors) {
    let resource = at.get("resource");
    let name = resource.text();
    if in_volume && at.get("containerName").text().is_empty() {
        at.get("containerName").required(errors, "");
    } else if resource.needed(errors).is_some()
        && !name.starts_with("requests.hugepages-")
        && !name.starts_with("limits.hugepages-")
    {
        resource.one_of(errors, RESOURCES);
    }
    let divisor = at.get("divisor");
    let Ok(amount) = Quantity::parse(divisor.text()) else { return };
    let (known, what): (&[&str], &str) = match name.split_once('.').map_or("", |(_, r)| r) {
        "cpu" => (&["1m", "1"], "cpu"),
        "memory" => (SIZES, "memory"),
        "ephemeral-storage" => (SIZES, "local ephemeral storage"),
        huge if huge.starts_with("hugepages-") => (SIZES, "hugepages"),
        _ => return,
    };
    if !amount.is_zero() && !known.contains(&divisor.text()) {
        let listed = if what == "cpu" { "1m and 1".to_owned() } else { SIZES.join(", ") };
        let detail = format!("only divisor's values {listed} are supported with the {what} resource");
        errors.push(Error::invalid(&divisor.path(), name, detail));
    }
}

const SIZES: &[&str] = &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"];

fn mounts(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let devices = container.get("volumeDevices");
    let mut paths = HashSet::new();
    for mount in container.get("volumeMounts").items() {
        let (name, path) = (mount.get("name"), mount.get("mountPath"));
        name.needed(errors);
        if !volumes.contains_key(name.text()) {
            name.not_found(errors);
        }
        path.needed(errors);
        if !paths.insert(path.text().to_owned()) {
            path.invalid(errors, "must be unique");
        }
        for device in devices.items() {
            if device.get("name").text() == name.text() {
                name.invalid(errors, "must not already exist in volumeDevices");
            }
            if device.get("devicePath").text() == path.text() {
                path.invalid(errors, "must not already exist as a path in volumeDevices");
            }
        }
        // Upstream tells of these as though the list had them.
        let all = container.get("volumeMounts");
        let of_all = |field: &'static str| all.with(field, &mount.value()[field]);
        let (sub, expression) = (of_all("subPath"), of_all("subPathExpr"));
        volume::descending(&sub, errors);
        if !expression.text().is_empty() {
            if !sub.text().is_empty() {
                mount.get("subPathExpr").invalid(errors, "subPathExpr and subPath are mutually exclusive");
            }
            volume::descending(&expression, errors);
        }
        if mount.has("mountPropagation") {
            let propagation = of_all("mountPropagation");
            propagation.one_of(errors, &["Bidirectional", "HostToContainer", "None"]);
            let privileged = container.get("securityContext").get("privileged").is_true();
            if propagation.text() == "Bidirectional" && !privileged {
                let detail = "Bidirectional mount propagation is available only to privileged containers";
                propagation.forbidden(errors, detail);
            }
        }
        if mount.has("recursiveReadOnly") {
            read_only_throughout(&mount, &of_all("recursiveReadOnly"), errors);
        }
    }
    block_devices(container, volumes, errors);
}

/// A mount below which nothing can be written either (KEP-3857).
fn read_only_throughout(mount: &At<'_>, mode: &At<'_>, errors: &mut Errors) {
    match mode.text() {
        "Disabled" => {}
        "Enabled" | "IfPossible" => {
            if !mount.get("readOnly").is_true() {
                mode.forbidden(errors, "may only be specified when readOnly is true");
            }
            if !matches!(mount.get("mountPropagation").text(), "" | "None") {
                mode.forbidden(
                    errors,
                    "may only be specified when mountPropagation is None or not specified",
                );
            }
        }
        _ => mode.one_of(errors, &["Disabled", "Enabled", "IfPossible"]),
    }
}

/// Volumes that a container sees as devices: claims alone, and none that it mounts, too.
fn block_devices(container: &At<'_>, volumes: &Volumes<'_>, errors: &mut Errors) {
    let mounts = &container.value()["volumeMounts"];
    let mounted = |field: &str, text: &str| meta::items(mounts, &[]).iter().any(|m| m[field] == text);
    let (mut named, mut placed) = (HashSet::new(), HashSet::new());
    for device in container.get("volumeDevices").items() {
        let (name, path) = (device.get("name"), device.get("devicePath"));
        if name.needed(errors).is_some() && !named.insert(name.text().to_owned()) {
            name.invalid(errors, "must be unique");
        }
        match volumes.get(name.text()) {
            None => name.not_found(errors),
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => {
                let detail =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                name.invalid(errors, detail);
            }
            Some(_) => {}
        }
        if path.needed(errors).is_some_and(|p| p.split('/').any(|part| part == "..")) {
            path.invalid(errors, "can not contain backsteps ('..')");
        } else if !placed.insert(path.text().to_owned()) {
            path.invalid(errors, "must be unique");
        }
        if mounted("name", name.text()) {
            name.invalid(errors, "must not already exist in volumeMounts");
        }
        if mounted("mountPath", path.text()) {
            path.invalid(errors, "must not already exist as a path in volumeMounts");
        }
    }
}
