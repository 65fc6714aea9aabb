//! The volumes of a pod.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{At, container, disks, dns_label, storage, trust};
use crate::field::{Error, Errors};
use crate::meta::items;
use crate::quantity::Quantity;

const FILE_MODE: &str = "must be a number between 0 and 0777 (octal), both inclusive";

/// Checks the volumes and returns the good ones by name.
pub(super) fn volumes<'a>(at: &'a At<'a>, errors: &mut Errors) -> HashMap<&'a str, &'a Value> {
    let mut known = HashMap::new();
    for volume in at.items() {
        let before = errors.len();
        source(&volume, errors);
        volume.get("name").needed_as(errors, dns_label);
        let name = volume.value()["name"].as_str().unwrap_or_default();
        if known.contains_key(name) {
            volume.get("name").duplicate(errors);
        }
        if errors.len() == before {
            known.insert(name, volume.value());
        }
    }
    known
}

fn source(volume: &At<'_>, errors: &mut Errors) {
    let mut kinds = volume.entries().map(|(k, _)| k).filter(|k| *k != "name");
    let Some(kind) = kinds.next() else {
        return volume.required(errors, "must specify a volume type");
    };
    for more in kinds {
        volume.get(more).forbidden(errors, "may not specify more than 1 volume type");
    }
    let at = volume.get(kind);
    match kind {
        "emptyDir" => {
            let limit = at.get("sizeLimit");
            if Quantity::parse(limit.text()).is_ok_and(Quantity::is_negative) {
                limit.forbidden(errors, "SizeLimit field must be a valid resource quantity");
            }
            if !matches!(at.get("medium").text(), "" | "Memory")
                && !at.get("medium").text().starts_with("HugePages")
            {
                at.get("medium").one_of(errors, &["HugePages", "Memory"]);
            }
        }
        "hostPath" => host_path(&at, errors),
        "secret" => {
            at.get("secretName").needed(errors);
            mode(&at.get("defaultMode"), errors);
            at.get("items").items().for_each(|item| key_to_path(&item, errors));
        }
        "configMap" => {
            at.get("name").needed(errors);
            mode(&at.get("defaultMode"), errors);
            at.get("items").items().for_each(|item| key_to_path(&item, errors));
        }
        "downwardAPI" => {
            mode(&at.get("defaultMode"), errors);
            at.get("items").items().for_each(|item| downward_file(&item, errors));
        }
        "projected" => projected(&at, errors),
        "persistentVolumeClaim" => drop(at.get("claimName").needed(errors)),
        "nfs" => nfs(&at, errors),
        "csi" => storage::driver_name(&at.get("driver"), errors),
        "ephemeral" => match at.opt("volumeClaimTemplate") {
            Some(template) => storage::claim_spec(&template.get("spec"), errors),
            None => at.get("volumeClaimTemplate").required(errors, ""),
        },
        "image" => {
            at.get("reference").needed(errors);
            if at.has("pullPolicy") {
                at.get("pullPolicy").needed_of(errors, &["Always", "IfNotPresent", "Never"]);
            }
        }
        other => disks::source(other, &at, errors),
    }
}

pub(super) fn nfs(at: &At<'_>, errors: &mut Errors) {
    at.get("server").needed(errors);
    let path = at.get("path");
    if path.needed(errors).is_some_and(|p| !p.starts_with('/')) {
        path.invalid(errors, "must be an absolute path");
    }
}

pub(super) fn host_path(at: &At<'_>, errors: &mut Errors) {
    let path = at.get("path");
    if path.needed(errors).is_some() {
        no_backsteps(&path, errors);
    }
    if let Some(kind) = at.opt("type") {
        let known = [
            "",
            "BlockDevice",
            "CharDevice",
            "Directory",
            "DirectoryOrCreate",
            "File",
            "FileOrCreate",
            "Socket",
        ];
        kind.one_of(errors, &known);
    }
}

