use serde_json::{Value, json};

use super::*;

fn read<K: serde::de::DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).expect("an object")
}

fn volume(spec: Value) -> PersistentVolume {
    let mut volume = json!({"metadata": {"name": "v"}, "spec": {"claimRef": {"name": "c", "uid": "u"}}});
    for (name, value) in spec.as_object().expect("fields") {
        volume["spec"][name] = value.clone();
    }
    read(volume)
}

fn claim(uid: &str) -> PersistentVolumeClaim {
    read(json!({"metadata": {"name": "c", "uid": uid}}))
}

#[test]
fn a_claim_stands_for_a_path_of_the_host() {
    let host = volume(json!({"hostPath": {"path": "/a", "type": "DirectoryOrCreate"}}));
    let claimed = source_of(&host, &claim("u")).expect("a path");
    assert_eq!(
        (claimed.path.path.as_str(), claimed.path.type_.as_deref()),
        ("/a", Some("DirectoryOrCreate"))
    );
    assert!(!claimed.local);
    let local = volume(json!({"local": {"path": "/b"}}));
    let claimed = source_of(&local, &claim("u")).expect("a path");
    assert_eq!((claimed.path.path.as_str(), claimed.path.type_.as_deref()), ("/b", Some("Directory")));
    assert!(claimed.local);
}

#[test]
fn only_the_claim_that_a_volume_names_has_it() {
    let local = volume(json!({"local": {"path": "/b"}}));
    assert!(matches!(source_of(&local, &claim("another")), Err(ClaimError::NotBound)));
    let nobodys = volume(json!({"local": {"path": "/b"}, "claimRef": null}));
    assert!(matches!(source_of(&nobodys, &read(json!({"metadata": {}}))), Err(ClaimError::NotBound)));
}

#[test]
fn what_this_node_cannot_mount_says_so() {
    let nfs = volume(json!({"nfs": {"server": "s", "path": "/"}}));
    assert!(matches!(source_of(&nfs, &claim("u")), Err(ClaimError::Unsupported(name)) if name == "v"));
    let block = volume(json!({"local": {"path": "/dev/x"}, "volumeMode": "Block"}));
    assert!(matches!(source_of(&block, &claim("u")), Err(ClaimError::Block)));
}

#[test]
fn ephemeral_claims_have_the_pods_name() {
    let pod: Pod = read(json!({"metadata": {"name": "p", "uid": "pu"}, "spec": {"containers": []}}));
    let of = |volume: Value| claim_of(&pod, &read(volume));
    assert_eq!(of(json!({"name": "v", "ephemeral": {}})).as_deref(), Some("p-v"));
    let named = json!({"name": "v", "persistentVolumeClaim": {"claimName": "c"}});
    assert_eq!(of(named).as_deref(), Some("c"));
    assert_eq!(of(json!({"name": "v", "emptyDir": {}})), None);
    let mut own = claim("u");
    assert!(!is_owned(&own, &pod));
    own.metadata.owner_references =
        Some(vec![read(json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "pu"}))]);
    assert!(is_owned(&own, &pod));
}
