use crate::Note;

use super::*;

fn found(versions: &[(u64, &str, bool)]) -> Found {
    let mut found = Found::default();
    for &(revision, value, is_noted) in versions {
        let value = (value != "-").then(|| Bytes::copy_from_slice(value.as_bytes()));
        let note = is_noted.then(|| Note::new("n")).flatten();
        found.add(Version { revision: Revision(revision), value, note });
    }
    found
}

fn told(
    versions: &[(u64, &str, bool)],
    now: Option<u64>,
    until: Option<u64>,
    limit: usize,
) -> (Vec<u64>, bool) {
    let history = found(versions).told(now.map(Revision), until.map(Revision), limit);
    (history.versions.iter().map(|version| version.revision.get()).collect(), history.more)
}

#[test]
fn what_is_noted_is_told_and_what_is() {
    let all = [(2, "a", true), (3, "b", false), (4, "c", true), (5, "d", false)];
    assert_eq!(told(&all, Some(5), None, 9), (vec![5, 4, 2], false));
    assert_eq!(told(&all, Some(5), None, 2), (vec![5, 4], true));
    assert_eq!(told(&all, Some(5), Some(3), 9), (vec![2], false));
    assert_eq!(told(&all, None, None, 9), (vec![4, 2], false));
}

#[test]
fn an_end_is_told_of_a_life_that_is() {
    let noted = [(2, "a", true), (3, "b", false), (4, "-", false)];
    assert_eq!(told(&noted, None, None, 9), (vec![4, 2], false));
    let nothing = [(2, "a", false), (3, "-", false), (5, "b", true), (6, "-", true), (8, "-", false)];
    assert_eq!(told(&nothing, None, None, 9), (vec![6, 5], false));
    assert_eq!(told(&[(3, "-", true)], None, None, 9), (vec![3], false));
}
