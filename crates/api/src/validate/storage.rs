//! Volumes, claims, and the kinds of CSI.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{
    At, NEGATIVE, NOT_POSITIVE, disks, dns_label, dns_subdomain, label_selector, scheduling, volume,
};
use crate::field::{Error, Errors};
use crate::meta::{self, as_map, child_mut};
use crate::names;
use crate::quantity::Quantity;

const ACCESS_MODES: &[&str] = &["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const ONE_POD: &str = "ReadWriteOncePod";
/// The fields of a volume's spec that are not where its data lies.
const NO_SOURCE: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;
const MAX_ATTACHMENT_BYTES: usize = 256 * 1024;
const MAX_VOLUME_ERROR: usize = 1024;
const MAX_NODE_ID: usize = 192;

fn access_modes(modes: &At<'_>, needed: &str, errors: &mut Errors) {
    if modes.len() == 0 {
        modes.required(errors, needed);
    }
    for mode in modes.items().filter(|m| !ACCESS_MODES.contains(&m.text())) {
        errors.push(Error::not_supported(&modes.path(), mode.value().clone(), ACCESS_MODES));
    }
    if modes.len() > 1 && modes.items().any(|m| m.text() == ONE_POD) {
        modes.forbidden(errors, "may not use ReadWriteOncePod with other access modes");
    }
}

fn positive(at: &At<'_>, errors: &mut Errors) {
    let zero = Quantity::parse("0").ok();
    if Quantity::parse(at.text()).ok() <= zero {
        at.invalid(errors, NOT_POSITIVE);
    }
}

fn not_negative(at: &At<'_>, errors: &mut Errors) {
    if Quantity::parse(at.text()).is_ok_and(Quantity::is_negative) {
        at.invalid(errors, NEGATIVE);
    }
}

pub(crate) fn persistent_volume(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    volume_spec(&root.get("spec"), false, &mut errors);
    errors
}

/// A volume's spec, on its own or inside of an attachment.
fn volume_spec(spec: &At<'_>, inline: bool, errors: &mut Errors) {
    const INLINE: &str = "may not be specified in the context of inline volumes";
    let (capacity, reclaim) = (spec.get("capacity"), spec.get("persistentVolumeReclaimPolicy"));
    if inline {
        for field in ["claimRef", "capacity", "nodeAffinity", "storageClassName"] {
            spec.opt(field).inspect(|f| f.forbidden(errors, INLINE));
        }
        if !spec.has("csi") {
            spec.get("csi").required(errors, "has to be specified in the context of inline volumes");
        }
        if !matches!(reclaim.text(), "" | "Retain") {
            reclaim.forbidden(errors, "may only be Retain in the context of inline volumes");
        }
    }
    access_modes(&spec.get("accessModes"), "", errors);
    if !inline {
        let resources = capacity.entries().count();
        if resources == 0 {
            capacity.required(errors, "");
        }
        if resources != 1 || !capacity.has("storage") {
            errors.push(Error::not_supported(&capacity.path(), capacity.value().clone(), &["storage"]));
        }
        for (_, amount) in capacity.entries() {
            if let Some(whole) = Quantity::parse(amount.text()).ok().map(Quantity::value).filter(|n| *n < 0) {
                errors.push(Error::invalid(&amount.path(), whole, "must be a valid resource quantity"));
            }
            positive(&amount, errors);
        }
        if !reclaim.text().is_empty() {
            reclaim.one_of(errors, &["Delete", "Recycle", "Retain"]);
        }
        if let Some(affinity) = spec.opt("nodeAffinity") {
            match affinity.opt("required") {
                Some(selector) => scheduling::node_selector(&selector, errors),
                None => {
                    affinity.get("required").required(errors, "must specify required node constraints");
                }
            }
        }
        spec.get("storageClassName").rule(errors, dns_subdomain);
        spec.opt("volumeMode").inspect(|mode| mode.one_of(errors, &["Block", "Filesystem"]));
        attributes_class(spec, errors);
    }
    sources(spec, errors);
    let path = spec.get("hostPath");
    let host = path.get("path");
    if reclaim.text() == "Recycle" && !host.text().is_empty() && host.text().trim_matches('/').is_empty() {
        reclaim.forbidden(errors, "may not be 'recycle' for a hostPath mount of '/'");
    }
}

fn attributes_class(spec: &At<'_>, errors: &mut Errors) {
    let Some(class) = spec.opt("volumeAttributesClassName") else { return };
    if class.text().is_empty() {
        class.required(errors, "an empty string is disallowed");
    }
    class.rule(errors, dns_subdomain);
    if !spec.has("csi") {
        spec.get("csi").required(errors, "has to be specified when using volumeAttributesClassName");
    }
}

/// Exactly one field says where the data lies.
fn sources(spec: &At<'_>, errors: &mut Errors) {
    let mut found = spec.entries().map(|(name, _)| name).filter(|name| !NO_SOURCE.contains(name));
    let Some(name) = found.next() else {
        return spec.required(errors, "must specify a volume type");
    };
    let source = spec.get(name);
    match name {
        "hostPath" => volume::host_path(&source, errors),
        "nfs" => volume::nfs(&source, errors),
        "csi" => {
            driver_name(&source.get("driver"), errors);
            source.get("volumeHandle").needed(errors);
            for reference in
                ["controllerPublishSecretRef", "controllerExpandSecretRef", "nodePublishSecretRef"]
            {
                let Some(secret) = source.opt(reference) else { continue };
                secret.get("name").needed_as(errors, dns_label);
                secret.get("namespace").needed_as(errors, dns_label);
            }
        }
        "local" => {
            let path = source.get("path");
            if path.needed(errors).is_some() {
                volume::no_backsteps(&path, errors);
            }
            if !spec.has("nodeAffinity") {
                spec.get("nodeAffinity").required(errors, "Local volume requires node affinity");
            }
        }
        other => disks::source(other, &source, errors),
    }
    for more in found {
        spec.get(more).forbidden(errors, "may not specify more than 1 volume type");
    }
}

/// The source without the one secret that may still be named later.
fn source_of(volume: &Value, whole: &Value) -> Value {
    let fields = volume["spec"].as_object().into_iter().flatten();
    let mut source: Map<String, Value> = fields
        .filter(|(k, _)| !NO_SOURCE.contains(&k.as_str()))
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect();
    if whole["spec"]["csi"].is_object()
        && whole["spec"]["csi"].get("controllerExpandSecretRef").is_none_or(Value::is_null)
        && let Some(csi) = source.get_mut("csi")
    {
        as_map(csi).remove("controllerExpandSecretRef");
    }
    source.into()
}

pub(crate) fn persistent_volume_update(new: &Value, old: &Value) -> Errors {
    let mut errors = persistent_volume(new);
    let root = At::root(new);
    let spec = root.get("spec");
    if source_of(new, old) != source_of(old, old) {
        errors.push(Error::forbidden(
            &spec.path().child("persistentvolumesource"),
            "spec.persistentvolumesource is immutable after creation",
        ));
    }
    // Upstream names these two without their parent.
    immutable_at("volumeMode", &new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &mut errors);
    if !old["spec"]["nodeAffinity"].is_null() {
        immutable_at("nodeAffinity", &new["spec"]["nodeAffinity"], &old["spec"]["nodeAffinity"], &mut errors);
    }
    errors
}

fn immutable_at(name: &str, new: &Value, old: &Value, errors: &mut Errors) {
    if new != old {
        errors.push(meta::immutable(&crate::field::Path::new(name), new.clone()));
    }
}

pub(crate) fn claim(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    claim_spec(&root.get("spec"), &mut errors);
    errors
}

/// The spec of a claim, also of one in a template.
pub(crate) fn claim_spec(spec: &At<'_>, errors: &mut Errors) {
    access_modes(&spec.get("accessModes"), "at least 1 access mode is required", errors);
    label_selector(&spec.get("selector"), errors);
    let resources = spec.get("resources");
    let size = &resources.value()["requests"]["storage"];
    let path = resources.path().key("storage");
    if size.is_null() {
        errors.push(Error::required(&path, ""));
    } else if Quantity::parse(size.as_str().unwrap_or_default()).ok() <= Quantity::parse("0").ok() {
        errors.push(Error::invalid(&path, size.clone(), NOT_POSITIVE));
    }
    spec.get("storageClassName").rule(errors, dns_subdomain);
    spec.opt("volumeMode").inspect(|mode| mode.one_of(errors, &["Block", "Filesystem"]));
    let (source, reference) = (spec.opt("dataSource"), spec.opt("dataSourceRef"));
    for at in [&source, &reference].into_iter().flatten() {
        at.get("name").needed(errors);
        let kind = at.get("kind");
        kind.needed(errors);
        let group = at.get("apiGroup");
        if group.text().is_empty() && kind.text() != "PersistentVolumeClaim" {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(Error::invalid(&at.path(), kind.text(), detail));
        }
        group.rule(errors, dns_subdomain);
    }
    match (&source, &reference) {
        (Some(_), Some(reference)) if reference.has("namespace") => {
            let detail = "may not be specified when dataSourceRef.namespace is specified";
            errors.push(Error::invalid(&spec.path(), spec.path().child("dataSource").as_str(), detail));
        }
        (Some(source), Some(reference)) if source.value() != reference.value() => {
            let detail = "must match dataSourceRef";
            errors.push(Error::invalid(&spec.path(), source.path().as_str(), detail));
        }
        _ => {}
    }
    spec.get("volumeAttributesClassName").rule(errors, dns_subdomain);
}

fn storage_of(claim: &Value, path: [&str; 3]) -> Option<Quantity> {
    Quantity::parse(meta::text(claim, &[path[0], path[1], path[2], "storage"])).ok()
}

pub(crate) fn claim_update(new: &Value, old: &Value) -> Errors {
    let mut errors = claim(new);
    let root = At::root(new);
    let spec = root.get("spec");
    let (mut now, mut was) = (new["spec"].clone(), old["spec"].clone());
    let unbound = meta::text(old, &["spec", "volumeName"]).is_empty();
    let (now_map, was_map) = (as_map(&mut now), as_map(&mut was));
    let same_as_now =
        |field: &str, was: &mut Map<String, Value>, now: &Map<String, Value>| match now.get(field) {
            Some(value) => drop(was.insert(field.to_owned(), value.clone())),
            None => drop(was.remove(field)),
        };
    if unbound {
        same_as_now("volumeName", was_map, now_map);
        if !was_map.contains_key("storageClassName") {
            // A class that was the default came later than the claim.
            same_as_now("storageClassName", was_map, now_map);
        }
    }
    let bound = meta::text(new, &["status", "phase"]) == "Bound";
    if bound && now["resources"]["requests"].is_object() {
        let requests = child_mut(child_mut(as_map(&mut was), "resources"), "requests");
        requests.insert("storage".to_owned(), now["resources"]["requests"]["storage"].clone());
    }
    let class = "volumeAttributesClassName";
    let had_class = old["spec"].get(class).is_some_and(|c| !c.is_null());
    if had_class && !spec.has(class) {
        spec.get(class).forbidden(&mut errors, "update from non-nil value to nil is forbidden");
    }
    if bound {
        as_map(&mut was).remove(class);
        as_map(&mut now).remove(class);
    }
    if now != was {
        spec.forbidden(
            &mut errors,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for \
             bound claims",
        );
    }
    let (wanted, had) = (
        storage_of(new, ["spec", "resources", "requests"]),
        storage_of(old, ["spec", "resources", "requests"]),
    );
    if wanted < had {
        // An expansion that failed may be taken back, as far as to what there really is.
        let real = Quantity::parse(meta::text(old, &["status", "capacity", "storage"])).ok();
        if wanted <= real {
            let path = spec.path().child("resources").child("requests").child("storage");
            errors.push(Error::forbidden(&path, "field can not be less than status.capacity"));
        }
    }
    immutable_at("volumeMode", &new["spec"]["volumeMode"], &old["spec"]["volumeMode"], &mut errors);
    errors
}

pub(crate) fn claim_status(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    let status = root.get("status");
    for (_, amount) in status.get("capacity").entries() {
        not_negative(&amount, &mut errors);
    }
    errors
}

pub(crate) fn class(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let provisioner = root.get("provisioner");
    provisioner.needed_as(&mut errors, |name| names::label_key(&name.to_ascii_lowercase()));
    parameters(&root.get("parameters"), &mut errors);
    root.opt("reclaimPolicy").inspect(|policy| policy.one_of(&mut errors, &["Delete", "Retain"]));
    root.get("volumeBindingMode").needed_of(&mut errors, &["Immediate", "WaitForFirstConsumer"]);
    let mut terms = Vec::new();
    for term in root.get("allowedTopologies").items() {
        let expressions = term.get("matchLabelExpressions");
        let mut keys = BTreeSet::new();
        for expression in expressions.items() {
            let (key, values) = (expression.get("key"), expression.get("values"));
            if values.len() == 0 {
                values.required(&mut errors, "");
            }
            distinct(&values, &mut errors);
            key.all_invalid(&mut errors, names::label_key(key.text()));
            if !keys.insert(key.text().to_owned()) {
                key.duplicate(&mut errors);
            }
        }
        if terms.contains(term.value()) {
            errors.push(Error::duplicate(&expressions.path(), ""));
        }
        terms.push(term.value().clone());
    }
    errors
}

fn distinct(list: &At<'_>, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for item in list.items() {
        if !seen.insert(item.text().to_owned()) {
            item.duplicate(errors);
        }
    }
}

