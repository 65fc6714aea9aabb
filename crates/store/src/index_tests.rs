use super::*;

fn key(name: &str) -> Key {
    Key::new(name)
}

fn entry(name: &str, revision: u64, expires: u64, value: Option<&'static [u8]>) -> Entry {
    Entry {
        revision: Revision(revision),
        key: key(name),
        before: Revision::ZERO,
        expires: Deadline::from_millis(expires),
        prior: Noted::default(),
        note: None,
        value: value.map(bytes::Bytes::from_static),
    }
}

fn names(index: &Index, prefix: &str, after: Option<&str>) -> Vec<String> {
    index.range(prefix, after.map(key).as_ref()).map(|(key, _)| key.to_string()).collect()
}

#[test]
fn a_range_starts_within_its_prefix() {
    let mut index = Index::default();
    for (i, name) in ["/a", "/b/", "/b/1", "/b/2", "/b0", "/c"].into_iter().enumerate() {
        index.apply(&entry(name, i as u64 + 1, 0, Some(b"")));
    }
    assert_eq!(names(&index, "/b/", None), ["/b/", "/b/1", "/b/2"]);
    assert_eq!(names(&index, "/b/", Some("/b/1")), ["/b/2"]);
    assert_eq!(names(&index, "/b/", Some("/a")), ["/b/", "/b/1", "/b/2"]);
    assert_eq!(names(&index, "/b/", Some("/b0")), [""; 0]);
    assert_eq!(index.newest(), Revision(6));
}

#[test]
fn a_deadline_is_that_of_the_newest_record() {
    let mut index = Index::default();
    index.apply(&entry("/a", 1, 10, Some(b"")));
    index.apply(&entry("/b", 2, 20, Some(b"")));
    index.apply(&entry("/c", 3, 0, Some(b"")));
    assert_eq!(index.due(9, 9), []);
    assert_eq!(index.due(20, 9), [(key("/a"), Revision(1)), (key("/b"), Revision(2))]);
    assert_eq!(index.due(20, 1), [(key("/a"), Revision(1))]);
    index.apply(&entry("/a", 4, 30, Some(b"")));
    assert_eq!(index.due(20, 9), [(key("/b"), Revision(2))]);
    index.apply(&entry("/b", 5, 0, Some(b"")));
    assert_eq!(index.next_deadline().map(Deadline::millis), Some(30));
    index.apply(&entry("/a", 6, 0, None));
    assert_eq!((index.next_deadline(), index.get(&key("/a"))), (None, None));
}

#[test]
fn a_deadline_is_never_never() {
    assert_eq!(Deadline::after(0, Duration::ZERO).millis(), 1);
    assert_eq!(Deadline::after(7, Duration::from_millis(5)).millis(), 12);
    assert_eq!(Deadline::after(7, Duration::MAX).millis(), u64::MAX);
}
