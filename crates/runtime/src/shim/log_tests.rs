use super::{Log, MAX_PIECE, Stream, split};

fn pieces(chunks: &[&[u8]]) -> (Vec<(usize, bool)>, usize) {
    let (mut pending, mut seen) = (Vec::new(), Vec::new());
    for chunk in chunks {
        split(&mut pending, chunk, |text, whole| seen.push((text.len(), whole)));
    }
    (seen, pending.len())
}

#[test]
fn lines_end_where_they_end() {
    assert_eq!(pieces(&[b"a\nbc\n\nd"]), (vec![(1, true), (2, true), (0, true)], 1));
    assert_eq!(pieces(&[b"a", b"b", b"c\nd"]), (vec![(3, true)], 1));
}

#[test]
fn a_long_line_is_cut_and_marked() {
    let long = vec![b'x'; 2 * MAX_PIECE + 5];
    assert_eq!(pieces(&[&long]), (vec![(MAX_PIECE, false), (MAX_PIECE, false)], 5));
    let mut exact = vec![b'x'; MAX_PIECE];
    exact.push(b'\n');
    assert_eq!(pieces(&[&exact]), (vec![(MAX_PIECE, true)], 0));
}

#[test]
fn records_carry_time_stream_and_tag() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("0.log");
    let mut log = Log::open(Some(path.clone())).unwrap();
    log.write(Stream::Stdout, b"one\ntw");
    log.write(Stream::Stderr, b"err\n");
    log.write(Stream::Stdout, b"o");
    log.finish();
    let text = std::fs::read_to_string(&path).unwrap();
    let rest: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(rest, ["stdout F one", "stderr F err", "stdout P two"]);
    assert!(text.lines().all(|line| line.as_bytes()[29] == b'Z'), "{text}");
}

#[test]
fn a_log_that_was_moved_away_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("0.log"), dir.path().join("0.log.1"));
    let mut log = Log::open(Some(path.clone())).unwrap();
    log.write(Stream::Stdout, b"old\n");
    std::fs::rename(&path, &moved).unwrap();
    log.write(Stream::Stdout, b"late\n");
    log.reopen().unwrap();
    log.write(Stream::Stdout, b"new\n");
    assert!(std::fs::read_to_string(&moved).unwrap().contains("F late"));
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("F new") && !text.contains("late"), "{text}");
}