fn mode(at: &At<'_>, errors: &mut Errors) {
    if at.number().is_some_and(|m| !(0..=0o777).contains(&m)) {
        at.invalid(errors, FILE_MODE);
    }
}

pub(super) fn no_backsteps(at: &At<'_>, errors: &mut Errors) {
    if at.text().split('/').any(|part| part == "..") {
        at.invalid(errors, "must not contain '..'");
    }
}

/// A path below something: relative and without steps back.
pub(super) fn descending(at: &At<'_>, errors: &mut Errors) {
    if at.text().starts_with('/') {
        at.invalid(errors, "must be a relative path");
    }
    no_backsteps(at, errors);
}

/// As [`descending`], and not one of the names that the volume itself uses.
fn unreserved(at: &At<'_>, errors: &mut Errors) {
    descending(at, errors);
    if at.text().starts_with("..") && !at.text().starts_with("../") && at.text() != ".." {
        at.invalid(errors, "must not start with '..'");
    }
}

fn key_to_path(at: &At<'_>, errors: &mut Errors) {
    at.get("key").needed(errors);
    at.get("path").needed(errors);
    unreserved(&at.get("path"), errors);
    mode(&at.get("mode"), errors);
}

fn downward_file(at: &At<'_>, errors: &mut Errors) {
    at.get("path").needed(errors);
    unreserved(&at.get("path"), errors);
    match (at.opt("fieldRef"), at.opt("resourceFieldRef")) {
        (Some(field), resource) => {
            container::field_ref(&field, container::VOLUME_FIELDS, errors);
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(Error::invalid(&at.path(), "resource", detail));
            }
        }
        (None, Some(resource)) => container::resource_ref(&resource, true, errors),
        (None, None) => at.required(errors, "one of fieldRef and resourceFieldRef is required"),
    }
    mode(&at.get("mode"), errors);
}

fn projected(at: &At<'_>, errors: &mut Errors) {
    mode(&at.get("defaultMode"), errors);
    let mut paths = HashSet::new();
    for source in at.get("sources").items() {
        let kinds: Vec<&str> = source.entries().map(|(k, _)| k).collect();
        for kind in &kinds {
            let one = source.get(kind);
            match *kind {
                "secret" | "configMap" => {
                    one.get("name").needed(errors);
                    one.get("items").items().for_each(|item| key_to_path(&item, errors));
                }
                "downwardAPI" => one.get("items").items().for_each(|item| downward_file(&item, errors)),
                "serviceAccountToken" => {
                    let seconds = one.get("expirationSeconds");
                    if seconds.number().is_some_and(|s| s < 600) {
                        seconds.invalid(errors, "may not specify a duration less than 10 minutes");
                    }
                    if seconds.number().is_some_and(|s| s > 1 << 32) {
                        seconds.invalid(errors, "may not specify a duration larger than 2^32 seconds");
                    }
                    one.get("path").needed(errors);
                    unreserved(&one.get("path"), errors);
                }
                "clusterTrustBundle" => {
                    trust::bundle_projection(&one, errors);
                    one.get("path").needed(errors);
                    unreserved(&one.get("path"), errors);
                }
                "podCertificate" => {
                    trust::certificate_projection(&one, errors);
                    trust::CERTIFICATE_PATHS.iter().for_each(|path| unreserved(&one.get(path), errors));
                }
                _ => {}
            }
            let own = trust::CERTIFICATE_PATHS.iter().chain(&["path"]).map(|field| &one.value()[*field]);
            let placed = items(one.value(), &["items"]).iter().map(|item| &item["path"]).chain(own);
            for path in placed.filter_map(Value::as_str).filter(|path| !path.is_empty()) {
                if !paths.insert(path.to_owned()) {
                    errors.push(Error::invalid(&at.path(), path, "conflicting duplicate paths"));
                }
            }
        }
        if kinds.len() > 1 {
            source.forbidden(errors, "may not specify more than 1 volume type");
        }
    }
}
