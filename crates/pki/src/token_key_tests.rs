use std::fs;

use super::*;

#[test]
fn signs_what_only_it_verifies_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sa.key");
    let key = TokenKey::open(&path).unwrap();
    let signature = key.sign(b"message").unwrap();
    assert_eq!(signature.len(), 64);
    let again = TokenKey::open(&path).unwrap();
    assert_eq!(again.id(), key.id());
    assert!(again.verify(b"message", &signature));
    assert!(!again.verify(b"Message", &signature));
    assert!(!again.verify(b"message", &signature[..63]));
    assert!(!again.verify(b"message", b""));
    let other = TokenKey::open(&dir.path().join("other.key")).unwrap();
    assert!(!other.verify(b"message", &signature));
    assert_ne!(other.id(), key.id());
    assert_eq!((key.coordinates().0.len(), key.coordinates().1.len()), (32, 32));
}

#[test]
fn a_broken_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sa.key");
    for broken in ["", "x", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"] {
        fs::write(&path, broken).unwrap();
        assert!(matches!(TokenKey::open(&path), Err(Error::Corrupt { .. })), "{broken:?}");
    }
}
