use std::{
    fs,
    os::unix::fs::PermissionsExt,
    time::{Duration, UNIX_EPOCH},
};

use super::*;
use crate::leaf::LONG;

#[test]
fn is_rewritten_only_when_it_no_longer_serves() {
    let dir = tempfile::tempdir().unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let ca = Authority::open(dir.path(), "ca", "kubernetes", now).unwrap();
    let other = Authority::open(dir.path(), "other", "kubernetes", now).unwrap();
    let path = dir.path().join("admin.kubeconfig");
    let config = Kubeconfig { cluster: "tiphys", user: "kubernetes-admin", server: "https://127.0.0.1:6443" };
    let ensure = |config: &Kubeconfig<'_>, ca, at| config.ensure(&path, ca, &Leaf::admin(), at).unwrap();

    assert!(ensure(&config, &ca, now), "absent");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(!ensure(&config, &ca, now), "fresh");
    assert!(!ensure(&config, &ca, now + LONG / 2 - Duration::from_secs(60)), "half is left");
    assert!(ensure(&config, &ca, now + LONG / 2 + Duration::from_secs(60)), "half is gone");
    let moved = Kubeconfig { server: "https://127.0.0.1:7443", ..config };
    assert!(ensure(&moved, &ca, now), "another port");
    assert!(ensure(&moved, &other, now), "another authority");
    fs::write(&path, "garbage").unwrap();
    assert!(ensure(&moved, &other, now), "garbage");
}

#[test]
fn text_from_outside_is_quoted() {
    assert_eq!(quoted("a\"b\\c\nd"), "\"a\\\"b\\\\c\\u000ad\"");
}
