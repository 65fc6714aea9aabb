//! Where volumes of pods and of the cluster lie that no CSI driver brings: each source has fields that it cannot do without.

use super::{At, dns_label};
use crate::field::{Error, Errors};
use crate::names;

/// Texts that a source must have.
const NEEDED: [(&str, &[&str]); 15] = [
    ("awsElasticBlockStore", &["volumeID"]),
    ("azureDisk", &["diskName", "diskURI"]),
    ("azureFile", &["secretName", "shareName"]),
    ("cinder", &["volumeID"]),
    ("flexVolume", &["driver"]),
    ("gcePersistentDisk", &["pdName"]),
    ("gitRepo", &["repository"]),
    ("glusterfs", &["endpoints", "path"]),
    ("iscsi", &["targetPortal", "iqn"]),
    ("photonPersistentDisk", &["pdID"]),
    ("portworxVolume", &["volumeID"]),
    ("quobyte", &["volume"]),
    ("rbd", &["image"]),
    ("scaleIO", &["gateway", "system", "volumeName"]),
    ("vsphereVolume", &["volumePath"]),
];

/// Checks a source of the kind that its field names.
pub(super) fn source(kind: &str, at: &At<'_>, errors: &mut Errors) {
    // Upstream calls this one so where it complains.
    let at = &if kind == "gcePersistentDisk" { at.called("persistentDisk") } else { *at };
    for field in NEEDED.iter().find(|(name, _)| *name == kind).map_or(&[][..], |(_, fields)| fields) {
        at.get(field).needed(errors);
    }
    match kind {
        "awsElasticBlockStore" | "gcePersistentDisk" => {
            let partition = at.get("partition");
            if partition.number().is_some_and(|n| !(0..=255).contains(&n)) {
                partition.invalid(errors, names::in_range(0, 1, 255).concat());
            }
        }
        "azureDisk" => azure_disk(at, errors),
        "cephfs" | "rbd" if at.get("monitors").len() == 0 => at.get("monitors").required(errors, ""),
        "cinder" => secret(at, errors),
        "fc" => fibre_channel(at, errors),
        "flexVolume" => {
            for (key, option) in at.get("options").entries() {
                let owner =
                    format!(".{}", key.split_once('/').map_or(key, |(owner, _)| owner).to_lowercase());
                if owner.ends_with(".kubernetes.io") || owner.ends_with(".k8s.io") {
                    let why = "kubernetes.io and k8s.io namespaces are reserved";
                    errors.push(Error::invalid(&option.path(), key, why));
                }
            }
        }
        "flocker" => flocker(at, errors),
        "gitRepo" => super::volume::descending(&at.get("directory"), errors),
        "iscsi" => iscsi(at, errors),
        "quobyte" => quobyte(at, errors),
        "storageos" => {
            at.get("volumeName").needed_as(errors, dns_label);
            at.get("volumeNamespace").rule(errors, dns_label);
            secret(at, errors);
        }
        _ => {}
    }
}

fn secret(at: &At<'_>, errors: &mut Errors) {
    if let Some(secret) = at.opt("secretRef") {
        secret.get("name").needed(errors);
    }
}

fn azure_disk(at: &At<'_>, errors: &mut Errors) {
    if let Some(mode) = at.opt("cachingMode") {
        mode.one_of(errors, &["None", "ReadOnly", "ReadWrite"]);
    }
    let Some(kind) = at.opt("kind") else { return };
    kind.one_of(errors, &["Dedicated", "Managed", "Shared"]);
    let (begin, form) = if kind.text() == "Managed" {
        let managed =
            "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
        ("/subscriptions/", managed)
    } else {
        ("https://", "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd")
    };
    let uri = at.get("diskURI");
    if !uri.text().starts_with(begin) {
        errors.push(Error::not_supported(&uri.path(), uri.value().clone(), &[form]));
    }
}

fn fibre_channel(at: &At<'_>, errors: &mut Errors) {
    let (targets, ids) = (at.get("targetWWNs"), at.get("wwids"));
    match (targets.len(), ids.len()) {
        (0, 0) => targets.required(errors, "must specify either targetWWNs or wwids, but not both"),
        (0, _) => return,
        (_, 0) => {}
        _ => targets.invalid(errors, "targetWWNs and wwids can not be specified simultaneously"),
    }
    if targets.len() > 0 {
        match at.opt("lun") {
            None => at.get("lun").required(errors, "lun is required if targetWWNs is specified"),
            Some(lun) => lun.within(errors, 0, 255),
        }
    }
}

fn flocker(at: &At<'_>, errors: &mut Errors) {
    let (name, id) = (at.get("datasetName"), at.get("datasetUUID"));
    match (name.text(), id.text()) {
        ("", "") => at.required(errors, "one of datasetName and datasetUUID is required"),
        ("", _) | (_, "") => {}
        _ => {
            let why = "datasetName and datasetUUID can not be specified simultaneously";
            errors.push(Error::invalid(&at.path(), "resource", why));
        }
    }
    if name.text().contains('/') {
        name.invalid(errors, "must not contain '/'");
    }
}

fn iscsi(at: &At<'_>, errors: &mut Errors) {
    qualified(&at.get("iqn"), errors);
    at.get("lun").within(errors, 0, 255);
    if (at.get("chapAuthDiscovery").is_true() || at.get("chapAuthSession").is_true()) && !at.has("secretRef")
    {
        at.get("secretRef").required(errors, "");
    }
    qualified(&at.get("initiatorName").called("initiatorname"), errors);
}

/// A name of RFC 3720, if there is one.
fn qualified(at: &At<'_>, errors: &mut Errors) {
    let name = at.text();
    let word =
        |text: &str, length: usize| text.len() == length && text.chars().all(|c| c.is_ascii_alphanumeric());
    let well_formed = match name.get(..4) {
        _ if name.is_empty() => true,
        Some("eui.") => word(&name[4..], 16),
        Some("naa.") => word(&name[4..], 32),
        Some("iqn.") => dated(&name[4..]),
        _ if ["eui", "iqn", "naa"].iter().any(|kind| name.starts_with(kind)) => false,
        _ => return at.invalid(errors, "must be valid format starting with iqn, eui, or naa"),
    };
    if !well_formed {
        at.invalid(errors, "must be valid format");
    }
}

/// `YYYY-MM.authority:name`
fn dated(text: &str) -> bool {
    let digits = |text: Option<&str>| text.is_some_and(|t| t.bytes().all(|b| b.is_ascii_digit()));
    let Some((authority, name)) = text.get(8..).and_then(|rest| rest.split_once(':')) else { return false };
    digits(text.get(..4))
        && text.get(4..5) == Some("-")
        && digits(text.get(5..7))
        && text.get(7..8) == Some(".")
        && !authority.is_empty()
        && authority.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
        && !name.is_empty()
        && !name.contains([',', ';', '*', '&', '$', '|'])
        && !name.contains(char::is_whitespace)
}

fn quobyte(at: &At<'_>, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let (registry, tenant) = (at.get("registry"), at.get("tenant"));
    if registry.text().is_empty() {
        registry.required(errors, PAIRS);
    } else if tenant.text().len() >= 65 {
        tenant.required(errors, "must be a UUID and may not exceed a length of 64 characters");
    } else {
        let whole = |pair: &&str| {
            pair.rsplit_once(':').is_none_or(|(host, _)| host.contains(':') && !host.starts_with('['))
        };
        for _ in registry.text().split(',').filter(whole) {
            registry.invalid(errors, PAIRS);
        }
    }
}

#[cfg(test)]
#[path = "disks_tests.rs"]
mod tests;
