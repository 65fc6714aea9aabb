use std::fs;

use super::*;

#[test]
fn the_first_key_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.keys");
    let made = open(&path).unwrap();
    let read = open(&path).unwrap();
    assert_eq!(made.len(), 1);
    assert_eq!(made[0].secret, read[0].secret);
    assert_ne!(made[0].secret, [0; 32]);
    let other = open(&dir.path().join("other.keys")).unwrap();
    assert_ne!((&made[0].id, made[0].secret), (&other[0].id, other[0].secret));
}

#[test]
fn several_keys_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("secrets.keys");
    let line = |id: &str, b: u8| format!("{id}:{}\n", STANDARD.encode([b; 32]));
    fs::write(&path, line("2", 2) + "\n" + &line("1", 1)).unwrap();
    let ids: Vec<_> = open(&path).unwrap().into_iter().map(|k| (k.id, k.secret[0])).collect();
    assert_eq!(ids, [("2".to_owned(), 2), ("1".to_owned(), 1)]);

    for broken in [
        String::new(),
        "1\n".to_owned(),
        "1:AAAA\n".to_owned(),
        line("", 1),
        line("A", 1),
        line("1", 1) + &line("1", 2),
    ] {
        fs::write(&path, &broken).unwrap();
        assert!(matches!(open(&path), Err(Error::Corrupt { .. })), "{broken:?}");
    }
}
