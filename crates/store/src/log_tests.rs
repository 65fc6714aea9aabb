use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn an_entry_is_read_back(
        (revision, before, expires) in any::<(u64, u64, u64)>(),
        name in ".*",
        prior in any::<(u64, u32)>(),
        note in proptest::option::of((any::<u64>(), prop::collection::vec(any::<u8>(), 0..Note::MAX))),
        value in proptest::option::of(prop::collection::vec(any::<u8>(), 0..64)),
    ) {
        let entry = Entry {
            revision: Revision(revision),
            key: Key::new(name),
            before: Revision(before),
            expires: Deadline::from_millis(expires),
            prior: Noted { revision: Revision(prior.0), size: prior.1 },
            note: note.map(|(at, note)| Stamp { at, note: Note::new(note).unwrap() }),
            value: value.map(Bytes::from),
        };
        let mut bytes = b"left over".to_vec();
        entry.encode_value(&mut bytes);
        let key = log_key(entry.revision, &entry.key);
        prop_assert_eq!(revision_of(&key).unwrap(), entry.revision);
        prop_assert_eq!(Entry::decode(&key, bytes.into()).unwrap(), entry);
    }

    /// The log's order is that of revisions, and then of keys.
    #[test]
    fn log_keys_are_ordered(a in any::<(u64, String)>(), b in any::<(u64, String)>()) {
        let log_key = |(revision, key): &(u64, String)| log_key(Revision(*revision), &Key::new(key.as_str()));
        prop_assert_eq!(log_key(&a).cmp(&log_key(&b)), a.cmp(&b));
        prop_assert_eq!(log_key_after(Revision(a.0)).as_slice() <= &*log_key(&b), a.0 < b.0 || a.0 == u64::MAX && b.0 == a.0);
    }

    #[test]
    fn a_live_row_is_read_back((revision, expires, noted, size) in any::<(u64, u64, u64, u32)>()) {
        let noted = Noted { revision: Revision(noted), size };
        let live = Live { revision: Revision(revision), expires: Deadline::from_millis(expires), noted };
        prop_assert_eq!(decode_live(&encode_live(live)).unwrap(), live);
    }

    #[test]
    fn progress_is_read_back((swept, past, kept) in any::<(u64, u64, u64)>()) {
        let progress = Progress { swept: Revision(swept), past: Revision(past), kept };
        prop_assert_eq!(decode_progress(&encode_progress(progress)).unwrap(), progress);
    }

    #[test]
    fn a_grave_is_read_back(revision in any::<u64>(), name in ".*") {
        prop_assert_eq!(grave_revision(&grave(&Key::new(name), Revision(revision))).unwrap(), Revision(revision));
    }

    #[test]
    fn damage_is_an_error_and_no_panic(key in prop::collection::vec(any::<u8>(), 0..12), value in prop::collection::vec(any::<u8>(), 0..29)) {
        prop_assert!(Entry::decode(&key, value.clone().into()).is_err());
        prop_assert_eq!(decode_live(&value).is_err(), value.len() < 28);
    }
}