fn parameters(parameters: &At<'_>, errors: &mut Errors) {
    if parameters.entries().count() > MAX_PARAMETERS {
        return errors.push(Error::too_long(&parameters.path(), MAX_PARAMETERS));
    }
    let mut bytes = 0;
    for (key, value) in parameters.entries() {
        if key.is_empty() {
            errors.push(Error::invalid(&parameters.path(), key, "field can not be empty."));
        }
        bytes += key.len() + value.text().len();
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.push(Error::too_long(&parameters.path(), MAX_PARAMETER_BYTES));
    }
}

/// Fields of which upstream says in a sentence that they stay.
fn forbidden_changes(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    let root = At::root(new);
    for field in fields {
        let empty = |object: &Value| match &object[*field] {
            Value::Object(map) if map.is_empty() => Value::Null,
            value => value.clone(),
        };
        if empty(new) != empty(old) {
            root.get(field).forbidden(errors, format!("updates to {field} are forbidden."));
        }
    }
}

pub(crate) fn class_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
        root.get(field).unchanged(&mut errors, &old[field]);
    }
    errors
}

pub(crate) fn attributes(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    driver_name(&root.get("driverName"), &mut errors);
    let given = root.get("parameters");
    if given.entries().count() == 0 {
        given.required(&mut errors, "must contain at least one key/value pair");
    }
    parameters(&given, &mut errors);
    errors
}

