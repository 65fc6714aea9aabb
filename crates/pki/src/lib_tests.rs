use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

#[test]
fn files_that_others_can_read_are_closed() {
    let root = tempfile::tempdir().unwrap();
    Pki::open(root.path()).unwrap();
    let key = root.path().join("ca.key");
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    Pki::open(root.path()).unwrap();
    for (path, want) in [(root.path(), 0o700), (key.as_path(), 0o600)] {
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, want, "{path:?}");
    }
}

#[test]
fn a_cluster_keeps_its_keys_and_they_are_private() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data/pki");
    let first = Pki::open(&dir).unwrap();
    let again = Pki::open(&dir).unwrap();
    assert_eq!(first.cluster.pem(), again.cluster.pem());
    assert_eq!(first.front_proxy.pem(), again.front_proxy.pem());
    assert_ne!(first.cluster.pem(), first.front_proxy.pem());
    assert_eq!(first.tokens.id(), again.tokens.id());
    assert_eq!(first.sealing[0].secret, again.sealing[0].secret);

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&dir), 0o700);
    let mut names = Vec::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{path:?}");
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    names.sort();
    assert_eq!(
        names,
        ["ca.crt", "ca.key", "front-proxy-ca.crt", "front-proxy-ca.key", "sa.key", "secrets.keys"]
    );
}
