//! By what the binder, the scheduler, provisioners and nodes tell each other of claims and volumes.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// On a claim: both sides are bound.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On either side: its user did not choose the other.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: the provisioner that made it, and so deletes it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On either side: the driver that took it over from what upstream once had built in, and now does all for it.
pub const MIGRATED_TO: &str = "pv.kubernetes.io/migrated-to";
/// On either side: the class of old manifests, before there was a field. It has the last word.
pub const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";
/// On a claim: the provisioner that is to make its volume, by the new name and the old.
pub const PROVISIONER: [&str; 2] =
    ["volume.kubernetes.io/storage-provisioner", "volume.beta.kubernetes.io/storage-provisioner"];
/// On a claim: the node that the scheduler chose for its first consumer.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// On a class: claims that name none have this one, by the new name and the old.
pub const DEFAULT_CLASS: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
/// The provisioner of classes whose volumes somebody makes by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// The class that a claim or a volume names, in its field or as of old; `Some("")`: none at all.
pub fn class_of<'a>(meta: &'a ObjectMeta, field: Option<&'a str>) -> Option<&'a str> {
    meta.annotations.as_ref().and_then(|all| all.get(OLD_CLASS)).map(String::as_str).or(field)
}

/// The name of the claim that is made for a pod's ephemeral volume (KEP-1698).
pub fn ephemeral_claim(pod: &str, volume: &str) -> String {
    format!("{pod}-{volume}")
}