pub(crate) fn attributes_update(new: &Value, old: &Value) -> Errors {
    let mut errors = Vec::new();
    forbidden_changes(new, old, &["driverName", "parameters"], &mut errors);
    errors
}

/// The name of a CSI driver.
pub(super) fn driver_name(name: &At<'_>, errors: &mut Errors) {
    if name.needed(errors).is_none() {
        return;
    }
    if name.text().len() > 63 {
        errors.push(Error::too_long(&name.path(), 63));
    }
    for wrong in dns_subdomain(&name.text().to_ascii_lowercase()) {
        errors.push(Error::invalid(&name.path(), name.text(), wrong));
    }
}

pub(crate) fn csi_driver(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let groups = spec.opt("fsGroupPolicy");
    groups.inspect(|p| p.one_of(&mut errors, &["File", "None", "ReadWriteOnceWithFSType"]));
    let mut audiences = BTreeSet::new();
    for request in spec.get("tokenRequests").items() {
        let audience = request.get("audience");
        if !audiences.insert(audience.text().to_owned()) {
            errors.push(Error::duplicate(&audience.path(), audience.text()));
            continue;
        }
        let seconds = request.get("expirationSeconds");
        if seconds.number().is_some_and(|s| s < 600) {
            seconds.invalid(&mut errors, "may not specify a duration less than 10 minutes");
        }
        if seconds.number().is_some_and(|s| s > 1 << 32) {
            seconds.invalid(&mut errors, "may not specify a duration larger than 2^32 seconds");
        }
    }
    let modes = spec.get("volumeLifecycleModes");
    for mode in modes.items().filter(|m| !matches!(m.text(), "Ephemeral" | "Persistent")) {
        let known = &["Ephemeral", "Persistent"];
        errors.push(Error::not_supported(&modes.path(), mode.value().clone(), known));
    }
    errors
}

