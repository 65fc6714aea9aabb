use std::sync::Arc;

use super::*;
use crate::certificates::{Place, Shown};
use crate::content::{Content, ContentId, Kind};
use crate::fields::Addresses;
use crate::testing::pod_from;
use bytes::Bytes;
use serde_json::{Value, json};

fn file(text: &'static str) -> FileContent {
    FileContent { data: Bytes::from_static(text.as_bytes()), mode: 0o640, owner: None }
}

#[test]
fn a_change_swaps_all_files_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let first = Files::from([("a".into(), file("1")), ("d/b".into(), file("2"))]);
    assert!(atomic::write(dir, &first, None).unwrap());
    assert_eq!((read("a"), read("d/b")), ("1".into(), "2".into()));
    assert_eq!(fs::metadata(dir.join("a")).unwrap().permissions().mode() & 0o777, 0o640);
    let before = fs::read_link(dir.join("..data")).unwrap();
    assert!(!atomic::write(dir, &first, None).unwrap(), "nothing changed");
    assert_eq!(fs::read_link(dir.join("..data")).unwrap(), before);
    let second = Files::from([("a".into(), file("3")), ("c".into(), file("4"))]);
    assert!(atomic::write(dir, &second, None).unwrap());
    assert_eq!((read("a"), read("c")), ("3".into(), "4".into()));
    assert!(fs::symlink_metadata(dir.join("d")).is_err(), "the link to what is gone is gone");
    assert!(!dir.join(before).exists(), "the earlier content is gone");
    assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
}

#[test]
fn an_interrupted_change_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("..2020_01_01_00_00_00.1")).unwrap();
    std::os::unix::fs::symlink("x", dir.join("..data_tmp")).unwrap();
    assert!(atomic::write(dir, &Files::from([("a".into(), file("1"))]), None).unwrap());
    assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
    assert!(!dir.join("..2020_01_01_00_00_00.1").exists());
}

#[test]
fn a_file_cannot_be_put_outside_the_volume() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["../x", "/x", "a/../../x", "..data", "..x/y", ""] {
        assert!(
            atomic::write(dir.path(), &Files::from([(name.into(), file("1"))]), None).is_err(),
            "{name:?}"
        );
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

fn render(volume: Value) -> Result<Files, projection::ProjectionError> {
    let pod = pod_from(json!({"metadata": {"name": "p", "namespace": "ns", "labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c"}], "volumes": [volume]}}));
    let volume = &pod.spec.as_ref().unwrap().volumes.as_ref().unwrap()[0];
    let data =
        BTreeMap::from([("k".to_owned(), Bytes::from_static(b"v")), ("l".into(), Bytes::from_static(b"w"))]);
    let content = Some(Arc::new(Content { data, type_: String::new() }));
    let id = |kind| ContentId { kind, namespace: "ns".into(), name: "x".into() };
    let contents = BTreeMap::from([(id(Kind::ConfigMap), content.clone()), (id(Kind::Secret), content)]);
    let shown = Shown { key: "key\n".into(), chain: "chain\n".into() };
    let certificates = BTreeMap::from([(Place { volume: "v".into(), source: 0 }, shown)]);
    let key = projection::TokenKey { audience: "aud".into(), seconds: 600 };
    let with = projection::Surroundings {
        contents: &contents,
        bundles: &[],
        certificates: &certificates,
        tokens: &BTreeMap::from([(key, "jwt".to_owned())]),
        addresses: Addresses::default(),
        allocatable: &BTreeMap::new(),
    };
    projection::files(&pod, &projection::of(&pod, volume).expect("a projection"), &with)
}

#[test]
fn projections_become_files() {
    let show = |volume: Value| -> Vec<String> {
        let files = render(volume).unwrap();
        files.iter().map(|(n, f)| format!("{n}={} {:o}", String::from_utf8_lossy(&f.data), f.mode)).collect()
    };
    assert_eq!(
        show(json!({"name": "v", "configMap": {"name": "x", "defaultMode": 0o600}})),
        ["k=v 600", "l=w 600"]
    );
    let items = json!([{"key": "k", "path": "sub//one", "mode": 0o400}]);
    assert_eq!(show(json!({"name": "v", "secret": {"secretName": "x", "items": items}})), ["sub/one=v 400"]);
    assert_eq!(
        show(json!({"name": "v", "projected": {"sources": [
            {"configMap": {"name": "x", "items": [{"key": "l", "path": "ca"}]}},
            {"serviceAccountToken": {"audience": "aud", "expirationSeconds": 600, "path": "token"}},
            {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]}}]}})),
        ["ca=w 644", "labels=a=\"b\" 644", "token=jwt 644"]
    );
    assert_eq!(
        show(
            json!({"name": "v", "projected": {"sources": [{"podCertificate": {"signerName": "s/s", "keyType": "ED25519",
            "credentialBundlePath": "both", "keyPath": "key", "certificateChainPath": "chain"}}]}})
        ),
        ["both=key\nchain\n 644", "chain=chain\n 644", "key=key\n 644"]
    );
}

#[test]
fn what_is_missing_is_named_unless_optional() {
    let object =
        |name: &str, optional: bool| json!({"name": "v", "configMap": {"name": name, "optional": optional}});
    assert_eq!(render(object("no", false)).unwrap_err().to_string(), "configmap \"no\" not found");
    assert!(render(object("no", true)).unwrap().is_empty());
    let key = |optional: bool| json!({"name": "v", "secret": {"secretName": "x", "optional": optional, "items": [{"key": "no", "path": "p"}]}});
    assert_eq!(render(key(false)).unwrap_err().to_string(), "secret references non-existent config key: no");
    assert!(render(key(true)).unwrap().is_empty());
}

#[test]
fn host_paths_are_checked_by_their_type() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, kind: &str| {
        let path = dir.path().join(name).to_string_lossy().into_owned();
        check_host_path(&HostPathVolumeSource { path, type_: Some(kind.into()) }).is_ok()
    };
    assert!(check("none", ""));
    assert!(!check("none", "Directory"));
    assert!(check("d/e", "DirectoryOrCreate") && check("d/e", "Directory") && !check("d/e", "File"));
    assert!(
        check("f", "FileOrCreate") && check("f", "File") && !check("f", "Directory") && !check("f", "Socket")
    );
    assert!(!check("f", "DirectoryOrCreate"));
}
