use proptest::prelude::*;

use super::*;

#[test]
fn names_lie_under_the_prefix() {
    let keys = Keys::new("/one/");
    assert_eq!(keys.name("/registry/core/pods/a/b"), "/one/registry/core/pods/a/b");
    assert_eq!(keys.key(b"/one/registry/x"), Some("/registry/x"));
    for other in ["/on/registry", "/one~progress", "/one~history/a/0", "/oneself"] {
        assert_eq!(keys.key(other.as_bytes()), None, "{other}");
    }
    let (start, end) = keys.under("");
    for own in [keys.turn(), keys.progress(), keys.ledger(), keys.past("/a", Revision(1), Past::End)] {
        assert!(own < start || own >= end, "{own:?} is no record");
    }
    assert!(keys.name("/a") > start && keys.name("/\u{7f}") < end);
}

#[test]
fn the_newest_past_comes_first() {
    let keys = Keys::new("");
    let pasts = keys.pasts("/a");
    let names = [(7, Past::End), (7, Past::Version), (3, Past::End), (3, Past::Version), (2, Past::Version)];
    let written = names.map(|(revision, what)| keys.past("/a", Revision(revision), what));
    assert!(written.is_sorted());
    for ((revision, what), name) in names.into_iter().zip(&written) {
        assert_eq!(Keys::read_past(&name[pasts.len()..]), Some((Revision(revision), what)));
        assert_eq!(keys.is_end(name), what == Past::End);
    }
    assert_eq!(Keys::read_past(b"b/fffffffffffffff8v"), None, "another key's");
    assert!(!keys.is_end(b"/registry/core/pods/default/d"));
}

#[test]
fn etcd_begins_at_one() {
    assert_eq!((revision(0), revision(1), revision(2)), (Revision::ZERO, Revision::ZERO, Revision(2)));
    assert_eq!((number(Revision::ZERO), number(Revision(2))), (1, 2));
}

proptest! {
    #[test]
    fn values_come_back(value in prop::collection::vec(any::<u8>(), 0..50), note in prop::option::of(0..50_usize)) {
        let note = note.map(|length| Note::new(vec![b'n'; length]).unwrap());
        let sealed = seal(&value, note.as_ref());
        prop_assert_eq!(is_noted(&sealed), note.is_some());
        prop_assert_eq!(open(sealed).unwrap(), (Bytes::from(value), note));
    }

    #[test]
    fn what_another_has_written_is_an_error_or_a_value(stored in prop::collection::vec(any::<u8>(), 0..20)) {
        let is_whole = open(stored.clone().into()).is_ok();
        prop_assert!(is_whole || stored.len() < 2 || is_noted(&stored));
    }

    #[test]
    fn a_prefix_ends_after_its_last(prefix in prop::collection::vec(any::<u8>(), 1..4), rest in any::<[u8; 2]>()) {
        let end = end_of(&prefix);
        let name = [&prefix[..], &rest].concat();
        prop_assert!(end == Bytes::from_static(&[0]) || name[..] < end[..]);
        prop_assert!(end == Bytes::from_static(&[0]) || !end.starts_with(&prefix));
    }
}