pub(crate) fn csi_driver_update(new: &Value, old: &Value) -> Errors {
    let mut errors = csi_driver(new);
    let root = At::root(new);
    let spec = root.get("spec");
    for field in ["attachRequired", "volumeLifecycleModes"] {
        spec.get(field).unchanged(&mut errors, &old["spec"][field]);
    }
    errors
}

pub(crate) fn csi_node(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    let mut seen = BTreeSet::new();
    for driver in spec.get("drivers").items() {
        let (name, node) = (driver.get("name"), driver.get("nodeID"));
        driver_name(&name, &mut errors);
        node.needed(&mut errors);
        if node.text().len() > MAX_NODE_ID {
            node.invalid(&mut errors, format!("must be {MAX_NODE_ID} characters or less"));
        }
        driver.get("allocatable").get("count").not_negative(&mut errors);
        if !seen.insert(name.text().to_owned()) {
            name.duplicate(&mut errors);
        }
        let mut keys = BTreeSet::new();
        for key in driver.get("topologyKeys").items() {
            if key.text().is_empty() {
                driver.required(&mut errors, "");
            }
            if !keys.insert(key.text().to_owned()) {
                errors.push(Error::duplicate(&driver.path(), key.text()));
            }
            for wrong in names::label_key(key.text()) {
                let all = driver.value()["topologyKeys"].clone();
                errors.push(Error::invalid(&driver.path(), all, wrong));
            }
        }
    }
    errors
}

