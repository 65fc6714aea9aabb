use super::*;

fn key(id: &str, byte: u8) -> SealingKey {
    SealingKey { id: id.to_owned(), secret: [byte; 32] }
}

fn at(name: &str) -> Key {
    Key::new(format!("/registry/core/secrets/default/{name}"))
}

const VALUE: &[u8] = br#"{"kind":"Secret","data":{"password":"c2VjcmV0"}}"#;

#[test]
fn opens_what_it_sealed_and_shows_nothing_of_it() {
    let transformer = Transformer::new(&[key("1", 7)]);
    let sealed = transformer.seal(&at("a"), VALUE).unwrap();
    assert!(sealed.starts_with(b"tiphys:aes256gcm:1:"));
    assert!(!sealed.windows(8).any(|w| w == b"password"));
    assert_eq!(transformer.open(&at("a"), sealed.clone()).unwrap(), VALUE);
    assert_ne!(transformer.seal(&at("a"), VALUE).unwrap(), sealed, "each time anew");
    assert_eq!(transformer.open(&at("a"), Bytes::from_static(VALUE)).unwrap(), VALUE, "written before");
}

#[test]
fn refuses_what_was_moved_cut_or_changed() {
    let transformer = Transformer::new(&[key("1", 7)]);
    let sealed = transformer.seal(&at("a"), VALUE).unwrap();
    let damaged = |key: &Key| Error::Damaged(key.as_str().to_owned());
    assert_eq!(transformer.open(&at("b"), sealed.clone()), Err(damaged(&at("b"))), "another's place");
    for length in PREFIX.len()..sealed.len() {
        assert!(transformer.open(&at("a"), sealed.slice(..length)).is_err(), "cut to {length}");
    }
    for position in PREFIX.len()..sealed.len() {
        let mut changed = sealed.to_vec();
        changed[position] ^= 1;
        assert!(transformer.open(&at("a"), changed.into()).is_err(), "changed at {position}");
    }
}

#[test]
fn a_new_key_seals_and_the_old_one_still_opens() {
    let old = Transformer::new(&[key("1", 7)]).seal(&at("a"), VALUE).unwrap();
    let rotated = Transformer::new(&[key("2", 9), key("1", 7)]);
    assert_eq!(rotated.open(&at("a"), old.clone()).unwrap(), VALUE);
    assert!(rotated.seal(&at("a"), VALUE).unwrap().starts_with(b"tiphys:aes256gcm:2:"));
    let lost = Transformer::new(&[key("2", 9)]);
    assert_eq!(lost.open(&at("a"), old), Err(Error::UnknownKey(at("a").as_str().to_owned(), "1".to_owned())));
}

#[test]
fn covers_secrets_only() {
    assert!(Transformer::covers("", "secrets"));
    assert!(!Transformer::covers("example.org", "secrets"));
    assert!(!Transformer::covers("", "configmaps"));
}