pub(crate) fn csi_node_update(new: &Value, old: &Value) -> Errors {
    let mut errors = csi_node(new);
    let drivers = |node| meta::items(node, &["spec", "drivers"]);
    // How many volumes a driver can take may change; who it is may not.
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        as_map(&mut driver).remove("allocatable");
        driver
    };
    for was in drivers(old) {
        for now in drivers(new).iter().filter(|d| d["name"] == was["name"] && fixed(d) != fixed(was)) {
            errors.push(meta::immutable(&crate::field::Path::new("CSINodeDriver"), now.clone()));
        }
    }
    errors
}

pub(crate) fn csi_capacity(object: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(object);
    let class = root.get("storageClassName");
    class.all_invalid(&mut errors, dns_subdomain(class.text()));
    label_selector(&root.get("nodeTopology"), &mut errors);
    not_negative(&root.get("capacity"), &mut errors);
    not_negative(&root.get("maximumVolumeSize"), &mut errors);
    errors
}

pub(crate) fn csi_capacity_update(new: &Value, old: &Value) -> Errors {
    let mut errors = csi_capacity(new);
    let root = At::root(new);
    for field in ["nodeTopology", "storageClassName"] {
        root.get(field).unchanged(&mut errors, &old[field]);
    }
    errors
}

pub(crate) fn attachment(object: &Value) -> Errors {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let mut errors = Vec::new();
    let root = At::root(object);
    let spec = root.get("spec");
    driver_name(&spec.get("attacher"), &mut errors);
    let source = spec.get("source");
    match (source.opt("inlineVolumeSpec"), source.opt("persistentVolumeName")) {
        (None, None) => source.required(&mut errors, ONE),
        (Some(_), Some(_)) => source.forbidden(&mut errors, ONE),
        (None, Some(name)) => {
            if name.text().is_empty() {
                name.required(&mut errors, "must specify non empty persistentVolumeName");
            }
            name.rule(&mut errors, dns_subdomain);
        }
        (Some(inline), None) => volume_spec(&inline, true, &mut errors),
    }
    let node = spec.get("nodeName");
    node.all_invalid(&mut errors, dns_subdomain(node.text()));
    attachment_status(&root.get("status"), &mut errors);
    errors
}

fn attachment_status(status: &At<'_>, errors: &mut Errors) {
    let metadata = status.get("attachmentMetadata");
    let bytes: usize = metadata.entries().map(|(key, value)| key.len() + value.text().len()).sum();
    if bytes > MAX_ATTACHMENT_BYTES {
        errors.push(Error::too_long(&metadata.path(), MAX_ATTACHMENT_BYTES));
    }
    for field in ["attachError", "detachError"] {
        let failure = status.get(field);
        let message = failure.get("message");
        if message.text().len() > MAX_VOLUME_ERROR {
            errors.push(Error::too_long(&message.path(), MAX_VOLUME_ERROR));
        }
    }
}

pub(crate) fn attachment_update(new: &Value, old: &Value) -> Errors {
    let mut errors = attachment(new);
    At::root(new).get("spec").unchanged(&mut errors, &old["spec"]);
    errors
}

pub(crate) fn attachment_status_update(new: &Value, _old: &Value) -> Errors {
    let mut errors = Vec::new();
    let root = At::root(new);
    attachment_status(&root.get("status"), &mut errors);
    errors
}

#[cfg(test)]
#[path = "storage_tests.rs"]
mod tests;
